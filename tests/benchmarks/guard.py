"""The guard: telstate must not become dearer unnoticed. It counts instructions, which no busy machine changes.

`valgrind` counts what one peer executes for each event; the ratio of telstate's to the floor's, in the same environment, is
held against the one that was recorded. Without valgrind, times are compared in the same way, with a margin wide enough for
any noise.

`python -m tests.benchmarks.guard` measures, and prints what to record.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from typing import NamedTuple

from tests.benchmarks.harness import FLOOR, lines_of, measure
from tests.benchmarks.peers import PEERS

__all__ = ["GUARDED", "Guarded", "by_instructions", "by_time", "dearer", "has_valgrind"]

_EVENTS = 2_000


class Guarded(NamedTuple):
    """One peer that is guarded, and its recorded ratios to the floor."""

    name: str
    instructions: float
    time: float


GUARDED = (
    Guarded("telstate, live", 4.44, 5.1),
    Guarded("telstate, in batches", 4.52, 5.4),
    Guarded("telstate, replay", 2.80, 3.0),
)
"""Recorded on 2026-11-21 with Python 3.11.7 and pydantic 2.14.3. Who makes it cheaper records it anew."""

INSTRUCTIONS_MARGIN = 1.25
"""Other versions of Python and pydantic move the ratio by a few hundredths; nothing else does."""
TIME_MARGIN = 1.5


def dearer(ratio: float, recorded: float, margin: float) -> bool:
    """Whether it has become dearer than can be noise."""
    return ratio > recorded * margin


def has_valgrind() -> bool:
    """Whether instructions can be counted here."""
    return shutil.which("valgrind") is not None and shutil.which("callgrind_control") is not None


def by_instructions(names: list[str]) -> dict[str, float]:
    """The instructions of peers in multiples of the floor's."""
    counts = {name: _count(name) for name in (FLOOR, *names)}
    return {name: counts[name] / counts[FLOOR] for name in names}


def by_time(names: list[str]) -> dict[str, float]:
    """The times of peers in multiples of the floor's: the least ratio of several rounds, as a busy machine only adds."""
    ratios: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(3):
        for result in measure(10_000, 3, names):
            if result.name in ratios:
                ratios[result.name].append(result.ratio)
    return {name: min(several) for name, several in ratios.items()}


def _count(name: str) -> int:
    """Run one peer under valgrind, which counts from when the peer is warm."""
    command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--callgrind-out-file=/dev/null"]
    run = subprocess.run(
        [*command, sys.executable, "-m", "tests.benchmarks.guard", name],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )
    found = re.search(r"Collected : (\d+)", run.stderr)
    if found is None:
        raise RuntimeError(f"valgrind counted nothing: {run.stderr[-500:]}")
    return int(found[1])


def _counted(name: str) -> None:
    """What runs under valgrind."""
    lines = lines_of(_EVENTS)
    _run(name, lines[:500])
    _switch("on")
    _run(name, lines)
    _switch("off")


def _run(name: str, lines: list[bytes]) -> None:
    async def run() -> None:
        await PEERS[name](lines)

    asyncio.run(run())


def _switch(state: str) -> None:
    subprocess.run(["callgrind_control", "-i", state, str(os.getpid())], check=True, capture_output=True, timeout=60)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _counted(sys.argv[1])
    else:
        names = [guarded.name for guarded in GUARDED]
        sys.stdout.write(f"instructions: {by_instructions(names) if has_valgrind() else 'no valgrind here'}\n")
        sys.stdout.write(f"time: {by_time(names)}\n")
