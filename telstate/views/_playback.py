"""The pace at which a recorded log is played: how fast, whether it pauses, and what the time of the log is now."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

import anyio

__all__ = ["SPEEDS", "Playback"]

SPEEDS = (1.0, 10.0, 60.0, 300.0, 1_800.0)
"""Speeds that the board offers."""
_FASTEST = 100_000.0
_LONGEST_SILENCE = 5.0
"""Seconds of real time without an event, after which the rest of a silence is skipped."""
_UNTIMED = 0.2
"""Seconds of real time between two lines without a time, at any speed."""


class Playback:
    """The clock of a log that is played.

    Args:
        name: of the log, as it is shown.
        speed: how many seconds of the log pass in one.
        clock: returns seconds of real time that never fall.

    Raises:
        ValueError: if the speed is not above 0 and at most 100 000.
    """

    def __init__(self, name: str, speed: float, clock: Callable[[], float] = monotonic) -> None:
        self.name = name
        self._clock = clock
        self._speed = _checked(speed)
        self._at: float | None = None
        """The log's time at `_since`."""
        self._since = 0.0
        self._until: float | None = None
        """The time of the next line: the clock does not pass it."""
        self._is_paused = self._has_ended = False
        self.version: int = 0
        """Rises when something changes that is shown."""
        self._changed = anyio.Event()

    @property
    def now(self) -> float | None:
        """The time of the log, in Unix seconds; None before its first line with a time."""
        if self._at is None:
            return None
        now = self._at + (0.0 if self._stands else (self._clock() - self._since) * self._speed)
        return now if self._until is None else min(now, self._until)

    @property
    def pace(self) -> float:
        """How many seconds of the log pass in one, now: 0 while it pauses, and after its end."""
        return 0.0 if self._stands else self._speed

    @property
    def is_paused(self) -> bool:
        """True while it pauses."""
        return self._is_paused

    def to_dict(self) -> dict[str, Any]:
        """Return what is shown, as JSON values."""
        return {
            "name": self.name,
            "speed": self._speed,
            "speeds": sorted({*SPEEDS, self._speed}),
            "paused": self._is_paused,
            "ended": self._has_ended,
        }

    def set(self, *, paused: bool | None = None, speed: float | None = None) -> None:
        """Pause or go on, and change the speed.

        Raises:
            ValueError: if the speed is not above 0 and at most 100 000.
        """
        speed = None if speed is None else _checked(speed)
        self._settle()
        self._is_paused = self._is_paused if paused is None else paused
        self._speed = self._speed if speed is None else speed
        self._note_change()

    def end(self) -> None:
        """The log has ended."""
        self._settle()
        self._has_ended = True
        self._note_change()

    async def reach(self, at: float | None) -> None:
        """Wait until the log's time is that of its next line.

        Args:
            at: the time of the line; None if it has none.
        """
        if at is None:
            await self._wait_untimed()
            return
        if self._at is None:
            self._at, self._since = at, self._clock()
            self._note_change()
            return
        self._settle()
        self._until = max(at, self._at)
        while True:
            now = self.now
            left = 0.0 if now is None else (self._until - now) / self._speed
            if left > _LONGEST_SILENCE and not self._is_paused:
                self._at = self._until - _LONGEST_SILENCE * self._speed
                self._since = self._clock()
                self._note_change()
                continue
            if left <= 0 and not self._is_paused:
                break
            changed = self._changed
            with anyio.move_on_after(None if self._is_paused else left):
                await changed.wait()
        self._at, self._since = self._until, self._clock()

    async def _wait_untimed(self) -> None:
        with anyio.move_on_after(_UNTIMED):
            await self._changed.wait()
        while self._is_paused:
            await self._changed.wait()

    @property
    def _stands(self) -> bool:
        return self._is_paused or self._has_ended

    def _settle(self) -> None:
        """Let the time of the log be that of now, before something changes."""
        if (now := self.now) is not None:
            self._at, self._since = now, self._clock()

    def _note_change(self) -> None:
        self.version += 1
        changed, self._changed = self._changed, anyio.Event()
        changed.set()


def _checked(speed: float) -> float:
    if not 0 < speed <= _FASTEST:
        raise ValueError(
            f"speed: expected seconds of the log per second, above 0 and at most {_FASTEST:,.0f}, got {speed!r}"
        )
    return float(speed)
