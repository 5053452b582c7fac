"""`python -m tests.crash [--kills 300] [--journal sqlite|jsonl|both] [--seed N] [--folder PATH]`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.crash.harness import Report, torment


def main() -> int:
    """Kill, check and tell; 1 if a promise did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--journal", choices=["sqlite", "jsonl", "both"], default="both")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--folder", type=Path, help="keep what is written there; by default it is thrown away")
    options = parser.parse_args()
    kinds = ["jsonl", "sqlite"] if options.journal == "both" else [options.journal]
    sys.stdout.write(f"seed {options.seed}\n")
    reports = []
    with tempfile.TemporaryDirectory(prefix="telstate-crash-") as scratch:
        for number, kind in enumerate(kinds):
            folder = (options.folder or Path(scratch)) / kind
            folder.mkdir(parents=True)
            kills = (options.kills + number) // len(kinds)
            reports.append(torment(folder, kind, kills, options.seed + number, lambda n, k=kind: tell(k, n)))  # type: ignore[misc]
            sys.stderr.write("\n")
            sys.stdout.write(summary(reports[-1]))
    return int(any(report.broken for report in reports))


def tell(kind: str, kills: int) -> None:
    """Say how far it is."""
    sys.stderr.write(f"\r{kind}: {kills} kills ")
    sys.stderr.flush()


def summary(report: Report) -> str:
    """What came of it, for a person."""
    facts = ", ".join(f"{number} {what}" for what, number in report.facts.items())
    broken = "".join(f"  BROKEN {sentence}\n" for sentence in report.broken)
    return f"{report.kind}: {report.kills} kills, {facts}: {'BROKEN' if broken else 'every promise held'}\n{broken}"


if __name__ == "__main__":
    sys.exit(main())
