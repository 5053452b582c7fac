"""Any number of calls, made on the fly. The session id is the call's number, so one byte a call is enough to count with."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from telstate.events import Dialect
from telstate.testing import ScriptedEvent, spell

__all__ = ["RATE", "Arrival", "arrivals", "number_of", "session_of"]

RATE = 20.0
"""Calls that begin in each second."""
_START = 1_790_000_000.0


class Arrival(NamedTuple):
    """One event as it arrives."""

    at: float
    """Unix seconds."""
    place: int
    """Its place in the order in which all events were made, so that payloads are never compared."""
    payload: dict[str, Any]


def session_of(number: int) -> str:
    """The session id of a call."""
    return f"{number:08x}-0000-4000-8000-000000000000"


def number_of(session_id: str) -> int:
    """The number of the call with a session id."""
    return int(session_id[:8], 16)


def arrivals(calls: int) -> Iterator[Arrival]:
    """Yield the events of so many calls, interleaved, in the order of time. Only calls under way are in memory."""
    under_way: list[Arrival] = []
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
                heapq.heappush(under_way, Arrival(begin + delay, place, payload))
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
