"""Interruptions of the connections by which events come: whose signalling is down, and which sessions that makes doubtful.

While the signalling connection of a call client is interrupted, no event of its calls arrives; once it is back, nobody repeats those
that were missed. So both are a reason for doubt. A client that connects without an interruption has just joined and missed nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from telstate.calls._expiring_dict import ExpiringDict
from telstate.calls._session import Session
from telstate.calls._shared_signs import client_key
from telstate.events import ClientLeft, ConnectionChanged, SourceGap

__all__ = ["Interruptions", "sessions_in_doubt"]


class Interruptions(ExpiringDict[str, bool]):
    """The call clients whose signalling connection is interrupted, by `client_key`."""

    __slots__ = ()

    def note(self, event: ConnectionChanged, told_by: int, now: float) -> bool:
        """Note a change of a connection; return True if events may have been missed, or may be from now on."""
        key = client_key(told_by, event.call_client_id, event.room)
        if event.may_lose_events:
            self.put(key, True, now)
            self.trim()
            return True
        return event.is_back and self.take(key) is not None

    def forget(self, event: ClientLeft, told_by: int) -> None:
        """Our client left: when it connects again, it has joined anew."""
        self.take(client_key(told_by, event.call_client_id, event.room))


def sessions_in_doubt(event: SourceGap | ConnectionChanged, live: Iterable[Session]) -> tuple[Session, ...]:
    """Find the sessions of which events may be missing: those of the client, else of the room, else all.

    The room is what tells sessions apart only where no client does: a client may name a room that its session does not know.
    """
    client, room = event.call_client_id, event.room
    if client is not None:
        return tuple(one for one in live if one.call_client_id == client and (room is None or one.room in (None, room)))
    return tuple(one for one in live if room is None or one.room == room)
