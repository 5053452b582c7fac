"""Parked events: events that name a session not yet known, and events that name no session at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel

from telstate.calls._expiring_dict import ExpiringDict
from telstate.calls._outcome import Unmatched
from telstate.events import Event, parse

__all__ = ["ParkedEvent", "ParkedEvents"]

_MAX_SIZE = 16 * 1024 * 1024
"""The size of all parked events together, as estimated by `_size_of`. Huge events push out themselves and others."""


class ParkedEvent(NamedTuple):
    """An event that waits for its session."""

    event: Event
    received_at: float | None
    number: int
    """The number of the event, or of the event that parked it once more."""
    key: str | None
    """The session id or SIP Call-ID that it waits for; None if nothing can ever release it."""
    size: int
    told_by: int
    """The dialect that it came in, as evidence."""

    def dump(self) -> list[Any]:
        """Return it as JSON values."""
        return [self.event.to_json().decode(), self.received_at, self.number, self.key, self.told_by]

    @classmethod
    def load(cls, dumped: list[Any]) -> ParkedEvent:
        """Restore what `dump` returned."""
        json, received_at, number, key, told_by = dumped
        event = parse(json, "daily-js")
        return cls(event, received_at, number, key, _size_of(event), told_by)


class ParkedEvents:
    """Parked events in the order of their arrival."""

    def __init__(self, ttl: float, limit: int) -> None:
        self.entries: ExpiringDict[int, ParkedEvent] = ExpiringDict(ttl, limit)
        self._by_key: dict[str, list[int]] = {}
        self._last_entry = 0
        self._size = 0

    def park(  # noqa: PLR0917
        self, number: int, event: Event, key: str | None, received_at: float | None, now: float, told_by: int
    ) -> list[ParkedEvent]:
        """Park an event until `key` is known; return the events that had to leave for it."""
        self._last_entry += 1
        parked = ParkedEvent(event, received_at, number, key, _size_of(event), told_by)
        self.entries.put(self._last_entry, parked, now)
        self._index(self._last_entry, parked)
        dropped = self._dropped(self.entries.trim())
        while self._size > _MAX_SIZE:
            dropped += self._dropped(self.entries.trim(len(self.entries) - 1))
        return dropped

    def release(self, key: str, wanted: Callable[[Event], bool]) -> list[ParkedEvent]:
        """Remove and return the wanted events that wait for `key`, in order of arrival. Usually there is none."""
        released = []
        for entry in list(self._by_key.get(key, ())):
            parked = self.entries.find(entry)
            if parked is not None and wanted(parked.event):
                self.entries.take(entry)
                self._unindex(parked, entry)
                released.append(parked)
        return released

    def expire(self, now: float) -> list[ParkedEvent]:
        """Remove and return the events whose time has passed."""
        return self._dropped(self.entries.expire(now))

    def unmatched(self) -> list[Unmatched]:
        """List all parked events."""
        return [Unmatched(parked.event, parked.received_at) for _, parked in self.entries.values()]

    def events(self) -> Iterator[Event]:
        """Iterate over all parked events, in order of arrival."""
        return (parked.event for _, parked in self.entries.values())

    def dump(self) -> dict[str, Any]:
        """Return all as JSON values."""
        parked = [[entry, due, parked.dump()] for entry, due, parked in self.entries.dump()]
        return {"last_entry": self._last_entry, "parked": parked}

    def load(self, dumped: dict[str, Any]) -> None:
        """Restore what `dump` returned."""
        self._last_entry = dumped["last_entry"]
        self.entries.load((entry, due, ParkedEvent.load(parked)) for entry, due, parked in dumped["parked"])
        for entry, _, parked in self.entries.dump():
            self._index(entry, parked)

    def _dropped(self, dropped: list[ParkedEvent]) -> list[ParkedEvent]:
        for parked in dropped:
            self._unindex(parked, None)
        return dropped

    def _index(self, entry: int, parked: ParkedEvent) -> None:
        self._size += parked.size
        if parked.key is not None:
            self._by_key.setdefault(parked.key, []).append(entry)

    def _unindex(self, parked: ParkedEvent, entry: int | None) -> None:
        """Remove one entry of a key, by default its oldest: only the oldest are ever dropped."""
        self._size -= parked.size
        entries = self._by_key.get(parked.key) if parked.key is not None else None
        if entries is None or parked.key is None:
            return
        entries.remove(entries[0] if entry is None else entry)
        if not entries:
            del self._by_key[parked.key]


def _size_of(value: Any) -> int:
    """Estimate the size of an event or of a value in it: the lengths of its texts and a little for each value."""
    if isinstance(value, str):
        return 8 + len(value)
    if isinstance(value, BaseModel):
        extra = value.__pydantic_extra__
        return _size_of(value.__dict__) + (_size_of(extra) if extra else 0)
    if isinstance(value, dict):
        return 32 + sum(len(str(key)) + _size_of(item) for key, item in value.items() if item is not None)
    if isinstance(value, (list, tuple)):
        return 32 + sum(map(_size_of, value))
    return 16
