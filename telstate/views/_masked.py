"""Mask a record: the phone numbers, SIP users and names of people in it, but not its ids.

The key of a value says what it is; what else is private is found by its looks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from telstate.events._masking import mask, mask_address, mask_name

__all__ = ["mask_name", "mask_record", "names_in"]

_IDS = frozenset(
    {
        *("sessionid", "sipcallid", "pinlesscallid", "callid", "legs", "callclientid", "domainid", "eventid"),
        *("room", "roomid", "roomname", "file"),
    }
)
"""Keys whose values stay, in the spelling of `_spelling`: people search reports for them."""
_NAMES = frozenset({"displayname", "username", "callername", "calleename", "fromname", "cnam", "xdailydisplayname"})
_ADDRESSES = frozenset(
    {
        *("destination", "origin", "callerid", "sipfrom", "caller", "called", "callee", "from", "to", "phonenumber"),
        *("transferredto", "transfers", "target", "toendpoint", "forwardedto", "sipuri"),
    }
)
_HEADERS = frozenset({"sipheaders"})
_WORDS = re.compile(r"[a-z\-]*")
"""Values of addresses that are none: the outcomes of transfers."""
_DEEPEST = 50
"""Levels in which names are looked for."""

_MAY_BE_PRIVATE = re.compile(r"[@＠\d<]|name|tel:|cnam|headers", re.IGNORECASE).search


def mask_record(record: dict[str, Any], names: Iterable[str] = ()) -> dict[str, Any]:
    """Return a copy of a JSON object with everything private in it masked.

    Args:
        record: any.
        names: display names that are known from elsewhere; those in the record are known anyway.
    """
    return _Masking([*names_in(record), *names]).record(record)


def names_in(value: Any, depth: int = 0) -> Iterator[str]:
    """Yield the display names in a JSON value, by their keys: to mask them in texts that mention them."""
    if depth > _DEEPEST:
        return
    if isinstance(value, list):
        for item in value:
            yield from names_in(item, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, str) and _spelling(key) in _NAMES:
                yield item
            elif isinstance(item, (dict, list)):
                yield from names_in(item, depth + 1)


class _Masking:
    """The masking of one record.

    Args:
        names: display names that are known.
    """

    def __init__(self, names: list[str]) -> None:
        self._names = list(dict.fromkeys(names))

    def record(self, record: dict[str, Any]) -> dict[str, Any]:
        """Mask all values, and keys that are private themselves."""
        return {
            self._text(key) if _spelling(key) not in _KNOWN else key: self._value(value, key)
            for key, value in record.items()
        }

    def _value(self, value: Any, key: str) -> Any:
        """Mask a value. Numbers are times and counts, and stay, unless the key says that they are a phone number."""
        if not value or isinstance(value, bool) or (spelling := _spelling(key)) in _IDS:
            return value
        if isinstance(value, str):
            return self._by_key(value, spelling)
        if isinstance(value, list):
            return [self._value(item, key) for item in value]
        if isinstance(value, dict):
            return self._headers(value) if spelling in _HEADERS else self.record(value)
        return mask_address(str(value)) if _is_address(spelling) else value

    def _by_key(self, value: str, spelling: str) -> str:
        if spelling in _NAMES:
            return mask_name(value)
        if spelling == "transfers" and _WORDS.fullmatch(value):
            return value
        return mask_address(value) if _is_address(spelling) else self._text(value)

    def _headers(self, headers: dict[str, Any]) -> dict[str, Any]:
        """Mask SIP headers: what they mean is up to the sender, so any may hold a name, unless its own name says that it is an id."""
        return {
            self._text(name): mask_name(value)
            if isinstance(value, str) and not _spelling(name).endswith(("id", "sid"))
            else self._value(value, name if isinstance(value, str) else "phone")
            for name, value in headers.items()
        }

    def _text(self, text: str) -> str:
        return mask(text, self._names) if self._names or _MAY_BE_PRIVATE(text) else text


def _is_address(spelling: str) -> bool:
    return spelling in _ADDRESSES or ("phone" in spelling and not spelling.endswith("id"))


@lru_cache(maxsize=1024)
def _spelling(key: str) -> str:
    """telstate writes `session_id`, daily-js `sessionId`."""
    return key.replace("_", "").replace("-", "").lower()


_KNOWN = _IDS | _NAMES | _ADDRESSES | _HEADERS
