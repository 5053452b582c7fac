"""Checkpoints: everything that is known and unfinished as of one event. A recovery begins there, not at the first event.

A snapshot is taken at once, between two steps. Writing it as JSON takes longer and happens in a thread, in lines of a few
hundred items: encoding it in one go would keep the event loop waiting for the interpreter's lock.
"""

from __future__ import annotations

import gc
import math
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import anyio
import anyio.to_thread
from pydantic_core import from_json, to_json

from telstate.errors import RevisionConflict
from telstate.routing._cancellation import own_cancellation_only
from telstate.routing._job_codec import encode_job
from telstate.routing._lanes import Lanes
from telstate.routing._log import Log, traceback_of
from telstate.routing._ports import Journal
from telstate.routing._sequencer import Sequencer
from telstate.routing._work_log import WorkLog

__all__ = ["Checkpoint", "Checkpoints"]

_KEY = "engine"
_VERSION = 1
_LINE_ITEMS = 500
_AT_MOST = 8
"""Times the journal's own number of events between two checkpoints, however much there is to save: a start has ten seconds."""
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
    """What is done and was not marked yet."""


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
        self._revision: int | None = None
        self._attempted: bytes | None = None
        """What a save that was cut off may have written."""
        self._saved = 0
        """The last event that a checkpoint has."""
        self.due_at: float = math.inf if self._every is None else self._every
        """The number of the event at which the next one is due."""
        self._due = anyio.Event()
        self._log = Log()

    def wake(self) -> None:
        """The sequencer has come to `due_at`."""
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
        fields = await anyio.to_thread.run_sync(_decode, state)
        if fields["version"] != _VERSION:
            raise ValueError(f"a newer telstate wrote it (version {fields['version']})")
        if fields["journal"] != self._journal.id:
            raise ValueError("it belongs to another journal")
        return Checkpoint(int(fields["seq"]), fields["engine"], fields["work"], fields["marks"])

    def begin_at(self, seq: int) -> None:
        """The engine has come from the checkpoint of this event."""
        self._saved = seq
        self.due_at = math.inf if self._every is None else seq + self._every

    async def save(self) -> None:
        """Save a checkpoint in place of the last, if anything came since. A failure is logged: only the next start is slower."""
        if self._every is None or self._sequencer.seq <= self._saved:
            return
        try:
            await self._work_log.settle()  # what is done is no job any more, so what came of it must be kept by then
            seq = self._sequencer.seq
            state = await anyio.to_thread.run_sync(_encode, self._snapshot())
            with own_cancellation_only():
                await self._replace(state)
            self._saved = seq
            self.due_at = seq + max(self._every, min(len(state) // _BYTES_PER_EVENT, _AT_MOST * self._every))
        except RevisionConflict as error:
            hint = "another process writes this journal's checkpoints: stop one of the two"
            self._log.error("checkpoint.conflict", error=str(error), hint=hint)
            self.due_at = self._sequencer.seq + self._every
        except Exception as error:
            hint = "it is tried again; until then a start takes longer"
            self._log.error("checkpoint.failed", exception=traceback_of(error), hint=hint)
            self.due_at = self._sequencer.seq + self._every

    def _snapshot(self) -> dict[str, Any]:
        return {
            "version": _VERSION,
            "journal": self._journal.id,
            "seq": self._sequencer.seq,
            "engine": _without_collecting(self._sequencer.engine.snapshot),
            "work": [encode_job(job) for job in self._lanes.unfinished()],
            "marks": self._work_log.unwritten,
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


def _without_collecting(snapshot: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Take a snapshot without the garbage collector, which would walk what is being made again and again."""
    collects = gc.isenabled()
    gc.disable()
    try:
        return snapshot()
    finally:
        if collects:
            gc.enable()


def _encode(fields: dict[str, Any]) -> bytes:
    """Compress, so that neither disk nor memory sees ten times as much; zlib's checksum finds a damaged one."""
    packer = zlib.compressobj(level=1)
    packed = [packer.compress(line + b"\n") for line in _lines(fields, [])]
    return b"".join([*packed, packer.flush()])


def _lines(value: Any, path: list[str]) -> Iterator[bytes]:
    """Write nested dicts as lines of [path, value]; a long list as several lines."""
    if isinstance(value, dict) and value and len(path) < 3:
        for key, item in value.items():
            yield from _lines(item, [*path, key])
    elif isinstance(value, list) and len(value) > _LINE_ITEMS:
        for start in range(0, len(value), _LINE_ITEMS):
            yield to_json([path, value[start : start + _LINE_ITEMS]])
    else:
        yield to_json([path, value])


def _decode(state: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for line in zlib.decompress(state).splitlines():
        path, value = from_json(line)
        holder = fields
        for key in path[:-1]:
            holder = holder.setdefault(key, {})
        if path[-1] in holder and isinstance(value, list):
            holder[path[-1]].extend(value)
        else:
            holder[path[-1]] = value
    return fields
