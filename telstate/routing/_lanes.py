"""Lanes: the handlers of one session run one after another, those of different sessions at the same time.

A lane exists only while its session has something to run; an idle session owns no task, no queue and no lock. Lanes with
work stand in one line, and a pool of workers, as large as there are handlers that wait, takes them from it. A worker
that finds more lanes in line wakes one other before it runs a handler, so however many lanes become ready in one tick,
handlers that never wait are all run by one worker, and one that hangs holds up nobody but its own session.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

import anyio
from anyio.abc import TaskGroup

from telstate.errors import NotRunning
from telstate.routing._cancellation import current_task, is_cancelled

__all__ = ["Job", "Lane", "Lanes"]

_IDLE_WORKERS = 64
"""So many workers wait for work; further ones end. Waking one costs a tenth of starting one."""
_SPARE_LANES = 64
_TURNS = 100
"""More turns than it takes to run all that may wait for one."""
_FAIRNESS = 64
"""After so many jobs without a pause a worker lets the event loop breathe."""


class Job:
    """The handlers of one event."""

    __slots__ = ("calls", "event", "letter", "outcome", "seq", "session")

    def __init__(self, seq: int, calls: tuple[Any, ...], event: Any, session: Any, outcome: Any) -> None:
        self.seq = seq
        """Its number: see `Journal`."""
        self.letter = 0
        """The dead letter that is tried again by it; 0 for none."""
        self.calls = calls
        self.event = event
        self.session = session
        self.outcome = outcome


class Lane:
    """The waiting jobs of one session, and what runs now."""

    __slots__ = ("current", "handler", "jobs", "key", "scope", "since", "task", "told", "waits")

    def __init__(self) -> None:
        self.key: Hashable = None
        self.jobs: deque[Job] = deque()
        self.current: Job | None = None
        """The one that runs, or was cut off."""
        self.scope: anyio.CancelScope | None = None
        """Around the handler that runs, if it is to be cancelled with its session."""
        self.handler: str | None = None
        """The handler that runs, if it has waited for anything: before that nobody can ask."""
        self.since = 0.0
        """Since when, by the monotonic clock."""
        self.task: asyncio.Task[object] | None = None
        """The worker that runs it, on asyncio."""
        self.told = False
        """True if it was told to be slow."""
        self.waits = False
        """True while its handler waits for something."""


class Lanes:
    """All lanes that have work.

    Args:
        begin: runs the handlers of one job up to where one waits, and returns the rest to be awaited, if there is any; neither
            may raise anything but cancellation.
        done: told after each job that ran to its end.
        limit: how many jobs may wait in one lane.
    """

    def __init__(
        self, begin: Callable[[Lane, Job], Awaitable[None] | None], done: Callable[[Job], None], limit: int
    ) -> None:
        self._begin = begin
        self._done = done
        self._limit = limit
        self._group: TaskGroup | None = None
        self._context = copy_context()
        self._lanes: dict[Hashable, Lane] = {}
        self._spare: list[Lane] = []
        """Lanes without work, for whoever has some next: making one costs as much as running a handler."""
        self._ready: deque[Lane] = deque()
        self._idle: list[anyio.Event] = []
        self._waking = False
        self._closing = False
        self._since_pause = 0
        self._relief: anyio.Event | None = None
        self.runnable = 0
        """How many jobs wait for nothing but a turn of the event loop: no handler that waits stands before them."""
        self.pending = 0
        """How many jobs wait or run."""
        self.patient = 0
        """How many of them wait for an event that is still to come; who counts them among the pending may wait for ever."""

    def open(self, group: TaskGroup) -> None:
        """Workers run in this task group from now on; what was put before waited for them."""
        self._group = group
        self._context = copy_context()
        if self._ready:
            self._wake()

    def put(self, key: Hashable, job: Job, *, force: bool = False) -> bool:
        """Let a job wait its turn in a lane; False if the lane is full and it is not forced in."""
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = self._spare.pop() if self._spare else Lane()
            lane.key = key
            self._ready.append(lane)
        elif len(lane.jobs) >= self._limit and not force:
            return False
        lane.jobs.append(job)
        self.pending += 1
        if not lane.waits:
            self.runnable += 1
        if not self._waking and self._group is not None:
            self._wake()
        return True

    def find(self, key: Hashable) -> Lane | None:
        """The lane of a session, if it has work."""
        return self._lanes.get(key)

    def running(self) -> list[Lane]:
        """The lanes in which a handler runs now."""
        return [lane for lane in self._lanes.values() if lane.handler is not None]

    def unfinished(self) -> list[Job]:
        """All that waits or runs, or was cut off; of each lane in order."""
        return [
            job
            for lane in self._lanes.values()
            for job in (*((lane.current,) if lane.current is not None else ()), *lane.jobs)
        ]

    def __len__(self) -> int:
        return len(self._lanes)

    def are_above(self, limit: int) -> bool:
        """Tell whether `limit` jobs are pending, those left aside that wait for what is still to come."""
        return self.pending - self.patient >= limit

    async def below(self, limit: int) -> None:
        """Wait until they are no longer above `limit`."""
        while self.are_above(limit) and not self._closing:
            await self._wait_for_relief()

    async def empty(self) -> None:
        """Wait until no job waits or runs.

        Raises:
            NotRunning: if they are closed before that; what is left then is run by nobody.
        """
        while self.pending:
            if self._closing:
                raise NotRunning("the dispatcher was left before all handlers had run")
            await self._wait_for_relief()

    @contextmanager
    def patience(self) -> Iterator[None]:
        """Around a handler's waiting for an event: it needs `receive` to go on."""
        self.patient += 1
        self._relieve()
        try:
            yield
        finally:
            self.patient -= 1

    async def have_turns(self, limit: int) -> None:
        """Let the event loop turn until fewer than `limit` jobs wait only for that. No handler is waited for, and whoever is
        cancelled meanwhile is not held up: the workers may be no more by then."""
        for _ in range(_TURNS):
            if self.runnable < limit or self._closing or is_cancelled():
                return
            await anyio.lowlevel.cancel_shielded_checkpoint()

    async def _wait_for_relief(self) -> None:
        if self._relief is None:
            self._relief = anyio.Event()
        await self._relief.wait()

    def _relieve(self) -> None:
        if self._relief is not None:
            self._relief.set()
            self._relief = None

    def close(self) -> None:
        """Let idle workers go; those at work end when there is none left."""
        self._closing = True
        while self._idle:
            self._idle.pop().set()
        self._relieve()

    def _wake(self) -> None:
        """Get one more worker going, unless one is on its way."""
        self._waking = True
        if self._idle:
            self._idle.pop().set()
        elif self._group is not None:
            # Not in the context of whoever brought an event: the next handlers of this worker are other calls'.
            self._context.copy().run(self._group.start_soon, self._work)

    async def _work(self) -> None:
        """One worker: take lanes from the line as long as there are any, then wait for more."""
        task = current_task()
        lane: Lane | None
        job: Job | None
        while True:
            self._waking = False
            while self._ready:
                lane = self._ready.popleft()
                if self._ready and not self._waking:
                    self._wake()
                lane.task = task
                while lane.jobs:
                    self.runnable -= 1
                    lane.current = job = lane.jobs.popleft()
                    rest = self._begin(lane, job)
                    if rest is not None:
                        await self._wait_for(lane, rest)
                    lane.current = None
                    self.pending -= 1
                    self._done(job)
                    if self._relief is not None:
                        self._relieve()
                    self._since_pause += 1
                    if self._since_pause >= _FAIRNESS:
                        self._since_pause = 0
                        await anyio.lowlevel.checkpoint()
                del self._lanes[lane.key]
                if len(self._spare) < _SPARE_LANES:
                    self._spare.append(lane)
            if self._closing or len(self._idle) >= _IDLE_WORKERS:
                return
            lane = job = rest = None  # who waits for work must not keep what it did last
            woken = anyio.Event()
            self._idle.append(woken)
            await woken.wait()

    async def _wait_for(self, lane: Lane, rest: Awaitable[None]) -> None:
        """A handler waits, and what is behind it in its lane can only wait too."""
        lane.waits = True
        self.runnable -= len(lane.jobs)
        try:
            await rest
        finally:
            lane.waits = False
            self.runnable += len(lane.jobs)
