"""Mask a record: the phone numbers, SIP users and names of people in it, but not its ids.

The key of a value says what it is; what else is private is found by its looks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from telstate.events._display_names import mask_known_names
from telstate.events._known_names import NAME_KEYS, may_hold_name, names_in, spelling_of
from telstate.events._masking import mask, mask_address, mask_name

__all__ = ["mask_name", "mask_record"]

_IDS = frozenset(
    {
        *("sessionid", "sipcallid", "pinlesscallid", "callid", "legs", "callclientid", "domainid", "eventid"),
        *("room", "roomid", "roomname", "file"),
    }
)
"""Keys whose values stay, in the spelling of `spelling_of`: people search reports for them."""
_ADDRESSES = frozenset(
    {
        *("destination", "origin", "callerid", "sipfrom", "caller", "called", "callee", "from", "to", "phonenumber"),
        *("transferredto", "transfers", "target", "toendpoint", "forwardedto", "sipuri", "sipto"),
    }
)
_HEADERS = frozenset({"sipheaders"})
_WORDS = re.compile(r"[a-z\-]*")
"""Values of addresses that are none: the outcomes of transfers."""


def mask_record(record: dict[str, Any], names: Iterable[str] = ()) -> dict[str, Any]:
    """Return a copy of a JSON object with everything private in it masked.

    Args:
        record: any.
        names: display names that are known from elsewhere; those in the record are known anyway.
    """
    return _Masking([*names_in(record), *names]).record(record)


class _Masking:
    """The masking of one record.

    Args:
        names: display names that are known.
    """

    def __init__(self, names: list[str]) -> None:
        self._names = list(dict.fromkeys(filter(None, names)))

    def record(self, record: dict[str, Any]) -> dict[str, Any]:
        """Mask all values, and keys that are private themselves."""
        return {_shown_key(key): self._value(value, key) if value else value for key, value in record.items()}

    def _value(self, value: Any, key: str) -> Any:
        """Mask a value. Numbers are times and counts, and stay, unless the key says that they are a phone number."""
        if not value or isinstance(value, bool):
            return value
        spelling = spelling_of(key)
        if spelling in _IDS and (isinstance(value, str) or spelling == "legs"):
            return value
        if isinstance(value, str):
            return self._by_key(value, spelling)
        if isinstance(value, list):
            key = "" if spelling in _IDS else key  # an id is a text: what came instead may be anything
            return [self._value(item, key) for item in value]
        if isinstance(value, dict):
            return self._headers(value) if spelling in _HEADERS else self.record(value)
        return mask_address(str(value)) if _is_address(spelling) else value

    def _by_key(self, value: str, spelling: str) -> str:
        if spelling in NAME_KEYS:
            return mask_name(value)
        if spelling == "transfers" and _WORDS.fullmatch(value):
            return value
        return mask_address(value) if _is_address(spelling) else self._text(value)

    def _headers(self, headers: dict[str, Any]) -> dict[str, Any]:
        """Mask SIP headers. A number in one may be a phone number; telstate keeps no times there."""
        return {
            _shown_key(name): mask_name(value)
            if isinstance(value, str) and may_hold_name(name)
            else self._value(value, name if isinstance(value, (str, list, dict)) else "phone")
            for name, value in headers.items()
        }

    def _text(self, text: str) -> str:
        return _mask_looks(mask_known_names(text, self._names))


_mask_looks = lru_cache(maxsize=1024)(mask)
"""Mask what is private by its looks. Most texts of most records are the same words: states, causes, names of events."""


@lru_cache(maxsize=1024)
def _is_address(spelling: str) -> bool:
    return spelling in _ADDRESSES or ("phone" in spelling and not spelling.endswith("id"))


@lru_cache(maxsize=1024)
def _shown_key(key: str) -> str:
    return key if spelling_of(key) in _KNOWN else mask(key)


_KNOWN = _IDS | NAME_KEYS | _ADDRESSES | _HEADERS
