"""`telstate replay` of a log of webhooks beside a script by hand: `python -m tests.benchmarks.replay [--events N] [--rounds N] [--json]`.

The figures are seconds of CPU, the start of the process included, and the ratio to the script: medians of rounds in which all run in
turn. Two minutes by default.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from telstate import Dialect
from telstate.testing import simulate
from tests.benchmarks import replay_by_hand
from tests.benchmarks.harness import cpu_of

__all__ = ["Cost", "measure", "measure_log_of", "write_log"]

BY_HAND = "a script by hand"
_SECONDS_A_CALL = 96.0
"""As `telstate simulate` has it: some 75 sessions within retention."""


class Cost(NamedTuple):
    """What one way to read the log costs."""

    name: str
    cpu_s: float
    ratio: float
    """To the script by hand: the median of the rounds' ratios."""


def write_log(path: Path, events: int) -> None:
    """Write a simulated log of webhooks."""
    sent = simulate(1, calls=events, span=events * _SECONDS_A_CALL, dialects=[Dialect.WEBHOOK])
    with path.open("wb") as log:
        log.writelines(one.line() for one in islice(sent, events))


def measure(log: Path, rounds: int) -> list[Cost]:
    """Let all ways read the log in turn for some rounds."""
    replay = [sys.executable, "-m", "telstate", "replay", str(log)]
    ways = {
        BY_HAND: [sys.executable, str(replay_by_hand.__file__), str(log)],
        "telstate replay --json": [*replay, "--json"],
        "telstate replay": replay,
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, command in ways.items():
            spent[name].append(cpu_of(command, {"PYTHONHASHSEED": "0"}))
    return [
        Cost(
            name,
            statistics.median(times),
            statistics.median(one / base for one, base in zip(times, spent[BY_HAND], strict=True)),
        )
        for name, times in spent.items()
    ]


def measure_log_of(events: int, rounds: int) -> list[Cost]:
    """Measure with a simulated log."""
    with TemporaryDirectory() as folder:
        log = Path(folder, "webhooks.jsonl")
        write_log(log, events)
        return measure(log, rounds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.replay", description=__doc__)
    parser.add_argument("--events", type=int, default=200_000, help="how many events the log has")
    parser.add_argument("--rounds", type=int, default=5, help="how often each runs")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    costs = measure_log_of(options.events, options.rounds)
    if options.json:
        sys.stdout.write(json.dumps({"events": options.events, "costs": [one._asdict() for one in costs]}) + "\n")
        return
    for cost in costs:
        sys.stdout.write(f"{cost.name:<26}{cost.cpu_s:>8.2f} s of CPU{cost.ratio:>8.2f} x the script\n")


if __name__ == "__main__":
    main()
