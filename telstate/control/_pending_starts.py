"""Starts whose answer was lost: the call is found by its `userId`, in its events or in the room's presence.

A user id that the dialer makes is used for one start. A user id that the program gives may be on several calls. So a call that
another start has confirmed, or that existed before the start, is no candidate; and while two starts with one user id are open,
neither can be told from the other. The room's presence does not help then either: somebody may have that user id by a meeting
token.
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
    """One start, and the calls that may have come of it.

    Args:
        user_id: the `userId` of the start.
        destination: the number or SIP URI.
        after_event: how many events had been received before it. A session that one of them opened is no candidate.
    """

    def __init__(self, user_id: str, destination: str, after_event: int) -> None:
        self.user_id = user_id
        self.destination = destination
        self.session_id: str | None = None
        """Its session, once confirmed."""
        self.changed = anyio.Event()
        """Set when the candidates change."""
        self.after_event: int = after_event
        self._candidates: set[str] = set()
        self._excluded: set[str] = set()

    def observe(self, session: Session) -> None:
        """Consider a dial-out session with this user id."""
        destination = session.destination
        elsewhere = destination is not None and plain_uri(destination) != plain_uri(self.destination)
        if session.opened > self.after_event and not elsewhere:
            self.add_candidate(session.session_id)

    def add_candidate(self, session_id: str) -> None:
        """Consider a call with this user id."""
        if session_id not in self._excluded:
            self._candidates.add(session_id)
            self.changed.set()

    def observe_presence(self, participants: Iterable[RoomParticipant]) -> None:
        """Consider the participants of its room."""
        for participant in participants:
            if participant.user_id == self.user_id:
                self.add_candidate(participant.session_id)

    def exclude(self, session_id: str) -> None:
        """Drop a call: it belongs to another start."""
        self._excluded.add(session_id)
        self._candidates.discard(session_id)
        self.changed.set()

    def only_candidate(self) -> str | None:
        """Return the candidate if there is exactly one."""
        return next(iter(self._candidates)) if len(self._candidates) == 1 else None


class PendingStarts:
    """All starts in progress, by user id."""

    def __init__(self) -> None:
        self._by_user_id: dict[str, list[PendingStart]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_user_id.values()))

    def __contains__(self, session: Session) -> bool:
        """Return whether a session is, or may be, the call of a start in progress."""
        return session.user_id in self._by_user_id

    def add(self, start: PendingStart) -> None:
        """Register a start that is about to be sent."""
        self._by_user_id.setdefault(start.user_id, []).append(start)

    def remove(self, start: PendingStart) -> None:
        """Remove a start that is over."""
        rivals = self._by_user_id[start.user_id]
        rivals.remove(start)
        for rival in rivals:
            rival.changed.set()  # its call may be certain now
        if not rivals:
            del self._by_user_id[start.user_id]

    def confirm(self, start: PendingStart, session_id: str) -> None:
        """Record a start's call, which no other start can then have."""
        start.session_id = session_id
        for rival in self._rivals(start):
            rival.exclude(session_id)

    def observe(self, session: Session) -> None:
        """Consider a session for the starts with its user id."""
        if session.direction is Direction.DIALOUT and session.user_id is not None:
            for start in self._by_user_id.get(session.user_id, ()):
                start.observe(session)

    def find(self, start: PendingStart) -> str | None:
        """Return the call of a start if it is certain."""
        undecided = any(rival.session_id is None for rival in self._rivals(start))
        return None if undecided else start.only_candidate()

    def _rivals(self, start: PendingStart) -> Iterable[PendingStart]:
        return (one for one in self._by_user_id[start.user_id] if one is not start)
