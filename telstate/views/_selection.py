"""Which calls of a log are shown: those of a number, a room, a time, or with whatever else a record says.

A selection looks at whole records, before anything in them is masked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from unicodedata import category, decimal, normalize

from telstate.calls._address import plain_uri
from telstate.views._condition import Condition

__all__ = ["FIELDS", "Selection", "number_key", "same_number"]

FIELDS = (
    *(
        "session_id",
        "direction",
        "state",
        "cause",
        "ended_by",
        "end_source",
        "end_sign",
        "sip_call_id",
        "room",
        "domain_id",
    ),
    *("provider", "destination", "origin", "caller_id", "sip_from", "sip_endpoint", "sip_headers", "caller", "called"),
    *(
        "pinless_call_id",
        "held_s",
        "display_name",
        "user_id",
        "error",
        "warnings",
        "transferred_to",
        "transfers",
        "notes",
        "legs",
    ),
    *(
        "dtmf",
        "events",
        "duplicates",
        "late",
        "unexpected",
        "anomalies",
        "amended",
        "uncertain",
        "started_at",
        "requested_at",
    ),
    *("connected_at", "answered_at", "ended_at", "setup_s", "ring_s", "talk_s", "transitions"),
)
"""The fields of a session's record, in its order."""

_ADDRESSES = (
    *("destination", "origin", "caller_id", "sip_from", "caller", "called", "transferred_to"),
    *("from", "to"),
)
_FEWEST = 6
"""Digits of a number that is the end of another one: fewer are an extension."""
_LIKE_A_NUMBER = re.compile(r"[+\d\s\-./()]*").fullmatch


@dataclass(frozen=True)
class Selection:
    """What a record must have to be shown. Of each field any of the values will do; nothing given admits everything."""

    numbers: tuple[str, ...] = ()
    """Phone numbers in any spelling, or SIP addresses."""
    rooms: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    """Session ids, or how they begin."""
    calls: tuple[str, ...] = ()
    """Ids of a call: of one of its sessions, its SIP Call-ID, or the id of its caller on hold."""
    states: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    directions: tuple[str, ...] = ()
    since: float | None = None
    """Unix seconds: what ended before is left out."""
    until: float | None = None
    """Unix seconds: what began after is left out."""
    where: Condition | None = None
    anomalies: bool = False
    """Only what has anomalies."""

    @cached_property
    def is_everything(self) -> bool:
        """True if it admits every record."""
        return self == Selection()

    def admits(self, record: Mapping[str, Any]) -> bool:
        """Return whether a record of a session, or of a caller on hold, is to be shown."""
        return (
            _is_one_of(record.get("room"), self.rooms)
            and _is_one_of(record.get("state"), self.states)
            and _is_one_of(record.get("cause"), self.causes)
            and _is_one_of(record.get("direction"), self.directions)
            and (not self.sessions or str(record.get("session_id") or "").startswith(self.sessions))
            and (not self.calls or not set(self.calls).isdisjoint(_ids(record)))
            and (not self.numbers or _has_number(record, self.numbers))
            and self._is_in_time(record)
            and (not self.anomalies or bool(record.get("anomalies")))
            and (self.where is None or self.where.holds(record))
        )

    def _is_in_time(self, record: Mapping[str, Any]) -> bool:
        """Return whether it lay in the time, or a part of it did. A record without times lies in none."""
        if self.since is None and self.until is None:
            return True
        began, ended = record.get("started_at"), record.get("ended_at")
        if began is None:
            return False
        return (self.until is None or began <= self.until) and (
            self.since is None or ended is None or ended >= self.since
        )


def same_number(one: str, other: str) -> bool:
    """Return whether two spellings may mean one phone number or SIP address.

    `+49 30 761863`, `0049 (0)30/761863`, `030 761863` and `sip:+4930761863@carrier.example` do; `bob` is any host's.
    """
    one, other = _as_ascii(one), _as_ascii(other)
    plain, also = plain_uri(one), plain_uri(other)
    if plain == also or _user(plain) == also or plain == _user(also):
        return True
    short, long = sorted((_digits(one), _digits(other)), key=len)
    return len(short) >= _FEWEST and long.endswith(short)


def number_key(address: str) -> str:
    """Return what is the same in the spellings of an international number or a SIP address."""
    address = _as_ascii(address)
    return _digits(address) or plain_uri(address)


def _as_ascii(text: str) -> str:
    """Return an address without the marks, dashes and digits that come with a copy from a contact list or a page."""
    if text.isascii():
        return text
    kept = (one for one in normalize("NFKC", text) if category(one) != "Cf")
    return "".join("-" if category(one) == "Pd" else str(decimal(one, one)) for one in kept)


def _user(address: str) -> str:
    return address.partition("@")[0]


def _digits(address: str) -> str:
    """Return the digits that say who it is, without the zeros that only say how it is dialled; none if it is no number."""
    plain = _user(plain_uri(address.replace("(0)", "")).partition(";")[0])
    return re.sub(r"\D", "", plain).lstrip("0") if _LIKE_A_NUMBER(plain) else ""


def _has_number(record: Mapping[str, Any], numbers: Iterable[str]) -> bool:
    found = list(_addresses(record))
    return any(same_number(number, address) for number in numbers for address in found)


def _addresses(record: Mapping[str, Any]) -> Iterator[str]:
    values = [record.get(name) for name in _ADDRESSES]
    values += [target for target, _ in record.get("transfers") or ()]
    return (value for value in values if isinstance(value, str) and value)


def _ids(record: Mapping[str, Any]) -> Iterator[str]:
    values = [record.get(name) for name in ("session_id", "sip_call_id", "pinless_call_id", "call_id")]
    return (value for value in [*values, *(record.get("legs") or ())] if value)


def _is_one_of(value: Any, wanted: tuple[str, ...]) -> bool:
    return not wanted or value in wanted
