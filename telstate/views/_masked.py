"""Mask a record: the phone numbers, SIP users and names of people in it, but not its ids.

The key of a value says what it is; what else is private is found by its looks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import Any

from telstate.events._display_names import mask_known_names
from telstate.events._known_names import NAME_KEYS, may_hold_name, names_in, spelling_of
from telstate.events._masking import mask, mask_address, mask_name
from telstate.views._selection import FIELDS

__all__ = ["mask_name", "mask_record", "mask_session"]

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
_FROM_TELSTATE = frozenset(
    {
        *("session_id", "sip_call_id", "pinless_call_id", "room", "domain_id", "legs"),
        *("direction", "state", "cause", "ended_by", "end_source", "end_sign", "transitions"),
        *("events", "duplicates", "late", "unexpected", "dtmf", "amended", "uncertain"),
        *("started_at", "requested_at", "connected_at", "answered_at", "ended_at"),
        *("setup_s", "ring_s", "talk_s", "held_s"),
    }
)
"""The fields of a session's record in which nothing is private: ids, telstate's own words, times and counts."""
_WORDS = re.compile(r"[a-z\-]*")
"""Values of addresses that are none: the outcomes of transfers."""


def mask_record(record: dict[str, Any], names: Iterable[str] = ()) -> dict[str, Any]:
    """Return a copy of a JSON object with everything private in it masked.

    Args:
        record: any.
        names: display names that are known from elsewhere; those in the record are known anyway.
    """
    return _Masking([*names_in(record), *names]).record(record)


def mask_session(record: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of the record of a session (`session.to_dict()`) with everything private in it masked.

    What telstate itself says in it stays, also where somebody has the name Connected.
    """
    private = {key: record[key] for key in _PRIVATE if record[key]}
    return {**record, **mask_record(private)}


_PRIVATE = [key for key in FIELDS if key not in _FROM_TELSTATE]


class _Masking:
    """The masking of one record.

    Args:
        names: display names that are known.
    """

    def __init__(self, names: list[str]) -> None:
        known = dict.fromkeys(filter(None, names))
        self._knows_names = bool(known)
        self._text = partial(_mask_text, names=known) if known else _mask_looks

    def record(self, record: dict[str, Any], *, is_foreign: bool = False) -> dict[str, Any]:
        """Mask all values, and keys that are private themselves.

        Args:
            record: the record, or an object in it.
            is_foreign: others have chosen its keys, so that a name may be one.
        """
        masked = {}
        for key, value in record.items():
            meaning = _meaning_of(key)
            shown = self._foreign_key(key, meaning) if is_foreign else meaning.shown_key
            if not value:
                masked[shown] = value
            elif isinstance(value, str):  # most are texts
                masked[shown] = (meaning.mask or self._text)(value)
            else:
                masked[shown] = self._value(value, meaning, is_foreign=is_foreign or meaning.spelling == "notes")
        return masked

    def _foreign_key(self, key: str, meaning: _Meaning) -> str:
        return self._text(key) if self._knows_names and meaning.spelling not in _KNOWN else meaning.shown_key

    def _value(self, value: Any, key: _Meaning, *, is_foreign: bool = False) -> Any:
        """Mask a value. Numbers are times and counts, and stay, unless the key says that they are a phone number."""
        if not value:
            return value
        if isinstance(value, str):
            return (key.mask or self._text)(value)
        if isinstance(value, list):
            if key.is_id:  # an id is a text: what came instead may be anything
                return (
                    value
                    if key.spelling == "legs"
                    else [self._value(item, _NO_KEY, is_foreign=is_foreign) for item in value]
                )
            return [self._value(item, key, is_foreign=is_foreign) for item in value]
        if isinstance(value, dict):
            return self._headers(value) if key.spelling in _HEADERS else self.record(value, is_foreign=is_foreign)
        return mask_address(str(value)) if key.is_address and not isinstance(value, bool) else value

    def _headers(self, headers: dict[str, Any]) -> dict[str, Any]:
        """Mask SIP headers. A number in one may be a phone number; telstate keeps no times there."""
        return {
            self._foreign_key(name, _meaning_of(name)): self._header(value, name) for name, value in headers.items()
        }

    def _header(self, value: Any, name: str) -> Any:
        if isinstance(value, str) and may_hold_name(name):
            return mask_name(value)
        return self._value(value, _meaning_of(name if isinstance(value, (str, list, dict)) else "phone"))


class _Meaning:
    """What a key says about its value."""

    __slots__ = ("is_address", "is_id", "mask", "shown_key", "spelling")

    def __init__(self, key: str) -> None:
        self.spelling = spelling = spelling_of(key)
        self.is_id = spelling in _IDS
        self.is_address = spelling in _ADDRESSES or ("phone" in spelling and not spelling.endswith("id"))
        self.shown_key = key if spelling in _KNOWN else mask(key)
        self.mask = self._how()
        """Masks a text behind the key; None if the key says nothing, and the text is masked by its looks."""

    def _how(self) -> Callable[[str], str] | None:
        if self.is_id:
            return str
        if self.spelling in NAME_KEYS:
            return _mask_name
        if self.spelling == "transfers":
            return _mask_target
        return _mask_address if self.is_address else None


def _mask_target(target: str) -> str:
    """Mask the target of a transfer. Its outcome, which stands beside it, stays."""
    return target if _WORDS.fullmatch(target) else _mask_address(target)


def _mask_text(text: str, names: Iterable[str]) -> str:
    return _mask_looks(mask_known_names(text, names))


_KNOWN = _IDS | NAME_KEYS | _ADDRESSES | _HEADERS
# The same few hundred texts are nearly all texts of nearly all records: keys, states, causes, names of events, numbers of our own.
_remember = lru_cache(maxsize=1024)
_meaning_of = _remember(_Meaning)
_mask_looks, _mask_address, _mask_name = _remember(mask), _remember(mask_address), _remember(mask_name)
_NO_KEY = _Meaning("")
