"""`telstate tail`: what happens to calls, one line per event, as it is written to a log."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from telstate.calls._outcome import Outcome
from telstate.calls._replay import Replay
from telstate.cli._filters import with_filters
from telstate.cli._live_stream import LiveStream, is_url
from telstate.cli._live_tail import LiveTail
from telstate.cli._logs import LineReader, find_files, read_log
from telstate.cli._nats import is_nats
from telstate.cli._terminal import VIEW_TOKEN, announce_stdin, misuse, say, tidy_exit
from telstate.cli._variables import variable
from telstate.errors import printable
from telstate.events import SourceGap
from telstate.journals._sqlite import is_sqlite
from telstate.sources._follow import POLL, Follower
from telstate.sources._log_files import is_gzip
from telstate.sources._log_lines import STDIN, LogLine
from telstate.views import Selection, TextReport, outcome_as_dict
from telstate.views._csv_report import csv_row
from telstate.views._outcome_line import OUTCOME_FIELDS, fields_as_csv, fields_as_json, fields_as_text
from telstate.views._report import HOW_TO_RECORD

if TYPE_CHECKING:
    from telstate.cli._nats_log import StreamFollower
    from telstate.journals._journal_follower import JournalFollower

__all__ = ["check_can_be_followed", "follower_of", "lines_now", "tail", "until_interrupted"]

_HOST_AND_PORT = re.compile(r"[\w.-]+:[0-9]{1,5}/?")


@with_filters
def tail(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE|URL",
            help="Logs or folders to read, in this order; - is standard input, the default. Or the address of a running `telstate serve`.",
        ),
    ] = None,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Wait for lines that are written later, until Ctrl-C.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON Lines instead of text.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of text, a row per event.")] = False,
    numbers: Annotated[
        bool, typer.Option("--numbers", help="Show phone numbers, SIP users and names in full.")
    ] = False,
    token: Annotated[
        str | None,
        typer.Option(
            metavar="TOKEN",
            help=f"The view token of the service; better in {VIEW_TOKEN}: every user can read arguments.",
        ),
    ] = None,
    selection: Selection,
) -> None:
    """Show what happens to calls, one line per event.

    A line has the time (UTC), the outcome, the session, its direction, and the states it went through or the event's name.
    It reads the same logs as `telstate replay`.

    With --follow, files may be rotated, and need not exist yet; a source-gap is printed where a rotation may have lost
    lines. Lines that cannot be read are reported on standard error and skipped; ordinary lines of an application's log
    are skipped, and counted at the end.

    A service's journal (calls.db, or nats://HOST:4222/APP/ENVIRONMENT) can be followed too, while the service writes it. With --number,
    --room and the like, only events of calls that have all of that at the time are shown.

    Of a running service (URL), it shows the live calls as they are now (`live`), then each event as it happens, until Ctrl-C. After an
    interruption it goes on where it was. The service masks numbers unless it was started with --view-numbers.

    Examples: telstate tail -f calls.jsonl, or: telstate tail -f calls.db --number 030/761863, or: telstate tail http://127.0.0.1:8080
    """
    names = files or [STDIN]
    if as_json and as_csv:
        misuse("--json and --csv are two forms: give one of them")
    form = fields_as_json if as_json else fields_as_csv if as_csv else fields_as_text
    with tidy_exit():
        is_live = any(map(is_url, names))
        if is_live and len(names) > 1:
            misuse("give the address of one service, and no file with it")
        for name in names:
            _check_is_no_address(name)
        if as_csv:
            sys.stdout.write(csv_row(OUTCOME_FIELDS) + "\n")
        if is_live:
            stream = LiveStream(names[0], token or variable(VIEW_TOKEN))
            with until_interrupted():
                LiveTail(stream, selection, form, numbers=numbers).run()
            return
        run = _TailRun(selection, form, numbers=numbers)
        if follow:
            for name in names:
                check_can_be_followed(name)
            with until_interrupted():
                run.follow(names)
            return
        announce_stdin(names)
        if not run.read(find_files(names)):
            say(HOW_TO_RECORD)
            raise typer.Exit(1)


class _TailRun:
    """One run of `telstate tail`."""

    def __init__(self, selection: Selection, form: Callable[[Mapping[str, Any]], str], *, numbers: bool) -> None:
        self._selection = selection
        self._replay = Replay()
        self._reader: LineReader[Outcome | None] = LineReader(self._replay.feed, self._refuse)
        self._form = form
        self._numbers = numbers
        self._noisy: set[str] = set()
        self._errors = TextReport(numbers=numbers)

    def read(self, names: list[str]) -> bool:
        """Print everything there is; return False if no line at all could be read."""
        lines = 0
        for line in read_log(names):
            lines += 1
            self._take(line)
            if line.file == STDIN:
                sys.stdout.flush()  # the input may be a pipe that is being written right now
        for noise in self._reader.noise():
            _write_error(self._errors.noise(*noise))
        return not lines or self._reader.refused < lines

    def follow(self, names: list[str]) -> None:
        """Print everything there is, file by file, then what is added to any of them."""
        with ExitStack() as stack:
            followers = {name: stack.enter_context(closing(follower_of(name))) for name in names}
            for follower in followers.values():
                self._catch_up(follower)
            reported: set[str] = set()
            while True:
                for follower in followers.values():
                    self._catch_up(follower)
                missing = {name for name, follower in followers.items() if follower.missing}
                for name in sorted(missing - reported):
                    _write_error(f"telstate: {printable(name)}: waiting for a file that exists and can be read")
                reported = missing
                self._report_noise()
                sys.stdout.flush()
                time.sleep(POLL)

    def _report_noise(self) -> None:
        """Say once of a file that most of its lines are not shown."""
        for noise in self._reader.noise():
            if noise.file not in self._noisy:
                self._noisy.add(noise.file)
                _write_error(
                    f"telstate: {printable(noise.file)}: an application log, of which only lines with an event are shown"
                )

    def _catch_up(self, follower: Follower | JournalFollower | StreamFollower) -> None:
        for line in lines_now(follower):
            self._take(line)

    def _take(self, line: LogLine) -> None:
        outcome = self._reader(line)
        if outcome is not None and self._is_wanted(outcome):
            at = outcome.event.occurred_at or outcome.event.sent_at
            if at is None and self._reader.raw.startswith(b'{"v"'):
                at = self._replay.engine.now  # a journal's lines carry their own time
            sys.stdout.write(self._form(outcome_as_dict(outcome, at, numbers=self._numbers)) + "\n")

    def _is_wanted(self, outcome: Outcome) -> bool:
        """Return whether the event's call is selected, by what is known of it now."""
        if self._selection.is_everything:
            return True
        session = outcome.session
        return session is not None and self._selection.admits(self._replay.engine.record(session))

    def _refuse(self, line: LogLine, error: str) -> None:
        sys.stdout.flush()  # on a shared screen the error then stands after the lines before it
        _write_error(self._errors.invalid(line.file, line.number, error))


