"""The calls of a log for programs: JSON Lines, with one object per call, and CSV, with one row per session."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from telstate.calls._engine import Engine
from telstate.views._call import WholeCall
from telstate.views._call_totals import GROUP_FIELDS, CallTotals, GroupBy
from telstate.views._csv_report import CsvReport, csv_cell, csv_row
from telstate.views._masked import mask_record
from telstate.views._selection import FIELDS

__all__ = ["CallsCsv", "CallsJson", "shown_group"]


class CallsJson:
    """JSON Lines: `{"call": {…}}` with the records of its sessions, or `{"group": {…}}`; last `{"totals": {…}}`.

    Args:
        numbers: show phone numbers, SIP users and names in full.
    """

    def __init__(self, *, numbers: bool = False) -> None:
        self._numbers = numbers

    def head(self) -> str | None:
        """JSON Lines have none."""
        return None

    def call(self, call: WholeCall) -> str:
        """A call: `call.to_dict()`."""
        record = call.to_dict()
        return json.dumps({"call": record if self._numbers else mask_record(record)})

    def groups(self, by: GroupBy, records: Iterable[dict[str, Any]]) -> str:
        """All groups, whose name has the key that they are grouped by."""
        shown = (shown_group(record, by, numbers=self._numbers) for record in records)
        return "\n".join(
            json.dumps({"group": {by.value: record.pop("name") or None, **record}}) for record in map(dict, shown)
        )

    def totals(self, totals: CallTotals, engine: Engine, invalid: int) -> str:
        """The last line."""
        return json.dumps({"totals": {**totals.to_dict(), "events": engine.received, "invalid": invalid}})


class CallsCsv:
    """CSV: one row for each session, with the id of its call in front; or one for each group.

    Args:
        by: what the calls are grouped by.
        numbers: show phone numbers, SIP users and names in full.
    """

    def __init__(self, by: GroupBy | None = None, *, numbers: bool = False) -> None:
        self._by = by
        self._numbers = numbers
        self._sessions = CsvReport(numbers=numbers)

    def head(self) -> str:
        """The names of the columns."""
        if self._by is not None:
            return csv_row((self._by.value, *GROUP_FIELDS[1:]))
        return csv_row(("call", *FIELDS))

    def call(self, call: WholeCall) -> str:
        """The rows of a call."""
        start = csv_row([csv_cell(call.call_id)])
        if call.caller is not None:
            return f"{start},{self._sessions.caller(call.caller[0])}"
        return "\n".join(f"{start},{self._sessions.session(session, record['legs'])}" for session, record in call.legs)

    def groups(self, by: GroupBy, records: Iterable[dict[str, Any]]) -> str:
        """All groups."""
        shown = (shown_group(record, by, numbers=self._numbers) for record in records)
        return "\n".join(csv_row(csv_cell(record[name]) for name in GROUP_FIELDS) for record in shown)

    def totals(self, totals: CallTotals, engine: Engine, invalid: int) -> None:
        """No row."""


def shown_group(record: dict[str, Any], by: GroupBy, *, numbers: bool) -> dict[str, Any]:
    """Return the record of a group as it is shown: masked, if its name is a number."""
    if numbers or by is not GroupBy.NUMBER:
        return record
    return {**record, "name": mask_record({"phone_number": record["name"]})["phone_number"]}
