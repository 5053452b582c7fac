"""The dispatcher: the one place where events become durable, are stepped, and find their handlers.

    async with Dispatcher(router, journal=JsonlJournal("calls.jsonl")) as calls:
        outcome = await calls.receive(payload)

The way of an event: parse, append to the journal (many at once), step in the order of the sequence numbers, tell those who
wait, put the handlers into the session's lane. `receive` returns before any handler runs. An append that fails changes
nothing and raises. Without a journal everything but the durability is the same.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import anyio
from anyio.abc import TaskGroup

from telstate.calls._endpoints import Endpoint
from telstate.calls._engine import Engine
from telstate.calls._outcome import Outcome, OutcomeKind, Unmatched
from telstate.calls._session import Session
from telstate.calls._settings import Settings
from telstate.calls._table import State
from telstate.errors import DefinitionError, JournalError, NotRunning, ParseError
from telstate.events import Dialect, DialinReady, Event, Presence, PresenceChecked, SessionsLinked, SettingsChanged
from telstate.events._masking import mask
from telstate.routing._call_control import CallControl
from telstate.routing._checkpoints import Checkpoints, Point, frozen
from telstate.routing._clock import SystemClock
from telstate.routing._dead_letters import DeadLetters
from telstate.routing._job_codec import Present, key_of, letter_of, number_of_retirement, read_letter, spell
from telstate.routing._keeper import Keeper
from telstate.routing._lanes import Job, Lanes
from telstate.routing._limits import Limits
from telstate.routing._log import of_session, text_of, traceback_of
from telstate.routing._payload import Payload, read_payload
from telstate.routing._plan import Plan
from telstate.routing._ports import Clock, Control, DeadLetter, Entry, Journal, KeptLetter
from telstate.routing._reconciler import ANSWER_WITHIN, Reconcile, Reconciler
from telstate.routing._recovery import Recovery
from telstate.routing._registration import is_async, member_of
from telstate.routing._router import Router
from telstate.routing._runner import IN_HANDLER, Runner
from telstate.routing._waiters import Waiters

__all__ = ["Dispatcher"]

_CLOSE_WITHIN = 10.0
"""Seconds that a journal gets to close; one whose disk hangs is left alone then."""
_PAUSE_AFTER = 32
"""A loop that only receives must let handlers run now and then; doing so each time costs five times the rest."""
_BURST = 500
"""So many events are taken in at most before handlers get a turn, however many bring them: they might all be of one lane."""


class Dispatcher(CallControl):
    """Runs a router's handlers for the events it receives. Use it as `async with`, on asyncio or trio.

    Args:
        router: whose handlers run.
        journal: keeps every event before it is stepped; None keeps nothing.
        control: how `stop`, `send_dtmf`, `transfer`, `refer` and `forward` reach Daily: a `RestControl` or a `ClientControl`.
        settings: how long and how much is remembered, and the deadlines; by default those of the journal, if it has any.
        clock: the time; for tests.
        reconcile: an async function that tells of a session whether it is still there (a `Presence`), by asking Daily. It is
            asked before a silence limit ends a session, and where events may have been missed. Only `GONE` ends one.
        lane_limit: how many events of one session may wait for their handlers; of more, the handlers do not run (a dead
            letter, `LaneFull`). Their effect on the state is never lost.
        pending_limit: how many events may wait for handlers in all, before `receive` waits.
        slow_after: seconds after which a running handler is named in the log.
        drain: seconds to let handlers finish when the block is left; what is not finished then is cancelled and not marked.
        stop_on_signals: leave the block at SIGTERM and SIGINT, as `shut_down` does; a second one ends the draining, or, if the body
            does not end (it may wait for a thread, as for a line from standard input), the process. In a program's main
            thread only.
        log_transitions: write a line for each transition, at level info.
    """

    def __init__(
        self,
        router: Router,
        *,
        journal: Journal | None = None,
        control: Control | None = None,
        settings: Settings | None = None,
        clock: Clock | None = None,
        reconcile: Reconcile | None = None,
        lane_limit: int = 1000,
        pending_limit: int = 10_000,
        slow_after: float = 5.0,
        drain: float = 30.0,
        stop_on_signals: bool = False,
        log_transitions: bool = False,
    ) -> None:
        if journal is not None and not hasattr(journal, "append"):
            raise TypeError(f"journal= takes a journal, such as telstate.journals.SqliteJournal({journal!r})")
        if reconcile is not None and not is_async(reconcile):
            raise DefinitionError(f"reconcile= takes an async function that returns a Presence, not {reconcile!r}")
        if slow_after <= 0:
            raise ValueError(f"slow_after is in seconds and above 0, not {slow_after!r}")
        if journal is not None and clock is not None and not clock.timers:
            raise ValueError("a recorded log needs no second journal: use the log's clock without one")
        self._clock = clock or SystemClock()
        super().__init__(control, self._clock.sleep, ANSWER_WITHIN if reconcile is not None else 0.0)
        self._router = router
        self._journal = journal
        self._settings = settings
        self._engine = Engine(settings)
        self._live = self._clock.timers
        self._pending_limit = pending_limit
        self._burst = max(1, min(_BURST, lane_limit // 2))  # half of it may wait for a turn when another half comes
        self._slow_after = slow_after
        self._drain = drain
        self._stop_on_signals = stop_on_signals
        self._log_transitions = log_transitions
        self._plan = Plan(Router())
        self._runner = Runner(self, self._bury)
        self._lanes = Lanes(self._runner.begin, self._done, lane_limit)
        self._keeper = (
            Keeper(
                journal,
                passed=self._limits_by,
                step=self._step,
                advance=self._advance,
                have_turns=self._have_turns,
                at_once=self._burst,
            )
            if journal is not None
            else None
        )
        self._followers = Waiters(self.session, self.endpoint)
        self._limits = Limits(self._engine, reconciles=False)
        self._reconciler = (
            Reconciler(reconcile, self.session, self.live, self._take, self._clock.sleep)
            if reconcile is not None
            else None
        )
        self._letters = (
            DeadLetters(journal, self._revive, self._put, self.receive, self._keeper.drop)
            if journal is not None and self._keeper is not None
            else None
        )
        self._checkpoints = Checkpoints(journal, self._point)
        self._id = ""
        self._latest = 0.0
        self._seq = 0
        """The last event that was stepped."""
        self._open = self._draining = self._leaving = self._left = False
        self._group: TaskGroup | None = None
        self._nap: anyio.CancelScope | None = None
        self._body: anyio.CancelScope | None = None
        self._hurry: anyio.CancelScope | None = None
        self._since_pause = 0

    # --- life -----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._group is not None:
            raise NotRunning("a dispatcher runs once: make another one, with the same router and journal if you like")
        self._plan = Plan(self._router)
        self._runner.open(self._plan.errors)
        if self._journal is not None:
            await self._recover(self._journal)
        else:
            self._id = f"memory-{uuid4()}"
        self._limits = Limits(self._engine, reconciles=self._reconciler is not None)
        self._latest = self._engine.now or 0.0
        self._router.start()
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._hurry = anyio.CancelScope()
        self._body = anyio.CancelScope().__enter__()
        self._lanes.open(self._group)
        for task in (self._run_timers, self._watch, self._keep, self._checkpoints.run, self._heed_signals):
            self._group.start_soon(task)
        self._open = True
        if self._reconciler is not None:
            self._reconciler.open(self._group)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:  # with bool alone, type checkers would think that the block may swallow any exception
        """Take nothing in any more, let handlers finish until the drain's deadline, cancel what is left."""
        assert self._body is not None  # noqa: S101
        self._open, self._leaving = False, True
        stopped = bool(self._body.__exit__(kind, error, traceback))
        cancelled = anyio.get_cancelled_exc_class()
        try:
            await self._leave()
        except cancelled:
            if error is None or isinstance(error, cancelled):  # the block's own exception goes on as it is
                raise
        return stopped

    async def _leave(self) -> None:
        assert self._group is not None  # noqa: S101
        assert self._hurry is not None  # noqa: S101
        try:
            if not self._hurry.cancel_called:
                self._hurry.deadline = anyio.current_time() + self._drain
            self._draining = True
            with self._hurry:
                await self.idle()
        finally:
            self._draining = False
            self._lanes.close()
            left = self._lanes.unfinished()
            self._group.cancel_scope.cancel()
            self._followers.close()
            if self._keeper is not None:
                self._keeper.close(_CLOSE_WITHIN)
            self._left = True
            try:
                await self._group.__aexit__(
                    None, None, None
                )  # without the block's own exception: that is to be in no group
            finally:
                await self._close_journal()
                self._router.stop()
            if left:
                self._tell_what_is_left(left)

    def shut_down(self) -> None:
        """End the block, as SIGTERM does: its body is cancelled and what it received is drained. Told again: drain no more.

        While the body ends, events are still taken in: what it hangs up then is told by them.
        """
        if self._body is not None and self._hurry is not None:
            if self._body.cancel_called or self._leaving:
                self._hurry.cancel()
            self._body.cancel()

    async def _heed_signals(self) -> None:
        if not self._stop_on_signals:
            return
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                if self._cannot_be_hurried():
                    # As if nobody had listened: nothing acknowledged is lost by it.
                    signal.signal(number, signal.SIG_DFL)
                    signal.raise_signal(number)
                name = signal.Signals(number).name
                self._log.info("dispatcher.stopping", signal=name, unfinished=self._lanes.pending)
                self.shut_down()

    def _cannot_be_hurried(self) -> bool:
        """True if it was told to end, and either its body does not (it may wait for a thread), or it was hurried already."""
        if self._body is None or self._hurry is None or not self._body.cancel_called:
            return False
        return not self._leaving or self._hurry.cancel_called

    def _tell_what_is_left(self, left: list[Job]) -> None:
        """Of what the drain cut off, say whose it was."""
        hint = (
            "their handlers run again at the next start"
            if self._journal is not None
            else "without a journal it is lost"
        )
        named = [
            job.outcome.event_id if job.outcome is not None else f"retirement of {job.session}" for job in left[:20]
        ]
        self._log.warning("dispatcher.left_unfinished", events=len(left), of=named, hint=hint)

    async def _close_journal(self) -> None:
        """Write what is late, and a last checkpoint. A disk that hangs must not keep the program from ending."""
        if self._journal is None or self._keeper is None:
            return
        with anyio.move_on_after(_CLOSE_WITHIN, shield=True) as scope:
            await self._checkpoints.save()
            await self._keeper.flush()
            await self._journal.aclose()
        if scope.cancelled_caught:
            hint = "the disk hangs; nothing that was acknowledged is lost"
            self._log.error("journal.not_closed", seconds=_CLOSE_WITHIN, hint=hint)

    async def _recover(self, journal: Journal) -> None:
        """Know again what the journal knows. Handlers of what was not done run again, once all is known."""
        try:
            await journal.open((self._settings or Settings()).model_dump())
        except anyio.get_cancelled_exc_class():
            await _let_go(journal)  # it may be opened all the same; where it raised, it let go itself
            raise
        try:
            recovery = Recovery(journal, self._plan, self._put, self._mark, self._runner.filter_failed)
            recovered = await recovery.run(self._settings, self._checkpoints, self._clock.now() or 0.0)
            self._engine, self._seq, unsaved = recovered
            self._checkpoints.stepped(unsaved)
            self._id = journal.id
            if self._letters is not None:
                await self._take_up_letters(self._letters)
        except BaseException:
            await _let_go(journal)
            raise

    async def _point(self) -> Point:
        """All there is, between two steps. What is done is no work any more, so what came of it must be kept by then."""
        marks: list[int] = []
        if self._keeper is not None:
            await self._keeper.settle()
            marks = self._keeper.unwritten
        work = [spell(job) for job in self._lanes.unfinished()]
        return Point(self._seq, frozen(self._engine.snapshot), work, marks)

    async def idle(self) -> None:
        """Wait until everything that was received has been stepped, all its handlers have run, and what they asked of Daily is
        answered; for tests and scripts.

        Raises:
            NotRunning: if the dispatcher is left before all handlers have run.
        """
        while self._is_keeping() or self._lanes.pending or self._asked:
            if self._is_keeping():
                await anyio.sleep(0.001)  # the disk is slower than that
            elif self._lanes.pending:
                await self._lanes.empty()
            else:
                await self._answers(next(iter(self._asked)))

    def _is_keeping(self) -> bool:
        return self._keeper is not None and self._keeper.busy

    @property
    def clock(self) -> Clock:
        """The clock that governs everything that waits."""
        return self._clock

    @property
    def dead_letters(self) -> DeadLetterBox:
        """What was given up: handlers that raised, events beyond a lane's limit, payloads that are no event."""
        return DeadLetterBox(self)

    @property
    def control(self) -> Control | None:
        """How it acts on calls, as it was given."""
        return self._control

    @property
    def is_open(self) -> bool:
        """True inside the `async with`, until it is told to end."""
        return self._open and self._body is not None and not self._body.cancel_called

    def _spawn(self, function: Callable[..., Coroutine[Any, Any, None]], *arguments: object) -> None:
        if self._group is None or self._left:
            raise NotRunning("the dispatcher was left")
        self._group.start_soon(function, *arguments)

    def _check_open(self) -> None:
        """While it drains, handlers may still do what they need to finish."""
        if not self._open and not (self._draining and IN_HANDLER.get()):
            raise NotRunning("the dispatcher takes nothing in: use it inside `async with Dispatcher(router) as calls:`")

    # --- taking in ------------------------------------------------------------------------------------------------

    async def receive(self, payload: Payload, dialect: Dialect | str | None = None) -> Outcome:
        """Take in one event: durable and stepped on return; its handlers run later, in their session's lane.

        Waits for handlers only above the pending limit, and never when called from inside one.

        Raises:
            ParseError: if it is no event; nothing has changed then.
            JournalError: if the journal could not keep it; nothing has changed then.
            NotRunning: outside the `async with`.
        """
        if not self._open:
            self._check_open()
        event, data, spelling, at = read_payload(payload, dialect, live=self._live)
        if not self._live:
            self._clock.follow(at)
        if self._lanes.pending >= self._pending_limit and not IN_HANDLER.get():
            await self._make_room()
        if self._keeper is not None:
            return await self._keeper.keep(event, Entry(self._now() or 0.0, spelling, data))
        self._since_pause += 1
        if self._since_pause < _PAUSE_AFTER and self._lanes.runnable < self._burst:
            return self._step_now(event)
        # Cancelled before the step, which is not undone; the pause after it, or later events would overtake this one.
        await anyio.lowlevel.checkpoint_if_cancelled()
        outcome = self._step_now(event)
        await self._pause()
        return outcome

    async def receive_many(
        self, payloads: Iterable[Payload], dialect: Dialect | str | None = None
    ) -> list[Outcome | ParseError]:
        """Take in many events, in this order, as a log or a broker has them: one commit and one wake-up for each 500 of them.

        Returns:
            For each payload its outcome. One that is no event holds up no other: its ParseError stands in its place.

        Raises:
            JournalError: if the journal could not keep them. The first `error.taken` of them were taken in before, in whole
                commits; of the rest nothing has changed.
            TypeError: if `payloads` is a single one.
            NotRunning: outside the `async with`, or if it was left meanwhile; then too the first `error.taken` were taken in.
            Whatever `payloads` raises while it is iterated: what it gave before, but for the last 500 at most, was taken in.
        """
        if isinstance(payloads, (bytes, bytearray, memoryview, str, Mapping, Event)):
            raise TypeError("receive_many takes several payloads: for a single one, await receive(payload)")
        answers: list[Outcome | ParseError] = []
        waiting = iter(payloads)
        # Without a journal there is no commit to share, and more at once would only leave the caches.
        size = self._burst if self._keeper is not None else min(self._burst, _PAUSE_AFTER)
        try:
            self._check_open()
            while chunk := list(islice(waiting, size)):
                self._check_open()
                if self._lanes.pending >= self._pending_limit and not IN_HANDLER.get():
                    await self._make_room()
                if self._keeper is not None:
                    answers += await self._keep_many(self._keeper, chunk, dialect)
                else:
                    await anyio.lowlevel.checkpoint_if_cancelled()
                    answers += [self._read_and_step(payload, dialect) for payload in chunk]
                    await self._pause()
        except (JournalError, NotRunning) as error:
            error.taken = len(answers)
            raise
        return answers

    async def _keep_many(
        self, keeper: Keeper, payloads: list[Payload], dialect: Dialect | str | None
    ) -> list[Outcome | ParseError]:
        events, entries, now = [], [], self._now() or 0.0
        answers: list[Outcome | ParseError | None] = []
        for payload in payloads:
            try:
                event, data, spelling, _ = read_payload(payload, dialect, live=self._live)
            except ParseError as error:
                answers.append(error)
            else:
                answers.append(None)
                events.append(event)
                entries.append(Entry(now, spelling, data))
        outcomes = iter(await keeper.keep_many(events, entries))
        return [answer or next(outcomes) for answer in answers]

    def _read_and_step(self, payload: Payload, dialect: Dialect | str | None) -> Outcome | ParseError:
        try:
            event, _, _, at = read_payload(payload, dialect, live=self._live)
        except ParseError as error:
            return error
        if not self._live:
            self._clock.follow(at)
        return self._step_now(event)

    async def _make_room(self) -> None:
        """Wait until handlers have caught up."""
        await self._lanes.below(self._pending_limit)
        self._check_open()

    async def _have_turns(self) -> None:
        await self._lanes.have_turns(self._burst)

    async def _pause(self) -> None:
        """Let handlers run, and whoever else waits for the event loop."""
        self._since_pause = 0
        await anyio.lowlevel.cancel_shielded_checkpoint()
        await self._lanes.have_turns(self._burst)

    async def link(self, one: str, other: str) -> Outcome:
        """Say that two sessions are legs of one call. One of them may still be unknown."""
        return await self.receive(SessionsLinked(session_id=one, other_session_id=other))

    def retire(self) -> None:
        """Let every ended session leave memory now, as if its retention had passed: at the end of a recorded log."""
        self._check_open()
        self._retire(self._engine.retire())

    def _step_now(self, event: Event) -> Outcome:
        """Without a journal: the numbers are counted here, and nothing waits."""
        now = self._clock.now()
        if now is not None:
            self._latest = now = now if now > self._latest else self._latest  # noqa: FURB136 - a call costs more
        if now is not None and now > self._limits.look_at:
            for limit in self._limits_by(now):
                self._step(limit, now, self._seq + 1)
        return self._step(event, now, self._seq + 1)

    # --- stepping -------------------------------------------------------------------------------------------------

    def _step(self, event: Event, now: float | None, seq: int) -> Outcome:
        """Step one event and let everything follow; nothing here waits, and nothing but a bug raises."""
        outcome = self._engine.receive(event, now)
        outcome.journal_id, outcome.seq = self._id, seq
        self._seq = seq
        session = outcome.session
        if session is not None and (outcome.moves or outcome.opened):
            self._tell(session, outcome)
        calls = self._plan.calls_for(outcome, self._runner.filter_failed)
        if calls:
            key = session.session_id if session is not None else key_of(event, None)
            job = Job(seq, calls, event, session, outcome)
            if not self._lanes.put(key, job):
                self._give_up(job, f"more events of {key} wait than its lane takes")
        else:
            self._mark(seq)
        if event.local:
            self._see_local(event, session)
        elif session is None and type(event) is DialinReady:
            self._followers.tell_ready(event.sip_endpoint)
        if outcome.departed:
            self._retire(outcome.departed)
        if self._keeper is not None:
            self._checkpoints.stepped()
        return outcome

    def _see_local(self, event: Event, session: Session | None) -> None:
        if self._reconciler is not None:
            self._reconciler.see(event, session)
        if type(event) is SettingsChanged:
            self._limits.changed()
            if self._nap is not None:
                self._nap.cancel()

    def _put(self, job: Job) -> None:
        """Work that was begun before: its lane takes it however full it is."""
        self._lanes.put(key_of(job.event, job.session), job, force=True)

    def _tell(self, session: Session, outcome: Outcome) -> None:
        """Wake those who wait for the session, and end what ends with it."""
        if self._log_transitions:
            for move in outcome.moves:
                self._log.info(
                    "session.moved",
                    source=str(move.source),
                    target=str(move.target),
                    cause=session.cause and str(session.cause),
                    **of_session(session),
                )
        self._followers.tell(session, outcome)
        if outcome.ended and (lane := self._lanes.find(session.session_id)) is not None and lane.scope is not None:
            lane.scope.cancel()

    def _retire(self, departed: tuple[Session | Unmatched, ...]) -> None:
        """The final word on sessions that left memory."""
        for gone in departed:
            if isinstance(gone, Session):
                job = Job(number_of_retirement(gone), self._plan.retired, None, gone, None)
                if not job.calls:
                    self._mark(job.seq)
                elif not self._lanes.put(gone.session_id, job):
                    self._give_up(job, f"on_retired of {gone.session_id} found its lane full")

    def _done(self, job: Job) -> None:
        """All handlers of it have run."""
        if self._keeper is None:
            return
        if job.letter:
            self._keeper.drop(job.letter)  # if its handlers failed again, there is a new one
        else:
            self._keeper.mark(job.seq)

    def _mark(self, seq: int) -> None:
        if self._keeper is not None:
            self._keeper.mark(seq)

    def _give_up(self, job: Job, detail: str) -> None:
        """An event's handlers will not run: a dead letter, never silence."""
        event_id = job.outcome.event_id if job.outcome is not None else None
        self._log.error("handlers.dead_letter", event_id=event_id, reason="LaneFull", detail=detail)
        if self._keeper is not None:
            self._keeper.bury(letter_of(job, "LaneFull", detail, self._clock.now() or 0.0))
            self._mark(job.seq)

    def _bury(self, job: Job, handler: str, error: Exception) -> None:
        """A handler raised: its event is done, but somebody should look at it."""
        if self._keeper is not None:
            at = self._clock.now() or 0.0
            self._keeper.bury(letter_of(job, type(error).__name__, text_of(error), at, handler))

    async def _watch(self) -> None:
        """Now and then: name slow handlers, and write the marks that no commit took along."""
        while True:
            await anyio.sleep(self._slow_after / 2)
            self._runner.name_slow_ones(self._lanes, self._slow_after)
            if self._keeper is not None and not self._keeper.busy:
                await self._keeper.flush()
            if self._letters is not None:
                await self._take_up_letters(self._letters)

    async def _take_up_letters(self, letters: DeadLetters) -> None:
        try:
            await letters.take_up()
        except Exception as error:
            hint = "they are looked for again soon"
            self._log.error("letters.failed", exception=traceback_of(error), hint=hint)

    async def _keep(self) -> None:
        if self._keeper is not None:
            await self._keeper.run()

    def _revive(self, letter: DeadLetter) -> Job:
        return read_letter(letter, Present(self._engine, self._plan, self._id))

    def _now(self) -> float | None:
        """The clock's time, but never less than was told or stepped with: in a journal and in memory it must be the same."""
        now = self._clock.now()
        if now is None:
            return None
        self._latest = max(self._latest, now)
        return self._latest

    # --- time -----------------------------------------------------------------------------------------------------

    def _limits_by(self, now: float, alone: bool = False) -> list[Event]:
        """The limits that passed before `now`, or, if no event comes that would win over them, by `now`."""
        if not self._live:
            return []
        return self._limits.passed(now) if alone else self._limits.before(now)

    async def _run_timers(self) -> None:
        """Apply limits when they are due, and let sessions go when their retention has passed."""
        while self._live:
            now = self._now() or 0.0
            wait = self._limits.wait(now)
            if wait <= 0:
                await self._pass(now)
            else:
                with anyio.CancelScope() as self._nap:
                    await self._clock.sleep(wait)

    async def _pass(self, now: float) -> None:
        try:
            if self._keeper is not None:
                await self._keeper.pass_time(now)
            else:
                for limit in self._limits.passed(now):
                    await self._take(limit)
                self._advance(now)
        except JournalError as error:
            self._log.error("journal.limit_failed", error=str(error), hint="it is tried again in a second")
            await self._clock.sleep(1.0)

    def _advance(self, now: float) -> None:
        self._retire(self._engine.advance(now))

    async def _take(self, *events: Event) -> None:
        """Take in events of our own: kept like any other, so that a replay sees them at their place."""
        now = self._now()
        if self._keeper is not None:
            await self._keeper.keep_local(events, now or 0.0)
            return
        for event in events:
            self._step(event, now, self._seq + 1)

    # --- dead letters ---------------------------------------------------------------------------------------------

    async def add_dead_letter(self, payload: bytes, error: ParseError, dialect: Dialect | str) -> None:
        """Keep what is no event as a dead letter, on the disk on return: for sources that must not answer no, as webhooks.

        `telstate dead retry` has it read again, by a later version. Without a journal it is only told in the log.

        Raises:
            JournalError: if it could not be kept.
            NotRunning: outside the `async with`.
        """
        self._check_open()
        if self._keeper is not None:
            at = self._now() or 0.0
            letter = DeadLetter(0, type(error).__name__, None, text_of(error), at, str(dialect), payload)
            await self._keeper.bury_now(letter)
        # Not what came: it may be anything, and somebody's number.
        facts = {"field": mask(error.field)[:100], "expected": mask(error.expected)[:200], "size": len(payload)}
        kept = self._keeper is not None
        self._log.error("payload.dead_letter", dialect=str(dialect), kept=kept, **facts)

    def _journalled(self) -> Journal:
        self._check_open()
        if self._journal is None:
            raise JournalError("without a journal nothing is kept, dead letters neither: give the Dispatcher a journal")
        return self._journal

    async def report_gone(self, session_id: str) -> None:
        """Record that Daily knows a session no more. It ends, unless it is heard of meanwhile."""
        for presence in (Presence.UNKNOWN, Presence.GONE):  # an answer counts if it was asked for
            await self.receive(PresenceChecked(session_id=session_id, presence=presence))

    # --- asking ---------------------------------------------------------------------------------------------------

    def session(self, session_id: str) -> Session | None:
        """Find a session: live, or ended and within retention."""
        return self._engine.session(session_id)

    def legs(self, any_id: str) -> list[Session]:
        """Find every leg of a call, by a session id or a SIP Call-ID."""
        return self._engine.legs(any_id)

    def sessions(self) -> list[Session]:
        """Every known session, in order of first sight: live, or ended and within retention."""
        return list(self._engine.sessions())

    def endpoint(self, uri: str) -> Endpoint | None:
        """Find a SIP endpoint."""
        return self._engine.endpoint(uri)

    def live(self) -> list[Session]:
        """Every session that has not ended."""
        return self._engine.live()

    @property
    def counts(self) -> dict[OutcomeKind, int]:
        """How many events had which outcome."""
        return dict(self._engine.counts)

    def sizes(self) -> dict[str, int]:
        """How much is remembered, waits and runs."""
        return {
            **self._engine.sizes(),
            "lanes": len(self._lanes),
            "pending": self._lanes.pending,
            **self._followers.sizes(),
        }

    def awaiting_events(self) -> AbstractContextManager[None]:
        """Around what a handler waits for that comes by events, as `wait_for` does by itself.

        At the pending limit `receive` waits for handlers; a handler that waits for an event must not be among them.
        """
        return self._lanes.patience() if IN_HANDLER.get() else nullcontext()

    @contextmanager
    def as_handler(self) -> Iterator[None]:
        """Count what runs inside as a handler, as a dialer's work does.

        `receive` then never waits at the pending limit, and still takes events in while the dispatcher drains.
        """
        token = IN_HANDLER.set(True)
        try:
            yield
        finally:
            IN_HANDLER.reset(token)

    async def wait_for(self, session_id: str, state: State | str, timeout: float | None = None) -> Session:  # noqa: ASYNC109
        """Wait until a session has come to a state, or passed it, and lives; for a terminal state, until it ended.

        It wakes at the step, before any handler. An id that is not known yet is waited for.

        Args:
            session_id: the session.
            state: where it is to come.
            timeout: seconds to wait at most.

        Raises:
            CallEnded: if it ended before.
            TimeoutError: if the time passed.
            DefinitionError: if there is no such state.
        """
        self._check_open()
        target = State(member_of(State, str(state), "state"))
        with self._clock.move_on_after(timeout), self.awaiting_events():
            return await self._followers.wait_for(session_id, target)
        raise TimeoutError(f"{session_id} did not come to {target} within {timeout:g} seconds")

    async def wait_ready(self, sip_endpoint: str, timeout: float | None = None) -> Endpoint:  # noqa: ASYNC109
        """Wait until a SIP endpoint is ready, that is, may be dialled or have a waiting caller forwarded to it.

        Args:
            sip_endpoint: its URI, with or without `sip:`, as the room's `sip_uri` tells it.
            timeout: seconds to wait at most.

        Raises:
            TimeoutError: if the time passed.
        """
        self._check_open()
        with self._clock.move_on_after(timeout), self.awaiting_events():
            return await self._followers.wait_ready(sip_endpoint)
        raise TimeoutError(f"{sip_endpoint} was not ready within {timeout:g} seconds: is somebody in its room?")

    def changes(self) -> AsyncIterator[Outcome]:
        """Follow what changes: the outcome of every event that opened a session or let one rise, from this call on.

        Raises:
            Busy: if the reader lags by more than 10 000 changes; what it missed it can ask for.
        """
        self._check_open()
        return self._followers.changes()


async def _let_go(journal: Journal) -> None:
    with anyio.move_on_after(_CLOSE_WITHIN, shield=True):
        await journal.aclose()


class DeadLetterBox:
    """The dead letters of a dispatcher's journal."""

    def __init__(self, calls: Dispatcher) -> None:
        self._calls = calls

    async def list(self) -> list[KeptLetter]:
        """Return the dead letters that were not dropped.

        Raises:
            JournalError: without a journal, or if it cannot be read.
        """
        journal = self._calls._journalled()
        if self._calls._keeper is not None:
            await self._calls._keeper.flush()
        return [kept async for kept in journal.dead_letters()]

    async def retry(self, *numbers: int) -> None:
        """Try dead letters again, now. One that fails again is a new letter. Raises as `list`."""
        await self._calls._journalled().request_retry(numbers)
        if self._calls._letters is not None:
            await self._calls._letters.take_up()

    async def drop(self, *numbers: int) -> None:
        """Forget dead letters. Raises as `list`."""
        await self._calls._journalled().drop_dead_letters(numbers)
