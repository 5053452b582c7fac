"""`python -m tests.benchmarks [--events N] [--rounds N] [--json]`."""

from __future__ import annotations

import argparse
import sys

from tests.benchmarks.harness import measure, report


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = measure(options.events, options.rounds)
    sys.stdout.write(report(results, as_json=options.json, events=options.events, rounds=options.rounds) + "\n")


if __name__ == "__main__":
    main()
