"""Costs other than time per event: memory, garbage collection, scaling, import time, and latency."""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import time
import tracemalloc
from random import Random
from tempfile import TemporaryDirectory
from typing import NamedTuple

from telstate import Dispatcher, Engine, Event, Outcome, OutcomeKind, Router, parse
from tests.benchmarks.harness import cpu_of, lines_of

__all__ = ["Latency", "Starts", "bytes_per_session", "collection_ms", "cost_at", "latency", "starts"]

_NOW = 1_790_000_000.0


def _line(name: str, number: int) -> bytes:
    """One event of a dial-out in daily-js's form; every field that can differ between two sessions does."""
    number_called = f"+1202555{number % 10_000:04}"
    return (
        f'{{"action":"{name}","callClientId":"17225364729060.9442072768918943",'
        f'"sessionId":"c2ce6f44-7ed4-457b-9e2f-{number:012x}","userId":"user-{number}","origin":"+12025550126",'
        f'"destination":"{number_called}","callerId":"+12025550112",'
        f'"sipCallId":"{number:016x}@sip.daily.example","provider":"daily"}}'
    ).encode()


def _engine_with(sessions: int) -> Engine:
    engine = Engine()
    for number in range(sessions):
        engine.receive(parse(_line("dialout-connected", number)), _NOW)
    return engine


def bytes_per_session(sessions: int = 20_000) -> float:
    """Memory of a live session in which nothing happens, with its data and index entries, as tracemalloc counts it."""
    _engine_with(1_000)  # allocates what is allocated only once
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    engine = _engine_with(sessions)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(engine.live()) == sessions
    return (after - before) / sessions


def collection_ms(sessions: int = 100_000) -> float:
    """Milliseconds that a full collection spends on so many live sessions: the minimum of several, as noise only adds."""
    gc.collect()
    gc.freeze()  # the collector ignores everything older
    try:
        engine = _engine_with(sessions)
        gc.collect()
        times = []
        for _ in range(7):
            started = time.perf_counter()
            gc.collect()
            times.append(time.perf_counter() - started)
    finally:
        gc.unfreeze()
    assert len(engine.live()) == sessions
    return min(times) * 1000


async def _handled(calls: Dispatcher, lines: list[bytes]) -> float:
    gc.collect()
    started = time.perf_counter()
    for line in lines:
        await calls.receive(line)
    await calls.idle()
    return (time.perf_counter() - started) / len(lines) * 1e6


def cost_at(levels: list[int], events: int = 20_000) -> list[float]:
    """Microseconds per event through the dispatcher with a handler, at each number of live sessions.

    The events answer random sessions, stop them, and open others instead.
    """

    async def at_levels() -> list[float]:
        router = Router()

        @router.on(Event)
        async def handle() -> None:
            """Do nothing."""

        random, opened, costs = Random(1), 0, []
        live: list[int] = []
        async with Dispatcher(router) as calls:
            for level in levels:
                while len(live) < level:
                    await calls.receive(_line("dialout-connected", opened))
                    live.append(opened)
                    opened += 1
                await calls.idle()
                lines = []
                for _ in range(events // 3):
                    place = random.randrange(len(live))
                    lines += [_line("dialout-answered", live[place]), _line("dialout-stopped", live[place])]
                    lines.append(_line("dialout-connected", opened))
                    live[place] = opened
                    opened += 1
                costs.append(await _handled(calls, lines))
                assert len(calls.live()) == level
        return costs

    return asyncio.run(at_levels())


LIBRARIES = """
import pydantic, transitions, anyio, structlog
class One(pydantic.BaseModel):
    field: int
"""
"""telstate's dependencies. pydantic imports most of its modules with the first model, and every user has one."""


class Starts(NamedTuple):
    """How much CPU a process takes, to one that imports what telstate depends on: medians of interleaved rounds."""

    imported: float
    """It imports telstate, which imports the rest when that is used first."""
    used: float
    """It makes an event and a dispatcher."""
    help: float
    """It shows the help of the command line."""


_USED = """
import telstate
telstate.parse('{"action": "left-meeting"}')
telstate.Dispatcher(telstate.Router())
"""


def starts(rounds: int = 7) -> Starts:
    """Measure, after one round that compiles."""
    python = [sys.executable, "-c"]
    commands = (
        [*python, LIBRARIES],
        [*python, "import telstate"],
        [*python, _USED],
        [sys.executable, "-m", "telstate", "--help"],
    )
    with TemporaryDirectory() as folder:
        compiled = {"PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
        taken = [[cpu_of(command, compiled) for command in commands] for _ in range(rounds + 1)][1:]
    ratios = [[one / theirs for one in ours] for theirs, *ours in taken]
    return Starts(*map(statistics.median, zip(*ratios, strict=True)))


class Latency(NamedTuple):
    """From `receive` being called to the handler running, in microseconds."""

    p50: float
    p99: float
    rate: int
    """Events per second that were sent: half of the maximum."""


def latency(events: int = 20_000) -> Latency:
    """Measure at half of the maximum load, with events evenly spaced."""

    async def run() -> Latency:
        lines = lines_of(events)
        full, _ = await _send(lines, 0.0)
        _, waited = await _send(lines, 2 * full)
        return Latency(
            statistics.median(waited) * 1e6, statistics.quantiles(waited, n=100)[98] * 1e6, int(1 / (2 * full))
        )

    return asyncio.run(run())


async def _send(lines: list[bytes], pause: float) -> tuple[float, list[float]]:
    """Send an event every `pause` seconds; return the seconds per event, and how long each waited for its handler."""
    router = Router()
    sent: list[float] = []
    waited: list[float] = []

    @router.on(Event, outcomes=OutcomeKind)
    async def handle(outcome: Outcome) -> None:
        waited.append(time.perf_counter() - sent[outcome.seq - 1])

    async with Dispatcher(router) as calls:
        gc.collect()
        started = time.perf_counter()
        for number, line in enumerate(lines):
            while time.perf_counter() < started + number * pause:  # noqa: ASYNC110 - timers are too coarse
                await asyncio.sleep(0)
            sent.append(time.perf_counter())
            await calls.receive(line)
        await calls.idle()
        return (time.perf_counter() - started) / len(lines), waited
