"""Workers in one process, each with its share of the partitions, and rooms in partitions of a known number."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from time import time
from typing import Any

from pydantic_core import to_json

from telstate import Dispatcher, Engine, Router, Session, State
from telstate.journals.nats import Names, NatsConnection, NatsJournal, StreamSettings, Worker, find
from telstate.journals.nats._names import partition_of, room_token
from telstate.journals.nats._records import message_of
from telstate.routing._payload import read_record
from telstate.routing._ports import Entry
from telstate.testing import FakeControl
from tests.nats_server import NatsServer
from tests.routing import until

__all__ = ["HERE", "THERE", "Fleet", "fleet", "known", "pair", "replayed", "room_in"]

_numbers = count(1)


def room_in(partition: int, partitions: int = 2) -> str:
    """A room whose events are in a partition."""
    rooms = map("room{}".format, count())
    return next(room for room in rooms if partition_of(room_token(room), partitions) == partition)


class Fleet:
    """Workers, and a receiver."""

    def __init__(self, url: str, names: Names, partitions: int) -> None:
        self._url = url
        self._names = names
        self._partitions = partitions
        self._receiver = NatsConnection(url)
        self.workers: list[Worker] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def join(self, router: Router | None = None, **options: Any) -> Worker:
        """Add a worker."""
        settings = StreamSettings(partitions=self._partitions, max_bytes=1 << 26)
        options = {"ttl": 2.0, "drain": 2.0, **options}
        worker = Worker(router or Router(), NatsConnection(self._url), names=self._names, streams=settings, **options)
        self.workers.append(worker)
        self._tasks.append(asyncio.ensure_future(worker.run()))
        return worker

    async def shared(self) -> None:
        """Wait until each has its share, and all partitions are open."""
        workers = [worker for worker in self.workers if not worker._stopping.is_set()]
        share = self._partitions // len(workers)

        def is_shared() -> bool:
            held = [[one.partition for one in worker.partitions() if one.is_open] for worker in workers]
            return sum(map(len, held)) == self._partitions and all(len(some) >= share for some in held)

        await until(is_shared, 20)

    def calls(self, partition: int) -> Dispatcher:
        """The dispatcher of a partition, whoever has it."""
        for worker in self.workers:
            session = worker._session
            for one in () if session is None else session.partitions:
                if one.number == partition and one.calls is not None:
                    return one.calls
        raise AssertionError(f"nobody has partition {partition}")

    def owner(self, partition: int) -> Worker:
        """The worker that has a partition."""
        return next(one for one in self.workers if partition in [has.partition for has in one.partitions()])

    async def publish(self, payload: dict[str, Any], room: str, dialect: str = "webhook") -> int:
        """Publish an event as a receiver does."""
        subject = self._names.received(room_token(room))
        message = message_of(subject, Entry(time(), dialect, to_json(payload)), f"f{next(_numbers)}", "test")
        return await self._receiver.publish(*message)

    async def end(self) -> None:
        """End all."""
        for worker in self.workers:
            worker.shut_down()
            worker.shut_down()
        await asyncio.gather(*self._tasks)
        await self._receiver.aclose()


@asynccontextmanager
async def fleet(url: str, names: Names, *routers: Router, partitions: int = 2, **options: Any) -> AsyncIterator[Fleet]:
    """One worker for each router, with its share."""
    made = Fleet(url, names, partitions)
    try:
        for router in routers:
            await made.join(router, **options)
        if routers:
            await made.shared()
        yield made
    finally:
        await made.end()


HERE, THERE = room_in(0), room_in(1)


@asynccontextmanager
async def pair(
    server: NatsServer, names: Names, *routers: Router, control: FakeControl | None = None
) -> AsyncIterator[tuple[Fleet, Dispatcher, Dispatcher]]:
    """Two workers, and the dispatchers of their partitions 0 and 1."""
    routers = routers or (Router(), Router())
    async with fleet(server.url, names, *routers, control=control) as both:
        yield both, both.calls(0), both.calls(1)


async def known(calls: Dispatcher, session_id: str, state: State = State.ANSWERED) -> Session:
    """Wait until a dispatcher knows a session in a state."""

    def has_come() -> bool:
        session = calls.session(session_id)
        return session is not None and session.state is state

    await until(has_come)
    session = calls.session(session_id)
    assert session is not None
    return session


async def replayed(server: NatsServer, names: Names, partition: int) -> Engine:
    """Replay one partition."""
    engine = Engine()
    async with NatsConnection(server.url) as connection:
        journal = NatsJournal(connection, await find(connection, names), partition)
        async for record in journal.read():
            engine.receive(read_record(record), record.at, record.seq, record.dialect)
    return engine
