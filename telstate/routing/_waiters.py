"""Those who wait for a session or follow what changes. They are woken at the step, before any handler runs."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from weakref import ref

import anyio

from telstate.calls._address import plain_uri
from telstate.calls._endpoints import Endpoint
from telstate.calls._outcome import Outcome
from telstate.calls._session import Session
from telstate.calls._table import RANK, TERMINAL, State
from telstate.errors import Busy, CallEnded, NotRunning

__all__ = ["Waiters"]

_UNREAD_LIMIT = 10_000


class Waiters:
    """All who wait or follow.

    Args:
        find: finds a session by its id.
        find_endpoint: finds an endpoint by its URI.
    """

    def __init__(self, find: Callable[[str], Session | None], find_endpoint: Callable[[str], Endpoint | None]) -> None:
        self._find = find
        self._find_endpoint = find_endpoint
        self._waiters: dict[str, list[_Waiter]] = {}
        self._at_endpoints: dict[str, list[anyio.Event]] = {}
        self._closed = False
        self._readers: list[ref[Changes]] = []

    def tell(self, session: Session, outcome: Outcome) -> None:
        """A session was opened or rose."""
        for waiter in self._waiters.get(session.session_id, ()):
            if session.ended or RANK[session.state] >= RANK[waiter.target]:
                waiter.session = session
                waiter.woken.set()
        for reader in self._readers:
            if (changes := reader()) is not None:
                changes.put(outcome)

    def tell_ready(self, uri: str | None) -> None:
        """An endpoint became ready."""
        for woken in self._at_endpoints.get(plain_uri(uri or ""), ()):
            woken.set()

    def close(self) -> None:
        """Nothing will change any more."""
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
        """How many there are."""
        waiters = sum(map(len, self._waiters.values())) + sum(map(len, self._at_endpoints.values()))
        return {"waiters": waiters, "subscribers": len(self._readers)}

    async def wait_for(self, session_id: str, target: State) -> Session:
        """Wait until a session has come to a state, or passed it, and lives; for a terminal state, until it ended."""
        session = self._find(session_id)
        while session is None or not _has_arrived(session, target):
            waiter = _Waiter(target)
            self._waiters.setdefault(session_id, []).append(waiter)
            try:
                await waiter.woken.wait()
            finally:
                self._stop_waiting(session_id, waiter)
            if waiter.session is None:
                raise NotRunning(f"the dispatcher was closed before {session_id} came to {target}")
            session = waiter.session  # it may have left memory since
        return session

    def _stop_waiting(self, session_id: str, waiter: _Waiter) -> None:
        waiters = self._waiters[session_id]
        waiters.remove(waiter)
        if not waiters:
            del self._waiters[session_id]

    async def wait_ready(self, uri: str) -> Endpoint:
        """Wait until an endpoint is ready."""
        plain = plain_uri(uri)
        while (endpoint := self._find_endpoint(uri)) is None or not endpoint.ready:
            if self._closed:
                raise NotRunning(f"the dispatcher was closed before {uri} was ready")
            woken = anyio.Event()
            waiting = self._at_endpoints.setdefault(plain, [])
            waiting.append(woken)
            try:
                await woken.wait()
            finally:
                waiting.remove(woken)
                if not waiting:
                    self._at_endpoints.pop(plain, None)
        return endpoint

    def changes(self) -> Changes:
        """Follow what is told from now on, until it closes."""
        reader = Changes()
        self._readers.append(ref(reader, self._readers.remove))
        return reader


class _Waiter:
    """One who waits for a state."""

    def __init__(self, target: State) -> None:
        self.target = target
        self.woken = anyio.Event()
        self.session: Session | None = None
        """What it waited for; None if it is woken because nothing will come any more."""


def _has_arrived(session: Session, target: State) -> bool:
    if session.ended and target not in TERMINAL:
        raise CallEnded(session)
    return session.ended if target in TERMINAL else RANK[session.state] >= RANK[target]


class Changes(AsyncIterator[Outcome]):
    """One who follows, and what it has not read yet. Whoever lets go of it follows no more."""

    def __init__(self) -> None:
        self._unread: deque[Outcome] = deque()
        self._filled = anyio.Event()
        self._lost = False
        self._closed = False

    def put(self, outcome: Outcome) -> None:
        """One more change."""
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
                    f"this reader fell over {_UNREAD_LIMIT} changes behind: ask for the sessions, and follow anew"
                )
            if self._closed:
                raise StopAsyncIteration
            self._filled = anyio.Event()
            await self._filled.wait()
        return self._unread.popleft()
