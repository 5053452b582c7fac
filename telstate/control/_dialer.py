"""The dialer: reach somebody with a limited number of starts, and never with two calls at once.

    async with Dispatcher(router, control=RestControl(api)) as calls, Dialer(calls, room="support") as dialer:
        result = await dialer.dial(PhoneDialout(phone_number="+12025550101"), attempts=3, ring_timeout=30)

Each attempt is one start; the next one begins only when the call before is certainly over. If nobody answers, that is a result.
Exceptions are for misuse, for a journal that fails, and for a dialer that is left. Cancelling `dial` ends the call. If the process
is killed, its calls go on: the journal has them, but no dialer resumes them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from random import Random
from types import TracebackType
from typing import Any, Self, cast
from uuid import uuid4

import anyio
from anyio.abc import TaskGroup

from telstate.calls._session import Session
from telstate.control._call_limiter import CallLimiter, CallSlot
from telstate.control._call_transport import CallTransport
from telstate.control._dial_attempt import AttemptTimeouts, DialAttempt
from telstate.control._error_mapping import error_type_of, is_permanent
from telstate.control._pending_starts import PendingStarts
from telstate.control._results import Answered, Attempt, DialOutcome, DialResult, NotAnswered
from telstate.errors import Busy, DefinitionError, NotRunning, NotSupported, TemporarilyNotAvailable, UnknownResult
from telstate.events import Presence
from telstate.events._masking import mask
from telstate.options import Dialout, PhoneDialout, SipDialout
from telstate.routing._cancellation import current_task, is_cancelled
from telstate.routing._dispatcher import Dispatcher
from telstate.routing._log import Log, text_of

__all__ = ["Dialer"]

_PER_ROOM = 5
"""Daily's default for `max_sip_pstn_sessions_per_room` (docs.daily.co/docs/guides/features/dial-in-dial-out)."""
_PAUSES = (2.0, 10.0, 30.0)
_FIND_WITHIN = 30.0
"""Presence may be 15 seconds behind (docs.daily.co/reference/rest-api/presence)."""
_FIND_INTERVALS = (1.0, 2.0, 4.0, 5.0)
_STOP_TIMEOUTS = (2.0, 4.0, 8.0)
_CHECK_SLOTS_EVERY = 30.0
_LONGEST_PAUSE = 60.0
_JITTER = 0.25
"""Pauses vary by this share: a thousand dials that were refused together should not retry together."""


