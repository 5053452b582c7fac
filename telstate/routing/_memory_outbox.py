"""The outbox of a journal in memory: messages that wait to be sent to receivers outside."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import nsmallest
from itertools import count

from telstate.routing._ports import KeptNotification, Notification

__all__ = ["MemoryOutbox"]

_MOST = 10_000
"""Messages for one target. The oldest are dropped beyond that: a receiver that is away must not fill the memory."""


class MemoryOutbox:
    """The messages of each target, in lanes."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._lanes: dict[str, dict[str, dict[int, KeptNotification]]] = {}
        """By target, lane and number."""
        self._lane_of: dict[int, tuple[str, str]] = {}
        self._numbers_of: dict[str, dict[int, None]] = {}
        """By target, in order."""
        self._ids: set[tuple[str, str]] = set()

    def add(self, messages: Sequence[Notification]) -> list[Notification]:
        """Keep messages; return those that were dropped for them."""
        dropped: list[Notification] = []
        for message in messages:
            if (message.target, message.id) in self._ids:
                continue
            number = next(self._numbers)
            lanes, numbers = self._lanes.setdefault(message.target, {}), self._numbers_of.setdefault(message.target, {})
            lanes.setdefault(message.lane, {})[number] = KeptNotification(number, message, 0, message.at)
            numbers[number] = None
            self._lane_of[number] = message.target, message.lane
            self._ids.add((message.target, message.id))
            if len(numbers) > _MOST:
                oldest = next(iter(numbers))
                dropped.append(self._at(oldest)[oldest].message)
                self.remove([oldest])
        return dropped

    def first(self, target: str, limit: int) -> list[KeptNotification]:
        """Return the first message of each lane of a target, those due first in front."""
        heads = (next(iter(lane.values())) for lane in self._lanes.get(target, {}).values())
        return nsmallest(limit, heads, key=lambda kept: (kept.due_at, kept.number))

    def postpone(self, number: int, attempts: int, due_at: float) -> None:
        """Try a message again later."""
        if number in self._lane_of:
            lane = self._at(number)
            lane[number] = lane[number]._replace(attempts=attempts, due_at=due_at)

    def hasten(self, target: str, now: float) -> None:
        """Let all that waits for its next attempt be due."""
        for kept in self.first(target, _MOST):
            if kept.due_at > now:
                self.postpone(kept.number, kept.attempts, now)

    def remove(self, numbers: Sequence[int]) -> None:
        """Forget messages."""
        for number in numbers:
            if number not in self._lane_of:
                continue
            lane = self._at(number)
            target, key = self._lane_of.pop(number)
            del self._numbers_of[target][number]
            self._ids.discard((target, lane.pop(number).message.id))
            if not lane:
                del self._lanes[target][key]

    def count(self) -> dict[str, int]:
        """Return how many messages wait for each target."""
        return {target: len(numbers) for target, numbers in self._numbers_of.items() if numbers}

    def _at(self, number: int) -> dict[int, KeptNotification]:
        target, lane = self._lane_of[number]
        return self._lanes[target][lane]
