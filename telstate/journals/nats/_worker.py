"""A worker: it runs a router's handlers for its share of the partitions, with one ordinary dispatcher for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import anyio

from telstate.calls._session import Session
from telstate.calls._settings import Settings
from telstate.errors import DefinitionError, JournalError, NotRunning
from telstate.events import Presence
from telstate.journals.nats._connection import NatsConnection
from telstate.journals.nats._errors import NatsNotPermitted
from telstate.journals.nats._journal import NatsJournal
from telstate.journals.nats._lease import Lease
from telstate.journals.nats._level import level_of
from telstate.journals.nats._linking import Linking
from telstate.journals.nats._names import Names
from telstate.journals.nats._other_partitions import OtherPartitions
from telstate.journals.nats._ownership import Ownership
from telstate.journals.nats._partition import Partition
from telstate.journals.nats._showing import Showing
from telstate.journals.nats._streams import Streams, StreamSettings, check_settings, declare, find
from telstate.journals.nats._views import Views
from telstate.routing._dispatcher import Dispatcher
from telstate.routing._handlers import is_async
from telstate.routing._log import Log, failure_of
from telstate.routing._ports import Control, Instrument
from telstate.routing._presence import Reconcile
from telstate.routing._router import Router, check_router

__all__ = ["PartitionStatus", "Worker"]

_QUESTIONS_AT_ONCE = 16
_PAUSE = 1.0
"""Seconds before a new session begins."""
_LOOK_EVERY = 5.0
_BEHIND_AFTER = 15.0
"""Seconds after which a partition that is behind is a reason not to be ready. It is looked at every five."""
_SHORTEST_TTL = 1.0
_KNOW_WITHIN = 10.0


class PartitionStatus(NamedTuple):
    """Where one partition of a worker stands."""

    partition: int
    is_open: bool
    """False while it reads what happened before, or cannot be opened."""
    behind: int | None
    """How many of its events were not read yet, as far as its reader knows; None while it is not open."""
    seconds_behind: float
    """For how long it has not come to what was its last event some seconds ago, as the server says; 0 if it has."""
    pending: int
    """How many events wait for handlers, or run them."""
    problem: str | None
    """Why it cannot be opened, or should get no new calls, in words."""


class Worker:
    """Runs a router's handlers for a share of the partitions. Any number of workers share them, on any number of machines.

        worker = Worker(router, NatsConnection("nats://localhost"))
        await worker.run()

    Each partition has one owner at a time, who holds a lease. A worker that ends in order hands its partitions over, a few at a time, while the
    others go on; what runs may finish first, within `drain`. After a crash others take over when its lease has expired. While the server
    is away, no handler starts, and those that run go on. On asyncio only.

    Args:
        router: its handlers run.
        connection: how to reach the servers; not open yet. The worker opens further ones like it.
        names: of the app and its environment.
        streams: what to declare if the streams are missing. Where they exist, whatever is given here must be so.
        ttl: the lease's time to live in seconds. Others take over so long after a crash, and about a second. Handlers that
            take longer than half of it may overlap with their successors where a worker is cut off or frozen.
        drain: seconds that what runs has to finish when a partition is handed over.
        control, settings, lane_limit, pending_limit, max_deliveries, slow_after, log_transitions: as for `Dispatcher`, for each partition.
        reconcile: as for `Dispatcher`. All partitions together ask at most 16 questions at once.

    There is no `calls_end_within`: live calls need not end before a worker does, as another one goes on with them.
    """

    def __init__(
        self,
        router: Router,
        connection: NatsConnection,
        *,
        names: Names | None = None,
        streams: StreamSettings | None = None,
        ttl: float = 10.0,
        drain: float = 30.0,
        control: Control | None = None,
        settings: Settings | None = None,
        reconcile: Reconcile | None = None,
        lane_limit: int = 1000,
        pending_limit: int = 1000,
        max_deliveries: int = 5,
        slow_after: float = 5.0,
        log_transitions: bool = False,
    ) -> None:
        check_router(router)
        if ttl < _SHORTEST_TTL:
            raise ValueError(f"ttl= takes seconds from {_SHORTEST_TTL:g} on, not {ttl!r}")
        if reconcile is not None and not is_async(reconcile):
            raise DefinitionError(f"reconcile= takes an async function that returns a Presence, not {reconcile!r}")
        self._router = router
        self._connection = connection
        self._names = names or Names()
        self._declared = streams or StreamSettings()
        check_settings(self._declared)
        self._ttl = ttl
        self._reconcile = reconcile
        self._options: dict[str, Any] = {
            "drain": drain,
            "control": control,
            "settings": settings,
            "lane_limit": lane_limit,
            "pending_limit": pending_limit,
            "max_deliveries": max_deliveries,
            "slow_after": slow_after,
            "log_transitions": log_transitions,
        }
        self._instruments: list[Instrument] = []
        self._dispatcher(None, None, None)  # its arguments are checked now
        self._limiter = anyio.CapacityLimiter(_QUESTIONS_AT_ONCE)
        self._session: _Session | None = None
        self._stopping = asyncio.Event()
        self._is_interrupted = False
        self._is_running = False
        self._log = Log()

    # --- running --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until `shut_down`, or until it is cancelled. It waits for a server, and nothing that a server does ends it.

        Raises:
            DefinitionError: if the streams are declared otherwise than was said.
            NatsNotPermitted: if no server lets this user in, at the start.
            KeyboardInterrupt: if a handler raised one: then the program ends as on Ctrl-C.
        """
        self._is_running = True
        try:
            await self._until_stopped(self._prepare())
            while not self._stopping.is_set():
                await self._hold_session()
        finally:
            self._is_running = False
            with anyio.CancelScope(shield=True):
                await self._connection.aclose()
        if self._is_interrupted:
            raise KeyboardInterrupt("a handler raised it")

    async def _prepare(self) -> None:
        """Connect, and declare the streams."""
        while True:
            try:
                await self._connection.open()
                await declare(self._connection, self._names, self._declared)
            except NatsNotPermitted:
                raise
            except JournalError as error:
                self._log.warning("worker.no_server", error=str(error), hint="it is tried again until there is one")
                await asyncio.sleep(_PAUSE)
            else:
                return

    async def _until_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something that ends when this worker is asked to stop."""
        working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            with anyio.CancelScope(shield=True):
                await _cancelled(working, stopping)

    async def _hold_session(self) -> None:
        """Hold one lease, and run partitions for as long as it lasts."""
        try:
            streams = await declare(self._connection, self._names, self._declared)  # they may be gone
            self._session = _Session(self, self._connection, streams, self._ttl)
            await self._session.run(self._stopping)
        except Exception as error:
            self._log.failed("worker.session_failed", error, hint="a new one begins soon; no handler starts meanwhile")
        finally:
            self._session = None
        if not self._stopping.is_set():
            await self._until_stopped(asyncio.sleep(_PAUSE))

    def _dispatcher(
        self, journal: NatsJournal | None, lease: Lease | None, elsewhere: OtherPartitions | None
    ) -> Dispatcher:
        """Make the dispatcher of a partition."""
        gate = None if lease is None else lease.is_valid
        reconcile = self._ask if self._reconcile is not None else None
        calls = Dispatcher(
            self._router, journal=journal, gate=gate, reconcile=reconcile, elsewhere=elsewhere, **self._options
        )
        for one in self._instruments:
            calls.instrument(one)
        return calls

    async def _ask(self, session: Session) -> Presence:
        """Ask the program's function about a session, when its turn comes."""
        assert self._reconcile is not None  # noqa: S101
        async with self._limiter:
            return await self._reconcile(session)

    def instrument(self, instrument: Instrument) -> None:
        """Let an object measure or trace all partitions, as `Dispatcher.instrument`.

        Raises:
            DefinitionError: while it runs.
        """
        if self._is_running:
            raise DefinitionError("switch metrics and traces on before `run()`: what ran so far would be missing")
        self._instruments.append(instrument)

    # --- stopping -------------------------------------------------------------------------------------------------

    def shut_down(self) -> None:
        """Hand all partitions over, and end, as SIGTERM does. A second call cuts off the handlers that still run."""
        if self._stopping.is_set() and self._session is not None:
            self._session.cut_off()
        self._stopping.set()

    def interrupt(self) -> None:
        """A handler raised KeyboardInterrupt: end in order, and raise it."""
        self._is_interrupted = True
        if not self._stopping.is_set():
            self.shut_down()

    # --- where it stands ------------------------------------------------------------------------------------------

    @property
    def is_stopping(self) -> bool:
        """True from when it is asked to stop until it has."""
        return self._is_running and self._stopping.is_set()

    @property
    def not_ready(self) -> str | None:
        """Why it does not do its share now, in words; None if it does. What `/ready` shows."""
        if not self._is_running:
            return "it is not running"
        if self._stopping.is_set():
            return "it is stopping: others take its partitions"
        if self._session is None or not self._session.is_valid:
            return "it has no lease, so no handler starts: the server does not answer"
        problems = [f"partition {one.partition}: {problem}" for one in self.partitions() if (problem := _problem(one))]
        return "; ".join(problems[:3]) or None

    def partitions(self) -> list[PartitionStatus]:
        """Return where each partition of this worker stands."""
        session = self._session
        return [] if session is None else [session.status(one) for one in session.partitions]


