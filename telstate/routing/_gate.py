"""The gate: it holds handlers back while the program may not start any, as while its lease is suspended.

It cancels nothing: a handler that runs goes on. A dispatcher that needs no gate has none, so that its handlers pay nothing for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio

from telstate.routing._cancellation import wait_forgiving

__all__ = ["Gate"]

_LOOK_EVERY = 0.05
"""Seconds between two looks at a closed gate: another thread may open it, and the program's function gives no sign."""


class Gate:
    """Says whether handlers may start.

    Args:
        is_open: the program's function.
    """

    __slots__ = ("is_open",)

    def __init__(self, is_open: Callable[[], bool]) -> None:
        self.is_open: Callable[[], bool] = is_open
        """Returns True if a handler may start now."""

    async def wait_open(self, task: asyncio.Task[object] | None) -> None:
        """Wait until handlers may start.

        Args:
            task: the worker that waits. What cancels it, though it is not this dispatcher, ends nothing.
        """
        while not self.is_open():
            await wait_forgiving(anyio.sleep(_LOOK_EVERY), task)
