"""A way to Daily without any HTTP, whose every answer a test may choose: what FakeDaily cannot be made to do in a certain moment."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from telstate import Dispatcher, Session
from telstate.control._call_transport import RoomParticipant
from telstate.errors import NoSuchSession
from telstate.events import DialoutConnected, DialoutEvent, DialoutStopped
from telstate.options import Dialout

__all__ = ["QUICK", "Wire"]

QUICK: dict[str, Any] = {"room": "r", "pauses": [0.01], "find_within": 0.3, "looks": [0.05], "stops": [0.1, 0.1, 0.1]}
"""A dialer in a hurry."""


class Wire:
    """A `CallTransport`. Its calls ring on; who rings is not in the presence."""

    def __init__(self) -> None:
        self.calls: Dispatcher
        self.legs: dict[str, Dialout] = {}
        """All that were ever made, in order."""
        self.live: set[str] = set()
        self.most = 0
        self.stopped: list[str] = []
        self.present: tuple[RoomParticipant, ...] = ()

    async def start(self, options: Dialout, room: str | None = None) -> str:  # noqa: ARG002
        """Make a call that rings."""
        session_id = self.make(options)
        await self.tell(DialoutConnected, session_id)
        return session_id

    async def stop(self, session: Session) -> None:
        """End it."""
        self.stopped.append(session.session_id)
        if session.session_id not in self.live:
            raise NoSuchSession("no dialout to stop", status=404)
        self.live.discard(session.session_id)
        await self.tell(DialoutStopped, session.session_id)

    async def presence(self, room: str | None = None) -> tuple[RoomParticipant, ...]:  # noqa: ARG002
        """What the test says."""
        return self.present

    def make(self, options: Dialout) -> str:
        """A call, without a word."""
        session_id = str(uuid4())
        self.legs[session_id] = options
        self.live.add(session_id)
        self.most = max(self.most, len(self.live))
        return session_id

    async def tell(self, kind: type[DialoutEvent], session_id: str, **more: Any) -> None:
        """One event of a call."""
        options = self.legs[session_id]
        said = {"destination": options.destination, "user_id": options.user_id, "room": "r", **more}
        await self.calls.receive(kind(session_id=session_id, **said))
