"""Work with the disk: in one thread, so that the event loop never waits for it, and one piece after another.

The thread is a daemon of its own and none of the event loop's pool, whose threads the interpreter waits for at its end: a disk
that hangs would keep the program from ending.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, TypeVar, cast

import anyio

__all__ = ["Disk"]

T = TypeVar("T")

_IDLE = 5.0
"""Seconds after which a thread without work ends; the next work starts another."""


class _Work:
    """Something to do, and what came of it."""

    __slots__ = ("call", "done", "error", "tell", "value")

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call
        self.done = anyio.Event()
        self.tell = _caller()
        self.value: Any = None
        self.error: BaseException | None = None


class Disk:
    """Does one thing after another. What was begun is finished, whoever was cancelled waiting for it."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[_Work] = SimpleQueue()
        self._starting = Lock()
        self._running = False

    async def do(self, call: Callable[[], T]) -> T:
        """Do it in the thread, and wait for it. Who is cancelled while he waits leaves it to be done."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        work = _Work(call)
        self._queue.put(work)
        with self._starting:
            if not self._running:
                self._running = True
                Thread(target=self._run, name="telstate disk", daemon=True).start()
        await work.done.wait()
        if work.error is not None:
            raise work.error
        return cast("T", work.value)

    def _run(self) -> None:
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
            except BaseException as error:  # it is for whoever asked
                work.error = error
            with suppress(RuntimeError):  # the event loop may have ended meanwhile: then nobody waits
                work.tell(work.done.set)
            del work


def _caller() -> Callable[[Callable[[], object]], object]:
    """How to call something in the present event loop, from another thread, without waiting for it."""
    try:
        return asyncio.get_running_loop().call_soon_threadsafe
    except RuntimeError:
        import trio  # noqa: PLC0415 - if it is not asyncio, it is there

        return trio.lowlevel.current_trio_token().run_sync_soon
