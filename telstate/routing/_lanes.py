"""Lanes: handlers of one session run one after another, those of different sessions at the same time.

A lane exists only while its session has work; an idle session owns no task, no queue and no lock. Lanes with work stand in
one line, and a pool of workers, as many as there are suspended handlers, takes them from it. A worker that finds more lanes
in line wakes one other before it runs a handler. So one worker runs all handlers that never wait, however many lanes become
ready in one tick, and a handler that hangs holds up only its own session.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Hashable
from contextvars import copy_context
from time import monotonic
from typing import Any, Protocol

import anyio
from anyio.abc import TaskGroup

from telstate.routing._backlog import Backlog
from telstate.routing._cancellation import current_task, wait_forgiving
from telstate.routing._gate import Gate
from telstate.routing._log import Log
from telstate.routing._new_event import WaitEvent, new_event

__all__ = ["Job", "JobRunner", "Lane", "Lanes"]

_IDLE_WORKERS = 64
"""So many workers wait for work; further ones end. Waking one costs a tenth of starting one."""
_SPARE_LANES = 64
_FAIRNESS = 64
"""After so many jobs without a pause a worker lets the event loop turn."""


class Job:
    """The handlers of one event."""

    __slots__ = ("event", "handlers", "letter", "outcome", "seq", "session")

    def __init__(self, seq: int, handlers: tuple[Any, ...], event: Any, session: Any, outcome: Any) -> None:
        self.seq: int = seq
        """Its number: see `Journal`."""
        self.letter: int = 0
        """The dead letter that this job tries again; 0 for none."""
        self.handlers: tuple[Any, ...] = handlers
        self.event: Any = event
        self.session: Any = session
        self.outcome: Any = outcome

    @property
    def caller(self) -> Any:
        """The caller on hold that is lost by its event, if one is."""
        return None if self.outcome is None else self.outcome.lost_caller


class JobRunner(Protocol):
    """Runs jobs for a lane."""

    def begin(self, lane: Lane, job: Job) -> Awaitable[None] | None:
        """Run the handlers of a job up to where one suspends. Return the rest to be awaited, if any.

        Neither raises anything but cancellation.
        """


class Lane:
    """The waiting jobs of one session, and the handler that runs now."""

    __slots__ = ("current", "handler", "jobs", "key", "named_slow", "scope", "since", "suspended", "task")

    def __init__(self) -> None:
        self.key: Hashable = None
        self.jobs: deque[Job] = deque()
        self.current: Job | None = None
        """The job that runs, or that was cut off."""
        self.scope: anyio.CancelScope | None = None
        """Around the running handler, if it is to be cancelled when its session ends."""
        self.handler: str | None = None
        """The name of the running handler, once it has suspended: before that nobody can ask."""
        self.since: float = 0.0
        """When it began, by the monotonic clock."""
        self.task: asyncio.Task[object] | None = None
        """The worker that runs it, on asyncio."""
        self.named_slow: bool = False
        """True if the log has named it as slow."""
        self.suspended: bool = False
        """True while its handler waits for something."""


class Lanes:
    """All lanes that have work.

    The backlog's `runnable` is always the number of jobs that wait in lanes which are not suspended. So a job counts when it
    is put in such a lane, and no more when it begins; `_suspend` takes out all that wait behind it, and puts them back.

    Args:
        runner: runs the jobs.
        backlog: counts them.
        done: learns of each job whose handlers have all run.
        limit: how many jobs may wait in one lane.
        gate: asked before a worker takes a lane; None if handlers may start at any time.
    """

    def __init__(
        self, runner: JobRunner, backlog: Backlog, done: Callable[[Job], None], limit: int, gate: Gate | None = None
    ) -> None:
        self._runner = runner
        self._backlog = backlog
        self._done = done
        self._limit = limit
        self._gate = gate
        self._group: TaskGroup | None = None
        self._context = copy_context()
        self._lanes: dict[Hashable, Lane] = {}
        self._spare: list[Lane] = []
        """Lanes without work, for reuse: making one costs as much as running a handler."""
        self._ready: deque[Lane] = deque()
        self._idle: list[WaitEvent] = []
        self._waking = False
        self._closing = False
        self.is_resting: bool = False
        """True once no job begins any more: see `rest`."""
        self._since_pause = 0
        self._log = Log()

    def open(self, group: TaskGroup) -> None:
        """Start working, in this task group. Jobs that were put before have waited for it."""
        self._group = group
        self._context = copy_context()
        if self._ready:
            self._wake()

    def put(self, key: Hashable, job: Job, *, force: bool = False) -> bool:
        """Queue a job in a lane; return False if the lane is full and the job is not forced in."""
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = self._spare.pop() if self._spare else Lane()
            lane.key = key
            self._ready.append(lane)
        elif len(lane.jobs) >= self._limit and not force:
            return False
        lane.jobs.append(job)
        backlog = self._backlog
        backlog.pending += 1
        if not lane.suspended:
            backlog.runnable += 1
        if not self._waking and self._group is not None:
            self._wake()
        return True

    # --- one at a time --------------------------------------------------------------------------------------------

    def hold(self, keys: Collection[Hashable]) -> dict[Hashable, Lane]:
        """Take lanes out of the line, before anybody works: no worker touches them until they are given back."""
        self._ready = deque(lane for lane in self._ready if lane.key not in keys)
        return {key: self._lanes[key] for key in keys}

    async def run_first(self, lane: Lane) -> None:
        """Run the first job of a lane that is held, as a worker does."""
        lane.task = current_task()
        self._backlog.runnable -= 1
        lane.current = job = lane.jobs.popleft()
        rest = self._runner.begin(lane, job)
        if rest is not None:
            await self._suspend(lane, rest)
        lane.current = lane.task = None
        self._backlog.pending -= 1
        self._done(job)
        if self._backlog.watched:
            self._backlog.relieve()

    def give_back(self, lane: Lane) -> None:
        """Put a lane that was held in line again, if it has work."""
        if not lane.jobs:
            del self._lanes[lane.key]
            return
        self._ready.append(lane)
        if not self._waking and self._group is not None:
            self._wake()

    # --- looking --------------------------------------------------------------------------------------------------

    def end_session(self, session_id: str) -> None:
        """Cancel the running handler of a session, if it is to live no longer than the session."""
        lane = self._lanes.get(session_id)
        if lane is not None and lane.scope is not None:
            lane.scope.cancel()

    def unfinished(self) -> list[Job]:
        """Return every job that waits, runs or was cut off; those of one lane in order."""
        return [
            job
            for lane in self._lanes.values()
            for job in (*((lane.current,) if lane.current is not None else ()), *lane.jobs)
        ]

    def __len__(self) -> int:
        return len(self._lanes)

    async def name_slow_handlers(self, slow_after: float) -> None:
        """Log each handler that runs for longer than `slow_after` seconds, once.

        Looking at all of them now and then costs less than a timeout around each.
        """
        while True:
            await anyio.sleep(slow_after / 2)
            now = monotonic()
            for lane in self._lanes.values():
                if lane.handler is not None and not lane.named_slow and now - lane.since >= slow_after:
                    lane.named_slow = True
                    facts = {"lane": str(lane.key), "seconds": round(now - lane.since, 1), "waiting": len(lane.jobs)}
                    self._log.warning("handler.slow", handler=lane.handler, **facts)

    def longest(self) -> tuple[str, float] | None:
        """Return the name of the handler that has run longest, and its seconds; None if none waits for anything."""
        running = [lane for lane in list(self._lanes.values()) if lane.handler is not None]
        first = min(running, key=lambda lane: lane.since, default=None)
        return None if first is None or first.handler is None else (first.handler, monotonic() - first.since)

    @property
    def running_handlers(self) -> int:
        """How many handlers wait for something."""
        return sum(lane.handler is not None for lane in list(self._lanes.values()))

    def depths(self) -> list[int]:
        """Return how many events wait or run in each lane that has any."""
        return [len(lane.jobs) + (lane.current is not None) for lane in list(self._lanes.values())]

    def rest(self) -> None:
        """Begin no job any more. What runs goes on, and what comes is kept: somebody else begins it."""
        self.is_resting = self._backlog.is_resting = True

    def running(self) -> list[Job]:
        """Return the jobs that have begun and not finished."""
        return [lane.current for lane in self._lanes.values() if lane.current is not None]

    @property
    def has_running(self) -> bool:
        """True while a handler runs. One that is held back at the gate does not."""
        return any(lane.handler is not None for lane in self._lanes.values())

    def close(self) -> None:
        """Let idle workers go; busy ones end when they find no more work."""
        self._closing = True
        while self._idle:
            self._idle.pop().set()

    def _wake(self) -> None:
        """Start or wake one more worker, unless one is on its way."""
        self._waking = True
        if self._idle:
            self._idle.pop().set()
        elif self._group is not None:
            # Not in the context of the task that brought an event: this worker will run handlers of other calls.
            self._context.copy().run(self._group.start_soon, self._work)

    async def _work(self) -> None:
        """Take lanes from the line as long as there are any, then wait for more."""
        task, backlog, gate = current_task(), self._backlog, self._gate
        begin, done = self._runner.begin, self._done
        lane: Lane | None
        job: Job | None
        while True:
            self._waking = False
            while self._ready and not self.is_resting:
                if gate is not None and not gate.is_open():
                    await self._wait_at(gate, task)
                    continue
                lane = self._ready.popleft()
                if self._ready and not self._waking:
                    self._wake()
                lane.task = task
                while lane.jobs:
                    backlog.runnable -= 1
                    lane.current = job = lane.jobs.popleft()
                    rest = begin(lane, job)
                    if rest is not None:
                        await self._suspend(lane, rest)
                    lane.current = None
                    backlog.pending -= 1
                    done(job)
                    if backlog.watched:
                        backlog.relieve()
                    self._since_pause += 1
                    if self._since_pause >= _FAIRNESS:
                        self._since_pause = 0
                        await wait_forgiving(anyio.lowlevel.checkpoint(), task)
                    if self.is_resting:
                        break
                if lane.jobs:
                    continue
                del self._lanes[lane.key]
                if len(self._spare) < _SPARE_LANES:
                    self._spare.append(lane)
            if self._closing or len(self._idle) >= _IDLE_WORKERS:
                return
            lane = job = rest = None  # a worker that waits must not keep what it did last
            woken = new_event()
            self._idle.append(woken)
            await wait_forgiving(woken.wait(), task)
            if not woken.is_set():
                self._idle.remove(woken)

    async def _wait_at(self, gate: Gate, task: asyncio.Task[object] | None) -> None:
        """Wait until work may begin. One worker waits for all lanes in line, and those that finish a handler meanwhile."""
        self._waking = True
        try:
            await gate.wait_open(task)
        finally:
            self._waking = False

    async def _suspend(self, lane: Lane, rest: Awaitable[None]) -> None:
        """Await a handler. What is behind it in its lane is not runnable meanwhile."""
        lane.suspended = True
        self._backlog.runnable -= len(lane.jobs)
        try:
            await rest
        finally:
            lane.suspended = False
            self._backlog.runnable += len(lane.jobs)
