"""The report of a replay as CSV: one row for each session, and for each caller on hold who got to none."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

from telstate.calls._caller import Caller
from telstate.calls._engine import Engine
from telstate.calls._outcome import Unmatched
from telstate.calls._session import Session
from telstate.events import Direction
from telstate.events._spreadsheets import no_formula
from telstate.views._masked import mask_record, mask_session
from telstate.views._selection import FIELDS
from telstate.views._text import printable

__all__ = ["CsvReport", "csv_cell", "csv_row"]


class CsvReport:
    """CSV (RFC 4180), with the fields of a session's record as columns. Lists and objects are JSON; what is not known is empty.

    A text that a spreadsheet would take for a formula has an apostrophe before it.

    Lines that could not be read and events without a session have no row.

    Args:
        numbers: show phone numbers, SIP users and names in full.
    """

    def __init__(self, *, numbers: bool = False) -> None:
        self._numbers = numbers

    def head(self) -> str | None:
        """The names of the columns."""
        return csv_row(FIELDS)

    def session(self, session: Session, legs: Iterable[str] | None = None) -> str:
        """A session."""
        record = session.to_dict(legs=legs)
        return _row(record if self._numbers else mask_session(record))

    def caller(self, caller: Caller) -> str:
        """A caller on hold: their id is in `pinless_call_id`, and there is no `session_id`."""
        record = caller.to_dict()
        named = {"pinless_call_id": "call_id", "caller": "from", "called": "to"}
        fields = {name: record[named.get(name, name)] for name in FIELDS if named.get(name, name) in record}
        record = {**fields, "direction": Direction.DIALIN.value}
        return _row(record if self._numbers else mask_record(record))

    def unmatched(self, unmatched: Unmatched) -> None:
        """No row."""

    def invalid(self, file: str, line: int, error: str) -> None:
        """No row."""

    def noise(self, file: str, first: int, lines: int) -> None:
        """No row."""

    def summary(self, engine: Engine, invalid: int) -> None:
        """No row."""


def _row(shown: Mapping[str, Any]) -> str:
    return csv_row(csv_cell(shown.get(name)) for name in FIELDS)


def csv_cell(value: Any) -> str:
    """A value as text: lists and objects as JSON, nothing for None; without what would move the cursor of a terminal."""
    if value is None:
        return ""
    return printable(value) if isinstance(value, str) else json.dumps(value)


def csv_row(cells: Iterable[str]) -> str:
    """One row of CSV, without its line end. What a spreadsheet would calculate is a text in it: callers choose their names."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(map(no_formula, cells))
    return text.getvalue()
