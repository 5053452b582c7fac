"""Everything async here runs on both event loops, against a fake of Daily."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The event loop of a test."""
    name: str = request.param
    return name
