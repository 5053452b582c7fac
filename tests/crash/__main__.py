"""`python -m tests.crash [--kills 300] [--seed N] [--prune] [--notify] [--folder PATH]`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from tests.crash.harness import Report, torment
from tests.crash.receiver import Receiver


def main() -> int:
    """Kill, check and report; return 1 if a promise did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--folder", type=Path, help="write there and keep the files; by default they are deleted")
    parser.add_argument("--prune", action="store_true", help="let the journal prune itself all the time")
    parser.add_argument("--notify", action="store_true", help="tell a receiver about all calls, and kill it too")
    options = parser.parse_args()
    sys.stdout.write(f"seed {options.seed}\n")
    with tempfile.TemporaryDirectory(prefix="telstate-crash-") as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        with Receiver(folder) if options.notify else nullcontext() as receiver:
            how = {"prunes": options.prune, "receiver": receiver}
            report = torment(folder, options.kills, options.seed, progress, **how)
    sys.stderr.write("\n")
    sys.stdout.write(summary(report))
    return int(bool(report.broken))


def progress(kills: int) -> None:
    """Show how many kills there were."""
    sys.stderr.write(f"\r{kills} kills ")
    sys.stderr.flush()


def summary(report: Report) -> str:
    """Say in words how a run ended."""
    facts = ", ".join(f"{number} {what}" for what, number in report.facts.items())
    broken = "".join(f"  BROKEN {sentence}\n" for sentence in report.broken)
    return f"{report.kills} kills, {facts}: {'BROKEN' if broken else 'every promise held'}\n{broken}"


if __name__ == "__main__":
    sys.exit(main())
