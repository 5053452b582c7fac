"""Signs of an end that concern many sessions: of a room whose meeting ended, of our call client that left.

They are kept for retention, because a session of the room or client may become known later.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from telstate.calls._evidence import Evidence
from telstate.calls._expiring_dict import ExpiringDict
from telstate.calls._session import Session
from telstate.calls._signs import Sign, add_sign, load_sign

__all__ = ["SharedSigns", "client_key", "room_key"]


class SharedSigns(ExpiringDict[str, tuple[Sign, ...]]):
    """The signs of rooms and clients, by `room_key` or `client_key`."""

    __slots__ = ()

    def add(self, key: str, sign: Sign, now: float) -> None:
        """Keep a sign of a room or client."""
        self.put(key, add_sign(self.find(key) or (), sign), now)
        self.trim()

    def of(self, session: Session) -> list[Sign]:
        """Find the signs of the room and the client of a session."""
        return [sign for key in _keys_of(session) for sign in self.find(key) or ()]

    def load(self, entries: Iterable[tuple[str, float, Any]]) -> None:
        """Restore what `dump` returned."""
        super().load((key, due, tuple(map(load_sign, signs))) for key, due, signs in entries)


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
