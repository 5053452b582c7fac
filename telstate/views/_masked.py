"""Mask a record: the phone numbers, SIP users and names of people in it, but not its ids."""

from __future__ import annotations

import re
from typing import Any

from telstate.events._masking import mask

__all__ = ["mask_name", "mask_record"]

_IDS = frozenset(
    {
        "callclientid",
        "callid",
        "domainid",
        "file",
        "legs",
        "pinlesscallid",
        "room",
        "roomid",
        "roomname",
        "sessionid",
        "sipcallid",
    }
)
_NAMES = frozenset({"displayname", "username"})
"""Keys as `_spelling` gives them: telstate writes `session_id`, daily-js `sessionId`."""

_WORD = re.compile(r"(?<![\w•])([^\W\d_])[\w'\-•]*")


def mask_record(value: Any, key: str = "") -> Any:
    """A copy of a JSON value with everything private in it masked.

    Args:
        value: an object, an array or a plain value; numbers are times and counts, and stay.
        key: the key of `value`, which says whether it is an id or a name.
    """
    if isinstance(value, dict):
        return {name: mask_record(item, name) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [mask_record(item, key) for item in value]
    if not isinstance(value, str) or (spelling := _spelling(key)) in _IDS:
        return value
    return mask_name(value) if spelling in _NAMES else mask(value)


def mask_name(name: str) -> str:
    """A display name as initials; where it is a phone number, that is masked as everywhere."""
    return _WORD.sub(r"\1•••", mask(name))


def _spelling(key: str) -> str:
    return key.replace("_", "").lower()
