"""Limits on concurrent calls: per room, because Daily refuses more, and per key, because the program says so.

A slot is acquired before a call is started, and released once, when the call has ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

import anyio

__all__ = ["CallLimiter", "CallSlot"]


class CallSlot:
    """The right to one call."""

    def __init__(self, limiter: CallLimiter, room: str | None, key: Hashable) -> None:
        self._limiter: CallLimiter | None = limiter
        self.room = room
        self.key = key

    def release(self) -> None:
        """Make the slot available. Idempotent."""
        limiter, self._limiter = self._limiter, None
        if limiter is not None:
            limiter._vacate(self)


class CallLimiter:
    """Hands out slots, first come, first served. Nobody waits behind a request for another room or key.

    Args:
        per_room: how many sessions a room may have, including those without a slot; None for no limit.
        per_key: how many slots a key may have; None for no limit.
    """

    def __init__(self, per_room: int | None, per_key: int | None) -> None:
        self._per_room = per_room
        self._per_key = per_key
        self._used_by_room: Counter[str | None] = Counter()
        self._used_by_key: Counter[Hashable] = Counter()
        self._others: dict[str, set[str]] = {}
        """By room, the sessions without a slot: callers who dialled in, dial-outs started elsewhere."""
        self._room_of_other: dict[str, str] = {}
        self._waiting: dict[CallSlot, anyio.Event] = {}
        """In the order of the requests."""

    def __len__(self) -> int:
        """Return how many slots are in use."""
        return self._used_by_key.total()

    async def acquire(self, room: str | None, key: Hashable) -> CallSlot:
        """Wait for a slot and take it."""
        slot = CallSlot(self, room, key)
        if self._fits(slot):  # an earlier request for the same room and key would have got it
            self._occupy(slot)
            return slot
        granted = self._waiting[slot] = anyio.Event()
        try:
            await granted.wait()
        except BaseException:
            if self._waiting.pop(slot, None) is None:
                slot.release()  # granted at the moment of the cancellation
            raise
        return slot

    def add_other(self, session_id: str, room: str) -> None:
        """Count a live session that has no slot."""
        self._others.setdefault(room, set()).add(session_id)
        self._room_of_other[session_id] = room

    def remove_other(self, session_id: str) -> None:
        """Stop counting such a session: it has ended, or has a slot after all."""
        room = self._room_of_other.pop(session_id, None)
        if room is None:
            return
        others = self._others[room]
        others.discard(session_id)
        if not others:
            del self._others[room]
        self._grant()

    @property
    def others(self) -> tuple[str, ...]:
        """The sessions without a slot."""
        return tuple(self._room_of_other)

    def others_in(self, rooms: set[str | None]) -> list[str]:
        """Return the sessions without a slot in these rooms."""
        return [session_id for session_id, room in self._room_of_other.items() if room in rooms]

    @property
    def waiting_rooms(self) -> set[str | None]:
        """The rooms for which a slot is waited for."""
        return {slot.room for slot in self._waiting}

    @property
    def waiting_keys(self) -> set[Hashable]:
        """The keys for which a slot is waited for."""
        return {slot.key for slot in self._waiting}

    def _vacate(self, slot: CallSlot) -> None:
        self._used_by_room[slot.room] -= 1
        self._used_by_key[slot.key] -= 1
        if not self._used_by_room[slot.room]:
            del self._used_by_room[slot.room]
        if not self._used_by_key[slot.key]:
            del self._used_by_key[slot.key]
        self._grant()

    def _grant(self) -> None:
        """Give free slots to waiting dials, in order."""
        full: set[tuple[str | None, Hashable]] = set()
        for slot, granted in list(self._waiting.items()):
            if (slot.room, slot.key) in full:
                continue
            if self._fits(slot):
                del self._waiting[slot]
                self._occupy(slot)
                granted.set()
            else:
                full.add((slot.room, slot.key))

    def _fits(self, slot: CallSlot) -> bool:
        others = len(self._others.get(slot.room, ())) if slot.room is not None else 0
        room_full = self._per_room is not None and self._used_by_room[slot.room] + others >= self._per_room
        return not room_full and (self._per_key is None or self._used_by_key[slot.key] < self._per_key)

    def _occupy(self, slot: CallSlot) -> None:
        self._used_by_room[slot.room] += 1
        self._used_by_key[slot.key] += 1
