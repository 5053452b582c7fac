"""Whether a session is still there: asked where it is silent or events may have been missed, and weighed where Daily denies it.

Every question and every answer is an event, so that a replay and a recovery see the same. A session about which nobody knows
anything does not end for that: the question is asked again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from contextvars import copy_context
from itertools import islice
from typing import Any

import anyio
from anyio.abc import TaskGroup

from telstate.calls._outcome import Outcome
from telstate.calls._session import Session
from telstate.errors import JournalError, NoSuchSession, NotHosting, NotRunning
from telstate.events import ClientLeft, Presence, PresenceChecked
from telstate.events._masking import mask
from telstate.routing._cancellation import current_task, forgive_cancellation, is_cancelled
from telstate.routing._interruption import Interruption
from telstate.routing._isolated import Isolated
from telstate.routing._log import Log, display_names, failure_of, text_of
from telstate.routing._ports import Clock
from telstate.routing._sequencer import Sequencer

__all__ = ["ANSWER_WITHIN", "Reconcile", "Reconciler", "is_gone"]

Reconcile = Callable[[Session], Coroutine[Any, Any, Presence]]

_AT_ONCE = 16
"""How many questions are under way at once: Daily's API has a rate limit."""
ANSWER_WITHIN = 30.0
"""Seconds for one answer."""
_IN_ONE_COMMIT = 500
_PAUSE = 1.0
"""Seconds after which a question that the journal could not keep is tried again."""
_OWN_END = 10.0
"""Seconds in which a session that Daily does not know any more is expected to end by its own event, which says more."""
_NEWS_WITHIN = 5.0
"""Seconds after that in which news still keeps it alive, besides those that an answer may take."""


def is_gone(error: Exception) -> bool:
    """Return True if an error says that Daily knows no such call.

    With its meeting every call of a room ends. But a call client that is in no call says so about itself, not about the room.
    """
    return isinstance(error, NoSuchSession) or (isinstance(error, NotHosting) and error.status is not None)


