"""The process that is killed: `python -m tests.crash.child FOLDER SEED [--backend NAME] [--prune] [--notify URL] [--finish]`.

It feeds simulated calls to a dispatcher, and records what was acknowledged and which handlers finished, each with one
`os.write`, which a SIGKILL does not undo. It begins where the acknowledgements of the last process end.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from hashlib import blake2b
from itertools import count
from pathlib import Path
from random import random
from typing import Any
from zlib import crc32

import anyio
import structlog

from telstate import Dispatcher, Event, Outcome, OutcomeKind, Router, Session, Settings, State
from telstate.control import Notifier, NotifyTarget
from telstate.journals import SqliteJournal, _sqlite
from telstate.routing import _tender
from telstate.testing import Noise, simulate

__all__ = ["ARCHIVE", "FEEDERS", "SETTINGS", "digest", "is_to_fail", "journal_in", "lines_of", "router_of"]

FEEDERS = 4
SETTINGS = Settings(
    retention=1.0,
    key_ttl=1.0,
    parked_ttl=1.0,
    ring_deadline=0.3,
    silence_before_answer=2.0,
    silence_before_media=2.0,
    silence_in_call=4.0,
    end_grace=1.0,
    hold_limit=3.0,
)
"""Short, so that sessions leave memory and limits pass in every run."""
ARCHIVE = "old.jsonl.gz"
_CALLS = 40
"""Simulated calls in each chunk of a feeder's events."""

Finished = Callable[[str, str, bool | None], None]


class Eager(SqliteJournal):
    """A journal with frequent checkpoints."""

    checkpoint_every = 50


def journal_in(folder: Path, *, prunes: bool = False) -> SqliteJournal:
    """Return the journal of a run; with `prunes`, it moves what is over to an archive, a few events at a time, all the time."""
    path = folder / "calls.db"
    return Eager(path, timedelta(0), archive=folder / ARCHIVE) if prunes else Eager(path)


def prune_all_the_time() -> None:
    """Let a kill hit every step of it."""
    _sqlite._BASES_APART = 0.1
    _sqlite._PRUNE_AT_ONCE = 50
    _tender._EVERY = 0.05


def digest(payload: bytes) -> str:
    """Return a short name for a payload."""
    return blake2b(payload, digest_size=12).hexdigest()


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file of a child, except what a kill has torn, or is being written: a write can end at a memory page."""
    found = []
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def is_to_fail(event_id: str, handler: str) -> bool:
    """Return True for a handler that fails: always for the same events, so the dead letters are known."""
    return crc32(f"{event_id} {handler}".encode()) % 31 == 0


class Log:
    """A file to which one line is added at a time.

    Args:
        path: the file; it is created if it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        if path.stat().st_size and not path.read_bytes().endswith(b"\n"):
            os.write(self._file, b"\n")

    def write(self, **facts: object) -> None:
        """Add a line."""
        os.write(self._file, json.dumps(facts).encode() + b"\n")


def router_of(finished: Finished) -> Router:
    """Make the handlers of the process: one of each kind. Some take a while, some raise.

    Args:
        finished: called with the event's id, the handler's name, and `outcome.redelivered` (None where there is no outcome).
    """
    router = Router()

    async def work(outcome: Outcome, handler: str, seconds: float) -> None:
        await anyio.sleep(seconds * random())
        await end(str(outcome.event_id), handler, outcome.redelivered)

    async def end(event_id: str, handler: str, redelivered: bool | None) -> None:
        finished(event_id, handler, redelivered)
        if is_to_fail(event_id, handler):
            raise RuntimeError("on purpose")

    @router.on(Event, outcomes=OutcomeKind)
    async def every(outcome: Outcome) -> None:
        await end(str(outcome.event_id), "every", outcome.redelivered)

    @router.on(Event)
    async def handled(outcome: Outcome) -> None:
        await work(outcome, "handled", 0.004)

    @router.on_start()
    async def start(outcome: Outcome) -> None:
        await work(outcome, "start", 0.002)

    @router.on_state(State.ANSWERED)
    async def answered(outcome: Outcome) -> None:
        await work(outcome, "answered", 0.02)

    @router.on_end()
    async def ended(outcome: Outcome) -> None:
        await work(outcome, "ended", 0.01)

    @router.on_unmatched()
    async def unmatched(outcome: Outcome) -> None:
        await work(outcome, "unmatched", 0.001)

    @router.on_retired()
    async def retired(session: Session, calls: Dispatcher) -> None:
        await anyio.sleep(0.005 * random())
        await end(f"{calls._sequencer.journal_id}:{-session.opened}", "retired", None)

    return router


