"""`python -m tests.benchmarks [--events N] [--rounds N] [--sessions N] [--seconds S] [--folder PATH] [--json]`: everything beside its peers.

It takes ten minutes by default.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks import costs, replay, targets, webhooks
from tests.benchmarks.harness import Result, about, measure
from tests.benchmarks.recovery import recovery
from tests.benchmarks.targets import Figure


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--events", type=int, default=50_000, help="how many events the log has")
    parser.add_argument("--rounds", type=int, default=7, help="how often each peer runs")
    parser.add_argument("--sessions", type=int, default=1_000_000, help="the highest number of live sessions")
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="for which each HTTP service is loaded in each round"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(tempfile.gettempdir()),
        help="for the databases of the HTTP services: on the disk",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    # Memory first: later, the heap is fragmented.
    sizes = costs.bytes_per_session(), costs.collection_ms(min(100_000, options.sessions))
    results = measure(options.events, options.rounds)
    levels = sorted({1_000, max(1_000, options.sessions // 10), max(1_000, options.sessions)})
    at_levels = costs.cost_at(levels, min(20_000, options.events))
    figures = [
        *targets.of_peers({result.name: result.ratio for result in results}),
        *targets.of_costs(*sizes, at_levels[-1] / at_levels[0]),
        *targets.of_processes(
            costs.starts(options.rounds),
            {cost.name: cost.ratio for cost in replay.measure_log_of(2 * options.events, options.rounds)},
            recovered := recovery(2 * options.events, min(3, options.rounds)),
        ),
    ]
    seen = webhooks.measure(options.rounds, options.seconds, options.folder)
    served = webhooks.medians(seen)
    figures += webhooks.figures(seen)
    waited = costs.latency(min(20_000, options.events))
    measured = {
        **about(),
        "events": options.events,
        "rounds": options.rounds,
        "peers": [result._asdict() for result in results],
        "figures": [{**figure._asdict(), "met": figure.met} for figure in figures],
        "microseconds_at_live_sessions": dict(zip(map(str, levels), at_levels, strict=True)),
        "latency_microseconds": waited._asdict(),
        "recovery": recovered._asdict(),
        "services": [one._asdict() for one in served],
        "sync_us": webhooks.sync_us(options.folder),
    }
    sys.stdout.write((json.dumps(measured) if options.json else report(measured, results, served, figures)) + "\n")


def report(
    measured: dict[str, Any], results: list[Result], served: list[webhooks.Measured], figures: list[Figure]
) -> str:
    """The measurements as text."""
    lines = [
        f"{measured['date']}, Python {measured['python']}, pydantic {measured['pydantic']}, {measured['machine']}",
        f"{measured['events']} events, median of {measured['rounds']} interleaved rounds; quote ratios, not times",
        "",
        *(f"{result.name:<34}{result.microseconds:>9.2f} µs{result.ratio:>8.2f} x the floor" for result in results),
        "",
        webhooks.report(served, figures),
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


if __name__ == "__main__":
    main()
