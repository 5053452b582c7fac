"""Dispatchers on a real server that is killed, stopped and frozen while receivers publish: nothing lost, nothing twice, in order."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import anyio
import anyio.to_thread
import pytest
import structlog
from pydantic_core import from_json

from telstate import JournalError, NotRunning
from telstate.journals.nats import Names, NatsConnection, NatsJournal
from telstate.routing._ports import Entry
from tests.calls import js
from tests.journals.nats.partitions import SETTINGS, Owner, Partition, caught_up, declared, engine_of, marked, publish
from tests.nats_server import NatsCluster, NatsServer
from tests.routing import until

pytestmark = [pytest.mark.anyio, pytest.mark.long]
ACTIONS = ["connected", "answered", "stopped", "error", "warning"]


async def hurt(server: NatsServer, how: str, rng: Random) -> None:
    """Do something to a server, and undo it."""
    if how == "frozen":
        server.pause()
        await anyio.sleep(rng.choice([0.5, 3.5]))  # a publish waits three seconds for its answer
        server.resume()
    elif how == "away":
        server.kill()
        await anyio.sleep(rng.uniform(0.3, 1.5))
        await anyio.to_thread.run_sync(server.start)
    else:
        await anyio.to_thread.run_sync(lambda: server.restart(kill=how == "killed"))


class Traffic:
    """Receivers that publish, and an owner that receives, until they are stopped."""

    def __init__(self, partition: Partition, seed: int) -> None:
        self.partition = partition
        self.rng = Random(seed)
        self.stopping = False
        self.sent: list[str] = []
        """The events that were acknowledged, by their marks."""

    def payload(self, by: str, number: int) -> dict[str, Any]:
        """An event that carries a mark of its own."""
        action = self.rng.choice(ACTIONS)
        return {**js(f"dialout-{action}", f"s{self.rng.randrange(30)}"), "mark": f"{by}-{number}"}

    async def publish(self, by: str) -> None:
        """Publish as a receiver."""
        number = 0
        while not self.stopping:
            payload = self.payload(by, number)
            await publish(self.partition, payload)
            self.sent.append(payload["mark"])
            number += 1
            await anyio.sleep(0.003)

    async def receive(self, owner: Owner) -> None:
        """Receive in the dispatcher of the owner."""
        number = 0
        while not self.stopping:
            payload = self.payload("own", number)
            outcome = await owner.calls.receive(payload)
            assert outcome.event.model_extra == {"mark": payload["mark"]}
            self.sent.append(payload["mark"])
            number += 1
            await anyio.sleep(0.003)


async def marks_of(partition: Partition) -> list[str]:
    """The marks in the stream, in order."""
    return [from_json(record.payload)["mark"] async for record in partition.journal().read()]


@asynccontextmanager
async def quiet() -> AsyncGenerator[list[Any], None]:
    """Collect log lines."""
    with structlog.testing.capture_logs() as logs:
        yield logs


@pytest.mark.parametrize("how", ["killed", "stopped", "away", "frozen"])
async def test_nothing_is_lost_or_repeated_while_the_server_is_hurt(
    nats_server: NatsServer, names: Names, how: str
) -> None:
    """Each acknowledged event is in the stream once; its handlers ran once, in order; a replay equals the live state."""
    async with quiet(), NatsConnection(nats_server.url) as receivers, NatsConnection(nats_server.url) as own:
        partition = await declared(receivers, names)
        traffic, owner = Traffic(partition, seed=5), Owner(Partition(own, partition.streams))
        async with owner.calls:
            async with anyio.create_task_group() as group:
                for by in ("r1", "r2"):
                    group.start_soon(traffic.publish, by)
                group.start_soon(traffic.receive, owner)
                for _ in range(4):
                    await anyio.sleep(0.4)
                    await hurt(nats_server, how, traffic.rng)
                await until(lambda: len(traffic.sent) > 50)
                traffic.stopping = True
            found = await marks_of(partition)
            await caught_up(owner, len(found))
            replayed = await engine_of(partition, owner)
            assert replayed.snapshot() == owner.engine.snapshot()
        assert Counter(found) == Counter(traffic.sent)
        assert sorted(owner.seen) == list(range(1, len(found) + 1))
        assert len(found) > 50
        assert await partition.journal().finished(range(1, len(found) + 1)) == set(range(1, len(found) + 1))


@pytest.mark.parametrize("seed", range(3))
async def test_owners_follow_one_another_while_the_server_is_hurt(
    nats_server: NatsServer, names: Names, seed: int
) -> None:
    """Each opens the partition while the one before still runs, or after it was left. All handlers ran at least once."""
    async with quiet(), NatsConnection(nats_server.url) as receivers:
        partition = await declared(receivers, names)
        traffic, seen, rng = Traffic(partition, seed), Counter[int](), Random(seed)
        unmarked = 0
        async with anyio.create_task_group() as group:
            for by in ("r1", "r2"):
                group.start_soon(traffic.publish, by)
            for _ in range(6):
                async with NatsConnection(nats_server.url) as own:
                    owner = Owner(Partition(own, partition.streams))
                    async with owner.calls:
                        await anyio.sleep(rng.uniform(0.1, 0.5))
                        await hurt(nats_server, rng.choice(["killed", "stopped", "frozen"]), rng)
                        await anyio.sleep(rng.uniform(0.05, 0.5))
                        if rng.random() < 0.5:  # a crash: what it finished since its last mark runs again
                            owner.journal.lose("a crash")
                    seen.update(owner.seen)
                    unmarked += len(set(owner.seen) - await partition.journal().finished(owner.seen))
            traffic.stopping = True
        found = await marks_of(partition)
        last = Owner(Partition(receivers, partition.streams))
        async with last.calls:
            await caught_up(last, len(found))
            replayed = await engine_of(partition, last)
            assert replayed.snapshot() == last.engine.snapshot()
            assert not any(session.uncertain for session in last.calls.live())
        seen.update(last.seen)
    assert Counter(found) == Counter(traffic.sent)
    assert set(seen) == set(range(1, len(found) + 1))
    assert sum(seen.values()) - len(seen) <= unmarked


async def test_many_handles_append_while_the_server_is_hurt(nats_server: NatsServer, names: Names) -> None:
    """Batches of all sizes: whole, contiguous, once; the numbers that were returned are theirs."""
    rng, stopping = Random(3), False
    returned: dict[int, bytes] = {}

    async with quiet(), NatsConnection(nats_server.url) as connection:
        partition = await declared(connection, names)
        journals = [partition.journal() for _ in range(4)]
        for journal in journals:
            await journal.open(SETTINGS)

        async def write(journal: NatsJournal, place: int) -> None:
            number = 0
            while not stopping:
                size = rng.choice([1, 1, 2, 7, 50])
                payloads = [b'{"mark":"%d-%d-%d"}' % (place, number, part) for part in range(size)]
                seqs = await journal.append([Entry(5.0, "daily-js", payload) for payload in payloads])
                assert list(seqs) == list(range(seqs[0], seqs[0] + size))
                returned.update(zip(seqs, payloads, strict=True))
                number += 1

        async with anyio.create_task_group() as group:
            for place, journal in enumerate(journals):
                group.start_soon(write, journal, place)
            for how in ("killed", "frozen", "stopped", "away", "killed"):
                await anyio.sleep(0.3)
                await hurt(nats_server, how, rng)
            await until(lambda: len(returned) > 150)
            stopping = True
        records = [record async for record in journals[0].read()]
        assert {record.seq: record.payload for record in records} == returned
        assert len(records) > 100
        for journal in journals:
            await journal.aclose()


async def test_a_cluster_that_loses_its_leaders_loses_nothing(tmp_path: Path, names: Names) -> None:
    """Three servers keep three copies. The stream's leader is killed, and comes back, twice."""
    with NatsCluster(tmp_path) as cluster:
        async with quiet(), NatsConnection(cluster.urls) as receivers, NatsConnection(cluster.urls) as own:
            partition = await declared(receivers, names, replicas=3)
            assert partition.streams.replicas == 3
            traffic, owner = Traffic(partition, seed=9), Owner(Partition(own, partition.streams))
            async with owner.calls:
                async with anyio.create_task_group() as group:
                    for by in ("r1", "r2"):
                        group.start_soon(traffic.publish, by)
                    group.start_soon(traffic.receive, owner)
                    for _ in range(2):
                        await anyio.sleep(0.5)
                        info = await receivers.ask(f"STREAM.INFO.{names.events}")
                        leader = cluster.servers[int(info["cluster"]["leader"].removeprefix("node"))]
                        before = len(traffic.sent)
                        leader.kill()
                        await until(lambda: len(traffic.sent) > before + 20, 30)  # noqa: B023
                        await anyio.to_thread.run_sync(leader.start)
                        await anyio.sleep(3)  # until it has caught up: two of three must be up
                    traffic.stopping = True
                found = await marks_of(partition)
                await caught_up(owner, len(found))
                replayed = await engine_of(partition, owner)
                assert replayed.snapshot() == owner.engine.snapshot()
    assert Counter(found) == Counter(traffic.sent)
    assert sorted(owner.seen) == list(range(1, len(found) + 1))


