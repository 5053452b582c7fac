"""The sequencer: it appends entries to the journal, and steps the journal's records in the order of their numbers.

    outcomes = await sequencer.submit(entries)

It owns the engine, the clock's time, the sequence numbers and the timers, and it knows no handlers: one listener learns of each
step. Many entries share one append (group commit). Which record comes first is the journal's decision, for all that append: a
limit that passes is an entry that the timer appends, and an event that the journal has before it renews the limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing

import anyio

from telstate.calls._caller import Caller
from telstate.calls._engine import Engine
from telstate.calls._outcome import Outcome, Unmatched
from telstate.calls._session import Session
from telstate.calls._settings import Settings
from telstate.calls._timers import PRESENCE, SILENCE
from telstate.errors import EventTooLarge, JournalError, NotRunning, ParseError
from telstate.events import DeadlinePassed, Dialect, Event, Presence, PresenceChecked, SettingsChanged
from telstate.routing._abilities import abilities_of, in_transit_of
from telstate.routing._backlog import Backlog
from telstate.routing._clock import SystemClock
from telstate.routing._journal_health import JournalHealth
from telstate.routing._log import Log
from telstate.routing._new_event import new_event
from telstate.routing._payload import encode, read_record
from telstate.routing._ports import Clock, Entry, Journal, Record
from telstate.routing._work_log import WorkLog

__all__ = ["Listener", "Receive", "Sequencer"]

Receive = Callable[[Event, float | None, int | None, str | None], Outcome]
"""Steps an event: `Engine.receive`."""

Listener = Callable[[Outcome | None, tuple[Session | Unmatched | Caller, ...]], None]
"""Learns of each step: its outcome (None where only time passed), and what left memory with it."""

_PAUSE_AFTER = 32
"""A program that only receives must let handlers run now and then; a pause after each event costs five times the rest."""
_RETRY_LIMITS_AFTER = 1.0
"""Seconds after which limits that the journal could not keep are tried again."""
_LOG_EVERY = 10.0
_EARLY_LIMIT = 1000
"""How many records of a shared journal's tail are remembered while an append is under way: one of them may be its own."""
_LOOK_FOR_PLACE = 0.01
"""Seconds between two looks at a backlog that is full."""
_LOOK_AGAIN = 0.1
"""Seconds between two looks for sessions that wait for that."""


class _Submission:
    """Entries that wait for their commit together, and their outcomes. Without entries, time passes."""

    __slots__ = ("at", "done", "entries", "error", "outcomes")

    def __init__(self, entries: Sequence[Entry], at: float | None = None) -> None:
        self.entries = entries
        self.at = at
        self.done = new_event()
        self.outcomes: list[Outcome] = []
        self.error: Exception | None = None

    def add(self, outcome: Outcome) -> None:
        """One of its entries was stepped."""
        self.outcomes.append(outcome)
        if len(self.outcomes) == len(self.entries):
            self.done.set()

    def fail(self, error: Exception) -> None:
        """It will not be stepped, unless it was already."""
        if not self.done.is_set():
            self.error = error
            self.done.set()


