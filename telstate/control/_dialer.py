"""The dialer: reach somebody with a limited number of starts, and never with two calls at once.

    async with Dispatcher(router, control=RestControl(api)) as calls, Dialer(calls, room="support") as dialer:
        result = await dialer.dial(PhoneDialout(phone_number="+12025550101"), attempts=3, ring_timeout=30)

Each attempt is one start; the next one begins only when the call before is certainly over. If nobody answers, that is a result.
Exceptions are for misuse, for a journal that fails, and for a dialer that is left. Cancelling `dial` ends the call. If the process
is killed, its calls go on. A dial with an `intent=` is taken up by the next `dial` of that intent, which knows its starts from the journal.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from random import Random
from types import TracebackType
from typing import Any, Self, cast

import anyio
from anyio.abc import TaskGroup
from pydantic import TypeAdapter, ValidationError

from telstate.control._call_limiter import CallLimiter
from telstate.control._call_slots import CallSlots
from telstate.control._call_transport import CallTransport
from telstate.control._dial_attempt import AttemptTimeouts, DialAttempt
from telstate.control._dial_run import DialPlan, DialRun, DialTools
from telstate.control._intent_turn import IntentTurn
from telstate.control._pending_starts import PendingStarts
from telstate.control._results import Confirm, DialResult
from telstate.errors import DefinitionError, NotRunning, UnknownResult
from telstate.events._base import Id
from telstate.options import Dialout, PhoneDialout, SipDialout
from telstate.routing._cancellation import current_task, is_cancelled
from telstate.routing._dispatcher import Dispatcher
from telstate.routing._handlers import is_async
from telstate.routing._log import Log
from telstate.routing._room_calls import RoomCalls

__all__ = ["Dialer"]

_ID: TypeAdapter[str] = TypeAdapter(Id)
_PER_ROOM = 5
"""Daily's default for `max_sip_pstn_sessions_per_room` (docs.daily.co/docs/guides/features/dial-in-dial-out)."""
_PAUSES = (2.0, 10.0, 30.0)
_FIND_WITHIN = 30.0
"""Presence may be 15 seconds behind (docs.daily.co/reference/rest-api/presence)."""
_FIND_INTERVALS = (1.0, 2.0, 4.0, 5.0)
_STOP_TIMEOUTS = (2.0, 4.0, 8.0)
_CHECK_SLOTS_EVERY = 30.0


