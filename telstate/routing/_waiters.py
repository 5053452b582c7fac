"""Tasks that wait for a session or an endpoint, or that follow all changes. A step wakes them before any handler runs."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import partial
from weakref import ref

import anyio

from telstate.calls._address import plain_uri
from telstate.calls._endpoints import Endpoint
from telstate.calls._outcome import Outcome
from telstate.calls._session import Session
from telstate.calls._table import RANK, TERMINAL, State
from telstate.errors import Busy, CallEnded, NotRunning
from telstate.events import DialinReady, Event
from telstate.routing._backlog import Backlog
from telstate.routing._ports import Elsewhere
from telstate.routing._sequencer import Sequencer

__all__ = ["Changes", "Waiters"]

_UNREAD_LIMIT = 10_000


class Waiters:
    """The tasks that wait for a step, or for news from elsewhere."""

    def __init__(self, sequencer: Sequencer, backlog: Backlog, elsewhere: Elsewhere | None = None) -> None:
        self._sequencer = sequencer
        self._elsewhere = elsewhere
        self._backlog = backlog
        self._waiters: dict[str, list[_Waiter]] = {}
        self._at_endpoints: dict[str, list[anyio.Event]] = {}
        self._closed = False
        self._readers: list[ref[Changes]] = []

    def wake(self, session: Session, outcome: Outcome) -> None:
        """A session was opened or rose: wake those that wait for it, and those that follow all."""
        if self._waiters:
            self._wake(session)
        self.publish(outcome)

    def publish(self, outcome: Outcome) -> None:
        """A session changed: tell those that follow all changes."""
        for reader in self._readers:
            if (changes := reader()) is not None:
                changes.put(outcome)

    def wake_for(self, event: Event) -> None:
        """Wake those that wait for an endpoint, if an event says that it is ready."""
        if type(event) is DialinReady:
            for woken in self._at_endpoints.get(plain_uri(event.sip_endpoint), ()):
                woken.set()

    def close(self) -> None:
        """Wake all tasks: nothing changes any more."""
        self._closed = True
        for waiting in self._at_endpoints.values():
            for woken in waiting:
                woken.set()
        for reader in self._readers:
            if (changes := reader()) is not None:
                changes.close()
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.woken.set()

    def sizes(self) -> dict[str, int]:
        """Count those that wait and those that follow."""
        waiters = sum(map(len, self._waiters.values())) + sum(map(len, self._at_endpoints.values()))
        return {"waiters": waiters, "subscribers": len(self._readers)}

    async def wait_for(self, session_id: str, target: State) -> Session:
        """Wait until a session has reached a state, or passed it, and lives; for a terminal state, until it ended."""
        session = self._session(session_id)
        while session is None or not _has_reached(session, target):
            waiter = _Waiter(target)
            self._waiters.setdefault(session_id, []).append(waiter)
            ends = self._watch(session_id)
            try:
                await waiter.woken.wait()
            finally:
                ends()
                self._stop_waiting(session_id, waiter)
            if waiter.session is None:
                raise NotRunning(f"the dispatcher was left before {session_id} was {target}")
            session = waiter.session  # it may have left memory since
        return session

    def _session(self, session_id: str) -> Session | None:
        session = self._sequencer.engine.session(session_id)
        return self._elsewhere.session(session_id) if session is None and self._elsewhere is not None else session

    def _watch(self, session_id: str) -> Callable[[], None]:
        """Wake those that wait for a session by what others know of it, too. Returns a function that ends it."""
        if self._elsewhere is None:
            return _nothing
        return self._elsewhere.watch_session(session_id, partial(self._look_elsewhere, session_id))

    def _look_elsewhere(self, session_id: str) -> None:
        session = self._session(session_id)
        if session is not None:
            self._wake(session)

    def _wake(self, session: Session) -> None:
        for waiter in self._waiters.get(session.session_id, ()):
            if session.ended or RANK[session.state] >= RANK[waiter.target]:
                waiter.session = session
                waiter.woken.set()

    def _stop_waiting(self, session_id: str, waiter: _Waiter) -> None:
        waiters = self._waiters[session_id]
        waiters.remove(waiter)
        if not waiters:
            del self._waiters[session_id]

    async def wait_ready(self, uri: str) -> Endpoint:
        """Wait until an endpoint is ready."""
        plain = plain_uri(uri)
        while (endpoint := self._ready(uri)) is None:
            if self._closed:
                raise NotRunning(f"the dispatcher was left before {uri} was ready")
            woken = anyio.Event()
            waiting = self._at_endpoints.setdefault(plain, [])
            waiting.append(woken)
            ends = _nothing if self._elsewhere is None else self._elsewhere.watch_endpoint(uri, woken.set)
            try:
                await woken.wait()
            finally:
                ends()
                waiting.remove(woken)
                if not waiting:
                    self._at_endpoints.pop(plain, None)
        return endpoint

    def _ready(self, uri: str) -> Endpoint | None:
        endpoint = self._sequencer.engine.endpoint(uri)
        if (endpoint is None or not endpoint.ready) and self._elsewhere is not None:
            endpoint = self._elsewhere.endpoint(uri)
        return endpoint if endpoint is not None and endpoint.ready else None

    def changes(self) -> Changes:
        """Follow all changes from now on."""
        reader = Changes(self._backlog)
        self._readers.append(ref(reader, self._forget))
        return reader

    def _forget(self, reader: ref[Changes]) -> None:
        """Drop a reader. The list is replaced: a step may be iterating over it when the reader is collected."""
        self._readers = [other for other in self._readers if other is not reader]


def _nothing() -> None:
    """There is nothing to end."""


class _Waiter:
    """A task that waits for a state."""

    def __init__(self, target: State) -> None:
        self.target = target
        self.woken = anyio.Event()
        self.session: Session | None = None
        """The session, once it is there; None if the waiter was woken because nothing will come any more."""


def _has_reached(session: Session, target: State) -> bool:
    if session.ended and target not in TERMINAL:
        raise CallEnded(session)
    return session.ended if target in TERMINAL else RANK[session.state] >= RANK[target]


class Changes(AsyncIterator[Outcome]):
    """The changes that a reader has not read yet. A reader that is let go of follows no more."""

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._unread: deque[Outcome] = deque()
        self._filled = anyio.Event()
        self._lost = False
        self._closed = False

    def put(self, outcome: Outcome) -> None:
        """Add a change."""
        if len(self._unread) >= _UNREAD_LIMIT:
            self._lost = True  # from here on nothing more: a gap in the middle would go unnoticed
        if not self._lost:
            self._unread.append(outcome)
        self._filled.set()

    def close(self) -> None:
        """Nothing more will come."""
        self._closed = True
        self._filled.set()

    async def __anext__(self) -> Outcome:
        while not self._unread:
            if self._lost:
                raise Busy(
                    f"this reader fell behind by {_UNREAD_LIMIT} changes: look at calls.sessions(), and call changes() again"
                )
            if self._closed:
                raise StopAsyncIteration
            if self._filled.is_set():  # or another task waits for it
                self._filled = anyio.Event()
            with self._backlog.awaiting_events():
                await self._filled.wait()
        return self._unread.popleft()
