"""What a program hands to `receive`: the event in it, and the bytes to keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from telstate.errors import ParseError
from telstate.events import Dialect, Event
from telstate.events._json import to_bytes
from telstate.events._parse import parse_line

__all__ = ["Payload", "read_payload"]

_JOURNAL = Dialect.JOURNAL

Payload = bytes | bytearray | memoryview | str | Mapping[str, Any] | Event


def read_payload(
    payload: Payload, dialect: Dialect | str | None, *, live: bool
) -> tuple[Event, bytes, str, float | None]:
    """Parse a payload; tell the bytes to keep, the dialect they are in, and the time they carry.

    Args:
        payload: an event, or what can be parsed.
        dialect: how it is spelled; None to find out.
        live: True where it may be somebody's request, which must not say what only this side can know; a recorded log may.

    Raises:
        ParseError: if it is no event, or none that may come in so.
    """
    if type(payload) is not bytes:  # most are; isinstance of a pydantic class costs half a microsecond
        if isinstance(payload, Event):
            return _as_json(payload)
        payload = to_bytes(payload)
    event, at, found, _ = parse_line(payload, dialect)
    if event is None:
        raise ParseError("payload", "an event", "a header or a mark of a journal", "journal")
    if live and event.local and dialect is None:
        hint = f"an event of Daily's: pass {type(event).__name__}(…) as an object, or say dialect="
        raise ParseError("action", hint, event.action)
    if found is _JOURNAL:  # a record inside a record would have two times
        return event, event.to_json(), Dialect.DAILY_JS, at
    return event, payload, found, at


def _as_json(event: Event) -> tuple[Event, bytes, str, float | None]:
    try:
        data = event.to_json()
    except ValueError as error:
        raise ParseError("", f"an event that can be written as JSON ({error})", event.action) from None
    return event, data, Dialect.DAILY_JS, event.sent_at or event.occurred_at
