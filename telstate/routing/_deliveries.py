"""Deliveries: what was begun and never finished when the process died, so that one poisoned event cannot keep a service down.

A handler can end the process (`os._exit`, a segmentation fault, the memory used up), and at the next start it would run again.
After a crash nobody knows which of the unfinished handlers it was, and most were only in flight with it. So what was unfinished
at two starts in a row is a suspect, and suspects run one at a time (`_trial.py`). Only the death of the suspect whose turn it is
counts; with the two deliveries before, beside others, that makes `max_deliveries`.

The record is written at a start, before the handlers run, and when a suspect takes longer than its turn; never in normal
operation. What came of each suspect is known by the marks that there are anyway: the first of `order` that is not marked is the
one that ran when the process died. A dispatcher that is left in order counts nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import anyio
from pydantic_core import from_json, to_json

from telstate.errors import RevisionConflict
from telstate.routing._abilities import abilities_of
from telstate.routing._cancellation import own_cancellation_only
from telstate.routing._lanes import Job
from telstate.routing._log import Log, failure_of
from telstate.routing._ports import Journal

__all__ = ["Deliveries"]

_KEY = "deliveries"
_TURN = 2.0
"""Seconds that a suspect has for itself. One that takes longer runs on beside the next."""
_SHORT_TURN = 0.1
"""Seconds of a turn where there are many suspects."""
_ALL_TURNS = 20.0
"""Seconds that all turns together should take at most, before the other handlers run."""
_LONGER = 4.0
"""The turns are so much longer after a crash that may be due to a suspect whose turn was over."""


@dataclass
class _Record:
    seen: list[int] = field(default_factory=list)
    """The work that was unfinished when the last handlers began, by its number: see `Journal`."""
    order: list[int] = field(default_factory=list)
    """The suspects whose turn was not over, in the order of their turns."""
    released: list[int] = field(default_factory=list)
    """The suspects that took longer than their turn."""
    deaths: dict[int, int] = field(default_factory=dict)
    """How often the process died in the turn of a suspect."""
    patience: float = 1.0
    """How much longer than usual the turns are."""
    retried: dict[int, int] = field(default_factory=dict)
    """The dead letters that are being tried again, with the number of runs in which they were."""
    asking: int | None = None
    """The event whose filters are asked by a start that asks them one at a time; 0 by one that does not yet."""
    filter_deaths: dict[int, int] = field(default_factory=dict)
    """How often the process died while the filters of an event were asked."""
    left: int | None = None
    """On a shared journal that was left in order: the last event that was stepped. None while an owner runs handlers."""
    cut_off: list[int] = field(default_factory=list)
    """The work that had begun then and was cut off."""

    def __bool__(self) -> bool:
        return bool(self.seen or self.retried or self.filter_deaths) or self.asking is not None


class Deliveries:
    """Counts deliveries of what was never finished.

    Args:
        journal: keeps the record, as a checkpoint of its own.
        limit: after so many deliveries work is given up.
    """

    def __init__(self, journal: Journal, limit: int) -> None:
        self._journal = journal
        self._is_shared = abilities_of(journal).is_shared
        self.limit = limit
        self._kept = _Record()
        """The record as it was read."""
        self._last = _Record()
        """The same, with what follows from the death of that run."""
        self._record = _Record()
        self._revision: int | None = None
        self._is_written = False
        self._asking: int | None = None
        """As in the record, by this start."""
        self._writing = anyio.Lock()
        self._log = Log()

    async def load(self) -> None:
        """Read the record, and conclude from the marks who ran alone when the process died."""
        try:
            kept = await self._journal.load(_KEY)
            if kept is None:
                self._last.left = 0  # nobody has owned it
                return
            state, self._revision = kept
            last = _read(state)
            finished = await self._journal.finished([*last.order, *last.released])
        except Exception as error:
            hint = "what was unfinished runs again as after a first crash"
            self._log.error("deliveries.unreadable", **failure_of(error), hint=hint)
            return
        self._kept, self._last, self._is_written = _read(state), last, bool(last)
        last.released = [number for number in last.released if number not in finished]
        on_trial = next((number for number in last.order if number not in finished), None)
        if on_trial is not None:
            last.deaths[on_trial] = last.deaths.get(on_trial, 0) + 1
        if last.released:
            last.patience *= _LONGER
        if last.asking:
            last.filter_deaths[last.asking] = last.filter_deaths.get(last.asking, 0) + 1

    def is_condemned(self, job: Job) -> bool:
        """Return True if work must not run again."""
        return self._last.deaths.get(job.seq, 0) >= self._deaths_limit

    @property
    def _deaths_limit(self) -> int:
        """How many deaths alone make up the limit: the first two deliveries are beside others."""
        return max(1, self.limit - 2)

    def suspects(self, jobs: Iterable[Job]) -> list[Job]:
        """Return the suspects among unfinished work: what was unfinished at the start before this one too.

        At a limit of 2 also what is unfinished for the first time: else its second delivery would be beside others.
        """
        seen = set(self._last.seen)
        return [job for job in jobs if job.seq in seen or (self.limit <= 2 and _is_again(job))]

    def deaths(self, job: Job) -> int:
        """Return how often the process died in its turn."""
        return self._last.deaths.get(job.seq, 0)

    def turn(self, suspects: int) -> float:
        """Return the seconds of each turn."""
        return self._record.patience * max(_SHORT_TURN, min(_TURN, _ALL_TURNS / suspects))

    # --- writing --------------------------------------------------------------------------------------------------

    async def begin(self, unfinished: Sequence[Job], order: Sequence[Job]) -> None:
        """Write down what is unfinished, before it runs.

        Args:
            unfinished: all that runs again.
            order: the suspects, in the order of their turns.
        """
        numbers = [job.seq for job in unfinished if _is_again(job)]
        known = set(numbers)
        self._record = _Record(
            seen=numbers,
            order=[job.seq for job in order],
            deaths={number: deaths for number, deaths in self._last.deaths.items() if number in known},
            patience=self._last.patience if known.intersection(self._last.seen) else 1.0,
            retried=dict(self._last.retried),
            filter_deaths={seq: deaths for seq, deaths in self._last.filter_deaths.items() if seq in known},
        )
        await self._write(self._record)

    async def release(self, job: Job, behind: Iterable[Job], *, alone: bool) -> None:
        """A suspect took longer than its turn. Those behind it in its lane get theirs when it has finished.

        Args:
            alone: no other that was released ran beside it, so the earlier deaths were not due to it.
        """
        record, gone = self._record, {job.seq, *(waiting.seq for waiting in behind)}
        record.order = [number for number in record.order if number not in gone]
        record.released.append(job.seq)
        if alone:
            record.deaths.pop(job.seq, None)
        await self._write(self._record)

    async def end(self, left: int | None, cut_off: Iterable[Job]) -> None:
        """The dispatcher is left in order: the next start has nothing to suspect.

        Args:
            left: the last event that was stepped; None if its checkpoint or some marks could not be written.
            cut_off: the work that has begun, and has not finished.
        """
        self._record = _Record()
        if self._is_shared:
            self._record = _Record(left=left, cut_off=[job.seq for job in cut_off])
        await self._write(self._record)

    def was_handed_over(self, seq: int) -> bool:
        """Return True if the shared journal was left in order at the checkpoint of this event: nobody has begun what came later."""
        return self._is_shared and self._last.left == seq

    def was_cut_off(self, job: Job) -> bool:
        """Return True if work had begun when the journal was left in order."""
        return job.seq in self._last.cut_off

    # --- filters --------------------------------------------------------------------------------------------------

    def has_poisoned_filter(self, seq: int) -> bool:
        """Return True if the filters of an event must not be asked again."""
        return self._last.filter_deaths.get(seq, 0) >= self._deaths_limit

    async def ask_filters(self, seq: int) -> None:
        """A start is about to ask the filters of an unfinished event. If the start before died over that, each one is written down."""
        asking = 0 if self._kept.asking is None else seq
        if self._asking != asking:
            self._asking = asking
            await self._write(replace(self._kept, asking=asking, filter_deaths=self._last.filter_deaths))

    # --- dead letters ---------------------------------------------------------------------------------------------

    def may_be_retried(self, letter: int) -> bool:
        """Return False for a dead letter during whose retries the process died as often as the limit says."""
        return self._last.retried.get(letter, 0) < self.limit

    async def retrying(self, letters: Iterable[int]) -> None:
        """Dead letters are about to be tried again; durable on return."""
        retried = self._record.retried
        for letter in letters:
            retried[letter] = self._last.retried.get(letter, 0) + 1
        await self._write(self._record)

    # --- the journal ----------------------------------------------------------------------------------------------

    async def _write(self, record: _Record) -> None:
        if not record and not self._is_written and not self._is_shared:
            return
        try:
            async with self._writing:
                with own_cancellation_only():
                    await self._save(to_json(asdict(record)))
            self._is_written = bool(record)
        except RevisionConflict as error:
            hint = "another process has taken the journal over: it counts from now on"
            self._log.info("deliveries.conflict", error=str(error), hint=hint)
        except Exception as error:
            hint = "handlers run all the same; should one of them end the process, that is not counted"
            self._log.error("deliveries.not_written", **failure_of(error), hint=hint)

    async def _save(self, state: bytes) -> None:
        try:
            self._revision = await self._journal.save(_KEY, state, self._revision)
        except RevisionConflict:  # by a save of ours that was cut off, or by the process before, which is gone
            kept = await self._journal.load(_KEY)
            self._revision = await self._journal.save(_KEY, state, kept and kept[1])


def _is_again(job: Job) -> bool:
    """Return True for work of an earlier run: not for what a start itself appended."""
    return job.outcome is None or bool(job.outcome.redelivered)


def _read(state: bytes) -> _Record:
    fields: dict[str, Any] = from_json(state)
    for name in ("deaths", "retried", "filter_deaths"):
        fields[name] = {int(number): int(count) for number, count in fields[name].items()}
    return _Record(**fields)
