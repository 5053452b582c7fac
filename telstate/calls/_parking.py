"""Events that wait for their session: those that name one not yet known, and those that name none at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from telstate.calls._expiring_dict import ExpiringDict
from telstate.calls._outcome import Unmatched
from telstate.events import Event, parse

__all__ = ["Parked", "Parking"]


_MAX_SIZE = 16 * 1024 * 1024
"""How many characters of JSON may wait in all: what is huge makes itself and others leave early."""


class Parked(NamedTuple):
    """A waiting event, kept as JSON: it weighs a quarter of the object, and a snapshot can hold it."""

    json: str
    received_at: float | None
    number: int
    """The number of the event, or of the one that made it wait once more."""
    key: str | None
    """The session id or SIP Call-ID it waits for; None if nothing can ever call it up."""

    def event(self) -> Event:
        """Read it again."""
        return parse(self.json, "daily-js")


class Parking:
    """Waiting events in the order in which they came."""

    def __init__(self, ttl: float, limit: int) -> None:
        self.shelf: ExpiringDict[int, Parked] = ExpiringDict(ttl, limit)
        self._by_key: dict[str, list[int]] = {}
        self._tickets = 0
        self._size = 0

    def park(self, number: int, event: Event, key: str | None, received_at: float | None, now: float) -> list[Parked]:
        """Let an event wait for `key`; return those that had to make room for it."""
        parked = Parked(event.to_json().decode(), received_at, number, key)
        self._tickets += 1
        self._size += len(parked.json)
        self.shelf.put(self._tickets, parked, now)
        if key is not None:
            self._by_key.setdefault(key, []).append(self._tickets)
        gone = self._forget(self.shelf.trim())
        while self._size > _MAX_SIZE:
            gone += self._forget(self.shelf.trim(len(self.shelf) - 1))
        return gone

    def claim(self, key: str, wanted: Callable[[Event], bool]) -> list[Parked]:
        """Take off what waits for `key` and is wanted, in order of arrival; usually nothing."""
        claimed = []
        for ticket in list(self._by_key.get(key, ())):
            parked = self.shelf.find(ticket)
            if parked is not None and wanted(parked.event()):
                self.shelf.take(ticket)
                self._unindex(parked, ticket)
                claimed.append(parked)
        return claimed

    def expire(self, now: float) -> list[Parked]:
        """Give up on those whose time has passed."""
        return self._forget(self.shelf.expire(now))

    def _forget(self, gone: list[Parked]) -> list[Parked]:
        for parked in gone:
            self._unindex(parked, None)
        return gone

    def _unindex(self, parked: Parked, ticket: int | None) -> None:
        """Remove one ticket of a key, by default its oldest: what leaves by itself is always the oldest."""
        self._size -= len(parked.json)
        tickets = self._by_key.get(parked.key) if parked.key is not None else None
        if tickets is None or parked.key is None:
            return
        tickets.remove(tickets[0] if ticket is None else ticket)
        if not tickets:
            del self._by_key[parked.key]

    def unmatched(self) -> list[Unmatched]:
        """All that still waits, as events."""
        return [Unmatched(parked.event(), parked.received_at) for _, parked in self.shelf.values()]

    def dump(self) -> dict[str, Any]:
        """Write it down as JSON values."""
        waiting = [[ticket, due, list(parked)] for ticket, due, parked in self.shelf.dump()]
        return {"tickets": self._tickets, "waiting": waiting}

    def load(self, dumped: dict[str, Any]) -> None:
        """Read what `dump` wrote."""
        self._tickets = dumped["tickets"]
        self.shelf.load((ticket, due, Parked(*parked)) for ticket, due, parked in dumped["waiting"])
        for ticket, _, parked in self.shelf.dump():
            self._size += len(parked.json)
            if parked.key is not None:
                self._by_key.setdefault(parked.key, []).append(ticket)
