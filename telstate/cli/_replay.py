"""`telstate replay`: what happened to every call in recorded logs."""

from __future__ import annotations

from typing import Annotated

import typer

from telstate.calls._caller import Caller
from telstate.calls._outcome import Unmatched
from telstate.calls._session import Session
from telstate.cli._filters import with_filters
from telstate.cli._log_run import Gone, LogRun, record_of
from telstate.cli._terminal import announce_stdin, misuse, say, tidy_exit, width
from telstate.sources._log_lines import STDIN, LogLine
from telstate.views import FIELDS, CsvReport, JsonReport, Ordering, Selection, TextReport
from telstate.views._report import HOW_TO_RECORD

__all__ = ["replay"]

Report = CsvReport | JsonReport | TextReport


@with_filters
def replay(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE", help="Logs or folders to read, in this order; - is standard input, the default."
        ),
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
    telstate's own journal. SQLite journals can be read too, also while a service writes them, and streams in NATS, by
    their address: nats://HOST:4222/APP/ENVIRONMENT, with /PARTITION behind it for one of them. So can the logs of an
    application (loguru, structlog, logging) that logged events, or the dicts of Daily's handlers: the time of a line counts
    where the event has none, as UTC unless it says otherwise. gzip is decompressed; the logs of a folder are read oldest first.

    Sessions are printed in the order in which they ended. SETUP is the time from our request to connected (dial-out), or from
    connected to media (dial-in). RING lasts from there until the answer or the end, TALK from the answer to the end. Unknown times are
    blank. Callers on hold that got to no session have rows too. A session whose end Daily did not report ends by a sign of it (its
    participant left, the meeting ended, …), which stands below its row. A replay has no timers: only a journal records that a
    silence limit passed. Callers on hold gave up if the log goes on for longer than their limit.

    With --number, --room, --since and the like, only calls that have all of that are shown, and events without a session are not; the last
    line still counts all events.

    Examples: telstate replay calls.db --number 030/761863 --since 2h, or: telstate replay bot.log.2.gz bot.log.1 bot.log,
    or: telstate replay nats://localhost:4222/telstate/production
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
        run = _ReplayRun(names, settings, report, selection, Ordering(sort, limit)).run()
    if run.has_read_nothing and not isinstance(report, TextReport):
        say(HOW_TO_RECORD)  # the text report says it
    if run.has_read_nothing or (run.invalid and strict):
        raise typer.Exit(1)


class _ReplayRun:
    """One run of `telstate replay`."""

    def __init__(
        self, names: list[str], settings: dict[str, int], report: Report, selection: Selection, ordering: Ordering
    ) -> None:
        self._run = LogRun(names, settings=settings, gone=self._show, refuse=self._refuse)
        self._report = report
        self._selection = selection
        self._ordering = ordering

    def run(self) -> LogRun:
        """Read and print everything; return what is known of the lines."""
        run, report = self._run, self._report
        run.print(report.head())
        run.run()
        for text in self._ordering.rest():
            run.print(text)
        if self._selection.is_everything:
            for other in run.other_lines:
                run.print(report.noise(*other))
        run.print(report.summary(run.replay.engine, run.invalid))
        return run

    def _show(self, gone: Gone) -> None:
        shows_all = self._selection.is_everything
        if isinstance(gone, Unmatched):
            if shows_all:
                self._run.print(self._report.unmatched(gone))
            return
        # Most runs show everything in its order: they need no record.
        record = record_of(self._run, gone) if self._ordering.sorts or not shows_all else {}
        if shows_all or self._selection.admits(record):
            text = self._text(gone)
            for ready in self._ordering.add(record, text):
                self._run.print(ready)

    def _text(self, one: Session | Caller) -> str:
        report = self._report
        return report.session(one, self._run.legs(one)) if isinstance(one, Session) else report.caller(one)

    def _refuse(self, line: LogLine, error: str) -> None:
        if self._selection.is_everything:
            self._run.print(self._report.invalid(line.file, line.number, error))
