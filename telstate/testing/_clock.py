"""A clock that moves only when a test advances it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio

__all__ = ["FakeClock"]


class FakeClock:
    """A clock for tests: `await clock.advance(30)` lets 30 seconds pass, and everything that is due in them happen.

    It governs everything in telstate that waits for time, if it is passed as `Dispatcher(clock=…)`: deadlines and silence limits, the
    timeouts of `wait_for` and `wait_ready`, the pauses of `Retry`, of `feed` and of a `Dialer`. It does not govern sockets.

    Args:
        start: Unix seconds.
    """

    timers: bool = True

    def __init__(self, start: float = 1_790_000_000.0) -> None:
        self._now = start
        self._sleepers: list[tuple[float, anyio.Event]] = []
        self._timeouts: list[tuple[float, anyio.CancelScope]] = []

    def now(self) -> float:
        """Return the time in Unix seconds."""
        return self._now

    def follow(self, at: float | None) -> None:
        """Do nothing: only the test moves this clock."""

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was advanced so far."""
        sleeper = (self._now + seconds, anyio.Event())
        self._sleepers.append(sleeper)
        try:
            await sleeper[1].wait()
        finally:
            self._sleepers.remove(sleeper)

    @contextmanager
    def move_on_after(self, seconds: float | None) -> Iterator[anyio.CancelScope]:
        """Return a cancel scope that is cancelled once the clock was advanced so far."""
        with anyio.CancelScope() as scope:
            timeout = (self._now + seconds, scope) if seconds is not None else None
            if timeout is not None:
                self._timeouts.append(timeout)
            try:
                yield scope
            finally:
                if timeout is not None:
                    self._timeouts.remove(timeout)

    async def advance(self, seconds: float) -> None:
        """Advance the clock. It stops at each time that a task waits for, and lets the task run."""
        end = self._now + seconds
        await settle()
        while due := [*self._due_sleepers(end), *self._due_timeouts(end)]:
            self._now = max(self._now, min(until for until, _ in due))
            for until, wake in due:
                if until <= self._now:
                    wake()
            await settle()
        self._now = end
        await settle()

    def _due_sleepers(self, end: float) -> list[tuple[float, Callable[[], None]]]:
        return [(until, woken.set) for until, woken in self._sleepers if until <= end and not woken.is_set()]

    def _due_timeouts(self, end: float) -> list[tuple[float, Callable[[], None]]]:
        return [(until, scope.cancel) for until, scope in self._timeouts if until <= end and not scope.cancel_called]


async def settle() -> None:
    """Let every task that can run take some steps."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()
