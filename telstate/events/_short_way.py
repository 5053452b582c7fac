"""The short way: a validator makes an event straight from the usual JSON of a dialect, without decoding it to a dict first.

It returns None for whatever is not as usual: an invalid or empty value, a secret, a key that would need translation. Then the
long way decides, which translates to daily-js and validates that. What both can read, both read as the same event.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Union

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import SchemaValidator
from pydantic_core.core_schema import tagged_union_schema, typed_dict_field, typed_dict_schema

# The models register themselves: all must be there before the validators are made.
from telstate.events import _in_call, _local, _participants, _sessionless, _telephony  # noqa: F401
from telstate.events._base import Event, event_types
from telstate.events._json import is_unclean

__all__ = [
    "DAILY_JS_KEYS",
    "MODELS",
    "envelope",
    "is_clean",
    "make_event",
    "read_daily_js",
    "respelled",
    "validator_of",
]


def _models() -> dict[str, Any]:
    """Return the schemas of all events by name. They refuse empty texts, so that looking for them costs no event anything."""
    known = tuple(event_types().values())
    union: Any = Annotated[Union[known], Field(discriminator="action")]  # noqa: UP007 - the types are known at run time
    # Not with the validators that the models have already: those take empty texts, as a program may write them.
    schema: Any = TypeAdapter(union).core_schema
    return {name: _without_empty(model) for name, model in schema["choices"].items()}


def _without_empty(schema: Any) -> Any:
    """Copy a schema so that the texts of an event's own fields cannot be empty."""
    if schema["type"] == "str":
        return {"min_length": 1, **schema}
    within = {key: _without_empty(schema[key]) for key in ("schema",) if key in schema and schema["type"] in _HOLDERS}
    if "fields" in schema:
        # Many participants have no name: they go the short way too, see `is_clean`.
        within["fields"] = {
            name: inner if name == "user_name" else _without_empty(inner) for name, inner in schema["fields"].items()
        }
    return {**schema, **within}


def validator_of(choices: Mapping[str, Any], key: str) -> SchemaValidator:
    """Make a validator that chooses among schemas by the value of `key`."""
    return SchemaValidator(tagged_union_schema(dict(choices), key), None, False)


_HOLDERS = ("model", "model-field", "default", "nullable")
MODELS = _models()
DAILY_JS_KEYS = frozenset(
    field["validation_alias"] for model in MODELS.values() for field in model["schema"]["fields"].values()
)
_MAY_HOLD_ANY_JSON = {cls: cls._open_fields for cls in event_types().values() if cls._open_fields}
_VALIDATOR = validator_of(MODELS, "action")
_validate_json, _validate_python = _VALIDATOR.validate_json, _VALIDATOR.validate_python


def read_daily_js(data: bytes) -> Event | None:
    """Make an event of daily-js."""
    try:
        event: Event = _validate_json(data, by_alias=True, by_name=False)
    except ValidationError:
        return None
    extras = event.__pydantic_extra__  # looked up once: pydantic makes every attribute of an event slow
    if extras or type(event) in _MAY_HOLD_ANY_JSON:
        return event if is_clean(event, extras) else None
    return event


def make_event(fields: dict[str, Any]) -> Event | None:
    """Make an event of fields that were collected from an envelope, under their Python names."""
    try:
        event: Event = _validate_python(fields, by_alias=False, by_name=True)
    except ValidationError:
        return None
    return event if is_clean(event, event.__pydantic_extra__) else None


def is_clean(event: Event, extras: dict[str, Any] | None) -> bool:
    """Look for what needs the long way wherever an event can hold arbitrary JSON, and forget what is empty there.

    Args:
        event: new.
        extras: its extras.
    """
    if extras and is_unclean(extras):
        return False
    fields = event.__dict__
    for name in _MAY_HOLD_ANY_JSON.get(type(event), ()):
        value = fields[name]
        if value is None:
            continue
        if name == "participant":
            known = value.__dict__
            if known["user_name"] == "":
                known["user_name"] = None
            value = value.__pydantic_extra__
        elif not value:
            event._forget_empty()
        if value and is_unclean(value):
            return False
    return True


def respelled(model: Any, keys: Mapping[str, Any]) -> Any:
    """Copy the schema of an event so that it reads some fields from other keys than daily-js's, or from paths of keys."""
    fields = {
        name: {**field, "validation_alias": keys.get(field["validation_alias"], field["validation_alias"])}
        for name, field in model["schema"]["fields"].items()
    }
    return {**model, "schema": {**model["schema"], "fields": fields}}


def envelope(required: Mapping[str, Any], optional: Mapping[str, Any]) -> Any:
    """Make the schema of an envelope, which refuses all other keys.

    Args:
        required: the schemas of the keys that it must have.
        optional: the fields of the event that it may have, and their keys in it.
    """
    known = MODELS["meeting-ended"]["schema"]["fields"]
    fields = {key: typed_dict_field(schema) for key, schema in required.items()}
    for name, key in optional.items():
        fields[name] = typed_dict_field(known[name]["schema"]["schema"], required=False, validation_alias=key)
    return typed_dict_schema(fields, extra_behavior="forbid")


def inner(field: Any) -> Any:
    """Return the schema of an optional field without its default and without None."""
    return field["schema"]["schema"]["schema"]
