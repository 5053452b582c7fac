"""The worker process of a storm: `python -m tests.cluster.worker FOLDER URLS`.

Its handlers write down when they start and end, each with one `os.write`, which a SIGKILL does not undo. The times are those of the
machine's monotonic clock, which all processes share.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from random import random
from zlib import crc32

import structlog

from telstate import DeadlinePassed, Event, Outcome, OutcomeKind, Router, Session, Settings
from telstate.journals.nats import Names, NatsConnection, StreamSettings, Worker, _journal

__all__ = ["NAMES", "SETTINGS", "Runs", "router_of"]

NAMES = Names("storm", "tests")
SETTINGS = Settings(retention=2.0, key_ttl=2.0, parked_ttl=2.0, ring_deadline=1.0)
"""Short, so that sessions leave memory, and deadlines pass, in every storm."""


class Runs:
    """The file in which a process writes down what its handlers do."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, what: str, number: int, handler: str, lane: str, *, again: bool) -> None:
        """Add a line."""
        line = json.dumps([what, number, handler, lane, time.monotonic(), again])
        os.write(self._file, line.encode() + b"\n")


def router_of(runs: Runs | None, seconds: float = 0.005) -> Router:
    """Make the handlers of a storm: one that never waits, one that takes a while, and one for each rarer cause."""
    router = Router()

    async def run(number: int, handler: str, lane: str, pause: float, *, again: bool) -> None:
        assert runs is not None
        runs.write("start", number, handler, lane, again=again)
        if pause:
            await asyncio.sleep(pause)
        runs.write("end", number, handler, lane, again=again)

    def lane_of(session: Session | None) -> str:
        return "-" if session is None else session.session_id

    @router.on(Event, outcomes=OutcomeKind)
    async def every(outcome: Outcome, session: Session | None) -> None:
        await run(outcome.seq, "every", lane_of(session), 0, again=outcome.redelivered)

    @router.on(Event)
    async def work(outcome: Outcome, session: Session) -> None:
        slow = crc32(b"%d" % outcome.seq) % 50 == 0
        pause = 0.3 if slow else 2 * seconds * random()
        await run(outcome.seq, "work", lane_of(session), pause, again=outcome.redelivered)

    @router.on(DeadlinePassed)
    async def deadline(outcome: Outcome, session: Session) -> None:
        await run(outcome.seq, "deadline", lane_of(session), seconds, again=outcome.redelivered)

    @router.on_end()
    async def ended(outcome: Outcome, session: Session) -> None:
        await run(outcome.seq, "ended", lane_of(session), seconds, again=outcome.redelivered)

    @router.on_retired()
    async def retired(session: Session) -> None:
        await run(-session.opened, "retired", lane_of(session), 0, again=False)

    return router


async def work(options: argparse.Namespace) -> None:
    """Work until SIGTERM."""
    folder: Path = options.folder
    _journal.IN_TRANSIT = options.in_transit
    runs = Runs(folder / f"runs-{os.getpid()}.jsonl")
    streams = StreamSettings(options.partitions, options.replicas, 1 << 28)
    worker = Worker(
        router_of(runs, options.seconds),
        NatsConnection(options.urls, name=f"worker-{os.getpid()}"),
        names=NAMES,
        streams=streams,
        ttl=options.ttl,
        settings=SETTINGS,
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.shut_down)
    running = asyncio.ensure_future(worker.run())
    while not running.done():
        await asyncio.wait({running}, timeout=0.05)
        state = {
            "partitions": [one.partition for one in worker.partitions() if one.is_open],
            "not_ready": worker.not_ready,
        }
        made = folder / f"state-{os.getpid()}.tmp"
        made.write_text(json.dumps(state))
        made.replace(folder / f"state-{os.getpid()}.json")
    running.result()


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.worker", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("urls")
    parser.add_argument("--ttl", type=float, default=3.0)
    parser.add_argument("--partitions", type=int, default=16)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--in-transit", type=float, default=12.0, help="how old an event may be: longer than any fault")
    parser.add_argument("--seconds", type=float, default=0.005, help="how long handlers take, about")
    options = parser.parse_args()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    asyncio.run(work(options))


if __name__ == "__main__":
    main()
