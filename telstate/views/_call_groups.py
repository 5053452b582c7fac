"""Which sessions and callers on hold are one call, read off their records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CallGroups", "CallIds"]


@dataclass(slots=True)
class CallIds:
    """The ids of one call, by which its events are found."""

    sessions: list[str] = field(default_factory=list)
    callers: list[str] = field(default_factory=list)
    """Of callers on hold."""

    @property
    def name(self) -> str:
        """The id by which people ask for the call."""
        return (self.sessions or self.callers)[0]


class CallGroups:
    """Groups records into calls.

    Args:
        limit: how many calls are kept; what is of further ones is counted.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._of: dict[str, CallIds] = {}
        self._calls: dict[int, CallIds] = {}
        self.further = 0
        """Sessions and callers of calls beyond the limit."""

    def add(self, record: Mapping[str, Any]) -> None:
        """Add the record of a session with its legs, or of a caller on hold, to its call: the one that has another leg of it."""
        session_id = record.get("session_id")
        sessions = [] if session_id is None else [session_id, *(record.get("legs") or ())]
        call_id = record.get("pinless_call_id") or record.get("call_id")
        callers = [] if call_id is None else [call_id]
        known = {id(call): call for key in (*sessions, *callers) if (call := self._of.get(key)) is not None}
        if not known and self._limit is not None and len(self._calls) >= self._limit:
            self.further += 1
            return
        call, *rest = known.values() or [CallIds()]
        for other in rest:
            del self._calls[id(other)]
            sessions, callers = [*sessions, *other.sessions], [*callers, *other.callers]
        self._calls[id(call)] = call
        call.sessions = list(dict.fromkeys([*call.sessions, *sessions]))
        call.callers = list(dict.fromkeys([*call.callers, *callers]))
        self._of.update(dict.fromkeys([*call.sessions, *call.callers], call))

    def calls(self) -> list[CallIds]:
        """Return the calls, in the order in which their first records came."""
        return list(self._calls.values())
