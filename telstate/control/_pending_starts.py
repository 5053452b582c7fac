"""Whose call is it? Of a start whose answer was lost only the `userId` tells, on its events or in the room's presence.

A user id that a dialer makes is used for one start. One that the program gives may be on several calls: a call that others have
claimed, or that was there before, is not the one; and while two starts of the same user id are open, nobody can say whose it is.
Nor does the room's presence say then whose it is: somebody may have that user id by his meeting token.
"""

from __future__ import annotations

from collections.abc import Iterable

import anyio

from telstate.calls._address import plain_uri
from telstate.calls._session import Session
from telstate.control._call_transport import RoomParticipant
from telstate.events import Direction

__all__ = ["PendingStart", "PendingStarts"]


class PendingStart:
    """One start, and the calls that may be its own."""

    def __init__(self, user_id: str, destination: str, since: int) -> None:
        self.user_id = user_id
        self.destination = destination
        self.session_id: str | None = None
        """Its session, once that is certain."""
        self.news = anyio.Event()
        self._since = since
        """The number of the last event before it; a session that it opened, or one before, cannot be its own."""
        self._others: set[str] = set()
        self._seen: set[str] = set()

    def hear(self, session: Session) -> None:
        """A dial-out with its user id was told of."""
        destination = session.destination
        elsewhere = destination is not None and plain_uri(destination) != plain_uri(self.destination)
        if session.opened > self._since and not elsewhere:
            self.see(session.session_id)

    def see(self, session_id: str) -> None:
        """A call with its user id is there."""
        if session_id not in self._others:
            self._seen.add(session_id)
            self.news.set()

    def lose(self, session_id: str) -> None:
        """That call is another's."""
        self._others.add(session_id)
        self._seen.discard(session_id)
        self.news.set()

    def found(self) -> str | None:
        """The one call that can be its own, if there is just one."""
        return next(iter(self._seen)) if len(self._seen) == 1 else None


class PendingStarts:
    """All starts that are under way, by user id."""

    def __init__(self) -> None:
        self._open: dict[str, list[PendingStart]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))

    def __contains__(self, session: Session) -> bool:
        """Whether it is, or may be, the call of such a start."""
        return session.user_id in self._open

    def open(self, sighting: PendingStart) -> None:
        """A start is about to be sent."""
        self._open.setdefault(sighting.user_id, []).append(sighting)

    def close(self, sighting: PendingStart) -> None:
        """It is over."""
        rivals = self._open[sighting.user_id]
        rivals.remove(sighting)
        for rival in rivals:
            rival.news.set()  # it may be certain now
        if not rivals:
            del self._open[sighting.user_id]

    def claim(self, sighting: PendingStart, session_id: str) -> None:
        """A start's call is certain now, and nobody else's."""
        sighting.session_id = session_id
        for rival in self._open[sighting.user_id]:
            if rival is not sighting:
                rival.lose(session_id)

    def see(self, session: Session) -> None:
        """A dial-out was heard of."""
        if session.direction is Direction.DIALOUT and session.user_id is not None:
            for sighting in self._open.get(session.user_id, ()):
                sighting.hear(session)

    def present(self, sighting: PendingStart, people: Iterable[RoomParticipant]) -> None:
        """Look for a start's call among those who are in the room."""
        for one in people:
            if one.user_id == sighting.user_id:
                sighting.see(one.session_id)

    def find(self, sighting: PendingStart) -> str | None:
        """The call of a start, if it is certain."""
        rivals = (one for one in self._open[sighting.user_id] if one is not sighting)
        return None if any(rival.session_id is None for rival in rivals) else sighting.found()
