"""From bytes to a typed event: `parse`, and `parse_line` for a line of a log, which also has a time.

There are two ways. What is as usual goes the short way, straight to a validator of its dialect. Everything else is decoded,
translated to daily-js and validated. Only a missing or invalid type or id is a ParseError.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from telstate.errors import ParseError
from telstate.events._base import Event, is_time
from telstate.events._dialects import TRANSLATORS, Dialect, detect, journal
from telstate.events._json import Raw, load, to_bytes
from telstate.events._short_daily_python import read_daily_python
from telstate.events._short_way import read_daily_js
from telstate.events._short_webhook import read_webhook
from telstate.events._validation import event_from

__all__ = ["ParsedLine", "begins_as_usual", "parse", "parse_line"]


ParsedLine: TypeAlias = tuple[Event | None, float | None, Dialect, dict[str, Any] | None, bytes | None, bool]
"""The content of one line of a log (a plain tuple, because making a named one costs a tenth of parsing):

- the event; None if the line is a journal's bookkeeping, that is its header or a mark
- when the line was written or sent, in Unix seconds, if it says so
- the dialect of the event; `journal` for a journal's bookkeeping
- the settings, if the line is the header of a journal
- what may be kept of the line, if it has secrets; else None
- whether the line is telstate's own record around the event
"""


_JOURNAL = Dialect.JOURNAL
_SHORT_WAYS: dict[bytes, tuple[Dialect, Callable[[bytes], Event | None]]] = {
    b'{"action":': (Dialect.DAILY_JS, read_daily_js),
    b'{"version"': (Dialect.WEBHOOK, read_webhook),
    b'{"handler"': (Dialect.DAILY_PYTHON, read_daily_python),
}
"""By how the JSON of a dialect usually begins."""
_START = len(b'{"action":')
_RECORD_START = b'{"v":'
"""How telstate's own records begin."""


def parse(raw: Raw, dialect: Dialect | str | None = None) -> Event:
    """Read one event.

    Args:
        raw: one JSON object as bytes or text, or a mapping, which is converted to JSON first.
        dialect: `daily-js`, `webhook`, `daily-python` or `journal`; None to detect it.

    Raises:
        ParseError: if it is not a JSON object, or its type or an id that it needs is missing or invalid.
    """
    event = parse_line(raw, dialect)[0]
    if event is None:
        raise ParseError("payload", "an event", "a header or a mark of a journal", "journal")
    return event


def parse_line(raw: Raw, dialect: Dialect | str | None = None) -> ParsedLine:
    """Read one line of a log: like `parse`, but with its time, and a journal's bookkeeping is not an error.

    Raises:
        ParseError: as `parse`.
    """
    data = raw if type(raw) is bytes else to_bytes(raw)
    if (short_way := _SHORT_WAYS.get(data[:_START])) is not None and (dialect is None or dialect == short_way[0]):
        found, read = short_way
        event = read(data)
        if event is not None:
            fields = event.__dict__  # pydantic makes every attribute slow
            return event, fields["sent_at"] or fields["occurred_at"], found, None, None, False
    if data.startswith(_RECORD_START) and (dialect is None or dialect == "journal"):
        line = _parse_record(data)
        if line is not None:
            return line
    return _decode(data, dialect)


def begins_as_usual(data: bytes) -> bool:
    """Return whether a line begins as one of a dialect usually does, or as telstate's own records."""
    return data[:_START] in _SHORT_WAYS or data.startswith(_RECORD_START)


def _parse_record(data: bytes) -> ParsedLine | None:
    """Read a record that telstate wrote, without decoding what surrounds the payload: this halves the time of a replay.

    None for everything else, also if the payload is not a JSON object by itself: somebody may have added keys after it.
    """
    record = journal.unwrap(data)
    if record is None or record.dialect == "journal":
        return None
    try:
        event, _, dialect, _, kept, _ = parse_line(record.payload, record.dialect)
    except ParseError as error:
        if error.field:
            raise
        return None
    if kept is not None:
        kept = journal.wrap(record.seq, record.at, record.dialect, kept)
    return event, record.at if is_time(record.at) else None, dialect, None, kept, True


def _decode(data: bytes, name: Dialect | str | None) -> ParsedLine:
    payload, kept = load(data)
    if not isinstance(payload, dict):
        raise ParseError("", "a JSON object", payload)
    dialect = detect(payload) if name is None else _dialect(name)
    if dialect is None:
        raise ParseError("action", "a daily-js `action`, a webhook `type` and `payload`, or a `handler`", payload)
    if dialect is not _JOURNAL:
        event = event_from(TRANSLATORS[dialect](payload), dialect)
        return event, event.sent_at or event.occurred_at, dialect, None, kept, False
    if not journal.is_event(payload):
        return None, None, dialect, journal.settings_of(payload), kept, True
    inner_name, inner = journal.event_of(payload)
    if not isinstance(inner, dict):
        raise ParseError("payload", "a JSON object", inner, "journal")
    inner_dialect = _dialect(inner_name)
    event = event_from(TRANSLATORS[inner_dialect](inner), inner_dialect)
    return event, journal.time_of(payload), inner_dialect, None, kept, True


def _dialect(name: str) -> Dialect:
    try:
        return Dialect(name)
    except ValueError:
        raise ParseError("dialect", f"one of {', '.join(Dialect)}", name) from None