def _problem(status: PartitionStatus) -> str | None:
    """Return what is wrong with a partition, in words; None if nothing is."""
    if status.problem is None and status.seconds_behind >= _BEHIND_AFTER:
        return f"it is {status.seconds_behind:.0f} seconds behind, with {status.behind or 0} events to read"
    return status.problem


async def _cancelled(*tasks: asyncio.Task[Any]) -> list[Any]:
    """Cancel tasks, and wait for their end; return what became of them."""
    for task in tasks:
        task.cancel()
    return await asyncio.gather(*tasks, return_exceptions=True)


class _Session:
    """What a worker does from the beginning of a lease to its end."""

    def __init__(self, worker: Worker, connection: NatsConnection, streams: Streams, ttl: float) -> None:
        self._worker = worker
        self._views = Views(connection, streams.names)
        self._connection = connection
        self._streams = streams
        self._dead = asyncio.Event()
        self._lease = Lease(connection.another, streams.names, ttl, self._dead.set)
        self._ownership = Ownership(
            connection,
            streams.names,
            streams.partitions,
            self._lease,
            taken=self._taken,
            surplus=self._surplus,
            lost=partial(self._lost, reason="another worker has taken it"),
        )
        self._running: dict[int, tuple[Partition, asyncio.Task[None]]] = {}
        self._log = Log()

    @property
    def is_valid(self) -> bool:
        """True while handlers may start."""
        return self._lease.is_valid()

    @property
    def partitions(self) -> list[Partition]:
        """Those that run here, by number."""
        return [self._running[number][0] for number in sorted(self._running)]

    async def run(self, stopping: asyncio.Event) -> None:
        """Run until the worker is to stop, or the lease is lost.

        Raises:
            JournalError: if the server does not answer at the start, or refuses.
        """
        await self._lease.begin()
        self._log.info("worker.started", lease=self._lease.id, ttl=self._lease.ttl)
        work = (self._views.run(), self._ownership.watch(), self._own(), self.look())
        tasks = [asyncio.ensure_future(one) for one in work]
        ends = [asyncio.ensure_future(one.wait()) for one in (stopping, self._dead)]
        try:
            await asyncio.wait([*tasks, *ends], return_when=asyncio.FIRST_COMPLETED)
            self._ownership.leave()
            if self._dead.is_set():
                for number in list(self._running):
                    self._lost(number, reason="this worker was declared dead")
            elif stopping.is_set():
                await self._all_given(tasks)
            for partition in self.partitions:
                partition.hand_over()
            await self._all_ended()
        finally:
            with anyio.CancelScope(shield=True):  # also where the worker is cancelled, nothing is left behind
                outcomes = await _cancelled(*tasks, *ends)
                await self._end()
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    async def _own(self) -> None:
        """Own partitions, until cancelled. What the others show is known before the first one opens, if that does not take long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_KNOW_WITHIN):
                await self._views.synced.wait()
        await self._ownership.run()

    async def _all_given(self, tasks: list[asyncio.Task[None]]) -> None:
        """Wait until the ownership has given all partitions to others, a few at a time; or until it, or another task, has failed."""
        ended = asyncio.ensure_future(self._all_ended())
        await asyncio.wait([ended, *tasks], return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()

    async def _all_ended(self) -> None:
        while self._running:
            await asyncio.wait([task for _, task in self._running.values()])
            await asyncio.sleep(0)  # for what follows from their end

    async def _end(self) -> None:
        """Cut off what still runs, and give the lease back."""
        self.cut_off()
        await self._all_ended()
        await self._lease.end()

    def cut_off(self) -> None:
        """Hand all partitions over without waiting for handlers."""
        for partition in self.partitions:
            partition.cut_off()

    # --- what the ownership decides -------------------------------------------------------------------------------

    def _taken(self, number: int) -> None:
        before = self._running.get(number)
        elsewhere = OtherPartitions(self._connection, self._streams, number, self._views, self._lease.id)
        made = Partition(
            self._connection,
            self._streams,
            number,
            lambda journal: self._worker._dispatcher(journal, self._lease, elsewhere),
            partial(self._show, number, elsewhere),
            self._worker.interrupt,
        )
        task = asyncio.ensure_future(self._run(made, None if before is None else before[1]))
        self._running[number] = made, task

    async def _show(self, number: int, elsewhere: OtherPartitions, calls: Dispatcher) -> None:
        """Show others what a partition knows, and link its sessions with what they show."""
        names = self._streams.names
        await asyncio.gather(
            self._again(number, lambda: Showing(self._connection, names, number, calls, self._views, self._lease.id)),
            self._again(number, lambda: Linking(number, calls, self._views, elsewhere)),
        )

    async def _again(self, number: int, make: Callable[[], Showing | Linking]) -> None:
        """Do something for a partition, and begin anew whenever it fails. Whatever goes wrong, its handlers run."""
        while True:
            try:
                await make().run()
            except NotRunning:
                return
            except Exception as error:
                hint = "others may know the sessions of this partition as they were, and it theirs; it starts over"
                self._log.error("views.failed", partition=number, **failure_of(error), hint=hint)
            await asyncio.sleep(_PAUSE)

    async def _run(self, partition: Partition, before: asyncio.Task[None] | None) -> None:
        try:
            await partition.run(before)
            if not partition.is_lost:
                await self._ownership.release(partition.number)
        except Exception as error:
            self._log.error("partition.failed", partition=partition.number, **failure_of(error))
        finally:
            if self._running[partition.number][0] is partition:
                del self._running[partition.number]

    def _surplus(self, number: int) -> None:
        if number in self._running:
            self._running[number][0].hand_over()

    def _lost(self, number: int, *, reason: str) -> None:
        if number in self._running:
            self._running[number][0].drop(reason)

    def status(self, partition: Partition) -> PartitionStatus:
        """Return where a partition stands."""
        calls = partition.calls
        if calls is None:
            return PartitionStatus(partition.number, False, None, partition.seconds_behind, 0, partition.problem)
        pending = calls._backlog.pending
        return PartitionStatus(
            partition.number, True, partition.behind, partition.seconds_behind, pending, calls.not_ready
        )

    async def look(self) -> None:
        """See how far each partition is, again and again, until cancelled.

        Raises:
            DefinitionError: if the streams are gone, which a lease cannot tell from a server without a leader.
        """
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            if not self._lease.is_valid():
                with suppress(JournalError):
                    await find(self._connection, self._streams.names)
                continue
            with suppress(JournalError):
                end = await level_of(self._connection, self._streams).last_seq()
                for partition in self.partitions:
                    with suppress(JournalError):
                        await partition.look(end)
