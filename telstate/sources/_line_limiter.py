"""A limit for log lines that strangers can cause: the first of each kind, then one an interval with the count of the rest."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

__all__ = ["LimitedLines", "LineLimiter"]

_INTERVAL = 60.0
"""Seconds between two lines of one kind."""
_MAX_KINDS = 256
"""Kinds remembered. There are about twenty; more only if a kind has text from outside in it."""


class LineLimiter:
    """Says which lines to write.

    Args:
        interval: seconds between two lines of one kind.
        clock: returns seconds that never fall.
    """

    def __init__(self, interval: float = _INTERVAL, clock: Callable[[], float] = monotonic) -> None:
        self._interval = interval
        self._clock = clock
        self._kinds: dict[str, tuple[float, int]] = {}
        """For each kind: when the last line was written, and how many were left out since."""

    def admit(self, kind: str) -> int | None:
        """Return how many lines of this kind were left out since the last one, or None if this one is to be left out too."""
        now = self._clock()
        written, left_out = self._kinds.get(kind, (now - self._interval, 0))
        if now - written < self._interval:
            self._kinds[kind] = (written, left_out + 1)
            return None
        if len(self._kinds) >= _MAX_KINDS and kind not in self._kinds:
            del self._kinds[next(iter(self._kinds))]
        self._kinds[kind] = (now, 0)
        return left_out


class LimitedLines(logging.Filter):
    """Applies a limit to a logger of the standard library. The kind of a line is its text before anything is put into it."""

    def __init__(self, limiter: LineLimiter) -> None:
        super().__init__()
        self._limiter = limiter

    def filter(self, record: logging.LogRecord) -> bool:
        """Let a line pass, with the number of those left out before it, or leave it out."""
        left_out = self._limiter.admit(str(record.msg))
        if left_out:
            record.msg = f"{record.msg} ({left_out} more such lines were left out before)"
        return left_out is not None
