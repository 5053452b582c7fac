"""Cancellation that is ours, told from one that somebody else's code brings along: only the first may end a worker."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress

import anyio

__all__ = ["current_task", "forgive_cancellation", "is_cancelled"]


def is_cancelled() -> bool:
    """Tell a real cancellation of this task from an exception that a function got from somewhere else."""
    return anyio.current_effective_deadline() == -math.inf


def current_task() -> asyncio.Task[object] | None:
    """The asyncio task that this runs in; None on trio."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


async def forgive_cancellation(task: asyncio.Task[object] | None) -> None:
    """On asyncio a function can cancel the task it runs in, by `current_task().cancel()`; that is the worker of others too."""
    if task is None or not task.cancelling() or is_cancelled():
        return
    while task.uncancel():
        pass
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(0)  # the one that was asked for comes here, and goes no further
