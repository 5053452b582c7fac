"""Compares the machine's clocks: a step of the wall clock is only said, a suspension of the machine is made up for.

`SystemClock` goes on by the monotonic clock, so a step of the wall clock moves nothing. The monotonic clock stands still while the
machine is suspended (on Linux and macOS). That time has passed for the calls, as it does while a service is down: so `SystemClock`
skips it, where the system has a clock that counts it (Linux: CLOCK_BOOTTIME). Elsewhere a suspension looks like a step of the wall
clock, and limits then begin where they stood.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from telstate.routing._clock import SystemClock
from telstate.routing._log import Log

__all__ = ["ClockWatch"]

_TOLERANCE = 1.0
"""Seconds by which a clock may differ from the monotonic one between two looks: NTP corrects small errors slowly."""
_AT_ONCE = 0.05
"""Seconds within which the clocks must be read to be compared: the process may be paused in between."""
_READINGS = 10
_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


class _Readings(NamedTuple):
    """The clocks at one moment, in seconds."""

    wall: float
    awake: float
    """Without the time of suspensions."""
    all: float
    """With it, where the system can tell."""


class ClockWatch:
    """Looks at the clocks now and then.

    Args:
        clock: skips what the monotonic clock did not count.
        wall: returns Unix seconds; for tests, as the others.
        awake: the monotonic clock that `clock` goes by.
        uptime: a monotonic clock that counts suspensions too.
    """

    def __init__(
        self,
        clock: SystemClock,
        *,
        wall: Callable[[], float] | None = None,
        awake: Callable[[], float] = time.monotonic,
        uptime: Callable[[], float] | None = None,
    ) -> None:
        self._clock = clock
        self._wall, self._awake, self._uptime = wall or time.time, awake, uptime or _uptime
        self._last = self._read()
        self._log = Log()

    def look(self) -> float:
        """Log what happened to the clocks since the last look. Return for how many seconds the machine was suspended."""
        found, last = self._read(), self._last
        if found is None:
            return 0.0
        self._last = found
        if last is None:
            return 0.0
        suspended = (found.all - last.all) - (found.awake - last.awake)
        if suspended < _TOLERANCE:
            suspended = 0.0
        step = (found.wall - last.wall) - (found.awake - last.awake) - suspended
        if suspended:
            self._clock.skip(suspended)
            hint = "events may have been missed meanwhile; limits go on as after a restart"
            self._log.warning("clock.suspended", seconds=round(suspended, 3), hint=hint)
        if abs(step) >= _TOLERANCE:
            hint = (
                "no limit moves and no call ends by it; times go on from before, until a restart takes the wall clock's"
            )
            self._log.warning("clock.wall_clock_stepped", seconds=round(step, 3), hint=hint)
        return suspended

    def _read(self) -> _Readings | None:
        for _ in range(_READINGS):
            before = self._awake()
            found = _Readings(self._wall(), before, self._uptime())
            if self._awake() - before <= _AT_ONCE:
                return found
        return None


def _uptime() -> float:
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)
