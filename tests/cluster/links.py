"""A storm of links: calls that reach from room to room, workers that are killed, and in the end what one process knows of the same calls."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from random import Random
from typing import Any

from telstate import Engine, SessionsLinked
from telstate.journals.nats import NatsConnection, NatsJournal, find
from telstate.routing._payload import read_record
from telstate.routing._ports import Entry
from tests.cluster.check import Report
from tests.cluster.fleet import fleet_of_storm
from tests.cluster.publishing import publish_until_stored
from tests.cluster.torment import FAULTS, Torment
from tests.cluster.worker import NAMES
from tests.journals.nats.histories import SETTINGS, Told, history, known_by, known_by_one, rooms_of
from tests.json_values import differences
from tests.nats_server import NatsCluster, NatsServer

__all__ = ["storm_of_links"]

_DRAIN_WITHIN = 90.0


def storm_of_links(
    folder: Path,
    seed: int,
    server: NatsServer | NatsCluster,
    *,
    ttl: float = 2.0,
    partitions: int = 6,
    workers: int = 3,
    calls: int = 60,
    seconds: float = 20.0,
    faults: tuple[str, ...] = FAULTS,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Let it rage, heal everything, and compare. A replay of each partition alone has to know what one process knows of all calls."""
    report, rng = Report(seed), Random(seed)
    steps = [step for step in history(seed, rooms_of(partitions), calls) if isinstance(step, Told)]
    expected = asyncio.run(known_by_one([*steps]))
    fleet = fleet_of_storm(folder, server, ttl, partitions, "--links")
    with fleet.running(workers, partitions):
        torment = Torment(rng, fleet, server, ttl, workers, progress)
        asyncio.run(_publish(server.url, steps, seconds, lambda until: torment.rage(until, faults)))
        engines, links, found = _settled(server.url, expected)
        report.expect_none("what is known is what one process knows", found)
    report.facts |= {
        "events": len(steps),
        "sessions": sum(engine.sizes()["live"] + engine.sizes()["ended"] for engine in engines),
        "links": len(links),
        "links again": sum(count - 1 for count in Counter(links).values()),
        "faults": dict(Counter(fault.kind for fault in fleet.faults)),
    }
    return report


async def _publish(url: str, steps: list[Told], seconds: float, torment: Callable[[float], None]) -> None:
    """Publish all within so many seconds, while faults happen."""
    async with NatsConnection(url, name="publisher") as connection:
        faults = asyncio.create_task(asyncio.to_thread(torment, time.monotonic() + seconds))
        for step in steps:
            entry = Entry(time.time(), "webhook", json.dumps(step.payload).encode())
            await publish_until_stored(connection, step.room, entry)
            await asyncio.sleep(seconds / len(steps))
        await faults


def _settled(url: str, expected: dict[str, Any]) -> tuple[list[Engine], list[bytes], list[str]]:
    """Replay all partitions until they know what is expected; return the last replay, its links, and what still differs."""
    give_up = time.monotonic() + _DRAIN_WITHIN
    while True:
        engines, links = asyncio.run(_replayed(url))
        found = list(differences(known_by(*engines), expected))
        if not found or time.monotonic() > give_up:
            return engines, links, found
        time.sleep(1.0)


async def _replayed(url: str) -> tuple[list[Engine], list[bytes]]:
    engines, links = [], []
    async with NatsConnection(url) as connection:
        streams = await find(connection, NAMES)
        for partition in range(streams.partitions):
            engine = Engine(SETTINGS)
            async with aclosing(NatsJournal(connection, streams, partition).read()) as records:
                async for record in records:
                    event = read_record(record)
                    engine.receive(event, record.at, record.seq, record.dialect)
                    if isinstance(event, SessionsLinked):
                        links.append(record.payload)
            engines.append(engine)
    return engines, links
