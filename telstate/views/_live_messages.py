"""The messages of the live stream, as server-sent events."""

from __future__ import annotations

import json
from typing import Any

from telstate.calls._caller import Caller
from telstate.calls._outcome import Outcome
from telstate.calls._session import Session
from telstate.errors import printable
from telstate.routing._dispatcher import Dispatcher
from telstate.views._masked import mask_record
from telstate.views._outcome_line import outcome_as_dict

__all__ = ["HEARTBEAT", "LiveEvent", "message", "record_message", "session_record"]

HEARTBEAT = b": nothing new\n\n"
"""A comment, by which both ends see that the connection lives."""


class LiveEvent:
    """The outcome of one event, with the records as they were then.

    Args:
        calls: the dispatcher, inside its step.
        outcome: what became of the event.
    """

    __slots__ = ("_data", "_encoded", "_event_id", "caller", "changed", "seq", "session")

    def __init__(self, calls: Dispatcher, outcome: Outcome) -> None:
        event, session = outcome.event, outcome.session
        at = event.occurred_at or event.sent_at or calls.clock.now()
        caller = (outcome.lost_caller or calls.caller(event)) if session is None else None
        self.seq = outcome.seq
        self.session = session
        self.caller = caller
        self._event_id = outcome.event_id
        self._data: dict[str, Any] = {
            "outcome": outcome_as_dict(outcome, at, numbers=True),
            "session": None if session is None else session_record(calls, session),
            "caller": None if caller is None else caller.to_dict(),
        }
        self.changed: list[Session] = [other for other in outcome.changed if other is not session]
        """The other sessions that it changed."""
        self._encoded: bytes | None = None

    def encode(self, *, numbers: bool) -> bytes:
        """Return the message of the outcome. It is encoded once, for all readers."""
        if self._encoded is None:
            data = self._data if numbers else mask_record(self._data)
            self._encoded = message("outcome", data, self._event_id)
            self._data = {}
        return self._encoded

    @property
    def size(self) -> int:
        """The bytes of the encoded outcome; 0 before it is encoded."""
        return 0 if self._encoded is None else len(self._encoded)


def session_record(calls: Dispatcher, session: Session) -> dict[str, Any]:
    """Return the record of a session with the other legs of its call."""
    return session.to_dict(
        legs=[leg.session_id for leg in calls.legs(session.session_id) if leg.session_id != session.session_id]
    )


def record_message(calls: Dispatcher, one: Session | Caller, *, numbers: bool) -> bytes:
    """Return the message with the record of a session or a caller, as it is now."""
    kind, record = ("session", session_record(calls, one)) if isinstance(one, Session) else ("caller", one.to_dict())
    data = {kind: record}
    return message(kind, data if numbers else mask_record(data))


def message(kind: str, data: dict[str, Any], event_id: str | None = None) -> bytes:
    """Return a server-sent event. Its data is one line of ASCII, whatever is in it."""
    head = f"event: {kind}\n" if event_id is None else f"event: {kind}\nid: {printable(event_id)}\n"
    return f"{head}data: {json.dumps(data)}\n\n".encode("ascii", "replace")
