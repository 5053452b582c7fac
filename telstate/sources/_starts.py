"""What became of the dial-outs that we started: in Python only the answer to the start says that it was refused, no event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from telstate.events import DialoutRefused, DialoutRequested
from telstate.sources._event_queue import EventQueue

__all__ = ["Start"]

_MAX_ID = 1024
_FIELDS = {"sipUri": "destination", "phoneNumber": "destination", "userId": "user_id"}


class Start:
    """One start of a dial-out, whose answer is to be told.

    Args:
        inbox: where it is told.
        settings: as `start_dialout` takes them; who is called is read at once.
    """

    def __init__(self, inbox: EventQueue, settings: Mapping[str, Any] | None) -> None:
        self._inbox = inbox
        self._fields = dict(inbox.scope)
        for key, field in _FIELDS.items():
            value = (settings or {}).get(key)
            if isinstance(value, str) and 0 < len(value) <= _MAX_ID:  # Daily says what is wrong with any other
                self._fields[field] = value

    def answered(self, session_id: str | None, error: object) -> None:
        """Put what Daily answered into the inbox: a `DialoutRefused` if there is an error, else a `DialoutRequested`."""
        if error is not None:
            self._inbox.put("start_dialout", DialoutRefused.new(str(error), **self._fields))
        elif isinstance(session_id, str) and 0 < len(session_id) <= _MAX_ID:
            self._inbox.put("start_dialout", DialoutRequested(session_id=session_id, **self._fields))
        else:
            hint = "Daily answered a start with neither a session id nor an error; the call's own events will tell"
            self._inbox.warn("source.start_unanswered", hint)
