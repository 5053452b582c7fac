"""Disk work in one thread: the event loop never waits for the disk, and calls run one after another.

The thread is a daemon of its own, not one of the event loop's pool. The interpreter joins the pool's threads at exit, so a disk
that hangs would keep the program from ending.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, TypeVar, cast

from telstate.routing._new_event import new_event

__all__ = ["DiskThread"]

T = TypeVar("T")

_IDLE = 5.0
"""Seconds without work after which the thread ends; the next call starts another."""


class _Work:
    """A call to make, and its result."""

    __slots__ = ("call", "done", "error", "schedule", "value")

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call
        self.done = new_event()
        self.schedule = _scheduler()
        self.value: Any = None
        self.error: BaseException | None = None


class DiskThread:
    """Runs one call after another. A call that has been submitted is made, even if the waiting task is cancelled."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[_Work] = SimpleQueue()
        self._starting = Lock()
        self._running = False

    async def run(self, call: Callable[[], T]) -> T:
        """Make a call in the thread and wait for its result.

        Raises:
            RuntimeError: if the thread cannot be started: the system allows no more. The call was not made.
        """
        work = _Work(call)
        with self._starting:
            if not self._running:  # started first: if it cannot be, nothing waits for it, and the next call tries again
                Thread(target=self._run_calls, name="telstate disk", daemon=True).start()
                self._running = True
            self._queue.put(work)
        await work.done.wait()
        if work.error is not None:
            raise work.error
        return cast("T", work.value)

    def _run_calls(self) -> None:
        while True:
            try:
                work = self._queue.get(timeout=_IDLE)
            except Empty:
                with self._starting:
                    if self._queue.empty():
                        self._running = False
                        return
                continue
            try:
                work.value = work.call()
            except BaseException as error:  # raised again in the task that waits
                work.error = error
            with suppress(RuntimeError):  # the event loop may have ended meanwhile: then no task waits
                work.schedule(work.done.set)
            del work


def _scheduler() -> Callable[[Callable[[], object]], object]:
    """Return a function that schedules a call in the current event loop from another thread, without waiting."""
    try:
        return asyncio.get_running_loop().call_soon_threadsafe
    except RuntimeError:
        import trio  # noqa: PLC0415 - if the loop is not asyncio's, trio is installed

        return trio.lowlevel.current_trio_token().run_sync_soon
