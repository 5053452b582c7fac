"""One attempt: a dial-out is started, and rings until it is answered or certainly over.

Certain is what an event says, or Daily's answer to a stop. What is not certain is never called over: two calls for one intent
are worse than none. So a start without an answer is looked for, and a hang-up is not believed until there is a word for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import anyio
import anyio.lowlevel

from telstate.calls._evidence import Cause
from telstate.calls._session import Session
from telstate.calls._table import State
from telstate.control._call_transport import CallTransport
from telstate.control._pending_starts import PendingStart, PendingStarts
from telstate.control._results import Attempt, DialOutcome
from telstate.errors import CallEnded, DailyError, JournalError, NotRunning, UnknownResult
from telstate.events import DialoutRefused, DialoutRequested, Direction, Event, Presence, PresenceChecked, StopRequested
from telstate.events._masking import mask
from telstate.options._options import Dialout
from telstate.routing._call_control import is_gone
from telstate.routing._dispatcher import Dispatcher
from telstate.routing._log import Log, text_of

__all__ = ["AttemptTimeouts", "DialAttempt"]

_DENIALS = 2
"""So often Daily must say that there is no such call, before it is believed: a start that was just accepted may not be known to
all its parts yet. Of a call whose stop it has accepted, once is enough."""


class AttemptTimeouts(NamedTuple):
    """How long an attempt waits for what should come. All in seconds."""

    looks: Sequence[float]
    """Between two looks for a start that was not answered; the last one repeats."""
    find_within: float
    """For all these looks."""
    stops: Sequence[float]
    """How long to wait for the end after each stop that is sent."""


class DialAttempt:
    """One attempt.

    Args:
        calls: takes in what is known of it, and tells when it is answered.
        carrier: carries it out.
        options: whom to call, with the user id of the sighting.
        room: where.
        sightings: by which it is found again.
        patience: how long to wait.
        is_ours: whether the user id was made for this start, and nobody else has it.
    """

    def __init__(  # noqa: PLR0917 - made in one place
        self,
        calls: Dispatcher,
        carrier: CallTransport,
        options: Dialout,
        room: str | None,
        sightings: PendingStarts,
        patience: AttemptTimeouts,
        is_ours: bool = True,
    ) -> None:
        self._calls = calls
        self._carrier = carrier
        self._options = options
        self._room = room
        self._sightings = sightings
        self._patience = patience
        self._user_id = options.user_id or ""
        self._log = Log()
        self._is_ours = is_ours
        self._sighting = PendingStart(self._user_id, options.destination, sum(calls.counts.values()))
        self.session_id: str | None = None
        """Daily's, once it is known."""
        self.error: DailyError | None = None
        """Why the start was refused, or nobody knows what became of it."""
        self._trouble = "no word of its end came"
        self._shields: list[anyio.CancelScope] = []
        self._is_let_go = False

    async def run(self, ring_timeout: float) -> Attempt:
        """Start it, and wait for the answer. Whoever cancels this has the call ended; that takes as long as it takes."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        self._sightings.open(self._sighting)
        try:
            # A start that was sent must be seen through, or a phone rings for nobody.
            with self._shielded():
                begun = await self._start()
            if begun is not None:
                return begun
            return await self._answer(ring_timeout)
        except BaseException:
            await self.take_back()
            raise
        finally:
            self._sightings.close(self._sighting)

    def let_go(self) -> None:
        """Nothing of it holds off a cancellation any more: it took too long, as where the journal's disk hangs."""
        self._is_let_go = True
        for scope in self._shields:
            scope.shield = False

    @contextmanager
    def _shielded(self) -> Iterator[None]:
        """For what is seen through, whoever cancels it."""
        with anyio.CancelScope(shield=not self._is_let_go) as scope:
            self._shields.append(scope)
            try:
                yield
            finally:
                self._shields.remove(scope)

    # --- start ----------------------------------------------------------------------------------------------------

    async def _start(self) -> Attempt | None:
        """Send it, once. None if there is a call now; its session id is known then."""
        try:
            session_id = await self._carrier.start(self._options, self._room)
        except UnknownResult as error:
            self.error = error
            self._log.warning("dial.unanswered_start", error=mask(text_of(error)), **self._facts())
            found = await self._find()
            if found is None:
                hint = "there may be a call; it is not dialled again"
                self._log.error("dial.unknown", hint=hint, **self._facts())
                return self._attempt(DialOutcome.UNKNOWN, str(error))
            session_id, self.error = found, None
        except DailyError as error:
            self.error = error
            return await self._refused(error)
        except anyio.get_cancelled_exc_class():
            # By asyncio, which no shield holds off, or with what the carrier waited for: there may be a call all the same.
            self.session_id = await self._find()
            if self.session_id is None:
                self._log.error(
                    "dial.unknown", hint="cancelled while it was started; there may be a call", **self._facts()
                )
            raise
        self.session_id = session_id
        self._sightings.claim(self._sighting, session_id)
        await self._calls.receive(DialoutRequested(session_id=session_id, **self._told()))
        return None

    async def _refused(self, error: DailyError) -> Attempt:
        refused = DialoutRefused.new(error.info or error.error or str(error), **self._told())
        await self._calls.receive(refused)
        self.session_id = refused.session_id  # not before: there is no call to end
        return self._attempt(DialOutcome.REFUSED, str(error))

    def _told(self) -> dict[str, Any]:
        """What is known of it."""
        told = {"destination": self._options.destination, "user_id": self._user_id}
        return told if self._room is None else told | {"room": self._room}

    async def _find(self) -> str | None:
        """Look for the call of a start without an answer: among what is heard, and in the room's presence."""
        looks = list(self._patience.looks)
        with anyio.move_on_after(self._patience.find_within):
            while True:
                if self._is_ours:
                    await self._look()
                if (found := self._sightings.find(self._sighting)) is not None:
                    return found
                self._sighting.news = anyio.Event()
                with anyio.move_on_after(looks.pop(0) if len(looks) > 1 else looks[0]):
                    await self._sighting.news.wait()
                if (found := self._sightings.find(self._sighting)) is not None:
                    return found
        return None

    async def _look(self) -> None:
        try:
            people = await self._carrier.presence(self._room)
        except Exception as error:
            self._log.info("dial.no_presence", error=mask(text_of(error)), **self._facts())
            return
        # Presence lags behind: a call that is known to have ended may still be in it.
        self._sightings.present(self._sighting, (one for one in people if not self._has_ended(one.session_id)))

    def _has_ended(self, session_id: str) -> bool:
        session = self._calls.session(session_id)
        return session is not None and session.ended

    # --- answer ---------------------------------------------------------------------------------------------------

    async def _answer(self, ring_timeout: float) -> Attempt:
        assert self.session_id is not None  # noqa: S101
        try:
            await self._calls.wait_for(self.session_id, State.ANSWERED, ring_timeout)
        except CallEnded as ended:
            if _is_over(ended.session):
                await self._calls.settled(ended.session)  # its end may be ours, and be here before Daily's answer to us
                return self._ended(ended.session)
            return await self._give_up()  # nothing was heard for long; that is no word of Daily's
        except TimeoutError:
            return await self._give_up()
        await anyio.lowlevel.checkpoint_if_cancelled()  # nobody waits for it any more: the call is to be ended
        return self._attempt(DialOutcome.ANSWERED)

    def _ended(self, session: Session) -> Attempt:
        """It was over before anybody could be told that it was answered."""
        if self.was_answered:
            return self._attempt(DialOutcome.ANSWERED)
        if session.stop_requested or session.transfer_requested or session.cause is Cause.TRANSFERRED:
            return self._attempt(DialOutcome.STOPPED)
        if session.cause is Cause.FAILED:
            return self._attempt(DialOutcome.FAILED, session.error_msg)
        return self._attempt(DialOutcome.UNANSWERED)

    async def _give_up(self) -> Attempt:
        session = self._calls.session(self.session_id) if self.session_id is not None else None
        if session is not None:
            await self._calls.settled(session)  # the program may be about to stop it
        stopped = session is not None and (
            session.stop_requested or session.transfer_requested
        )  # by the program, and its end was not told
        with self._shielded():
            over = await self.hang_up(unless_answered=True)
        if self.was_answered:  # in the last moment: he is not called again, even if that was too late for him
            await anyio.lowlevel.checkpoint_if_cancelled()  # nobody waits for it any more: the call is to be ended
            return self._attempt(DialOutcome.ANSWERED)
        if not over:
            return self._not_ended()
        if session is not None and session.heard_at is None:
            return self._deaf()
        return self._attempt(DialOutcome.STOPPED if stopped else DialOutcome.UNANSWERED)

    @property
    def was_answered(self) -> bool:
        """Whether somebody is known to have picked up, be it that the word of it came late."""
        session = self._calls.session(self.session_id) if self.session_id is not None else None
        return session is not None and session.was_answered

    def _not_ended(self) -> Attempt:
        self.error = UnknownResult(
            f"the call could not be ended ({self._trouble}), so it may be there still: look at the room"
        )
        self._log.error("dial.not_ended", error=str(self.error), **self._facts())
        return self._attempt(DialOutcome.UNKNOWN, str(self.error))

    def _deaf(self) -> Attempt:
        """Not a word of the call, not even of its end: whoever picked up would be hung up on, again and again."""
        self.error = UnknownResult(
            "no event of this call came in, so nobody knows whether it was answered; it was ended. See that Daily's webhooks"
            " reach this program (`telstate webhook check`), or that the call client's events do"
        )
        self._log.error("dial.deaf", error=str(self.error), **self._facts())
        return self._attempt(DialOutcome.UNKNOWN, str(self.error))

    async def take_back(self) -> None:
        """End the call, whoever cancels this, and say it if that cannot be done."""
        with self._shielded():
            if self.session_id is not None and not await self.hang_up():
                self._log.error("dial.not_ended", **self._facts())

    # --- end ------------------------------------------------------------------------------------------------------

    async def hang_up(self, *, unless_answered: bool = False) -> bool:
        """End the call; True once it is certain that it is over.

        Its end is told by an event, which may be lost. Then Daily's word counts, that it knows no such call.

        Args:
            unless_answered: let be who picks up before a stop of his call was accepted.
        """
        assert self.session_id is not None  # noqa: S101
        session = self._calls.session(self.session_id) or self._unheard_of(self.session_id)
        accepted, denied = False, 0
        for wait in self._patience.stops:
            if _is_over(session):
                return True
            if unless_answered and not accepted and self.was_answered:
                return False
            try:
                await self._stop(session)
                accepted, denied = True, 0  # who accepts it knows the call: a denial before was of another part
            except Exception as error:  # whatever it is: the call is still there, and nobody else ends it
                denied += is_gone(error)
                self._trouble = mask(text_of(error))
                self._log.info("dial.not_stopped", error=mask(text_of(error)), **self._facts())
            if denied and (accepted or denied >= _DENIALS):
                return await self._conclude(session)
            await self._wait_for_end(session, wait)
            session = self._calls.session(self.session_id) or session
        if _is_over(session):
            return True
        # A call client says nothing of a call that it does not know, but it knows who is there.
        return accepted and not await self._is_present() and await self._conclude(session)

    async def _wait_for_end(self, session: Session, seconds: float) -> None:
        if session.ended and not _is_over(session):  # by the silence limit: what comes now is no move any more
            await anyio.sleep(seconds)
            return
        try:
            with suppress(TimeoutError):
                await self._calls.wait_for(session.session_id, State.STOPPED, seconds)
        except NotRunning:
            await anyio.sleep(seconds)  # Daily needs the time all the same: two denials in one moment are one

    async def _stop(self, session: Session) -> None:
        with self._calls.tracking_request(session.session_id):
            await self._carrier.stop(session)
            await self._keep(StopRequested(session_id=session.session_id))

    async def _keep(self, event: Event) -> None:
        """Where it cannot be kept any more, the call is ended all the same."""
        try:
            await self._calls.receive(event)
        except (NotRunning, JournalError) as error:
            self._log.warning("dial.not_kept", what=event.name, error=mask(text_of(error)), **self._facts())

    async def _is_present(self) -> bool:
        try:
            people = await self._carrier.presence(self._room)
        except Exception:
            return True
        return any(one.session_id == self.session_id for one in people)

    async def _conclude(self, session: Session) -> bool:
        """No event told of the end, but Daily knows no such call: so that whoever waits for the end need not wait any more."""
        for presence in (Presence.UNKNOWN, Presence.GONE):  # an answer counts if it was asked for
            await self._keep(PresenceChecked(session_id=session.session_id, presence=presence))
        return True

    def _unheard_of(self, session_id: str) -> Session:
        """A session that could not be taken in, so that it can be ended all the same."""
        return Session(session_id, Direction.DIALOUT, room=self._room)

    def _attempt(self, outcome: DialOutcome, error: str | None = None) -> Attempt:
        return Attempt(outcome, self.session_id, self._user_id, error)

    def _facts(self) -> dict[str, str | None]:
        return {"session_id": self.session_id, "room": self._room, "user_id": mask(self._user_id)}


def _is_over(session: Session) -> bool:
    """Whether Daily said so. That nothing was heard for long says nothing."""
    return session.end_reported
