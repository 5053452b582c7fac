"""Clocks: that of the machine, and that of a recorded log. Nothing else in the routing reads the time of day."""

from __future__ import annotations

from contextlib import AbstractContextManager
from time import monotonic, time

import anyio

__all__ = ["LogClock", "SystemClock"]


_READINGS = 3


class SystemClock:
    """The time of day when it was made, plus what a monotonic clock says has passed since: it never falls, and never jumps."""

    timers = True

    def __init__(self) -> None:
        self._zero = _zero()

    def now(self) -> float:
        """Return Unix seconds."""
        return self._zero + monotonic()

    def skip(self, seconds: float) -> None:
        """Go on by time that the monotonic clock did not count: the machine was suspended.

        Raises:
            ValueError: if it would fall.
        """
        if seconds < 0:
            raise ValueError(f"a clock that never falls cannot skip {seconds!r} seconds: give a number from 0 on")
        self._zero += seconds

    def follow(self, at: float | None) -> None:
        """Ignore it: payloads do not move this clock."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await anyio.sleep(seconds)

    def move_on_after(self, seconds: float | None) -> AbstractContextManager[anyio.CancelScope]:
        """Return a cancel scope with a timeout."""
        return anyio.move_on_after(seconds)


def _zero() -> float:
    """Return the time of day when the monotonic clock stood at zero. The process may be paused between two readings, so the best counts."""
    readings = ((monotonic(), time(), monotonic()) for _ in range(_READINGS))
    before, wall, after = min(readings, key=lambda reading: reading[2] - reading[0])
    return wall - (before + after) / 2


class LogClock:
    """The time of a recorded log, for `Dispatcher(router, clock=LogClock())`: the time of the last line.

    Limits do not pass by themselves: a journal has them as events, other logs have none. What handlers wait for, they wait
    for in real time.
    """

    timers = False

    def __init__(self) -> None:
        self._now: float | None = None

    def now(self) -> float | None:
        """Return Unix seconds; None before the first line with a time."""
        return self._now

    def follow(self, at: float | None) -> None:
        """Take the time of the next line, if it has one."""
        if at is not None:
            self._now = at

    async def sleep(self, seconds: float) -> None:
        """Wait, in real time."""
        await anyio.sleep(seconds)

    def move_on_after(self, seconds: float | None) -> AbstractContextManager[anyio.CancelScope]:
        """Return a cancel scope with a timeout in real time."""
        return anyio.move_on_after(seconds)
