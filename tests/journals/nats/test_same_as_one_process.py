"""Several workers know the same of the same calls as one process: with a real server, and a real journal in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from telstate import Engine
from telstate.journals.nats import Names, NatsConnection, NatsJournal, find
from telstate.routing._payload import read_record
from telstate.testing import FakeControl
from tests.journals.nats.histories import (
    SETTINGS,
    Link,
    Step,
    handlers,
    history,
    known_by,
    known_by_one,
    one_process,
    rooms_of,
    take,
)
from tests.journals.nats.test_linking import settled
from tests.journals.nats.workers import Fleet, fleet
from tests.json_values import differences
from tests.nats_server import NatsServer
from tests.routing import until

pytestmark = pytest.mark.anyio
PARTITIONS = 3


@asynccontextmanager
async def several(server: NatsServer, names: Names) -> AsyncIterator[Fleet]:
    """A worker for each partition."""
    routers = [handlers() for _ in range(PARTITIONS)]
    options = {"partitions": PARTITIONS, "control": FakeControl(), "settings": SETTINGS}
    async with fleet(server.url, names, *routers, **options) as opened:  # type: ignore[arg-type]
        yield opened


async def publish(all_of_them: Fleet, step: Step, number: int) -> int:
    """Publish a step; any of the workers makes a link. Returns the number of the event."""
    if isinstance(step, Link):
        return (await all_of_them.calls(number % PARTITIONS).link(*step)).seq
    return await all_of_them.publish(step.payload, step.room)


def engines_of(all_of_them: Fleet) -> list[Engine]:
    """What each partition knows."""
    return [all_of_them.calls(partition)._sequencer.engine for partition in range(PARTITIONS)]


async def same(server: NatsServer, names: Names, seed: int, calls: int) -> None:
    """Compare what is known in the end; and a replay of each partition alone with its owner."""
    steps = list(history(seed, rooms_of(PARTITIONS), calls))
    expected, found = await known_by_one(steps), list[str]()
    async with several(server, names) as all_of_them:
        for number, step in enumerate(steps):
            await publish(all_of_them, step, number)
        with anyio.move_on_after(20):
            while found := list(differences(known_by(*engines_of(all_of_them)), expected)):  # noqa: ASYNC110 - nothing tells
                await anyio.sleep(0.1)
        assert not found, found
        for partition in range(PARTITIONS):
            replayed, live, _ = await settled(server, names, all_of_them, partition)
            assert known_by(replayed) == known_by(live)
        merged = known_by(await merged_log(server, names))
        assert list(differences(merged, expected)) == []


async def merged_log(server: NatsServer, names: Names) -> Engine:
    """A replay of all partitions together, as `telstate replay nats://…` does it."""
    engine = Engine(SETTINGS)
    async with NatsConnection(server.url) as connection:
        streams = await find(connection, names)
        journals = [NatsJournal(connection, streams, partition) for partition in range(PARTITIONS)]
        records = [record for journal in journals async for record in journal.read()]
        for record in sorted(records, key=lambda record: record.seq):
            engine.receive(read_record(record), record.at, record.seq, record.dialect)
    return engine


async def same_at_each_step(server: NatsServer, names: Names, seed: int, calls: int) -> None:
    """Let all know what follows from an event before the next one comes: then also what was amended is the same."""
    async with several(server, names) as all_of_them, one_process() as one:
        for number, step in enumerate(history(seed, rooms_of(PARTITIONS), calls)):
            await take(one, step)
            seq = await publish(all_of_them, step, number)
            await until(lambda seq=seq: max(engine._state.number for engine in engines_of(all_of_them)) >= seq)  # type: ignore[misc]
            found = [""]
            with anyio.move_on_after(10):
                while found:
                    await anyio.sleep(0.005)
                    expected = known_by(one._sequencer.engine, paced=True)
                    found = list(differences(known_by(*engines_of(all_of_them), paced=True), expected))
            assert not found, (number, step, found)


@pytest.mark.parametrize("seed", [1, 2])
async def test_the_same_calls_are_known(shared_nats: NatsServer, names: Names, seed: int) -> None:
    """With transfers from room to room, callers on hold, and links, in any order."""
    await same(shared_nats, names, seed, 10)


@pytest.mark.long
async def test_the_same_is_known_at_each_step(shared_nats: NatsServer, names: Names) -> None:
    """Not only in the end."""
    await same_at_each_step(shared_nats, names, 3, 5)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 110))
async def test_many_more_of_them(shared_nats: NatsServer, names: Names, seed: int) -> None:
    """As above."""
    await same(shared_nats, names, seed, 40)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(200, 204))
async def test_many_more_at_each_step(shared_nats: NatsServer, names: Names, seed: int) -> None:
    """As above."""
    await same_at_each_step(shared_nats, names, seed, 20)
