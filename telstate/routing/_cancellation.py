"""How to tell a cancellation by us from one that a handler causes itself: only ours may end a worker."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager, suppress

import anyio

__all__ = ["current_task", "forgive_cancellation", "is_cancelled", "own_cancellation_only", "wait_forgiving"]


def is_cancelled() -> bool:
    """Return True if this task is really cancelled, and did not just get a cancellation error from somewhere else."""
    return anyio.current_effective_deadline() == -math.inf


def current_task() -> asyncio.Task[object] | None:
    """Return the asyncio task that this runs in; None on trio."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


async def forgive_cancellation(task: asyncio.Task[object] | None) -> None:
    """Undo what a function did to the task it ran in by `current_task().cancel()`: that worker serves others too."""
    if task is None or not task.cancelling() or is_cancelled():
        return
    while task.uncancel():
        pass
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(0)  # the requested cancellation arrives here, and goes no further


async def wait_forgiving(wait: Awaitable[object], task: asyncio.Task[object] | None) -> None:
    """Wait; somebody who still knows the task of a handler that finished, and cancels it, only ends the wait."""
    try:
        await wait
    except anyio.get_cancelled_exc_class():
        if is_cancelled():
            raise
        await forgive_cancellation(task)


@contextmanager
def own_cancellation_only() -> Iterator[None]:
    """Around what others implement: turn a cancellation that they bring along, as of a future, into an error.

    On asyncio it would end this task, its whole task group and so the dispatcher, without a word.
    """
    try:
        yield
    except anyio.get_cancelled_exc_class() as error:
        task = current_task()
        if is_cancelled() or (task is not None and task.cancelling()):
            raise
        raise RuntimeError(f"it cancelled itself: {error!r}") from error
