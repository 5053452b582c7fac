"""How many calls there may be at once: in a room, because Daily refuses more, and for a key, because the program says so.

A place is taken before a call is started, and is free again when the call has ended, once, however it is let go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

import anyio

__all__ = ["CallLimiter", "CallSlot"]


class CallSlot:
    """The right to one call; let it go when that is over."""

    def __init__(self, places: CallLimiter, room: str | None, key: Hashable) -> None:
        self._places: CallLimiter | None = places
        self.room = room
        self.key = key

    def free(self) -> None:
        """Let go of it. Once is enough, and more is no more."""
        places, self._places = self._places, None
        if places is not None:
            places.leave(self)


class CallLimiter:
    """All places. Who waits is served in order; nobody waits behind one who needs another room or key.

    Args:
        per_room: how many sessions a room may have, those of others among them; None for any number.
        per_key: how many places one key may have; None for any number.
    """

    def __init__(self, per_room: int | None, per_key: int | None) -> None:
        self._per_room = per_room
        self._per_key = per_key
        self._rooms: Counter[str | None] = Counter()
        self._keys: Counter[Hashable] = Counter()
        self._others: dict[str, set[str]] = {}
        """By room, the sessions that nobody took a place for: who dialled in, whom others called."""
        self._room_of: dict[str, str] = {}
        self._waiting: dict[CallSlot, anyio.Event] = {}
        """In the order in which they came."""

    async def take(self, room: str | None, key: Hashable) -> CallSlot:
        """Wait for a place and take it."""
        place = CallSlot(self, room, key)
        if self._fits(place):  # if another waited for the same, he would have it
            self._enter(place)
            return place
        granted = self._waiting[place] = anyio.Event()
        try:
            await granted.wait()
        except BaseException:
            if self._waiting.pop(place, None) is None:
                place.free()  # it was granted in the same moment
            raise
        return place

    def came(self, session_id: str, room: str) -> None:
        """A session lives for which nobody took a place."""
        self._others.setdefault(room, set()).add(session_id)
        self._room_of[session_id] = room

    def went(self, session_id: str) -> None:
        """It has ended, or has a place after all."""
        room = self._room_of.pop(session_id, None)
        if room is None:
            return
        others = self._others[room]
        others.discard(session_id)
        if not others:
            del self._others[room]
        self._serve()

    @property
    def others(self) -> tuple[str, ...]:
        """The sessions that nobody took a place for."""
        return tuple(self._room_of)

    @property
    def wanted(self) -> tuple[set[str | None], set[Hashable]]:
        """The rooms and the keys of those who wait."""
        return {place.room for place in self._waiting}, {place.key for place in self._waiting}

    def others_in(self, rooms: set[str | None]) -> list[str]:
        """The sessions in these rooms that nobody took a place for."""
        return [session_id for session_id, room in self._room_of.items() if room in rooms]

    def leave(self, place: CallSlot) -> None:
        """A place is free again."""
        self._rooms[place.room] -= 1
        self._keys[place.key] -= 1
        if not self._rooms[place.room]:
            del self._rooms[place.room]
        if not self._keys[place.key]:
            del self._keys[place.key]
        self._serve()

    def __len__(self) -> int:
        """How many places are taken."""
        return self._keys.total()

    def _serve(self) -> None:
        full: set[tuple[str | None, Hashable]] = set()
        for place, granted in list(self._waiting.items()):
            if (place.room, place.key) in full:
                continue
            if self._fits(place):
                del self._waiting[place]
                self._enter(place)
                granted.set()
            else:
                full.add((place.room, place.key))

    def _fits(self, place: CallSlot) -> bool:
        others = len(self._others.get(place.room, ())) if place.room is not None else 0
        room_full = self._per_room is not None and self._rooms[place.room] + others >= self._per_room
        return not room_full and (self._per_key is None or self._keys[place.key] < self._per_key)

    def _enter(self, place: CallSlot) -> None:
        self._rooms[place.room] += 1
        self._keys[place.key] += 1
