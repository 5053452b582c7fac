"""`telstate tail`: what happens to calls, one line an event, as it is written to a log."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from telstate.calls._replay import Replay
from telstate.cli._logs import feed_line, read_log
from telstate.cli._terminal import misuse, tidy_exit
from telstate.events import SourceGap
from telstate.journals._sqlite import is_sqlite
from telstate.sources._follow import POLL, Follower
from telstate.sources._log_lines import STDIN, LogLine
from telstate.views._outcome_line import outcome_as_json, outcome_as_text
from telstate.views._report import TextReport

__all__ = ["tail"]


def tail(
    files: Annotated[list[str] | None, typer.Argument(help="Logs to read, in this order; - is standard input.")] = None,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is written later, until Ctrl-C.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON Lines instead of text.")] = False,
    numbers: Annotated[bool, typer.Option("--numbers", help="Show phone numbers and SIP users in full.")] = False,
) -> None:
    """Tell what happens to calls, one line an event: time (UTC), outcome, session, direction, where it moved or what was told.

    Logs are those that `telstate replay` reads. With --follow the files may be rotated, and need not be there yet; lines that
    may have been lost by that are told as source-gap. What cannot be read is told on standard error and stops nothing.

    Example: telstate tail -f calls.jsonl
    """
    names = files or [STDIN]
    with tidy_exit():
        told = _Tail(as_json=as_json, numbers=numbers)
        if follow:
            for name in names:
                _check_can_be_followed(name)
            with _until_interrupted():
                told.follow(names)
        else:
            for name in names:
                if name != STDIN:
                    Path(name).stat()  # before anything is told, see that all are there
            told.read(names)


class _Tail:
    """One run of `telstate tail`."""

    def __init__(self, *, as_json: bool, numbers: bool) -> None:
        self._replay = Replay()
        self._line = outcome_as_json if as_json else outcome_as_text
        self._numbers = numbers
        self._complaint = TextReport(numbers=numbers)

    def read(self, names: list[str]) -> None:
        """Tell all there is."""
        for line in read_log(names):
            self._take(line)
            if line.file == STDIN:
                sys.stdout.flush()  # somebody may be writing it just now

    def follow(self, names: list[str]) -> None:
        """Tell all there is, file by file, then whatever comes in any of them."""
        with _all_closed([Follower(name) for name in names]) as followers:
            waited = [False] * len(names)
            for follower in followers:
                self._catch_up(follower)
            while True:
                for place, follower in enumerate(followers):
                    self._catch_up(follower)
                    if follower.missing and not waited[place]:
                        _complain(f"telstate: {names[place]}: waiting until there is such a file that may be read")
                    waited[place] = follower.missing
                sys.stdout.flush()
                time.sleep(POLL)

    def _catch_up(self, follower: Follower) -> None:
        rests = False
        while not rests:
            for item in follower.look():
                if isinstance(item, SourceGap):
                    item = LogLine("", 0, item.to_json(), 0)  # noqa: PLW2901
                self._take(item)
            rests = follower.at_end

    def _take(self, line: LogLine) -> None:
        outcome = feed_line(self._replay, line, self._refuse)
        if outcome is not None:
            at = outcome.event.occurred_at or outcome.event.sent_at
            if at is None and line.raw.startswith(b'{"v"'):
                at = self._replay.engine.now  # a journal's lines carry their own time
            sys.stdout.write(self._line(outcome, at, numbers=self._numbers) + "\n")

    def _refuse(self, line: LogLine, error: str) -> None:
        sys.stdout.flush()  # on one screen it stands where it belongs
        _complain(self._complaint.invalid(line.file, line.number, error))


def _check_can_be_followed(name: str) -> None:
    if name == STDIN:
        misuse("standard input is told as it comes, until it ends: leave --follow away")
    if is_sqlite(name):
        misuse(f"{name} is a database, and only files of lines can be followed: leave --follow away")


def _complain(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


@contextmanager
def _all_closed(followers: list[Follower]) -> Iterator[list[Follower]]:
    try:
        yield followers
    finally:
        for follower in followers:
            follower.close()


@contextmanager
def _until_interrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM are how following ends, so they are no failure."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        sys.stdout.flush()
