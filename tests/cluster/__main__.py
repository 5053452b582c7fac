"""`python -m tests.cluster [--storms 10] [--seed N] [--nodes 3] [--sync] [--ttl 3] [--seconds 20] [--sessions 300]

`--script kill,freeze,term,join,outage,pause` measures what each fault costs. `python -m tests.cluster hour` plays calls for an hour, and
`… handover` measures workers that come and go: see hour.py and handover.py.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.cluster import handover, hour
from tests.cluster.check import Report
from tests.cluster.dials import storm_of_dials
from tests.cluster.links import storm_of_links
from tests.cluster.storm import Storm
from tests.cluster.torment import FAULTS
from tests.nats_server import NatsCluster, NatsServer


def main() -> int:
    """Let storms rage, and report; return 1 if a promise did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("--storms", type=int, default=10)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--nodes", type=int, default=1, choices=[1, 3])
    parser.add_argument("--sync", action="store_true", help="sync_interval: always")
    parser.add_argument("--ttl", type=float, default=3.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--sessions", type=int, default=300)
    parser.add_argument("--partitions", type=int, default=16)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--script", default="", help="faults with time to recover between them, and what each cost")
    parser.add_argument("--folder", type=Path, help="write there and keep the files; by default they are deleted")
    parser.add_argument(
        "--links", action="store_true", help="calls that reach from room to room, in place of single ones"
    )
    parser.add_argument(
        "--dials", action="store_true", help="workers that dial for intents, and a fake Daily as the witness"
    )
    options = parser.parse_args()
    broken = False
    for seed in range(options.seed, options.seed + options.storms):
        with tempfile.TemporaryDirectory(prefix="telstate-storm-") as scratch:
            folder = (options.folder or Path(scratch)) / str(seed)
            folder.mkdir(parents=True)
            report = storm(folder, seed, options)
        sys.stdout.write(summary(report))
        sys.stdout.flush()
        broken = broken or bool(report.broken)
    return int(broken)


def storm(folder: Path, seed: int, options: argparse.Namespace) -> Report:
    """Let one storm rage."""
    more = "sync_interval: always" if options.sync else ""
    made = NatsCluster if options.nodes > 1 else NatsServer
    with made(folder / "nats", jetstream=more) as server:
        if options.dials:
            return storm_of_dials(
                folder,
                seed,
                server,
                ttl=options.ttl,
                partitions=options.partitions,
                workers=options.workers,
                intents=options.sessions // 5,
                seconds=options.seconds,
                faults=tuple(options.faults.split(",")),
                progress=progress,
            )
        if options.links:
            return storm_of_links(
                folder,
                seed,
                server,
                ttl=options.ttl,
                partitions=options.partitions,
                workers=options.workers,
                calls=options.sessions // 5,
                seconds=options.seconds,
                faults=tuple(options.faults.split(",")),
                progress=progress,
            )
        return Storm(
            folder,
            seed,
            server,
            ttl=options.ttl,
            partitions=options.partitions,
            workers=options.workers,
            sessions=options.sessions,
            seconds=options.seconds,
            faults=tuple(options.faults.split(",")),
            script=tuple(filter(None, options.script.split(","))),
            progress=progress,
        ).run()


def progress(kind: str) -> None:
    """Show what happens."""
    sys.stderr.write(f"{kind} ")
    sys.stderr.flush()


def summary(report: Report) -> str:
    """Say in words how a storm ended."""
    facts = ", ".join(f"{value} {name}" for name, value in report.facts.items())
    broken = "".join(f"  BROKEN {sentence}\n" for sentence in report.broken)
    return f"seed {report.seed}: {facts}: {'BROKEN' if broken else 'every promise held'}\n{broken}"


if __name__ == "__main__":
    others = {"hour": hour.main, "handover": handover.main}
    chosen = others.get("".join(sys.argv[1:2]))
    sys.exit(main() if chosen is None else chosen(sys.argv[2:]))
