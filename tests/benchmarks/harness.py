"""Rounds in which the peers take turns, so that a machine that slows down slows all of them; medians; ratios to the floor."""

from __future__ import annotations

import asyncio
import gc
import json
import platform
import statistics
import time
from itertools import islice
from typing import Any, NamedTuple

from telstate.testing import simulate
from tests.benchmarks.peers import PEERS

__all__ = ["FLOOR", "Result", "lines_of", "measure", "report"]

FLOOR = "pydantic floor"
# The obvious way is so slow that it gets a part of the log, and is counted by the event.
SHARE = {"AsyncMachine per session": 0.1, "… SQLite, a commit each": 0.05}


class Result(NamedTuple):
    """One peer."""

    name: str
    microseconds: float
    """Per event, the median of all rounds."""
    ratio: float
    """To the floor, the median of the rounds' own ratios."""


def lines_of(events: int) -> list[bytes]:
    """A simulated log, as daily-js: dial-in and dial-out, interleaved, with all that befalls them; 4.7 events a session."""
    return [sent.line().rstrip() for sent in islice(simulate(1, calls=events, span=events * 2.0), events)]


def once(name: str, lines: list[bytes]) -> float:
    """Microseconds per event of one peer, which must have handled all of them."""
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


def measure(events: int, rounds: int) -> list[Result]:
    """Let all peers take turns for some rounds, after one that does not count."""
    lines = lines_of(events)
    times: dict[str, list[float]] = {name: [] for name in PEERS}
    for number in range(rounds + 1):
        for name in PEERS:
            spent = once(name, lines)
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


def report(results: list[Result], *, as_json: bool, events: int, rounds: int) -> str:
    """A table, or one JSON object for a record."""
    about: dict[str, Any] = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "events": events,
        "rounds": rounds,
    }
    if as_json:
        return json.dumps({**about, "results": [result._asdict() for result in results]})
    head = f"Python {about['python']}, {events} events, median of {rounds} interleaved rounds; quote ratios, not times"
    memory = next(result.microseconds for result in results if result.name == "telstate, 256 in flight")
    rows = [f"{result.name:<28}{result.microseconds:>9.2f} µs{result.ratio:>8.2f} x the floor" for result in results]
    kept = [
        f"{result.name:<28}{result.microseconds / memory:>9.2f} x the same in memory"
        for result in results
        if result.name.startswith("…")
    ]
    return "\n".join([head, *rows, "", *kept])
