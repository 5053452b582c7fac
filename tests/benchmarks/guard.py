"""The guard: no change may make an event more expensive unnoticed. It counts instructions, which a busy machine does not change.

`valgrind` counts what a peer executes for the same events as the floor. The ratio of the two is compared with the recorded one.
Without valgrind, times are compared, with a margin wide enough for noise.

`python -m tests.benchmarks.guard` measures, and prints the record to paste here.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from typing import NamedTuple

from telstate.routing import _self_checks
from tests.benchmarks.harness import FLOOR, dialect_of, lines_of, measure
from tests.benchmarks.peers import PEERS

__all__ = [
    "GUARDED",
    "RECORDED_WITH",
    "Guarded",
    "by_instructions",
    "by_time",
    "has_valgrind",
    "margin",
    "record",
    "versions",
]

_EVENTS = 2_000


class Guarded(NamedTuple):
    """A guarded peer and its recorded ratios to the floor."""

    name: str
    instructions: float
    time: float


# A change that makes telstate cheaper records anew; one that makes it more expensive needs a reason.
RECORDED_WITH = {"python": "3.11.7", "pydantic": "2.14.4", "anyio": "4.16.0"}
GUARDED = (
    Guarded("telstate, webhook, live", 7.84, 11.9),
    Guarded("telstate, webhook, live with metrics", 8.73, 14.0),
    Guarded("telstate, webhook, live with metrics and sampled traces", 10.18, 16.9),
    Guarded("telstate, webhook, replay", 6.67, 9.8),
    Guarded("telstate, webhook, replay with a short memory", 7.09, 10.5),
    Guarded("telstate, webhook, replay as JSON", 9.22, 12.9),
    Guarded("telstate, webhook, parse", 2.00, 1.8),
    Guarded("telstate, daily-python, parse", 1.62, 1.4),
    Guarded("telstate, live", 5.15, 5.8),
    Guarded("telstate, in batches", 5.18, 6.3),
    Guarded("telstate, replay", 3.36, 3.3),
)

INSTRUCTIONS_MARGIN = 1.10
"""With the recorded versions. Runs on one machine differ by up to 2 %, on several by up to 4 %."""
OTHER_VERSIONS_MARGIN = 1.25
"""With other versions of Python or a dependency, which change both sides of the ratio."""
TIME_MARGIN = 1.5


def versions() -> dict[str, str]:
    """What the ratios depend on besides this code."""
    return {"python": platform.python_version(), **{name: version(name) for name in ("pydantic", "anyio")}}


def margin(*, counted: bool, same_versions: bool) -> float:
    """The factor by which a ratio may differ from the recorded one."""
    if not counted:
        return TIME_MARGIN
    return INSTRUCTIONS_MARGIN if same_versions else OTHER_VERSIONS_MARGIN


def has_valgrind() -> bool:
    """Whether instructions can be counted here."""
    return shutil.which("valgrind") is not None and shutil.which("callgrind_control") is not None


def by_instructions(names: list[str]) -> dict[str, float]:
    """The ratios of instructions to the floor's."""
    counts = {name: _count(name) for name in (FLOOR, *names)}
    return {name: counts[name] / counts[FLOOR] for name in names}


def by_time(names: list[str]) -> dict[str, float]:
    """The ratios of times to the floor's: the minimum of several rounds, as a busy machine only adds."""
    ratios: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(3):
        for result in measure(10_000, 3, names):
            if result.name in ratios:
                ratios[result.name].append(result.ratio)
    return {name: min(several) for name, several in ratios.items()}


def record() -> str:
    """Measure, and return the lines to paste into this file."""
    names = [guarded.name for guarded in GUARDED]
    instructions, times = by_instructions(names), by_time(names)
    rows = [f'    Guarded("{name}", {instructions[name]:.3f}, {times[name]:.1f}),' for name in names]
    with_versions = ", ".join(f'"{name}": "{value}"' for name, value in versions().items())
    return "\n".join([f"RECORDED_WITH = {{{with_versions}}}", "GUARDED = (", *rows, ")"])


def _count(name: str) -> int:
    """Run one peer under valgrind, which starts to count after a warm-up."""
    command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--callgrind-out-file=/dev/null"]
    run = subprocess.run(
        [*command, sys.executable, "-m", "tests.benchmarks.guard", name],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )
    found = re.search(r"Collected : (\d+)", run.stderr)
    if found is None:
        raise RuntimeError(f"valgrind counted nothing: {run.stderr[-500:]}")
    return int(found[1])


def _counted(name: str) -> None:
    """What runs under valgrind."""
    # Valgrind on a busy machine stops the loop for seconds, and saying so takes instructions.
    _self_checks._BLOCKED_AFTER = 60.0
    lines = lines_of(_EVENTS, dialect_of(name))
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
    elif has_valgrind():
        sys.stdout.write(record() + "\n")
    else:
        sys.exit("valgrind is missing: install it, and run this again")