async def test_numbers_that_the_server_has_lost_are_not_used_again(
    nats_server: NatsServer, names: Names, tmp_path: Path
) -> None:
    """At a power failure it may lose its last events, and keep the checkpoint and the marks: new events must not count as those."""
    async with quiet() as logs, NatsConnection(nats_server.url) as connection:
        partition = await declared(connection, names)
        (folder,) = (nats_server.folder / "store").rglob(names.events)
        for number in range(20):
            await publish(partition, js("dialout-connected", f"a{number}"))
        nats_server.stop()
        shutil.copytree(folder, tmp_path / "older")
        await anyio.to_thread.run_sync(nats_server.start)
        first = Owner(partition)
        async with first.calls:
            for number in range(30):
                last = await publish(partition, js("dialout-connected", f"b{number}"))
            await caught_up(first, last)
            await first.calls._run.checkpoints.save()
            last = await publish(partition, js("dialout-connected", "marked"))
            await caught_up(first, last)
            await marked(first)
            first.journal.lose("the power has failed")
        nats_server.stop()
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "older", folder)
        await anyio.to_thread.run_sync(nats_server.start)
        third = Owner(partition)
        second = Owner(partition)
        async with second.calls:
            seq = await publish(partition, js("dialout-connected", "new"))
            assert seq > last == 51
            await caught_up(second, seq)
            assert second.seen == [seq]
            known = {session.session_id for session in second.calls.live()}
            assert known == {"new", *(f"a{n}" for n in range(20)), *(f"b{n}" for n in range(30))}
        assert [record.seq async for record in partition.journal().read()] == [*range(1, 21), seq]

        async def own() -> None:
            async with third.calls:
                nats_server.stop()
                shutil.rmtree(folder)
                shutil.copytree(tmp_path / "older", folder)
                await anyio.to_thread.run_sync(nats_server.start)
                await anyio.sleep(10)

        with pytest.raises(ExceptionGroup) as raised:
            await own()
        assert raised.group_contains(JournalError, match="came back without events that it had acknowledged")
    assert "journal.events_lost" in {line["event"] for line in logs}


async def test_a_server_that_stays_away_is_said_by_the_health(nats_server: NatsServer, names: Names) -> None:
    """Leaving does not wait for ever; what was acknowledged is there for the next owner."""
    async with quiet() as logs, NatsConnection(nats_server.url) as connection:
        partition = await declared(connection, names)
        owner = Owner(partition, drain=0.5)
        failed: list[Exception] = []

        async def receive() -> None:
            try:
                await owner.calls.receive(js("dialout-answered", "a"))
            except (JournalError, NotRunning) as error:
                failed.append(error)

        async with anyio.create_task_group() as group:
            async with owner.calls:
                await owner.calls.receive(js("dialout-connected", "a"))
                await caught_up(owner, 1)
                nats_server.kill()
                group.start_soon(receive)
                await until(lambda: "has not answered" in str(owner.calls.not_ready))
            await until(lambda: bool(failed))
        await anyio.to_thread.run_sync(nats_server.start)
        second = Owner(partition)
        async with second.calls:
            assert [session.session_id for session in second.calls.live()] == ["a"]
    assert "journal.not_closed" in {line["event"] for line in logs}
