"""Events that wait for their session: those that name one not yet known, and those that name none at all."""

from __future__ import annotations

from typing import Any, NamedTuple

from telstate.calls.outcome import Unmatched
from telstate.calls.shelf import Shelf
from telstate.events import Event, parse

__all__ = ["Parked", "Parking"]


class Parked(NamedTuple):
    """A waiting event, kept as JSON: it weighs a quarter of the object, and a snapshot can hold it."""

    json: str
    received_at: float | None
    key: str | None
    """The session id or SIP Call-ID it waits for; None if nothing can ever call it up."""

    def event(self) -> Event:
        """Read it again."""
        return parse(self.json, "daily-js")


class Parking:
    """Waiting events in the order in which they came."""

    def __init__(self, ttl: float, limit: int) -> None:
        self.shelf: Shelf[int, Parked] = Shelf(ttl, limit)
        self._by_key: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self.shelf)

    def park(self, number: int, event: Event, key: str | None, received_at: float | None, now: float) -> list[Parked]:
        """Let an event wait for `key`; return those that had to make room for it."""
        self.shelf.put(number, Parked(event.to_json().decode(), received_at, key), now)
        if key is not None:
            self._by_key.setdefault(key, []).append(number)
        return self._forget(self.shelf.trim())

    def waiting_for(self, key: str) -> list[tuple[int, Parked]]:
        """List what waits for `key`, in order of arrival; usually nothing."""
        numbers = self._by_key.get(key)
        if numbers is None:
            return []
        return [(number, parked) for number in numbers if (parked := self.shelf.get(number)) is not None]

    def claim(self, number: int) -> None:
        """Its session is known now: it waits no more."""
        parked = self.shelf.pop(number)
        if parked is not None:
            self._unindex(parked, number)

    def expire(self, now: float) -> list[Parked]:
        """Give up on those whose time has passed."""
        return self._forget(self.shelf.expire(now))

    def _forget(self, gone: list[Parked]) -> list[Parked]:
        for parked in gone:
            self._unindex(parked, None)
        return gone

    def _unindex(self, parked: Parked, number: int | None) -> None:
        """Remove one number of a key, by default its oldest: what leaves by itself is always the oldest."""
        numbers = self._by_key.get(parked.key) if parked.key is not None else None
        if numbers is None or parked.key is None:
            return
        numbers.remove(numbers[0] if number is None else number)
        if not numbers:
            del self._by_key[parked.key]

    def unmatched(self) -> list[Unmatched]:
        """All that still waits, as events."""
        return [Unmatched(parked.event(), parked.received_at) for parked in self.shelf.values()]

    def dump(self) -> list[Any]:
        """Write it down as JSON values."""
        return [[number, due, list(parked)] for number, due, parked in self.shelf.dump()]

    def load(self, dumped: list[Any]) -> None:
        """Read what `dump` wrote."""
        self.shelf.load((number, due, Parked(*parked)) for number, due, parked in dumped)
        for number, _, parked in self.shelf.dump():
            if parked.key is not None:
                self._by_key.setdefault(parked.key, []).append(number)
