"""Linking: the owner of a partition appends to it what the views of others say about the calls of its own sessions.

- the far leg of a transfer that leads to a room of another partition: the partition of the transfer has no other event of it
- the legs of a call that are in other partitions
- the links that a program declared before a session was known

It does not follow what happens but compares what is: the views with what its own engine knows. Whatever differs becomes an event. So news
that come twice, late or in any order add nothing, and a new owner begins with a comparison of all. Nobody else needs to be asked or
answered: what one owner appends becomes a view, and the owner of the other partition does the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from time import monotonic

from telstate.calls._engine import Engine
from telstate.calls._far_leg import Window, can_be_leg, is_within, known_leg, leg_of, order_of, window_of
from telstate.calls._legs_elsewhere import missing_far_legs, missing_links, targets_at
from telstate.calls._outcome import Outcome
from telstate.calls._session import Session, rare
from telstate.calls._transfers import targets_of
from telstate.errors import JournalError
from telstate.events import Event, SessionsLinked
from telstate.journals.nats._other_partitions import OtherPartitions
from telstate.journals.nats._view import SESSION, Ties, ties_of
from telstate.journals.nats._views import Views
from telstate.routing._dispatcher import Dispatcher
from telstate.routing._log import Log

__all__ = ["Linking"]

_AT_ONCE = 64
"""Sessions that are compared at a time."""
_YIELD_EVERY = 100
_PAUSE = 1.0
_LOOK_EVERY = 60.0
"""Seconds between two looks for what has left memory."""
_HINT = "it is tried again"


class Linking:
    """Links the sessions of one partition with those of others, from its opening to its end.

    Args:
        partition: its number.
        calls: its dispatcher, open.
        views: what all partitions show.
        elsewhere: the other partitions, as this one sees them.
    """

    def __init__(self, partition: int, calls: Dispatcher, views: Views, elsewhere: OtherPartitions) -> None:
        self._partition = partition
        self._calls = calls
        self._views = views
        self._elsewhere = elsewhere
        self._due: dict[str, None] = {}
        """The sessions to compare, in this order."""
        self._filled = asyncio.Event()
        self._watched: dict[str, dict[str, Callable[[], None]]] = {}
        """The transferred sessions, and for each endpoint that they were transferred to what ends the watching of it."""
        self._appended: dict[str, list[Event]] = {}
        """What was appended last about a session. What had no effect is not appended again."""
        self._awaited: dict[str, Callable[[], None]] = {}
        """The sessions that a declared link waits for, and what ends the watching of each."""
        self._looked_at = 0.0
        self._log = Log(burst=2, every=10.0)

    @property
    def _engine(self) -> Engine:
        return self._calls._sequencer.engine

    async def run(self) -> None:
        """Link, until cancelled; first what was not linked yet."""
        ends = [self._calls.observe(self), self._views.watch_legs(self._partition, self._note)]
        try:
            await self._views.synced.wait()
            await self._take_over()
            while True:
                await self._wait()
                await self._link_some()
        finally:
            for end in (*ends, *self._awaited.values(), *(end for of in self._watched.values() for end in of.values())):
                end()

    async def _take_over(self) -> None:
        """Compare all sessions that may have anything to do with others."""
        for count, session in enumerate(self._engine.sessions(), 1):
            name = session.session_id
            if rare(session, "transfers") or rare(session, "linked") or len(self._views.ties.call_of(name)) > 1:
                self._note(name)
            if not count % _YIELD_EVERY:
                await asyncio.sleep(0)
        self._watch_awaited()

    async def _wait(self) -> None:
        """Wait for something to compare."""
        self._forget_old()
        while not self._due:
            self._filled.clear()
            timer = asyncio.get_running_loop().call_later(_LOOK_EVERY, self._filled.set)
            try:
                await self._filled.wait()
            finally:
                timer.cancel()
            self._forget_old()

    def _forget_old(self) -> None:
        """Forget now and then what the engine does not know any more."""
        if monotonic() < self._looked_at + _LOOK_EVERY:
            return
        self._looked_at = monotonic()
        for name in [name for name in self._watched if self._engine.session(name) is None]:
            self._watch_targets(name, [])
        for name in [name for name in self._appended if self._engine.session(name) is None]:
            del self._appended[name]
        self._watch_awaited()

    # --- what changes ---------------------------------------------------------------------------------------------

    def stepped(self, outcome: Outcome) -> None:
        """Note what an event may have changed."""
        session = outcome.session
        if session is not None and rare(session, "transfers"):
            self._note(session.session_id)
        if type(outcome.event) is SessionsLinked and not outcome.event.derived:
            self._watch_awaited()

    def closed(self) -> None:
        """No outcome will come any more."""

    def _note(self, session_id: str) -> None:
        self._due[session_id] = None
        self._filled.set()

    def _arrived(self, near_id: str, endpoint: str, far_id: str) -> None:
        """A dial-in is shown at an endpoint to which a session was transferred."""
        near, far = self._engine.session(near_id), self._elsewhere.session(far_id)
        target = None if near is None else targets_of(rare(near, "transfers")).get(endpoint)
        if near is None or far is None or target is None:
            return
        leg, known = leg_of(far), known_leg(target)
        is_known = known is not None and known.session_id == leg.session_id
        is_better = known is None or order_of(leg) < order_of(known)
        if is_known or (is_better and is_within(window_of(near, target), leg.first) and can_be_leg(near, leg)):
            self._note(near_id)

    def _watch_targets(self, near_id: str, endpoints: list[str]) -> None:
        """Watch who comes by the endpoints to which a session was transferred."""
        watched = self._watched.setdefault(near_id, {})
        for endpoint in set(watched) - set(endpoints):
            watched.pop(endpoint)()
        for endpoint in endpoints:
            if endpoint not in watched:
                watched[endpoint] = self._views.ties.watch_arrivals(endpoint, partial(self._arrived, near_id, endpoint))
        if not watched:
            del self._watched[near_id]

    def _watch_awaited(self) -> None:
        """Watch for the sessions that declared links wait for."""
        wanted = {name for link in self._engine.awaited_links() for name in self._missing(link)}
        for name in set(self._awaited) - wanted:
            self._awaited.pop(name)()
        for name in wanted - set(self._awaited):
            self._awaited[name] = self._views.watch((SESSION, name), lambda view: self._note(view.key[1]))
            self._note(name)

    def _missing(self, link: SessionsLinked) -> list[str]:
        names = (link.session_id, link.other_session_id)
        return [name for name in names if self._engine.session(name) is None]

    # --- comparing ------------------------------------------------------------------------------------------------

    async def _link_some(self) -> None:
        names = list(islice(self._due, _AT_ONCE))
        for name in names:
            del self._due[name]
        try:
            events: list[Event] = []
            for name in names:
                session = self._engine.session(name)
                if session is not None:
                    events += self._news_of(session)
                elif name in self._awaited and (far := self._elsewhere.session(name)) is not None:
                    events += await self._link_declared(far)
            if events:
                await self._calls._sequencer.submit_events(*events)
        except JournalError as error:
            self._log.warning("links.not_appended", partition=self._partition, error=str(error), hint=_HINT)
            self._appended.clear()
            self._due.update(dict.fromkeys(names))
            await asyncio.sleep(_PAUSE)

    def _news_of(self, session: Session) -> list[Event]:
        """Return what a partition is missing about one of its sessions."""
        name = session.session_id
        self._watch_targets(name, targets_at(session))
        known = self._engine.record(session)["legs"]
        call = self._views.ties.call_of(name, self._ties_of)
        news: list[Event] = [
            *missing_far_legs(session, self._is_known, self._arrived_in, self._elsewhere.session),
            *(missing_links(session, known, call, self._is_shown) if call else ()),
        ]
        if not news or news == self._appended.get(name):
            return []
        self._appended[name] = news
        return news

    async def _link_declared(self, far: Session) -> list[Event]:
        """Link a session that has become known elsewhere. A link of two that are both elsewhere is handed on to one of them."""
        own: list[Event] = []
        for link in self._engine.awaited_links():
            other = link.other_session_id if link.session_id == far.session_id else link.session_id
            if far.session_id not in (link.session_id, link.other_session_id) or other == far.session_id:
                continue
            partner = self._engine.session(other)
            if partner is None:
                if other not in self._views.ties.ties(far.session_id).legs:
                    is_known = True if self._elsewhere.session(other) is not None else None
                    await self._elsewhere.publish(far, _link(far.session_id, other, elsewhere=is_known))
            elif far.session_id not in self._engine.record(partner)["legs"]:
                own.append(_link(other, far.session_id, elsewhere=True))
        return own

    def _is_known(self, session_id: str) -> bool:
        return self._engine.session(session_id) is not None

    def _is_shown(self, session_id: str) -> bool:
        return self._is_known(session_id) or self._views.find((SESSION, session_id)) is not None

    def _ties_of(self, session_id: str) -> Ties | None:
        session = self._engine.session(session_id)
        return None if session is None else ties_of(session, (leg.session_id for leg in self._engine.legs(session_id)))

    def _arrived_in(self, endpoint: str, window: Window) -> Iterator[Session]:
        """Iterate over the dial-ins of other partitions that came by an endpoint and began in a window."""
        ties = self._views.ties
        for name in ties.arrived(endpoint):
            if is_within(window, ties.ties(name).started_at) and not self._is_known(name):
                far = self._elsewhere.session(name)
                if far is not None:
                    yield far


def _link(one: str, other: str, *, elsewhere: bool | None) -> SessionsLinked:
    return SessionsLinked(session_id=one, other_session_id=other, elsewhere=elsewhere)
