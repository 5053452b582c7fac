"""Clocks: that of the machine, and that of a recorded log. Nothing else in the routing reads the time."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager

import anyio

__all__ = ["LogClock", "SystemClock"]


class SystemClock:
    """The time of day, and real waiting."""

    timers = True

    def now(self) -> float:
        """Unix seconds."""
        return time.time()

    def follow(self, at: float | None) -> None:
        """What a payload says of the time is no concern of this clock."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await anyio.sleep(seconds)

    def move_on_after(self, seconds: float | None) -> AbstractContextManager[anyio.CancelScope]:
        """Return a cancel scope with a timeout."""
        return anyio.move_on_after(seconds)


class LogClock:
    """The time of a recorded log, for `Dispatcher(router, clock=LogClock())`: it is whatever the last line said.

    Limits do not pass by themselves: a journal has them as events, other logs have none.
    """

    timers = False

    def __init__(self) -> None:
        self._now: float | None = None

    def now(self) -> float | None:
        """Unix seconds; None before the first line that tells a time."""
        return self._now

    def follow(self, at: float | None) -> None:
        """The next line's time."""
        self._now = at

    async def sleep(self, seconds: float) -> None:  # noqa: ARG002 - nobody comes and moves this clock
        """Wait for ever."""
        await anyio.sleep_forever()

    def move_on_after(self, seconds: float | None) -> AbstractContextManager[anyio.CancelScope]:  # noqa: ARG002
        """Return a cancel scope that never times out."""
        return anyio.CancelScope()
