"""`python -m tests.soak [--calls N] [--journal sqlite|none] [--retention S]`: prints a JSON object; exits with 1 if a promise broke."""

from __future__ import annotations

import argparse
import json
import sys

import anyio

from tests.soak.run import SoakFailed, soak


def main() -> int:
    """Run the soak and report."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--journal", choices=["sqlite", "none"], default="sqlite")
    parser.add_argument("--retention", type=float, help="seconds; by default a twentieth of the run")
    options = parser.parse_args()
    durable = options.journal == "sqlite"
    try:
        report = anyio.run(lambda: soak(options.calls, durable=durable, retention=options.retention))
    except SoakFailed as failed:
        sys.stderr.write(f"{failed}\n")
        return 1
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    return 0 if report["memory_holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
