"""What to say where a selection admits no call of a log: what there is instead, and what to do next."""

from __future__ import annotations

from typing import Any

from telstate.cli._log_run import LogRun
from telstate.views._masked import mask_record
from telstate.views._text import printable, utc_time

__all__ = ["OtherCalls"]

_NAMED = 10
"""Calls that are named."""


class OtherCalls:
    """Some calls of a log, for somebody who asks for others."""

    def __init__(self) -> None:
        self._known = 0
        self._records: list[dict[str, Any]] = []

    def add(self, record: dict[str, Any]) -> None:
        """Add the record of a session, or of a caller on hold, that may not have been admitted."""
        self._known += 1
        if len(self._records) < _NAMED:
            self._records.append(record)

    def advice(self, run: LogRun, *, numbers: bool = False) -> str:
        """Return what to say of the log that was read.

        Args:
            run: has read it.
            numbers: show phone numbers, SIP users and names in full.
        """
        if not run.lines:
            return "the log is empty: is it the right file?"
        if run.invalid == run.lines:
            return "no line could be read: is this a log with one JSON object per line?"
        if not self._known:
            return "the log has no calls: see `telstate replay` for what its events are"
        found = "1 call leg or caller" if self._known == 1 else f"{self._known} call legs and callers"
        rows = [_row(record if numbers else mask_record(record)) for record in self._records]
        left = self._known - len(rows)
        more = [f"  … and {left} more: see `telstate replay`"] if left > 0 else []
        return "\n".join([f"no call matches. The log has {found}; choose one with --call ID:", *rows, *more])


def _row(record: dict[str, Any]) -> str:
    one = record.get("session_id") or record.get("call_id")
    who = record.get("destination") or record.get("caller") or record.get("sip_from") or record.get("from") or ""
    cause = record.get("cause") or record["state"]
    return printable(f"  {one}  {utc_time(record['started_at']):<19}  {cause:<11}  {who}".rstrip())
