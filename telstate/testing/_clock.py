"""A clock that stands still until a test moves it."""

from __future__ import annotations

import anyio

__all__ = ["FakeClock"]


class FakeClock:
    """Time for tests: `await clock.advance(30)` lets half a minute pass, and everything due in it happen.

    Args:
        start: Unix seconds.
    """

    timers = True

    def __init__(self, start: float = 1_790_000_000.0) -> None:
        self._now = start
        self._sleepers: list[tuple[float, anyio.Event]] = []

    def now(self) -> float:
        """Unix seconds."""
        return self._now

    def follow(self, at: float | None) -> None:
        """Only the test moves it."""

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was moved so far."""
        sleeper = (self._now + seconds, anyio.Event())
        self._sleepers.append(sleeper)
        try:
            await sleeper[1].wait()
        finally:
            self._sleepers.remove(sleeper)

    async def advance(self, seconds: float) -> None:
        """Move the clock, stopping at each time that somebody sleeps until, and let them run."""
        end = self._now + seconds
        await settle()
        while due := [sleeper for sleeper in self._sleepers if sleeper[0] <= end and not sleeper[1].is_set()]:
            self._now = max(self._now, min(until for until, _ in due))
            for until, woken in due:
                if until <= self._now:
                    woken.set()
            await settle()
        self._now = end
        await settle()


async def settle() -> None:
    """Let every task that can run do so, some steps far."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()
