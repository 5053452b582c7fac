"""What tests of journalled dispatchers share: the journals, their lines, and waiting until a dispatcher rests."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anyio
from pydantic_core import from_json

from telstate import Dispatcher, Engine, Replay
from telstate.events._dialects.journal import unwrap
from telstate.journals import SqliteJournal
from telstate.journals._sqlite import lines
from telstate.testing._clock import settle
from telstate.views._report import session_as_dict

__all__ = ["KINDS", "actions", "journal_at", "lines_at", "replayed", "rest", "state_of"]

KINDS = ("sqlite",)


def journal_at(kind: str, path: Path) -> SqliteJournal:
    """A journal of this kind."""
    return SqliteJournal(path)


def lines_at(kind: str, path: Path) -> Iterable[bytes]:
    """What a journal has, as lines."""
    return lines(path)


def actions(kind: str, path: Path) -> list[dict[str, Any]]:
    """The payloads that a journal has and that tell an action, in their order."""
    payloads = []
    for line in lines_at(kind, path):
        found = unwrap(line) if b'"seq":' in line[:20] else None
        if found is not None:
            payload = from_json(found.payload)
            if "action" in payload:
                payloads.append(payload)
    return payloads


def replayed(kind: str, path: Path) -> Engine:
    """The engine that a replay of a journal ends with."""
    replay = Replay()
    for line in lines_at(kind, path):
        replay.feed(line)
    return replay.engine


def state_of(engine: Engine) -> list[dict[str, Any]]:
    """All that a report tells of all sessions, and their transitions."""
    return [
        {**session_as_dict(session), "uncertain": session.uncertain, "moves": list(session.transitions)}
        for session in engine.sessions()
    ]


async def rest(calls: Dispatcher) -> None:
    """Wait until nothing is kept, run or due: a journal takes real time, in which the clock of a test stands still."""
    with anyio.fail_after(60):
        for _ in range(2):
            await settle()
            await calls.idle()
            while calls._sequencer.busy:
                await calls.idle()
                await settle()
