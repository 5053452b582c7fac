"""How long a dispatcher takes to know all calls of its journal again, with a checkpoint at the journal's end and without any."""

from __future__ import annotations

import asyncio
import gc
import shutil
import sqlite3
import statistics
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from telstate import Dispatcher, Router
from telstate.journals import SqliteJournal
from tests.benchmarks.harness import lines_of
from tests.benchmarks.peers import pydantic_floor

__all__ = ["Recovery", "recovery"]


class Recovery(NamedTuple):
    """What a recovery costs, in CPU time: medians of interleaved rounds."""

    events: int
    microseconds: float
    """Per event of a journal without a checkpoint."""
    ratio: float
    """The same, to the pydantic floor."""
    seconds_with_checkpoint: float
    """In all. The journal was written in a burst, so its checkpoint has as many ended sessions as an engine keeps. `pruning.py` measures
    the start of a service whose calls have left memory."""


def recovery(events: int = 50_000, rounds: int = 3) -> Recovery:
    """Measure with a journal of simulated calls."""
    lines = lines_of(events)
    with TemporaryDirectory(prefix="telstate-recovery-") as folder:
        full, bare = Path(folder, "full.db"), Path(folder, "bare.db")
        asyncio.run(_record(full, lines))
        shutil.copy(full, bare)
        with closing(sqlite3.connect(bare)) as database, database:
            database.execute("DELETE FROM checkpoints")
            database.execute("DELETE FROM pieces")
        spent = [(_opened(bare), _opened(full), _floor(lines)) for _ in range(rounds)]
    return Recovery(
        events,
        statistics.median(without for without, _, _ in spent) / events * 1e6,
        statistics.median(without / floor for without, _, floor in spent),
        statistics.median(with_one for _, with_one, _ in spent),
    )


async def _record(path: Path, lines: list[bytes]) -> None:
    """Write the journal. Its dispatcher leaves a checkpoint when it closes."""
    async with Dispatcher(Router(), journal=SqliteJournal(path, None)) as calls:
        for first in range(0, len(lines), 500):
            await calls.receive_many(lines[first : first + 500])


def _opened(path: Path) -> float:
    """Seconds of CPU until a dispatcher takes events. It opens a copy, as it leaves a checkpoint."""
    with TemporaryDirectory(prefix="telstate-recovery-") as folder:
        return asyncio.run(_open(Path(shutil.copy(path, folder))))


async def _open(path: Path) -> float:
    gc.collect()
    began = time.process_time()
    async with Dispatcher(Router(), journal=SqliteJournal(path, None)) as calls:
        spent = time.process_time() - began
        assert calls.live()
    return spent


def _floor(lines: list[bytes]) -> float:
    gc.collect()
    began = time.process_time()
    asyncio.run(_run_floor(lines))
    return time.process_time() - began


async def _run_floor(lines: list[bytes]) -> None:
    await pydantic_floor(lines)
