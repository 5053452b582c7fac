"""The gate: it holds handlers back while the program may not start any, and for good once a shared journal is being left.

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
    """Says what may start.

    Args:
        may_start: the program's function; None if handlers may start at any time.
    """

    __slots__ = ("_is_closing", "is_open")

    def __init__(self, may_start: Callable[[], bool] | None) -> None:
        self.is_open: Callable[[], bool] = may_start or _always
        """Returns True if the next handler of an event may start whose handlers have begun."""
        self._is_closing = False

    def takes_work(self) -> bool:
        """Return True if the handlers of one more event may begin."""
        return not self._is_closing and self.is_open()

    def close(self) -> None:
        """Let the handlers of no further event begin. Whoever goes on with the journal runs them."""
        self._is_closing = True

    async def wait_for_work(self, task: asyncio.Task[object] | None) -> None:
        """Wait until the handlers of one more event may begin.

        Args:
            task: the worker that waits. What cancels it, though it is not this dispatcher, ends nothing.
        """
        while not self.takes_work():
            await wait_forgiving(anyio.sleep(_LOOK_EVERY), task)

    async def wait_open(self, task: asyncio.Task[object] | None) -> None:
        """Wait until the next handler may start; `task` as above."""
        while not self.is_open():
            await wait_forgiving(anyio.sleep(_LOOK_EVERY), task)


def _always() -> bool:
    return True
