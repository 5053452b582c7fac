"""Workers in processes of their own act across partitions, on a Daily over real HTTP, and one of them is killed meanwhile."""

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

import anyio
import anyio.to_thread
import pytest
import structlog
from pydantic import SecretStr

from telstate import Dispatcher, Session, State
from telstate.control import DailyApi, RestControl, Rooms, Trunks
from telstate.errors import UnknownResult
from telstate.journals.nats import Names, NatsConnection, Publisher, StreamSettings, Worker
from telstate.journals.nats._names import partition_of, room_token
from telstate.options import SipRoom, SipTrunk, TrunkAccess, TrunkNotification
from telstate.sources import serve_webhooks
from telstate.testing import FakeDaily, faults
from tests.journals.nats.across_worker import KEY, PARTITIONS, TTL, router_to
from tests.journals.nats.workers import room_in
from tests.nats_server import NatsServer
from tests.routing import until

pytestmark = [pytest.mark.anyio, pytest.mark.long]
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


async def test_a_call_is_ended_from_another_process(shared_nats: NatsServer, names: Names) -> None:
    """The one whose session it is asks Daily, and all know that this program ended it."""
    async with service(shared_nats, names) as one:
        session_id = one.daily.dial_in(one.daily.host(ROOMS[one.far])[0])
        session = await one.session(session_id)
        await one.calls(one.near).stop(session, reason="over")
        ended = await one.session(session_id, State.STOPPED)
        assert (ended.ended_by, ended.notes) == ("local", {"reason": "over"})
        assert one.ejected() == 1


async def test_an_owner_that_is_killed_before_the_answer_is_not_asked_again(
    shared_nats: NatsServer, names: Names
) -> None:
    """It may have ended the call, or not: its successor says so, and sends nothing."""
    async with service(shared_nats, names) as one, anyio.create_task_group() as group:
        session_id = one.daily.dial_in(one.daily.host(ROOMS[one.far])[0])
        session = await one.session(session_id)
        one.daily.rules["/rooms/*/eject"] = faults.hang
        raised: list[Exception] = []

        async def stop() -> None:
            with pytest.raises(UnknownResult, match="its owner ended before the answer") as found:
                await one.calls(one.near).stop(session)
            raised.append(found.value)

        group.start_soon(stop)
        await until(lambda: one.ejected() == 1, 15)
        one.other.kill()
        one.other.wait()
        await until(lambda: raised, 30)
        assert one.ejected() == 1
        del one.daily.rules["/rooms/*/eject"]
        await (await one.take_over()).stop(session_id)  # the program decides whether to try again
        assert (await one.session(session_id, State.STOPPED)).ended_by == "local"


async def test_what_is_asked_while_nobody_owns_the_partition_is_done_once_by_the_next_owner(
    shared_nats: NatsServer, names: Names
) -> None:
    """Within the lease's time to live, and some more."""
    async with service(shared_nats, names) as one:
        session_id = one.daily.dial_in(one.daily.host(ROOMS[one.far])[0])
        await one.session(session_id)
        one.other.kill()
        one.other.wait()
        with anyio.fail_after(TTL + 10):
            await one.calls(one.near).stop(session_id)
        assert (await one.session(session_id, State.STOPPED)).ended_by == "local"
        assert one.ejected() == 1


async def test_a_caller_on_hold_gets_to_a_room_of_another_process(shared_nats: NatsServer, names: Names) -> None:
    """Receiver, hold and room are in three places: this test's receiver, the worker here, and the process."""
    async with service(shared_nats, names) as one:
        number = f"+1202555010{one.far}"
        call_id = one.daily.call_in(number, "+12025550142", waits=30)
        while partition_of(room_token(call_id), PARTITIONS) != one.near:
            one.daily.hang_up(call_id)
            call_id = one.daily.call_in(number, "+12025550142", waits=30)
        await until(lambda: call_id in [caller.call_id for caller in one.calls(one.near).waiting()], 15)
        one.daily.host(ROOMS[one.far])
        await until(lambda: (found := one.calls(one.near).caller(call_id)) and found.session_id, 20)
        caller = one.calls(one.near).caller(call_id)
        assert caller is not None
        session = await one.session(caller.session_id or "")
        assert (session.caller, session.called, session.pinless_call_id) == ("+12025550142", number, call_id)
        assert session.room == ROOMS[one.far]
        one.other.kill()  # the session is theirs in the journal too, whoever reads it next
        one.other.wait()
        again = (await one.take_over()).session(session.session_id)
        assert again is not None
        assert (again.caller, again.pinless_call_id) == (session.caller, call_id)


async def test_a_caller_on_a_trunk_gets_to_a_room_of_another_process(shared_nats: NatsServer, names: Names) -> None:
    """Daily makes their room, and what it reports of both goes to the partition of that room."""
    async with service(shared_nats, names) as one:
        trunk = SipTrunk(
            trunk_name="support",
            notification=TrunkNotification(webhook_url=f"{one.receiver}/sip-trunk", hmac=SecretStr(SECRET)),
            trunk_config=TrunkAccess(allowed_ips=("203.0.113.0/24",)),
        )
        await Trunks(one.api).create(trunk)
        places = set()
        for _ in range(20):
            call = one.daily.call_trunk("+12025550142")
            await until(lambda call=call: one.calls(one.near).caller(call), 15)  # type: ignore[misc]
            caller = one.calls(one.near).caller(call)
            assert caller is not None
            assert caller.room is not None
            places.add(partition_of(room_token(caller.room), PARTITIONS))
            one.daily.host(caller.room)
            await until(lambda call=call: one.calls(one.near).caller(call).session_id, 15)  # type: ignore[misc, union-attr]
            if places == {0, 1}:
                return
        raise AssertionError("all rooms were in one partition")
