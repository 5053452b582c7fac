"""A dict whose entries expire: each after the same time, and the oldest first when there are too many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

__all__ = ["ExpiringDict"]

K = TypeVar("K")
V = TypeVar("V")

_LISTED = 500
"""So many of the oldest entries are listed at once."""


class ExpiringDict(dict[K, tuple[float, V]]):
    """Entries in the order in which they expire, each with the time at which it does.

    All entries have the same time to live and time never falls, so the order of insertion is the order of expiry. A dict keeps
    that order, so there is no heap, no timer and no sweep over entries that are not due. But it finds the oldest one by looking at the
    places of all that were removed before, so it is asked for several at once. It is a dict rather than has one, because the engine
    tests several of them for emptiness at each event.
    """

    __slots__ = ("_oldest", "limit", "ttl")

    def __init__(self, ttl: float, limit: int | None = None) -> None:
        super().__init__()
        self.ttl = ttl
        """Seconds."""
        self.limit = limit
        self._oldest: list[tuple[K, float]] = []
        """The oldest entries, the very oldest last, with the time at which they expire. Some may have been removed or renewed since."""

    def put(self, key: K, value: V, now: float) -> None:
        """Add or renew an entry: its time to live starts now."""
        due = now + self.ttl
        before = self.pop(key, None)
        if before is not None and before[0] == due:
            self._oldest = []  # it would stand there as if it had not moved to the end
        self[key] = (due, value)

    def add(self, key: K, value: V, now: float) -> None:
        """Add an entry that is not there yet."""
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
        while self:
            while self._oldest:
                key, due = self._oldest[-1]
                entry = self.get(key)
                if entry is not None and entry[0] == due:
                    return due
                self._oldest.pop()
            self._oldest = [(key, due) for key, (due, _) in islice(self.items(), _LISTED)]
            self._oldest.reverse()
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
        expired = []
        while (due := self.next_due()) is not None and due <= now:
            expired.append(self._pop_oldest())
        return expired

    def above_limit(self) -> list[K]:
        """List the oldest entries above the limit, without removing them."""
        keep = self.limit
        return list(islice(self, len(self) - keep)) if keep is not None and len(self) > keep else []

    def trim(self, limit: int | None = None) -> list[V]:
        """Remove the oldest entries above `limit` (by default the dict's own), and return their values."""
        keep = self.limit if limit is None else limit
        trimmed = []
        while keep is not None and len(self) > keep and self.next_due() is not None:
            trimmed.append(self._pop_oldest())
        return trimmed

    def leaving(self, now: float = float("-inf"), keep: int | None = None) -> Iterator[V]:
        """Yield what is due at `now`, or above the number to keep, oldest first, and remove each after its turn: until then it is found."""
        while (due := self.next_due()) is not None and (due <= now or (keep is not None and len(self) > keep)):
            yield self[self._oldest[-1][0]][1]
            self._pop_oldest()

    def _pop_oldest(self) -> V:
        """Remove the entry that `next_due` has just found."""
        key, _ = self._oldest.pop()
        return self.pop(key)[1]

    def change(self, ttl: float, limit: int | None = None) -> None:
        """Change the time to live and the limit, for existing entries too."""
        longer = ttl - self.ttl
        self.ttl, self.limit, self._oldest = ttl, limit, []
        for key, (due, value) in self.items():
            self[key] = (due + longer, value)

    def start_clock(self, now: float) -> None:
        """Let all entries live from `now`: they were added before any time was known."""
        self._oldest = []
        for key, (_, value) in self.items():
            self[key] = (now + self.ttl, value)

    def dump(self) -> list[tuple[K, float, V]]:
        """Return the entries as (key, due, value), oldest first."""
        return [(key, due, value) for key, (due, value) in self.items()]

    def load(self, entries: Iterable[Sequence[Any]]) -> None:
        """Restore what `dump` returned, also after a round trip through JSON, which has lists."""
        self.clear()
        self._oldest = []
        self.update((key, (due, value)) for key, due, value in entries)
