"""Shared by the tests of live sources: the real packages, a foreign thread, and journals that are slow or fail."""

from __future__ import annotations

import importlib
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest
from pydantic_core import from_json

from telstate.journals import SqliteJournal
from telstate.routing._ports import Entry
from tests.routing import until as holds_in_time

__all__ = ["FailingJournal", "GatedJournal", "callback_of", "from_a_thread", "installed", "payloads", "until"]


def installed(name: str) -> ModuleType:
    """Import a package that the tests use as it is. If it cannot be imported, CI fails; elsewhere the tests are skipped."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pipecat's imports warn
            return importlib.import_module(name)
    except ImportError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"{name} cannot be imported: {error}", allow_module_level=True)


def callback_of(name: str) -> str:
    """Return the name of the callback that reports an event of this name."""
    if name == "network-connection":
        return "on_network_connection_status_updated"
    return f"on_{name.replace('-', '_')}"


def from_a_thread(do: Callable[[], object]) -> None:
    """Run a function in a thread while the event loop is blocked: a function that waits for the loop would never return."""
    problems: list[BaseException] = []

    def run() -> None:
        try:
            do()
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "the thread was blocked"
    assert not problems


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition."""
    await holds_in_time(condition, 20)


class GatedJournal(SqliteJournal):
    """A journal that appends nothing before `gate` is set."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gate = anyio.Event()
        self.asked = 0

    async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
        """Wait, then append."""
        self.asked += 1
        await self.gate.wait()
        return await super().append(entries)


class FailingJournal(SqliteJournal):
    """A journal that fails for some attempts, as when its disk is full."""

    def __init__(self, path: Path, error: Exception = OSError(28, "No space left on device")) -> None:  # noqa: B008 - it is raised only
        super().__init__(path)
        self.failures = 0
        self._error = error

    async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
        """Fail, or append."""
        if self.failures:
            self.failures -= 1
            raise self._error
        return await super().append(entries)


async def payloads(path: Path) -> list[Any]:
    """Return the payloads in a journal, in order."""
    return [from_json(record.payload) async for record in SqliteJournal(path).read()]
