"""Everything async here runs on both event loops, against a fake of Daily."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from telstate.testing import FakeDaily
from tests.control.receiving import Receiver


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The event loop of a test."""
    name: str = request.param
    return name


@pytest.fixture
def daily() -> Iterator[FakeDaily]:
    """A fake of Daily over HTTP."""
    with FakeDaily() as fake:
        yield fake


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of webhooks."""
    with Receiver() as listening:
        yield listening
