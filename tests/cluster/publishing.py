"""What a storm publishes, through all faults of the servers."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from telstate import JournalError
from telstate.journals.nats import NatsConnection
from telstate.journals.nats._names import room_token
from telstate.journals.nats._records import message_of
from telstate.routing._ports import Entry
from tests.cluster.worker import NAMES

__all__ = ["publish_until_stored"]

_PAUSE = 0.2


async def publish_until_stored(
    connection: NatsConnection, room: str, entry: Entry, message_id: str | None = None
) -> int:
    """Publish an event of a room as a receiver does, as often as that takes; return its number.

    Args:
        connection: open.
        room: its name.
        entry: the event.
        message_id: that of an earlier publish, to try that again.
    """
    message = message_of(NAMES.received(room_token(room)), entry, message_id or uuid4().hex, "storm")
    while True:
        try:
            return await connection.publish(*message)
        except JournalError:
            await asyncio.sleep(_PAUSE)
