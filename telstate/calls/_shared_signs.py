"""Signs of an end that concern many sessions: of a room whose meeting ended, of our call client that left.

They are kept for retention, because a session of the room or client may become known later.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from telstate.calls._evidence import Evidence
from telstate.calls._expiring_dict import ExpiringDict
from telstate.calls._session import Session
from telstate.calls._signs import Sign, latest_signs, load_sign

__all__ = ["SharedSigns", "client_key", "room_key"]

_DIALECTS = (Evidence.BY_DAILY_JS, Evidence.BY_WEBHOOK, Evidence.BY_DAILY_PYTHON, Evidence.BY_OTHERS)
_MAX_SIGNS = 64
"""Signs of one room or client: as many meetings, or leavings, as there are in two hours."""


class SharedSigns(ExpiringDict[str, tuple[Sign, ...]]):
    """The signs of rooms and clients, by `room_key` or `client_key`."""

    __slots__ = ()

    def keep(self, key: str, sign: Sign, now: float) -> None:
        """Keep a sign of a room or client."""
        self.put(key, latest_signs(self.find(key) or (), sign, _MAX_SIGNS), now)
        self.trim()

    def of(self, session: Session) -> list[Sign]:
        """Find the signs of the room and the client of a session."""
        return [sign for key in _keys_of(session) for sign in self.find(key) or ()]

    def load(self, entries: Iterable[Sequence[Any]]) -> None:
        """Restore what `dump` returned."""
        super().load((key, due, tuple(map(load_sign, signs))) for key, due, signs in entries)


def room_key(room: str) -> str:
    """Return the key of a room's signs."""
    return f"room {room}"


def client_key(dialect: int, client_id: str | None, room: str | None) -> str:
    """Return the key of a call client's signs. One without an id is known by its dialect and room, if it has one."""
    return f"dialect {dialect} {room or ''}" if client_id is None else f"client {client_id}"


def _keys_of(session: Session) -> list[str]:
    keys = [] if session.room is None else [room_key(session.room)]
    if session.call_client_id is not None:
        return [*keys, client_key(0, session.call_client_id, None)]
    dialects = [one for one in _DIALECTS if session._evidence & one]
    rooms = (None,) if session.room is None else (None, session.room)
    return [*keys, *(client_key(dialect, None, room) for dialect in dialects for room in rooms)]
