"""What a dialer needs to reach Daily: a `Control` that can also start calls and find them again."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from telstate.calls._session import Session
from telstate.calls._table import State
from telstate.events import Presence
from telstate.options import Dialout
from telstate.routing._ports import Control

__all__ = ["CallTransport", "RoomParticipant", "presence_if_absent"]

_LONGEST_RING = 600.0
"""Seconds; carriers give up long before. It is also the silence limit of a session that was not answered."""


class RoomParticipant(NamedTuple):
    """Somebody in a room."""

    session_id: str
    user_id: str | None = None
    """The `userId` that a dial-out was started with, or that of a meeting token."""
    user_name: str | None = None


class CallTransport(Control, Protocol):
    """A way to make calls and to find them again: `RestControl`, `ClientControl`, `TransportControl`."""

    async def start(self, options: Dialout, room: str | None = None) -> str:
        """Start a dial-out; return the session id that Daily gave it.

        Raises:
            DailyError: if Daily refused, and no call was made; the subclass says why.
            UnknownResult: if the answer was lost or came too late: there may be a call.
            NotSupported: if this transport cannot carry an option, or needs a room. Nothing was sent.
        """
        ...

    async def presence(self, room: str | None = None) -> tuple[RoomParticipant, ...]:
        """List the participants of a room.

        A participant that has just joined may be missing, and one that has just left may be listed (for up to 15 seconds, says
        Daily's documentation). It is not documented whether a dial-out that is still ringing is listed: only being listed
        says something.

        Raises:
            DailyError: if Daily cannot be asked.
            NotSupported: if this transport needs a room.
        """
        ...

    async def reconcile(self, session: Session) -> Presence:
        """Check whether a session still exists.

        Raises:
            DailyError: if Daily cannot be asked.
        """
        ...


def presence_if_absent(session: Session, lag: float, now: float | None) -> Presence:
    """Return what it means that a session is not among the participants of its room.

    If media has flowed for longer than the list can lag, the session is gone. Before the answer it is not documented whether Daily
    lists it, but no call rings for ten minutes without another event.

    Args:
        session: the session.
        lag: seconds by which the list of participants may be out of date.
        now: the time, in Unix seconds; None if it is not known.
    """
    if now is None:
        return Presence.UNKNOWN
    talked = now - session.answered_at if session.answered_at is not None else 0.0
    if session.state is State.ANSWERED and talked >= lag:
        return Presence.GONE
    silent = session.heard_at is not None and now - session.heard_at >= _LONGEST_RING
    return Presence.GONE if silent else Presence.UNKNOWN
