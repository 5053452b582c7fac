"""A tail yields every message once and in order, whatever happens to the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest

from telstate.journals.nats import Names, NatsConnection, StreamSettings, declare
from telstate.journals.nats._connection import Message
from telstate.journals.nats._errors import NatsRefused
from telstate.journals.nats._tail import Tail
from tests.nats_server import NatsServer
from tests.routing import until

pytestmark = [pytest.mark.anyio, pytest.mark.long]
SMALL = StreamSettings(partitions=4, max_bytes=1 << 24)


@asynccontextmanager
async def tail_of(
    connection: NatsConnection, names: Names, after: int | None = 0, subject: str = ""
) -> AsyncGenerator[Tail, None]:
    """A tail of one partition. A server that says nothing for two seconds is not taken for silent."""
    tail = Tail(connection, names.events, subject or names.events_of(1), after, heartbeat=0.7)
    try:
        yield tail
    finally:
        await tail.aclose()


async def read(tail: Tail, count: int) -> list[int]:
    """The numbers of the next messages."""
    found: list[int] = []
    with anyio.fail_after(20):
        while len(found) < count:
            found += [message.seq for message in await tail.next()]
    return found


async def fill(connection: NatsConnection, names: Names, count: int, partition: int = 1) -> None:
    """Append messages to a partition."""
    for start in range(0, count, 500):
        batch = [Message(names.events_own(partition), b"%d" % n) for n in range(start, min(start + 500, count))]
        await connection.publish_batch(batch)


async def test_it_yields_what_is_there_and_what_comes(connection: NatsConnection, names: Names) -> None:
    """More than one request has, of its own partition only."""
    await declare(connection, names, SMALL)
    await fill(connection, names, 1500)
    await fill(connection, names, 10, partition=2)
    async with tail_of(connection, names) as tail:
        assert await tail.begin() == 1500
        assert await read(tail, 1500) == list(range(1, 1501))
        assert (tail.at, tail.pending) == (1500, 0)
        assert await tail.next(within=0.05) == []
        await fill(connection, names, 700)
        assert await read(tail, 700) == list(range(1511, 2211))
        assert tail.begun == 1


async def test_it_begins_after_a_number_or_at_the_last_of_each_subject(
    connection: NatsConnection, names: Names
) -> None:
    """The last of each subject is what a key-value store has."""
    await declare(connection, names, SMALL)
    for partition in (1, 2, 1, 3, 2):
        await fill(connection, names, 1, partition)
    async with tail_of(connection, names, 1) as tail:
        assert await read(tail, 1) == [3]
    async with tail_of(connection, names, None, names.events_of("*")) as tail:
        assert await read(tail, 3) == [3, 4, 5]
        await fill(connection, names, 1, 3)
        assert await read(tail, 1) == [6]


async def test_a_message_has_its_time_and_headers(connection: NatsConnection, names: Names) -> None:
    """As the server stored it."""
    await declare(connection, names, SMALL)
    await connection.publish(names.received("a"), b"{}", {"Some": "1.5"})
    (stored,) = [await connection.get(names.events, 1)]
    async with tail_of(connection, names, 0, names.events_in("*")) as tail:
        (message,) = await tail.next()
    assert stored is not None
    assert (message.subject, message.headers["Some"], message.data) == (stored.subject, "1.5", b"{}")
    assert abs(message.at - stored.at) < 1e-3


@pytest.mark.long
async def test_a_quiet_stream_makes_it_begin_only_once(connection: NatsConnection, names: Names) -> None:
    """The server's heartbeats say that it is only quiet."""
    await declare(connection, names, SMALL)
    async with tail_of(connection, names) as tail:
        assert await tail.next(within=3) == []
        assert tail.begun == 1


async def test_a_consumer_that_disappears_is_made_anew(connection: NatsConnection, names: Names) -> None:
    """Its heartbeats stop."""
    await declare(connection, names, SMALL)
    await fill(connection, names, 3)
    async with tail_of(connection, names) as tail:
        assert await read(tail, 3) == [1, 2, 3]
        await connection.ask(f"CONSUMER.DELETE.{names.events}.{tail._consumer}")
        await fill(connection, names, 2)
        assert await read(tail, 2) == [4, 5]
        assert tail.begun == 2


