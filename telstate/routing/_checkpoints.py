"""Checkpoints: everything that is known and unfinished as of one event. A recovery begins there, not at the first event.

A snapshot is taken at once, between two steps. Writing it as JSON takes longer and happens in a thread.
"""

from __future__ import annotations

import math
from time import monotonic
from typing import Any, NamedTuple, Protocol

import anyio
import anyio.to_thread

from telstate.calls._engine import Engine
from telstate.errors import RevisionConflict
from telstate.routing._abilities import abilities_of
from telstate.routing._cancellation import own_cancellation_only
from telstate.routing._checkpoint_codec import VERSION, decode_checkpoint, encode_checkpoint
from telstate.routing._collector_pause import collector_paused
from telstate.routing._job_codec import encode_job
from telstate.routing._lanes import Lanes
from telstate.routing._log import Log, failure_of
from telstate.routing._ports import Base, Journal
from telstate.routing._sequencer import Sequencer
from telstate.routing._work_log import WorkLog

__all__ = ["Checkpoint", "Checkpoints"]

_KEY = "engine"
_AT_MOST = 8
"""Times the journal's own number of events between two checkpoints, however much there is to save: a start has ten seconds."""
_SOONER = 20
"""A checkpoint for which there was no quiet moment is tried again after this share of the events."""
_BYTES_PER_EVENT = 12
"""So many bytes of a checkpoint, which is compressed, take as long to write as one event takes to step."""


class Checkpoint(NamedTuple):
    """Everything as of one event."""

    seq: int
    """The last event that is in it."""
    engine: dict[str, Any]
    """The engine's snapshot."""
    jobs: list[dict[str, Any]]
    """What is not done: see `encode_job`."""
    marks: list[int]
    """What is done and was not marked yet, or is not due here yet."""


class Stepped(Protocol):
    """What a checkpoint is taken of: the sequencer, or a recovery."""

    engine: Engine
    seq: int
    """The number of the last event that the engine took in."""


