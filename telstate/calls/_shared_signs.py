"""Signs of an end that concern many sessions: of a room whose meeting ended, of our call client that left.

They are kept for retention, because a session of the room or client may become known later.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from telstate.calls._evidence import Evidence
from telstate.calls._expiring_dict import ExpiringDict
from telstate.calls._session import Session
from telstate.calls._signs import Sign, add_sign, load_sign

__all__ = ["SharedSign", "SharedSigns", "client_key", "room_key"]

_MAX_SIGNS = 64


class SharedSign(NamedTuple):
    """One sign, and the domain of its room; None if that is unknown."""

    sign: Sign
    domain_id: str | None

    def concerns(self, session: Session) -> bool:
        """Return whether it can be about a session of its room or client."""
        return self.domain_id is None or session.domain_id is None or self.domain_id == session.domain_id


class SharedSigns(ExpiringDict[str, tuple[SharedSign, ...]]):
    """The signs of rooms and clients, by `room_key` or `client_key`."""

    __slots__ = ()

    def add(self, key: str, shared: SharedSign, now: float) -> None:
        """Keep a sign of a room or client."""
        known = self.find(key) or ()
        of_domain = tuple(one.sign for one in known if one.domain_id == shared.domain_id)
        others = tuple(one for one in known if one.domain_id != shared.domain_id)
        kept = tuple(SharedSign(sign, shared.domain_id) for sign in add_sign(of_domain, shared.sign))
        self.put(key, (others + kept)[-_MAX_SIGNS:], now)
        self.trim()

    def of(self, session: Session) -> list[Sign]:
        """Find the signs of the room and the client of a session."""
        return [shared.sign for key in _keys_of(session) for shared in self.find(key) or () if shared.concerns(session)]

    def load(self, entries: Iterable[tuple[str, float, Any]]) -> None:
        """Restore what `dump` returned."""
        super().load((key, due, tuple(map(_load, signs))) for key, due, signs in entries)


def room_key(room: str) -> str:
    """Return the key of a room's signs."""
    return f"room {room}"


def client_key(dialect: int, client_id: str | None) -> str:
    """Return the key of a call client's signs. One without an id is known by its dialect."""
    return f"dialect {dialect}" if client_id is None else f"client {client_id}"


def _keys_of(session: Session) -> list[str]:
    keys = [] if session.room is None else [room_key(session.room)]
    if session.call_client_id is not None:
        return [*keys, client_key(0, session.call_client_id)]
    return [*keys, client_key(session._evidence & Evidence.BY_DIALECTS, None)]


def _load(dumped: list[Any]) -> SharedSign:
    sign, domain_id = dumped
    return SharedSign(load_sign(sign), domain_id)
