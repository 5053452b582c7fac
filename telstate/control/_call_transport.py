"""What a dialer needs of a way to Daily: more than acting on a session, because there is none yet."""

from __future__ import annotations

import time
from typing import NamedTuple, Protocol

from telstate.calls._session import Session
from telstate.calls._table import State
from telstate.events import Presence
from telstate.options import Dialout
from telstate.routing._ports import Control

__all__ = ["CallTransport", "RoomParticipant", "when_absent"]

_LONGEST_RING = 600.0
"""Seconds; carriers give up long before. It is also the silence limit of a session that was not answered."""


class RoomParticipant(NamedTuple):
    """Somebody who is in a room."""

    session_id: str
    user_id: str | None = None
    """The `userId` that a dial-out was started with, or that of a meeting token."""
    user_name: str | None = None


class CallTransport(Control, Protocol):
    """A way to Daily by which calls can be made and found again: `RestControl`, `ClientControl`, `TransportControl`."""

    async def start(self, options: Dialout, room: str | None = None) -> str:
        """Start a dial-out; return the session id that Daily gave it.

        Raises:
            DailyError: if Daily refused, and no call was made; the subclass says why.
            UnknownResult: if the answer was lost, or too late: there may be a call.
            NotSupported: if this way cannot carry an option, or needs a room. Nothing was sent.
        """

    async def presence(self, room: str | None = None) -> tuple[RoomParticipant, ...]:
        """Tell who is in the room. Who has just joined may be missing, and who has just left may be in it (by Daily's
        documentation for 15 seconds), and nothing tells whether a dial-out that still rings is: it shows only who is there.

        Raises:
            DailyError: if Daily cannot be asked.
            NotSupported: if this way needs a room.
        """

    async def reconcile(self, session: Session) -> Presence:
        """Tell whether a session is still there.

        Raises:
            DailyError: if Daily cannot be asked.
        """


def when_absent(session: Session, behind: float) -> Presence:
    """Say what it means that a session is not among those who are in its room.

    Media flowed, and not just since: it is gone. Before that nothing tells whether Daily shows it, but nobody rings so long
    without another word.

    Args:
        session: of which a dispatcher wants to know.
        behind: seconds by which the list may be behind.
    """
    now = time.time()
    talked = now - session.answered_at if session.answered_at is not None else 0.0
    if session.state is State.ANSWERED and talked >= behind:
        return Presence.GONE
    return (
        Presence.GONE if session.heard_at is not None and now - session.heard_at >= _LONGEST_RING else Presence.UNKNOWN
    )
