"""Settings of all tests."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from functools import cache
from unittest import mock

import httpx
import pytest
import structlog
from hypothesis import HealthCheck, settings

from telstate.routing import _log
from tests.byte_code import compile_a_share
from tests.control.receiving import daily, receiver
from tests.nats_server import nats_server, shared_nats
from tests.postgres import postgres, postgres_server

__all__ = ["daily", "nats_server", "postgres", "postgres_server", "receiver", "shared_nats"]

# `quick` and CI's `thorough` draw the same examples on every machine, so that a failure can be reproduced; `deep` is for a
# run over night.
settings.register_profile("quick", deadline=None, max_examples=30, derandomize=True, print_blob=True)
settings.register_profile("thorough", deadline=None, max_examples=300, derandomize=True, print_blob=True)
settings.register_profile(
    "deep", deadline=None, max_examples=5000, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

# The workers collect all modules, and hundreds of processes import telstate: without byte code, as containers often want it, each of them
# would compile everything anew, which takes longer than many a test.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# httpx reads all root certificates for each client, which takes 20 ms or more: the clients of a process share what the first one read.
mock.patch("httpx._transports.default.create_ssl_context", cache(httpx.create_ssl_context)).start()

# A machine that stands still for a second blocks each loop: that is no line of the log of any test but those that block one themselves.
mock.patch("telstate.routing._self_checks._BLOCKED_AFTER", 60.0).start()

# A shell ignores SIGINT for its background jobs, and every process started by the tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Collect less garbage in the quick part: looking through thousands of tests every 700 objects takes a quarter of their collection.

    The long part collects as usual, so that what a test leaves open is found while it runs.
    """
    if config.option.markexpr == "not long":
        gc.set_threshold(50_000, 50, 100)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile what this checkout has not compiled yet."""
    compile_a_share(session.config)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Move the trio variants to the long part, except where the event loop makes a difference (`both_loops`). Begin with the longest."""
    for item in items:
        parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        if parameters.get("anyio_backend") == "trio" and item.get_closest_marker("both_loops") is None:
            item.add_marker(pytest.mark.long)
    # The files with the longest tests begin first, or one worker would still run them when the others are done.
    usual = float(config.getini("timeout"))
    longest = {item.path for item in items for mark in item.iter_markers("timeout") if mark.args[0] > usual}
    items.sort(key=lambda item: item.path not in longest)


def pytest_collection_finish() -> None:
    """What was collected stays until the end: the garbage collector need not look through it, neither now and then nor for a test."""
    gc.freeze()


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Undo what a program configures in structlog, and forget which lines were not written: the next test's log would report them."""
    was_configured, before = structlog.is_configured(), structlog.get_config()
    yield
    if was_configured:
        structlog.configure(**before)
    else:
        structlog.reset_defaults()
    _log._LIMITED.clear()
