"""The reconciler: asks whether sessions are still there, of which nothing was heard for long or events may have been missed.

Every question and every answer is an event, so that a replay and a recovery see the same. A session that nobody knows of is
not ended for that: it is asked for again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from itertools import islice

import anyio
from anyio.abc import TaskGroup

from telstate.calls._session import Session
from telstate.errors import JournalError, NotRunning
from telstate.events import Event, Presence, PresenceChecked, SourceGap
from telstate.routing._cancellation import current_task, forgive_cancellation, is_cancelled
from telstate.routing._log import Log, traceback_of

__all__ = ["ANSWER_WITHIN", "Reconcile", "Reconciler"]

Reconcile = Callable[[Session], Awaitable[Presence]]

_AT_ONCE = 16
"""How many questions are under way at the same time: Daily's API has a rate limit."""
ANSWER_WITHIN = 30.0
"""Seconds for one answer."""
_IN_ONE_COMMIT = 500
_PAUSE = 1.0
"""Seconds after which a question that could not be kept is tried again."""


class Reconciler:
    """Asks.

    Args:
        reconcile: whom: a function that asks Daily, in the end.
        find: finds a session by its id.
        live: tells all live sessions.
        take: takes in events of our own.
        sleep: waits.
    """

    def __init__(
        self,
        reconcile: Reconcile,
        find: Callable[[str], Session | None],
        live: Callable[[], list[Session]],
        take: Callable[..., Awaitable[object]],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._reconcile = reconcile
        self._find = find
        self._live = live
        self._take = take
        self._sleep = sleep
        self._waiting: deque[str] = deque()
        self._asking: set[str] = set()
        self._doubtful: dict[str, None] = {}
        """Those to be asked for because events may have been missed."""
        self._doubting = False
        self._doubted: dict[str, None] = {}
        """Of those asked for, the ones about which something may have been missed since: their answer is too old."""
        self._workers = 0
        self._group: TaskGroup | None = None
        self._log = Log()

    def open(self, group: TaskGroup) -> None:
        """Ask in this task group from now on, first for all of which nothing is certain."""
        self._group = group
        self._doubt(group)

    def see(self, event: Event, session: Session | None) -> None:
        """An event of our own was stepped: it may be a question, or a reason for many."""
        if self._group is None:
            return
        if type(event) is SourceGap:
            self._doubt(self._group)
        elif type(event) is PresenceChecked and event.presence is Presence.UNKNOWN and session is not None:
            self._ask(session, self._group)

    def _doubt(self, group: TaskGroup) -> None:
        """Ask for every session of which events may have been missed; who is just being asked for, once more."""
        for session in self._live():
            if session.uncertain:
                (self._doubted if session.session_id in self._asking else self._doubtful)[session.session_id] = None
        if self._doubtful and not self._doubting:
            self._doubting = True
            group.start_soon(self._ask_for_doubtful)

    async def _ask_for_doubtful(self) -> None:
        while self._doubtful:
            some = list(islice(self._doubtful, _IN_ONE_COMMIT))
            if await self._tell(Presence.UNKNOWN, *filter(self._is_uncertain, some)):
                for session_id in some:
                    del self._doubtful[session_id]
            else:
                await self._sleep(_PAUSE)
        self._doubting = False

    def _is_uncertain(self, session_id: str) -> bool:
        session = self._find(session_id)
        return session is not None and session.uncertain and not session.ended and session_id not in self._asking

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
                    await forgive_cancellation(current_task())
                if presence is not Presence.UNKNOWN and session_id not in self._doubted:
                    await self._tell(presence, session_id)
                self._asking.discard(session_id)
                if session_id in self._doubted:
                    del self._doubted[session_id]
                    await self._tell(Presence.UNKNOWN, session_id)
        finally:
            self._workers -= 1

    async def _answer(self, session: Session) -> Presence:
        """What the program's function says; whatever goes wrong in it, nothing is known then."""
        try:
            with anyio.fail_after(ANSWER_WITHIN):
                return Presence(await self._reconcile(session))
        except (Exception, anyio.get_cancelled_exc_class()) as error:
            if is_cancelled():
                raise
            self._log.warning("reconcile.failed", session_id=session.session_id, exception=traceback_of(error))
            return Presence.UNKNOWN

    async def _tell(self, presence: Presence, *session_ids: str) -> bool:
        """Make events of it; False if they could not be kept."""
        try:
            await self._take(*(PresenceChecked(session_id=one, presence=presence) for one in session_ids))
        except NotRunning:
            return True
        except JournalError as error:
            hint = "they are asked for again"
            self._log.error("reconcile.not_kept", session_ids=session_ids[:20], error=str(error), hint=hint)
            return False
        return True
