"""Recovery: state is the fold of the journal, from the last checkpoint on; unfinished work is found on the way.

The same engine takes in the same events at the same times, so it comes to the same state. What the program says at its start
(other settings, that events may have been missed while it was down) goes into the journal like everything else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, NamedTuple

import anyio
import anyio.to_thread
from pydantic import ValidationError

from telstate.calls._caller import Caller
from telstate.calls._engine import Engine
from telstate.calls._outcome import Outcome, Unmatched
from telstate.calls._session import Session
from telstate.calls._settings import Settings
from telstate.errors import JournalError, ParseError
from telstate.events import Dialect, Event, SettingsChanged, SourceGap
from telstate.routing._abilities import abilities_of, append, in_transit_of
from telstate.routing._checkpoints import Checkpoint, Checkpoints
from telstate.routing._collector_pause import collector_paused
from telstate.routing._deliveries import Deliveries
from telstate.routing._handlers import BoundHandler, HandlerTable
from telstate.routing._job_codec import JobContext, decode_job, lane_of, retirement_of
from telstate.routing._lanes import Job, Lanes
from telstate.routing._log import Log
from telstate.routing._outbox import Outbox
from telstate.routing._payload import read_record
from telstate.routing._ports import Base, Entry, Journal, Notification, Record
from telstate.routing._work_log import WorkLog

__all__ = ["Recovered", "Recovery"]

_AT_ONCE = 500
_YIELD_EVERY = 100
"""How many records are stepped before others get a turn of the event loop: a worker recovers one journal while it runs others."""
_AHEAD = 1.0
"""Seconds by which a journal's last time may be ahead of the clock without a word: other machines' clocks differ a little."""
_REPORT_EVERY = 5.0
"""Seconds after which a long start says where it is, and saves a checkpoint: the next one goes on from there."""


class Recovered(NamedTuple):
    """Where to go on."""

    engine: Engine
    seq: int
    """The last event that the engine took in."""


class _Found(NamedTuple):
    """Work, and what others outside are to be told about it."""

    job: Job | None
    """None for messages alone."""
    messages: list[Notification]


class Recovery:
    """Restores what a journal knows.

    Args:
        journal: open already.
        handlers: those there are now.
        work_log: learns which work has no handler.
        lanes: take the work that is to be done again.
        deliveries: know which work must not run again.
        outbox: makes the messages that were not written; None if nobody outside is told.
    """

    def __init__(  # noqa: PLR0917 - made in one place
        self,
        journal: Journal,
        handlers: HandlerTable,
        work_log: WorkLog,
        lanes: Lanes,
        deliveries: Deliveries,
        outbox: Outbox | None = None,
    ) -> None:
        self._outbox = outbox
        self._deliveries = deliveries
        self._journal = journal
        self._handlers = handlers
        self._work_log = work_log
        self._lanes = lanes
        self._is_shared = abilities_of(journal).is_shared
        self.engine: Engine = Engine()
        self.seq: int = 0
        """The number of the last event that the engine took in."""
        self._base: Base | None = None
        """Of a pruned journal whose base cannot be read."""
        self._found: list[_Found] = []
        """Work that may be done already: retirements are looked up many at once."""
        self._is_handed_over = False
        """True if the owner before has left the journal in order: then it is known which handlers have begun."""
        self._appended: frozenset[int] = frozenset()
        """On a shared journal: what this start has appended, and reads back."""
        self._marked: set[int] = set()
        """What the checkpoint says is done, though it may not be marked."""
        self._has_gap = False
        """True if an unfinished event says that events may have been missed."""
        self._log = Log()

    async def run(self, settings: Settings | None, checkpoints: Checkpoints, now: float | None) -> Recovered:
        """Fold the journal, then append what the start says.

        Args:
            settings: those that hold from now on; None for those that held before.
            checkpoints: have the last one.
            now: Unix seconds; None where no time is known.
        """
        kept = self._journal.settings
        self.engine = Engine(settings if kept is None else _settings(kept))
        if not await self._begin_at_checkpoint(checkpoints) and not await self._begin_at_base(checkpoints):
            self._is_handed_over = self._deliveries.was_handed_over(0)
            await self._fold(0, checkpoints)
        self._compare_clocks(now)
        at = max(now or 0.0, self.engine.now or 0.0)
        if self.seq:
            # What has left memory by now may have run its on_retired: passing time leaves only marks in the journal.
            self._find_retired(self.engine.advance(at - (in_transit_of(self._journal) or 0.0)))
            await self._settle()
        await self._append_start(settings, at)
        await self._find_done_before()
        return Recovered(self.engine, self.seq)

    async def _find_done_before(self) -> None:
        """Find the sessions that are known here, and whose on_retired has run: it must not run again when they leave memory here.

        The clock of the machine that ran it was ahead of ours, or ours has been set back since.
        """
        ended = [-session.opened for session in self.engine.sessions() if session.ended]
        self._work_log.done_before = await self._are_finished(ended)

    async def _are_finished(self, seqs: list[int]) -> set[int]:
        return await self._journal.finished(seqs) | self._marked.intersection(seqs)

    async def _begin_at_base(self, checkpoints: Checkpoints) -> bool:
        """Go on from the checkpoint that stands for the events that a journal has pruned; return False if it has pruned none."""
        load = abilities_of(self._journal).base
        base = None if load is None else await load()
        if base is None:
            return False
        if not await self._begin_at(checkpoints, lambda: checkpoints.read(base.state)):
            # The events of what was known then are still there. Those of the rest are not, or in part: it is over, and stays so.
            self._base = base
            await self._fold(base.oldest - 1, checkpoints)
        return True

    def _compare_clocks(self, now: float | None) -> None:
        """Warn if the journal's last time lies in the future. The sequencer's time goes on from there, so limits still pass."""
        last = self.engine.now
        if now is None or last is None or last - now < _AHEAD:
            return
        hint = "the machine's clock was wrong, then or now; times go on from the journal's last, and limits pass as they should"
        self._log.warning("journal.ahead_of_clock", seconds=round(last - now, 1), hint=hint)

    async def _begin_at_checkpoint(self, checkpoints: Checkpoints) -> bool:
        """Go on from the last checkpoint; return False if none fits this journal."""
        return await self._begin_at(checkpoints, checkpoints.load)

    async def _begin_at(self, checkpoints: Checkpoints, load: Callable[[], Awaitable[Checkpoint | None]]) -> bool:
        try:
            checkpoint = await load()
            if checkpoint is None:
                return False
            engine = await self._restore(checkpoint.engine)
            self._is_handed_over = self._deliveries.was_handed_over(checkpoint.seq)
            context = JobContext(engine, self._handlers, self._journal.id)
            jobs = [self._decode(job, context) for job in checkpoint.jobs]
        except JournalError:
            raise
        except Exception as error:  # of any kind: a checkpoint is only a shortcut
            self._is_handed_over = False
            hint = "the whole journal is read instead, which takes longer"
            self._log.warning("checkpoint.unreadable", error=str(error), hint=hint)
            return False
        # A shared journal may have pruned its event.
        if not self._is_shared and not await self._has(checkpoint):
            hint = "the journal does not have its event; the whole journal is read instead"
            self._log.warning("checkpoint.of_another_journal", seq=checkpoint.seq, hint=hint)
            return False
        self.engine, self.seq = engine, checkpoint.seq
        checkpoints.begin_at(checkpoint.seq)
        self._marked = set(checkpoint.marks)
        for number in checkpoint.marks:
            self._work_log.done(int(number))
        # A dead letter that was being tried again is a job of work that is done: the letter is still there.
        finished = await self._are_finished([job.seq for job in jobs])
        for job in jobs:
            if job.seq not in finished:
                self._do_again(job)
        await self._fold(checkpoint.seq, checkpoints)
        return True

    async def _restore(self, snapshot: dict[str, Any]) -> Engine:
        """Restore an engine. A process with several journals goes on meanwhile with the others."""
        return await anyio.to_thread.run_sync(_restored, snapshot) if self._is_shared else _restored(snapshot)

    def _decode(self, encoded: dict[str, Any], context: JobContext) -> Job:
        job = decode_job(encoded, context)
        if job.outcome is not None:
            was_begun = not self._is_handed_over or self._deliveries.was_cut_off(job)
            job.outcome.redelivered = was_begun or bool(encoded.get("redelivered"))
        return job

    async def _has(self, checkpoint: Checkpoint) -> bool:
        async with aclosing(self._journal.read(checkpoint.seq - 1)) as records:
            record = await anext(records, None)
        return record is not None and record.seq == checkpoint.seq

    async def _fold(self, after: int, checkpoints: Checkpoints | None = None) -> None:
        """Take in what the journal has after an event. Where that takes long, say how far it is, and save what was reached."""
        report_at, stepped = anyio.current_time() + _REPORT_EVERY, 0
        async with aclosing(self._journal.read(after)) as records:
            async for record in records:
                outcome = self._step(record)
                if outcome is not None and not record.done:
                    is_new = self._is_handed_over or record.seq in self._appended
                    await self._find_work(outcome, record.seq, redelivered=not is_new)
                if len(self._found) >= _AT_ONCE:
                    await self._settle()
                stepped += 1
                if not stepped % _YIELD_EVERY:
                    await anyio.lowlevel.checkpoint()
                if not stepped % _AT_ONCE and checkpoints is not None and anyio.current_time() >= report_at:
                    await self._settle()
                    await checkpoints.save_as_of(self)
                    hint = "a start reads what came since the last checkpoint"
                    self._log.info("journal.reading", seq=record.seq, received_at=record.at, hint=hint)
                    report_at = anyio.current_time() + _REPORT_EVERY
        await self._settle()

    def _step(self, record: Record) -> Outcome | None:
        """Take in one record; return its outcome, if it can be read."""
        self.seq = record.seq
        try:
            event = read_record(record)
        except ParseError as error:  # an event that was read once must not keep the program from starting
            self._work_log.give_up_unreadable(record, error)
            return None
        outcome = self.engine.receive(event, record.at, record.seq, record.dialect)
        if record.done and outcome.departed:
            self._find_retired(outcome.departed)
        return outcome

    async def _find_work(self, outcome: Outcome, seq: int, *, redelivered: bool) -> None:
        """Note the work that an outcome calls for, and that of what left memory with it."""
        outcome.journal_id, outcome.seq, outcome.redelivered = self._journal.id, seq, redelivered
        handlers = await self._handlers_of(outcome, seq)
        messages = [] if self._outbox is None else self._outbox.messages_of(outcome, self.engine)
        self._found.append(_Found(Job(seq, handlers, outcome.event, outcome.session, outcome), []))
        self._find_retired(outcome.departed)
        self._found.append(_Found(None, messages))  # behind those of what left memory, as in a step

    async def _handlers_of(self, outcome: Outcome, seq: int) -> tuple[BoundHandler, ...]:
        """Return the handlers that an outcome calls for. A filter that ends the process must not do so at every start."""
        filtered = self._handlers.with_where(outcome)
        if not filtered:
            return self._handlers.find(outcome)
        if self._deliveries.has_poisoned_filter(seq):
            job = Job(seq, filtered, outcome.event, outcome.session, outcome)
            self._work_log.give_up_filters(job, self._deliveries.limit)
            return self._handlers.without_where(outcome)
        await self._deliveries.ask_filters(seq)
        return self._handlers.find(outcome)

    def _find_retired(self, departed: tuple[Session | Unmatched | Caller, ...]) -> None:
        for gone in departed:
            if isinstance(gone, Session) and not self._is_remainder(gone):
                messages = [] if self._outbox is None else self._outbox.last_messages_of(gone, self.engine)
                self._found.append(_Found(retirement_of(gone, self._handlers), messages))

    def _is_remainder(self, session: Session) -> bool:
        """Return True for a session of which a pruned journal has only the last events: it was retired long ago."""
        return self._base is not None and session.opened <= self._base.seq and session.opened not in self._base.known

    async def _settle(self) -> None:
        """Do again what was found, in order, without the retirements whose handlers are known to have run."""
        found, self._found = self._found, []
        finished = await self._are_finished([job.seq for job, _ in found if job is not None and job.seq < 0])
        for job, messages in found:
            if job is not None and job.seq in finished:
                continue
            if self._outbox is not None:
                self._outbox.post(messages)
            if job is not None:
                self._do_again(job)

    def _do_again(self, job: Job) -> None:
        self._has_gap = self._has_gap or (type(job.event) is SourceGap and bool(job.handlers))
        if not job.handlers:
            self._work_log.done(job.seq)
        elif self._deliveries.is_condemned(job):
            self._work_log.give_up_poisoned(job, self._deliveries.limit)
        else:  # its lane takes it however full it is: it was accepted before
            self._lanes.put(lane_of(job), job, force=True)

    async def _append_start(self, settings: Settings | None, now: float) -> None:
        """Other settings hold from now on; and nothing is certain about sessions that were live.

        On a shared journal others went on to append, so nothing was missed; and their events may come before these.
        """
        events: list[Event] = []
        if settings is not None and settings != self.engine.settings:
            events.append(SettingsChanged(settings=settings.model_dump()))
        if not self._is_shared and self._has_missed_events():
            events.append(SourceGap(reason="the program was not running"))
        seqs = await append(self._journal, [Entry(now, Dialect.DAILY_JS, None, event) for event in events], self.seq)
        if self._is_shared:
            self._appended = frozenset(seqs)
            if seqs:
                await self._fold(self.seq)
            return
        for seq, event in zip(seqs, events, strict=True):
            self.seq = seq
            outcome = self.engine.receive(event, now, seq, Dialect.DAILY_JS)
            await self._find_work(outcome, seq, redelivered=False)
        await self._settle()

    def _has_missed_events(self) -> bool:
        """Return True if the start has to say that events may have been missed.

        Not where the last start has said so, its handlers have not finished, and nothing was heard since. Should they end the
        process, there would be one more such event at every start.
        """
        live = self.engine.live()
        return any(not session.uncertain for session in live) if self._has_gap else bool(live)


@collector_paused()
def _restored(snapshot: dict[str, Any]) -> Engine:
    return Engine.restore(snapshot)


def _settings(kept: dict[str, Any]) -> Settings:
    try:
        return Settings.model_validate(kept)
    except ValidationError as error:
        raise JournalError(
            f"the journal's settings are not for this telstate: use the one that wrote it ({error})"
        ) from None
