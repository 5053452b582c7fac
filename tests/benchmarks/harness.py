"""The peers run in turns, so that a machine that slows down slows all of them. Results are medians and ratios to the floor."""

from __future__ import annotations

import asyncio
import gc
import os
import platform
import resource
import statistics
import subprocess
import time
from collections.abc import Collection, Mapping
from importlib.metadata import version
from itertools import islice
from typing import Any, NamedTuple

from telstate import Dialect
from telstate.testing import simulate
from tests.benchmarks.peers import PEERS

__all__ = ["FLOOR", "Result", "about", "cpu_of", "dialect_of", "lines_of", "logs_of", "measure", "once"]

Logs = Mapping[Dialect, list[bytes]]

FLOOR = "pydantic floor"
SHARE = {
    "AsyncMachine per session": 0.05,
    "python-statemachine per session": 0.02,
    "telstate, a commit each, SQLite": 0.05,
}
"""Slow peers get only this part of the log; times are per event."""
_SECONDS_A_CALL = 2.0


class Result(NamedTuple):
    """One peer."""

    name: str
    microseconds: float
    """Per event, the median of all rounds."""
    ratio: float
    """To the floor: the median of the rounds' ratios."""


def lines_of(events: int, dialect: Dialect = Dialect.DAILY_JS) -> list[bytes]:
    """A simulated log: interleaved dial-in and dial-out calls with everything that can happen to them."""
    sent = simulate(1, calls=events, span=events * _SECONDS_A_CALL, dialects=[dialect])
    return [one.line().rstrip() for one in islice(sent, events)]


def cpu_of(command: list[str], environment: Mapping[str, str]) -> float:
    """Seconds of CPU that a process takes, its start included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env={**os.environ, **environment})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def logs_of(events: int) -> Logs:
    """The same day in the dialect of each peer."""
    return {dialect: lines_of(events, dialect) for dialect in dict.fromkeys(map(dialect_of, PEERS))}


def dialect_of(name: str) -> Dialect:
    """The dialect of a peer's log, by the name of the peer."""
    return next((dialect for dialect in Dialect if f", {dialect}" in name), Dialect.DAILY_JS)


def once(name: str, logs: Logs) -> float:
    """Microseconds per event of one peer.

    Raises:
        RuntimeError: it did not handle every event.
    """
    lines = logs[dialect_of(name)]
    part = lines[: max(1, int(len(lines) * SHARE.get(name, 1.0)))]
    gc.collect()
    started = time.perf_counter()
    handled = asyncio.run(_run(name, part))
    spent = time.perf_counter() - started
    if handled != len(part):
        raise RuntimeError(f"{name} handled {handled} of {len(part)} events")
    return spent / len(part) * 1e6


async def _run(name: str, lines: list[bytes]) -> int:
    return await PEERS[name](lines)


def measure(events: int, rounds: int, names: Collection[str] = tuple(PEERS)) -> list[Result]:
    """Run peers in turns for some rounds, after a warm-up round. The floor is always among them."""
    logs = logs_of(events)
    names = dict.fromkeys([FLOOR, *names])
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        for name in names:
            spent = once(name, logs)
            if number:
                times[name].append(spent)
    floor = times[FLOOR]
    return [
        Result(
            name,
            statistics.median(spent),
            statistics.median(one / base for one, base in zip(spent, floor, strict=True)),
        )
        for name, spent in times.items()
    ]


def about() -> dict[str, Any]:
    """When and on what it was measured."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "pydantic": version("pydantic"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
