"""Who of a campaign is called next: those whose time has come, by priority, if their caller id has room. Pure: it has no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from itertools import count

from telstate.control._contacts import Contact

__all__ = ["CampaignQueue", "Pending"]


class Pending:
    """A contact that has no result yet."""

    __slots__ = ("contact", "due", "inherited", "is_open", "is_touched", "resumed", "starts", "unready")

    def __init__(self, contact: Contact, starts: int = 0) -> None:
        self.contact = contact
        self.due = 0.0
        """When they may be called, in Unix seconds."""
        self.starts = starts
        """How many starts were made."""
        self.inherited = starts
        """How many of them earlier processes made: some of their events may have found nobody, and come later."""
        self.is_open = False
        """True if it is not known what came of a start: that is found out first."""
        self.is_touched = False
        """True once this run has made a start."""
        self.resumed = 0
        """How often that was tried."""
        self.unready = 0
        """How often their own room had no bot."""


class CampaignQueue:
    """The contacts without a result that are not being called."""

    def __init__(self) -> None:
        self._order = count()
        self._open: deque[Pending] = deque()
        self._later: list[tuple[float, int, Pending]] = []
        self._ready: dict[str | None, list[tuple[int, float, int, Pending]]] = {}
        """Those whose time has come, by caller id; of each the first in its heap is next."""
        self._ready_count = 0

    def __len__(self) -> int:
        return len(self._open) + len(self._later) + self._ready_count

    @property
    def waiting(self) -> int:
        """How many wait for their time."""
        return len(self._later)

    @property
    def due(self) -> int:
        """How many wait for their turn only."""
        return len(self._open) + self._ready_count

    @property
    def next_due(self) -> float | None:
        """When the next of those that wait for their time is due."""
        return self._later[0][0] if self._later else None

    def add(self, one: Pending) -> None:
        """Add one, which is due at its time."""
        if one.is_open:
            self._open.append(one)
        else:
            heappush(self._later, (one.due, next(self._order), one))

    def promote(self, now: float) -> None:
        """Let those have their turn whose time has come."""
        while self._later and self._later[0][0] <= now:
            due, _, one = heappop(self._later)
            entry = (-one.contact.priority, due, next(self._order), one)
            heappush(self._ready.setdefault(one.contact.caller_id, []), entry)
            self._ready_count += 1

    def open(self, one: Pending) -> bool:
        """Let one that waits come before all others: what came of a start of theirs is to be found out. Returns False if it does not wait."""
        later = [entry for entry in self._later if entry[-1] is not one]
        ready = self._ready.get(one.contact.caller_id, [])
        rest = [entry for entry in ready if entry[-1] is not one]
        if len(later) == len(self._later) and len(rest) == len(ready):
            return False
        self._ready_count -= len(ready) - len(rest)
        heapify(later)
        heapify(rest)
        self._later = later
        self._ready.pop(one.contact.caller_id, None)
        if rest:
            self._ready[one.contact.caller_id] = rest
        one.is_open = True
        self._open.append(one)
        return True

    def take_open(self) -> Pending | None:
        """Take one of whose start it is not known what came of it."""
        return self._open.popleft() if self._open else None

    def take(self, has_room: Callable[[str | None], bool]) -> Pending | None:
        """Take the next one whose caller id has room."""
        free = [caller_id for caller_id in self._ready if has_room(caller_id)]
        if not free:
            return None
        first = min(free, key=lambda caller_id: self._ready[caller_id][0][:3])
        heap = self._ready[first]
        one = heappop(heap)[3]
        self._ready_count -= 1
        if not heap:
            del self._ready[first]
        return one

    def drain(self) -> Iterator[Pending]:
        """Take all, but those of whose start it is not known what came of it."""
        while self._later:
            yield heappop(self._later)[2]
        for caller_id in list(self._ready):
            for *_, one in self._ready.pop(caller_id):
                self._ready_count -= 1
                yield one
