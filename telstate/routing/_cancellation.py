"""How to tell a cancellation by us from one that a handler causes itself: only ours may end a worker."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress

import anyio

__all__ = ["current_task", "forgive_cancellation", "is_cancelled"]


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
