"""A lease is renewed from a thread of its own, suspended while the server is away, and lost only where another worker says so."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import pytest
import structlog

from telstate import JournalError, RevisionConflict
from telstate.journals.nats import Names, NatsConnection, StreamSettings, _lease, declare
from telstate.journals.nats._errors import NatsUnavailable
from telstate.journals.nats._lease import Lease
from tests.nats_server import NatsServer
from tests.routing import until

pytestmark = [pytest.mark.anyio, pytest.mark.long]
SMALL = StreamSettings(partitions=4, max_bytes=1 << 24)
TTL = 1.0
LONG = 6.0
"""A time to live that a machine may stand still in for a second or two, and no lease lapses."""


class Held:
    """A lease, and whether it was lost."""

    def __init__(self, connection: NatsConnection, names: Names, ttl: float) -> None:
        self.losses = 0
        self.lease = Lease(connection.another, names, ttl, self._lost)
        self._key = connection, names.owners, names.worker(self.lease.id)

    def _lost(self) -> None:
        self.losses += 1

    async def key(self) -> tuple[bool, int]:
        """Whether its key says that it lives, and the revision."""
        connection, stream, subject = self._key
        found = await connection.last(stream, subject)
        assert found is not None
        return json.loads(found.data)["alive"], found.seq


async def begun(connection: NatsConnection, names: Names, ttl: float) -> Held:
    """Begin a lease as the worker does: another one if the server does not answer within a quarter of the time to live."""
    while True:
        one = Held(connection, names, ttl)
        with suppress(NatsUnavailable):
            await one.lease.begin()
            return one


@asynccontextmanager
async def held(connection: NatsConnection, names: Names, ttl: float = TTL) -> AsyncIterator[Held]:
    """A lease on declared streams."""
    await declare(connection, names, SMALL)
    one = await begun(connection, names, ttl)
    try:
        yield one
    finally:
        await one.lease.end()


async def write_key(connection: NatsConnection, names: Names, one: Held, data: bytes) -> None:
    """Replace its key as another worker does: again if it was renewed between the look and the write."""
    while True:
        _, revision = await one.key()
        with suppress(RevisionConflict):
            await connection.publish(names.worker(one.lease.id), data, expect_last=revision)
            return


async def test_it_is_renewed_and_given_back(connection: NatsConnection, names: Names) -> None:
    """The key says so at once, and nobody has to wait for it to expire."""
    async with held(connection, names, LONG) as one:
        assert one.lease.is_valid()
        alive, revision = await one.key()
        assert alive
        began = time.monotonic()
        while (await one.key())[1] < revision + 2:  # noqa: ASYNC110 - the server tells nobody
            await anyio.sleep(0.05)
        assert time.monotonic() - began >= LONG / 4, "it renews four times in its time to live"
        assert one.lease.is_valid()
    assert not one.lease.is_valid()
    assert (await one.key())[0] is False
    assert (one.losses, one.lease.lapses) == (0, 0)


@pytest.mark.long
async def test_a_blocked_event_loop_does_not_cost_it(connection: NatsConnection, names: Names) -> None:
    """A handler may block it for longer than the lease lasts."""
    async with held(connection, names, LONG) as one:
        time.sleep(1.2 * LONG)  # noqa: ASYNC251 - on purpose
        assert one.lease.is_valid()
        assert one.lease.lapses == 0


@pytest.mark.long
async def test_a_loop_that_is_blocked_for_good_does(
    connection: NatsConnection, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others should have its partitions then. It goes on if nobody took them."""
    monkeypatch.setattr(_lease, "_STUCK_AFTER", 1.0)
    async with held(connection, names, 2.0) as one:
        with structlog.testing.capture_logs() as logs:
            time.sleep(3.5)  # noqa: ASYNC251 - on purpose
            assert not one.lease.is_valid()
            await until(one.lease.is_valid)
        assert {"lease.loop_blocked", "lease.resumed"} <= {log["event"] for log in logs}
        assert one.losses == 0


@pytest.mark.long
async def test_a_server_that_is_away_suspends_it_and_kills_nothing(nats_server: NatsServer, names: Names) -> None:
    """However long: nobody can write meanwhile."""
    async with NatsConnection(nats_server.url) as connection, held(connection, names) as one:
        with structlog.testing.capture_logs() as logs:
            nats_server.kill()
            assert one.lease._until <= _lease._now() + TTL / 2
            await until(lambda: not one.lease.is_valid())
            await anyio.sleep(2 * TTL)
            nats_server.start()
            await until(one.lease.is_valid)
        assert one.losses == 0
        assert one.lease.lapses >= 1  # one more each time the machine stands still
        assert (await one.key())[0]
        assert "lease.resumed" in {log["event"] for log in logs}


@pytest.mark.long
async def test_a_server_that_is_frozen_suspends_it(nats_server: NatsServer, names: Names) -> None:
    """The connection stays, and no answer comes. What was sent meanwhile is stored when the server goes on."""
    async with NatsConnection(nats_server.url) as connection, held(connection, names) as one:
        with structlog.testing.capture_logs():
            nats_server.pause()
            await until(lambda: not one.lease.is_valid())
            await anyio.sleep(2 * TTL)
            nats_server.resume()
            await until(one.lease.is_valid)
            await anyio.sleep(TTL)
        await until(one.lease.is_valid)
        assert one.losses == 0


async def test_who_was_declared_dead_knows_at_the_next_renewal(connection: NatsConnection, names: Names) -> None:
    """And starts no handler any more."""
    async with held(connection, names) as one:
        with structlog.testing.capture_logs() as logs:
            await write_key(connection, names, one, b'{"alive": false}')
            await until(lambda: one.losses == 1)
        assert not one.lease.is_valid()
        assert [log["event"] for log in logs] == ["lease.lost"]
        await anyio.sleep(TTL)
        assert not one.lease.is_valid()
        assert one.losses == 1
        assert (await one.key())[0] is False


async def test_a_key_that_is_gone_is_a_lost_lease(connection: NatsConnection, names: Names) -> None:
    """As after the loss of the whole store: nobody can say what happened since."""
    async with held(connection, names) as one:
        with structlog.testing.capture_logs():
            await connection.ask(f"STREAM.PURGE.{names.owners}")
            await until(lambda: one.losses == 1)
        assert not one.lease.is_valid()


async def test_a_renewal_whose_answer_was_lost_was_one(connection: NatsConnection, names: Names) -> None:
    """The revision is another one than it knows."""
    async with held(connection, names) as one:
        await write_key(connection, names, one, b'{"alive": true}')
        await anyio.sleep(TTL)
        await until(one.lease.is_valid)
        assert one.losses == 0


async def test_without_a_server_it_cannot_begin(names: Names, nats_server: NatsServer) -> None:
    """The worker tries again."""
    connection = NatsConnection(nats_server.url)
    nats_server.kill()
    one = Held(connection, names, TTL)
    with pytest.raises(JournalError), structlog.testing.capture_logs():
        await one.lease.begin()
    assert not one.lease.is_valid()
    assert not [thread for thread in threading.enumerate() if "lease" in thread.name]


async def test_a_failure_that_nobody_foresaw_is_logged_with_its_place(
    names: Names, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker only hears that the lease failed."""

    def connect() -> NatsConnection:
        raise RuntimeError("no such thing")

    lease = Lease(connect, names, TTL, lambda: None)
    with pytest.raises(JournalError, match="the lease failed: no such thing"):
        await lease.begin()
    (line,) = [one for one in caplog.messages if one.startswith("lease.failed")]
    assert "Traceback" in line
    assert line.endswith("RuntimeError: no such thing")
