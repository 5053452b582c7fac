"""The dial-ins of each SIP endpoint in the order in which they connected.

An endpoint takes one caller at a time. So the next caller on it is a sign that the call before has ended. Which session is the
next one follows from the times: events may arrive in any order.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable

from telstate.calls._address import plain_uri
from telstate.calls._evidence import Evidence
from telstate.calls._session import Session
from telstate.calls._signs import Sign
from telstate.calls._table import EndSign

__all__ = ["EndpointLineup"]

_Arrival = tuple[float, str]
"""When a session connected, and its id."""


class EndpointLineup:
    """All dial-ins with an endpoint and a time, by their endpoint.

    Args:
        find: returns the session of an id.
    """

    def __init__(self, find: Callable[[str], Session | None]) -> None:
        self._find = find
        self._first: dict[str, str] = {}
        """The session of each endpoint that has had one. It holds only texts, so the garbage collector does not track it."""
        self._arrivals: dict[str, list[_Arrival]] = {}
        """The sessions of an endpoint that has had several."""

    def __len__(self) -> int:
        return len(self._first)

    def enter(self, session: Session) -> list[Session]:
        """Line up a dial-in after its endpoint or the time of its connection became known; return those whose next caller changes."""
        at, session_id = session.connected_at, session.session_id
        if session.sip_endpoint is None or at is None:
            return []
        endpoint = plain_uri(session.sip_endpoint)
        first = self._first.setdefault(endpoint, session_id)
        arrivals = self._arrivals.get(endpoint)
        if arrivals is None:
            if first == session_id:
                return []
            arrivals = self._arrivals[endpoint] = self._begin(first)
        place = bisect_left(arrivals, (at, session_id))
        if place < len(arrivals) and arrivals[place] == (at, session_id):
            return self._before(arrivals, at)  # by which clock may have become known
        before = _pull(arrivals, session)
        changed = [] if before is None else self._before(arrivals, before)
        insort(arrivals, (at, session_id))
        return [*changed, session, *self._before(arrivals, at)]

    def withdraw(self, session: Session) -> list[Session]:
        """Take a dial-in out, because its endpoint turned out to be a guess; return those whose next caller changes."""
        if session.sip_endpoint is None:
            return []
        return self._remove(plain_uri(session.sip_endpoint), session)

    def leave(self, session: Session) -> None:
        """Forget a dial-in that leaves memory. Those before it keep it as their next caller."""
        if session.sip_endpoint is not None and session.connected_at is not None:
            self._remove(plain_uri(session.sip_endpoint), session)

    def _remove(self, endpoint: str, session: Session) -> list[Session]:
        session_id, arrivals = session.session_id, self._arrivals.get(endpoint)
        if arrivals is None:
            if self._first.get(endpoint) == session_id:
                del self._first[endpoint]
            return []
        at = _pull(arrivals, session)
        if not arrivals:
            del self._arrivals[endpoint], self._first[endpoint]
        return [] if at is None else [session, *self._before(arrivals, at)]

    def sign_of(self, session: Session, learned: float) -> Sign | None:
        """Return the next caller on the endpoint of a dial-in, as a sign; None if there is none."""
        at, arrivals = session.connected_at, self._arrivals.get(plain_uri(session.sip_endpoint or ""))
        if not arrivals or at is None:
            return None
        place = bisect_right(arrivals, at, key=_time)
        if place == len(arrivals):
            return None
        time, session_id = arrivals[place]
        following = self._find(session_id)
        by_daily = following is not None and bool(following._evidence & Evidence.CONNECTED_BY_DAILY)
        return Sign(EndSign.NEXT_CALLER, time, by_daily, learned, session_id)

    def load(self, sessions: Iterable[Session]) -> None:
        """Line up all sessions of a registry that was restored."""
        for session in sessions:
            self.enter(session)

    def _begin(self, first: str) -> list[_Arrival]:
        """Return the arrivals of an endpoint that has had one."""
        one = self._find(first)
        return [] if one is None or one.connected_at is None else [(one.connected_at, first)]

    def _before(self, arrivals: list[_Arrival], at: float) -> list[Session]:
        """Return the sessions that connected last before a time: several, if they did at one time."""
        place = bisect_left(arrivals, at, key=_time)
        if not place:
            return []
        begin = bisect_left(arrivals, arrivals[place - 1][0], key=_time)
        found = (self._find(session_id) for _, session_id in arrivals[begin:place])
        return [session for session in found if session is not None]


def _pull(arrivals: list[_Arrival], session: Session) -> float | None:
    """Take a session out of its endpoint's arrivals; return the time at which it stood there."""
    session_id = session.session_id
    place = bisect_left(arrivals, (session.connected_at or 0.0, session_id))
    if place == len(arrivals) or arrivals[place][1] != session_id:  # its time has changed
        place = next((place for place, arrival in enumerate(arrivals) if arrival[1] == session_id), -1)
    return None if place < 0 else arrivals.pop(place)[0]


def _time(arrival: _Arrival) -> float:
    return arrival[0]
