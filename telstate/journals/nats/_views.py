"""All views, as one process has them in memory: what the owners of all partitions show, followed by one reader.

They are a copy of the stream, which keeps the last view of each key, for as long as it keeps it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice

from telstate.errors import JournalError
from telstate.journals.nats._connection import NatsConnection, Stored
from telstate.journals.nats._leg_views import LegViews
from telstate.journals.nats._names import Names
from telstate.journals.nats._room_views import RoomViews
from telstate.journals.nats._streams import VIEWS_FOR
from telstate.journals.nats._tail import Tail
from telstate.journals.nats._view import CALLER, SESSION, Key, SessionFacts, Ties, View, facts_of, view_of
from telstate.routing._log import Log

__all__ = ["Views"]

_LOOK_EVERY = 10.0
"""Seconds between two looks for what is too old."""
_PAUSE = 1.0
_HINT = "sessions of other partitions are known as they were; it is tried again"
_MOST = 1_000_000
"""Views in memory: about a gigabyte. Beyond that the oldest are forgotten, which are those of ended calls."""


class Views:
    """What all partitions show.

    Args:
        connection: open.
        names: say where.
    """

    def __init__(self, connection: NatsConnection, names: Names) -> None:
        self._connection = connection
        self._names = names
        self._known: dict[Key, View] = {}
        """In the order in which they were published last."""
        self._of_partition: dict[int, dict[Key, None]] = {}
        """What each partition shows, so that a takeover need not look through what all of them show."""
        self._callers: dict[str, None] = {}
        self.ties: LegViews = LegViews()
        """What ties sessions to each other."""
        self._watchers: dict[Key, dict[Callable[[View], None], None]] = {}
        self.rooms: RoomViews = RoomViews()
        """The sessions of rooms."""
        self._owners: dict[int, Callable[[View], None]] = {}
        self._legs_watchers: dict[int, Callable[[str], None]] = {}
        self.synced: asyncio.Event = asyncio.Event()
        """Set once it has read what there was."""
        self._log = Log(burst=2, every=10.0)

    # --- following ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Follow all views, until cancelled."""
        while True:
            try:
                await self._follow()
            except Exception as error:  # of any kind: the worker's own partitions must not end by it
                self._log.failed("views.not_followed", error, hint=_HINT)
            await asyncio.sleep(_PAUSE)

    async def _follow(self) -> None:
        tail = Tail(self._connection, self._names.views, self._names.shown, None, heartbeat=2.0)
        try:
            if not await tail.begin():
                self.synced.set()
            while True:
                for found in await tail.next(_LOOK_EVERY):
                    self._read(found)
                    if found.pending == 0:
                        self.synced.set()
                self._forget_old()
        finally:
            with suppress(JournalError):
                await tail.aclose()

    def _read(self, stored: Stored) -> None:
        try:
            view = view_of(stored)
            facts = facts_of(view)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._log.warning("views.unreadable", subject=stored.subject, error=str(error))
            return
        self._take(view, facts)

    def _take(self, view: View, facts: SessionFacts | None) -> None:
        known = self._known.get(view.key)
        if known is not None and known.partition == view.partition and known.seq > view.seq:
            # It was on its way for long, from an owner before. The stream has it as the last one now, so the owner repeats theirs.
            if (tell := self._owners.get(view.partition)) is not None:
                tell(view)
            return
        if known is not None and known.partition != view.partition and not view.content:
            return  # a caller who was handed over is shown by the other partition
        before = self.ties.ties(view.key[1])
        self._forget(view.key)
        self._known[view.key] = view
        self._of_partition.setdefault(view.partition, {})[view.key] = None
        self._index(view, facts)
        for watch in list(self._watchers.get(view.key, ())):
            watch(view)
        if facts is not None:
            self.rooms.tell(facts.room, view)
            self._tell_legs(view.key[1], before, facts.ties)
        if (tell := self._owners.get(view.partition)) is not None:
            tell(view)

    def _index(self, view: View, facts: SessionFacts | None) -> None:
        kind, name = view.key
        if kind == CALLER and view.content:
            self._callers[name] = None
        if facts is None:
            return
        self.rooms.put(name, facts)
        self.ties.put(name, facts.ties)

    def _forget(self, key: Key) -> None:
        if (view := self._known.pop(key, None)) is None:
            return
        self._of_partition[view.partition].pop(key)
        kind, name = key
        if kind == CALLER:
            self._callers.pop(name, None)
        elif kind == SESSION:
            self.rooms.forget(name)
            self.ties.forget(name)

    def _forget_old(self) -> None:
        """Forget what the stream does not have any more."""
        newest = next(reversed(self._known.values()), None)
        if newest is None:
            return
        old = newest.at - VIEWS_FOR.total_seconds()
        for key in list(islice(self._known, max(0, len(self._known) - _MOST))):
            self._forget(key)
        due = []
        for key, view in self._known.items():
            if view.at > old:
                break
            due.append(key)
        for key in due:
            self._forget(key)

    # --- asking ---------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._known)

    def find(self, key: Key) -> View | None:
        """Return what is shown; None if there is nothing, or nothing any more."""
        view = self._known.get(key)
        return view if view is not None and view.content else None

    def of_partition(self, partition: int) -> list[View]:
        """List what a partition shows."""
        views = (self._known[key] for key in self._of_partition.get(partition, ()))
        return [view for view in views if view.content]

    def callers(self) -> Iterator[View]:
        """Iterate over all callers that are shown."""
        return (self._known[CALLER, name] for name in self._callers)

    def legs(self, ids: set[str]) -> list[View]:
        """Find the sessions that are legs of one call with any of these session ids or SIP Call-IDs, those included."""
        found: dict[str, View] = {}
        to_visit, seen = list(ids), set(ids)
        while to_visit:
            name = to_visit.pop()
            view = self.find((SESSION, name))
            if view is not None:
                found[name] = view
            for other in self.ties.near(name):
                if other not in seen:
                    seen.add(other)
                    to_visit.append(other)
        return list(found.values())

    # --- watching -------------------------------------------------------------------------------------------------

    def watch(self, key: Key, changed: Callable[[View], None]) -> Callable[[], None]:
        """Call a function with each new view of a key. Returns a function that ends it."""
        self._watchers.setdefault(key, {})[changed] = None
        return lambda: self._unwatch(key, changed)

    def _unwatch(self, key: Key, changed: Callable[[View], None]) -> None:
        watchers = self._watchers.get(key, {})
        watchers.pop(changed, None)
        if not watchers:
            self._watchers.pop(key, None)

    def watch_legs(self, partition: int, changed: Callable[[str], None]) -> Callable[[], None]:
        """Call a function with the id of each session of a partition whose call has legs in others, when one of its legs is shown."""
        self._legs_watchers[partition] = changed

        def end() -> None:
            if self._legs_watchers.get(partition) == changed:
                del self._legs_watchers[partition]

        return end

    def _tell_legs(self, session_id: str, before: Ties, after: Ties) -> None:
        legs = self.ties.tell(session_id, before, after)
        if len(legs) < 2:
            return
        views = [view for leg in legs if (view := self.find((SESSION, leg))) is not None]
        if len({view.partition for view in views}) > 1:
            for view in views:
                if (tell := self._legs_watchers.get(view.partition)) is not None:
                    tell(view.key[1])

    def own(self, partition: int, tell: Callable[[View], None]) -> Callable[[], None]:
        """Call a function with each view of a partition that arrives: its owner's. Returns a function that ends it."""
        self._owners[partition] = tell
        return lambda: self._disown(partition, tell)

    def _disown(self, partition: int, tell: Callable[[View], None]) -> None:
        if self._owners.get(partition) == tell:
            del self._owners[partition]
