"""What the tests of the journal share: a partition to open again and again, receivers, and a replay of the stream."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from time import time
from typing import Any

from pydantic_core import to_json

from telstate import Dispatcher, Engine, Event, Outcome, OutcomeKind, ParseError, Router, Settings
from telstate.journals.nats import Names, NatsConnection, NatsJournal, Streams, StreamSettings, declare
from telstate.journals.nats._names import room_token
from telstate.journals.nats._records import message_of
from telstate.routing._payload import read_record
from telstate.routing._ports import Entry
from tests.routing import until

__all__ = ["SETTINGS", "Owner", "Partition", "caught_up", "declared", "engine_of", "marked", "publish"]

SETTINGS = Settings().model_dump()
_numbers = count(1)


class Partition:
    """One partition of streams that were declared.

    Args:
        connection: open.
        streams: theirs.
        number: which one.
    """

    def __init__(self, connection: NatsConnection, streams: Streams, number: int = 0) -> None:
        self.connection = connection
        self.streams = streams
        self.number = number
        self.room = next(name for name in map("room{}".format, count()) if streams.partition(name) == number)

    def journal(self, **options: Any) -> NatsJournal:
        """Another handle on it."""
        return NatsJournal(self.connection, self.streams, self.number, **options)


async def declared(connection: NatsConnection, names: Names, **settings: Any) -> Partition:
    """Declare streams; return their partition 0."""
    settings = {"partitions": 1, "max_bytes": 1 << 26, **settings}
    return Partition(connection, await declare(connection, names, StreamSettings(**settings)))


async def publish(
    partition: Partition, payload: dict[str, Any] | bytes, *, dialect: str = "daily-js", room: str = ""
) -> int:
    """Publish an event as a receiver does."""
    data = payload if isinstance(payload, bytes) else to_json(payload)
    subject = partition.streams.names.received(room_token(room or partition.room))
    message = message_of(subject, Entry(time(), dialect, data), f"r{next(_numbers)}", "test")
    return await partition.connection.publish(*message)


class Owner:
    """A dispatcher on a partition, and the numbers of the events that its handlers ran for."""

    def __init__(self, partition: Partition, handler: Callable[[Outcome], Any] | None = None, **options: Any) -> None:
        self.journal = partition.journal()
        self.seen: list[int] = []
        router = Router()

        @router.on(Event, outcomes=OutcomeKind)
        async def handle(outcome: Outcome) -> None:
            assert outcome.seq is not None
            self.seen.append(outcome.seq)
            if handler is not None:
                await handler(outcome)

        self.calls = Dispatcher(router, journal=self.journal, **options)

    @property
    def engine(self) -> Engine:
        """What it knows."""
        return self.calls._sequencer.engine


async def caught_up(owner: Owner, seq: int, seconds: float = 20) -> None:
    """Wait until a dispatcher has stepped an event, and all handlers have finished."""
    await until(lambda: owner.calls._sequencer.seq >= seq and not owner.calls._backlog.pending, seconds)


async def marked(owner: Owner) -> None:
    """Wait until what its handlers have finished is marked in the journal."""
    work_log = owner.calls._run.work_log
    await work_log.flush()  # waits for one under way, too
    await until(lambda: not work_log.unwritten)


async def engine_of(partition: Partition, owner: Owner) -> Engine:
    """Replay the stream, up to the time that an owner's engine has."""
    engine = Engine()
    async for record in partition.journal().read():
        try:
            engine.receive(read_record(record), record.at, record.seq, record.dialect)
        except ParseError:
            continue
    now = max(engine.now or 0.0, owner.engine.now or 0.0)
    engine.advance(now)
    owner.engine.advance(now)
    return engine
