"""From the fields of an event to the event. Optional fields with invalid values are set aside, not refused."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.alias_generators import to_snake

from telstate.errors import ParseError
from telstate.events._base import BY_NAME, Event
from telstate.events._dialects import Dialect
from telstate.events._json import is_empty, is_unknown
from telstate.events._participants import Participant
from telstate.events._sessionless import UnknownEvent

__all__ = ["event_from"]

Path = tuple[str, ...]

_TYPE_KEY = {Dialect.DAILY_JS: "action", Dialect.WEBHOOK: "type", Dialect.DAILY_PYTHON: "handler"}
_EXPECTED = {
    "missing": "an id, without which the event is about nothing",
    "string_type": "an id, as text",
    "string_too_short": "an id that is not empty",
    "string_too_long": "an id of at most 1024 characters",
}


def event_from(fields: dict[str, Any], dialect: Dialect) -> Event:
    """Build the event from its fields as daily-js spells them.

    Args:
        fields: the translated payload.
        dialect: the dialect of the payload, for errors in its own spelling.

    Raises:
        ParseError: if the type, or an id that the event cannot do without, is missing or invalid.
    """
    action = fields.get("action")
    if not isinstance(action, str) or not action:
        raise ParseError(_TYPE_KEY[dialect], "the type of the event", action, dialect)
    cls = BY_NAME.get(action, UnknownEvent)
    if cls.local and dialect is not Dialect.DAILY_JS:
        raise ParseError(_TYPE_KEY[dialect], "a type of Daily's; only telstate itself writes this one", action, dialect)
    validate = cls.__pydantic_validator__.validate_python
    try:
        event: Event = validate(fields, by_alias=True, by_name=False)
    except ValidationError as error:
        paths = _invalid_optional(error, cls, dialect)
    else:
        event._forget_empty()
        return event
    fields, set_aside = _without(fields, paths)
    try:
        event = validate(fields, by_alias=True, by_name=False)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ParseError(str(first["loc"][-1]), first["msg"].lower(), first["input"], dialect) from None
    for path, value in set_aside:
        holder: BaseModel = event if len(path) == 1 else getattr(event, path[0])
        assert holder.__pydantic_extra__ is not None  # noqa: S101 - all our models keep extras
        holder.__pydantic_extra__[path[-1]] = value
    event._forget_empty()
    return event


def _invalid_optional(error: ValidationError, cls: type[Event], dialect: Dialect) -> list[Path]:
    """Return the paths of the invalid optional fields, or raise for the first field that the event needs."""
    paths = []
    for detail in error.errors(include_url=False):
        path = tuple(str(step) for step in detail["loc"])[:2]
        holder: type[BaseModel] = cls
        if path[0] == "participant" and len(path) == 2:
            holder = Participant
        else:
            path = path[:1]
        field = next((f for name, f in holder.model_fields.items() if (f.alias or name) == path[-1]), None)
        empty = is_unknown(detail["input"])
        is_id = path[-1] in ("sessionId", "session_id")
        if field is None or field.is_required() or (is_id and not empty):
            key = to_snake(path[-1]) if dialect is Dialect.WEBHOOK else path[-1]
            came = None if detail["type"] == "missing" else detail["input"]
            raise ParseError(key, _EXPECTED.get(detail["type"], detail["msg"]), came, dialect)
        paths.append(path)
    return paths


def _without(fields: dict[str, Any], paths: list[Path]) -> tuple[dict[str, Any], list[tuple[Path, Any]]]:
    """Copy `fields` without the paths; return the removed values too. An empty value counts as absent, not as invalid."""
    fields = dict(fields)
    removed = []
    for path in dict.fromkeys(paths):
        holder = fields
        if len(path) == 2:
            holder = fields[path[0]] = dict(fields[path[0]])
        value = holder.pop(path[-1])
        if not is_empty(value):
            removed.append((path, value))
    return fields, removed
