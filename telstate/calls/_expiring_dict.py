"""A memory that forgets: each entry for the same time, all together bounded in number, the oldest first."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, TypeVar

__all__ = ["ExpiringDict"]

K = TypeVar("K")
V = TypeVar("V")


class ExpiringDict(dict[K, tuple[float, V]]):
    """Entries in the order in which they are due, each with the time when it is.

    All entries live for the same number of seconds and time never falls, so the order of insertion is the order of
    expiry, and a dict, which keeps it, is all that is needed: no heap, no timer, no sweep over what is not due. It is
    a dict rather than has one because the engine asks several of them at each event whether they are empty.
    """

    __slots__ = ("limit", "ttl")

    def __init__(self, ttl: float, limit: int | None = None) -> None:
        super().__init__()
        self.ttl = ttl
        self.limit = limit

    def put(self, key: K, value: V, now: float) -> None:
        """Put or renew an entry: its time starts anew."""
        self.pop(key, None)
        self[key] = (now + self.ttl, value)

    def find(self, key: K) -> V | None:
        """Find what was put under `key`, if it is still there."""
        entry = self.get(key)
        return None if entry is None else entry[1]

    def take(self, key: K) -> V | None:
        """Take an entry off before its time."""
        entry = self.pop(key, None)
        return None if entry is None else entry[1]

    def next_due(self) -> float | None:
        """When the oldest entry is due; None if there is none."""
        for due, _ in self.values():
            return due
        return None

    def due(self, now: float) -> list[tuple[K, float]]:
        """List what is due at `now`, oldest first, without taking it off."""
        found = []
        for key, (due, _) in self.items():
            if due > now:
                break
            found.append((key, due))
        return found

    def expire(self, now: float) -> list[V]:
        """Take off what is due at `now`, oldest first."""
        return [self.pop(key)[1] for key, _ in self.due(now)]

    def above_limit(self, limit: int | None = None) -> list[K]:
        """List the oldest above `limit` (by default the shelf's own), without taking them off."""
        keep = self.limit if limit is None else limit
        return list(islice(self, len(self) - keep)) if keep is not None and len(self) > keep else []

    def trim(self, limit: int | None = None) -> list[V]:
        """Take off the oldest above `limit` (by default the shelf's own)."""
        return [self.pop(key)[1] for key in self.above_limit(limit)]

    def change(self, ttl: float, limit: int | None = None) -> None:
        """Let entries live for `ttl` from when they were put, those that are there as well."""
        longer = ttl - self.ttl
        self.ttl, self.limit = ttl, limit
        for key, (due, value) in self.items():
            self[key] = (due + longer, value)

    def start_clock(self, now: float) -> None:
        """Count all entries from `now`: they were put here before any time was known."""
        for key, (_, value) in self.items():
            self[key] = (now + self.ttl, value)

    def dump(self) -> list[tuple[K, float, V]]:
        """Write the entries down, oldest first, as (key, due, value)."""
        return [(key, due, value) for key, (due, value) in self.items()]

    def load(self, entries: Iterable[tuple[K, float, Any]]) -> None:
        """Put back what `dump` wrote."""
        self.clear()
        self.update((key, (due, value)) for key, due, value in entries)
