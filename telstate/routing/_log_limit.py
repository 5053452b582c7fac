"""A limit on repeated log lines: what fails again and again must not fill the disk, nor hide everything else."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["LineLimit", "Suppressed"]

_KINDS = 64
"""How many different lines of one name are told apart in a window; the rest counts as one kind. Texts may come from outside."""


class Suppressed(NamedTuple):
    """Lines that were not written."""

    event: str
    detail: str
    lines: int
    seconds: float


class _Window:
    """The lines of one kind since the first of them."""

    __slots__ = ("began", "suppressed", "written")

    def __init__(self, began: float) -> None:
        self.began = began
        self.written = 0
        self.suppressed = 0


class LineLimit:
    """Admits so many lines of one kind in a window of some seconds, and counts the rest.

    Args:
        burst: how many lines of a kind are admitted in a window.
        every: the length of a window, in seconds. It begins with the first line.
    """

    __slots__ = ("_burst", "_every", "_windows")

    def __init__(self, burst: int, every: float) -> None:
        self._burst = burst
        self._every = every
        self._windows: dict[tuple[str, str], _Window] = {}

    @property
    def in_use(self) -> bool:
        """True while a window is not over."""
        return bool(self._windows)

    def admits(self, event: str, detail: str, now: float) -> bool:
        """Return whether a line may be written now.

        Args:
            event: the line's name.
            detail: what tells it from others of its name, such as the reason.
            now: seconds of a monotonic clock.
        """
        window = self._windows.get((event, detail))
        if window is None:
            if len(self._windows) >= _KINDS:
                detail = ""
            window = self._windows.setdefault((event, detail), _Window(now))
        if window.written < self._burst:
            window.written += 1
            return True
        window.suppressed += 1
        return False

    def expire(self, now: float, *, all_of_them: bool = False) -> list[Suppressed]:
        """End the windows that are over; return what they suppressed."""
        over = [
            kind for kind, window in list(self._windows.items()) if all_of_them or now - window.began >= self._every
        ]
        ended = [(kind, self._windows.pop(kind)) for kind in over]
        return [
            Suppressed(*kind, window.suppressed, round(now - window.began, 1))
            for kind, window in ended
            if window.suppressed
        ]
