"""Mask a record: the phone numbers, SIP users and names of people in it, but not its ids."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from telstate.events._masking import mask

__all__ = ["mask_name", "mask_record"]

_IDS = frozenset(
    {
        *("sessionid", "sipcallid", "pinlesscallid", "callid", "legs", "callclientid", "domainid"),
        *("room", "roomid", "roomname", "file"),
    }
)
"""Keys whose values stay, in the spelling of `_spelling`: people search reports for them."""
_NAMES = frozenset({"displayname", "username"})

_WORD = re.compile(r"(?<![\w•])([^\W\d_])[\w'\-•]*")
_MAY_BE_PRIVATE = re.compile(r"[@\d]").search
"""A phone number has digits and a SIP user an @. Most text has neither, and this look is cheaper than masking."""


def mask_record(record: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a JSON object with everything private in it masked."""
    return {
        key: _masked(value, key) if isinstance(value, (str, list, dict)) and value else value
        for key, value in record.items()
    }


def _masked(value: Any, key: str) -> Any:
    """Mask a value; its key says whether it is an id or a name. Numbers are times and counts, and stay."""
    if (spelling := _spelling(key)) in _IDS:
        return value
    if isinstance(value, str):
        if spelling in _NAMES:
            return mask_name(value)
        return mask(value) if _MAY_BE_PRIVATE(value) else value
    if isinstance(value, list):
        return [_masked(item, key) for item in value]
    return mask_record(value) if isinstance(value, dict) else value


def mask_name(name: str) -> str:
    """A display name as initials; where it is a phone number, that is masked as everywhere."""
    return _WORD.sub(r"\1•••", mask(name))


@lru_cache(maxsize=1024)
def _spelling(key: str) -> str:
    """telstate writes `session_id`, daily-js `sessionId`."""
    return key.replace("_", "").lower()