def follower_of(name: str) -> Follower | JournalFollower | StreamFollower:
    """Return what reads a log, and what is added to it, one look at a time."""
    if is_nats(name):
        from telstate.cli._nats_log import StreamFollower  # noqa: PLC0415 - few logs are streams

        return StreamFollower(name)
    if not is_sqlite(name):
        return Follower(name)
    from telstate.journals._journal_follower import JournalFollower  # noqa: PLC0415 - most logs are files of JSON Lines

    return JournalFollower(name)


def lines_now(follower: Follower | JournalFollower | StreamFollower) -> Iterator[LogLine]:
    """Yield the lines that are there and were not read yet. A gap is a line, too."""
    at_end = False
    while not at_end:
        for item in follower.look():
            raw = item.to_json() if isinstance(item, SourceGap) else item
            yield LogLine("", 0, raw, 0) if isinstance(raw, bytes) else raw
        at_end = follower.at_end


def _check_is_no_address(name: str) -> None:
    """Say what is missing where somebody gives a host and a port, and there is no such file."""
    if _HOST_AND_PORT.fullmatch(name) and not os.path.exists(name):
        misuse(
            f"{name}: there is no such file. The address of a running service begins with http:// or https://: telstate tail http://{name}"
        )


def check_can_be_followed(name: str) -> None:
    """Refuse to follow what nothing is added to."""
    if name == STDIN:
        misuse("standard input is printed as it comes, until it ends: leave out --follow")
    if os.path.isdir(name):
        misuse(f"{name} is a folder: name the file in it that is written")
    if is_gzip(name):
        misuse(f"{name} is compressed, and nothing is added to it any more: leave out --follow")


def _write_error(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


@contextmanager
def until_interrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM are the normal end of following, not a failure."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        sys.stdout.flush()
