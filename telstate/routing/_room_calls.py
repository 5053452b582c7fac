"""The calls of one room, whichever dispatcher has the room's events: what a dialer needs of a room.

Where many dispatchers share the calls, the events of a room go to one of them. A start in a room of another is a request to that one
(see `_action_server.py`), and what a dialer learns of such a call becomes an event there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from telstate.calls._session import Session
from telstate.errors import DailyError, NotSupported
from telstate.events import Event, Presence, PresenceChecked
from telstate.options import Dialout
from telstate.routing._across import Across
from telstate.routing._action_client import ActionClient
from telstate.routing._presence import Reconciler

__all__ = ["RoomCalls", "Started"]


class Started(NamedTuple):
    """The answer to a start in a room of another dispatcher."""

    session_id: str | None
    """The session of the call, or that of the refusal. None if nothing was sent."""
    refusal: DailyError | None = None
    """Why there is no call."""


class RoomCalls:
    """The calls of a room.

    Args:
        room: its name; None for that of a call client.
        receive: takes in an event here.
        across: what this dispatcher and the others know.
        reconciler: ends what is gone.
        client: asks other dispatchers; None if there are none.

    Raises:
        NotSupported: if it cannot be known which dispatcher has the room's events.
    """

    def __init__(
        self,
        room: str | None,
        receive: Callable[[Event], Awaitable[object]],
        across: Across,
        reconciler: Reconciler,
        client: ActionClient | None,
    ) -> None:
        self.room: str | None = room
        self._receive = receive
        self._across = across
        self._reconciler = reconciler
        self._client = client
        elsewhere = across.elsewhere
        if elsewhere is not None and room is None:
            raise NotSupported(
                "workers share the calls by their rooms, so the room has to be named: dial(…, room=…). Nothing was sent"
            )
        self._far: str | None = (
            room if elsewhere is not None and room is not None and elsewhere.has_room(room) else None
        )
        """Its name, if another dispatcher has its events."""

    @property
    def is_elsewhere(self) -> bool:
        """True if another dispatcher has the room's events."""
        return self._far is not None

    async def start(self, options: Dialout) -> Started:
        """Ask the dispatcher that has the room's events to start a call. It keeps what came of it.

        Raises:
            UnknownResult: if the answer was lost: there may be a call.
            NotSupported: if that dispatcher cannot carry an option. Nothing was sent.
            DefinitionError: if it cannot start calls. Nothing was sent.
            JournalError: if the request could not be kept. Nothing was sent.
        """
        assert self._client is not None  # noqa: S101
        assert self._far is not None  # noqa: S101
        answer = await self._client.start(self._far, options)
        return Started(*answer)

    async def keep(self, *events: Event) -> None:
        """Make what is known of a call events of the room.

        Raises:
            JournalError: if they could not be kept.
            NotRunning: if the dispatcher was left.
        """
        for event in events:
            await (self._receive(event) if self._far is None else self._across.publish(self._far, event))

    async def report_gone(self, session_id: str) -> None:
        """End a session that Daily certainly does not know any more.

        Raises:
            JournalError: if that could not be kept.
        """
        if self._far is None:
            await self._reconciler.report_gone(session_id)
            return
        presences = (Presence.UNKNOWN, Presence.GONE)  # an answer counts only if it was asked for
        await self.keep(*(PresenceChecked(session_id=session_id, presence=one) for one in presences))

    def sessions(self) -> list[Session]:
        """List the sessions of a room that another dispatcher has, live or ended. Empty for a room of this one."""
        if self._far is None or self._across.elsewhere is None:
            return []
        return self._across.elsewhere.sessions_in(self._far)

    def watch(self, seen: Callable[[Session], None]) -> Callable[[], None]:
        """Call a function with each session of a room that another dispatcher has, now and whenever there is news of it.

        Returns a function that ends it.
        """
        if self._far is None or self._across.elsewhere is None:
            return _nothing
        end = self._across.elsewhere.watch_room(self._far, seen)
        for session in self.sessions():
            seen(session)
        return end


def _nothing() -> None:
    """There is nothing to end."""
