"""On trio, NATS says what to do."""

from __future__ import annotations

from datetime import timedelta

import pytest
import trio

from telstate import DefinitionError, Dispatcher, Router
from telstate.journals.nats import Names, NatsConnection, NatsJournal, Streams


def test_trio_is_refused_with_words() -> None:
    """nats-py runs on asyncio only."""
    connection = NatsConnection("nats://127.0.0.1:1")
    streams = Streams(Names(), "id", 1, 1, -1, timedelta(days=7))

    async def enter() -> None:
        async with Dispatcher(Router(), journal=NatsJournal(connection, streams, 0)):
            pass

    for use in (connection.open, enter):
        with pytest.raises(DefinitionError, match="asyncio only"):
            trio.run(use)
