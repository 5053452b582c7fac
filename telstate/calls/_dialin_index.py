"""The dial-ins by number, endpoint and room: where a caller on hold is looked for. Empty while there are no callers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from telstate.calls._address import plain_uri
from telstate.calls._caller_numbers import number_key
from telstate.calls._session import Session
from telstate.events import Direction

__all__ = ["DialinIndex", "DialinKeys", "discard"]


class DialinKeys(NamedTuple):
    """Under which keys a dial-in is found; empty where that is unknown."""

    number: str
    endpoint: str
    room: str


_NO_DIALIN = DialinKeys("", "", "")


class DialinIndex:
    """The ids of dial-ins under their keys."""

    def __init__(self) -> None:
        self.keys: dict[str, DialinKeys] = {}
        """Those of each dial-in."""
        self._from: dict[str, dict[str, None]] = {}
        self._arrived: dict[str, dict[str, None]] = {}
        self._into: dict[str, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self.keys)

    def put(self, session: Session) -> DialinKeys:
        """Find a session under its keys from now on, if it is a dial-in; return them."""
        session_id = session.session_id
        if session.direction is not Direction.DIALIN:
            return _NO_DIALIN
        endpoint = "" if session.sip_endpoint is None else plain_uri(session.sip_endpoint)
        keys = DialinKeys(number_key(session.sip_from), endpoint, session.room or "")
        if self.keys.get(session_id) != keys:
            self.remove(session_id)
            self.keys[session_id] = keys
            self._from.setdefault(keys.number, {})[session_id] = None
            if endpoint:
                self._arrived.setdefault(endpoint, {})[session_id] = None
            if keys.room:
                self._into.setdefault(keys.room, {})[session_id] = None
        return keys

    def remove(self, session_id: str) -> None:
        """Forget a session."""
        keys = self.keys.pop(session_id, None)
        if keys is not None:
            discard(self._from, keys.number, session_id)
            discard(self._arrived, keys.endpoint, session_id)
            discard(self._into, keys.room, session_id)

    def clear(self) -> None:
        """Forget all."""
        for index in (self.keys, self._from, self._arrived, self._into):
            index.clear()

    def all(self) -> Iterable[str]:
        """Return the ids of all."""
        return self.keys

    def of_number(self, number: str) -> Iterable[str]:
        """Return the ids of those from a number, by its key; empty for those whose number is unknown."""
        return self._from.get(number, ())

    def endpoints_of(self, number: str) -> set[str]:
        """Return the endpoints, as keys, of those from a number."""
        return {self.keys[session_id].endpoint for session_id in self._from.get(number, ())}

    def at_endpoint(self, endpoint: str) -> Iterable[str]:
        """Return the ids of those on an endpoint."""
        return self._arrived.get(endpoint, ())

    def in_room(self, room: str) -> Iterable[str]:
        """Return the ids of those in a room."""
        return self._into.get(room, ())


def discard(index: dict[str, dict[str, None]], key: str, value: str) -> None:
    """Remove a value from under a key, and the key with its last one."""
    values = index.get(key)
    if values is not None:
        values.pop(value, None)
        if not values:
            del index[key]
