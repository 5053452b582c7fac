"""JSON as it really arrives: any kind of input to bytes, and bytes that are nearly JSON to values."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from pydantic_core import from_json, to_json

from telstate.errors import ParseError, hide_secrets
from telstate.events._secrets import without_secrets

__all__ = ["Raw", "clean", "is_empty", "is_unclean", "load", "to_bytes"]

Raw: TypeAlias = bytes | bytearray | memoryview | str | Mapping[str, Any]
"""One JSON object, encoded or not."""


def to_bytes(raw: Raw) -> bytes:
    """Return the JSON bytes that are journalled and parsed.

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
        return to_json(dict(raw), fallback=_fallback, inf_nan_mode="constants")
    except (ValueError, RecursionError):
        pass
    try:  # pydantic does not write unpaired surrogates; the standard library escapes them
        return json.dumps(dict(raw), default=_fallback).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise ParseError("", f"a mapping that can be written as JSON ({error})", type(raw).__name__) from None


def _fallback(value: Any) -> Any:
    """Write other kinds of mappings as objects, and everything else that JSON does not have as text."""
    return dict(value) if isinstance(value, Mapping) else str(value)


# JavaScript can cut a text between the two halves of an emoji, and JSON.stringify then writes the half as an escape. A
# caller's display name must not cost us the hang-up. Whole pairs and all other escapes match first and are kept.
_UNPAIRED = re.compile(
    rb"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\[^uU]|\\u(?![dD][89a-fA-F]).)|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)


def load(data: bytes) -> tuple[Any, bytes | None]:
    """Decode JSON. Invalid characters are replaced; NaN and infinities become text; secrets are left out.

    Returns:
        The value, and what may be kept of `data` if it has secrets; else None.

    Raises:
        ParseError: if it is not JSON even so.
    """
    try:
        payload = from_json(data)
    except ValueError as error:
        payload = _load_repaired(data, error)
    if is_unclean(payload):
        payload = _name_non_finite(payload)
        kept = without_secrets(payload)
        return kept, None if kept == payload else to_bytes(kept)
    return payload, None


def clean(data: bytes) -> bytes:
    """Return what may be kept of a payload that could not be read as an event: all but the secrets."""
    hidden = hide_secrets(data)
    if hidden == data:
        return data
    try:
        return to_json(without_secrets(from_json(data)), inf_nan_mode="constants")
    except ValueError:
        return hidden


def _load_repaired(data: bytes, error: ValueError) -> Any:
    repaired = _UNPAIRED.sub(lambda match: match[1] or b"\\ufffd", data.decode("utf-8", "replace").encode())
    try:
        return from_json(repaired)
    except ValueError:
        raise ParseError("", f"JSON ({error})", data) from None


def is_empty(value: Any) -> bool:
    """Return True for "", blanks, {} and []: one observer sends them for what another one knows, so they are no value."""
    return not value.strip() if isinstance(value, str) else isinstance(value, (dict, list)) and not value


def is_unknown(value: Any) -> bool:
    """Return True for what is no value: null, and what `is_empty`."""
    return value is None or is_empty(value)


def is_unclean(value: Any) -> bool:
    """Return True if `value` contains a secret, NaN or an infinity: not JSON, though JavaScript and Python both write them."""
    if isinstance(value, dict):
        if "daily_api_key" in value or "daily_api_url" in value:  # in place: every object of every payload comes here
            return True
        value = value.values()
    elif not isinstance(value, list):
        return isinstance(value, float) and not math.isfinite(value)
    for item in value:  # texts, which are nearly all of the items, must not cost a call
        kind = type(item)
        if kind is float:
            if not math.isfinite(item):
                return True
        elif kind in _CONTAINERS and is_unclean(item):
            return True
    return False


_CONTAINERS = frozenset({dict, list})


def _name_non_finite(value: Any) -> Any:
    """Write NaN and infinities as text: JSON has no such numbers, and NaN does not even equal itself."""
    if isinstance(value, float):
        return value if math.isfinite(value) else {"nan": "NaN", "inf": "Infinity"}.get(str(value), "-Infinity")
    if isinstance(value, dict):
        return {key: _name_non_finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_name_non_finite(item) for item in value]
    return value
