"""Calls without end, made on the fly: each has its number in its session id, so that a byte a call is enough to count by."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from telstate.events import Dialect
from telstate.testing import ScriptedEvent, spell

__all__ = ["RATE", "Told", "number_of", "session_of", "told"]

RATE = 20.0
"""How many calls begin in a second."""
_START = 1_790_000_000.0


class Told(NamedTuple):
    """One event as it arrives."""

    at: float
    """Unix seconds."""
    place: int
    """Its place among all events of all calls as they were made: no two compare by their payloads."""
    payload: dict[str, Any]


def session_of(number: int) -> str:
    """The session id of a call."""
    return f"{number:08x}-0000-4000-8000-000000000000"


def number_of(session_id: str) -> int:
    """The call of a session id."""
    return int(session_id[:8], 16)


def told(calls: int) -> Iterator[Told]:
    """Tell so many calls, interleaved, in the order of time. Each ends; only those under way are held."""
    under_way: list[Told] = []
    place = 0
    for number in range(calls):
        begin = _START + number / RATE
        while under_way and under_way[0].at <= begin:
            yield heapq.heappop(under_way)
        script, dialect = _SCRIPTS[number % len(_SCRIPTS)]
        facts = {
            "sessionId": session_of(number),
            "sipCallId": f"{number:x}@sip.daily.example",
            "provider": "daily",
        }
        for delay, name in script(number):
            payload = spell(ScriptedEvent(begin + delay, name, facts), f"room-{number % 50}", dialect, begin + delay)
            if payload is not None:
                heapq.heappush(under_way, Told(begin + delay, place, payload))
                place += 1
    while under_way:
        yield heapq.heappop(under_way)


def _dialin(number: int) -> list[tuple[float, str]]:
    talk = 5.0 + number % 31
    return [
        (0.0, "dialin-connected"),
        (1.0, "participant-joined"),
        (talk - 0.2, "participant-left"),
        (talk, "dialin-stopped"),
    ]


def _dialout(number: int) -> list[tuple[float, str]]:
    talk = 12.0 + number % 29
    return [
        (0.0, "dialout-connected"),
        (3.0, "dialout-answered"),
        (3.3, "participant-joined"),
        (talk, "dialout-stopped"),
    ]


def _failed(number: int) -> list[tuple[float, str]]:
    wait = 2.0 + number % 7
    return [
        (0.0, "dialout-connected"),
        (1.0, "dialout-warning"),
        (wait, "dialout-error"),
        (wait + 1.0, "dialout-stopped"),
    ]


_SCRIPTS: tuple[tuple[Callable[[int], list[tuple[float, str]]], Dialect], ...] = (
    (_dialin, Dialect.WEBHOOK),
    (_dialout, Dialect.DAILY_JS),
    (_dialin, Dialect.DAILY_PYTHON),
    (_dialout, Dialect.WEBHOOK),
    (_failed, Dialect.DAILY_JS),
)
