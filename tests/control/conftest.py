"""Everything async here runs on both event loops, against a fake of Daily."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.control.daily import FakeDaily


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The event loop of a test."""
    name: str = request.param
    return name


@pytest.fixture
def daily() -> Iterator[FakeDaily]:
    """Daily's webhooks endpoints, on a port of their own."""
    with FakeDaily().running() as fake:
        yield fake
