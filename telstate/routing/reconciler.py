"""The reconciler: asks whether sessions are still there, of which nothing was heard for long or events may have been missed.

Every question and every answer is an event, so that a replay and a recovery see the same. A session that nobody knows of is
not ended for that: it is asked for again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

import anyio
import structlog
from anyio.abc import TaskGroup

from telstate.calls.session import Session
from telstate.errors import Closed, JournalError
from telstate.events import Event, Presence, PresenceChecked, SourceGap
from telstate.routing.cancellation import forgive_cancellation, is_cancelled

__all__ = ["Reconcile", "Reconciler"]

Reconcile = Callable[[Session], Awaitable[Presence]]

_AT_ONCE = 16
"""How many questions are under way at the same time: Daily's API has a rate limit."""
_TIMEOUT = 30.0
"""Seconds for one answer."""
_PAUSE = 1.0
"""Seconds after which a question that could not be kept is tried again."""


class Reconciler:
    """Asks.

    Args:
        reconcile: whom: a function that asks Daily, in the end.
        find: finds a session by its id.
        live: tells all live sessions.
        take: takes in an event of our own.
        sleep: waits.
    """

    def __init__(
        self,
        reconcile: Reconcile,
        find: Callable[[str], Session | None],
        live: Callable[[], list[Session]],
        take: Callable[[Event], Awaitable[object]],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._reconcile = reconcile
        self._find = find
        self._live = live
        self._take = take
        self._sleep = sleep
        self._waiting: deque[str] = deque()
        self._asking: set[str] = set()
        self._doubted: set[str] = set()
        """Of those asked for, the ones about which something may have been missed since: their answer is too old."""
        self._workers = 0
        self._group: TaskGroup | None = None
        self._log = structlog.get_logger("telstate")

    def open(self, group: TaskGroup) -> None:
        """Ask in this task group from now on, first for all of which nothing is certain."""
        self._group = group
        if any(session.uncertain for session in self._live()):
            group.start_soon(self._doubt)

    def see(self, event: Event, session: Session | None) -> None:
        """An event of our own was stepped: it may be a question, or a reason for many."""
        if self._group is None:
            return
        if type(event) is SourceGap:
            self._group.start_soon(self._doubt)
        elif type(event) is PresenceChecked and event.presence is Presence.UNKNOWN and session is not None:
            self._ask(session, self._group)

    async def _doubt(self) -> None:
        """Ask for every session of which events may have been missed."""
        doubtful = [session for session in self._live() if session.uncertain]
        self._doubted.update(session.session_id for session in doubtful if session.session_id in self._asking)
        for session in doubtful:
            while session.uncertain and not session.ended and session.session_id not in self._asking:
                if await self._tell(session.session_id, Presence.UNKNOWN):
                    break
                await self._sleep(_PAUSE)

    def _ask(self, session: Session, group: TaskGroup) -> None:
        if session.ended or session.session_id in self._asking:
            return
        self._asking.add(session.session_id)
        self._waiting.append(session.session_id)
        if self._workers < _AT_ONCE:
            self._workers += 1
            group.start_soon(self._work)

    async def _work(self) -> None:
        try:
            while self._waiting:
                session_id = self._waiting.popleft()
                session = self._find(session_id)
                presence = Presence.UNKNOWN
                if session is not None and not session.ended:
                    presence = await self._answer(session)
                    await forgive_cancellation()
                if presence is not Presence.UNKNOWN and session_id not in self._doubted:
                    await self._tell(session_id, presence)
                self._asking.discard(session_id)
                if session_id in self._doubted:
                    self._doubted.discard(session_id)
                    await self._tell(session_id, Presence.UNKNOWN)
        finally:
            self._workers -= 1

    async def _answer(self, session: Session) -> Presence:
        """What the program's function says; whatever goes wrong in it, nothing is known then."""
        try:
            with anyio.fail_after(_TIMEOUT):
                return Presence(await self._reconcile(session))
        except (Exception, anyio.get_cancelled_exc_class()) as error:
            if is_cancelled():
                raise
            self._log.warning("reconcile.failed", session_id=session.session_id, error=repr(error), exc_info=True)
            return Presence.UNKNOWN

    async def _tell(self, session_id: str, presence: Presence) -> bool:
        """Make it an event; False if that could not be kept."""
        try:
            await self._take(PresenceChecked(session_id=session_id, presence=presence))
        except Closed:
            return True
        except JournalError as error:
            self._log.error("reconcile.not_kept", session_id=session_id, error=str(error), hint="it is asked for again")
            return False
        return True