def events_of(seed: int, feeder: int, chunk: int) -> Iterator[bytes]:
    """Yield one chunk of what a feeder sends: the same each time."""
    for sent in simulate(
        crc32(b"%d %d %d" % (seed, feeder, chunk)),
        calls=_CALLS,
        dialects=["webhook", "daily-js"],
        twice=0.2,
        noise=Noise(lost=0.03, repeated=0.05, swapped=0.05, delayed=0.02),
        span=600.0,
    ):
        yield sent.line().strip()


async def feed(calls: Dispatcher, acks: Log, seed: int, feeder: int, after: tuple[int, int], *, finish: bool) -> None:
    """Send one event after another, each when the last is acknowledged, from the first unacknowledged one on."""
    first, done = after
    for chunk in count(first):
        for place, payload in enumerate(events_of(seed, feeder, chunk)):
            if (chunk, place) > (first, done):
                outcome = await calls.receive(payload)
                acks.write(
                    feeder=feeder,
                    chunk=chunk,
                    place=place,
                    id=outcome.event_id,
                    kind=outcome.kind,
                    sent=digest(payload),
                )
        if finish:
            return


async def ask_for_checkpoints(calls: Dispatcher) -> None:
    """Ask for far more than the dispatcher makes by itself, so that kills hit some, and every start has one."""
    while True:
        await anyio.sleep(0.05 * random())
        calls._run.checkpoints._due.set()


def notifier_to(url: str) -> Notifier:
    """Tell the receiver of a test about every call."""
    return Notifier(NotifyTarget(url, os.environ["TELSTATE_NOTIFY_SECRET"], name="receiver"), allow=["127.0.0.1"])


async def run(folder: Path, seed: int, *, prunes: bool, finish: bool, notify: str | None) -> None:
    """Run until killed. With `finish`, complete the chunk of each feeder, and write down the state at the end."""
    after = {ack["feeder"]: (ack["chunk"], ack["place"]) for ack in lines_of(folder / "acks.jsonl")}
    acks, runs = Log(folder / "acks.jsonl"), Log(folder / "runs.jsonl")
    router = router_of(
        lambda event_id, handler, redelivered: runs.write(id=event_id, handler=handler, again=redelivered)
    )
    notifier = None if notify is None else notifier_to(notify)
    calls = Dispatcher(router, journal=journal_in(folder, prunes=prunes), settings=SETTINGS, notify=notifier)
    async with calls:
        os.write(1, b"ready\n")
        async with anyio.create_task_group() as group:
            group.start_soon(ask_for_checkpoints, calls)
            async with anyio.create_task_group() as feeders:
                for feeder in range(FEEDERS):
                    begin = after.get(feeder, (0, -1))
                    feeders.start_soon(lambda f=feeder, b=begin: feed(calls, acks, seed, f, b, finish=finish))  # type: ignore[misc]
            await anyio.sleep(SETTINGS.retention + 0.2)
            while notifier is not None and await calls._run._outbox.waiting():  # type: ignore[union-attr]  # noqa: ASYNC110
                await anyio.sleep(0.05)
            group.cancel_scope.cancel()
    engine = calls._sequencer.engine
    (folder / "end.json").write_text(json.dumps({"now": engine.now, "engine": engine.snapshot()}))


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.child", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("seed", type=int)
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    parser.add_argument("--prune", action="store_true", help="let the journal prune itself all the time")
    parser.add_argument("--notify", metavar="URL", help="tell a receiver about every call")
    parser.add_argument("--finish", action="store_true", help="complete what was begun, and write down the state")
    options = parser.parse_args()
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    if options.prune:
        prune_all_the_time()
    how = {"prunes": options.prune, "finish": options.finish, "notify": options.notify}
    anyio.run(lambda: run(options.folder, options.seed, **how), backend=options.backend)


if __name__ == "__main__":
    main()
