"""The dispatcher: the one place where events become durable, are stepped, and find their handlers.

    async with Dispatcher(router, journal=JsonlJournal("calls.jsonl")) as calls:
        outcome = await calls.receive(payload)

The way of an event: parse, append to the journal (many at once), step in the order of the sequence numbers, tell those who
wait, put the handlers into the session's lane. `receive` returns before any handler runs. An append that fails changes
nothing and raises. Without a journal everything but the durability is the same.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Hashable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import anyio
import structlog
from anyio.abc import TaskGroup

from telstate.calls.endpoints import Endpoint, scope_of
from telstate.calls.engine import Engine
from telstate.calls.outcome import Outcome, OutcomeKind, Unmatched
from telstate.calls.session import Session
from telstate.calls.settings import Settings
from telstate.calls.table import RANK, TERMINAL, State
from telstate.errors import Busy, CallEnded, Closed, JournalError, ParseError
from telstate.events import Dialect, Event, SessionsLinked, encode, parse, read
from telstate.routing.clock import SystemClock
from telstate.routing.lanes import Job, Lane, Lanes, is_cancelled
from telstate.routing.plan import Call, Plan
from telstate.routing.ports import Clock, DeadLetter, Entry, Journal
from telstate.routing.router import Router

__all__ = ["Dispatcher"]

Payload = bytes | bytearray | memoryview | str | Mapping[str, Any] | Event

_INSIDE: ContextVar[bool] = ContextVar("telstate_inside_a_handler", default=False)
_CHANGES_LIMIT = 10_000
_PAUSE_AFTER = 32
"""A loop that only receives must let handlers run now and then; doing so each time costs five times the rest."""


class _Waiting:
    """One `receive` that waits for its commit."""

    __slots__ = ("done", "entry", "error", "event", "outcome")

    def __init__(self, entry: Entry, event: Event) -> None:
        self.entry = entry
        self.event = event
        self.done = anyio.Event()
        self.outcome: Outcome | None = None
        self.error: Exception | None = None


class Dispatcher:
    """Runs a router's handlers for the events it receives. Use it as `async with`, on asyncio or trio.

    Args:
        router: whose handlers run.
        journal: keeps every event before it is stepped; None keeps nothing.
        settings: how long and how much is remembered, and the deadlines.
        clock: the time; for tests.
        lane_limit: how many events of one session may wait for their handlers; of more, the handlers do not run (a dead
            letter, `LaneFull`). Their effect on the state is never lost.
        pending_limit: how many events may wait for handlers in all, before `receive` waits (and `receive_nowait` raises).
        slow_after: seconds after which a running handler is named in the log.
        drain: seconds to let handlers finish when the block is left; what is not finished then is cancelled and not marked.
        log_transitions: write a line for each transition, at level info.
    """

    def __init__(
        self,
        router: Router,
        *,
        journal: Journal | None = None,
        settings: Settings | None = None,
        clock: Clock | None = None,
        lane_limit: int = 1000,
        pending_limit: int = 10_000,
        slow_after: float = 5.0,
        drain: float = 30.0,
        log_transitions: bool = False,
    ) -> None:
        self._router = router
        self._journal = journal
        self._settings = settings
        self._engine = Engine(settings)
        self._clock = clock or SystemClock()
        self._pending_limit = pending_limit
        self._slow_after = slow_after
        self._drain = drain
        self._log_transitions = log_transitions
        self._plan = Plan(Router())
        self._lanes = Lanes(self._run, self._finished, lane_limit)
        self._id = ""
        self._seq = 0
        self._open = False
        self._group: TaskGroup | None = None
        self._inbox: deque[_Waiting] = deque()
        self._inbox_filled = anyio.Event()
        self._committing = False
        self._marks: list[int] = []
        self._letters: list[DeadLetter] = []
        self._timer_wake = anyio.Event()
        self._sleeping_until = math.inf
        self._limit_at = -math.inf
        self._shortest = 0.0
        self._since_pause = 0
        self._waiters: dict[str, list[tuple[State, anyio.Event]]] = {}
        self._subscribers: list[_Subscriber] = []
        self._log = structlog.get_logger("telstate")

    # --- life -----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._group is not None:
            raise Closed("a dispatcher runs once: make another one, with the same router and journal if you like")
        self._plan = Plan(self._router)
        if self._journal is not None:
            await self._recover(self._journal)
        self._shortest = _shortest_limit(self._engine.settings)
        self._id = self._journal.id if self._journal is not None else f"memory-{uuid4()}"
        self._router.start()
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._lanes.open(self._group)
        if self._clock.timers:
            self._group.start_soon(self._run_timers)
        self._group.start_soon(self._watch_slow_handlers)
        if self._journal is not None:
            self._group.start_soon(self._run_commits)
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Take nothing in any more, let handlers finish until the drain's deadline, cancel what is left."""
        assert self._group is not None  # noqa: S101
        self._open = False
        try:
            with anyio.move_on_after(self._drain):
                await self.idle()
        finally:
            self._lanes.close()
            left = self._lanes.pending
            self._group.cancel_scope.cancel()
            for waiting in self._inbox:  # the journal hangs: their events were not kept
                waiting.error = Closed("the dispatcher was closed before the journal had the event")
                waiting.done.set()
            self._inbox.clear()
            for subscriber in self._subscribers:
                subscriber.close()
            await self._group.__aexit__(None, None, None)  # the block's own exception goes on as it is, in no group
            if left:
                self._log.warning(
                    "dispatcher.left_unfinished", events=left, hint="their handlers run again at the next start"
                )
            if self._journal is not None:
                with anyio.CancelScope(shield=True):
                    await self._flush()
                    await self._journal.aclose()
            self._router.stop()

    async def _recover(self, journal: Journal) -> None:
        """State is the fold of the journal. The handlers of what was not marked as done run again, once all is known.

        Sessions that left memory in the course of it were told to `on_retired` before, and are not told again.
        """
        await journal.open(self._engine.settings.model_dump())
        try:
            if self._settings is None and journal.settings is not None:
                self._engine = Engine(Settings.model_validate(journal.settings))
            async for record in journal.read():
                outcome = self._engine.receive(parse(record.payload, record.dialect), record.at)
                outcome.event_id = f"{journal.id}:{record.seq}"
                outcome.redelivered = not record.done
                if outcome.redelivered:
                    self._call_handlers(outcome, record.seq, force=True)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await journal.aclose()
            raise

    async def idle(self) -> None:
        """Wait until everything that was received has been stepped and all its handlers have run; for tests and scripts."""
        while self._committing or self._inbox or self._lanes.pending:
            if self._committing or self._inbox:
                await anyio.sleep(0.001)  # the disk is slower than that
            else:
                await self._lanes.empty()

    def _check_open(self) -> None:
        if not self._open:
            raise Closed("the dispatcher takes nothing in: use it inside `async with Dispatcher(router) as calls:`")

    # --- taking in ------------------------------------------------------------------------------------------------

    async def receive(self, payload: Payload, dialect: Dialect | str | None = None) -> Outcome:
        """Take in one event: durable and stepped on return; its handlers run later, in their session's lane.

        Waits for handlers only above the pending limit, and never when called from inside one.

        Raises:
            ParseError: if it is no event; nothing has changed then.
            JournalError: if the journal could not keep it; nothing has changed then.
            Closed: outside the `async with`.
        """
        self._check_open()
        event, data, spelling, at = _read(payload, dialect)
        self._clock.follow(at)
        if self._lanes.pending >= self._pending_limit and not _INSIDE.get():
            await self._lanes.below(self._pending_limit)
            self._check_open()
        if self._journal is None:
            outcome = self._step_now(event)
            self._since_pause += 1
            if self._since_pause >= _PAUSE_AFTER:
                self._since_pause = 0
                await anyio.lowlevel.cancel_shielded_checkpoint()  # what is stepped is not undone by a cancellation
            return outcome
        waiting = _Waiting(Entry(self._clock.now() or 0.0, spelling, data), event)
        self._inbox.append(waiting)
        self._inbox_filled.set()
        await waiting.done.wait()
        if waiting.error is not None:
            raise JournalError(
                f"the journal could not keep the event, so it was not taken in: {waiting.error}"
            ) from waiting.error
        assert waiting.outcome is not None  # noqa: S101
        return waiting.outcome

    def receive_nowait(self, payload: Payload, dialect: Dialect | str | None = None) -> Outcome:
        """Take in one event at once, or not at all. Only without a journal: durability takes time.

        Raises:
            Busy: above the pending limit, or with a journal.
            ParseError, Closed: as `receive`.
        """
        self._check_open()
        if self._journal is not None:
            raise Busy("an event is taken in only after the journal has it: await receive()")
        event, _, _, at = _read(payload, dialect)
        self._clock.follow(at)
        if self._lanes.pending >= self._pending_limit:
            raise Busy(f"{self._lanes.pending} events wait for their handlers: try again later")
        return self._step_now(event)

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
        for limit in self._limits_before(now) if now is not None else ():
            self._seq += 1
            self._step(limit, now, self._seq)
        self._seq += 1
        return self._step(event, now, self._seq)

    async def _run_commits(self) -> None:
        """With a journal: append whatever came since the last append, in one go, then step it in its order."""
        while True:
            await self._inbox_filled.wait()
            self._inbox_filled = anyio.Event()
            batch = list(self._inbox)
            self._inbox.clear()
            if not batch:
                continue
            self._committing = True
            with anyio.CancelScope(shield=True):  # a batch is appended and stepped, or neither
                await self._commit(batch)
            self._committing = False

    async def _commit(self, batch: list[_Waiting]) -> None:
        assert self._journal is not None  # noqa: S101
        limits = self._limits_before(batch[0].entry.at)
        entries = [_entry_of(limit, batch[0].entry.at) for limit in limits] + [waiting.entry for waiting in batch]
        try:
            seqs = await self._journal.append(entries)
        except Exception as error:
            for waiting in batch:
                waiting.error = error
                waiting.done.set()
            return
        for limit, seq in zip(limits, seqs, strict=False):
            self._step(limit, batch[0].entry.at, seq)
        for waiting, seq in zip(batch, seqs[len(limits) :], strict=True):
            waiting.outcome = self._step(waiting.event, waiting.entry.at, seq)
            waiting.done.set()
        await self._flush()

    # --- stepping -------------------------------------------------------------------------------------------------

    def _step(self, event: Event, now: float | None, seq: int) -> Outcome:
        """Step one event and let everything follow; nothing here waits, and nothing but a bug raises."""
        outcome = self._engine.receive(event, now)
        outcome.event_id = f"{self._id}:{seq}"
        session = outcome.session
        if session is not None and (outcome.opened or outcome.moves):
            self._tell(session, outcome, now or 0.0)
        self._call_handlers(outcome, seq)
        if outcome.departed:
            self._retire(outcome.departed)
        return outcome

    def _call_handlers(self, outcome: Outcome, seq: int, *, force: bool = False) -> None:
        """Put the handlers an outcome calls for into their session's lane; without any, the event is done."""
        calls = self._plan.calls_for(outcome, self._filter_failed)
        if not calls:
            self._mark(seq)
            return
        event, session = outcome.event, outcome.session
        key: Hashable = session.session_id if session is not None else scope_of(event)
        if not self._lanes.put(key, Job(seq, calls, event, session, outcome), force=force):
            self._give_up(seq, "LaneFull", None, f"more events of {key} wait than its lane takes")

    def _tell(self, session: Session, outcome: Outcome, now: float) -> None:
        """Wake those who wait for the session, end what ends with it, arm the timer anew."""
        if self._log_transitions:
            for move in outcome.moves:
                self._log.info(
                    "session.moved",
                    source=str(move.source),
                    target=str(move.target),
                    cause=session.cause and str(session.cause),
                    **_of(session),
                )
        if session.session_id in self._waiters:
            self._wake_waiters(session)
        if outcome.ended and (lane := self._lanes.find(session.session_id)) is not None and lane.scope is not None:
            lane.scope.cancel()
        for subscriber in self._subscribers:
            subscriber.put(outcome)
        if self._sleeping_until > now + self._shortest:
            self._timer_wake.set()

    def _retire(self, departed: tuple[Session | Unmatched, ...]) -> None:
        """The final word on sessions that left memory."""
        for gone in departed:
            if isinstance(gone, Session) and self._plan.retired:
                job = Job(0, self._plan.retired, None, gone, None)
                if not self._lanes.put(gone.session_id, job):
                    self._give_up(0, "LaneFull", None, f"on_retired of {gone.session_id}")

    def _mark(self, seq: int) -> None:
        if self._journal is not None and seq:
            self._marks.append(seq)

    def _give_up(self, seq: int, reason: str, handler: str | None, detail: str) -> None:
        """Handlers that will not run, or raised: a dead letter, never silence."""
        letter = DeadLetter(seq, reason, handler, detail[:1000], self._clock.now() or 0.0)
        self._log.error(
            "handlers.dead_letter", event_id=f"{self._id}:{seq}", reason=reason, handler=handler, detail=letter.detail
        )
        if self._journal is not None:
            self._letters.append(letter)
            self._mark(seq if handler is None else 0)

    async def _flush(self) -> None:
        """Write marks and dead letters; late is soon enough, as a crash only runs handlers again."""
        assert self._journal is not None  # noqa: S101
        marks, self._marks = self._marks, []
        letters, self._letters = self._letters, []
        try:
            if letters:
                await self._journal.dead(letters)
            if marks:
                await self._journal.done(marks)
        except Exception:
            self._log.exception(
                "journal.marks_failed", events=len(marks), hint="their handlers run again at the next start"
            )

    # --- handlers -------------------------------------------------------------------------------------------------

    async def _run(self, lane: Lane, job: Job) -> None:
        """Run the handlers of one event, one after another. Whatever one does, the next one runs."""
        given = {"event": job.event, "session": job.session, "outcome": job.outcome, "calls": self}
        for call in job.calls:
            if call.registration.live_only and job.session is not None and job.session.ended:
                continue
            lane.handler, lane.since, lane.told = call.name, anyio.current_time(), False
            try:
                await self._run_one(lane, call, given)
            finally:
                lane.handler = None

    async def _run_one(self, lane: Lane, call: Call, given: dict[str, Any]) -> None:
        token = _INSIDE.set(True)
        try:
            if call.registration.live_only:
                with anyio.CancelScope() as lane.scope:
                    await call.run(given)
            else:
                await call.run(given)
        except anyio.get_cancelled_exc_class() as error:
            if is_cancelled():
                raise
            await self._failed(call, RuntimeError(f"cancelled by itself, not by the dispatcher: {error!r}"), given)
        except Exception as error:
            await self._failed(call, error, given)
        finally:
            lane.scope = None
            _INSIDE.reset(token)

    async def _failed(self, call: Call, error: Exception, given: dict[str, Any]) -> None:
        """A handler raised: log it, keep a dead letter, tell the handlers of errors."""
        session, outcome = given["session"], given["outcome"]
        self._log_failure("handler.failed", call, error, session, outcome)
        if self._journal is not None and outcome is not None:
            seq = int(outcome.event_id.rpartition(":")[2])
            self._letters.append(
                DeadLetter(seq, type(error).__name__, call.name, str(error)[:1000], self._clock.now() or 0.0)
            )
        for observer in self._plan.errors:
            try:
                await observer.run({**given, "error": error, "handler": call.name})
            except Exception as again:
                self._log_failure("handler_error.failed", observer, again, session, outcome)

    def _filter_failed(self, call: Call, error: Exception) -> None:
        self._log_failure("filter.failed", call, error, None, None)

    def _log_failure(
        self, what: str, call: Call, error: Exception, session: Session | None, outcome: Outcome | None
    ) -> None:
        self._log.error(
            what,
            handler=call.name,
            **_of(session),
            name=outcome.event.action if outcome is not None else None,
            event_id=outcome.event_id if outcome is not None else None,
            exc_info=error,
        )

    def _finished(self, job: Job) -> None:
        self._mark(job.seq)

    async def _watch_slow_handlers(self) -> None:
        """Name handlers that run for long, once each. One look at all of them costs less than a timeout around each.

        By the way it writes the marks that no commit took along.
        """
        while True:
            await anyio.sleep(self._slow_after / 2)
            if self._marks and not self._committing:
                await self._flush()
            now = anyio.current_time()
            for lane in self._lanes.running():
                if not lane.told and now - lane.since >= self._slow_after:
                    lane.told = True
                    self._log.warning(
                        "handler.slow",
                        handler=lane.handler,
                        lane=str(lane.key),
                        seconds=round(now - lane.since, 1),
                        waiting=len(lane.jobs),
                    )

    # --- time -----------------------------------------------------------------------------------------------------

    def _limits_before(self, now: float) -> list[Event]:
        """The limits that passed before `now`. One that is due at this very instant waits: the event wins."""
        if now <= self._limit_at or not self._clock.timers:
            return []
        passed: list[Event] = [limit for limit in self._engine.passed(now) if limit.due_at < now]
        if not passed:
            due = self._engine.next_deadline()
            self._limit_at = min(now + self._shortest, max(now, due) if due is not None else math.inf)
        return passed

    async def _run_timers(self) -> None:
        """Apply limits when they are due, and let sessions go when their retention has passed."""
        while True:
            self._timer_wake = anyio.Event()
            now, due = self._clock.now() or 0.0, self._engine.next_deadline()
            if due is not None and due <= now:
                await self._pass(now)
                continue
            self._sleeping_until = math.inf if due is None else due
            async with anyio.create_task_group() as either:
                either.start_soon(self._wait_for_wake, either)
                if due is not None:
                    await self._clock.sleep(due - now)
                    either.cancel_scope.cancel()
            self._sleeping_until = -math.inf

    async def _wait_for_wake(self, either: TaskGroup) -> None:
        await self._timer_wake.wait()
        either.cancel_scope.cancel()

    async def _pass(self, now: float) -> None:
        for limit in self._engine.passed(now):
            if self._journal is None:
                self._seq += 1
                self._step(limit, now, self._seq)
            else:
                await self._keep(limit, now)
        self._retire(self._engine.advance(now))

    async def _keep(self, limit: Event, now: float) -> None:
        """A limit goes through the journal like any event, so that a replay sees it at the same place."""
        waiting = _Waiting(_entry_of(limit, now), limit)
        self._inbox.append(waiting)
        self._inbox_filled.set()
        await waiting.done.wait()
        if waiting.error is not None:
            self._log.error("journal.limit_failed", hint="tried again in a second", error=str(waiting.error))
            await self._clock.sleep(1.0)

    # --- asking ---------------------------------------------------------------------------------------------------

    def session(self, session_id: str) -> Session | None:
        """Find a session: live, or ended and within retention."""
        return self._engine.session(session_id)

    def call(self, any_id: str) -> list[Session]:
        """Find every leg of a call, by a session id or a SIP Call-ID."""
        return self._engine.call(any_id)

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
            "waiters": sum(map(len, self._waiters.values())),
            "subscribers": len(self._subscribers),
        }

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
        """
        self._check_open()
        target = State(state)
        with anyio.fail_after(timeout):
            while not self._arrived(session_id, target):
                woken = anyio.Event()
                waiting = (target, woken)
                self._waiters.setdefault(session_id, []).append(waiting)
                try:
                    await woken.wait()
                finally:
                    self._stop_waiting(session_id, waiting)
        session = self.session(session_id)
        assert session is not None  # noqa: S101
        return session

    def _arrived(self, session_id: str, target: State) -> bool:
        session = self.session(session_id)
        if session is None:
            return False
        if session.ended and target not in TERMINAL:
            raise CallEnded(session)
        return session.ended if target in TERMINAL else RANK[session.state] >= RANK[target]

    def _wake_waiters(self, session: Session) -> None:
        for target, woken in self._waiters[session.session_id]:
            if session.ended or RANK[session.state] >= RANK[target]:
                woken.set()

    def _stop_waiting(self, session_id: str, waiting: tuple[State, anyio.Event]) -> None:
        waiters = self._waiters[session_id]
        waiters.remove(waiting)
        if not waiters:
            del self._waiters[session_id]

    @asynccontextmanager
    async def _subscription(self) -> AsyncIterator[_Subscriber]:
        subscriber = _Subscriber()
        self._subscribers.append(subscriber)
        try:
            yield subscriber
        finally:
            self._subscribers.remove(subscriber)

    async def changes(self) -> AsyncIterator[Outcome]:
        """Follow what changes: the outcome of every event that opened a session or let one rise, from now on.

        Raises:
            Busy: if the reader lags by more than 10 000 changes; what it missed it can ask for.
        """
        self._check_open()
        async with self._subscription() as subscriber:
            while (outcome := await subscriber.next()) is not None:
                yield outcome


class _Subscriber:
    """One who follows the changes, and what it has not read yet."""

    def __init__(self) -> None:
        self._unread: deque[Outcome] = deque()
        self._filled = anyio.Event()
        self._lost = False
        self._closed = False

    def put(self, outcome: Outcome) -> None:
        if len(self._unread) >= _CHANGES_LIMIT:
            self._lost = True
        else:
            self._unread.append(outcome)
        self._filled.set()

    def close(self) -> None:
        self._closed = True
        self._filled.set()

    async def next(self) -> Outcome | None:
        while not self._unread:
            if self._lost:
                raise Busy(
                    f"this reader fell more than {_CHANGES_LIMIT} changes behind: ask for the sessions, and follow anew"
                )
            if self._closed:
                return None
            self._filled = anyio.Event()
            await self._filled.wait()
        return self._unread.popleft()


def _read(payload: Payload, dialect: Dialect | str | None) -> tuple[Event, bytes, str, float | None]:
    """Parse a payload; tell the bytes to keep, the dialect they are in, and the time they carry."""
    if isinstance(payload, Event):
        return payload, payload.to_json(), Dialect.DAILY_JS, payload.sent_at or payload.occurred_at
    data = encode(payload)
    line = read(data, dialect)
    if line.event is None:
        raise ParseError("payload", "an event", "a header or a mark of a journal", "journal")
    if line.dialect is Dialect.JOURNAL:
        data, spelling = line.event.to_json(), Dialect.DAILY_JS  # a record inside a record would tell two times
        return line.event, data, spelling, line.at
    return line.event, data, line.dialect, line.at


def _of(session: Session | None) -> dict[str, str | None]:
    """What every line about a session carries. No numbers, no addresses."""
    if session is None:
        return {"session_id": None, "sip_call_id": None, "direction": None}
    return {"session_id": session.session_id, "sip_call_id": session.sip_call_id, "direction": str(session.direction)}


def _shortest_limit(settings: Settings) -> float:
    """The least of all durations after which something can pass: what is armed later is not due before that."""
    limits = (settings.silence_before_answer, settings.silence_in_call, settings.silence_after_meeting)
    deadlines = (settings.setup_deadline, settings.ring_deadline, settings.media_deadline)
    return min(*limits, *(deadline for deadline in deadlines if deadline is not None))


def _entry_of(event: Event, at: float) -> Entry:
    return Entry(at, Dialect.DAILY_JS, event.to_json())
