"""One run of a dispatcher, from entering its block to leaving it: it makes the parts of the routing, opens and closes them."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from threading import get_ident
from types import TracebackType
from typing import Any, NamedTuple
from uuid import uuid4

import anyio
from anyio.abc import TaskGroup

from telstate.calls._settings import Settings
from telstate.errors import NotRunning
from telstate.routing._abilities import abilities_of
from telstate.routing._across import Across
from telstate.routing._action_client import ActionClient
from telstate.routing._action_server import CARRY_OUT, ActionServer
from telstate.routing._backlog import Backlog
from telstate.routing._call_control import CallControl
from telstate.routing._checkpoints import Checkpoints
from telstate.routing._dead_letters import DeadLetters
from telstate.routing._deliveries import Deliveries
from telstate.routing._delivery import Delivery
from telstate.routing._gate import Gate
from telstate.routing._handlers import HandlerTable
from telstate.routing._instruments import Instruments
from telstate.routing._interruption import Interruption
from telstate.routing._lanes import Job, Lanes
from telstate.routing._log import Log, report_repeated
from telstate.routing._memory_journal import MemoryJournal
from telstate.routing._observers import Observers
from telstate.routing._outbox import Outbox
from telstate.routing._ports import Clock, Control, Elsewhere, Instrument, Journal, Messenger
from telstate.routing._presence import Reconcile, Reconciler
from telstate.routing._recovery import Recovery
from telstate.routing._router import Router
from telstate.routing._runner import Runner
from telstate.routing._self_checks import SelfChecks
from telstate.routing._sequencer import Listener, Sequencer
from telstate.routing._tender import Tender
from telstate.routing._trial import Trial
from telstate.routing._vitals import Vitals, vitals_of
from telstate.routing._waiters import Waiters
from telstate.routing._wind_down import WindDown
from telstate.routing._work_log import WorkLog

__all__ = ["Run", "Setup"]

_CLOSE_WITHIN = 10.0
"""Seconds that a journal gets to close. One whose disk hangs is left alone then."""
_LOOK_EVERY = 0.005
_BURST = 500
"""So many events are stepped at most before handlers get a turn: all might be of one lane."""


class Setup(NamedTuple):
    """What a dispatcher was given: see `Dispatcher`."""

    router: Router
    journal: Journal | None
    control: Control | None
    settings: Settings | None
    clock: Clock
    reconcile: Reconcile | None
    lane_limit: int
    pending_limit: int
    max_deliveries: int
    slow_after: float
    drain: float
    calls_end_within: float
    stop_on_signals: bool
    log_transitions: bool
    gate: Callable[[], bool] | None
    elsewhere: Elsewhere | None = None
    notify: Messenger | None = None
    instruments: Sequence[Instrument] = ()


class Run:
    """The parts of a dispatcher. Each knows only those made before it.

    Args:
        calls: the dispatcher, as handlers get it.
        setup: what it was given.
    """

    def __init__(self, calls: Any, setup: Setup) -> None:
        self._setup = setup
        self.id: str = uuid4().hex
        """Names this run."""
        self._journal = journal = setup.journal or MemoryJournal()
        self._is_shared = abilities_of(journal).is_shared
        burst = max(1, min(_BURST, setup.lane_limit // 2))  # half a lane may wait for a turn when the other half comes
        self._interruption = Interruption()
        own = [(CARRY_OUT, ())] if setup.elsewhere is not None else []
        self._instruments = Instruments(setup.instruments, calls)
        registrations, around = [*setup.router.walk(), *own], self._instruments.around
        handlers = self._handlers = HandlerTable(registrations, calls, setup.clock, self._interruption, around)
        gate = Gate(setup.gate) if setup.gate is not None else None
        self.backlog = Backlog(setup.pending_limit, gate)
        work_log = self.work_log = WorkLog(journal, setup.clock)
        self._outbox = None if setup.notify is None else Outbox(journal, setup.notify, work_log, setup.clock)
        self.sequencer = Sequencer(journal, setup.clock, setup.settings, self.backlog, work_log, at_once=burst)
        runner = Runner(handlers.errors, work_log, self.backlog, self._interruption, gate)
        self.lanes = Lanes(runner, self.backlog, work_log.finished, setup.lane_limit, gate)
        self._deliveries = Deliveries(journal, setup.max_deliveries)
        self._trial = Trial(self._deliveries, self.lanes, work_log)
        patience = abilities_of(journal).patience
        self.checks = SelfChecks(
            setup.clock, self.sequencer, self.backlog, self.lanes, setup.slow_after, patience=patience
        )
        self.checkpoints = Checkpoints(journal, self.sequencer, work_log, self.lanes)
        self._tender = Tender(journal, self.sequencer, self.checkpoints)
        self.across = Across(self.sequencer, setup.elsewhere)
        self.waiters = Waiters(self.sequencer, self.backlog, setup.elsewhere)
        self.observers = Observers(self.sequencer)
        self.reconciler = Reconciler(setup.reconcile, self.sequencer, setup.clock, self._interruption)
        self._wind_down = WindDown(setup.calls_end_within, setup.clock, self.sequencer)
        elsewhere = setup.elsewhere
        self.client = None if elsewhere is None else ActionClient(self.sequencer, self.backlog, elsewhere)
        self.call_control = CallControl(setup.control, self.sequencer, self.reconciler, self.across, self.client)
        self.actions = ActionServer(self.sequencer, self.call_control)
        self.dead_letters = DeadLetters(
            journal, handlers, self.sequencer, work_log, self.lanes, self._deliveries, self._outbox
        )
        self._delivery = Delivery(
            handlers,
            self.lanes,
            work_log,
            self.waiters,
            self.reconciler,
            self.checkpoints,
            log_transitions=setup.log_transitions,
        )
        self.is_running = False
        """True from entering the block until it is left, and the journal closed."""
        self.accepts = False
        """True inside the block."""
        self.thread: int = 0
        """The thread of the event loop that it runs in."""
        self._start: anyio.CancelScope | None = None
        """While it starts."""
        self._started: anyio.Event | None = None
        self._draining = self._leaving = False
        self._calls_go_on = anyio.Event()
        """Set when the block's body goes on until the live calls have ended."""
        self._group: TaskGroup | None = None
        self._body: anyio.CancelScope | None = None
        self._hurry: anyio.CancelScope | None = None
        self._log = Log()

    # --- opening --------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Restore what the journal knows, and start.

        Raises:
            NotRunning: if it was shut down meanwhile.
        """
        self.is_running, self.thread, self._started = True, get_ident(), anyio.Event()
        self._start = anyio.CancelScope()
        try:
            await self._recover_within(self._start)
        except BaseException:
            self.is_running = False
            self._started.set()
            raise
        self._instruments.open(self.sequencer)
        self._setup.router.start()
        self._group = group = await anyio.create_task_group().__aenter__()
        self._hurry = anyio.CancelScope()
        self._body = anyio.CancelScope().__enter__()
        self.work_log.open()
        self._trial.open(group)
        self.call_control.open(group)
        for task in (
            self.sequencer.run,
            self.sequencer.follow,
            self.sequencer.run_timers,
            self.work_log.run,
            self.checkpoints.run,
            self._tender.run,
            self.dead_letters.run,
            self.checks.run,
            self.checks.watch_loop,
            self._watch_signals,
            self._watch_wind_down,
            self._watch_interruption,
        ):
            group.start_soon(task)
        group.start_soon(self.lanes.name_slow_handlers, self._setup.slow_after)
        if self._outbox is not None:
            group.start_soon(self._outbox.run)
        self.accepts = True
        self._started.set()
        self.reconciler.open(group)
        start, self._start = self._start, None
        if start.cancel_called:  # too late to cancel that, so the block's body is cancelled
            self.shut_down()

    async def _recover_within(self, scope: anyio.CancelScope) -> None:
        with scope:
            await self._recover()
        if scope.cancelled_caught:
            raise NotRunning("the dispatcher was shut down while it started")

    async def _recover(self) -> None:
        """Restore what the journal knows. Handlers of what was not done run again, once everything is known."""
        settings, journal = self._setup.settings, self._journal
        try:
            await journal.open((settings or Settings()).model_dump())
        except anyio.get_cancelled_exc_class():
            await self._let_go()  # it may be open all the same; where it raised, it let go itself
            raise
        try:
            await self._deliveries.load()
            stepped: Listener = self._delivery.stepped
            if self._outbox is not None:
                await self._outbox.load()
                stepped = self._outbox.before(stepped, lambda: self.sequencer.engine)
            recovery = Recovery(journal, self._handlers, self.work_log, self.lanes, self._deliveries, self._outbox)
            engine, seq = await recovery.run(settings, self.checkpoints, self._setup.clock.now())
            self.sequencer.open(engine, seq, stepped, asks=self.reconciler.asks)
            await self._trial.prepare()
        except BaseException:
            await self._let_go()
            raise

    async def _let_go(self) -> None:
        with anyio.move_on_after(_CLOSE_WITHIN, shield=True):
            await self._journal.aclose()

    # --- closing --------------------------------------------------------------------------------------------------

    async def close(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """Accept nothing more, let handlers finish until the drain's deadline, cancel what is left.

        Returns True if the block was left by `shut_down`.

        Raises:
            KeyboardInterrupt: if a handler raised one: then the program ends as on Ctrl-C.
        """
        assert self._body is not None  # noqa: S101
        cancelled, interrupted = anyio.get_cancelled_exc_class(), None
        try:
            if error is None and self._wind_down.begin():
                await self._wind_down.over()
        except cancelled as raised:
            interrupted = raised
        self.accepts, self._leaving = False, True
        stopped = bool(self._body.__exit__(kind, error, traceback))
        try:
            await self._leave()
        except cancelled:
            if error is None or isinstance(error, cancelled):  # the block's own exception goes on as it is
                raise
        finally:
            self.is_running = False
        if self._interruption.source is not None:
            raise KeyboardInterrupt(f"{self._interruption.source} raised it") from (None if stopped else error)
        if interrupted is not None:
            raise interrupted
        return stopped

    async def _leave(self) -> None:
        assert self._group is not None  # noqa: S101
        assert self._hurry is not None  # noqa: S101
        try:
            if not self._hurry.cancel_called:
                self._hurry.deadline = anyio.current_time() + self._setup.drain
            self._draining = self.backlog.is_leaving = True
            with self._hurry:
                await (self._let_finish() if self._is_shared else self.idle())
                if self._outbox is not None:
                    await self._outbox.drain()
        finally:
            self._draining = False
            cut_off = self.lanes.running()
            left = cut_off if self._is_shared else self.lanes.unfinished()
            self.lanes.close()
            self.backlog.close()
            self.call_control.close()
            self.reconciler.close()
            self._group.cancel_scope.cancel()
            self.waiters.close()
            self.observers.close()
            self._instruments.close()
            self.sequencer.close(_CLOSE_WITHIN)
            self.work_log.close(_CLOSE_WITHIN)
            try:
                await self._group.__aexit__(None, None, None)  # the block's own exception stays out of its group
            finally:
                self._setup.router.stop()
                if left:
                    self._log_unfinished(left)
                await self._close_journal(cut_off)
                report_repeated(all_of_them=True)

    async def _let_finish(self) -> None:
        """Wait for the handlers that run, and begin no others: events may come to a shared journal for ever.

        They are stepped meanwhile, because a handler that runs may wait for them. Whoever owns the journal next begins the rest.
        """
        self.lanes.rest()
        while self.lanes.has_running or self.sequencer.busy or self.call_control.busy:  # noqa: ASYNC110 - no one event tells
            await anyio.sleep(_LOOK_EVERY)

    async def _close_journal(self, cut_off: list[Job]) -> None:
        """Write what is left, and a last checkpoint. A disk that hangs must not keep the program from ending."""
        with anyio.move_on_after(_CLOSE_WITHIN, shield=True) as scope:
            await self.checkpoints.save(is_last=True)
            await self.work_log.flush()
            is_complete = self.checkpoints.has(self.sequencer.seq) and not self.work_log.unwritten
            await self._deliveries.end(self.sequencer.seq if is_complete else None, cut_off)
            await self._journal.aclose()
        if scope.cancelled_caught:
            hint = "the disk hangs; nothing that was acknowledged is lost"
            self._log.error("journal.not_closed", seconds=_CLOSE_WITHIN, hint=hint)

    def _log_unfinished(self, left: list[Job]) -> None:
        hint = "their handlers run again at the next start"
        if isinstance(self._journal, MemoryJournal):
            hint = "they are lost with this process: a SqliteJournal would keep them"
        elif self._is_shared:
            hint = "whoever owns the journal next runs their handlers"
        named = [
            job.outcome.event_id if job.outcome is not None else f"retirement of {job.session}" for job in left[:20]
        ]
        self._log.warning("dispatcher.left_unfinished", events=len(left), of=named, hint=hint)

    # --- stopping -------------------------------------------------------------------------------------------------

    def shut_down(self) -> None:
        """Cancel the start, or the block's body, and let handlers finish. A second call ends the draining.

        Where live calls may go on first, the first call only begins that, and the second one ends it.
        """
        if self._start is not None:
            self._start.cancel()
        elif self.is_open and self._wind_down.begin():
            self._calls_go_on.set()
        elif self._wind_down.has_begun and self.accepts:
            self._wind_down.cut_short()
        elif self._body is not None and self._hurry is not None:
            if self._body.cancel_called or self._leaving:
                self._hurry.cancel()
            self._end_body()

    async def _watch_signals(self) -> None:
        if not self._setup.stop_on_signals:
            return
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                if self._is_stuck():
                    # As if nobody listened: nothing acknowledged is lost by it.
                    signal.signal(number, signal.SIG_DFL)
                    signal.raise_signal(number)
                name = signal.Signals(number).name
                self._log.info("dispatcher.stopping", signal=name, unfinished=self.backlog.pending)
                self.shut_down()

    async def _watch_wind_down(self) -> None:
        await self._calls_go_on.wait()
        await self._wind_down.over()
        self._end_body()

    def _end_body(self) -> None:
        if self._body is not None:
            self.backlog.is_leaving = True
            self._body.cancel()

    async def _watch_interruption(self) -> None:
        await self._interruption.wait()
        hint = "it is a dead letter; the dispatcher is left, and its block raises KeyboardInterrupt"
        facts = {"handler": self._interruption.source, "unfinished": self.backlog.pending}
        self._log.error("dispatcher.interrupted", **facts, hint=hint)
        if not self._leaving:  # else this would end the draining
            self.shut_down()

    def _is_stuck(self) -> bool:
        """Return True if it was asked to stop, and either its body does not end or the draining was ended already."""
        if self._body is None or self._hurry is None or not self._body.cancel_called:
            return False
        return not self._leaving or self._hurry.cancel_called

    # --- where it stands ------------------------------------------------------------------------------------------

    def vitals(self) -> Vitals:
        """Return how it is, in numbers."""
        parts = (self.sequencer, self.backlog, self.lanes, self.work_log, self.checkpoints, self._outbox)
        return vitals_of(self._journal, *parts)

    @property
    def is_open(self) -> bool:
        """True inside the block, until it is asked to stop."""
        asked = self._wind_down.has_begun or self._body is None or self._body.cancel_called
        return self.accepts and not asked

    @property
    def is_stopping(self) -> bool:
        """True from when it is asked to stop until it has."""
        return self.is_running and (self.accepts or self._leaving) and not self.is_open

    @property
    def not_ready(self) -> str | None:
        """Why it should get no new calls now, in words; None if it may."""
        if self.is_open:
            return self.checks.not_ready
        if not self.is_running:
            return "it is not running"
        if self._wind_down.has_begun and self.accepts:
            return f"it is stopping: {self._wind_down.goes_on}, and new calls should go elsewhere"
        if self._leaving or self.accepts:
            return "it is stopping: its handlers finish, and new calls should go elsewhere"
        return "it is starting: it reads its journal"

    async def wait_open(self) -> None:
        """Wait while it starts, which can take long; then raise as `check_open`."""
        if self._started is not None and self.is_running and get_ident() == self.thread:
            await self._started.wait()
        self.check_open()

    def check_open(self) -> None:
        """Raise `NotRunning` where nothing is accepted. While it drains, handlers may still do what they need to finish."""
        if self.is_running and get_ident() != self.thread:
            raise NotRunning(
                "a dispatcher belongs to the event loop it was entered in, and this is another thread: call"
                " `anyio.from_thread.run(calls.receive, payload)`, or `asyncio.run_coroutine_threadsafe(…, loop)`"
            )
        if not self.accepts and not (self._draining and self.backlog.in_handler):
            raise NotRunning("the dispatcher accepts nothing: use it inside `async with Dispatcher(router) as calls:`")

    async def idle(self) -> None:
        """Wait until everything is stepped, all handlers have finished, and Daily has answered their requests."""
        while True:
            if not self.is_running:
                raise NotRunning("the dispatcher was not entered, or was left before all handlers had finished")
            if self.sequencer.busy or self.dead_letters.starting:
                await anyio.sleep(0.001)  # the disk is slower than that
            elif self.backlog.pending > self.backlog.left:
                await self.backlog.empty()
            elif self.call_control.busy:
                await self.call_control.idle()
            else:
                return
