"""Checkpoints: all that is known, and what is not done, as of one event. A recovery begins there and not at the first event.

What is known is frozen at once, between two steps; writing it down as JSON takes longer and happens in a thread, in lines of a
few hundred things, because encoding all at once would keep the event loop waiting for the interpreter's lock.
"""

from __future__ import annotations

import gc
import zlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

import anyio
import anyio.to_thread
from pydantic_core import from_json, to_json

from telstate.errors import RevisionConflict
from telstate.routing._log import Log, traceback_of
from telstate.routing._ports import Journal

__all__ = ["Checkpoints", "Point", "frozen"]

_KEY = "engine"
_VERSION = 1
_AT_ONCE = 500
_EVERY = 20_000
"""Events between two checkpoints, at least: reading so many again takes half a second."""
_AT_MOST = 8 * _EVERY
"""Events between two checkpoints, however much there is to save: a start has ten seconds."""
_BYTES_PER_EVENT = 12
"""So much of a checkpoint, which is compressed, takes as long to write as an event to take in."""


class Point(NamedTuple):
    """All there is, as of one event."""

    seq: int
    """The last event that is in it."""
    engine: dict[str, Any]
    """The engine's snapshot."""
    work: list[dict[str, Any]]
    """What is not done: see `telstate.routing._job_codec`."""
    marks: list[int]
    """What is done and was not marked yet."""


class Checkpoints:
    """The checkpoints of one journal, of which the last counts.

    Args:
        journal: where they are kept; None if nothing is.
        take: takes all there is.
    """

    def __init__(self, journal: Journal | None, take: Callable[[], Awaitable[Point]]) -> None:
        self._journal = journal
        self._take = take
        self._revision: int | None = None
        self._since = 0
        self._enough = _EVERY
        self._due = anyio.Event()
        self._log = Log()

    def stepped(self, events: int = 1) -> None:
        """So many more events came that no checkpoint has."""
        self._since += events
        if self._since >= self._enough:
            self._due.set()

    async def run(self) -> None:
        """Save one whenever reading again what came since would take longer than reading it."""
        while self._journal is not None:
            await self._due.wait()
            self._due = anyio.Event()
            await self.save()

    async def _replace(self, journal: Journal, state: bytes) -> None:
        """A save that was cancelled may have been done all the same; nobody else saves here."""
        try:
            self._revision = await journal.save(_KEY, state, self._revision)
        except RevisionConflict:
            kept = await journal.load(_KEY)
            self._revision = await journal.save(_KEY, state, kept and kept[1])

    async def load(self) -> Point | None:
        """Read the last one; None if there is none.

        Raises:
            JournalError: if the journal cannot be read.
            Exception: whatever comes of reading what is damaged.
        """
        kept = await self._journal.load(_KEY) if self._journal is not None else None
        if self._journal is None or kept is None:
            return None
        state, self._revision = kept
        told = await anyio.to_thread.run_sync(_decode, state)
        if told["version"] != _VERSION:
            raise ValueError(f"a newer telstate wrote it (version {told['version']})")
        if told["journal"] != self._journal.id:
            raise ValueError("it is that of another journal")
        return Point(int(told["seq"]), told["engine"], told["work"], told["marks"])

    async def save(self) -> None:
        """Keep one in place of the last, if anything came since. One that fails is told: only the next start gets slower."""
        if self._journal is None or not self._since:
            return
        since = 0
        try:
            point = await self._take()
            since, self._since = self._since, 0
            told = {"version": _VERSION, "journal": self._journal.id, **point._asdict()}
            state = await anyio.to_thread.run_sync(_encode, told)
            self._enough = max(_EVERY, min(len(state) // _BYTES_PER_EVENT, _AT_MOST))
            await self._replace(self._journal, state)
        except anyio.get_cancelled_exc_class():
            self._since += since  # the one at the end is not to think that this one was saved
            raise
        except Exception as error:
            hint = "it is tried again; until then a start takes longer"
            self._log.error("checkpoint.failed", exception=traceback_of(error), hint=hint)


def frozen(snapshot: Any) -> dict[str, Any]:
    """Take a snapshot without the garbage collector, which would walk all of what is being made, again and again."""
    collects = gc.isenabled()
    gc.disable()
    try:
        taken: dict[str, Any] = snapshot()
        return taken
    finally:
        if collects:
            gc.enable()


def _encode(told: dict[str, Any]) -> bytes:
    """Compressed, so that neither the disk nor the memory sees a tenfold of it; its checksum tells a damaged one."""
    packer = zlib.compressobj(level=1)
    packed = [packer.compress(line + b"\n") for line in _lines(told, [])]
    return b"".join([*packed, packer.flush()])


def _lines(value: Any, path: list[str]) -> Iterator[bytes]:
    """Write nested dicts as lines of [path, value]; a long list as several."""
    if isinstance(value, dict) and value and len(path) < 3:
        for key, item in value.items():
            yield from _lines(item, [*path, key])
    elif isinstance(value, list) and len(value) > _AT_ONCE:
        for start in range(0, len(value), _AT_ONCE):
            yield to_json([path, value[start : start + _AT_ONCE]])
    else:
        yield to_json([path, value])


def _decode(state: bytes) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for line in zlib.decompress(state).splitlines():
        path, value = from_json(line)
        holder = told
        for key in path[:-1]:
            holder = holder.setdefault(key, {})
        if path[-1] in holder and isinstance(value, list):
            holder[path[-1]].extend(value)
        else:
            holder[path[-1]] = value
    return told
