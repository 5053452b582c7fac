"""`telstate calls`: the calls of recorded logs, each with its legs; totals, groups, and a report in one HTML file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from telstate.calls._caller import Caller
from telstate.calls._engine import Engine
from telstate.calls._outcome import Unmatched
from telstate.cli._filters import with_filters
from telstate.cli._log_run import Gone, LogRun, record_of, rereadable
from telstate.cli._nats import without_password
from telstate.cli._terminal import announce_stdin, misuse, tidy_exit, width
from telstate.sources._log_lines import STDIN
from telstate.views import FIELDS, Ordering, Selection
from telstate.views._call import CallGrouping, WholeCall
from telstate.views._call_totals import GROUP_FIELDS, CallTotals, GroupBy, GroupTotals
from telstate.views._calls_report import CallsCsv, CallsJson
from telstate.views._report import HOW_TO_RECORD
from telstate.views._session_text import counted

__all__ = ["calls"]

_HTML = b"<!DOCTYPE html>"
"""How a report begins."""
_MOST_LISTED = 10_000
"""Calls in the list of an HTML report. The file has some 300 bytes for each, the command 2 kB of memory."""


class _Report(Protocol):
    """What prints the calls."""

    def head(self) -> str | None: ...
    def call(self, call: WholeCall) -> str: ...
    def groups(self, by: GroupBy, records: list[dict[str, Any]]) -> str: ...
    def totals(self, totals: CallTotals, engine: Engine, invalid: int) -> str | None: ...


@with_filters
def calls(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", help="Logs to read, in this order; - is standard input, the default."),
    ] = None,
    *,
    group_by: Annotated[
        GroupBy | None, typer.Option("--group-by", help="Show one row per group in place of the calls.")
    ] = None,
    html: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write a report into this file: charts, and a table to search and sort."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON Lines: one object for each call.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV: one row for each session.")] = False,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD",
            help=f"Sort by a field of the record, as started_at or talk_s, or of a group: {', '.join(GROUP_FIELDS)}; --sort=-talk_s has the longest first. [default: in the order of their ends]",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Show the first N calls only.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if any line could not be read, not only if none could.")
    ] = False,
    numbers: Annotated[
        bool, typer.Option("--numbers", help="Show phone numbers, SIP users and names in full.")
    ] = False,
    selection: Selection,
) -> None:
    """List the calls of recorded logs, each with all its sessions, and their totals.

    All logs will do that `telstate replay` reads. The sessions of one call (those of a transfer, for example) stand together,
    and callers on hold who got to no session have rows too. A call counts as its first session that was answered: its
    room, number, cause and times are those of that one. The totals are of the calls that the filters select.

    On a narrow terminal, ids are cut to their beginning, which `--session` accepts. What you asked for is always shown in full.

    Examples: telstate calls calls.db --number 030/761863 --since 2h; telstate calls *.jsonl --group-by hour; telstate calls calls.db --html
    report.html
    """
    if sum((as_json, as_csv, html is not None)) > 1:
        misuse("--json, --csv and --html are three forms: give one of them")
    if html is not None and group_by is not None:
        misuse("the HTML report has no groups: give --html or --group-by")
    fields = FIELDS if group_by is None else (group_by.value, *GROUP_FIELDS)
    if sort is not None and sort.removeprefix("-") not in fields:
        misuse(f"--sort: there is no field {sort.removeprefix('-')!r}; there are {', '.join(fields)}")
    names = files or [STDIN]
    report = None if html is not None else _report(group_by, selection, as_json=as_json, as_csv=as_csv, numbers=numbers)
    with tidy_exit():
        announce_stdin(names)
        if html is not None:
            with rereadable(names) as readable:
                listed = _MOST_LISTED if limit is None else min(limit, _MOST_LISTED)
                run = _CallsRun(readable, selection, Ordering(sort, listed), group_by)
                _write_html(run, html, [without_password(name) for name in names], numbers=numbers)
        else:
            run = _CallsRun(names, selection, Ordering(sort, limit), group_by)
        if report is not None:
            run.run(report, run.log.print)
            if not as_json and not as_csv:
                run.log.print(run.advice())
    if run.log.invalid and (strict or run.log.invalid == run.log.lines):
        raise typer.Exit(1)


def _report(group_by: GroupBy | None, selection: Selection, *, as_json: bool, as_csv: bool, numbers: bool) -> _Report:
    if as_json:
        return CallsJson(numbers=numbers)
    if as_csv:
        return CallsCsv(group_by, numbers=numbers)
    from rich.console import Console  # noqa: PLC0415 - programs that read JSON need not wait for rich

    from telstate.views._calls_table import CallsTable  # noqa: PLC0415

    columns = width()
    color = columns is not None and Console().color_system is not None
    return CallsTable(columns, numbers=numbers, color=color, asked=selection)


def _write_html(run: _CallsRun, path: str, shown_names: list[str], *, numbers: bool) -> None:
    """Write the report, and say so. Half a report is never left behind, and nothing but a report is replaced."""
    from telstate.cli._calls_page import Chosen, write_page  # noqa: PLC0415 - only this needs it

    target = Path(path)
    if target.is_dir():
        misuse(f"{path} is a folder: give --html a FILE, such as {target / 'report.html'}")
    if target.is_file() and not _is_report(target):
        misuse(f"{path} exists and is no report of telstate: give --html another FILE")
    part = target.with_name(f"{target.name}.part")
    try:
        file = part.open("w", encoding="utf-8", newline="\n")
    except OSError as error:
        misuse(f"cannot write {path}: {error.strerror}")
    try:
        with file:
            chosen = Chosen()
            run.run(chosen, chosen.take)
            write_page(file, chosen.calls, run.log, run.totals, shown_names, numbers=numbers)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    calls = run.totals.stats.calls
    left_out = f", the first {len(chosen.calls):,} of them in the list" if len(chosen.calls) < calls else ""
    run.log.print(f"{path}: {counted(calls, 'call')}{left_out}")
    run.log.print(run.advice())


def _is_report(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_HTML)) == _HTML


class _CallsRun:
    """One run of `telstate calls`."""

    def __init__(self, names: list[str], selection: Selection, ordering: Ordering, group_by: GroupBy | None) -> None:
        self.log = LogRun(names, gone=self._gone)
        self.totals = CallTotals()
        self._selection = selection
        self._ordering = ordering
        self._by = group_by
        self._groups = None if group_by is None else GroupTotals(group_by)
        self._grouping = CallGrouping()
        self._looked_at = 0

    def run(self, report: _Report, write: Callable[[str | None], object]) -> None:
        """Read everything, and write the report."""
        self._report, self._write = report, write
        if self._groups is None or isinstance(report, CallsCsv):
            write(report.head())
        self.log.run()
        for call in self._grouping.rest():
            self._show(call)
        for text in self._ordering.rest():
            write(text)
        if self._by is not None and self._groups is not None:
            self._write_groups(self._by, self._groups.records())
        write(report.totals(self.totals, self.log.replay.engine, self.log.invalid))

    def advice(self) -> str | None:
        """What to do about a log in which no call was found."""
        log = self.log
        if self.totals.stats.calls:
            return None
        if log.lines and log.invalid == log.lines:
            return HOW_TO_RECORD
        if not log.replay.engine.received:
            return "The log is empty. Is it the right file? `telstate tail -f FILE` waits for what is still to come."
        if not self._looked_at:
            return "No event is about a call that Daily gave an id to: `telstate replay` lists them."
        return (
            f"None of {counted(self._looked_at, 'call')} has all of what you asked for: give fewer filters,"
            " or see what there is with --group-by room, cause, hour or number."
        )

    def _gone(self, gone: Gone) -> None:
        if isinstance(gone, Unmatched):
            return
        record = record_of(self.log, gone)
        if isinstance(gone, Caller):
            self._show(WholeCall(caller=(gone, record)))
        elif (call := self._grouping.add(gone, record)) is not None:
            self._show(call)

    def _show(self, call: WholeCall) -> None:
        self._looked_at += 1
        if not any(self._selection.admits(record) for record in call.records()):
            return
        self.totals.add(call)
        if self._groups is not None:
            self._groups.add(call)
            return
        for text in self._ordering.add(call.to_sort(), self._report.call(call)):
            self._write(text)

    def _write_groups(self, by: GroupBy, records: list[dict[str, Any]]) -> None:
        """Write the groups in their order, or sorted by a field."""
        shown = self._ordering.chosen({by.value: record["name"], **record} for record in records)
        if shown:
            self._write(self._report.groups(by, [{name: one[name] for name in GROUP_FIELDS} for one in shown]))