async def test_a_gap_makes_it_begin_anew(connection: NatsConnection, names: Names) -> None:
    """A message that was lost on the way is noticed by the count."""
    await declare(connection, names, SMALL)
    async with tail_of(connection, names) as tail:
        await tail.begin()
        take, lost = tail._take, 0

        def lossy(*arrived: Any) -> None:
            nonlocal lost
            lost += 1
            if lost not in {5, 40}:
                take(*arrived)

        tail._take = lossy  # type: ignore[assignment,method-assign]
        tail.doubt()
        await fill(connection, names, 60)
        assert await read(tail, 60) == list(range(1, 61))
        assert tail.begun >= 3


async def test_a_blocked_event_loop_is_no_silence(connection: NatsConnection, names: Names) -> None:
    """What came meanwhile still waits."""
    import time

    await declare(connection, names, SMALL)
    async with tail_of(connection, names) as tail:
        await tail.begin()
        await fill(connection, names, 5)
        time.sleep(2.5)  # noqa: ASYNC251 - that is the point
        assert await read(tail, 5) == [1, 2, 3, 4, 5]
        assert tail.begun == 1


async def test_a_lost_connection_is_noticed_at_once(nats_server: NatsServer, names: Names) -> None:
    """Not only after some heartbeats."""
    async with NatsConnection(nats_server.url) as connection:
        await declare(connection, names, SMALL)
        tail = Tail(connection, names.events, names.events_of(1), heartbeat=30)
        await tail.begin()
        await anyio.to_thread.run_sync(nats_server.restart)
        with anyio.fail_after(25):
            await fill(connection, names, 1)  # there twice if its answer was lost with the connection
            assert (await tail.next())[0].seq == 1
        await tail.aclose()


async def test_what_was_on_its_way_to_the_consumer_before_is_left_out(connection: NatsConnection, names: Names) -> None:
    """It comes again by the new one."""
    await declare(connection, names, SMALL)
    async with tail_of(connection, names) as tail:
        await tail.begin()
        await fill(connection, names, 1)
        assert await read(tail, 1) == [1]
        before = tail.begun
        tail.doubt()
        await fill(connection, names, 2)
        assert await read(tail, 2) == [2, 3]
        late = "$JS.ACK.stream.consumer.1.3.3.0.0"
        tail._take(before, names.events_own(1), late, {}, b"late")
        assert await tail.next(within=0.05) == []
        await fill(connection, names, 1)
        assert await read(tail, 1) == [4]
        assert tail.begun == before + 1


async def test_a_stream_that_comes_back_is_read_on(connection: NatsConnection, names: Names) -> None:
    """While a cluster comes back, a stream may seem to be gone."""
    await declare(connection, names, SMALL)
    async with tail_of(connection, names) as tail:
        await tail.begin()
        config = (await connection.ask(f"STREAM.INFO.{names.events}"))["config"]
        await connection.ask(f"STREAM.DELETE.{names.events}")
        assert await tail.next(within=0.5) == []
        await connection.ask(f"STREAM.CREATE.{names.events}", config)
        await fill(connection, names, 2)
        assert await read(tail, 2) == [1, 2]


async def test_a_stream_that_is_missing_is_an_error(connection: NatsConnection, names: Names) -> None:
    """Waiting would not help."""
    async with tail_of(connection, names) as tail:
        with pytest.raises(NatsRefused, match="stream not found"):
            await tail.next()


@pytest.mark.long
@pytest.mark.parametrize("how", ["killed", "stopped", "frozen"])
async def test_restarts_and_freezes_lose_and_repeat_nothing(nats_server: NatsServer, names: Names, how: str) -> None:
    """Messages are published all the while."""
    async with NatsConnection(nats_server.url) as connection:
        await declare(connection, names, SMALL)
        sent, stopping, published_all = 0, False, False

        async def publish() -> None:
            nonlocal sent, published_all
            while not stopping:
                await connection.publish(names.events_own(1), b"%d" % sent, {"Nats-Msg-Id": f"n{sent}"})
                sent += 1
            published_all = True

        async with tail_of(connection, names) as tail, anyio.create_task_group() as group:
            group.start_soon(publish)
            found: list[bytes] = []

            async def collect() -> None:
                while not published_all or len(found) < sent:
                    found.extend(message.data for message in await tail.next(within=0.2))

            group.start_soon(collect)
            for _ in range(3):
                await asyncio.sleep(0.5)
                if how == "frozen":
                    nats_server.pause()
                    await asyncio.sleep(1.5)
                    nats_server.resume()
                else:
                    await anyio.to_thread.run_sync(lambda: nats_server.restart(kill=how == "killed"))
            await until(lambda: sent > 200)
            stopping = True
        assert found == [b"%d" % n for n in range(sent)]
        assert sent > 100
