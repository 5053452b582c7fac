"""One attempt: a dial-out is started and rings until it is answered or certainly over.

Certain is what an event says, or what Daily answers to a stop. While anything is uncertain nothing else is dialled: two calls for
one intent are worse than none. So a start without an answer is searched for, and a call counts as ended only once that is
confirmed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import anyio
import anyio.lowlevel

from telstate.calls._evidence import Cause, EndSource
from telstate.calls._session import Session
from telstate.calls._table import State
from telstate.control._call_transport import CallTransport
from telstate.control._pending_starts import PendingStart, PendingStarts
from telstate.control._results import Attempt, DialOutcome
from telstate.errors import CallEnded, DailyError, JournalError, NotRunning, UnknownResult
from telstate.events import DialoutRefused, DialoutRequested, Direction, StopRequested
from telstate.events._masking import mask
from telstate.options import Dialout
from telstate.routing._dispatcher import Dispatcher
from telstate.routing._log import Log, text_of
from telstate.routing._presence import is_gone

__all__ = ["AttemptTimeouts", "DialAttempt"]

_DENIALS = 2
"""How often Daily must say that there is no such call before that is believed: a start that was just accepted may not be known to
all of Daily's parts yet. After an accepted stop, once is enough."""


class AttemptTimeouts(NamedTuple):
    """How long an attempt waits, in seconds of the dispatcher's clock."""

    find_within: float
    """Seconds in which a start without an answer is searched for."""
    find_intervals: Sequence[float]
    """Pauses between two checks of the room's presence in that search; the last one repeats."""
    stop_timeouts: Sequence[float]
    """For each stop that is sent, how long to wait for the end."""


