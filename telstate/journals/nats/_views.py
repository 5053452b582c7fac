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
from telstate.journals.nats._names import Names
from telstate.journals.nats._streams import VIEWS_FOR
from telstate.journals.nats._tail import Tail
from telstate.journals.nats._view import CALLER, SESSION, Key, View, legs_from, view_of
from telstate.routing._log import Log, traceback_of

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
        self._callers: dict[str, None] = {}
        self._of_sip_call: dict[str, dict[str, None]] = {}
        """The ids of the sessions with a SIP Call-ID."""
        self._naming: dict[str, dict[str, None]] = {}
        """The ids of the sessions whose views name a session as another leg."""
        self._near: dict[str, tuple[str | None, list[str]]] = {}
        """The SIP Call-ID of a session, and the other legs that its view names, where there is either."""
        self._watchers: dict[Key, dict[Callable[[View], None], None]] = {}
        self._owners: dict[int, Callable[[View], None]] = {}
        self.synced: asyncio.Event = asyncio.Event()
        """Set once it has read what there was."""
        self._log = Log(burst=2, every=10.0)

    # --- following ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Follow all views, until cancelled."""
        while True:
            try:
                await self._follow()
            except JournalError as error:
                self._log.warning("views.not_followed", error=str(error), hint=_HINT)
            except Exception as error:  # the worker's own partitions must not end by it
                self._log.error("views.not_followed", exception=traceback_of(error), hint=_HINT)
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
            if view.key[0] == SESSION and view.content:
                legs_from(view.content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._log.warning("views.unreadable", subject=stored.subject, error=str(error))
            return
        self._take(view)

    def _take(self, view: View) -> None:
        known = self._known.get(view.key)
        if known is not None and known.partition == view.partition and known.seq > view.seq:
            # It was on its way for long, from an owner before. The stream has it as the last one now, so the owner repeats theirs.
            if (tell := self._owners.get(view.partition)) is not None:
                tell(view)
            return
        if known is not None and known.partition != view.partition and not view.content:
            return  # a caller who was handed over is shown by the other partition
        self._forget(view.key)
        self._known[view.key] = view
        self._index(view)
        for watch in list(self._watchers.get(view.key, ())):
            watch(view)
        if (tell := self._owners.get(view.partition)) is not None:
            tell(view)

    def _index(self, view: View) -> None:
        kind, name = view.key
        if kind == CALLER and view.content:
            self._callers[name] = None
        if kind != SESSION or not view.content:
            return
        sip_call_id, legs = legs_from(view.content)
        if sip_call_id is None and not legs:
            return
        self._near[name] = sip_call_id, legs
        if sip_call_id is not None:
            self._of_sip_call.setdefault(sip_call_id, {})[name] = None
        for leg in legs:
            self._naming.setdefault(leg, {})[name] = None

    def _forget(self, key: Key) -> None:
        if self._known.pop(key, None) is None:
            return
        kind, name = key
        if kind == CALLER:
            self._callers.pop(name, None)
        sip_call_id, legs = self._near.pop(name, (None, [])) if kind == SESSION else (None, [])
        for index, value in ((self._of_sip_call, sip_call_id), *((self._naming, leg) for leg in legs)):
            if value is not None and (names := index.get(value)) is not None:
                names.pop(name, None)
                if not names:
                    del index[value]

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
        return [view for view in self._known.values() if view.partition == partition and view.content]

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
            near = [*self._of_sip_call.get(name, ()), *self._naming.get(name, ())]
            if view is not None:
                found[name] = view
                sip_call_id, legs = self._near.get(name, (None, []))
                near += legs if sip_call_id is None else [*legs, sip_call_id]
            for other in near:
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

    def own(self, partition: int, tell: Callable[[View], None]) -> Callable[[], None]:
        """Call a function with each view of a partition that arrives: its owner's. Returns a function that ends it."""
        self._owners[partition] = tell
        return lambda: self._disown(partition, tell)

    def _disown(self, partition: int, tell: Callable[[View], None]) -> None:
        if self._owners.get(partition) == tell:
            del self._owners[partition]
