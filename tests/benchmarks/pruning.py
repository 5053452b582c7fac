"""What a large journal costs: the time of its start, and what those who send events feel while it prunes itself.

`python -m tests.benchmarks.pruning [--events N] [--seconds S]` prints a JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from telstate import Dispatcher, Router, Settings
from telstate.journals import SqliteJournal

__all__ = ["Cost", "measure"]

_RECENT = 20_000
"""The last events of the journal, which are taken in as usual; those before are written into the file at once."""
_RATE = 200
"""Events per second that are sent while it is measured."""
_ENDED_LONG_AGO = 1.79e9
_PAYLOAD = json.dumps(
    {
        "action": "dialout-stopped",
        "callClientId": "17225364729060.9442072768918943",
        "sessionId": "c2ce6f44-7ed4-457b-9e2f-%012d",
        "sipCallId": "%012d@sip.daily.example",
        "provider": "daily",
    }
)


class Cost(NamedTuple):
    """What was measured."""

    events: int
    start_s: float
    """Seconds from the opening of the journal to the first event."""
    p99_ms: float
    """Of `receive` while nothing is pruned."""
    p99_pruning_ms: float
    """Of `receive` while the journal prunes itself."""
    pruned: int
    """Events that it pruned meanwhile."""
    size_mb: float
    """Of the file before."""
    size_pruned_mb: float
    """Of the file once everything was pruned that can be; 0 if that was not waited for."""


async def _make(path: Path, events: int) -> None:
    """Make a journal of finished calls, with a checkpoint at its end."""
    journal = SqliteJournal(path, None)
    await journal.open(Settings().model_dump())
    await journal.aclose()
    recent = min(events, _RECENT)
    _write(path, range(events - recent + 1, events + 1))
    async with Dispatcher(Router(), journal=SqliteJournal(path, None)):
        pass
    _write(path, range(1, events - recent + 1))


def _write(path: Path, numbers: range) -> None:
    """Write events into the file, with the marks of their work."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA synchronous=OFF")
        with database:
            database.executemany(
                "INSERT INTO events VALUES (?, ?, 'daily-js', ?)",
                ((seq, _ENDED_LONG_AGO + seq / 1e4, (_PAYLOAD % (seq, seq)).encode()) for seq in numbers),
            )
            marks = ((mark,) for seq in numbers for mark in (seq, -seq))
            database.executemany("INSERT INTO done VALUES (?)", marks)


async def _send(calls: Dispatcher, seconds: float, numbers: Iterator[int]) -> float:
    """Send events at an even rate; return the 99th percentile of `receive` in milliseconds."""
    waited: list[float] = []
    loop = asyncio.get_running_loop()
    begin = loop.time()
    for number in range(int(seconds * _RATE)):
        await asyncio.sleep(begin + number / _RATE - loop.time())
        began = time.perf_counter()
        await calls.receive(_PAYLOAD % (2 * (next(numbers),)))
        waited.append(time.perf_counter() - began)
    return sorted(waited)[int(len(waited) * 0.99)] * 1000


async def _measure(path: Path, events: int, seconds: float, *, to_the_end: bool) -> Cost:
    await _make(path, events)
    before = _megabytes(path)
    gc.collect()
    numbers = iter(range(events + 1, 1 << 60))
    began = time.perf_counter()
    async with Dispatcher(Router(), journal=SqliteJournal(path, None)) as calls:
        started = time.perf_counter() - began
        quiet = await _send(calls, seconds, numbers)
    async with Dispatcher(Router(), journal=SqliteJournal(path, timedelta(0))) as calls:
        await _until_pruning(path, calls, numbers)
        first = _first(path)
        loud = await _send(calls, seconds, numbers)
        pruned = _first(path) - first
        while to_the_end and _first(path) < events:
            await _send(calls, 1, numbers)
        if to_the_end:
            await asyncio.sleep(5)  # free pages go back in small steps
    after = _megabytes(path) if to_the_end else 0.0
    return Cost(events, round(started, 3), round(quiet, 3), round(loud, 3), pruned, before, after)


async def _until_pruning(path: Path, calls: Dispatcher, numbers: Iterator[int]) -> None:
    for _ in range(60):
        await _send(calls, 1, numbers)
        if _first(path) > 1:
            return
    raise AssertionError("the journal prunes nothing")


def _megabytes(path: Path) -> float:
    return round(path.stat().st_size / 1e6, 1)


def _first(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute("SELECT min(seq) FROM events").fetchone()[0])


def measure(events: int, seconds: float, *, to_the_end: bool = False) -> Cost:
    """Measure.

    Args:
        events: in the journal.
        seconds: for which events are sent, with and without pruning.
        to_the_end: wait until everything is pruned that can be.
    """
    with TemporaryDirectory(prefix="telstate-pruning-") as folder:
        return asyncio.run(_measure(Path(folder) / "calls.db", events, seconds, to_the_end=to_the_end))


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.pruning", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--to-the-end", action="store_true", help="wait until everything is pruned that can be")
    options = parser.parse_args()
    cost = measure(options.events, options.seconds, to_the_end=options.to_the_end)
    sys.stdout.write(json.dumps(cost._asdict()) + "\n")


if __name__ == "__main__":
    main()
