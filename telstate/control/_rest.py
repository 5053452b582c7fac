"""CallControl on sessions by Daily's REST API.

    async with DailyApi(key) as api, Dispatcher(router, control=RestControl(api)) as calls:
        ...

One serves all rooms of a domain: which one is meant the session tells, where its events do (webhooks and daily-js do).
"""

from __future__ import annotations

from telstate.calls._session import Session
from telstate.control._api import DailyApi
from telstate.control._call_transport import RoomParticipant, when_absent
from telstate.control._rooms import Rooms
from telstate.control._telephony import START, Telephony
from telstate.errors import NotSupported
from telstate.events import Direction, Presence
from telstate.options import Dialout, Dtmf, Refer, Transfer

__all__ = ["RestControl"]

_PRESENCE_LAG = 30.0
"""Seconds after which who is not in a room's presence is not there: twice what Daily says it may be behind."""


class RestControl:
    """A `CallTransport`: what a dispatcher acts by, and a dialer dials by.

    Args:
        api: Daily's API, inside its `async with` by the time it is used.
        room: the room of sessions of which no event tells one (daily-python's and pipecat's do not).
        start_timeout: seconds for the answer to a start.
    """

    def __init__(self, api: DailyApi, room: str | None = None, *, start_timeout: float = START) -> None:
        self._telephony = Telephony(api, start_timeout)
        self._rooms = Rooms(api)
        self._room = room

    def __repr__(self) -> str:
        return f"RestControl({self._telephony!r}, room={self._room!r})"

    async def start(self, options: Dialout, room: str | None = None) -> str:
        """Start a dial-out; return its session id. See `CallTransport`."""
        return await self._telephony.start(self._known(room), options)

    async def presence(self, room: str | None = None) -> tuple[RoomParticipant, ...]:
        """Tell who is in a room. See `CallTransport`."""
        return await self._rooms.presence(self._known(room))

    async def stop(self, session: Session) -> None:
        """End a session: a dial-out is stopped, who dialled in is ejected."""
        room = self._known(session.room)
        if session.direction is Direction.DIALOUT:
            await self._telephony.stop(room, session.session_id)
        else:
            await self._telephony.eject(room, session.session_id)

    async def send_dtmf(self, session: Session, dtmf: Dtmf) -> None:
        """Press keys. A method is `NotSupported`."""
        await self._telephony.send_dtmf(self._known(session.room), session.session_id, dtmf)

    async def transfer(self, session: Session, transfer: Transfer) -> None:
        """Hand a session on to a SIP URI or a number; Daily stays in its path."""
        await self._telephony.transfer(self._known(session.room), session.session_id, transfer)

    async def refer(self, session: Session, refer: Refer) -> None:
        """Hand a session on to a SIP URI; Daily leaves its path."""
        await self._telephony.refer(self._known(session.room), session.session_id, refer)

    async def forward(self, call_id: str, call_domain: str, sip_endpoint: str) -> None:
        """Connect a caller on hold to a SIP endpoint that is ready."""
        await self._telephony.forward(call_id, call_domain, sip_endpoint)

    async def reconcile(self, session: Session) -> Presence:
        """Tell whether a session is still there: for a dispatcher's `reconcile=`.

        Who is in the room's presence is alive. Who is not there is gone only if media flowed, and not just since, or if nothing
        was heard of it for ten minutes: nothing tells whether Daily shows those that still ring.
        """
        room = session.room or self._room
        if room is None:
            return Presence.UNKNOWN
        if any(one.session_id == session.session_id for one in await self._rooms.presence(room)):
            return Presence.ALIVE
        return when_absent(session, _PRESENCE_LAG)

    def _known(self, room: str | None) -> str:
        if room := room or self._room:
            return room
        raise NotSupported(
            "Daily's REST API needs the room's name, and no event told it: give RestControl(api, room=…), or to dial"
            " dialer.dial(…, room=…); or act by a call client, which is in its room"
        )