class Sequencer:
    """Appends, numbers and steps events.

    Args:
        journal: keeps the entries.
        clock: the time, and the waiting for limits.
        settings: of a new journal.
        backlog: the handlers' work: a fast journal must not fill their lanes before they get a turn.
        work_log: written with each commit.
        at_once: how many entries one commit steps at most.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        settings: Settings | None,
        backlog: Backlog,
        work_log: WorkLog,
        *,
        at_once: int,
    ) -> None:
        self.engine: Engine = Engine(settings)
        self.seq: int = 0
        """The number of the last record that was stepped."""
        self.journal_id: str = ""
        self._journal = journal
        self._clock = clock
        self._backlog = backlog
        self._work_log = work_log
        abilities = abilities_of(journal)
        self._append_now, self._tail = abilities.append_now, abilities.tail
        self._infers = not clock.timers
        """Whether this is a recorded log, whose sessions end by its own time."""
        self.at_once: int = at_once if self._append_now is None else min(at_once, _PAUSE_AFTER)
        """How many entries to submit together: an immediate journal shares no commits, and more would only leave the caches."""
        self._runnable_limit = at_once
        """With so many handlers runnable, the next event waits for a turn of theirs: all may be of one lane."""
        self._listener: Listener = _ignore
        self._unobserved: Listener = _ignore
        """The listener, without the observer before it."""
        self._receive: Receive = self.engine.receive
        self._asks = False
        self._queue: dict[_Submission, None] = {}
        """In order; a dict, so that one can leave from the middle."""
        self._filled = new_event()
        self._commit_scope: anyio.CancelScope | None = None
        self._own: dict[int, tuple[_Submission, Event]] = {}
        """On a shared journal: own entries that the tail has not brought yet."""
        self._early: dict[int, Outcome] = {}
        """On a shared journal: what the tail brought while an append was under way, and so may be its own."""
        self._closed = False
        self._since_pause = 0
        self.now: Callable[[], float | None] = clock.now
        """Returns the time in Unix seconds; None in a recorded log without times."""
        self._shortest = 0.0
        self._nap: anyio.CancelScope | None = None
        self.health: JournalHealth = JournalHealth(journal)
        """Whether the journal keeps events."""
        self._log = Log(burst=1, every=_LOG_EVERY)

    def open(self, engine: Engine, seq: int, listener: Listener, *, asks: bool) -> None:
        """Go on from here.

        Args:
            engine: everything known by now.
            seq: the number of the last record in it.
            listener: learns of each step from now on.
            asks: True if somebody can be asked whether a silent session is still there, before a limit ends it.
        """
        self.engine, self.seq, self.journal_id = engine, seq, self._journal.id
        self._receive = engine.receive
        self._listener = self._unobserved = listener
        self._asks = asks
        self.now = _never_falling(engine.now, self._clock)
        self._shortest = _shortest_of(engine.settings)

    def set_observer(self, observe: Callable[[Outcome], None] | None) -> None:
        """Call a function with each outcome, after the listener. None for no function: then a step costs nothing more."""
        listener = self._unobserved
        if observe is None:
            self._listener = listener
            return

        def listen(outcome: Outcome | None, departed: tuple[Session | Unmatched | Caller, ...]) -> None:
            listener(outcome, departed)
            if outcome is not None:
                observe(outcome)

        self._listener = listen

    def measure(self, around: Callable[[Receive], Receive]) -> None:
        """Put something around the engine's `receive`. Without it a step costs nothing more."""
        self._receive = around(self._receive)

    @property
    def waiting(self) -> int:
        """How many entries wait for their commit."""
        return sum(len(submission.entries) for submission in list(self._queue))

    @property
    def is_shared(self) -> bool:
        """True if others append to the journal, too."""
        return self._tail is not None

    @property
    def busy(self) -> bool:
        """True while an entry is not stepped yet."""
        return self._commit_scope is not None or bool(self._queue) or bool(self._own)

    # --- taking in ------------------------------------------------------------------------------------------------

    def step_now(self, entry: Entry) -> Outcome | None:
        """Append and step one entry at once, on a journal that needs no waiting. None if that cannot be: then `submit` it."""
        self._since_pause += 1
        if (
            self._append_now is None
            or self._since_pause >= _PAUSE_AFTER
            or self._backlog.runnable >= self._runnable_limit
        ):
            return None
        try:
            seq = self._append_now(entry)
        except Exception as error:
            self.health.failed(error, 1)
            raise _not_kept(error) from error
        outcome = self._step(entry.event, entry.at, seq, entry.dialect)
        if self._infers:
            self._infer_ends()
        return outcome

    async def submit(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Append entries, all or none, and step them; return their outcomes.

        In a recorded log, which has no timers, the sessions whose end is due by its own time end in between.

        Raises:
            JournalError: if the journal could not keep them. They are not stepped, except on a journal that needs no waiting:
                `error.answers` has the outcomes of the first of them then.
            NotRunning: if the sequencer was closed before the journal answered. The next start may find them.
            ParseError: if one of them cannot be written as JSON.
        """
        if self._append_now is None:
            for entry in entries:
                encode(entry)
            return await self._wait(_Submission(entries)) if entries else []
        # Cancelled before the step, which is not undone. The pause comes after it, or later events would overtake this one.
        await anyio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        outcomes: list[Outcome] = []
        try:
            for entry in entries:
                outcomes.append(self._step(entry.event, entry.at, self._append_now(entry), entry.dialect))
                if self._infers:
                    self._infer_ends()
        except Exception as error:
            self.health.failed(error, len(entries) - len(outcomes))
            failed = _not_kept(error)
            failed.answers = tuple(outcomes)
            raise failed from error
        self._since_pause = 0
        await anyio.lowlevel.cancel_shielded_checkpoint()
        await self._backlog.yield_to_handlers(self._runnable_limit)
        return outcomes

    async def submit_events(self, *events: Event) -> list[Outcome]:
        """Submit events that this program makes; raises as `submit`."""
        now = self.now()
        return await self.submit([Entry(now, Dialect.DAILY_JS, None, event) for event in events])

    def retire(self) -> None:
        """End the sessions with a sign of their end, and let every ended one leave memory now: at the end of a recorded log."""
        self._append_ends(self.engine.ends_due(None))
        self._listener(None, self.engine.retire())

    async def _wait(self, submission: _Submission) -> list[Outcome]:
        self._check_open()
        self._queue[submission] = None
        self._filled.set()
        self._backlog.reserved += len(submission.entries)
        try:
            await submission.done.wait()
        finally:
            self._queue.pop(submission, None)  # one that gave up before its commit began leaves nothing behind
            self._backlog.release(len(submission.entries))
        if isinstance(submission.error, NotRunning):
            raise submission.error
        if submission.error is not None:
            raise _not_kept(submission.error) from submission.error
        return submission.outcomes

    # --- committing -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Commit what was submitted since the last commit, in one append, again and again."""
        try:
            while True:
                if self._filled.is_set():
                    await anyio.lowlevel.checkpoint()  # cancelled meanwhile, it begins no further commit
                else:
                    await self._filled.wait()
                await self._backlog.yield_to_handlers(self._runnable_limit)
                batch = self._take()
                if not self._queue:
                    self._filled = new_event()
                if batch:
                    await self._commit_shielded(batch)
        finally:
            self._refuse()  # cancelled from outside: shielded callers would wait here forever

    def _take(self) -> list[_Submission]:
        """Take what goes into the next commit: as much as is bounded, but at least one submission."""
        batch: list[_Submission] = []
        room = self.at_once
        for submission in self._queue:
            room -= max(1, len(submission.entries))
            if batch and room < 0:
                break
            batch.append(submission)
        for submission in batch:
            del self._queue[submission]
        return batch

    async def _commit_shielded(self, batch: list[_Submission]) -> None:
        """Append and step a batch, or neither."""
        lost = NotRunning("the dispatcher was left before the journal answered: it may have the event, or not")
        self.health.begin()
        try:
            with anyio.CancelScope(shield=True) as self._commit_scope:
                await self._commit(batch)
        except BaseException:
            _fail(batch, lost)
            raise
        finally:
            cut_off = self._commit_scope is not None and self._commit_scope.cancelled_caught
            self.health.end()
            self._commit_scope = None
            self._early.clear()
            if cut_off:
                _fail(batch, lost)

    async def _commit(self, batch: list[_Submission]) -> None:
        entries = [entry for submission in batch for entry in submission.entries]
        try:
            # Others append to a shared journal, too, and its tail may have brought these already.
            seqs = await self._work_log.append(entries, after=self.seq if self._tail is None else 0)
            if entries:
                self.health.kept()
        except Exception as error:
            self.health.failed(error, len(entries))
            _fail([submission for submission in batch if submission.entries], error)
            batch, seqs = [submission for submission in batch if not submission.entries], []  # time passes all the same
        numbers = iter(seqs)
        for submission in batch:
            for entry in submission.entries:
                self._appended(submission, entry, next(numbers))
            if not submission.entries:
                self._pass_time_to(submission.at)
                submission.done.set()
        await self._work_log.end_commit()

    def _appended(self, submission: _Submission, entry: Entry, seq: int) -> None:
        """The journal has an entry. A journal of our own has nothing before it that was not stepped; a shared one may."""
        if self._tail is None:
            self._step(entry.event, entry.at, seq, entry.dialect, submission)
        elif (outcome := self._early.pop(seq, None)) is not None:
            submission.add(outcome)
        elif seq > self.seq:
            self._own[seq] = (submission, entry.event)
        else:
            submission.fail(
                JournalError(
                    f"its outcome is unknown: the journal has it as number {seq}, but it cannot be read back, and is a dead"
                    f" letter, or the journal's tail brought it {_EARLY_LIMIT} records before the append returned"
                )
            )

    async def follow(self) -> None:
        """Step the records of a shared journal's tail, those of all processes. Other journals have no tail."""
        if self._tail is None:
            return
        async with aclosing(self._tail(self.seq)) as records:
            async for record in records:
                await self._backlog.yield_to_handlers(self._runnable_limit)
                if self._backlog.is_full:
                    await self._wait_for_handlers()
                self._step_record(record)
        error = JournalError("its tail ended, against its contract: no event comes back from it any more")
        self._refuse(error)
        raise error

    async def _wait_for_handlers(self) -> None:
        """Wait while too many events wait for handlers. Those may in turn wait for an own event, which is still to come."""
        while self._backlog.is_full and not self.busy and not self._backlog.is_resting:  # noqa: ASYNC110 - any of them may change
            await anyio.sleep(_LOOK_FOR_PLACE)

    def _step_record(self, record: Record) -> None:
        submission, event = self._own.pop(record.seq, (None, None))
        try:
            event = event or read_record(record)
        except ParseError as error:
            self._work_log.give_up_unreadable(record, error)
            self.seq = record.seq
            return
        outcome = self._step(event, record.at, record.seq, record.dialect, submission)
        if submission is None and self._commit_scope is not None:
            self._early[record.seq] = outcome
            if len(self._early) > _EARLY_LIMIT:  # the append hangs
                del self._early[next(iter(self._early))]

    # --- stepping -------------------------------------------------------------------------------------------------

    def _step(
        self, event: Event, at: float | None, seq: int, dialect: str, submission: _Submission | None = None
    ) -> Outcome:
        """Step one record, for a submission if it is of one. Nothing here waits, and only a bug raises."""
        outcome = self._receive(event, at, seq, dialect)
        outcome.journal_id, outcome.seq = self.journal_id, seq
        self.seq = seq
        if submission is not None:
            submission.add(outcome)  # before the listener, which wakes a worker: an answer does not wait for handlers
        if type(event) is SettingsChanged:
            self._rearm()
        self._listener(outcome, outcome.departed)
        return outcome

    def _infer_ends(self) -> None:
        """End the sessions with a sign of their end that is due by the time of the log."""
        if self.engine._grace.ends and self.engine.now is not None:
            self._append_ends(self.engine.ends_due(self.engine.now))

    def _append_ends(self, limits: list[DeadlinePassed]) -> None:
        """Append the limits of signs, and step them: the journal of a recorded log needs no waiting."""
        for limit in limits:
            assert self._append_now is not None  # noqa: S101
            entry = Entry(self.engine.now, Dialect.DAILY_JS, None, limit)
            self._step(limit, entry.at, self._append_now(entry), entry.dialect)

    def _pass_time_to(self, now: float | None) -> None:
        if now is not None and (departed := self.engine.advance(now)):
            self._listener(None, departed)

    # --- time -----------------------------------------------------------------------------------------------------

    async def run_timers(self) -> None:
        """Append limits when they are due, and let sessions go when their retention has passed."""
        while self._clock.timers and not self._closed:
            now = self.now() or 0.0
            due = self.engine.next_deadline()
            # Never longer than the shortest of all durations: a limit that begins meanwhile cannot be due before that.
            wait = self._shortest if due is None else min(due - now, self._shortest)
            if wait <= 0:
                await self._pass(now)
            else:
                with anyio.CancelScope() as self._nap:
                    await self._clock.sleep(wait)

    async def _pass(self, now: float) -> None:
        try:
            limits = [self._question_or(limit) for limit in self.engine.passed(now)]
            if limits:
                await self.submit_events(*limits)
            if self._append_now is not None:
                self._pass_time_to(now)
            elif (in_transit := in_transit_of(self._journal)) is not None:
                # Behind the events that came before, so that a recovery forgets at the same place; and later than any that may
                # come, so that a replay, which finds its session still there, says the same.
                await self._wait(_Submission((), now - in_transit))
            if self._tail is not None:
                await self._clock.sleep(_LOOK_AGAIN)
        except NotRunning:
            return  # closed while it waited
        except JournalError as error:
            self._log.error("journal.limit_failed", error=str(error), hint="it is tried again in a second")
            await self._clock.sleep(_RETRY_LIMITS_AFTER)

    def _question_or(self, limit: DeadlinePassed) -> Event:
        """Ask about a silent session where somebody can be asked; else the limit itself ends it."""
        if self._asks and limit.session_id is not None and limit.deadline in (SILENCE, PRESENCE):
            return PresenceChecked(session_id=limit.session_id, presence=Presence.UNKNOWN)
        return limit

    def _rearm(self) -> None:
        """Other settings hold: look again at all limits."""
        self._shortest = _shortest_of(self.engine.settings)
        self.look_at_limits()

    def look_at_limits(self) -> None:
        """Look now at what is due, and sleep anew: the clock has skipped some time."""
        if self._nap is not None:
            self._nap.cancel()

    # --- closing --------------------------------------------------------------------------------------------------

    def close(self, within: float) -> None:
        """Accept nothing more: fail what still waits, and give a commit under way so many seconds."""
        self._refuse()
        if self._commit_scope is not None:
            self._commit_scope.deadline = anyio.current_time() + within

    def _check_open(self) -> None:
        if self._closed:
            raise NotRunning("the dispatcher was left before the journal had the event")

    def _refuse(self, error: JournalError | None = None) -> None:
        self._closed = True
        _fail(list(self._queue), error or NotRunning("the dispatcher was left before the journal had the event"))
        _fail(
            [submission for submission, _ in self._own.values()],
            error or NotRunning("the dispatcher was left before the event came back from the journal, which has it"),
        )
        self._queue.clear()
        self._own.clear()


def _not_kept(error: Exception) -> JournalError:
    kind = EventTooLarge if isinstance(error, EventTooLarge) else JournalError
    return kind(f"the journal could not keep the event, so it was not taken in: {error}")


def _fail(batch: Sequence[_Submission], error: Exception) -> None:
    for submission in batch:
        submission.fail(error)


def _ignore(outcome: Outcome | None, departed: tuple[Session | Unmatched | Caller, ...]) -> None:
    """Listen to nothing: before `open`."""


def _never_falling(last: float | None, clock: Clock) -> Callable[[], float | None]:
    """Return a function for the time, which never falls, and goes on from the journal's last if that was ahead of the clock."""
    begin = clock.now()
    ahead = 0.0 if begin is None or last is None else max(0.0, last - begin)
    if isinstance(clock, SystemClock) and not ahead:
        return clock.now  # it never falls by itself, and each event asks
    latest = 0.0

    def now() -> float | None:
        nonlocal latest
        at = clock.now()
        if at is None:
            return None
        latest = max(latest, at + ahead)
        return latest

    return now


def _shortest_of(settings: Settings) -> float:
    """Return the shortest duration: of the settings, durations are floats, counts are not."""
    return min(value for value in settings.model_dump().values() if isinstance(value, float))
