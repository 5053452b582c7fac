"""The rooms of other workers in which a dialer has something to do: it hears of their sessions for as long as that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from telstate.calls._session import Session
from telstate.routing._room_calls import RoomCalls

__all__ = ["FarRooms"]


class FarRooms:
    """Follows rooms, each for as long as somebody holds it.

    Args:
        seen: called with each session of such a room, now and whenever there is news of it.
        left: called with the name of a room that nobody holds any more.
    """

    def __init__(self, seen: Callable[[Session], None], left: Callable[[str], None]) -> None:
        self._seen = seen
        self._left = left
        self._holders: Counter[str] = Counter()
        self._ends: dict[str, Callable[[], None]] = {}

    def __len__(self) -> int:
        return len(self._ends)

    def __contains__(self, room: str | None) -> bool:
        """Return whether a room is followed."""
        return room in self._ends

    def hold(self, place: RoomCalls) -> None:
        """Follow a room, if another worker has its events."""
        if not place.is_elsewhere or place.room is None:
            return
        self._holders[place.room] += 1
        if place.room not in self._ends:
            self._ends[place.room] = place.watch(self._seen)

    def release(self, room: str | None) -> None:
        """Follow a room no longer, unless somebody else holds it."""
        if room is None or room not in self._ends:
            return
        self._holders[room] -= 1
        if self._holders[room] <= 0:
            del self._holders[room]
            self._ends.pop(room)()
            self._left(room)