class _Dial:
    """One call of `dial`, which runs in a task of its own."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.done = anyio.Event()
        self.result: DialResult | None = None
        self.error: Exception | None = None
        self.attempt: DialAttempt | None = None
        """The current attempt."""


class Dialer:
    """Dials. An async context manager inside the dispatcher's block. Leaving it ends calls that ring, not those that were answered.

    All times are seconds of the dispatcher's clock.

    Args:
        calls: the dispatcher that receives the calls' events. Its `control` starts the calls: a `RestControl`, a `ClientControl`,
            a `TransportControl`, or any other `CallTransport`.
        room: the room that dials, unless `dial` is given another; a call client needs none.
        per_room: how many SIP and PSTN sessions a room may have at once, including sessions that the dispatcher knows from
            elsewhere. A dial waits for a free slot. None for no limit.
        per_key: how many calls a key may have at once: see `dial`. None for no limit.
        pauses: the pauses between attempts, varied by a quarter; the last one repeats.
        find_within: how long a start that got no answer is searched for. Leaving the dialer may take twice as long, in real time.
        find_intervals: the pauses between two checks of the room's presence in that search; the last one repeats.
        stop_timeouts: for each stop that is sent, how long to wait for the end of the call.
        check_slots_every: while a dial waits for a slot, how often to ask Daily whether the calls that hold slots still exist. Else
            a call whose end was not reported would hold its slot for a day.
        random: varies the pauses, and nothing else.

    Raises:
        DefinitionError: if the dispatcher has no control that can start calls, or an argument makes no sense.
    """

    def __init__(
        self,
        calls: Dispatcher,
        *,
        room: str | None = None,
        per_room: int | None = _PER_ROOM,
        per_key: int | None = None,
        pauses: Sequence[float] = _PAUSES,
        find_within: float = _FIND_WITHIN,
        find_intervals: Sequence[float] = _FIND_INTERVALS,
        stop_timeouts: Sequence[float] = _STOP_TIMEOUTS,
        check_slots_every: float = _CHECK_SLOTS_EVERY,
        random: Random | None = None,
    ) -> None:
        if not hasattr(calls.control, "start"):
            raise DefinitionError(
                "a dialer needs a dispatcher that can start calls: Dispatcher(router, control=RestControl(api)), or another"
                " CallTransport of telstate.control"
            )
        for name, limit in (("per_room", per_room), ("per_key", per_key)):
            if limit is not None and limit < 1:
                raise DefinitionError(f"{name}={limit!r} must be at least 1, or None for no limit")
        for name, times in (("pauses", pauses), ("find_intervals", find_intervals), ("stop_timeouts", stop_timeouts)):
            if not times or min(times) < 0:
                raise DefinitionError(f"{name}={times!r} must be one or more numbers of seconds, none below 0")
        self._calls = calls
        self._clock = calls.clock
        self._transport = cast("CallTransport", calls.control)
        self._room = room
        self._limiter = CallLimiter(per_room, per_key)
        self._pauses = tuple(pauses)
        self._timeouts = AttemptTimeouts(find_within, tuple(find_intervals), tuple(stop_timeouts))
        self._check_slots_every = check_slots_every
        self._random = random or Random()  # noqa: S311 - it varies pauses
        self._pending_starts = PendingStarts()
        self._slots: dict[str, CallSlot] = {}
        """The slots of live sessions, by session id."""
        self._dials: set[_Dial] = set()
        self._group: TaskGroup | None = None
        self._open = False
        self._log = Log()

    async def __aenter__(self) -> Self:
        if self._group is not None:
            raise NotRunning("a Dialer can be entered once: make another one")
        if not self._calls.is_open:
            raise NotRunning("enter `async with Dispatcher(…) as calls:` before its dialer")
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._group.start_soon(self._follow_sessions)
        self._group.start_soon(self._check_slots)
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._group is not None  # noqa: S101
        self._open = False
        try:
            # In real time, like the dispatcher's drain: a program must end even if a test's clock stands still.
            with anyio.CancelScope(shield=True), anyio.move_on_after(self._timeouts.find_within):
                for dial in tuple(self._dials):
                    self._cancel(dial)
                for dial in tuple(self._dials):
                    await dial.done.wait()
        finally:  # also if asyncio cancels this, which ignores shields
            if self._dials:
                hint = "their calls may still exist"
                self._log.error("dialer.left_unfinished", dials=len(self._dials), hint=hint)
                self._group.start_soon(self._abandon)
            self._group.cancel_scope.cancel()
            await self._group.__aexit__(None, None, None)

    async def dial(
        self,
        options: Dialout,
        *,
        attempts: int = 3,
        ring_timeout: float = 30.0,
        room: str | None = None,
        key: Hashable = None,
    ) -> DialResult:
        """Call somebody. Returns when the call is answered, or when no further attempt may be made.

        A refusal that would be repeated ends the dial at once, as does a call that this program stops itself. So does
        `DialOutcome.UNKNOWN`: it is not known whether there is a call.

        Args:
            options: whom to call. Without a `user_id` each attempt gets a new one.
            attempts: how many starts to make at most; refused starts count.
            ring_timeout: seconds from an accepted start to the answer; then the call is ended.
            room: the room that dials, if not the dialer's.
            key: whose limit `per_key` counts: a customer, a trunk, a caller id. All dials without a key share one limit.

        Returns:
            An `Answered`, which is true, or a `NotAnswered`, which is false.

        Raises:
            NotSupported: if the transport cannot carry an option, or needs a room; or if another worker has the room's events: dial in a
                handler of an event of that room. Nothing was sent.
            JournalError: if the call could not be kept in the journal; it was ended.
            NotRunning: if the dialer or the dispatcher was left; the call was ended.
            UnknownResult: if the transport's own task was cancelled; there may be a call.
            DefinitionError: if an argument makes no sense.
        """
        _check_arguments(options, attempts, ring_timeout, key)
        if self._group is None or not self._open:
            raise NotRunning("a dialer dials inside its own block: `async with Dialer(calls) as dialer:`")
        if (problem := self._calls.problem_with(room or self._room)) is not None:
            raise NotSupported(f"{problem}. Nothing was sent")
        dial = _Dial()
        self._dials.add(dial)
        self._group.start_soon(self._run, dial, options, attempts, ring_timeout, room or self._room, key)
        try:
            with self._calls.awaiting_events():
                await dial.done.wait()
        except BaseException:
            # The dial has a task of its own, so it survives a cancellation by asyncio too, which ignores shields.
            self._cancel(dial)
            # In real time: the caller must be able to leave even if a test's clock stands still.
            with anyio.CancelScope(shield=True), anyio.move_on_after(sum(self._timeouts.stop_timeouts)):
                await dial.done.wait()
            raise
        if dial.error is not None:
            raise dial.error
        assert dial.result is not None  # noqa: S101
        return dial.result

    def sizes(self) -> dict[str, int]:
        """Return how many dials run, how many starts are open, and how many slots are in use."""
        return {"dials": len(self._dials), "starts": len(self._pending_starts), "slots": len(self._limiter)}

    # --- one dial -------------------------------------------------------------------------------------------------

    async def _run(  # noqa: PLR0917 - a task group passes nothing by name
        self,
        dial: _Dial,
        options: Dialout,
        attempts: int,
        ring_timeout: float,
        room: str | None,
        key: Hashable,
    ) -> None:
        try:
            # As a handler it can act while the dispatcher drains, and the pending limit never makes it wait.
            with self._calls.as_handler(), dial.scope:
                dial.result = await self._dial(dial, options, attempts, ring_timeout, room, key)
        except Exception as error:
            dial.error = error
        except anyio.get_cancelled_exc_class() as error:
            task = current_task()
            if is_cancelled() or (task is not None and task.cancelling()):
                raise
            # Cancelled by what the transport waited for: that must not end other dials.
            text = f"the control was cancelled by itself: {error!r}; check the room before you dial again"
            dial.error = UnknownResult(text)
        finally:
            if dial.result is None and dial.error is None:
                dial.error = NotRunning("the dialer was left before the call was answered; the call was ended")
            self._dials.discard(dial)
            dial.done.set()

    async def _dial(  # noqa: PLR0917
        self,
        dial: _Dial,
        options: Dialout,
        attempts: int,
        ring_timeout: float,
        room: str | None,
        key: Hashable,
    ) -> DialResult:
        made: list[DialAttempt] = []
        results: list[Attempt] = []
        while True:
            slot = await self._limiter.acquire(room, key)
            if _last_answered(made) is not None:
                slot.release()
                return self._result(made, results, options)
            if not self._calls.is_open:
                slot.release()
                raise NotRunning("the dispatcher takes no more events, so the call could not be followed: not started")
            identified = _with_user_id(options)
            attempt = dial.attempt = DialAttempt(
                self._calls,
                self._transport,
                identified,
                room,
                self._pending_starts,
                self._timeouts,
                unique_user_id=identified is not options,
            )
            made.append(attempt)
            try:
                results.append(await attempt.run(ring_timeout))
            finally:
                self._assign(slot, attempt.session_id)
                if identified is options:  # other calls with this user id might have been this attempt's
                    for session in self._calls.live():
                        self._observe(session)
            is_last = len(results) == attempts or _is_final(results[-1], attempt)
            if not is_last:
                await self._clock.sleep(self._pause(len(results), attempt))
            if is_last or _last_answered(made) is not None:
                return self._result(made, results, options)

    def _result(self, made: list[DialAttempt], results: list[Attempt], options: Dialout) -> DialResult:
        """Return the result by what is known now: an attempt whose answer was reported late had counted as unanswered."""
        results = [
            result._replace(outcome=DialOutcome.ANSWERED, error=None) if attempt.was_answered else result
            for result, attempt in zip(results, made, strict=True)
        ]
        answered = _last_answered(made)
        deciding = -1 if answered is None or results[-1].outcome is DialOutcome.UNKNOWN else answered
        attempt, outcome = made[deciding], results[deciding].outcome
        session = self._calls.session(attempt.session_id) if attempt.session_id is not None else None
        if outcome is DialOutcome.ANSWERED:
            assert session is not None  # noqa: S101 - or it would not be known as answered
            return Answered(session, tuple(results), options.destination)
        return NotAnswered(outcome, session, tuple(results), options.destination, attempt.error)

    def _pause(self, made: int, attempt: DialAttempt) -> float:
        """Return the seconds before the next attempt. Daily may ask for more."""
        pause = self._pauses[min(made, len(self._pauses)) - 1] * self._random.uniform(1 - _JITTER, 1 + _JITTER)
        requested = attempt.error.retry_after if isinstance(attempt.error, TemporarilyNotAvailable) else 0.0
        return max(pause, min(requested, _LONGEST_PAUSE))

    # --- cancellation ---------------------------------------------------------------------------------------------

    def _cancel(self, dial: _Dial) -> None:
        """Cancel a dial that nobody waits for any more."""
        if dial.result and dial.attempt is not None and self._group is not None:
            # Answered at the moment of the cancellation: the dial is not done before the call is ended.
            dial.done = anyio.Event()
            self._dials.add(dial)
            self._group.start_soon(self._end_answered, dial, dial.attempt)
        dial.scope.cancel()

    async def _end_answered(self, dial: _Dial, attempt: DialAttempt) -> None:
        try:
            with self._calls.as_handler():
                await attempt.end_call()
        finally:
            self._dials.discard(dial)
            dial.done.set()

    async def _abandon(self) -> None:
        """Give unfinished dials the same time once more, then abandon them: a disk that hangs may never come back."""
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(self._timeouts.find_within):
                for dial in tuple(self._dials):
                    await dial.done.wait()
            for dial in self._dials:
                if dial.attempt is not None:
                    dial.attempt.abandon()

    # --- slots ----------------------------------------------------------------------------------------------------

    def _assign(self, slot: CallSlot, session_id: str | None) -> None:
        """Give a slot to the attempt's session until that ends; release it if there is none."""
        session = self._calls.session(session_id) if session_id is not None else None
        if session is None or session.ended or session.session_id in self._slots:
            slot.release()
        else:
            self._slots[session.session_id] = slot
            self._limiter.remove_other(session.session_id)  # counted as another's if its events came first

    async def _follow_sessions(self) -> None:
        """Keep track of which sessions live, until the dispatcher closes."""
        while True:
            try:
                changes = self._calls.changes()
            except NotRunning:  # the dispatcher was shut down, and this dialer is about to be left
                return
            for session_id in (*self._slots, *self._limiter.others):
                if (known := self._calls.session(session_id)) is None or known.ended:
                    self._forget(session_id)
            for session in self._calls.live():
                self._observe(session)
            try:
                async for outcome in changes:
                    if outcome.session is not None:
                        self._observe(outcome.session)
            except Busy:
                continue  # this reader fell behind: look at all sessions, and follow again
            return

    def _observe(self, session: Session) -> None:
        self._pending_starts.observe(session)
        if session.ended:
            self._forget(session.session_id)
        elif session.room is not None and session.session_id not in self._slots and session not in self._pending_starts:
            self._limiter.add_other(session.session_id, session.room)

    def _forget(self, session_id: str) -> None:
        self._limiter.remove_other(session_id)
        if (slot := self._slots.pop(session_id, None)) is not None:
            slot.release()

    async def _check_slots(self) -> None:
        """While a dial waits for a slot, check whether the sessions that hold slots still exist."""
        while True:
            await self._clock.sleep(self._check_slots_every)
            rooms, keys = self._limiter.waiting_rooms, self._limiter.waiting_keys
            holding = [one for one, slot in self._slots.items() if slot.room in rooms or slot.key in keys]
            holding += self._limiter.others_in(rooms)
            if rooms:
                shown = {"rooms": [*rooms][:20], "behind": holding[:20], "sessions": len(holding)}
                self._log.info("dialer.waiting", **shown)
            for session_id in holding:
                await self._check_exists(session_id)

    async def _check_exists(self, session_id: str) -> None:
        session = self._calls.session(session_id)
        try:
            if session is None or session.ended:
                return
            if await self._transport.reconcile(session) is Presence.GONE:
                await self._calls.report_gone(session_id)
        except Exception as error:
            self._log.info("dial.no_presence", session_id=session_id, error=mask(text_of(error)))


