"""What became of the calls that ended in the last hour, minute by minute: for the charts of the live board.

A session counts once, in the minute in which it ended. Evidence that arrives later moves it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from telstate.calls._caller import Caller
from telstate.calls._session import Session
from telstate.events import Direction

__all__ = ["LastHour"]

MINUTES = 60
_MINUTE = 60.0


class LastHour:
    """Counts sessions that ended, and callers who were lost on hold."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[int, str]] = {}
        """The minute and the kind in which each is counted."""
        self._minutes: dict[int, Counter[str]] = {}
        self.version: int = 0
        """Rises with each change."""

    def add(self, session: Session, now: float | None) -> None:
        """Count a session, or count it anew. One that lives is not counted."""
        if session.ended:
            way = "in" if session.direction is Direction.DIALIN else "out"
            answered = "answered" if session.was_answered else "not"
            self._put(session.session_id, session.ended_at, now, f"{way} {answered} {session.cause}")

    def add_lost(self, caller: Caller, now: float | None) -> None:
        """Count a caller who got to no session."""
        began = caller.started_at if caller.ended_at is None else caller.ended_at
        self._put(f"caller {caller.call_id}", began, now, "hold not lost on hold")

    def to_dict(self, now: float | None) -> dict[str, Any]:
        """Return the minutes that have any, as JSON values, without those that are over an hour ago.

        Each minute is `[its Unix time, [[way, answered, cause, number], …]]`.
        """
        self._forget(now)
        return {
            "minutes": [
                [minute * 60, [[*_parts(kind), number] for kind, number in sorted(kinds.items())]]
                for minute, kinds in sorted(self._minutes.items())
            ]
        }

    def _put(self, key: str, at: float | None, now: float | None, kind: str) -> None:
        at = now if at is None else at
        if at is None:
            return  # a log without times has no hours
        if now is not None:
            at = min(at, now)  # a clock that is fast
        place = (int(at // _MINUTE), kind)
        before = self._of.get(key)
        if before == place or (now is not None and at < now - MINUTES * _MINUTE):
            return
        if before is not None:
            self._take(before)
        if place[0] not in self._minutes:
            self._forget(now)  # nobody may look for hours
        self._of[key] = place
        self._minutes.setdefault(place[0], Counter())[kind] += 1
        self.version += 1

    def _take(self, place: tuple[int, str]) -> None:
        minute, kind = place
        kinds = self._minutes.get(minute)
        if kinds is not None:
            kinds[kind] -= 1
            kinds += Counter()  # without what is zero

    def _forget(self, now: float | None) -> None:
        """Drop the minutes that are over an hour ago."""
        if now is None:
            return
        oldest = int(now // _MINUTE) - MINUTES
        gone = {minute for minute in self._minutes if minute <= oldest}
        for minute in gone:
            del self._minutes[minute]
        if gone:
            self._of = {key: place for key, place in self._of.items() if place[0] not in gone}
            self.version += 1


def _parts(kind: str) -> Iterable[Any]:
    way, answered, cause = kind.split(" ", 2)
    return way, answered == "answered", cause
