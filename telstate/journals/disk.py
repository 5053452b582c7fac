"""Work with the disk: in a thread, so that the event loop never waits for it, and one piece at a time."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TypeVar

import anyio
import anyio.to_thread

__all__ = ["Disk"]

T = TypeVar("T")


class Disk:
    """Does one thing after another. What was begun is finished, whoever was cancelled waiting for it."""

    def __init__(self) -> None:
        self._turn = anyio.Lock()
        self._alone = Lock()

    async def do(self, work: Callable[[], T]) -> T:
        """Do it in a thread, and wait for it; if a disk hangs, one can be cancelled while it does."""
        async with self._turn:
            return await anyio.to_thread.run_sync(
                self._do, work, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1)
            )

    def _do(self, work: Callable[[], T]) -> T:
        with self._alone:  # whoever gave up waiting has given his turn away, but his work goes on
            return work()
