"""What the key of a value in a log says about the value: an id, a time, a name, an address, a secret.

All keys are in the spelling of `spelling_of`. A log has few keys and many values, so what follows from a key is found out once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import IntEnum, auto
from functools import lru_cache
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from telstate.events._known_names import NAME_KEYS, spelling_of

__all__ = [
    "KeyKind",
    "KeysCache",
    "is_address_key",
    "is_id_key",
    "is_name_key",
    "is_time_key",
    "kind_of",
    "spelling_within",
]

T = TypeVar("T")
P = ParamSpec("P")

_MOST_OBJECTS = 1_000
_MOST_CHARACTERS = 2_000
"""Of all keys of an object that is remembered. A log can have longer ones, and a cache of those would fill the memory."""


class KeysCache(Generic[P, T]):
    """Remembers what follows from the keys of an object: most objects of a log have the same keys as others.

    Args:
        find: returns what follows from one key.
    """

    def __init__(self, find: Callable[Concatenate[str, P], T]) -> None:
        self._find = find
        self._known: dict[Any, tuple[T, ...]] = {}

    def __call__(self, record: dict[str, Any], *context: P.args, **named: P.kwargs) -> tuple[T, ...]:
        """Return what follows from each key of a record."""
        keys = tuple(record)
        known = self._known.get((keys, context))
        if known is None:
            known = tuple(self._find(key, *context, **named) for key in keys)
            if sum(map(len, keys)) <= _MOST_CHARACTERS:
                if len(self._known) >= _MOST_OBJECTS:
                    self._known.clear()
                self._known[keys, context] = known
        return known

    def clear(self) -> None:
        """Forget everything."""
        self._known.clear()


_IDS = frozenset(
    {
        *(
            "id",
            "sessionid",
            "othersessionid",
            "sipcallid",
            "pinlesscallid",
            "callid",
            "legs",
            "callclientid",
            "domainid",
        ),
        *(
            "eventid",
            "requestid",
            "targetid",
            "startedid",
            "endedsessionid",
            "intent",
            "claim",
            "meetingid",
            "mtgsessionid",
            "actiontraceid",
            "journal",
            "room",
            "roomid",
            "roomname",
            "calldomain",
        ),
    }
)
"""Keys whose values stay, unless one has a number with a `+`, blanks or brackets in it."""
_WORDS = frozenset(
    {
        *("action", "type", "handler", "event", "dialect", "provider", "version", "method", "presence", "deadline"),
        *("state", "direction", "cause", "status", "networkqualitystate", "trigger", "transitions"),
    }
)
"""Keys whose values are words of Daily's or telstate's: names that are equal to one do not change them."""
_ADDRESSES = frozenset(
    {
        *("destination", "origin", "callerid", "sipfrom", "caller", "called", "callee", "from", "to", "phonenumber"),
        *(
            "transferredto",
            "transfers",
            "target",
            "toendpoint",
            "fromendpoint",
            "otherendpoint",
            "forwardedto",
            "sipuri",
        ),
        *("sipendpoint", "sipto", "uri", "phone", "msisdn", "contact"),
    }
)
_TIMES = re.compile(
    r"(?:at|ts|time|timestamp|duration|ms|seconds|seq|done|base|volume|bytes|bitrate|count|version|port)$"
).search
"""Keys whose numbers are no phone numbers, by how they end."""
_NO_NAMES = frozenset({"roomname", "filename", "hostname", "domainname", "eventname", "typename", "trunkname"})
_THINGS = frozenset({"room", "domain", "trunk"})
_SECRET = re.compile(r"(?:apikey|token|secret|password|passwd|authorization|credential|hmac|cookie)s?$").search
_TONES = frozenset({"tone", "tones", "digits", "pin", "dtmf", "extension"})
_KEPT_WHOLE = frozenset({"settings"})


class KeyKind(IntEnum):
    """What stands behind a key."""

    KEPT = auto()
    """Something that stays as a whole."""
    SECRET = auto()
    ID = auto()
    TONES = auto()
    """Pressed keys."""
    WORD = auto()
    NAME = auto()
    ADDRESS = auto()
    """A phone number or a SIP address."""
    TEXT = auto()
    """Anything else."""


@lru_cache(maxsize=4096)
def kind_of(key: str) -> KeyKind:
    """Return what stands behind a key."""
    if key in _KEPT_WHOLE:
        return KeyKind.KEPT
    if _SECRET(key):
        return KeyKind.SECRET
    if key in _IDS:
        return KeyKind.ID
    if key in _TONES:
        return KeyKind.TONES
    if key in _WORDS:
        return KeyKind.WORD
    if is_name_key(key):
        return KeyKind.NAME
    return KeyKind.ADDRESS if key in _ADDRESSES or "phone" in key else KeyKind.TEXT


def is_id_key(key: str) -> bool:
    """Return True for a key whose values are ids."""
    return key in _IDS


def is_name_key(key: str) -> bool:
    """Return True for a key whose values are names of people."""
    return key in NAME_KEYS or (key.endswith("name") and key not in _NO_NAMES)


def is_address_key(key: str) -> bool:
    """Return True for a key whose values are known to be phone numbers or SIP addresses."""
    return key in _ADDRESSES


@lru_cache(maxsize=4096)
def is_time_key(key: str) -> bool:
    """Return True for a key whose figures are times and counts."""
    return _TIMES(key) is not None


@lru_cache(maxsize=4096)
def spelling_within(key: str, name: str) -> str:
    """Return the spelling of a name in the object of a key: the `name` of a `room` is a room name, and nobody's."""
    spelling = spelling_of(name)
    return f"{key}name" if spelling == "name" and key in _THINGS else spelling
