"""From bytes to a typed event: `parse`, and `read`, which also tells the time a recorded line carries.

Two ways lead through here. The hot one hands daily-js bytes straight to pydantic's validator. Whatever that refuses,
and every other dialect, takes the cold one: decode the JSON, find the dialect, spell it as daily-js, validate, and if an
optional field makes no sense, set it aside and validate again. Only a missing or wrong type or id is a ParseError.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, Union

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_snake
from pydantic_core import SchemaValidator, from_json, to_json

from telstate.errors import ParseError
from telstate.events import _related as around
from telstate.events._base import _BY_NAME, Event, event_types, has_non_finite, is_time
from telstate.events._dialects import TRANSLATORS, Dialect, detect, journal
from telstate.events._related import UnknownEvent

__all__ = ["BARE", "ParsedLine", "encode", "parse", "read", "read_at_once", "read_event"]

Raw = bytes | bytearray | memoryview | str | Mapping[str, Any]


class ParsedLine(NamedTuple):
    """What one line of a log says."""

    event: Event | None
    """None where the line is telstate's own bookkeeping."""
    at: float | None
    """When the line was written or sent, in Unix seconds, if it says."""
    dialect: Dialect = Dialect.DAILY_JS
    """How the line is spelled."""
    settings: dict[str, Any] | None = None
    """The settings in the header of a journal."""


def _validator() -> SchemaValidator:
    known = tuple(event_types().values())
    union: Any = Annotated[Union[known], Field(discriminator="action")]  # noqa: UP007 - the types are known at run time
    validator = TypeAdapter(union).validator
    assert isinstance(validator, SchemaValidator)  # noqa: S101 - a plugin may wrap it; then this line is the place to look
    return validator


BARE = b'{"action":'
"""How daily-js begins, as it mostly comes: worth a try with `read_at_once`."""

_VALIDATOR = _validator()
_validate_json = _VALIDATOR.validate_json


def parse(raw: Raw, dialect: Dialect | str | None = None) -> Event:
    """Read one event.

    Args:
        raw: bytes or text of one JSON object, or a mapping, which becomes JSON first.
        dialect: `daily-js`, `webhook`, `daily-python` or `journal`; None to find out.

    Raises:
        ParseError: if it is no JSON object, or its type or an id it cannot do without is missing or wrong.
    """
    return read_event(raw, dialect)[0]


def read_event(raw: Raw, dialect: Dialect | str | None = None) -> tuple[Event, ParsedLine]:
    """Read one event, and what its line tells beside it; raises as `parse`."""
    line = read(raw, dialect)
    if line.event is None:
        raise ParseError("payload", "an event", "a header or a mark of a journal", "journal")
    return line.event, line


def read(raw: Raw, dialect: Dialect | str | None = None) -> ParsedLine:
    """Read one line of a log: as `parse`, but a journal's bookkeeping is no error, and the line's own time is told.

    Raises:
        ParseError: as `parse`.
    """
    data = raw if isinstance(raw, bytes) else encode(raw)
    if data.startswith(b'{"v":') and (line := _read_wrapped(data, dialect)) is not None:
        return line
    if b'"action"' in data and (dialect is None or dialect == "daily-js") and (event := read_at_once(data)) is not None:
        return ParsedLine(event, event.sent_at or event.occurred_at)
    return _read_cold(data, dialect)


def read_at_once(data: bytes) -> Event | None:
    """Read daily-js as it mostly comes: straight into the validator. None where a closer look is needed: then `read` it.

    Whoever has many bytes to read and no use for a `ParsedLine` asks this first; it saves a third of `read`.
    """
    try:
        event: Event = _validate_json(data, by_alias=True, by_name=False)
    except ValidationError:
        return None
    if (event.__pydantic_extra__ or event.open_fields) and _has_non_finite(event):
        return None
    return event