class Reconciler:
    """Asks about sessions, and ends those that are gone.

    Args:
        reconcile: the program's function that asks Daily; None if nobody can be asked.
        sequencer: has the sessions, and takes in the answers.
        clock: for the pauses.
        interruption: learns of a KeyboardInterrupt.
    """

    def __init__(
        self, reconcile: Reconcile | None, sequencer: Sequencer, clock: Clock, interruption: Interruption
    ) -> None:
        self._interruption = interruption
        self._reconcile = reconcile
        self._sequencer = sequencer
        self._clock = clock
        self._waiting: deque[str] = deque()
        self._asking: set[str] = set()
        self._doubtful: dict[str, None] = {}
        """Sessions to ask about because events may have been missed."""
        self._doubting = False
        self._outdated: dict[str, None] = {}
        """Sessions being asked about of which events may have been missed since: the answer under way is too old."""
        self._denied: dict[str, _Signs] = {}
        """Sessions that Daily denies and whose end is awaited, with their signs of life at the last denial."""
        self._workers = 0
        self._group: TaskGroup | None = None
        self._log = Log()

    @property
    def asks(self) -> bool:
        """True if somebody can be asked."""
        return self._reconcile is not None

    def open(self, group: TaskGroup) -> None:
        """Ask in this task group from now on, first about every uncertain session."""
        self._group = group
        self._doubt(self._sequencer.engine.live())

    def close(self) -> None:
        """Ask and conclude nothing more."""
        self._group = None

    def see(self, outcome: Outcome) -> None:
        """An event was applied that may be a question, or a reason for many."""
        event = outcome.event
        if outcome.doubtful:
            self._doubt(outcome.doubtful)
        elif type(event) is ClientLeft:
            self._doubt(self._sequencer.engine.live())
        elif type(event) is PresenceChecked and event.presence is Presence.UNKNOWN and outcome.session is not None:
            self._ask(outcome.session)

    # --- asking ---------------------------------------------------------------------------------------------------

    def _doubt(self, sessions: Iterable[Session]) -> None:
        """Ask about the sessions of which events may have been missed; those being asked about, once more."""
        if self._group is None or not self.asks:
            return
        for session in sessions:
            if session.uncertain:
                (self._outdated if session.session_id in self._asking else self._doubtful)[session.session_id] = None
        self._ask_doubtful()

    def _ask_doubtful(self) -> None:
        if self._group is not None and self._doubtful and not self._doubting:
            self._doubting = True
            self._group.start_soon(self._ask_about_doubtful)

    async def _ask_about_doubtful(self) -> None:
        while self._doubtful:
            some = list(islice(self._doubtful, _IN_ONE_COMMIT))
            for session_id in some:  # at once: while this waits for the journal, the next gap may name them again
                del self._doubtful[session_id]
            if not await self._keep(Presence.UNKNOWN, *filter(self._is_doubtful, some)):
                self._doubtful.update(dict.fromkeys(some))
                await self._clock.sleep(_PAUSE)
        self._doubting = False

    def _is_doubtful(self, session_id: str) -> bool:
        session = self._sequencer.engine.session(session_id)
        return session is not None and session.uncertain and not session.ended and session_id not in self._asking

    def _ask(self, session: Session) -> None:
        if self._group is None or not self.asks or session.ended or session.session_id in self._asking:
            return
        self._asking.add(session.session_id)
        self._waiting.append(session.session_id)
        if self._workers < _AT_ONCE:
            self._workers += 1
            self._group.start_soon(self._work)

    async def _work(self) -> None:
        try:
            while self._waiting:
                session_id = self._waiting.popleft()
                session = self._sequencer.engine.session(session_id)
                presence = Presence.UNKNOWN
                if session is not None and not session.ended:
                    presence = await self._answer(session)
                    await forgive_cancellation(current_task())
                if presence is not Presence.UNKNOWN and session_id not in self._outdated:
                    await self._keep(presence, session_id)
                self._asking.discard(session_id)
                if session_id in self._outdated:
                    del self._outdated[session_id]
                    self._doubtful[session_id] = None
                    self._ask_doubtful()
        finally:
            self._workers -= 1

    async def _answer(self, session: Session) -> Presence:
        """Return what the program's function says; UNKNOWN if it fails."""
        assert self._reconcile is not None  # noqa: S101
        running: Isolated | None = None
        try:
            with anyio.fail_after(ANSWER_WITHIN):  # in real time: a request takes what it takes
                running = Isolated(self._reconcile(session), copy_context())
                return Presence(await running)
        except BaseException as error:  # whatever it raises, it is asked again
            if (running is not None and running.closed) or is_cancelled():
                raise
            self._interruption.note(error, "reconcile")
            failure = failure_of(error, display_names(session))
            self._log.warning("reconcile.failed", session_id=session.session_id, **failure)
            return Presence.UNKNOWN

    async def _keep(self, presence: Presence, *session_ids: str) -> bool:
        """Make events of it; return False if they could not be kept."""
        try:
            await self._sequencer.submit_events(
                *(PresenceChecked(session_id=one, presence=presence) for one in session_ids)
            )
        except NotRunning:
            return True
        except JournalError as error:
            hint = "it asks about them again"
            self._log.error("reconcile.not_kept", session_ids=session_ids[:20], error=str(error), hint=hint)
            return False
        return True

    # --- gone -----------------------------------------------------------------------------------------------------

    async def report_gone(self, session_id: str) -> None:
        """End a session that is certainly gone, though no event says so.

        Raises:
            JournalError: if that could not be kept.
            NotRunning: if the dispatcher was left.
        """
        session = self._sequencer.engine.session(session_id)
        if session is None or session.ended:
            return
        # An answer counts only if it was asked for.
        asked, gone = (
            PresenceChecked(session_id=session_id, presence=one) for one in (Presence.UNKNOWN, Presence.GONE)
        )
        await self._sequencer.submit_events(asked, gone)

    def deny(self, session: Session) -> None:
        """Daily does not know a session any more: it ends unless there is news of it in the next seconds."""
        known = session.session_id in self._denied
        self._denied[session.session_id] = _signs_of(session)
        if not known:
            if self._group is None:
                del self._denied[session.session_id]
            else:
                self._group.start_soon(self._conclude, session)

    async def _conclude(self, session: Session) -> None:
        """End a denied session. Any news speaks for it, unless Daily denied it after that, too."""
        session_id, at_denial = session.session_id, None
        try:
            while not session.ended and self._denied[session_id] != at_denial:
                at_denial = self._denied[session_id]
                await self._clock.sleep(_OWN_END)
                if _signs_of(session) == at_denial:
                    await self._end_unless_news(session_id)
        except (NotRunning, JournalError) as error:
            hint = "it ends by its own event, when it is denied again, or by the silence limit"
            self._log.info("call.not_concluded", session_id=session_id, error=mask(text_of(error)), hint=hint)
        finally:
            del self._denied[session_id]

    async def _end_unless_news(self, session_id: str) -> None:
        """As if somebody had been asked: news before the answer outweighs it."""
        await self._sequencer.submit_events(PresenceChecked(session_id=session_id, presence=Presence.UNKNOWN))
        await self._clock.sleep(_NEWS_WITHIN + (ANSWER_WITHIN if self.asks else 0.0))
        await self._sequencer.submit_events(PresenceChecked(session_id=session_id, presence=Presence.GONE))


_Signs = tuple[float | None, float | None]


def _signs_of(session: Session) -> _Signs:
    """Return when there was news of a session, and when it last showed life."""
    return session.heard_at, session.alive_at
