"""From bytes to a typed event: `parse`, and `parse_line` for a line of a log, which also has a time.

There are two ways. daily-js as it usually arrives goes straight to pydantic's validator. Everything else, and what the
validator refuses, is decoded, translated to daily-js and validated. Only a missing or invalid type or id is a ParseError.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias, Union

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import SchemaValidator

from telstate.errors import ParseError
from telstate.events._base import Event, event_types, is_time
from telstate.events._dialects import TRANSLATORS, Dialect, detect, journal
from telstate.events._json import Raw, is_unclean, load, to_bytes
from telstate.events._validation import event_from

__all__ = ["ParsedLine", "parse", "parse_line"]


ParsedLine: TypeAlias = tuple[Event | None, float | None, Dialect, dict[str, Any] | None, bytes | None, bool]
"""The content of one line of a log (a plain tuple, because making a named one costs a tenth of parsing):

- the event; None if the line is a journal's bookkeeping, that is its header or a mark
- when the line was written or sent, in Unix seconds, if it says so
- the dialect of the event; `journal` for a journal's bookkeeping
- the settings, if the line is the header of a journal
- what may be kept of the line, if it has secrets; else None
- whether the line is telstate's own record around the event
"""


def _validator() -> SchemaValidator:
    """Make the validator of the short way: it refuses empty texts, so that looking for them costs no event anything."""
    known = tuple(event_types().values())
    union: Any = Annotated[Union[known], Field(discriminator="action")]  # noqa: UP007 - the types are known at run time
    # Not with the validators that the models have already: those take empty texts, as a program may write them.
    return SchemaValidator(_without_empty(TypeAdapter(union).core_schema), None, False)


def _without_empty(schema: Any) -> Any:
    """Copy a schema so that the texts of an event's own fields cannot be empty."""
    if schema["type"] == "str":
        return {"min_length": 1, **schema}
    within = {key: _without_empty(schema[key]) for key in ("schema",) if key in schema and schema["type"] in _HOLDERS}
    for key in {"choices", "fields"} & schema.keys():
        # Many participants have no name: they go the short way too, see `_is_clean`.
        within[key] = {
            name: inner if name == "user_name" else _without_empty(inner) for name, inner in schema[key].items()
        }
    return {**schema, **within}


_HOLDERS = ("model", "model-field", "default", "nullable")

_VALIDATOR = _validator()
_validate_json = _VALIDATOR.validate_json
_DAILY_JS, _JOURNAL = Dialect.DAILY_JS, Dialect.JOURNAL
_DAILY_JS_START = b'{"action":'
"""How daily-js usually begins; worth trying the validator first."""
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
    event, *_ = parse_line(raw, dialect)
    if event is None:
        raise ParseError("payload", "an event", "a header or a mark of a journal", "journal")
    return event


def parse_line(raw: Raw, dialect: Dialect | str | None = None) -> ParsedLine:
    """Read one line of a log: like `parse`, but with its time, and a journal's bookkeeping is not an error.

    Raises:
        ParseError: as `parse`.
    """
    data = raw if type(raw) is bytes else to_bytes(raw)
    if data.startswith(_DAILY_JS_START) and (dialect is None or dialect == "daily-js"):
        try:
            event: Event = _validate_json(data, by_alias=True, by_name=False)
        except ValidationError:
            pass
        else:
            may_hold_any_json = event.__pydantic_extra__ or event._open_fields
            if not may_hold_any_json or _is_clean(event):
                return event, event.sent_at or event.occurred_at, _DAILY_JS, None, None, False
    if data.startswith(_RECORD_START) and (dialect is None or dialect == "journal"):
        line = _parse_record(data)
        if line is not None:
            return line
    return _decode(data, dialect)


def _is_clean(event: Event) -> bool:
    """Look for what needs the other way wherever an event can hold arbitrary JSON, and forget what is empty there."""
    if event.__pydantic_extra__ and is_unclean(event.__pydantic_extra__):
        return False
    fields = event.__dict__
    for name in event._open_fields:
        value = fields[name]
        if value is None:
            continue
        if name == "participant":
            if value.user_name == "":
                value.__dict__["user_name"] = None
            value = value.__pydantic_extra__
        elif not value:
            event._forget_empty()
        if value and is_unclean(value):
            return False
    return True


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
