"""Checkpoints: all that is known, and what is not done, as of one event. A recovery begins there and not at the first event.

What is known is frozen at once, between two steps; writing it down as JSON takes longer and happens in a thread, in lines of a
few hundred things, because encoding all at once would keep the event loop waiting for the interpreter's lock.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any, NamedTuple

import anyio.to_thread
from pydantic_core import from_json, to_json

from telstate.routing.ports import Journal

__all__ = ["Checkpoints", "Point", "frozen"]

_KEY = "engine"
_VERSION = 1
_AT_ONCE = 500


class Point(NamedTuple):
    """All there is, as of one event."""

    seq: int
    """The last event that is in it."""
    engine: dict[str, Any]
    """The engine's snapshot."""
    work: list[dict[str, Any]]
    """What is not done: see `telstate.routing.work`."""


class Checkpoints:
    """The checkpoints of one journal, of which the last counts.

    Args:
        journal: where they are kept.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._revision: int | None = None

    async def load(self) -> Point | None:
        """Read the last one; None if there is none that can be used here.

        Raises:
            ValueError, KeyError, TypeError: if it cannot be read.
        """
        kept = await self._journal.load(_KEY)
        if kept is None:
            return None
        state, self._revision = kept
        told = await anyio.to_thread.run_sync(_decode, state)
        if (told["version"], told["journal"]) != (_VERSION, self._journal.id):
            return None
        return Point(told["seq"], told["engine"], told["work"])

    async def save(self, point: Point) -> None:
        """Keep one in place of the last."""
        told = {"version": _VERSION, "journal": self._journal.id, **point._asdict()}
        state = await anyio.to_thread.run_sync(_encode, told)
        self._revision = await self._journal.save(_KEY, state, self._revision)


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
    return b"\n".join(_lines(told, []))


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
    for line in state.splitlines():
        path, value = from_json(line)
        holder = told
        for key in path[:-1]:
            holder = holder.setdefault(key, {})
        if path[-1] in holder and isinstance(value, list):
            holder[path[-1]].extend(value)
        else:
            holder[path[-1]] = value
    return told
