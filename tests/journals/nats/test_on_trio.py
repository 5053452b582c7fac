"""On trio, NATS says what to do."""

from __future__ import annotations

import pytest
import trio

from telstate import DefinitionError
from telstate.journals.nats import NatsConnection


def test_trio_is_refused_with_words() -> None:
    """nats-py runs on asyncio only."""
    with pytest.raises(DefinitionError, match="asyncio only"):
        trio.run(NatsConnection("nats://127.0.0.1:1").open)