def _read_wrapped(data: bytes, dialect: Dialect | str | None) -> ParsedLine | None:
    """Read a record as telstate writes it. Not decoding what is around the payload saves half the time of a replay, and
    a level of nesting; whatever looks odd that way is left to the decoder."""
    wrapped = journal.unwrap(data) if dialect is None or dialect == "journal" else None
    if wrapped is None or wrapped.dialect == "journal":
        return None
    try:
        event = read(wrapped.payload, wrapped.dialect).event
    except ParseError:
        return None
    return ParsedLine(event, wrapped.at if is_time(wrapped.at) else None, Dialect.JOURNAL)


def encode(raw: Raw) -> bytes:
    """Make the JSON bytes that are journalled and parsed.

    Raises:
        ParseError: if `raw` is neither text nor a mapping, or cannot be written as JSON.
    """
    if isinstance(raw, (bytes, bytearray, memoryview)):
        return bytes(raw)
    if isinstance(raw, str):
        return raw.encode("utf-8", "replace")
    if not isinstance(raw, Mapping):
        raise ParseError("", "a JSON object as bytes, text or mapping", type(raw).__name__)
    try:
        return to_json(dict(raw), fallback=_plain, inf_nan_mode="constants")
    except (ValueError, RecursionError):
        return _encode_anyhow(raw)


def _plain(value: Any) -> Any:
    """What JSON does not know: another kind of mapping is a dict, anything else its text."""
    return dict(value) if isinstance(value, Mapping) else str(value)


def _encode_anyhow(raw: Mapping[str, Any]) -> bytes:
    """Write what pydantic will not: halves of surrogate pairs, as the standard library escapes them."""
    try:
        return json.dumps(dict(raw), default=_plain).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise ParseError("", f"a mapping that can be written as JSON ({error})", type(raw).__name__) from None


def _read_cold(data: bytes, dialect: Dialect | str | None) -> ParsedLine:
    payload = _load(data)
    if not isinstance(payload, dict):
        raise ParseError("", "a JSON object", payload)
    found = detect(payload) if dialect is None else _dialect(dialect)
    if found is None:
        raise ParseError("action", "a daily-js `action`, a webhook `type` and `payload`, or a `handler`", payload)
    if found is not Dialect.JOURNAL:
        event = _event(payload, found)
        return ParsedLine(event, event.sent_at or event.occurred_at, found)
    if not journal.is_event(payload):
        return ParsedLine(None, None, found, journal.settings_of(payload))
    name, inner = journal.event_of(payload)
    if not isinstance(inner, dict):
        raise ParseError("payload", "a JSON object", inner, "journal")
    return ParsedLine(_event(inner, _dialect(name)), journal.time_of(payload), found)


def _dialect(name: str) -> Dialect:
    try:
        return Dialect(name)
    except ValueError:
        raise ParseError("dialect", f"one of {', '.join(Dialect)}", name) from None


def _has_non_finite(event: Event) -> bool:
    """Look for a NaN or an infinity wherever an event may hold anything."""
    if event.__pydantic_extra__ and has_non_finite(event.__pydantic_extra__):
        return True
    fields = event.__dict__
    for name in event.open_fields:
        value = fields[name]
        if value is not None and has_non_finite(value.__pydantic_extra__ if name == "participant" else value):
            return True
    return False


# --- JSON that is nearly JSON ------------------------------------------------------------------------------------