class Checkpoints:
    """The checkpoints of one journal, of which the last counts.

    Args:
        journal: keeps them.
        sequencer: has the engine.
        work_log: has the marks.
        lanes: have the unfinished jobs.
    """

    def __init__(self, journal: Journal, sequencer: Sequencer, work_log: WorkLog, lanes: Lanes) -> None:
        self._journal = journal
        self._sequencer = sequencer
        self._work_log = work_log
        self._lanes = lanes
        self._every = journal.checkpoint_every
        self._keep_base = abilities_of(journal).keep_base
        self._is_shared = abilities_of(journal).is_shared
        self._revision: int | None = None
        self._attempted: bytes | None = None
        """What a save that was cut off may have written."""
        self._saved = 0
        """The last event that a checkpoint has."""
        self.saved_at: float | None = None
        """When this run saved one last, by the monotonic clock; None before."""
        self.due_at: float = math.inf if self._every is None else self._every
        """The number of the event at which the next one is due."""
        self._due = anyio.Event()
        self._log = Log()

    def wake(self) -> None:
        """The sequencer has come to `due_at`."""
        self._due.set()

    def request(self) -> None:
        """Make one due now, also where no event came since the last: time has passed, and sessions have left memory."""
        self._saved = min(self._saved, self._sequencer.seq - 1)
        self.due_at = min(self.due_at, self._sequencer.seq)
        self._due.set()

    async def run(self) -> None:
        """Save a checkpoint whenever reading again what came since the last would take longer than reading it."""
        while self._every is not None:
            await self._due.wait()
            self._due = anyio.Event()
            if self._sequencer.seq >= self.due_at:  # an event during the last save has set it, too
                await self.save()

    async def load(self) -> Checkpoint | None:
        """Read the last one; None if there is none.

        Raises:
            JournalError: if the journal cannot be read.
            Exception: of any kind, if it is damaged.
        """
        kept = await self._journal.load(_KEY)
        if kept is None:
            return None
        state, self._revision = kept
        return await self.read(state)

    async def read(self, state: bytes) -> Checkpoint:
        """Read the bytes of one; raises as `load`."""
        fields = await anyio.to_thread.run_sync(decode_checkpoint, state)
        if fields["version"] != VERSION:
            raise ValueError(f"a newer telstate wrote it (version {fields['version']})")
        if fields["journal"] != self._journal.id:
            raise ValueError("it belongs to another journal")
        return Checkpoint(int(fields["seq"]), fields["engine"], fields["work"], fields["marks"])

    def has(self, seq: int) -> bool:
        """Return True if a checkpoint was saved, or begun at, that has this event; also before the first event."""
        return seq == self._saved

    @property
    def behind(self) -> int | None:
        """How many events a start would have to read, as of now; None if this journal needs no checkpoints."""
        return None if self._every is None else max(0, self._sequencer.seq - self._saved)

    def begin_at(self, seq: int) -> None:
        """The engine has come from the checkpoint of this event."""
        self._saved = seq
        self.due_at = math.inf if self._every is None else seq + self._every

    async def save(self, *, is_last: bool = False) -> None:
        """Save a checkpoint in place of the last, if anything came since. A failure is logged: only the next start is slower.

        Args:
            is_last: no handler runs any more.
        """
        await self.save_as_of(self._sequencer, is_last=is_last)

    async def save_as_of(self, stepped: Stepped, *, is_last: bool = False) -> None:
        """Save one of a recovery that is under way; otherwise as `save`."""
        if self._every is None or stepped.seq <= self._saved:
            return
        try:
            if (
                not await self._work_log.settle()
            ):  # what is done is no job any more, so what came of it must be kept by then
                self.due_at = stepped.seq + self._every // _SOONER
                return
            seq, snapshot, base = stepped.seq, self._snapshot(stepped), self._base(stepped)
            state = await anyio.to_thread.run_sync(encode_checkpoint, snapshot)
            with own_cancellation_only():
                await self._replace(state)
                if self._keep_base is not None:
                    await self._keep_base(base._replace(state=state, is_last=is_last))
            self._saved, self.saved_at = seq, monotonic()
            self.due_at = seq + max(self._every, min(len(state) // _BYTES_PER_EVENT, _AT_MOST * self._every))
        except RevisionConflict as error:
            hint = "another process writes this journal's checkpoints: stop one of the two"
            if self._is_shared:  # where that is how it is meant to be
                hint = "another process has taken this journal over"
            (self._log.info if self._is_shared else self._log.error)("checkpoint.conflict", error=str(error), hint=hint)
            self.due_at = stepped.seq + self._every
        except Exception as error:
            hint = "it is tried again; until then a start takes longer"
            self._log.error("checkpoint.failed", **failure_of(error), hint=hint)
            self.due_at = stepped.seq + self._every

    def _base(self, stepped: Stepped) -> Base:
        """Return what a journal needs to know of a checkpoint before it removes the events that are in it."""
        engine, seq = stepped.engine, stepped.seq
        known = frozenset(engine.known_numbers())
        working = [abs(job.seq) for job in self._lanes.unfinished() if not job.letter]
        return Base(seq, engine.now or 0.0, known, min([seq, *known, *working]), b"")

    def _snapshot(self, stepped: Stepped) -> dict[str, Any]:
        return {
            "version": VERSION,
            "journal": self._journal.id,
            "seq": stepped.seq,
            "engine": _snapshot_of(stepped.engine),
            "work": [encode_job(job) for job in self._lanes.unfinished()],
            "marks": [*self._work_log.unwritten, *self._work_log.done_before],
        }

    async def _replace(self, state: bytes) -> None:
        """Save. Only what an own save has left that was cut off is overwritten: anything else is somebody else's."""
        try:
            self._revision = await self._save(state)
        except RevisionConflict:
            kept = await self._journal.load(_KEY)
            if kept is None or kept[0] != self._attempted:
                raise
            self._revision = kept[1]
            self._revision = await self._save(state)

    async def _save(self, state: bytes) -> int:
        previous, self._attempted = self._attempted, state
        try:
            revision = await self._journal.save(_KEY, state, self._revision)
        except RevisionConflict:
            self._attempted = previous
            raise
        self._attempted = None
        return revision


@collector_paused()
def _snapshot_of(engine: Engine) -> dict[str, Any]:
    return engine.snapshot()
