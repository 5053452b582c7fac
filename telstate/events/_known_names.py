"""Which display names a record holds, by its keys: so that they can be masked in texts that mention them."""

from __future__ import annotations

import re
from collections.abc import Mapping
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


def names_in(value: Any) -> list[str]:
    """Return the display names in a JSON value: those behind their keys, and those before addresses."""
    found: list[str] = []
    _collect(value, found, 0)
    return found


def _collect(value: Any, found: list[str], depth: int) -> None:
    if isinstance(value, str):
        if (name := before_address(value)) is not None:
            found.append(name)
    elif not value or isinstance(value, (int, float)) or depth > _DEEPEST:
        return
    elif isinstance(value, (list, tuple)):
        for item in value:
            if not isinstance(item, str) or "<" in item:  # nearly all items are plain texts
                _collect(item, found, depth + 1)
    elif isinstance(value, _MAPPINGS):
        for key, item in value.items():
            if isinstance(item, str):
                if item and _is_name_key(key):
                    found.append(item)
                elif "<" in item:
                    _collect(item, found, depth + 1)
            elif item and not isinstance(item, (int, float)):
                _collect_behind(key, item, found, depth)


def _collect_behind(key: str, value: Any, found: list[str], depth: int) -> None:
    if isinstance(value, _MAPPINGS) and spelling_of(key) == _HEADERS:
        found += [one for name, one in value.items() if isinstance(one, str) and may_hold_name(name)]
    else:
        _collect(value, found, depth + 1)


_MAPPINGS = (dict, Mapping)  # a dict is quicker to recognise


def before_address(text: str) -> str | None:
    """Return the name before the address that a text begins with, as in `"Ada" <sip:ada@example.com>`."""
    found = _BEFORE_ADDRESS.match(text) if "<" in text else None
    return None if found is None else found[1]


def may_hold_name(header: str) -> bool:
    """Return True for a SIP header that may hold the name of a person: what it means is up to its sender."""
    spelling = spelling_of(header)
    return _HOLDS_NAME(spelling) is not None and (spelling.endswith("callerid") or not spelling.endswith("id"))


@lru_cache(maxsize=1024)
def _is_name_key(key: str) -> bool:
    return spelling_of(key) in NAME_KEYS


@lru_cache(maxsize=1024)
def spelling_of(key: str) -> str:
    """telstate writes `session_id`, daily-js `sessionId`, SIP `Session-Id`."""
    return key.replace("_", "").replace("-", "").lower()
