"""How `telstate campaign` shows results and progress: a table, CSV or JSON Lines on standard output, progress on standard error."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from telstate.cli._terminal import misuse, say
from telstate.control._campaign_progress import CampaignProgress
from telstate.control._campaign_results import COLUMNS, ContactResult, row_of
from telstate.control._contacts import InvalidContact
from telstate.errors import printable
from telstate.views._csv_report import csv_cell, csv_row
from telstate.views._masked import mask_record
from telstate.views._text import cut

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["CampaignReport", "ProgressView", "progress_text", "report_of", "words_of"]

_EVERY = 10.0
"""Seconds between two lines of progress where there is no terminal."""
_LONGEST = 60
_ROW = "{:<24}  {:<20}  {:<17}  {:>6}  {:<19}  {}"


class CampaignReport(Protocol):
    """A way to show results."""

    def head(self) -> str | None: ...
    def result(self, result: ContactResult) -> str: ...
    def summary(self, counted: dict[str, Any], /) -> str | None: ...


def report_of(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON Lines.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    numbers: Annotated[
        bool, typer.Option("--numbers", help="Show phone numbers, SIP users and names in full.")
    ] = False,
) -> CampaignReport:
    """Return the report that the options ask for."""
    if as_json and as_csv:
        misuse("give --json or --csv, not both")
    return _Json(numbers) if as_json else _Csv(numbers) if as_csv else _Table(numbers)


class _MaskedReport:
    """Masks numbers and names, unless they are asked for."""

    def __init__(self, numbers: bool) -> None:
        self._numbers = numbers

    def _record(self, result: ContactResult) -> dict[str, Any]:
        record = result.to_dict()
        if self._numbers:
            return record
        shown = mask_record({**record, "phone_number": record["number"], "display_name": record["name"]})
        number, name = shown.pop("phone_number"), shown.pop("display_name")
        if (
            isinstance(result.contact, InvalidContact) and result.number
        ):  # why it is invalid has the value, of whatever form
            shown["error"] = (result.error or "").replace(result.number, str(number))
        return {**shown, "number": number, "name": name}


class _Json(_MaskedReport):
    def head(self) -> None:
        return None

    def result(self, result: ContactResult) -> str:
        return json.dumps({"result": self._record(result)})

    def summary(self, counted: dict[str, Any]) -> str:
        return json.dumps({"summary": counted})


class _Csv(_MaskedReport):
    def head(self) -> str:
        return csv_row(COLUMNS)

    def result(self, result: ContactResult) -> str:
        return csv_row(map(csv_cell, row_of(result, self._record(result))))

    def summary(self, _: dict[str, Any]) -> None:
        return None


class _Table(_MaskedReport):
    def head(self) -> str:
        return _ROW.format("NUMBER", "NAME", "OUTCOME", "STARTS", "LAST ENDED, UTC", "WHY").rstrip()

    def result(self, result: ContactResult) -> str:
        record = self._record(result)
        why = record["verdict"] or record["error"] or record["cut_short"] or ""
        ended = result.attempts[-1].ended_at if result.attempts else None
        at = "" if ended is None else datetime.fromtimestamp(ended, UTC).strftime("%Y-%m-%d %H:%M:%S")
        cells = (record["number"], record["name"] or "", record["outcome"], record["starts"] or "", at, why)
        number, name, *rest, text = (printable(str(cell)) for cell in cells)
        return _ROW.format(cut(number, 24), cut(name, 20), *rest, cut(text, _LONGEST)).rstrip()

    def summary(self, counted: dict[str, Any]) -> str:
        return "\n" + words_of(counted)


def words_of(counted: dict[str, Any]) -> str:
    """Return a summary in words: `200 contacts: 171 answered, 29 unanswered; 243 starts`."""
    done = Counter(counted["done"])
    parts = [f"{count} {outcome}" for outcome, count in sorted(done.items(), key=lambda one: (-one[1], one[0]))]
    if rest := counted["contacts"] - done.total():
        parts.append(f"{rest} without a result")
    contacts, starts = counted["contacts"], counted["starts"]
    text = f"{contacts} contact{'' if contacts == 1 else 's'}: {', '.join(parts) or 'none'}"
    return f"{text}; {starts} start{'' if starts == 1 else 's'}"


def progress_text(progress: CampaignProgress) -> str:
    """Return how far a campaign is, in one line."""
    counts = {
        "dialing": progress.dialing,
        "talking": progress.talking,
        "due": progress.due,
        "waiting": progress.waiting,
    }
    parts = [f"{count} {what}" for what, count in counts.items() if count]
    if progress.next_due is not None and not progress.due and not progress.dialing:
        parts.append(f"next at {datetime.fromtimestamp(progress.next_due, UTC):%Y-%m-%d %H:%M:%S} UTC")
    state = "" if progress.state == "running" else f"{progress.state}: "
    return f"{state}{progress.finished} of {progress.contacts} done" + "".join(f", {part}" for part in parts)


class ProgressView:
    """Shows the progress on standard error: as a bar on a terminal, elsewhere as a line now and then."""

    def __init__(self) -> None:
        self._bar = _bar() if sys.stderr is not None and sys.stderr.isatty() else None
        self._task = None if self._bar is None else self._bar.add_task("", total=None)
        self._said = time.monotonic()
        self._state: str | None = None

    def block(self) -> AbstractContextManager[Any]:
        """The bar is shown inside this block."""
        return nullcontext() if self._bar is None else self._bar

    def show(self, progress: CampaignProgress) -> None:
        """Show how far it is."""
        if not progress.contacts:  # the list is not read yet
            return
        text = progress_text(progress)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=progress.finished, total=progress.contacts, description=text)
        elif progress.state != self._state or time.monotonic() - self._said >= _EVERY:
            say(text)
            self._said, self._state = time.monotonic(), progress.state

    def print(self, text: str | None) -> None:
        """Write to standard output, above the bar if both share a screen."""
        if text is None:
            return
        if self._bar is not None and sys.stdout.isatty():
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()


def _bar() -> Progress:
    from rich.console import Console  # noqa: PLC0415 - programs that read JSON need not wait for rich
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (BarColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    return Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False
    )
