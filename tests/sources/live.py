"""What tests of live sources share: the real packages, a foreign thread, and journals that are slow or fail."""

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

from telstate.events._dialects.journal import unwrap
from telstate.journals import JsonlJournal
from telstate.routing._ports import Entry

__all__ = ["Failing", "Gated", "from_a_thread", "installed", "payloads", "until"]


def installed(name: str) -> ModuleType:
    """Import a package that the tests need as it is. Where it cannot be, CI fails; elsewhere the tests say so and are skipped."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what pipecat imports
            return importlib.import_module(name)
    except ImportError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"{name} cannot be imported: {error}", allow_module_level=True)


def from_a_thread(do: Callable[[], object]) -> None:
    """Run it in a thread while the event loop stands still: what waits for the loop there would never end."""
    problems: list[BaseException] = []

    def run() -> None:
        try:
            do()
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "the thread was held up"
    assert not problems


async def until(true: Callable[[], object]) -> None:
    """Wait for it."""
    with anyio.fail_after(20):
        while not true():  # noqa: ASYNC110 - nothing sets an event for it
            await anyio.sleep(0.005)


class Gated(JsonlJournal):
    """A journal that takes nothing before `gate` is set."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gate = anyio.Event()
        self.asked = 0

    async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
        """Wait, then append."""
        self.asked += 1
        await self.gate.wait()
        return await super().append(entries)


class Failing(JsonlJournal):
    """A journal whose disk is full for some attempts."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.failures = 0

    async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
        """Fail, or append."""
        if self.failures:
            self.failures -= 1
            raise OSError(28, "No space left on device")
        return await super().append(entries)


def payloads(path: Path) -> list[dict[str, Any]]:
    """What a journal has, in its order."""
    found = [unwrap(line) for line in path.read_bytes().splitlines() if b'"seq":' in line[:20]]
    return [from_json(record.payload) for record in found if record is not None and record.payload != b"null"]