# JavaScript cuts texts between the two halves of an emoji and JSON.stringify then writes the half as an escape; a caller's
# display name must not cost us the hang-up. Whole pairs and all other escapes match first and stay as they are.
_HALF_PAIR = re.compile(
    rb"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\[^uU]|\\u(?![dD][89a-fA-F]).)|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)


def _load(data: bytes) -> Any:
    """Decode JSON; broken characters are replaced, NaN and infinities become text."""
    try:
        payload = from_json(data)
    except ValueError as error:
        payload = _load_mended(data, error)
    return _name_non_finite(payload) if has_non_finite(payload) else payload


def _load_mended(data: bytes, error: ValueError) -> Any:
    mended = _HALF_PAIR.sub(lambda match: match[1] or b"\\ufffd", data.decode("utf-8", "replace").encode())
    try:
        return from_json(mended)
    except ValueError:
        raise ParseError("", f"JSON ({error})", data) from None


def _name_non_finite(value: Any) -> Any:
    """Write NaN and infinities out, as JSON has no such numbers and NaN is not even equal to itself."""
    if isinstance(value, float):
        return value if not has_non_finite(value) else {"nan": "NaN", "inf": "Infinity"}.get(str(value), "-Infinity")
    if isinstance(value, dict):
        return {key: _name_non_finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_name_non_finite(item) for item in value]
    return value


# --- fields that make no sense ------------------------------------------------------------------------------------


def _event(payload: dict[str, Any], dialect: Dialect) -> Event:
    fields = TRANSLATORS[dialect](payload)
    action = fields.get("action")
    if not isinstance(action, str) or not action:
        raise ParseError(_TYPE_KEY[dialect], "the type of the event", action, dialect)
    cls = _BY_NAME.get(action, UnknownEvent)
    if cls.local and dialect is not Dialect.DAILY_JS:
        raise ParseError(_TYPE_KEY[dialect], "a type of Daily's; this one only telstate itself writes", action, dialect)
    return _validate(fields, cls, dialect)


_TYPE_KEY = {Dialect.DAILY_JS: "action", Dialect.WEBHOOK: "type", Dialect.DAILY_PYTHON: "handler"}


def _validate(fields: dict[str, Any], cls: type[Event], dialect: Dialect) -> Event:
    """Validate, and again without the optional fields that made no sense; those end among the extras."""
    validator = cls.__pydantic_validator__
    try:
        event: Event = validator.validate_python(fields, by_alias=True, by_name=False)
    except ValidationError as error:
        refused = _refused(error, cls, dialect)
    else:
        return event
    fields, odd = _set_aside(fields, refused)
    try:
        event = validator.validate_python(fields, by_alias=True, by_name=False)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ParseError(str(first["loc"][-1]), first["msg"].lower(), first["input"], dialect) from None
    for path, value in odd:
        holder: BaseModel = event if len(path) == 1 else getattr(event, path[0])
        assert holder.__pydantic_extra__ is not None  # noqa: S101 - all our models keep extras
        holder.__pydantic_extra__[path[-1]] = value
    return event


def _refused(error: ValidationError, cls: type[Event], dialect: Dialect) -> list[tuple[str, ...]]:
    """Name the refused optional fields, or raise for the first that the event cannot do without."""
    paths = []
    for detail in error.errors(include_url=False):
        path = tuple(str(step) for step in detail["loc"])[:2]
        holder: type[BaseModel] = cls
        if path[0] == "participant" and len(path) == 2:
            holder = around.Participant
        else:
            path = path[:1]
        field = next((f for name, f in holder.model_fields.items() if (f.alias or name) == path[-1]), None)
        empty = detail["input"] == "" or detail["input"] is None
        is_id = path[-1] in ("sessionId", "session_id")
        if field is None or field.is_required() or (is_id and not empty):
            came = None if detail["type"] == "missing" else detail["input"]
            raise ParseError(_spelled(path[-1], dialect), _EXPECTED.get(detail["type"], detail["msg"]), came, dialect)
        paths.append(path)
    return paths


def _spelled(key: str, dialect: Dialect) -> str:
    """A key as the dialect itself spells it."""
    return to_snake(key) if dialect is Dialect.WEBHOOK else key


_EXPECTED = {
    "missing": "an id, without which the event is about nothing",
    "string_type": "an id, as text",
    "string_too_short": "an id that is not empty",
    "string_too_long": "an id of at most 1024 characters",
}


def _set_aside(
    fields: dict[str, Any], paths: list[tuple[str, ...]]
) -> tuple[dict[str, Any], list[tuple[tuple[str, ...], Any]]]:
    """Copy `fields` without the paths; list what stood there. An empty id is an absent one, hence not odd."""
    fields = dict(fields)
    odd = []
    for path in dict.fromkeys(paths):
        holder = fields
        if len(path) == 2:
            holder = fields[path[0]] = dict(fields[path[0]])
        value = holder.pop(path[-1])
        if value != "":
            odd.append((path, value))
    return fields, odd
