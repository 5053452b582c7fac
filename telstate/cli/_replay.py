"""`telstate replay`: what happened to every call in recorded logs."""

from __future__ import annotations

from typing import Annotated

import typer

from telstate.calls._callers import Caller
from telstate.calls._outcome import Unmatched
from telstate.calls._replay import Replay
from telstate.calls._session import Session
from telstate.cli._filters import with_filters
from telstate.cli._logs import feed_line, read_log, size_of
from telstate.cli._terminal import Bar, announce_stdin, check_files, misuse, tidy_exit, width
from telstate.sources._log_lines import STDIN, LogLine
from telstate.views import FIELDS, CsvReport, JsonReport, Ordering, Selection, TextReport

__all__ = ["replay"]

Report = CsvReport | JsonReport | TextReport


@with_filters
def replay(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", help="Logs to read, in this order; - is standard input, the default."),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON Lines instead of a table.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV: one row for each session.")] = False,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD",
            help="Sort by a field of the record, as started_at or talk_s; --sort=-talk_s has the longest first. [default: in the order of their ends]",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Show the first N calls only.")] = None,
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
    selection: Selection,
) -> None:
    """Show what happened to every call in recorded logs.

    A log has one JSON object per line: a daily-js event, a webhook, a daily-python or pipecat callback, or a line of
    telstate's own journal. SQLite journals can be read too, also while a service writes them.

    Sessions are printed in the order in which they ended. SETUP is the time from our request to ringing (dial-out), or from
    connected to media (dial-in). RING lasts until the answer or the end, TALK from the answer to the end. Unknown times are
    blank. Callers on hold that got to no session have rows too. A session whose end Daily did not report ends by a sign of it (its
    participant left, the meeting ended, …), which stands below its row. A replay has no timers: only a journal records that a
    silence limit passed.

    With --number, --room, --since and the like, only calls that have all of that are shown, and events without a session are not; the last
    line still counts all events.

    Examples: telstate replay calls.db --number 030/761863 --since 2h, or: zcat *.gz | telstate replay --json
    """
    names = files or [STDIN]
    settings = {} if retain is None else {"retain_untimed": retain}
    if as_json and as_csv:
        misuse("--json and --csv are two forms: give one of them")
    if sort is not None and sort.removeprefix("-") not in FIELDS:
        misuse(f"--sort: there is no field {sort.removeprefix('-')!r}; there are {', '.join(FIELDS)}")
    report: Report = TextReport(width(), numbers=numbers)
    if as_json or as_csv:
        report = JsonReport(numbers=numbers) if as_json else CsvReport(numbers=numbers)
    with tidy_exit():
        announce_stdin(names)
        lines, invalid = _ReplayRun(names, settings, report, selection, Ordering(sort, limit)).run()
    if invalid and (strict or invalid == lines):
        raise typer.Exit(1)


class _ReplayRun:
    """One run of `telstate replay`."""

    def __init__(
        self, names: list[str], settings: dict[str, int], report: Report, selection: Selection, ordering: Ordering
    ) -> None:
        self._names = names
        self._replay = Replay(settings)
        self._report = report
        self._selection = selection
        self._ordering = ordering
        self._lines = 0
        self._invalid = 0
        self._progress = Bar(size_of(names))

    def run(self) -> tuple[int, int]:
        """Read and print everything; return the number of lines, and how many of them could not be read."""
        check_files(self._names)
        with self._progress:
            self._write(self._report.head())
            for line in read_log(self._names):
                self._lines += 1
                self._read(line)
                self._progress.advance(line.size)
            for end in self._replay.finish():
                for gone in end.departed:
                    self._print(gone)
            engine = self._replay.engine
            left: list[Session | Unmatched | Caller] = [*engine.sessions(), *engine.unconnected(), *engine.unmatched()]
            for one in left:
                self._print(one)
            for text in self._ordering.rest():
                self._write(text)
            self._write(self._report.summary(self._replay.engine, self._invalid))
        return self._lines, self._invalid

    def _read(self, line: LogLine) -> None:
        outcome = feed_line(self._replay, line, self._refuse)
        if outcome is not None:
            for gone in outcome.departed:
                self._print(gone)

    def _print(self, gone: Session | Unmatched | Caller) -> None:
        if isinstance(gone, Unmatched):
            if self._selection.is_everything:
                self._write(self._report.unmatched(gone))
            return
        legs = self._legs(gone) if isinstance(gone, Session) else None
        record = gone.to_dict(legs=legs) if isinstance(gone, Session) else gone.to_dict()
        if self._selection.admits(record):
            text = self._report.session(gone, legs) if isinstance(gone, Session) else self._report.caller(gone)
            for ready in self._ordering.add(record, text):
                self._write(ready)

    def _legs(self, session: Session) -> list[str] | None:
        """Return the other legs of its call; None for one that has left memory, which knows them itself."""
        engine = self._replay.engine
        if engine.session(session.session_id) is not session:
            return None
        return [leg.session_id for leg in engine.legs(session.session_id) if leg is not session]

    def _write(self, text: str | None) -> None:
        if text is not None:
            self._progress.print(text)

    def _refuse(self, line: LogLine, error: str) -> None:
        self._invalid += 1
        if self._selection.is_everything:
            self._write(self._report.invalid(line.file, line.number, error))
