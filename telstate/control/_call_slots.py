"""The slots of calls: each is held from the start of a call until its session has ended, as far as that is known."""

from __future__ import annotations

from collections.abc import Collection, Hashable

from telstate.calls._session import Session
from telstate.control._call_limiter import CallLimiter, CallSlot
from telstate.control._call_transport import CallTransport
from telstate.control._far_rooms import FarRooms
from telstate.control._pending_starts import PendingStarts
from telstate.errors import Busy, NotRunning
from telstate.events import Presence
from telstate.events._masking import mask
from telstate.routing._dispatcher import Dispatcher
from telstate.routing._log import Log, text_of
from telstate.routing._room_calls import RoomCalls

__all__ = ["CallSlots"]


class CallSlots:
    """Hands out slots, follows the sessions that hold them, and counts those that the dialer did not start.

    Args:
        calls: knows the sessions.
        transport: asks Daily whether they exist.
        limiter: has the limits.
        pending_starts: learn of each session, too.
        check_every: while a dial waits for a slot, how often to ask Daily.
    """

    def __init__(
        self,
        calls: Dispatcher,
        transport: CallTransport,
        limiter: CallLimiter,
        pending_starts: PendingStarts,
        check_every: float,
    ) -> None:
        self._calls = calls
        self._transport = transport
        self._limiter = limiter
        self._pending_starts = pending_starts
        self.check_every: float = check_every
        """Seconds."""
        self.far_rooms: FarRooms = FarRooms(self.observe, self._leave_room)
        """The rooms of other workers that are followed."""
        self._slots: dict[str, CallSlot] = {}
        """The slots of live sessions, by session id."""
        self._log = Log()

    def __len__(self) -> int:
        """Return how many slots are in use."""
        return len(self._limiter)

    async def acquire(self, room: str | None, key: Hashable) -> CallSlot:
        """Wait for a slot and take it."""
        return await self._limiter.acquire(room, key)

    def assign(self, slot: CallSlot, session_id: str | None, place: RoomCalls) -> None:
        """Give a slot to a session until that ends; release it if there is none."""
        session = self._calls.session(session_id) if session_id is not None else None
        is_over = (
            session.ended if session is not None else not place.is_elsewhere
        )  # else its worker is about to show it
        if session_id is None or is_over or session_id in self._slots:
            slot.release()
        else:
            self.far_rooms.hold(place)
            self._slots[session_id] = slot
            self._limiter.remove_other(session_id)  # counted as another's if its events came first

    def observe_all(self) -> None:
        """Consider each live session that this dispatcher has."""
        for session in self._calls.live():
            self.observe(session)

    def observe(self, session: Session) -> None:
        """Consider a session of which there is news."""
        self._pending_starts.observe(session)
        if session.ended:
            self._forget(session.session_id)
        elif session.room is not None and session.session_id not in self._slots and session not in self._pending_starts:
            self._limiter.add_other(session.session_id, session.room)

    def _forget(self, session_id: str) -> None:
        self._limiter.remove_other(session_id)
        if (slot := self._slots.pop(session_id, None)) is not None:
            slot.release()
            self.far_rooms.release(slot.room)

    def _leave_room(self, room: str) -> None:
        """Nothing more is heard of a room's sessions."""
        for session_id in self._limiter.others_in({room}):
            self._limiter.remove_other(session_id)

    async def follow(self) -> None:
        """Keep track of which sessions live, until the dispatcher closes."""
        while True:
            try:
                changes = self._calls.changes()
            except NotRunning:  # the dispatcher was shut down, and this dialer is about to be left
                return
            for session_id in (*self._slots, *self._limiter.others):
                known, slot = self._calls.session(session_id), self._slots.get(session_id)
                is_awaited = slot is not None and slot.room in self.far_rooms  # its worker is about to show it
                if known.ended if known is not None else not is_awaited:
                    self._forget(session_id)
            self.observe_all()
            try:
                async for outcome in changes:
                    if outcome.session is not None:
                        self.observe(outcome.session)
            except Busy:
                continue  # this reader fell behind: look at all sessions, and follow again
            return

    async def check(self) -> None:
        """While a dial waits for a slot, check whether the sessions that hold slots still exist."""
        while True:
            await self._calls.clock.sleep(self.check_every)
            rooms, keys = self._limiter.waiting_rooms, self._limiter.waiting_keys
            holding = [one for one, slot in self._slots.items() if slot.room in rooms or slot.key in keys]
            holding += self._limiter.others_in(rooms)
            if rooms:
                shown = {"rooms": [*rooms][:20], "behind": holding[:20], "sessions": len(holding)}
                self._log.info("dialer.waiting", **shown)
            for session_id in holding:
                await self.check_exists(session_id)

    async def keep_checking(self, session_ids: Collection[str]) -> None:
        """Check now and then whether these sessions still exist, until cancelled. The events of their ends may be lost."""
        while True:
            await self._calls.clock.sleep(self.check_every)
            for session_id in session_ids:
                await self.check_exists(session_id)

    async def check_exists(self, session_id: str) -> None:
        """Ask Daily whether a session still exists; one that is certainly gone is ended."""
        session = self._calls.session(session_id)
        try:
            if session is None or session.ended:
                return
            if await self._transport.reconcile(session) is not Presence.GONE:
                return
            if session.room is None:
                await self._calls.report_gone(session_id)
            else:
                await self._calls.room_calls(session.room).report_gone(session_id)
        except Exception as error:
            self._log.info("dial.no_presence", session_id=session_id, error=mask(text_of(error)))
