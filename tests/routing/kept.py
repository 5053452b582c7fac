"""Shared by the tests with a journal: what it has, and waiting until a dispatcher rests."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
from pydantic_core import from_json

from telstate import Dispatcher, Engine, Replay
from telstate.events._dialects.journal import unwrap
from telstate.journals._sqlite import lines
from telstate.testing._clock import settle

__all__ = ["actions", "marks", "payloads", "replayed", "rest", "state_of"]


def payloads(path: Path) -> list[bytes]:
    """Return the payloads that a journal has, in order."""
    found = map(unwrap, lines(path))
    return [wrapped.payload for wrapped in found if wrapped is not None]


def marks(path: Path) -> set[int]:
    """Return the work that is marked as done."""
    with closing(sqlite3.connect(path)) as database:
        return {number for (number,) in database.execute("SELECT number FROM done")}


def actions(path: Path) -> list[dict[str, Any]]:
    """Return the payloads that have an action, decoded."""
    return [payload for payload in map(from_json, payloads(path)) if "action" in payload]


def replayed(path: Path) -> Engine:
    """Replay a journal; return the engine."""
    replay = Replay()
    for line in lines(path):
        replay.feed(line)
    return replay.engine


def state_of(engine: Engine) -> list[dict[str, Any]]:
    """Return everything that a report shows of all sessions, and their transitions."""
    return [{**session.to_dict(), "moves": list(session.transitions)} for session in engine.sessions()]


async def rest(calls: Dispatcher) -> None:
    """Wait until nothing is under way or due: a journal takes real time, and meanwhile a test's clock stands still."""
    with anyio.fail_after(60):
        for _ in range(2):
            await settle()
            await calls.idle()
            while calls._sequencer.busy:
                await calls.idle()
                await settle()
