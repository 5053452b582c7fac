"""Acting on sessions with Daily's REST API.

    async with DailyApi(key) as api, Dispatcher(router, control=RestControl(api)) as calls:
        ...

One serves all rooms of a domain. The session says which room it is in, if its events do (those of webhooks and daily-js).
"""

from __future__ import annotations

from telstate.calls._session import Session
from telstate.calls._table import State
from telstate.control._api import DailyApi
from telstate.control._call_transport import RoomParticipant, presence_if_absent
from telstate.control._rooms import Rooms
from telstate.control._telephony import START_TIMEOUT, Telephony
from telstate.errors import DailyError, NotSupported
from telstate.events import Direction, Presence
from telstate.options import Dialout, Dtmf, Refer, Transfer
from telstate.routing._clock import SystemClock
from telstate.routing._ports import Clock

__all__ = ["RestControl"]

_PRESENCE_LAG = 30.0
"""Seconds without being listed after which a participant is not in the room: twice the lag that Daily documents."""
_LONGEST_CALL, _LONGEST_RING = 24 * 3600.0, 600.0
"""Seconds without an event after which a session is gone whose room is not there any more, as if nobody could be asked: the default silence
limits. Not sooner: a room may expire before its call, and the key may be of another domain."""


class RestControl:
    """A `CallTransport`, for a dispatcher's `control=` and for a dialer.

    Args:
        api: Daily's API, entered before the first request.
        room: the room of sessions whose events do not name one (those of daily-python and pipecat).
        start_timeout: seconds to wait for the answer to a start.
        clock: the dispatcher's clock, if it has one of its own: `reconcile` compares times of sessions with it.
    """

    def __init__(
        self,
        api: DailyApi,
        room: str | None = None,
        *,
        start_timeout: float = START_TIMEOUT,
        clock: Clock | None = None,
    ) -> None:
        self._telephony = Telephony(api, start_timeout)
        self._rooms = Rooms(api)
        self._room = room
        self._clock = clock or SystemClock()

    def __repr__(self) -> str:
        return f"RestControl({self._telephony!r}, room={self._room!r})"

    async def start(self, options: Dialout, room: str | None = None) -> str:
        """Start a dial-out; return its session id. See `CallTransport`."""
        return await self._telephony.start(self._require_room(room), options)

    async def presence(self, room: str | None = None) -> tuple[RoomParticipant, ...]:
        """List the participants of a room. See `CallTransport`."""
        return await self._rooms.presence(self._require_room(room))

    async def stop(self, session: Session) -> None:
        """End a session: a dial-out is stopped, a dial-in is ejected."""
        room = self._require_room(session.room)
        if session.direction is Direction.DIALOUT:
            await self._telephony.stop(room, session.session_id)
        else:
            await self._telephony.eject(room, session.session_id)

    async def send_dtmf(self, session: Session, dtmf: Dtmf) -> None:
        """Press keys. A `method` is `NotSupported`."""
        await self._telephony.send_dtmf(self._require_room(session.room), session.session_id, dtmf)

    async def transfer(self, session: Session, transfer: Transfer) -> None:
        """Transfer a session to a SIP URI or a number. Daily stays in the call's path."""
        await self._telephony.transfer(self._require_room(session.room), session.session_id, transfer)

    async def refer(self, session: Session, refer: Refer) -> None:
        """Transfer a SIP session to a SIP URI by REFER. Daily leaves the call's path."""
        await self._telephony.refer(self._require_room(session.room), session.session_id, refer)

    async def forward(self, call_id: str, call_domain: str, sip_endpoint: str) -> None:
        """Connect a caller on hold to a SIP endpoint that is ready."""
        await self._telephony.forward(call_id, call_domain, sip_endpoint)

    async def reconcile(self, session: Session) -> Presence:
        """Check whether a session still exists: for a dispatcher's `reconcile=`.

        A participant of the room is alive. A session that is no participant is gone only if media has flowed for a while, or if no
        event came for ten minutes: it is not documented whether Daily lists a call that still rings. If Daily does not know the room, one
        that was answered is gone after a day without an event, and any other one after ten minutes.

        Raises:
            DailyError: if Daily cannot be asked, or does not know the room (status 404) and it is too early to say more.
        """
        room = session.room or self._room
        if room is None:
            return Presence.UNKNOWN
        try:
            present = await self._rooms.presence(room)
        except DailyError as error:
            if error.status == 404 and self._silent_for_long(session):
                return Presence.GONE
            raise
        if any(one.session_id == session.session_id for one in present):
            return Presence.ALIVE
        return presence_if_absent(session, _PRESENCE_LAG, self._clock.now())

    def _silent_for_long(self, session: Session) -> bool:
        limit, now = _LONGEST_CALL if session.state is State.ANSWERED else _LONGEST_RING, self._clock.now()
        return now is not None and session.heard_at is not None and now - session.heard_at >= limit

    def _require_room(self, room: str | None) -> str:
        if room := room or self._room:
            return room
        raise NotSupported(
            "Daily's REST API needs the room's name, and no event of the session named it: use RestControl(api, room=…), or"
            " dialer.dial(…, room=…) to dial; or act with a call client, which is in its room"
        )
