"""What a program hands to `receive`: the event in it, and the bytes to keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from telstate.errors import ParseError
from telstate.events import Dialect, Event, encode, read_event

__all__ = ["Payload", "read_payload"]

Payload = bytes | bytearray | memoryview | str | Mapping[str, Any] | Event


def read_payload(payload: Payload, dialect: Dialect | str | None) -> tuple[Event, bytes, str, float | None]:
    """Parse a payload; tell the bytes to keep, the dialect they are in, and the time they carry."""
    if type(payload) is bytes:  # first, as most are: isinstance of a pydantic class costs half a microsecond
        event, line = read_event(payload, dialect)
        if line.dialect is not Dialect.JOURNAL:
            return event, payload, line.dialect, line.at
    if isinstance(payload, Event):
        try:
            data = payload.to_json()
        except ValueError as error:
            raise ParseError("", f"an event that can be written as JSON ({error})", payload.action) from None
        return payload, data, Dialect.DAILY_JS, payload.sent_at or payload.occurred_at
    data = encode(payload)
    event, line = read_event(data, dialect)
    if line.dialect is Dialect.JOURNAL:  # a record inside a record would tell two times
        return event, event.to_json(), Dialect.DAILY_JS, line.at
    return event, data, line.dialect, line.at