def _check_arguments(options: Any, attempts: Any, ring_timeout: Any, key: Any) -> None:
    if not isinstance(options, (SipDialout, PhoneDialout)):
        raise DefinitionError(f"dial takes a SipDialout or a PhoneDialout, not {type(options).__name__}")
    if not isinstance(attempts, int) or isinstance(attempts, bool) or attempts < 1:
        raise DefinitionError(f"attempts={attempts!r} must be a whole number of at least 1")
    if not isinstance(ring_timeout, (int, float)) or not ring_timeout > 0:
        raise DefinitionError(f"ring_timeout={ring_timeout!r} must be a number of seconds above 0")
    try:
        hash(key)
    except TypeError as error:
        raise DefinitionError(f"key={key!r} must be hashable: a string, a number, or a tuple of those") from error


def _with_user_id(options: Dialout) -> Dialout:
    return options if options.user_id is not None else options.model_copy(update={"user_id": str(uuid4())})


def _last_answered(made: list[DialAttempt]) -> int | None:
    """Return the index of the last attempt that is known to be answered by now: an answered number is not called again."""
    return max((index for index, attempt in enumerate(made) if attempt.was_answered), default=None)


def _is_final(result: Attempt, attempt: DialAttempt) -> bool:
    """Return whether there must be no further start after this attempt."""
    if result.outcome is DialOutcome.REFUSED:
        return attempt.error is not None and is_permanent(attempt.error)
    if result.outcome is DialOutcome.FAILED:
        return is_permanent(error_type_of(result.error or "")(result.error or ""))
    return result.outcome is not DialOutcome.UNANSWERED
