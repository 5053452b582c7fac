"""Settings of the commands' tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from tests.cli.doctor_setup import service, stand_in

__all__ = ["service", "stand_in"]


@pytest.fixture(autouse=True)
def unconfigured() -> Iterator[None]:
    """A command starts without structlog configured; other tests in this process may have configured it."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()
