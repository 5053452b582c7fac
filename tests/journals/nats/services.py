"""A service over two processes: a worker here, one in a process that can be killed, a receiver, and a Daily over real HTTP."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import anyio.to_thread
import structlog

from telstate import Dispatcher, Session, State
from telstate.control import DailyApi, RestControl, Rooms
from telstate.journals.nats import Names, NatsConnection, Publisher, StreamSettings, Worker
from telstate.options import SipRoom
from telstate.sources import serve_webhooks
from telstate.testing import FakeDaily
from tests.journals.nats.across_worker import KEY, PARTITIONS, TTL, router_to
from tests.journals.nats.workers import room_in
from tests.nats_server import NatsServer
from tests.routing import until

__all__ = ["ROOMS", "SECRET", "Service", "service"]

ROOT = Path(__file__).parents[3]
SECRET = "c2VjcmV0"
ROOMS = [room_in(partition, PARTITIONS) for partition in range(PARTITIONS)]


class Service(NamedTuple):
    """A worker here, one in a process, a receiver, and a Daily that sends it webhooks."""

    daily: FakeDaily
    api: DailyApi
    worker: Worker
    other: subprocess.Popen[bytes]
    near: int
    """The partition of the worker here."""
    far: int
    """That of the process."""
    receiver: str
    """The URL of the receiver."""

    def calls(self, partition: int) -> Dispatcher:
        """The dispatcher of a partition that the worker here has."""
        assert self.worker._session is not None
        parts = self.worker._session.partitions
        return next(one.calls for one in parts if one.number == partition and one.calls is not None)

    async def session(self, session_id: str, state: State = State.ANSWERED) -> Session:
        """Wait until a session is known here in a state."""
        return await self.calls(self.near).wait_for(session_id, state, timeout=15)

    def ejected(self) -> int:
        """How often Daily was asked to end a call."""
        return sum(seen.path.endswith("/eject") for seen in self.daily.seen)

    async def take_over(self) -> Dispatcher:
        """Wait until the worker here has taken over the other's partition; return its dispatcher."""
        await until(lambda: [one.is_open for one in self.worker.partitions()] == [True] * PARTITIONS, 20)
        return self.calls(self.far)


def started(*arguments: str) -> subprocess.Popen[bytes]:
    """Start a worker process, and wait until it has its share."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.journals.nats.across_worker", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


@asynccontextmanager
async def service(server: NatsServer, names: Names) -> AsyncIterator[Service]:
    """All of it, for a test."""
    listening = socket.create_server(("127.0.0.1", 0))
    receiver = f"http://127.0.0.1:{listening.getsockname()[1]}"
    async with AsyncExitStack() as stack:
        stack.enter_context(structlog.testing.capture_logs())
        daily = stack.enter_context(FakeDaily(f"{receiver}/webhooks", SECRET, pinless=f"{receiver}/pinless"))
        api = await stack.enter_async_context(DailyApi(KEY, url=daily.url))
        endpoints = [(await Rooms(api).create(room, sip=SipRoom(display_name="caller"))).endpoints[0] for room in ROOMS]
        streams = StreamSettings(partitions=PARTITIONS, max_bytes=1 << 26)
        options = {"names": names, "streams": streams, "ttl": TTL, "control": RestControl(api)}
        worker = Worker(router_to(*endpoints), NatsConnection(server.url), **options)  # type: ignore[arg-type]
        running = asyncio.ensure_future(worker.run())
        try:
            await until(lambda: [one.is_open for one in worker.partitions()] == [True] * PARTITIONS, 15)
            publisher = await stack.enter_async_context(Publisher(NatsConnection(server.url), names))
            await stack.enter_async_context(serve_webhooks(publisher, secrets=[SECRET], listening=listening))
            arguments = (server.url, names.app, names.environment, daily.url, *endpoints)
            other = await anyio.to_thread.run_sync(partial(started, *arguments))
            stack.enter_context(other)
            stack.callback(other.kill)
            await until(lambda: [one.is_open for one in worker.partitions()] == [True], 15)
            (near,) = [one.partition for one in worker.partitions()]
            yield Service(daily, api, worker, other, near, 1 - near, receiver)
        finally:
            worker.shut_down()
            worker.shut_down()
            await running
