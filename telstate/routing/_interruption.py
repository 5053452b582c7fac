"""A KeyboardInterrupt that a program's function raised: it stops the service in order, and not the task that it came up in."""

from __future__ import annotations

import anyio

__all__ = ["Interruption", "is_interrupt"]


class Interruption:
    """Says whether there was one. The program's functions run in many places; the run of the dispatcher waits for it."""

    def __init__(self) -> None:
        self.source: str | None = None
        """The name of the function that raised it; None if there was none."""
        self._came = anyio.Event()

    def note(self, error: BaseException, source: str) -> None:
        """A function of the program raised `error`, which may be one, or a group with one."""
        if self.source is None and is_interrupt(error):
            self.source = source
            self._came.set()

    async def wait(self) -> None:
        """Wait until there is one."""
        await self._came.wait()


def is_interrupt(error: BaseException) -> bool:
    """Return True for a KeyboardInterrupt, and for a group with one."""
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(KeyboardInterrupt) is not None
    return isinstance(error, KeyboardInterrupt)
