"""Settings of all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.nats_server import nats_server, shared_nats

__all__ = ["nats_server", "shared_nats"]

# `quick` and CI's `thorough` draw the same examples on every machine, so that a failure can be reproduced; `deep` is for a
# run over night.
settings.register_profile("quick", deadline=None, max_examples=40, derandomize=True, print_blob=True)
settings.register_profile("thorough", deadline=None, max_examples=300, derandomize=True, print_blob=True)
settings.register_profile(
    "deep", deadline=None, max_examples=5000, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

# A shell ignores SIGINT for its background jobs, and every process started by the tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move the trio variants to the long part, except where the event loop makes a difference (`both_loops`)."""
    for item in items:
        parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        if parameters.get("anyio_backend") == "trio" and item.get_closest_marker("both_loops") is None:
            item.add_marker(pytest.mark.long)


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Undo what a program configures in structlog."""
    was_configured, before = structlog.is_configured(), structlog.get_config()
    yield
    if was_configured:
        structlog.configure(**before)
    else:
        structlog.reset_defaults()
