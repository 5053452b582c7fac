"""Which display names a record holds, by its keys: so that they can be masked in texts that mention them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

__all__ = ["NAME_KEYS", "before_address", "may_hold_name", "names_in", "spelling_of"]

NAME_KEYS = frozenset({"displayname", "username", "callername", "calleename", "fromname", "cnam", "xdailydisplayname"})
"""In the spelling of `spelling_of`."""
_HEADERS = "sipheaders"
_HOLDS_NAME = re.compile(r"name|from|identity|contact|caller|callee|customer|user|display|agent|party").search
_BEFORE_ADDRESS = re.compile(r"\s*\"?([^\"<>]{2,128}?)\"?\s*<(?:sips?|tel):", re.IGNORECASE)
_DEEPEST = 50
"""Levels in which names are looked for."""


def names_in(value: Any, depth: int = 0) -> Iterator[str]:
    """Yield the display names in a JSON value: those behind their keys, and those before addresses."""
    if isinstance(value, str):
        if (name := before_address(value)) is not None:
            yield name
    elif not value or isinstance(value, (int, float)) or depth > _DEEPEST:
        return
    elif isinstance(value, (list, tuple)):
        for item in value:
            if not _is_plain(item):
                yield from names_in(item, depth + 1)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if item:
                yield from _names_behind(key, item, depth)


def _names_behind(key: str, value: Any, depth: int) -> Iterable[str]:
    spelling = spelling_of(key)
    if isinstance(value, str) and spelling in NAME_KEYS:
        return (value,)
    if spelling == _HEADERS and isinstance(value, Mapping):
        return (one for name, one in value.items() if isinstance(one, str) and may_hold_name(name))
    return () if _is_plain(value) else names_in(value, depth + 1)


def _is_plain(value: Any) -> bool:
    """Return True for what holds no names by itself, as nearly all values of a record: texts without an address in brackets, and numbers."""
    return "<" not in value if isinstance(value, str) else isinstance(value, (int, float))


def before_address(text: str) -> str | None:
    """Return the name before the address that a text begins with, as in `"Ada" <sip:ada@example.com>`."""
    found = _BEFORE_ADDRESS.match(text) if "<" in text else None
    return None if found is None else found[1]


def may_hold_name(header: str) -> bool:
    """Return True for a SIP header that may hold the name of a person: what it means is up to its sender."""
    spelling = spelling_of(header)
    return _HOLDS_NAME(spelling) is not None and (spelling.endswith("callerid") or not spelling.endswith("id"))


@lru_cache(maxsize=1024)
def spelling_of(key: str) -> str:
    """telstate writes `session_id`, daily-js `sessionId`, SIP `Session-Id`."""
    return key.replace("_", "").replace("-", "").lower()
