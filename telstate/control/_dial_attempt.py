"""One attempt: a dial-out is started and rings until it is answered or certainly over.

Certain is what an event says, or what Daily answers to a stop. While anything is uncertain nothing else is dialled: two calls for
one intent are worse than none. So a start without an answer is searched for, and a call counts as ended only once that is
confirmed.

If events may have been missed while the call went on, that none of an answer came says nothing: the process was away, stood still, or was
cut off. Daily may still report an answer, so that is waited for. Then Daily's own facts decide: a call that it can stop and whose callee is
no participant was not answered. Without such a fact the outcome is unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, repeat
from typing import Any, NamedTuple

import anyio
import anyio.lowlevel

from telstate.calls._evidence import Cause, EndSource, Evidence
from telstate.calls._session import Session
from telstate.calls._table import State
from telstate.control._call_transport import CallTransport, RoomParticipant
from telstate.control._pending_starts import PendingStart, PendingStarts
from telstate.control._results import Attempt, DialOutcome
from telstate.errors import (
    CallEnded,
    DailyError,
    DefinitionError,
    JournalError,
    NotRunning,
    NotSupported,
    UnknownResult,
)
from telstate.events import Direction, SessionAnnotated, StopRequested
from telstate.events._masking import mask
from telstate.options import Dialout
from telstate.routing._dispatcher import Dispatcher
from telstate.routing._log import Log, text_of
from telstate.routing._presence import is_gone
from telstate.routing._room_calls import RoomCalls
from telstate.routing._starting import refused_event, requested_event

__all__ = ["NOT_HEARD", "AttemptTimeouts", "DialAttempt"]

_DENIALS = 2
"""How often Daily must say that there is no such call before that is believed: a start that was just accepted may not be known to
all of Daily's parts yet. After an accepted stop, once is enough."""

