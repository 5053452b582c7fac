"""The dispatcher: what a program holds. It opens and closes a run of the routing, and delegates to its parts.

    async with Dispatcher(router, journal=SqliteJournal("calls.db")) as calls:
        outcome = await calls.receive(payload)

The path of an event: read, append to the journal (many at once), step in the order of the sequence numbers, wake what waits, queue
the handlers in the session's lane. `receive` returns before any handler runs. An append that fails changes nothing and raises.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from threading import get_ident
from types import TracebackType
from typing import Any, Self

from telstate.calls._caller import Caller
from telstate.calls._endpoints import Endpoint
from telstate.calls._outcome import Outcome, OutcomeKind
from telstate.calls._session import Session
from telstate.calls._settings import Settings
from telstate.calls._table import State
from telstate.errors import DefinitionError, JournalError, NotRunning, ParseError
from telstate.events import Dialect, Event, PinlessDialin, SessionsLinked, SipTrunkIncoming, TransferFailed
from telstate.events._json import clean
from telstate.events._masking import mask
from telstate.events._sessionless import WaitingCaller
from telstate.options import Dtmf, Refer, Transfer
from telstate.routing._abilities import abilities_of
from telstate.routing._clock import SystemClock
from telstate.routing._dead_letters import DeadLetters
from telstate.routing._handlers import is_async, member_of
from telstate.routing._intent_ledger import IntentLedger
from telstate.routing._log import Log, text_of
from telstate.routing._payload import Payload, read_entry
from telstate.routing._ports import (
    Clock,
    Control,
    DeadLetter,
    Elsewhere,
    Entry,
    Instrument,
    Journal,
    Messenger,
    Observer,
)
from telstate.routing._presence import Reconcile
from telstate.routing._room_calls import RoomCalls
from telstate.routing._router import Router, check_router
from telstate.routing._run import Run, Setup
from telstate.routing._vitals import Vitals

__all__ = ["Dispatcher"]


class Dispatcher:
    """Runs a router's handlers for the events it receives. Use it as `async with`, on asyncio or trio; it can be entered again.

    Args:
        router: its handlers run.
        journal: keeps every event before it is stepped. By default a `MemoryJournal`, which ends with the process.
        control: how `stop`, `send_dtmf`, `transfer`, `refer` and `forward` reach Daily: a `RestControl` or a `ClientControl`.
        settings: how long and how much is remembered, and the deadlines; by default those of the journal, if it has any.
        clock: governs everything that waits: deadlines, timeouts of `wait_for`, pauses between retries; for tests.
        reconcile: an async function that says whether a session is still there (a `Presence`), by asking Daily. It is asked
            before a silence limit ends a session, and where events may have been missed. Only `GONE` ends a session.
        lane_limit: how many events of one session may wait for their handlers. The handlers of further ones do not run: they
            become dead letters (`LaneFull`). Their effect on the state is never lost.
        pending_limit: how many events may wait for handlers in all, before `receive` waits.
        max_deliveries: so many times the process may end while the handlers of one event run, before they become a dead letter
            (`ProcessDied`). From the second redelivery on such events run one at a time, before all others, so that only the
            one that ends the process is counted. A program that leaves its block in order counts nothing.
        slow_after: seconds after which a running handler is named in the log.
        drain: seconds to let handlers finish when the block is left. What is not finished then is cancelled and not marked.
        calls_end_within: seconds for which live calls, and callers on hold, may go on when it is asked to stop, before the block is
            left. Events are taken in as before, `not_ready` says so, and a `Dialer` starts no more calls. 0 for no such time.
        stop_on_signals: leave the block at SIGTERM and SIGINT, as `shut_down` does. A second one ends the draining or, if the
            body does not end (it may wait for a thread), the process. In a program's main thread only.
        log_transitions: log each transition, at level info.
        gate: a function that is asked before each handler starts. While it returns False none starts; what runs goes on, and events are
            stepped. For a program that may start handlers only while it holds a lease. It must not wait, nor raise.
        elsewhere: what other dispatchers know, where many share the calls, and the way to act on their sessions. A worker gives it.
        notify: sends messages about calls to receivers outside, such as a `telstate.control.Notifier`. The journal keeps them until they
            are sent: a `SqliteJournal` or a `MemoryJournal`.

    The methods that act on a call take a session or its id, return once Daily has accepted, and raise:
        CallEnded: if the session has ended. Nothing was sent then, unless only Daily knew.
        NoSuchSession: if no session of that id is known here. Nothing was sent.
        DailyError: if Daily refused; the subclass says why. `UnknownResult` if its answer was lost.
        NotSupported: if the `control` cannot carry it. Nothing was sent.
        ValueError, TypeError: if Daily takes no such argument. Nothing was sent.
        JournalError: if Daily accepted, but the journal could not keep that.
        DefinitionError: if the dispatcher has no `control`.
        UnknownResult: where another dispatcher has the session (`elsewhere=`), also if that did not answer. It is never done twice.
        NotRunning: outside the `async with`.
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
        max_deliveries: int = 5,
        slow_after: float = 5.0,
        drain: float = 30.0,
        calls_end_within: float = 0.0,
        stop_on_signals: bool = False,
        log_transitions: bool = False,
        gate: Callable[[], bool] | None = None,
        elsewhere: Elsewhere | None = None,
        notify: Messenger | None = None,
    ) -> None:
        check_router(router)
        if journal is not None and not hasattr(journal, "append"):
            raise TypeError(f"journal= takes a journal, such as telstate.journals.SqliteJournal({journal!r})")
        if reconcile is not None and not is_async(reconcile):
            raise DefinitionError(f"reconcile= takes an async function that returns a Presence, not {reconcile!r}")
        for name, limit in (("lane_limit", lane_limit), ("pending_limit", pending_limit)):
            if limit < 1:
                raise ValueError(
                    f"{name}= takes a number of events from 1 on, not {limit!r}: at 0 no handler could ever run"
                )
        if max_deliveries < 2:
            raise ValueError(
                f"max_deliveries= takes a number from 2 on, not {max_deliveries!r}: after a first crash nobody knows whose"
                " handler it was"
            )
        if not calls_end_within >= 0:
            raise ValueError(f"calls_end_within= takes seconds from 0 on, not {calls_end_within!r}")
        if slow_after <= 0:
            raise ValueError(f"slow_after= takes seconds above 0, not {slow_after!r}")
        if journal is not None and clock is not None and not clock.timers:
            raise ValueError("a recorded log needs no second journal: use the log's clock without journal=")
        if notify is not None:
            _check_notify(journal, clock)
        self._setup = Setup(
            router=router,
            journal=journal,
            control=control,
            settings=settings,
            clock=clock or SystemClock(),
            reconcile=reconcile,
            lane_limit=lane_limit,
            pending_limit=pending_limit,
            max_deliveries=max_deliveries,
            slow_after=slow_after,
            drain=drain,
            calls_end_within=calls_end_within,
            stop_on_signals=stop_on_signals,
            log_transitions=log_transitions,
            gate=gate,
            elsewhere=elsewhere,
            notify=notify,
        )
        self._clock = self._setup.clock
        self._live = self._clock.timers
        self._pending_limit = pending_limit
        self._log = Log()
        self._prepare()

    def _prepare(self) -> None:
        """Make the parts anew: each run begins with what its journal has."""
        self._run = Run(self, self._setup)
        self._sequencer, self._backlog = self._run.sequencer, self._run.backlog

    async def __aenter__(self) -> Self:
        if self._run.is_running:
            raise NotRunning("this dispatcher is running: leave its block before you enter it again")
        self._prepare()
        await self._run.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:  # with bool alone, type checkers would think that the block may swallow any exception
        """Accept nothing more, let handlers finish until the drain's deadline, cancel what is left."""
        return await self._run.close(kind, error, traceback)

    def shut_down(self) -> None:
        """Leave the block, as SIGTERM does: its body is cancelled, and handlers finish. A second call ends the draining.

        While it starts, the start is cancelled, and entering the block raises `NotRunning`. With `calls_end_within`, the first call lets
        live calls go on and leaves the block when they have ended, and the second one ends the waiting.

        While the body ends, events are still accepted: what it hangs up then ends by them.
        """
        self._run.shut_down()

    async def idle(self) -> None:
        """Wait until everything received is stepped, all its handlers have finished, and Daily has answered their requests.

        For tests and scripts.

        Raises:
            NotRunning: if the dispatcher is left first.
        """
        await self._run.idle()

    @property
    def control(self) -> Control | None:
        """The way to Daily that it was given."""
        return self._setup.control

    @property
    def clock(self) -> Clock:
        """The clock that governs everything that waits."""
        return self._clock

    @property
    def journal(self) -> Journal | None:
        """The journal that it was given; None if it has only a `MemoryJournal`, which forgets what is done."""
        return self._setup.journal

    @property
    def settings(self) -> Settings:
        """The settings in force: inside the `async with` those of the journal, if it has any."""
        return self._sequencer.engine.settings

    @property
    def dead_letters(self) -> DeadLetters:
        """What was given up: handlers that raised or ended the process, events beyond a lane's limit, payloads that are not events.

        Raises:
            NotRunning: outside the `async with`.
        """
        self._run.check_open()
        return self._run.dead_letters

    @property
    def is_open(self) -> bool:
        """True inside the `async with`, until it is asked to stop."""
        return self._run.is_open

    @property
    def is_stopping(self) -> bool:
        """True from when it is asked to stop until it has: live calls or handlers go on, and new callers should go elsewhere."""
        return self._run.is_stopping

    @property
    def standstills(self) -> int:
        """How often this process stood still for so long that events may have been missed. Not where other processes receive them."""
        return self._run.checks.standstills

    @property
    def not_ready(self) -> str | None:
        """Why it should get no new calls now, in words; None if it is ready. What `/ready` shows.

        It is not running, it is stopping, the journal cannot keep events, or too many events wait for handlers. Events are
        accepted all the same, as long as that is possible.
        """
        return self._run.not_ready

    # --- taking in ------------------------------------------------------------------------------------------------

    async def receive(self, payload: Payload, dialect: Dialect | str | None = None) -> Outcome:
        """Take in one event. It is durable and stepped on return; its handlers run later, in their session's lane.

        Waits for handlers only above the pending limit, and never inside a handler. While the dispatcher starts, waits for that.

        Raises:
            ParseError: if it is not an event; nothing has changed then.
            JournalError: if the journal could not keep it; nothing has changed then.
            NotRunning: outside the `async with`.
        """
        if not self._run.accepts or get_ident() != self._run.thread:
            await self._run.wait_open()
        backlog = self._backlog
        if backlog.pending + backlog.reserved >= self._pending_limit and not backlog.in_handler:
            await self._make_room()  # before the event gets its time: time must not pass between that and the journal
        entry = self._read(payload, dialect)
        outcome = self._sequencer.step_now(entry)
        if outcome is None:
            (outcome,) = await self._sequencer.submit((entry,))
        return outcome

    async def receive_many(
        self, payloads: Iterable[Payload], dialect: Dialect | str | None = None
    ) -> list[Outcome | ParseError]:
        """Take in many events, in this order, as a log or a broker has them: one commit and one wake-up for each 500.

        Returns:
            For each payload its outcome. One that is not an event holds up no other: its ParseError stands in its place.

        Raises:
            JournalError: if the journal could not keep them. `error.answers` has the answers for the first of them, which were
                taken in; nothing has changed for the rest.
            TypeError: if `payloads` is a single one.
            NotRunning: outside the `async with`, or if it was left meanwhile; `error.answers` as above.
            Exception: any exception of `payloads`. What it yielded before was received, except for the last 500 at most.
        """
        if isinstance(payloads, (bytes, bytearray, memoryview, str, Mapping, Event)):
            raise TypeError("receive_many takes several payloads: for a single one, await receive(payload)")
        answers: list[Outcome | ParseError] = []
        waiting = iter(payloads)
        try:
            await self._run.wait_open()
            while chunk := list(islice(waiting, self._sequencer.at_once)):
                self._run.check_open()
                if self._backlog.is_full and not self._backlog.in_handler:
                    await self._make_room()
                entries, errors = self._read_many(chunk, dialect)
                try:
                    answers += _in_order(await self._sequencer.submit(entries), errors)
                except JournalError as error:
                    answers += _in_order(error.answers, errors)
                    raise
        except (JournalError, NotRunning) as error:
            error.answers = tuple(answers)
            raise
        return answers

    async def link(self, one: str, other: str) -> Outcome:
        """Say that two sessions are legs of one call. They may still be unknown: each is awaited for `Settings.parked_ttl` seconds.

        Where many dispatchers share the calls, that holds wherever they become known.

        Raises:
            JournalError: if that could not be kept.
            NotRunning: outside the `async with`.
        """
        if self._setup.elsewhere is None:
            return await self.receive(SessionsLinked(session_id=one, other_session_id=other))
        self._run.check_open()
        return await self._run.across.link(one, other)

    async def transfer_failed(self, session: Session | str, to: str, reason: str | None = None) -> Outcome:
        """Say that a transfer to this target did not happen, as your control or the target reported. No event of Daily's does.

        `session.transfers` then has it as `not-reached`, unless there is evidence that the target picked up.

        Args:
            session: the session that was to be transferred, live or ended.
            to: the target, as in `transfer`.
            reason: why, for people. It stands in the journal.

        Raises:
            JournalError: if that could not be kept.
            NotRunning: outside the `async with`.
        """
        session_id = session if isinstance(session, str) else session.session_id
        event = TransferFailed(session_id=session_id, to_endpoint=to, reason=reason)
        far = self._run.across.far(session)
        return await self.receive(event) if far is None else await self._run.across.publish(far, event)

    async def annotate(
        self, session: Session | Caller | PinlessDialin | SipTrunkIncoming | str, /, **notes: Any
    ) -> Outcome:
        """Write something down about a session: on the session (`session.notes`), in every record, and after a restart too.

        What is written down about a caller on hold is on the session that they become.

        Args:
            session: a session or its id, live or ended and within retention; or a waiting caller, or the event that told of them.
            notes: JSON values. A later note replaces an earlier one of its name.

        Raises:
            ValueError: if a value is not JSON, or all notes of the session would be longer than 4 KB as JSON. Nothing was kept.
            NoSuchSession: if no session or caller of that id is known here.
            JournalError: if the journal could not keep them.
            NotRunning: outside the `async with`.
        """
        self._run.check_open()
        event, place = self._run.call_control.annotation(session, notes)
        if place is not None:
            return await self._run.across.publish(place, event)
        outcome = await self._run.across.submit(event)
        if outcome.anomalies:  # others were kept meanwhile, and these are too long now
            raise ValueError(outcome.anomalies[0])
        return outcome

    async def add_dead_letter(self, payload: bytes, error: ParseError, dialect: Dialect | str) -> None:
        """Keep a payload that is not an event as a dead letter: for sources that must not refuse it, as webhooks.

        It is durable on return. `telstate dead retry` has a later version read it again.

        Raises:
            JournalError: if it could not be kept.
            NotRunning: outside the `async with`.
        """
        self._run.check_open()
        at = self._sequencer.now() or 0.0
        await self._run.work_log.add_now(
            DeadLetter(0, type(error).__name__, None, text_of(error), at, str(dialect), clean(payload))
        )
        # Not what came: it may be anything, and somebody's number.
        facts = {"field": mask(error.field)[:100], "expected": mask(error.expected)[:200], "size": len(payload)}
        self._log.error("payload.dead_letter", dialect=str(dialect), **facts, see=self._run.work_log.see)

    def retire(self) -> None:
        """Let every ended session leave memory now, as if its retention had passed: at the end of a recorded log.

        Raises:
            DefinitionError: if the clock is not that of a recorded log: the journal would not know of it.
            NotRunning: outside the `async with`.
        """
        self._run.check_open()
        if self._live:
            raise DefinitionError("retire() is for recorded logs: Dispatcher(router, clock=LogClock())")
        self._sequencer.retire()

    def _read(self, payload: Payload, dialect: Dialect | str | None) -> Entry:
        if self._live:
            return read_entry(payload, dialect, self._sequencer.now(), live=True)
        entry = read_entry(payload, dialect, None, live=False)
        self._clock.follow(entry.at)
        return entry

    def _read_many(
        self, payloads: list[Payload], dialect: Dialect | str | None
    ) -> tuple[list[Entry], list[tuple[int, ParseError]]]:
        """Read a batch; return its entries, and the errors with their places among the payloads."""
        entries, errors = [], []
        for place, payload in enumerate(payloads):
            try:
                entries.append(self._read(payload, dialect))
            except ParseError as error:
                errors.append((place, error))
        return entries, errors

    async def _make_room(self) -> None:
        """Wait until handlers have caught up."""
        await self._backlog.wait_for_place()
        self._run.check_open()

    # --- asking ---------------------------------------------------------------------------------------------------

    def session(self, session_id: str) -> Session | None:
        """Find a session: live, or ended and within retention."""
        return self._run.across.session(session_id)

    def sessions(self) -> list[Session]:
        """Return every known session, live or ended and within retention, in order of first sight."""
        return list(self._sequencer.engine.sessions())

    def live(self) -> list[Session]:
        """Return every session that has not ended."""
        return self._sequencer.engine.live()

    def waiting(self) -> list[Caller]:
        """Return every caller on hold (pinless dial-in) or in ringback (SIP trunk), in order of first sight.

        Also those that were forwarded and are not connected yet.
        """
        return self._run.across.waiting()

    def unconnected(self) -> list[Caller]:
        """Return every caller who is in no session, in order of first sight: on hold, or lost and within retention."""
        return self._sequencer.engine.unconnected()

    def caller(self, caller: str | Event) -> Caller | None:
        """Find a caller, on hold, or connected or lost and within retention.

        Args:
            caller: the id of the waiting call, or an event about it.
        """
        engine = self._sequencer.engine
        if isinstance(caller, WaitingCaller):
            return engine.caller_of(caller)
        call_id = caller if isinstance(caller, str) else getattr(caller, "call_id", None)
        return None if call_id is None else self._run.across.caller(call_id)

    def legs(self, any_id: str) -> list[Session]:
        """Return every leg of a call, by a session id or a SIP Call-ID."""
        return self._run.across.legs(any_id)

    def endpoint(self, uri: str) -> Endpoint | None:
        """Find a SIP endpoint."""
        return self._run.across.endpoint(uri)

    @property
    def last_event_id(self) -> str:
        """The id of the last event that was stepped, as `Outcome.event_id`."""
        return f"{self._sequencer.journal_id}:{self._sequencer.seq}"

    @property
    def counts(self) -> dict[OutcomeKind, int]:
        """How many events had which outcome."""
        return dict(self._sequencer.engine.counts)

    def sizes(self) -> dict[str, int]:
        """Count what is remembered, waits and runs."""
        return {
            **self._sequencer.engine.sizes(),
            "lanes": len(self._run.lanes),
            "pending": self._backlog.pending,
            **self._run.waiters.sizes(),
        }

    # --- waiting --------------------------------------------------------------------------------------------------

    async def wait_for(self, session_id: str, state: State | str, timeout: float | None = None) -> Session:  # noqa: ASYNC109
        """Wait until a session has reached a state, or passed it, and lives; for a terminal state, until it ended.

        It wakes at the step, before any handler. A session id that is not known yet is waited for.

        Args:
            session_id: the session.
            state: the state to reach.
            timeout: seconds to wait at most, by the dispatcher's clock.

        Raises:
            CallEnded: if it ended before.
            TimeoutError: if the time passed.
            DefinitionError: if there is no such state.
        """
        self._run.check_open()
        target = State(member_of(State, str(state), "state"))
        with self._clock.move_on_after(timeout), self.awaiting_events():
            return await self._run.waiters.wait_for(session_id, target)
        raise TimeoutError(f"{session_id} did not become {target} within {timeout:g} seconds")

    async def wait_ready(self, sip_endpoint: str, timeout: float | None = None) -> Endpoint:  # noqa: ASYNC109
        """Wait until a SIP endpoint is ready: until it may be dialled, or a caller on hold be forwarded to it.

        Args:
            sip_endpoint: its URI, with or without `sip:`, as the room's `sip_uri` has it.
            timeout: seconds to wait at most, by the dispatcher's clock.

        Raises:
            TimeoutError: if the time passed.
        """
        self._run.check_open()
        with self._clock.move_on_after(timeout), self.awaiting_events():
            return await self._run.waiters.wait_ready(sip_endpoint)
        raise TimeoutError(f"{sip_endpoint} was not ready within {timeout:g} seconds: is anybody in its room?")

    def changes(self) -> AsyncIterator[Outcome]:
        """Follow the outcome of every event that changes a session, from this call on.

        It opened a session or let it rise; or it changed the sessions in `outcome.changed`: evidence after the end (`amended`),
        a doubt or its end (`uncertain`), or notes.

        Raises:
            Busy: if the reader falls behind by more than 10 000 changes.
        """
        self._run.check_open()
        return self._run.waiters.changes()

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Let an object see the outcome of every event, from now on: of those that change nothing too.

        It is called inside the step, where the session is as the event left it, and must be quick. `changes()` is for programs that
        take their time. If it raises, that is logged, and it sees no more.

        Returns:
            A function that ends it. Leaving the dispatcher ends it too.

        Raises:
            NotRunning: outside the `async with`.
        """
        self._run.check_open()
        return self._run.observers.add(observer)

    def instrument(self, instrument: Instrument) -> None:
        """Let an object measure or trace every event and every handler, from the next `async with` on.

        `telstate.views.PrometheusMetrics` and `telstate.views.trace_calls` use it.

        Raises:
            DefinitionError: inside the `async with`: what ran so far would be missing.
        """
        if self._run.is_running:
            raise DefinitionError("switch metrics and traces on before `async with`: what ran so far would be missing")
        self._setup = self._setup._replace(instruments=(*self._setup.instruments, instrument))

    def vitals(self) -> Vitals:
        """Return how it is, in numbers: what waits, how full its limits are, what its journal keeps. What the metrics show."""
        return self._run.vitals()

    def awaiting_events(self) -> AbstractContextManager[None]:
        """Around what a handler waits for that comes by events, as `wait_for` does by itself.

        At the pending limit `receive` waits for handlers; a handler that waits for an event must not be among them.
        """
        return self._backlog.awaiting_events()

    def as_handler(self) -> AbstractContextManager[None]:
        """Count what runs inside as a handler, as a dialer's work.

        `receive` then never waits at the pending limit, and events are still accepted while the dispatcher drains.
        """
        return self._backlog.as_handler()

    # --- acting on calls ------------------------------------------------------------------------------------------

    async def stop(self, session: Session | str, *, reason: str | None = None) -> None:
        """End a session. Its end is then `local`; it arrives with Daily's event, as any other end.

        Args:
            session: the session.
            reason: why, in your words: kept as the session's note `reason`, once Daily has accepted.
        """
        self._run.check_open()
        await self._run.call_control.stop(session, reason)

    async def send_dtmf(self, session: Session | str, tones: str | Dtmf) -> None:
        """Press keys, to find the way through a menu: up to 20 of `0` to `9`, `*`, `#`, `A` to `D`; or a `Dtmf`."""
        self._run.check_open()
        await self._run.call_control.send_dtmf(session, tones)

    async def transfer(self, session: Session | str, to: str | Transfer) -> None:
        """Transfer a session to a SIP URI (also of another room) or a number in E.164; or by a `Transfer`.

        Daily stays in its path, and both legs are billed. Acceptance is not success: `session.transfers` has the outcome.
        """
        self._run.check_open()
        await self._run.call_control.transfer(session, to)

    async def refer(self, session: Session | str, to: str | Refer) -> None:
        """Transfer a SIP session to another SIP URI by REFER; Daily leaves its path. No event reports the outcome."""
        self._run.check_open()
        await self._run.call_control.refer(session, to)

    async def forward(self, caller: PinlessDialin, sip_endpoint: str) -> None:
        """Connect a caller on hold to a SIP endpoint, once that is ready: see `wait_ready`. Before, Daily drops the call.

        What Daily accepted before is not requested again: a handler that runs again after a crash returns at once. A refusal becomes a
        `ForwardRefused`, and the caller is lost unless another forward is accepted.

        Raises `ForwardingFailed` too: the caller has hung up, or the endpoint is not ready or in use. And `NotSupported` for a caller
        on a SIP trunk: join their room (`event.room_url`), and Daily connects them to it by itself.
        """
        self._run.check_open()
        await self._run.call_control.forward(caller, sip_endpoint)

    async def settled(self, session: Session) -> None:
        """Wait until Daily has answered every stop and transfer of a session: from then on it is known who ended it."""
        await self._run.call_control.settled(session.session_id)

    def room_calls(self, room: str | None) -> RoomCalls:
        """Return what a dialer needs of a room, whichever worker has its events. None for the room of a call client.

        Raises:
            NotSupported: if workers share the calls, and no room is named.
        """
        run = self._run
        return RoomCalls(room, self.receive, run.across, run.reconciler, run.client)

    def intent_ledger(self, intent: str) -> IntentLedger:
        """Return the ledger of an intent, in which a dialer keeps its starts: see `Dialer.dial`."""
        run = self._run
        return IntentLedger(intent, run.id, self.receive, run.across, lambda: self._sequencer.now() or 0.0)

    async def report_gone(self, session_id: str) -> None:
        """End a session that Daily certainly does not know any more, though no event says so.

        Raises:
            JournalError: if that could not be kept.
            NotRunning: if the dispatcher was left.
        """
        await self._run.reconciler.report_gone(session_id)

    def tracking_request(self, session_id: str) -> AbstractContextManager[None]:
        """Around a request about a session that is made in another way, as a dialer's: `settled` then waits for it too."""
        return self._run.call_control.tracking_request(session_id)


def _check_notify(journal: Journal | None, clock: Clock | None) -> None:
    if clock is not None and not clock.timers:
        raise ValueError("notify= is for live calls: nobody is told about those of a recorded log")
    if journal is not None and abilities_of(journal).add_messages is None:
        raise DefinitionError(
            f"notify= needs a journal that keeps messages until they are sent, which {type(journal).__name__} does not: use a"
            " SqliteJournal"
        )


def _in_order(outcomes: Sequence[Outcome], errors: list[tuple[int, ParseError]]) -> list[Outcome | ParseError]:
    """Put errors in their places among the outcomes, up to where the outcomes end."""
    answers: list[Outcome | ParseError] = [*outcomes]
    for place, error in errors:
        if place <= len(answers):
            answers.insert(place, error)
    return answers
