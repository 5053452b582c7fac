"""`python -m tests.benchmarks [--events N] [--rounds N] [--sessions N] [--json]`: takes three minutes by default."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from typing import Any

from tests.benchmarks import costs, targets
from tests.benchmarks.harness import Result, measure
from tests.benchmarks.targets import Figure


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--events", type=int, default=50_000, help="how many events the log has")
    parser.add_argument("--rounds", type=int, default=7, help="how often each peer runs")
    parser.add_argument("--sessions", type=int, default=1_000_000, help="the highest number of live sessions")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    # Memory first: later, the heap is fragmented.
    sizes = costs.bytes_per_session(), costs.collection_ms(min(100_000, options.sessions))
    results = measure(options.events, options.rounds)
    levels = sorted({1_000, max(1_000, options.sessions // 10), max(1_000, options.sessions)})
    at_levels = costs.cost_at(levels, min(20_000, options.events))
    figures = [
        *targets.of_peers({result.name: result.ratio for result in results}),
        *targets.of_costs(*sizes, at_levels[-1] / at_levels[0], costs.import_ratio(options.rounds)),
    ]
    waited = costs.latency(min(20_000, options.events))
    measured = {
        **about(),
        "events": options.events,
        "rounds": options.rounds,
        "peers": [result._asdict() for result in results],
        "figures": [{**figure._asdict(), "met": figure.met} for figure in figures],
        "microseconds_at_live_sessions": dict(zip(map(str, levels), at_levels, strict=True)),
        "latency_microseconds": waited._asdict(),
    }
    sys.stdout.write((json.dumps(measured) if options.json else report(measured, results, figures)) + "\n")


def about() -> dict[str, Any]:
    """When and on what it was measured."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "pydantic": version("pydantic"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def report(measured: dict[str, Any], results: list[Result], figures: list[Figure]) -> str:
    """The measurements as text."""
    lines = [
        f"{measured['date']}, Python {measured['python']}, pydantic {measured['pydantic']}, {measured['machine']}",
        f"{measured['events']} events, median of {measured['rounds']} interleaved rounds; quote ratios, not times",
        "",
        *(f"{result.name:<34}{result.microseconds:>9.2f} µs{result.ratio:>8.2f} x the floor" for result in results),
        "",
        *(row(figure) for figure in figures),
        "",
        *(
            f"{cost:.1f} µs an event at {int(at):,} live sessions"
            for at, cost in measured["microseconds_at_live_sessions"].items()
        ),
        "receive to handler at {rate} events/s, half of the maximum: p50 {p50:.0f} µs, p99 {p99:.0f} µs".format(
            **measured["latency_microseconds"]
        ),
    ]
    return "\n".join(lines)


def row(figure: Figure) -> str:
    """One figure as text."""
    aimed = "" if figure.target is None else f"   target {figure.target:g}, {'met' if figure.met else 'MISSED'}"
    return f"{figure.what:<52}{figure.value:>9.2f} {figure.unit}{aimed}"


if __name__ == "__main__":
    main()
