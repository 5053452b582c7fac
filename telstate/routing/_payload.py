"""What a program passes to `receive`, read once: the event in it, and the bytes to keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from telstate.errors import ParseError
from telstate.events import Dialect, Event, SourceGap
from telstate.events._dialects import journal
from telstate.events._json import to_bytes
from telstate.events._parse import parse, parse_line
from telstate.routing._ports import Entry, Record

__all__ = ["Payload", "encode", "is_own", "read_entry", "read_record"]

_DAILY_JS = Dialect.DAILY_JS

Payload = bytes | bytearray | memoryview | str | Mapping[str, Any] | Event


def read_entry(payload: Payload, dialect: Dialect | str | None, at: float | None, *, live: bool) -> Entry:
    """Read a payload into an entry for the journal.

    Args:
        payload: an event, or what can be parsed.
        dialect: its spelling; None to find out.
        at: when it was received, in Unix seconds.
        live: True if the payload may come from outside, which must not report what only this side can know. False for a
            recorded log: then the payload's own time counts.

    Raises:
        ParseError: if it is not an event, or one that may not come in this way.
    """
    if type(payload) is not bytes:  # most are; isinstance of a pydantic class costs half a microsecond
        if isinstance(payload, Event):
            entry = Entry(at if live else payload.sent_at or payload.occurred_at, _DAILY_JS, None, payload)
            if payload.model_extra or payload._open_fields:  # the program may have put anything in there
                encode(entry)
            return entry
        payload = to_bytes(payload)
    event, said_at, found, _, kept, is_record = parse_line(payload, dialect)
    if event is None:
        raise ParseError("payload", "an event", "a header or a mark of a journal", "journal")
    if live:
        if event.local and dialect is None:
            hint = f"an event of Daily's: pass {type(event).__name__}(…) as an object, or name the dialect"
            raise ParseError("action", hint, event.action)
    else:
        at = said_at
    clean = payload if kept is None else kept
    if not is_record:
        return Entry(at, found, clean, event)
    record = journal.unwrap(clean)  # a record inside a record would have two times
    return Entry(at, _DAILY_JS, None, event) if record is None else Entry(at, found, record.payload, event)


def read_record(record: Record) -> Event:
    """Read a record of a journal.

    Raises:
        ParseError: if it is not an event; or if it came from outside, and is one that only the program can know. Then somebody forged it.
    """
    event = parse(record.payload, record.dialect)
    if record.is_received and is_own(event):
        raise ParseError("action", "an event of Daily's, because it came from outside", event.action, record.dialect)
    return event


def is_own(event: Event) -> bool:
    """Return True for an event that only the program that owns a session can know. A gap is known to its source, wherever that runs."""
    return event.local and not isinstance(event, SourceGap)


def encode(entry: Entry) -> None:
    """Write an event of the program's as JSON now: later it would fail others that share its commit, or a dead letter.

    Raises:
        ParseError: if it cannot be written.
    """
    try:
        entry.payload  # noqa: B018 - it is made when it is first asked for
    except ValueError as error:
        raise ParseError("", f"an event that can be written as JSON ({error})", entry.event.action) from None
