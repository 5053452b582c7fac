"""The events in daily-js's `index.d.ts`: which names there are, and payloads of each, with and without its optional fields."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ["Definition", "definitions", "event_names", "payloads_of"]

_INTERFACE = re.compile(
    r"interface \w+\s+extends DailyEventObjectBase \{\s*action: Extract<DailyEvent, '([\w-]+)'>;(.*?)\n\}", re.DOTALL
)
_FIELD = re.compile(r"(\w+)(\??):\s*((?:\{(?:[^{}]|\{[^{}]*\})*\}|[^;{}])+);?", re.DOTALL)
_SIMPLE: dict[str, Any] = {
    "string": "text",
    "number": 1,
    "boolean": True,
    "any": {"a": [1]},
    "Record<string, any>": {"X-A": "1"},
}


class Definition(NamedTuple):
    """One event."""

    name: str
    required: dict[str, Any]
    """A valid value of each field."""
    optional: dict[str, Any]
    nullable: frozenset[str]
    """The fields that may be null."""


def event_names(source: str) -> set[str]:
    """Return the members of `DailyEvent`, and the actions of all events: 0.92 has one that is no member, `dtmf-event`."""
    found = re.search(r"export type DailyEvent =(.*?);", source, re.DOTALL)
    assert found is not None, "index.d.ts has no DailyEvent"
    return {*re.findall(r"'([\w-]+)'", found[1]), *re.findall(r"Extract<DailyEvent, '([\w-]+)'>", source)}


def definitions(source: str, prefixes: tuple[str, ...]) -> Iterator[Definition]:
    """Read the events whose names begin with one of the prefixes."""
    for name, body in _INTERFACE.findall(source):
        if name.startswith(prefixes):
            fields = [(key, bool(mark), kind.strip()) for key, mark, kind in _FIELD.findall(body)]
            yield Definition(
                name,
                {key: _value(kind) for key, optional, kind in fields if not optional},
                {key: _value(kind) for key, optional, kind in fields if optional},
                frozenset(key for key, _, kind in fields if re.search(r"\|\s*null\b", kind)),
            )


def payloads_of(definition: Definition) -> Iterator[dict[str, Any]]:
    """Make payloads: with all fields, only with the required ones, and with each optional one absent, alone, and null.

    Null is not in the types, except for some; but JavaScript programs send it for what they do not have.
    """
    least = {"action": definition.name, "callClientId": "a client", **definition.required}
    full = {**least, **definition.optional}
    yield from (full, least)
    for key, value in definition.optional.items():
        yield {name: value for name, value in full.items() if name != key}
        yield {**least, key: value}
        yield {**full, key: None}


def _value(kind: str) -> Any:
    """Return a valid value of a type."""
    kind = kind.strip()
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if kind.startswith("{"):
        inner = kind[1:-1].strip()
        if inner.startswith("["):
            return {"X-A": "1"}
        return {key: _value(one) for key, _, one in _FIELD.findall(inner if inner.endswith(";") else f"{inner};")}
    if literal := re.match(r"'([^']*)'", kind):
        return literal[1]
    if "|" in kind:
        return _value(kind.partition("|")[0])
    raise AssertionError(f"a type that the test cannot make a value of: {kind}")
