"""Recovery: state is the fold of the journal, from the last checkpoint on; what was not done is found again on the way.

The same engine takes in the same events at the same times, so it comes to the same state. What the program says at its start
(other settings, that events may have been missed while it was down) goes into the journal like everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Any, NamedTuple

from pydantic import ValidationError

from telstate.calls._engine import Engine
from telstate.calls._outcome import Outcome, Unmatched
from telstate.calls._session import Session
from telstate.calls._settings import Settings
from telstate.errors import JournalError, ParseError
from telstate.events import Event, SettingsChanged, SourceGap, parse
from telstate.routing._checkpoints import Checkpoints
from telstate.routing._job_codec import Present, number_of_retirement, read
from telstate.routing._keeper import append, entry_of
from telstate.routing._lanes import Job
from telstate.routing._log import Log
from telstate.routing._plan import Call, Plan
from telstate.routing._ports import DeadLetter, Journal, Record

__all__ = ["Recovered", "Recovery"]

_AT_ONCE = 500


class Recovered(NamedTuple):
    """What came of it."""

    engine: Engine
    seq: int
    """The last event that the engine took in."""
    since: int
    """How many of them no checkpoint has."""


class Recovery:
    """Brings back what a journal knows.

    Args:
        journal: open already.
        plan: which handlers there are now.
        put: takes work that is to be done again.
        mark: takes the number of work for which there is no handler.
        failed: told of a filter that raised.
    """

    def __init__(
        self,
        journal: Journal,
        plan: Plan,
        put: Callable[[Job], None],
        mark: Callable[[int], None],
        failed: Callable[[Call, Exception], None],
    ) -> None:
        self._journal = journal
        self._plan = plan
        self._put = put
        self._mark = mark
        self._failed = failed
        self._engine = Engine()
        self._seq = 0
        self._since = 0
        self._found: list[Job] = []
        """Work that may be done: retirements are looked up many at once."""
        self._log = Log()

    async def run(self, told: Settings | None, checkpoints: Checkpoints, now: float) -> Recovered:
        """Fold the journal, then tell it that the program started.

        Args:
            told: the settings that hold from now on; None for those that held before.
            checkpoints: where the last one is.
            now: Unix seconds.
        """
        kept = self._journal.settings
        self._engine = Engine(told if kept is None else _settings(kept))
        if not await self._begin_at_checkpoint(checkpoints):
            await self._fold(0)
        # What has left memory by now may have been told before: time that passes leaves no trace in the journal but the marks.
        self._note_retired(self._engine.advance(max(now, self._engine.now or 0.0)))
        await self._settle()
        await self._tell_of_start(told, now)
        return Recovered(self._engine, self._seq, self._since)

    async def _begin_at_checkpoint(self, checkpoints: Checkpoints) -> bool:
        """Go on from the last checkpoint; False if there is none, or none that fits this journal."""
        try:
            point = await checkpoints.load()
            if point is None:
                return False
            engine = Engine.restore(point.engine)
            present = Present(engine, self._plan, self._journal.id)
            jobs = [read(work, present) for work in point.work]
        except JournalError:
            raise
        except Exception as error:  # whatever is wrong with it, it is only a shortcut
            hint = "the whole journal is read instead, which takes longer"
            self._log.warning("checkpoint.unreadable", error=str(error), hint=hint)
            return False
        async with aclosing(self._journal.read(point.seq - 1)) as records:
            record = await anext(records, None)
        if record is None or record.seq != point.seq:
            hint = "the journal does not have its event; the whole journal is read instead"
            self._log.warning("checkpoint.of_another_journal", seq=point.seq, hint=hint)
            return False
        self._engine, self._seq = engine, point.seq
        for number in point.marks:
            self._mark(int(number))
        finished = await self._journal.finished([job.seq for job in jobs])
        for job in jobs:
            if job.seq not in finished:
                self._again(job)
        await self._fold(point.seq)
        return True

    async def _fold(self, after: int) -> None:
        async with aclosing(self._journal.read(after)) as records:
            async for record in records:
                await self._take(record)
        await self._settle()

    async def _take(self, record: Record) -> None:
        self._seq = record.seq
        self._since += 1
        try:
            event = parse(record.payload, record.dialect)
        except ParseError as error:
            await self._give_up(record, error)
            return
        self._follow(self._engine.receive(event, record.at, record.seq), record.seq, done=record.done)
        if len(self._found) >= _AT_ONCE:
            await self._settle()

    def _follow(self, outcome: Outcome, seq: int, *, done: bool) -> None:
        """What an event calls for, unless it was done."""
        outcome.journal_id, outcome.seq = self._journal.id, seq
        if not done:
            outcome.redelivered = True
            calls = self._plan.calls_for(outcome, self._failed)
            self._found.append(Job(seq, calls, outcome.event, outcome.session, outcome))
        self._note_retired(outcome.departed)

    def _note_retired(self, departed: tuple[Session | Unmatched, ...]) -> None:
        for gone in departed:
            if isinstance(gone, Session):
                self._found.append(Job(number_of_retirement(gone), self._plan.retired, None, gone, None))

    def _again(self, job: Job) -> None:
        if job.calls:
            self._put(job)
        else:
            self._mark(job.seq)

    async def _settle(self) -> None:
        """Do again what was found, in order, unless it is a retirement whose handlers are known to have run."""
        found, self._found = self._found, []
        finished = await self._journal.finished([job.seq for job in found if job.seq < 0])
        for job in found:
            if job.seq not in finished:
                self._again(job)

    async def _give_up(self, record: Record, error: ParseError) -> None:
        """An event that was read once and cannot be any more must keep nobody from starting."""
        self._log.error("journal.unreadable_event", event_id=f"{self._journal.id}:{record.seq}", error=str(error))
        if not record.done:
            letter = DeadLetter(record.seq, "ParseError", None, str(error), record.at, record.dialect, record.payload)
            await self._journal.add_dead_letters([letter])
            self._mark(record.seq)

    async def _tell_of_start(self, told: Settings | None, now: float) -> None:
        """Other settings hold from now on; and of what was live, nothing is certain."""
        events: list[Event] = []
        if told is not None and told != self._engine.settings:
            events.append(SettingsChanged(settings=told.model_dump()))
        if self._engine.live():
            events.append(SourceGap(reason="the program was not running"))
        now = max(now, self._engine.now or 0.0)
        seqs = await append(self._journal, [entry_of(event, now) for event in events])
        for seq, event in zip(seqs, events, strict=True):
            self._seq = seq
            self._since += 1
            outcome = self._engine.receive(event, now, seq)
            self._follow(outcome, seq, done=False)
            outcome.redelivered = False
        await self._settle()


def _settings(kept: dict[str, Any]) -> Settings:
    try:
        return Settings.model_validate(kept)
    except ValidationError as error:
        raise JournalError(
            f"the journal's settings are not for this telstate: use the one that wrote it ({error})"
        ) from None
