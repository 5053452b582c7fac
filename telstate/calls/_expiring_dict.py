"""A dict whose entries expire: each after the same time, and the oldest first when there are too many."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, TypeVar

__all__ = ["ExpiringDict"]

K = TypeVar("K")
V = TypeVar("V")


class ExpiringDict(dict[K, tuple[float, V]]):
    """Entries in the order in which they expire, each with the time at which it does.

    All entries have the same time to live and time never falls, so the order of insertion is the order of expiry. A dict keeps
    that order, so there is no heap, no timer and no sweep over entries that are not due. It is a dict rather than has one,
    because the engine tests several of them for emptiness at each event.
    """

    __slots__ = ("limit", "ttl")

    def __init__(self, ttl: float, limit: int | None = None) -> None:
        super().__init__()
        self.ttl = ttl
        """Seconds."""
        self.limit = limit

    def put(self, key: K, value: V, now: float) -> None:
        """Add or renew an entry: its time to live starts now."""
        self.pop(key, None)
        self[key] = (now + self.ttl, value)

    def find(self, key: K) -> V | None:
        """Return the value of `key`, if it is there."""
        entry = self.get(key)
        return None if entry is None else entry[1]

    def take(self, key: K) -> V | None:
        """Remove an entry before it expires, and return its value."""
        entry = self.pop(key, None)
        return None if entry is None else entry[1]

    def next_due(self) -> float | None:
        """Return when the oldest entry expires; None if there is none."""
        for due, _ in self.values():
            return due
        return None

    def due(self, now: float) -> list[tuple[K, float]]:
        """List the entries that are due at `now`, oldest first, without removing them."""
        found = []
        for key, (due, _) in self.items():
            if due > now:
                break
            found.append((key, due))
        return found

    def expire(self, now: float) -> list[V]:
        """Remove the entries that are due at `now`, and return their values, oldest first."""
        return [self.pop(key)[1] for key, _ in self.due(now)]

    def above_limit(self, limit: int | None = None) -> list[K]:
        """List the oldest entries above `limit` (by default the dict's own), without removing them."""
        keep = self.limit if limit is None else limit
        return list(islice(self, len(self) - keep)) if keep is not None and len(self) > keep else []

    def trim(self, limit: int | None = None) -> list[V]:
        """Remove the oldest entries above `limit` (by default the dict's own), and return their values."""
        return [self.pop(key)[1] for key in self.above_limit(limit)]

    def change(self, ttl: float, limit: int | None = None) -> None:
        """Change the time to live and the limit, for existing entries too."""
        longer = ttl - self.ttl
        self.ttl, self.limit = ttl, limit
        for key, (due, value) in self.items():
            self[key] = (due + longer, value)

    def start_clock(self, now: float) -> None:
        """Let all entries live from `now`: they were added before any time was known."""
        for key, (_, value) in self.items():
            self[key] = (now + self.ttl, value)

    def dump(self) -> list[tuple[K, float, V]]:
        """Return the entries as (key, due, value), oldest first."""
        return [(key, due, value) for key, (due, value) in self.items()]

    def load(self, entries: Iterable[tuple[K, float, Any]]) -> None:
        """Restore what `dump` returned."""
        self.clear()
        self.update((key, (due, value)) for key, due, value in entries)
