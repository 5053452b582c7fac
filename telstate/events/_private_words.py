"""The names and the users that a line of a log holds: other lines may mention them in a text, where nothing but the word gives them away."""

from __future__ import annotations

import re
from enum import IntEnum, auto
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import unquote

from telstate.events._known_names import NAME_KEYS, before_address, may_hold_name, spelling_of
from telstate.events._private_keys import (
    KeyKind,
    KeysCache,
    is_address_key,
    is_name_key,
    is_time_key,
    kind_of,
    spelling_within,
)
from telstate.events._sip_users import is_known_user

__all__ = ["ADDRESS", "LONGEST_CACHED", "SCHEME", "UNIX_TIME", "UUID", "PrivateWords", "private_words"]

UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}").fullmatch
SCHEME = re.compile(r"(?i)(sips?:|tel:|mailto:)?")
ADDRESS = re.compile(r"(?i)(?:sips?:|tel:|mailto:)\S+|[^\s@<>\"]+@[^\s@<>\"]+|\+?[\d\-. ()/]*\d[\d\-. ()/]*").fullmatch
UNIX_TIME = re.compile(r"1[5-9]\d{8}(?:\d{3}|\d{6}|\d{9})?").fullmatch
_DEEPEST = 50
"""Levels in which they are looked for."""


LONGEST_CACHED = 256
"""Characters of a text that is kept in a cache."""


class PrivateWords(NamedTuple):
    """What is private in a value."""

    names: list[str]
    users: list[str]
    """Users of addresses, and short numbers."""


class _TextPlace(IntEnum):
    """Where a text stands. A key says more about the value beside it than about what is in a list."""

    BESIDE_KEY = auto()
    IN_LIST = auto()
    HEADER = auto()
    WITHIN_HEADER = auto()


_BESIDE_KEY, _IN_LIST, _HEADER, _WITHIN_HEADER = _TextPlace  # a member of an enum is slow to look up


class _Key(NamedTuple):
    """A key, and where its value stands."""

    spelling: str
    within: str
    """Its spelling in the object that it is in, see `spelling_within`."""
    place: _TextPlace
    inner_place: _TextPlace
    """Where the values of an object stand that is behind this key."""
    teaches: bool
    """False if it has ids or words, as most keys do: then only a name before an address could be private."""
    is_time: bool


def private_words(value: Any) -> PrivateWords:
    """Return the names and the users in the JSON value of a line."""
    found = PrivateWords([], [])
    _look_at(value, _ROOT, found, 0)
    return found


def _look_at(value: Any, key: _Key, found: PrivateWords, depth: int) -> None:
    """Look at the value of a key, and add to what was found."""
    if isinstance(value, str):
        if (key.teaches or "<" in value) and not (key.is_time and UNIX_TIME(value)):
            in_text = _in_text if len(value) <= LONGEST_CACHED else _find_in_text
            names, users = in_text(value, key.spelling, key.within, key.place)
            found.names.extend(names)
            found.users.extend(users)
    elif depth > _DEEPEST:
        return
    elif isinstance(value, dict):
        keys = _KEYS_OF(value, key.within, key.inner_place)
        for own, item in zip(keys, value.values(), strict=True):
            if item and (own.teaches or item.__class__ is not str or "<" in item):
                _look_at(item, own, found, depth + 1)
    elif isinstance(value, list):
        in_header = key.inner_place is _WITHIN_HEADER
        place, inner = (_WITHIN_HEADER, _WITHIN_HEADER) if in_header else (_IN_LIST, _BESIDE_KEY)
        own = key._replace(place=place, inner_place=inner)
        for item in value:
            _look_at(item, own, found, depth + 1)


def _key(name: str, within: str, place: _TextPlace) -> _Key:
    spelling = spelling_of(name)
    if place in (_HEADER, _WITHIN_HEADER):
        inner = _WITHIN_HEADER
    else:
        inner = _HEADER if spelling == "sipheaders" and place is _BESIDE_KEY else _BESIDE_KEY
    teaches = place is _HEADER or kind_of(spelling) not in (KeyKind.ID, KeyKind.WORD)
    return _Key(spelling, spelling_within(within, name), place, inner, teaches, is_time_key(spelling))


_ROOT = _Key("", "", _IN_LIST, _BESIDE_KEY, teaches=True, is_time=False)


_KEYS_OF = KeysCache(_key)


def _find_in_text(text: str, key: str, within: str, place: _TextPlace) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names and the users in one text."""
    return tuple(dict.fromkeys(_names(text, key, within, place))), tuple(_users(text, key))


_in_text = lru_cache(maxsize=8_192)(_find_in_text)


def _names(text: str, key: str, within: str, place: _TextPlace) -> list[str]:
    names = [text] if is_name_key(within) else []
    if place is _HEADER:
        return [text] if may_hold_name(key) else names
    if place is _BESIDE_KEY and key in NAME_KEYS:
        return [text, *names]
    if place is not _WITHIN_HEADER and (name := before_address(text)) is not None:
        names.append(name)
    return names


def _users(text: str, key: str) -> list[str]:
    if kind_of(key) in (KeyKind.ID, KeyKind.WORD) or UUID(text):
        return []
    if not is_address_key(key) and ADDRESS(text) is None:
        return []
    address = text.rpartition("<")[2].partition(">")[0].strip()
    found = SCHEME.match(address)
    body = address[len(found[0]) if found else 0 :].partition("?")[0]
    user, at, host = body.rpartition("@")
    if at and is_known_user(user, user, body, len(user)):
        return []
    return [part for part in unquote(user if at else host).partition(";")[0].split(":") if part and " " not in part]