_LATE = 0.5
"""Seconds by which a timeout is late if the process stood still: what came meanwhile is not taken in yet."""
NOT_HEARD = (
    "events may have been missed while this call went on (the process was away, stood still, or was cut off), and an answer may be among"
    " them; it is not dialled again"
)


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
        place: the room that dials.
        pending_starts: finds the call if the start gets no answer.
        timeouts: how long to wait.
        unique_user_id: True if the user id was made for this start, so that nobody else has it.
        notes: the notes of its session, which is found by its user id: give none with one that is not unique.
    """

    def __init__(  # noqa: PLR0917 - made in one place
        self,
        calls: Dispatcher,
        transport: CallTransport,
        options: Dialout,
        place: RoomCalls,
        pending_starts: PendingStarts,
        timeouts: AttemptTimeouts,
        unique_user_id: bool = True,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        self._calls = calls
        self._clock = calls.clock
        self._transport = transport
        self._options = options
        self._place = place
        self._room = place.room
        self._pending_starts = pending_starts
        self._timeouts = timeouts
        self._user_id = options.user_id or ""
        self._unique_user_id = unique_user_id
        self._notes = dict(notes or {})
        self._log = Log()
        self._start = PendingStart(self._user_id, options.destination, sum(calls.counts.values()))
        for session in () if unique_user_id else self._known_sessions():
            if session.user_id == self._user_id:
                self._start.exclude(session.session_id)
        self.session_id: str | None = None
        """Daily's id, once it is known."""
        self.started_at: float | None = None
        """When it began, in Unix seconds."""
        self.is_over: bool = True
        """False once there may be a call that has not ended."""
        self.error: DailyError | None = None
        """Why the start was refused, or why the outcome is unknown."""
        self.is_unsent: bool = False
        """True if nothing was sent, as the transport cannot carry it."""
        self._stop_error = "no event of its end came"
        self._is_searching = self._is_given_up = False
        self._was_away = False
        """True if nobody took in events while its call may have gone on, so far as its session does not say that itself."""
        self._standstills = calls.standstills
        """How often the process had stood still before it."""
        self._waited_after: int | None = None
        """As many of them there had been when it was let ring for longer, as events may have been missed."""
        self._is_stop_accepted = self._rang_on = False
        """That Daily has ended the call at our request; and that nobody had answered it by then, as the room's participants say."""
        self._shields: list[anyio.CancelScope] = []
        self._is_abandoned = False

    async def run(self, ring_timeout: float) -> Attempt:
        """Start the call and wait for the answer. A cancellation ends the call first, however long that takes."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        self._pending_starts.add(self._start)
        self.started_at = self._clock.now()
        self.is_over = False
        try:
            # A start that was sent must be completed, or a phone rings for nobody.
            with self._shielded():
                not_started = await self._send_start()
            if not_started is not None:
                return not_started
            found = await self._wait_for_answer(ring_timeout)
            return await self._hear_late(found, self._timeouts.find_within)
        except BaseException:
            await self.end_call()
            raise
        finally:
            self._pending_starts.remove(self._start)

    async def resume(self, started_at: float, ring_timeout: float, *, was_away: bool = False) -> Attempt:
        """Find the call of a start that an earlier process has made, or was about to, and wait for its answer. Nothing is started.

        Args:
            started_at: when that process kept it.
            ring_timeout: from then on; 0 to end the call once it is found.
            was_away: True if nobody took in events since that process ended.
        """
        await anyio.lowlevel.checkpoint_if_cancelled()
        self._start.after_event = 0
        self._pending_starts.add(self._start)
        self.started_at = started_at
        self.is_over = False
        try:
            self._is_searching = True
            self.session_id = await self._find_call()
            self._is_searching = False
            if self.session_id is None:
                return self._unknown(
                    "dial.unknown",
                    "the process that dialled ended before it knew what came of this start, and no call of it was found; it is not"
                    " dialled again. Check the room",
                )
            self._pending_starts.confirm(self._start, self.session_id)
            session = self._session()
            # What the journal had is evidence of each gap since. Of a call that it did not know nothing was heard.
            is_known = session is not None and session.requested_at is not None
            self._was_away = was_away and not is_known
            if not is_known:
                await self._place.keep(requested_event(self.session_id, self._options, self._room))
            await self._note()
            if self.may_be_answered:
                self._waited_after = self._calls.standstills
            if self._is_given_up or not ring_timeout:
                return await self._wait_for_answer(0.0)
            resumed_at = self._clock.now() or started_at
            left = max(0.0, ring_timeout - max(0.0, resumed_at - started_at))
            least = self._timeouts.find_within if self.may_be_answered else 0.0
            found = await self._wait_for_answer(max(left, least))
            return await self._hear_late(found, resumed_at + least - (self._clock.now() or resumed_at))
        except BaseException:
            await self.end_call()
            raise
        finally:
            self._pending_starts.remove(self._start)

    async def _hear_late(self, found: Attempt, seconds: float) -> Attempt:
        """Give Daily the time to report an answer that it could not deliver. If none comes, nobody knows whether there was one.

        For how long Daily tries, and whether it tries again at all, is a setting of the webhook: silence says nothing.
        """
        if found.outcome not in (DialOutcome.UNANSWERED, DialOutcome.FAILED) or not self.may_be_answered:
            return found
        with self._clock.move_on_after(max(0.0, seconds)):
            for pause in self._find_intervals():
                if self.was_answered:
                    break
                await self._clock.sleep(pause)
        return self.result(DialOutcome.ANSWERED) if self.was_answered else self._unknown("dial.not_heard", NOT_HEARD)

    def give_up_when_found(self) -> bool:
        """If it searches for the call of an earlier process, let it end that call once it is found. Returns False if it does not search."""
        self._is_given_up = self._is_searching
        return self._is_searching

    async def note_ahead(self) -> None:
        """Before it is kept: write the notes of its session, in the partition of its room. So it has them from its first event on, also after a kill."""
        if self._notes:
            await self._place.keep(SessionAnnotated(user_id=self._user_id, room=self._room, notes=self._notes))

    async def _note(self) -> None:
        """Write the notes on a session that an earlier process started, in whichever room that is: an older telstate wrote none ahead."""
        if self._notes and self.session_id is not None:
            with self._unkept_is_logged("session-annotated"):
                await self._place.keep(SessionAnnotated(session_id=self.session_id, notes=self._notes))

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

    @property
    def may_be_answered(self) -> bool:
        """True if an answer may be among events that were missed, and Daily says nothing against it."""
        session = self._session()
        if session is None:
            return self._was_away
        stood_still = self._calls.standstills != self._standstills
        has_gap = self._was_away or stood_still or bool(session._evidence & Evidence.GAP)
        is_unanswered = self._rang_on or bool(session._evidence & Evidence.NOT_PICKED_UP)
        return has_gap and not session.was_answered and not is_unanswered

    async def end_call(self) -> bool:
        """End the call, even during a cancellation. If that fails, log it. Returns True once it is certain that it is over."""
        with self._shielded():
            if self.session_id is None:
                return self.is_over
            self.is_over = await self._hang_up()
            if not self.is_over:
                self._log.error("dial.not_ended", **self._log_fields())
        return self.is_over

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
            if self._place.is_elsewhere:
                session_id, refusal = await self._place.start(self._options)
                if session_id is None or refusal is not None:
                    self.session_id, self.error = session_id, refusal
                    return self.result(DialOutcome.REFUSED, str(refusal))
                is_kept = True
            else:
                session_id, is_kept = await self._transport.start(self._options, self._room), False
        except UnknownResult as error:
            self.error = error
            self._log.warning("dial.start_unanswered", error=mask(text_of(error)), **self._log_fields())
            found = await self._find_call()
            if found is None:
                hint = "there may be a call; it is not dialled again"
                self._log.error("dial.unknown", hint=hint, **self._log_fields())
                return self.result(DialOutcome.UNKNOWN, str(error))
            session_id, self.error, is_kept = found, None, False
        except DailyError as error:
            self.error = error
            self.is_over = True
            return await self._refused(error)
        except (NotSupported, DefinitionError, ValueError, TypeError):
            self.is_over = self.is_unsent = True
            raise
        except anyio.get_cancelled_exc_class():
            # Cancelled by asyncio, which ignores shields, or by what the transport waited for: there may still be a call.
            self.session_id = await self._find_call()
            if self.session_id is None:
                hint = "cancelled during the start; there may be a call"
                self._log.error("dial.unknown", hint=hint, **self._log_fields())
            raise
        self.session_id = session_id
        self._pending_starts.confirm(self._start, session_id)
        if not is_kept:
            await self._place.keep(requested_event(session_id, self._options, self._room))
        return None

    async def _refused(self, error: DailyError) -> Attempt:
        refused = refused_event(error, self._options, self._room)
        await self._place.keep(refused)
        self.session_id = refused.session_id  # only now: if the event is not kept, there is no call to end
        return self.result(DialOutcome.REFUSED, str(error))

    async def _find_call(self) -> str | None:
        """Search for the call of a start without an answer, in events and in the room's presence. Neither waits for the other."""
        found: str | None = None
        with self._clock.move_on_after(self._timeouts.find_within):
            async with anyio.create_task_group() as group:
                if self._unique_user_id:
                    group.start_soon(self._watch_presence)
                found = await self._find_in_events()
                group.cancel_scope.cancel()
        return found

    async def _find_in_events(self) -> str:
        for seconds in self._find_intervals():
            for session in self._known_sessions():  # the dialer's reader of changes may lag, or be cancelled already
                self._pending_starts.observe(session)
            self._start.changed = anyio.Event()
            if (found := self._pending_starts.find(self._start)) is not None:
                return found
            with self._clock.move_on_after(seconds):
                await self._start.changed.wait()
            if (found := self._pending_starts.find(self._start)) is not None:
                return found
        raise AssertionError

    async def _watch_presence(self) -> None:
        for seconds in self._find_intervals():
            await self._check_presence()
            await self._clock.sleep(seconds)

    def _find_intervals(self) -> Iterator[float]:
        """Yield the pauses of the search; the last one repeats."""
        intervals = self._timeouts.find_intervals
        return chain(intervals, repeat(intervals[-1]))

    def _known_sessions(self) -> list[Session]:
        return [*self._calls.sessions(), *self._place.sessions()]

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
            await self._ring(self.session_id, ring_timeout)
        except CallEnded as ended:
            if _is_over(ended.session):
                # We may have asked for the end, whose event can arrive before Daily's answer to the request.
                await self._calls.settled(ended.session)
                return self._attempt_of_ended(ended.session)
            return await self._ring_timed_out()  # ended by the silence limit: Daily has not said that it is over
        except TimeoutError:
            return await self._ring_timed_out()
        await anyio.lowlevel.checkpoint_if_cancelled()  # if cancelled, nobody waits for this call: end it
        return self.result(DialOutcome.ANSWERED)

    async def _ring(self, session_id: str, seconds: float) -> None:
        """Wait for the answer, and for longer where it may not have been heard in time.

        Raises:
            CallEnded: if the call ends before.
            TimeoutError: if nobody answers.
        """
        begun = self._clock.now() or 0.0
        try:
            await self._calls.wait_for(session_id, State.ANSWERED, seconds)
        except TimeoutError:
            late, standstills = (self._clock.now() or 0.0) - begun - seconds, self._calls.standstills
            is_doubtful = self.may_be_answered and self._waited_after != standstills
            if late < _LATE and not is_doubtful:
                raise
            self._waited_after = standstills
            longest = self._timeouts.find_within
            await self._ring(session_id, longest if is_doubtful else min(late, longest))

    def _attempt_of_ended(self, session: Session) -> Attempt:
        """Return the attempt of a call that ended before `wait_for` could see the answer."""
        if self.was_answered:
            return self.result(DialOutcome.ANSWERED)
        if _was_stopped_by_program(session) or session.cause is Cause.TRANSFERRED:
            return self.result(DialOutcome.STOPPED)
        if session.cause is Cause.FAILED:
            return self.result(DialOutcome.FAILED, session.error_msg)
        return self.result(DialOutcome.UNANSWERED, session.error_msg)

    async def _ring_timed_out(self) -> Attempt:
        """End the call, unless it is answered at the last moment."""
        session = self._session()
        if session is not None:
            await self._calls.settled(session)  # the program may be about to stop it
        stopped_by_program = session is not None and _was_stopped_by_program(session)  # and its end was not reported
        is_ringing = self.may_be_answered and await self._is_ringing()
        with self._shielded():
            ended = await self._hang_up(unless_answered=True)
        self._rang_on = is_ringing and self._is_stop_accepted
        if self.was_answered:  # at the last moment: they are not called again, even if their call was ended
            await anyio.lowlevel.checkpoint_if_cancelled()  # if cancelled, nobody waits for this call: end it
            return self.result(DialOutcome.ANSWERED)
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
        return self.result(DialOutcome.STOPPED if stopped_by_program else DialOutcome.UNANSWERED)

    def _unknown(self, event: str, text: str) -> Attempt:
        self.error = UnknownResult(text)
        self._log.error(event, error=text, **self._log_fields())
        return self.result(DialOutcome.UNKNOWN, text)

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
                self._is_stop_accepted = True
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
        by_dialer = None if _was_stopped_by_program(session) else True
        with self._calls.tracking_request(session.session_id):
            await self._transport.stop(session)
            with self._unkept_is_logged("stop-requested"):
                await self._place.keep(StopRequested(session_id=session.session_id, by_dialer=by_dialer))

    async def _report_gone(self) -> bool:
        """Record that Daily knows no such call, though no event said so: this wakes all that wait for the end.

        Where another worker has the room, it is over only when that worker shows it: an answer before that may not be known here yet.
        """
        assert self.session_id is not None  # noqa: S101
        with self._unkept_is_logged("presence-checked"):
            await self._place.report_gone(self.session_id)
        if not self._place.is_elsewhere:
            return True
        with suppress(TimeoutError, CallEnded, NotRunning):
            await self._calls.wait_for(self.session_id, State.STOPPED, self._timeouts.find_within)
        session = self._session()
        self._stop_error = "no worker has shown its end: its room has no owner"
        return session is not None and session.ended

    @contextmanager
    def _unkept_is_logged(self, event: str) -> Iterator[None]:
        """Go on if an event cannot be kept: the call must be ended all the same."""
        try:
            yield
        except (NotRunning, JournalError) as error:
            self._log.warning("dial.not_kept", what=event, error=mask(text_of(error)), **self._log_fields())

    async def _is_present(self) -> bool:
        participants = await self._participants()
        return participants is None or any(one.session_id == self.session_id for one in participants)

    async def _is_ringing(self) -> bool:
        """Return whether Daily lists who is in the room, and not the callee. A list without anybody says nothing: whoever dials is there."""
        participants = await self._participants()
        return bool(participants) and all(one.session_id != self.session_id for one in participants or ())

    async def _participants(self) -> Sequence[RoomParticipant] | None:
        try:
            return await self._transport.presence(self._room)
        except Exception:
            return None

    def _unrecorded_session(self, session_id: str) -> Session:
        """Return a session for a call whose start could not be recorded, so that it can be stopped."""
        return Session(session_id, Direction.DIALOUT, room=self._room)

    def result(self, outcome: DialOutcome, error: str | None = None) -> Attempt:
        """Return what is known of it now."""
        session = self._session()
        rang = session is not None and (session.connected_at is not None or session.was_answered)
        times = (self.started_at, self._clock.now())
        return Attempt(outcome, self.session_id, self._user_id, error, self._options.destination, *times, rang)

    def _log_fields(self) -> dict[str, str | None]:
        return {"session_id": self.session_id, "room": self._room, "user_id": mask(self._user_id)}


def _is_over(session: Session) -> bool:
    """Return whether Daily said that the call is over. A silence limit does not say that."""
    return session.end_source is EndSource.TOLD


def _was_stopped_by_program(session: Session) -> bool:
    """Return whether the program asked for the end, and not a dialer that gave the call up, in this process or in an earlier one."""
    given_up = bool(session._evidence & Evidence.GIVEN_UP)
    return session.transfer_requested or (session.stop_requested and not given_up)
