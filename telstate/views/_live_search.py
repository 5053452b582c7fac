"""Finds the live calls of a phone number, in any spelling, for somebody who may not see numbers.

The answer has the ids of calls and no number. Still, whoever asks often enough could guess a masked number digit by digit. So a number that
is searched for must be nearly whole (eight digits; a mask shows two of them and the country), and there are only so many searches a
minute, for all who may not see numbers together: guessing one number takes weeks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import anyio

from telstate.calls._caller import Caller
from telstate.calls._session import Session
from telstate.routing._dispatcher import Dispatcher
from telstate.views._selection import number_key, same_number

__all__ = ["FoundCalls", "LiveSearch", "TooMany"]

_FEWEST_DIGITS = 8
_A_MINUTE = 30
_MOST = 500
"""Ids in one answer."""
_AT_ONCE = 200
_SHOWN_FOR = 3_600.0
"""Seconds after the end of a call."""
_LONGEST = 200
"""Characters of what is searched for."""


class TooMany(Exception):
    """There were too many searches. `seconds` says when there may be another one."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many searches for numbers: wait {seconds} seconds")
        self.seconds = seconds


class FoundCalls(NamedTuple):
    """The ids of what was found."""

    sessions: list[str]
    callers: list[str]
    hint: str | None = None
    """What to do to find more; None if there is nothing to say."""


class LiveSearch:
    """Searches.

    Args:
        calls: the dispatcher.
        clock: returns seconds that never fall.
    """

    def __init__(self, calls: Dispatcher, clock: Callable[[], float] = time.monotonic) -> None:
        self._calls = calls
        self._clock = clock
        self._left = float(_A_MINUTE)
        self._looked_at = clock()

    async def find(self, text: str, *, numbers: bool) -> FoundCalls:
        """Return the sessions and callers with a number or SIP address.

        Args:
            text: the number or address, in any spelling.
            numbers: whether the one who asks sees numbers in full. Then a part of it is enough.

        Raises:
            TooMany: if there were too many searches.
        """
        text = text.strip()[:_LONGEST]
        if not numbers and not _is_nearly_whole(text):
            short = f"To find a number, type at least {_FEWEST_DIGITS} of its digits: numbers are masked here."
            return FoundCalls([], [], short if sum(one.isdecimal() for one in text) >= 4 else None)
        if not numbers:
            self._count()
        return await self._search(text)

    async def _search(self, text: str) -> FoundCalls:
        sessions, callers = list[str](), list[str]()
        now = self._calls.clock.now()
        since = None if now is None else now - _SHOWN_FOR
        known: list[Session | Caller] = [*self._calls.unconnected(), *self._calls.sessions()]
        for place, one in enumerate(known):
            if place % _AT_ONCE == 0:
                await anyio.lowlevel.checkpoint()
            if len(sessions) + len(callers) >= _MOST:
                return FoundCalls(sessions, callers, f"There are more: these are the first {_MOST}.")
            if _is_old(one, since) or not any(same_number(text, address) for address in _addresses_of(one)):
                continue
            if isinstance(one, Session):
                sessions.append(one.session_id)
            else:
                callers.append(one.call_id)
        return FoundCalls(sessions, callers)

    def _count(self) -> None:
        now = self._clock()
        self._left = min(_A_MINUTE, self._left + (now - self._looked_at) * _A_MINUTE / 60)
        self._looked_at = now
        if self._left < 1:
            raise TooMany(max(1, round((1 - self._left) * 60 / _A_MINUTE)))
        self._left -= 1


def _is_nearly_whole(text: str) -> bool:
    """Return whether a text is nearly all of a number or address. Only what is compared counts: of `550101@12345678` that is 550101."""
    key = number_key(text)
    return len(key) >= _FEWEST_DIGITS and ("@" in text or key.isdecimal())


def _is_old(one: Session | Caller, since: float | None) -> bool:
    """Return True for a session that ended so long ago that no board shows it any more."""
    return since is not None and isinstance(one, Session) and one.ended and (one.ended_at or since) < since


def _addresses_of(one: Session | Caller) -> Iterator[str]:
    values = (
        (one.from_, one.to)
        if isinstance(one, Caller)
        else (
            *(one.destination, one.origin, one.caller_id, one.sip_from, one.caller, one.called),
            *(record.target for record in one.transfers),
        )
    )
    return (value for value in values if value)
