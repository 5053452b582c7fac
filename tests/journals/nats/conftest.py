"""What the tests of NATS share: asyncio, because nats-py has no other loop, and a connection with names of the test's own."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from itertools import count

import pytest

from telstate.journals.nats import Names, NatsConnection
from tests.nats_server import NatsServer

_numbers = count(1)


@pytest.fixture
def anyio_backend() -> str:
    """The event loop."""
    return "asyncio"


@pytest.fixture
async def connection(shared_nats: NatsServer) -> AsyncGenerator[NatsConnection, None]:
    """A connection to a server that this test shares with others."""
    async with NatsConnection(shared_nats.url) as opened:
        yield opened


@pytest.fixture
def names() -> Names:
    """Names that no other test uses."""
    return Names("tests", f"env{next(_numbers)}")
