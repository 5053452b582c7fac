"""`python -m tests.cluster handover [--partitions 64] [--rate 200] [--times 5]`: how long events wait while workers come and go in order.

Two workers share the partitions. Events are published at a steady rate, in turn for one room of each partition. Again and again one worker gets
SIGTERM and the other takes everything, and a new one joins and takes half of it. The time from publish to the start of the first handler is
reported: of events while nothing happens, from SIGTERM on, and while a worker joins. Handlers take no time, unless `--seconds` says so.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from uuid import uuid4

from telstate import Event, Outcome, Router, Settings, parse
from telstate.journals.nats import NatsConnection, NatsJournal, find
from telstate.journals.nats._names import partition_of, room_token
from telstate.journals.nats._records import message_of
from telstate.routing._ports import Entry
from tests.cluster.fleet import Fleet
from tests.cluster.worker import NAMES, arguments_of, run_worker
from tests.nats_server import NatsServer

__all__ = ["Waits", "measure"]

_AROUND = 2.0
"""Seconds after a worker was told to end, or has begun to take partitions, in which events count as concerned."""
_HANDLED_WITHIN = 90.0

Waits = dict[str, list[list[float]]]
"""The seconds that events waited while it was `quiet`, and for each `term` and each `join`."""


def router_of(started: list[tuple[int, float]], seconds: float) -> Router:
    """Make a handler that notes when it starts."""
    router = Router()

    @router.on(Event)
    async def start(outcome: Outcome) -> None:
        started.append((outcome.seq, time.monotonic()))
        if seconds:
            await asyncio.sleep(seconds)

    return router


async def work(options: argparse.Namespace) -> None:
    """Be a worker until SIGTERM."""
    started: list[tuple[int, float]] = []
    await run_worker(router_of(started, options.seconds), options, Settings())
    (options.folder / f"started-{os.getpid()}.json").write_text(json.dumps(started))


def started_in(folder: Path) -> dict[int, float]:
    """Read when the first handler of each event has started."""
    found: dict[int, float] = {}
    for path in folder.glob("started-*.json"):
        for seq, at in json.loads(path.read_text()):
            found[seq] = min(at, found.get(seq, at))
    return found


def rooms_of(partitions: int) -> list[str]:
    """One room of each partition."""
    found: dict[int, str] = {}
    for number in itertools.count():
        room = f"room{number}"
        found.setdefault(partition_of(room_token(room), partitions), room)
        if len(found) == partitions:
            return [found[place] for place in range(partitions)]
    raise AssertionError


class _Publishing:
    """Publishes events until it is told to stop: sessions of a few events each, one after another in each room."""

    def __init__(self, url: str, partitions: int, rate: float) -> None:
        self._url, self._rate = url, rate
        self._rooms = rooms_of(partitions)
        self.published: dict[int, float] = {}
        """By number, when it was sent."""
        self.stop = asyncio.Event()

    async def run(self) -> None:
        """Publish at the rate, whatever the answers take."""
        async with NatsConnection(self._url, name="publisher") as connection:
            begin, sending = time.monotonic(), set[asyncio.Task[None]]()
            for number in itertools.count():
                if self.stop.is_set():
                    break
                await asyncio.sleep(max(0.0, begin + number / self._rate - time.monotonic()))
                sending.add(task := asyncio.ensure_future(self._publish(connection, number)))
                task.add_done_callback(sending.discard)
            await asyncio.gather(*sending)

    async def _publish(self, connection: NatsConnection, number: int) -> None:
        room = self._rooms[number % len(self._rooms)]
        turn, place = divmod(number // len(self._rooms), 4)
        action = ("dialin-connected", "dialin-warning", "dialin-warning", "dialin-stopped")[place]
        payload = {"action": action, "sessionId": f"{room}-{turn}"}
        if place in {1, 2}:
            payload["errorMsg"] = f"n{place}"
        event = parse(payload)
        message = message_of(
            NAMES.received(room_token(room)),
            Entry(time.time(), "daily-js", event.to_json(), event),
            uuid4().hex,
            "test",
        )
        sent = time.monotonic()
        self.published[await connection.publish(*message)] = sent


async def _times(fleet: Fleet, partitions: int, times: int) -> list[tuple[str, float]]:
    """Let workers come and go; return when each did."""
    found = []
    await asyncio.sleep(_AROUND)
    for _ in range(times):
        begin = time.monotonic()
        await asyncio.to_thread(fleet.terminate, fleet.members[0])
        found.append(("term", begin))
        sys.stderr.write(f"ended within {time.monotonic() - begin:.2f} s\n")
        await asyncio.to_thread(fleet.wait_shared, partitions)
        await asyncio.sleep(_AROUND)
        member = fleet.join()
        while not member.state["partitions"]:  # noqa: ASYNC110 - it is in another process
            await asyncio.sleep(0.005)
        found.append(("join", time.monotonic() - 0.3))  # it says that it has some a moment after it has
        await asyncio.to_thread(fleet.wait_shared, partitions)
        await asyncio.sleep(_AROUND)
    return found


async def _until_handled(url: str, numbers: Iterable[int]) -> None:
    """Wait until all events of these numbers are marked as done: workers that end leave to others what has not begun."""
    left = set(numbers)
    async with NatsConnection(url) as connection, asyncio.timeout(_HANDLED_WITHIN):
        streams = await find(connection, NAMES)
        journals = [NatsJournal(connection, streams, number) for number in range(streams.partitions)]
        while left:
            for journal in journals:
                left -= await journal.finished(list(left))
            await asyncio.sleep(0.1)


def measure(folder: Path, partitions: int, rate: float, times: int, seconds: float = 0.0) -> Waits:
    """Return how long events waited."""
    with NatsServer(folder / "nats") as server:
        more = ("--ttl", "10", "--partitions", str(partitions), "--seconds", str(seconds))
        fleet = Fleet(folder, server.url, *more, module="tests.cluster.handover")
        with fleet.running(2, partitions, within=60.0):

            async def run() -> tuple[dict[int, float], list[tuple[str, float]]]:
                publishing = _Publishing(server.url, partitions, rate)
                task = asyncio.ensure_future(publishing.run())
                happened = await _times(fleet, partitions, times)
                publishing.stop.set()
                await task
                await _until_handled(server.url, publishing.published)
                return publishing.published, happened

            published, happened = asyncio.run(run())
    started = started_in(folder)
    waits: Waits = {"quiet": [[]], "term": [], "join": []}
    places = [(at, waits[kind]) for kind, at in happened]
    for at, several in places:
        several.append([started[seq] - sent for seq, sent in published.items() if at - 0.02 <= sent < at + _AROUND])
    for seq, sent in published.items():
        if not any(at - 0.02 <= sent < at + _AROUND for at, _ in places):
            waits["quiet"][0].append(started[seq] - sent)
    return waits


def summary(waits: Waits) -> str:
    """Write the distribution, and the longest of each time, in milliseconds: the shortest of these is the one that others disturbed least."""
    lines = []
    for kind, several in waits.items():
        found = sorted(itertools.chain(*several))
        parts = [f"p{100 * place:g} {1000 * found[int(place * (len(found) - 1))]:.1f}" for place in (0.5, 0.9, 0.99)]
        most = sorted(round(1000 * max(some)) for some in several)
        lines.append(f"{kind}: {', '.join(parts)}, the longest of each time {most} ms\n")
    return "".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster handover", description=__doc__)
    parser.add_argument("--partitions", default="16,64,256")
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.0, help="how long handlers take, about")
    options = parser.parse_args(arguments)
    for partitions in map(int, options.partitions.split(",")):
        with tempfile.TemporaryDirectory(prefix="telstate-handover-") as scratch:
            waits = measure(Path(scratch), partitions, options.rate, options.times, options.seconds)
        facts = json.dumps({"partitions": partitions, "load": round(os.getloadavg()[0], 1)})
        sys.stdout.write(f"{facts}\n{summary(waits)}")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    asyncio.run(work(arguments_of(sys.argv[1:])))