class _Dial:
    """One call of `dial`, which runs in a task of its own."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.done = anyio.Event()
        self.result: DialResult | None = None
        self.error: Exception | None = None
        self.run: DialRun | None = None

    @property
    def winner(self) -> DialAttempt | None:
        """The attempt that reached somebody."""
        return None if self.run is None else self.run.winner


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
        self._per_room = per_room
        self._per_key = per_key
        self._pauses = tuple(pauses)
        self._timeouts = AttemptTimeouts(find_within, tuple(find_intervals), tuple(stop_timeouts))
        self._random = random or Random()  # noqa: S311 - it varies pauses
        self._pending_starts = PendingStarts()
        limiter = CallLimiter(per_room, per_key)
        self._slots = CallSlots(calls, self._transport, limiter, self._pending_starts, check_slots_every)
        self._dials: set[_Dial] = set()
        self._group: TaskGroup | None = None
        self._tools: DialTools | None = None
        self._open = False
        self._log = Log()

    async def __aenter__(self) -> Self:
        if self._group is not None:
            raise NotRunning("a Dialer can be entered once: make another one")
        if not self._calls.is_open:
            raise NotRunning("enter `async with Dispatcher(…) as calls:` before its dialer")
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._group.start_soon(self._slots.follow)
        self._group.start_soon(self._slots.check)
        pending, timeouts, pauses = self._pending_starts, self._timeouts, self._pauses
        shared = (self._calls, self._transport, self._slots, pending, timeouts, pauses, self._random)
        self._tools = DialTools(*shared, self._group)
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
        options: Dialout | Sequence[Dialout],
        *,
        attempts: int = 3,
        ring_timeout: float = 30.0,
        room: str | None = None,
        key: Hashable = None,
        intent: str | None = None,
        until: float | anyio.Event | None = None,
        confirm: Confirm | None = None,
    ) -> DialResult:
        """Call somebody. Returns when the call is answered, or when no further attempt may be made.

        A refusal that would be repeated ends the dial at once, as does a call that this program stops itself. So does
        `DialOutcome.UNKNOWN`: it is not known whether there is a call.

        Args:
            options: whom to call. Without a `user_id` each attempt gets a new one. Several are called at once: the first answer that
                counts wins, and the other calls are ended.
            attempts: how many starts to make at most, to each of them; refused starts count.
            ring_timeout: seconds from an accepted start to the answer; then the call is ended.
            room: the room that dials, if not the dialer's.
            key: whose limit `per_key` counts: a customer, a trunk, a caller id. All dials without a key share one limit.
            intent: a name of yours for what this call is for, as `order-4711`. Its starts and its result are kept in the journal, so
                that it is reached at most once, over restarts and over workers, with `attempts` starts in all: see the README.
            until: seconds after which it returns with what there is, or an event at which it does. A call that is not answered by
                then is ended.
            confirm: an async function that is given the session and the attempt of an answer, and returns a `Verdict`: whether it counts,
                or was a voicemail, a menu, or a trunk that answers for the person. An answer that does not count is ended, and dialled
                again within the same budget. It is cancelled when the call ends.

        Returns:
            An `Answered`, which is true, or a `NotAnswered`, which is false.

        Raises:
            NotSupported: if the transport cannot carry an option, or needs a room; or if workers share the calls, and no room is
                named. Nothing was sent.
            JournalError: if the call could not be kept in the journal; it was ended. Or if another worker has the room, and the
                request could not be kept; nothing was sent.
            NotRunning: if the dialer or the dispatcher was left; the call was ended.
            UnknownResult: if the transport's own task was cancelled; there may be a call.
            DefinitionError: if an argument makes no sense.
        """
        targets = tuple(options) if isinstance(options, (list, tuple)) else (cast("Dialout", options),)
        _check_arguments(targets, attempts, ring_timeout, key)
        _check_more_arguments(targets, intent, until, confirm)
        plan = DialPlan(targets, self._place(room), attempts, ring_timeout, key, until, self._turn(intent), confirm)
        return await self._carry_out(plan)

    def _place(self, room: str | None) -> RoomCalls:
        """Return the room that dials."""
        self._check_open()
        return self._calls.room_calls(room or self._room)

    def _turn(self, intent: str | None) -> IntentTurn | None:
        if intent is None:
            return None
        return IntentTurn(self._calls.intent_ledger(intent), self._clock, self._check_open())

    def _check_open(self) -> TaskGroup:
        """Return what runs its tasks.

        Raises:
            NotRunning: outside the dialer's block.
        """
        if self._group is None or not self._open:
            raise NotRunning("a dialer dials inside its own block: `async with Dialer(calls) as dialer:`")
        return self._group

    async def _carry_out(self, plan: DialPlan) -> DialResult:
        """Dial as planned, in a task of its own; return the result, and raise as `dial`."""
        group = self._check_open()
        dial = _Dial()
        self._dials.add(dial)
        group.start_soon(self._run, dial, plan)
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
        return {"dials": len(self._dials), "starts": len(self._pending_starts), "slots": len(self._slots)}

    # --- one dial -------------------------------------------------------------------------------------------------

    async def _run(self, dial: _Dial, plan: DialPlan) -> None:
        assert self._tools is not None  # noqa: S101
        self._slots.far_rooms.hold(plan.place)
        try:
            # As a handler it can act while the dispatcher drains, and the pending limit never makes it wait.
            with self._calls.as_handler(), dial.scope:
                dial.run = DialRun(self._tools, plan)
                dial.result = await dial.run.run()
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
            self._slots.far_rooms.release(plan.place.room)
            self._dials.discard(dial)
            dial.done.set()

    # --- cancellation ---------------------------------------------------------------------------------------------

    def _cancel(self, dial: _Dial) -> None:
        """Cancel a dial that nobody waits for any more."""
        if dial.result and dial.winner is not None and self._group is not None:
            # Answered at the moment of the cancellation: the dial is not done before the call is ended.
            dial.done = anyio.Event()
            self._dials.add(dial)
            self._group.start_soon(self._end_answered, dial, dial.winner)
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
                if dial.run is not None:
                    dial.run.abandon()


def _check_arguments(targets: tuple[Any, ...], attempts: Any, ring_timeout: Any, key: Any) -> None:
    for options in targets:
        if not isinstance(options, (SipDialout, PhoneDialout)):
            raise DefinitionError(
                f"dial takes a SipDialout or a PhoneDialout, not {type(options).__name__}; or a list of them"
            )
    if not targets or len({options.destination for options in targets}) < len(targets):
        raise DefinitionError("dial takes one destination, or several that are different")
    if not isinstance(attempts, int) or isinstance(attempts, bool) or attempts < 1:
        raise DefinitionError(f"attempts={attempts!r} must be a whole number of at least 1")
    if not isinstance(ring_timeout, (int, float)) or not ring_timeout > 0:
        raise DefinitionError(f"ring_timeout={ring_timeout!r} must be a number of seconds above 0")
    try:
        hash(key)
    except TypeError as error:
        raise DefinitionError(f"key={key!r} must be hashable: a string, a number, or a tuple of those") from error


def _is_id(value: Any) -> bool:
    """Return whether an event can carry a text as it is. Of another one the ledger would never be found."""
    try:
        return isinstance(value, str) and _ID.validate_python(value) == value
    except ValidationError:
        return False


def _check_more_arguments(targets: tuple[Dialout, ...], intent: Any, until: Any, confirm: Any) -> None:
    if confirm is not None and not is_async(confirm):
        raise DefinitionError(f"confirm= takes an async function that returns a Verdict, not {confirm!r}")
    if intent is not None and not _is_id(intent):
        raise DefinitionError(
            f"intent={intent!r:.100} must be a name of 1 to 1024 characters without spaces at its ends, for example 'order-4711'"
        )
    if intent is not None and any(options.user_id is not None for options in targets):
        raise DefinitionError(
            "with intent= leave user_id out: the calls of an intent are found by the user ids that the dialer makes"
        )
    if (
        until is not None
        and not isinstance(until, anyio.Event)
        and not (isinstance(until, (int, float)) and until >= 0)
    ):
        raise DefinitionError(f"until={until!r} must be a number of seconds from 0 on, or an anyio.Event")
