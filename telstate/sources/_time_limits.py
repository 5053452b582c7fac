"""Time limits for many tasks at once: one timer looks at all of them, so a limit that nobody reaches costs almost nothing.

    with limits.within(10.0):
        await …

As `anyio.fail_after`, which costs as much as a fifth of a webhook. For asyncio only; a limit ends up to `_LOOK_EVERY` later.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

__all__ = ["TimeLimits"]

_LOOK_EVERY = 0.1
"""Seconds between two looks, while any limit is set."""


class TimeLimits:
    """The limits of the tasks of one event loop."""

    def __init__(self) -> None:
        self._set: dict[_Limit, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def within(self, seconds: float) -> _Limit:
        """Return a context manager whose block raises `TimeoutError` after so many seconds."""
        return _Limit(self, seconds)

    def _add(self, limit: _Limit, loop: asyncio.AbstractEventLoop) -> None:
        self._set[limit] = None
        if self._timer is None:
            self._timer = loop.call_later(_LOOK_EVERY, self._look, loop)

    def _remove(self, limit: _Limit) -> None:
        self._set.pop(limit, None)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for limit in [limit for limit in self._set if limit.until <= now]:
            del self._set[limit]
            limit.expire()
        self._timer = loop.call_later(_LOOK_EVERY, self._look, loop) if self._set else None


class _Limit:
    """One block, used once."""

    __slots__ = ("_cancelling", "_has_expired", "_limits", "_seconds", "_task", "until")

    def __init__(self, limits: TimeLimits, seconds: float) -> None:
        self._limits = limits
        self._seconds = seconds
        self._has_expired = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        self._task, self._cancelling = task, task.cancelling()
        loop = task.get_loop()
        self.until = loop.time() + self._seconds
        self._limits._add(self, loop)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._limits._remove(self)
        if self._has_expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expire(self) -> None:
        """End the block."""
        self._has_expired = True
        self._task.cancel()