class DialAttempt:
    """One attempt.

    Args:
        calls: receives the attempt's events, and knows when it is answered.
        transport: starts and stops the call.
        options: whom to call, with a user id.
        room: the room that dials.
        pending_starts: finds the call if the start gets no answer.
        timeouts: how long to wait.
        unique_user_id: True if the user id was made for this start, so that nobody else has it.
    """

    def __init__(  # noqa: PLR0917 - made in one place
        self,
        calls: Dispatcher,
        transport: CallTransport,
        options: Dialout,
        room: str | None,
        pending_starts: PendingStarts,
        timeouts: AttemptTimeouts,
        unique_user_id: bool = True,
    ) -> None:
        self._calls = calls
        self._clock = calls.clock
        self._transport = transport
        self._options = options
        self._room = room
        self._pending_starts = pending_starts
        self._timeouts = timeouts
        self._user_id = options.user_id or ""
        self._unique_user_id = unique_user_id
        self._log = Log()
        self._start = PendingStart(self._user_id, options.destination, sum(calls.counts.values()))
        self.session_id: str | None = None
        """Daily's id, once it is known."""
        self.error: DailyError | None = None
        """Why the start was refused, or why the outcome is unknown."""
        self._stop_error = "no event of its end came"
        self._shields: list[anyio.CancelScope] = []
        self._is_abandoned = False

    async def run(self, ring_timeout: float) -> Attempt:
        """Start the call and wait for the answer. A cancellation ends the call first, however long that takes."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        self._pending_starts.add(self._start)
        try:
            # A start that was sent must be completed, or a phone rings for nobody.
            with self._shielded():
                not_started = await self._send_start()
            if not_started is not None:
                return not_started
            return await self._wait_for_answer(ring_timeout)
        except BaseException:
            await self.end_call()
            raise
        finally:
            self._pending_starts.remove(self._start)

    def abandon(self) -> None:
        """Let a cancellation through at once: ending the call has taken too long, for example because the journal's disk hangs."""
        self._is_abandoned = True
        for scope in self._shields:
            scope.shield = False

    @property
    def was_answered(self) -> bool:
        """True if it is known by now that somebody picked up, even if that was reported late."""
        session = self._session()
        return session is not None and session.was_answered

    async def end_call(self) -> None:
        """End the call, even during a cancellation. If that fails, log it."""
        with self._shielded():
            if self.session_id is not None and not await self._hang_up():
                self._log.error("dial.not_ended", **self._log_fields())

    @contextmanager
    def _shielded(self) -> Iterator[None]:
        """Protect what must be completed from a cancellation."""
        with anyio.CancelScope(shield=not self._is_abandoned) as scope:
            self._shields.append(scope)
            try:
                yield
            finally:
                self._shields.remove(scope)

    def _session(self) -> Session | None:
        return self._calls.session(self.session_id) if self.session_id is not None else None

    # --- start ----------------------------------------------------------------------------------------------------

    async def _send_start(self) -> Attempt | None:
        """Send the start, once. Returns None if there is a call now, whose session id is then known."""
        try:
            session_id = await self._transport.start(self._options, self._room)
        except UnknownResult as error:
            self.error = error
            self._log.warning("dial.start_unanswered", error=mask(text_of(error)), **self._log_fields())
            found = await self._find_call()
            if found is None:
                hint = "there may be a call; it is not dialled again"
                self._log.error("dial.unknown", hint=hint, **self._log_fields())
                return self._attempt(DialOutcome.UNKNOWN, str(error))
            session_id, self.error = found, None
        except DailyError as error:
            self.error = error
            return await self._refused(error)
        except anyio.get_cancelled_exc_class():
            # Cancelled by asyncio, which ignores shields, or by what the transport waited for: there may still be a call.
            self.session_id = await self._find_call()
            if self.session_id is None:
                hint = "cancelled during the start; there may be a call"
                self._log.error("dial.unknown", hint=hint, **self._log_fields())
            raise
        self.session_id = session_id
        self._pending_starts.confirm(self._start, session_id)
        await self._calls.receive(self._requested(session_id))
        return None

    async def _refused(self, error: DailyError) -> Attempt:
        refused = DialoutRefused.new(error.info or error.error or str(error), **self._event_fields())
        await self._calls.receive(refused)
        self.session_id = refused.session_id  # only now: if the event is not kept, there is no call to end
        return self._attempt(DialOutcome.REFUSED, str(error))

    def _requested(self, session_id: str) -> DialoutRequested:
        return DialoutRequested(session_id=session_id, **self._event_fields())

    def _event_fields(self) -> dict[str, Any]:
        fields = {"destination": self._options.destination, "user_id": self._user_id}
        return fields if self._room is None else fields | {"room": self._room}

    async def _find_call(self) -> str | None:
        """Search for the call of a start without an answer, in events and in the room's presence."""
        intervals = list(self._timeouts.find_intervals)
        with self._clock.move_on_after(self._timeouts.find_within):
            while True:
                for session in self._calls.live():  # the dialer's reader of changes may lag, or be cancelled already
                    self._pending_starts.observe(session)
                if self._unique_user_id:
                    await self._check_presence()
                if (found := self._pending_starts.find(self._start)) is not None:
                    return found
                self._start.changed = anyio.Event()
                with self._clock.move_on_after(intervals.pop(0) if len(intervals) > 1 else intervals[0]):
                    await self._start.changed.wait()
                if (found := self._pending_starts.find(self._start)) is not None:
                    return found
        return None

    async def _check_presence(self) -> None:
        try:
            participants = await self._transport.presence(self._room)
        except Exception as error:
            self._log.info("dial.no_presence", error=mask(text_of(error)), **self._log_fields())
            return
        # Presence lags behind: it may still list a call that is known to have ended.
        self._start.observe_presence(one for one in participants if not self._has_ended(one.session_id))

    def _has_ended(self, session_id: str) -> bool:
        session = self._calls.session(session_id)
        return session is not None and session.ended

    # --- answer ---------------------------------------------------------------------------------------------------

    async def _wait_for_answer(self, ring_timeout: float) -> Attempt:
        assert self.session_id is not None  # noqa: S101
        try:
            await self._calls.wait_for(self.session_id, State.ANSWERED, ring_timeout)
        except CallEnded as ended:
            if _is_over(ended.session):
                # We may have asked for the end, whose event can arrive before Daily's answer to the request.
                await self._calls.settled(ended.session)
                return self._attempt_of_ended(ended.session)
            return await self._ring_timed_out()  # ended by the silence limit: Daily has not said that it is over
        except TimeoutError:
            return await self._ring_timed_out()
        await anyio.lowlevel.checkpoint_if_cancelled()  # if cancelled, nobody waits for this call: end it
        return self._attempt(DialOutcome.ANSWERED)

    def _attempt_of_ended(self, session: Session) -> Attempt:
        """Return the attempt of a call that ended before `wait_for` could see the answer."""
        if self.was_answered:
            return self._attempt(DialOutcome.ANSWERED)
        if _was_stopped_by_program(session) or session.cause is Cause.TRANSFERRED:
            return self._attempt(DialOutcome.STOPPED)
        if session.cause is Cause.FAILED:
            return self._attempt(DialOutcome.FAILED, session.error_msg)
        return self._attempt(DialOutcome.UNANSWERED)

    async def _ring_timed_out(self) -> Attempt:
        """End the call, unless it is answered at the last moment."""
        session = self._session()
        if session is not None:
            await self._calls.settled(session)  # the program may be about to stop it
        stopped_by_program = session is not None and _was_stopped_by_program(session)  # and its end was not reported
        with self._shielded():
            ended = await self._hang_up(unless_answered=True)
        if self.was_answered:  # at the last moment: they are not called again, even if their call was ended
            await anyio.lowlevel.checkpoint_if_cancelled()  # if cancelled, nobody waits for this call: end it
            return self._attempt(DialOutcome.ANSWERED)
        if not ended:
            return self._unknown(
                "dial.not_ended",
                f"the call could not be ended ({self._stop_error}), so it may still exist: check the room",
            )
        if session is not None and session.heard_at is None:
            # Every further attempt would hang up on the person who answers it.
            return self._unknown(
                "dial.no_events",
                "no event of this call arrived, so it is not known whether it was answered; it was ended. Check that Daily's"
                " webhooks reach this program (`telstate webhook check`), or that the call client's events do",
            )
        return self._attempt(DialOutcome.STOPPED if stopped_by_program else DialOutcome.UNANSWERED)

    def _unknown(self, event: str, text: str) -> Attempt:
        self.error = UnknownResult(text)
        self._log.error(event, error=text, **self._log_fields())
        return self._attempt(DialOutcome.UNKNOWN, text)

    # --- end ------------------------------------------------------------------------------------------------------

    async def _hang_up(self, *, unless_answered: bool = False) -> bool:
        """End the call. Returns True once it is certain that it is over.

        An event reports the end, and may be lost. Then Daily's answer that there is no such call decides.

        Args:
            unless_answered: keep the call if it is answered before Daily accepts a stop.
        """
        assert self.session_id is not None  # noqa: S101
        session = self._session() or self._unrecorded_session(self.session_id)
        accepted, denials = False, 0
        for timeout in self._timeouts.stop_timeouts:
            if _is_over(session):
                return True
            if unless_answered and not accepted and self.was_answered:
                return False
            try:
                await self._stop(session)
                accepted, denials = True, 0  # Daily knows the call: an earlier denial came from another part
            except Exception as error:  # of any kind: the call still exists, and nobody else ends it
                denials += is_gone(error)
                self._stop_error = mask(text_of(error))
                self._log.info("dial.not_stopped", error=self._stop_error, **self._log_fields())
            if denials and (accepted or denials >= _DENIALS):
                return await self._report_gone()
            await self._wait_for_end(session, timeout)
            session = self._session() or session
        if _is_over(session):
            return True
        # A call client does not say that it knows no such call, but it knows who is in the room.
        return accepted and not await self._is_present() and await self._report_gone()

    async def _wait_for_end(self, session: Session, seconds: float) -> None:
        if session.ended and not _is_over(session):  # by the silence limit: further events are no transition
            await self._clock.sleep(seconds)
            return
        try:
            with suppress(TimeoutError):
                await self._calls.wait_for(session.session_id, State.STOPPED, seconds)
        except NotRunning:
            await self._clock.sleep(seconds)  # Daily needs the time: two denials at one moment count as one

    async def _stop(self, session: Session) -> None:
        with self._calls.tracking_request(session.session_id):
            await self._transport.stop(session)
            with self._unkept_is_logged("stop-requested"):
                await self._calls.receive(StopRequested(session_id=session.session_id))

    async def _report_gone(self) -> bool:
        """Record that Daily knows no such call, though no event said so: this wakes all that wait for the end."""
        assert self.session_id is not None  # noqa: S101
        with self._unkept_is_logged("presence-checked"):
            await self._calls.report_gone(self.session_id)
        return True

    @contextmanager
    def _unkept_is_logged(self, event: str) -> Iterator[None]:
        """Go on if an event cannot be kept: the call must be ended all the same."""
        try:
            yield
        except (NotRunning, JournalError) as error:
            self._log.warning("dial.not_kept", what=event, error=mask(text_of(error)), **self._log_fields())

    async def _is_present(self) -> bool:
        try:
            participants = await self._transport.presence(self._room)
        except Exception:
            return True
        return any(one.session_id == self.session_id for one in participants)

    def _unrecorded_session(self, session_id: str) -> Session:
        """Return a session for a call whose start could not be recorded, so that it can be stopped."""
        return Session(session_id, Direction.DIALOUT, room=self._room)

    def _attempt(self, outcome: DialOutcome, error: str | None = None) -> Attempt:
        return Attempt(outcome, self.session_id, self._user_id, error)

    def _log_fields(self) -> dict[str, str | None]:
        return {"session_id": self.session_id, "room": self._room, "user_id": mask(self._user_id)}


def _is_over(session: Session) -> bool:
    """Return whether Daily said that the call is over. A silence limit does not say that."""
    return session.end_source is EndSource.TOLD


def _was_stopped_by_program(session: Session) -> bool:
    """Return whether the program asked for the end; to be checked before the attempt itself does."""
    return session.stop_requested or session.transfer_requested
