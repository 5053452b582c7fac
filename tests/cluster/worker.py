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
from collections.abc import Sequence
from pathlib import Path
from random import random
from typing import Any
from zlib import crc32

import structlog

from telstate import DeadlinePassed, Event, Outcome, OutcomeKind, Router, Session, Settings
from telstate.journals.nats import Names, NatsConnection, NatsJournal, StreamSettings, Worker, _journal
from telstate.routing import Control
from telstate.testing import FakeControl
from tests.journals.nats import histories

__all__ = ["NAMES", "SETTINGS", "Runs", "arguments_of", "router_of", "run_worker"]

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

    def watch_marks(self) -> None:
        """Add a line for all work that is marked from now on in this process, once the server has answered."""
        done = NatsJournal.done

        async def noted(journal: NatsJournal, seqs: Sequence[int]) -> None:
            is_lost = journal.lost is not None
            await done(journal, seqs)
            if not is_lost:  # else nothing was written
                for number in seqs:
                    self.write("marked", number, "", "", again=False)

        NatsJournal.done = noted  # type: ignore[method-assign,assignment]


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


async def run_worker(
    router: Router, options: argparse.Namespace, settings: Settings, control: Control | None = None, **more: Any
) -> None:
    """Run a router's handlers until SIGTERM; say again and again which partitions are open."""
    folder: Path = options.folder
    streams = StreamSettings(options.partitions, options.replicas, 1 << 28)
    worker = Worker(
        router,
        NatsConnection(options.urls, name=f"worker-{os.getpid()}"),
        names=NAMES,
        streams=streams,
        ttl=options.ttl,
        settings=settings,
        control=control or FakeControl(),
        drain=5.0,  # a handler that forwards a caller waits for their room for as long as it takes
        **more,
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


async def work(options: argparse.Namespace) -> None:
    """Be a worker of a storm."""
    _journal.IN_TRANSIT = options.in_transit
    if options.links:
        await run_worker(histories.handlers(), options, histories.SETTINGS)
        return
    runs = Runs(options.folder / f"runs-{os.getpid()}.jsonl")
    runs.watch_marks()
    await run_worker(router_of(runs, options.seconds), options, SETTINGS)


def arguments_of(arguments: Sequence[str], *more: str) -> argparse.Namespace:
    """Read what a worker's process is started with, and let its log go to standard error, as JSON Lines.

    Args:
        arguments: of the process.
        more: options that have to be given beside those of every worker.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.worker", description=__doc__)
    for name in more:
        parser.add_argument(name, required=True)
    parser.add_argument("folder", type=Path)
    parser.add_argument("urls")
    parser.add_argument("--ttl", type=float, default=3.0)
    parser.add_argument("--partitions", type=int, default=16)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--in-transit", type=float, default=12.0, help="how old an event may be: longer than any fault")
    parser.add_argument("--seconds", type=float, default=0.005, help="how long handlers take, about")
    parser.add_argument("--links", action="store_true", help="run the handlers of a storm of links")
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    asyncio.run(work(arguments_of(sys.argv[1:])))
