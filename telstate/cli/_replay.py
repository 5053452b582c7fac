"""`telstate replay`: what happened to every call in recorded logs."""

from __future__ import annotations

from typing import Annotated

import typer

from telstate.calls._callers import Caller
from telstate.calls._outcome import Outcome, Unmatched
from telstate.calls._replay import Replay
from telstate.calls._session import Session
from telstate.cli._logs import LineReader, find_files, read_log, size_of
from telstate.cli._terminal import Bar, announce_stdin, say, tidy_exit, width
from telstate.sources._log_lines import STDIN, LogLine
from telstate.views import JsonReport, TextReport
from telstate.views._report import HOW_TO_RECORD

__all__ = ["replay"]


def replay(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE", help="Logs or folders to read, in this order; - is standard input, the default."
        ),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON Lines instead of a table.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if any line could not be read, not only if none could.")
    ] = False,
    retain: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="In a log without times, print an ended session once N later ones have ended. [default: 10000]",
        ),
    ] = None,
    numbers: Annotated[
        bool, typer.Option("--numbers", help="Show phone numbers, SIP users and names in full.")
    ] = False,
) -> None:
    """Show what happened to every call in recorded logs.

    A log has one JSON object per line: a daily-js event, a webhook, a daily-python or pipecat callback, or a line of
    telstate's own journal. SQLite journals can be read too, also while a service writes them. So can the logs of an
    application (loguru, structlog, logging) that logged events, or the dicts of Daily's handlers: the time of a line counts
    where the event has none, as UTC unless it says otherwise. gzip is decompressed; the logs of a folder are read oldest first.

    Sessions are printed in the order in which they ended. SETUP is the time from our request to connected (dial-out), or from
    connected to media (dial-in). RING lasts from there until the answer or the end, TALK from the answer to the end. Unknown times are
    blank. Callers on hold that got to no session have rows too. A session whose end Daily did not report ends by a sign of it (its
    participant left, the meeting ended, …), which stands below its row. A replay has no timers: only a journal records that a
    silence limit passed.

    Examples: telstate replay calls.db, or: telstate replay bot.log.2.gz bot.log.1 bot.log
    """
    names = files or [STDIN]
    settings = {} if retain is None else {"retain_untimed": retain}
    report = JsonReport(numbers=numbers) if as_json else TextReport(width(), numbers=numbers)
    with tidy_exit():
        announce_stdin(names)
        lines, invalid = _ReplayRun(find_files(names), settings, report).run()
    if as_json and lines and invalid == lines:
        say(HOW_TO_RECORD)  # the text report says it
    if invalid and (strict or invalid == lines):
        raise typer.Exit(1)


class _ReplayRun:
    """One run of `telstate replay`."""

    def __init__(self, names: list[str], settings: dict[str, int], report: JsonReport | TextReport) -> None:
        self._names = names
        self._replay = Replay(settings)
        self._report = report
        self._reader: LineReader[Outcome | None] = LineReader(self._replay.feed, self._refuse)
        self._progress = Bar(size_of(names))

    def run(self) -> tuple[int, int]:
        """Read and print everything; return the number of lines, and how many of them could not be read."""
        lines = 0
        with self._progress:
            if (head := self._report.head()) is not None:
                self._progress.print(head)
            for line in read_log(self._names):
                lines += 1
                self._read(line)
                self._progress.advance(line.size)
            for noise in self._reader.noise():
                self._progress.print(self._report.noise(*noise))
            for end in self._replay.finish():
                for gone in end.departed:
                    self._print(gone)
            engine = self._replay.engine
            left: list[Session | Unmatched | Caller] = [*engine.sessions(), *engine.unconnected(), *engine.unmatched()]
            for one in left:
                self._print(one)
            self._progress.print(self._report.summary(self._replay.engine, self._reader.refused))
        return lines, self._reader.refused

    def _read(self, line: LogLine) -> None:
        outcome = self._reader(line)
        if outcome is not None:
            for gone in outcome.departed:
                self._print(gone)

    def _print(self, gone: Session | Unmatched | Caller) -> None:
        report = self._report
        if isinstance(gone, Session):
            legs = None
            if self._replay.engine.session(gone.session_id) is gone:  # one that has left memory knows its legs
                legs = [leg.session_id for leg in self._replay.engine.legs(gone.session_id) if leg is not gone]
            self._progress.print(report.session(gone, legs))
        else:
            self._progress.print(report.caller(gone) if isinstance(gone, Caller) else report.unmatched(gone))

    def _refuse(self, line: LogLine, error: str) -> None:
        self._progress.print(self._report.invalid(line.file, line.number, error))
