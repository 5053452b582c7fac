"""One dial: its attempts, one after another, until somebody is reached or no further attempt may be made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from functools import partial
from itertools import count
from random import Random
from typing import Any, NamedTuple, TypeAlias
from uuid import uuid4

import anyio
from anyio.abc import TaskGroup

from telstate.calls._intents import DialRecord, Intent
from telstate.calls._table import State
from telstate.control._call_limiter import CallSlot
from telstate.control._call_slots import CallSlots
from telstate.control._call_transport import CallTransport
from telstate.control._dial_attempt import NOT_HEARD, AttemptTimeouts, DialAttempt
from telstate.control._error_mapping import error_type_of, is_about_setup, is_permanent
from telstate.control._intent_turn import ClaimLost, IntentTurn
from telstate.control._pending_starts import PendingStarts
from telstate.control._recorded import answered_session, attempt_of, error_of
from telstate.control._results import Answered, Attempt, Confirm, DialOutcome, DialResult, NotAnswered, Verdict
from telstate.errors import (
    DailyError,
    DefinitionError,
    NotRunning,
    NotSupported,
    TelstateError,
    TemporarilyNotAvailable,
)
from telstate.events._masking import mask
from telstate.options import Dialout
from telstate.routing._dispatcher import Dispatcher
from telstate.routing._log import Log, text_of
from telstate.routing._room_calls import RoomCalls

__all__ = ["DialPlan", "DialRun", "DialTools", "Gate", "cancel_when", "is_for_good", "setup_error_of"]

_Work = Callable[[anyio.CancelScope], Awaitable[None]]
"""Makes or resumes one attempt, inside a scope that ends it."""

_LONGEST_PAUSE = 60.0
_JITTER = 0.25
"""Pauses vary by this share: a thousand dials that were refused together should not retry together."""
_ENDS_DIAL = frozenset({DialOutcome.STOPPED, DialOutcome.UNKNOWN})
_REFUSALS = frozenset({DialOutcome.REFUSED, DialOutcome.FAILED})


Gate: TypeAlias = Callable[[], Awaitable["bool | str"]]
"""Is asked when all is ready for a start: True sends it. False ends the dial, and a text ends its intent with that as its result."""


class DialTools(NamedTuple):
    """What all dials of a dialer share."""

    calls: Dispatcher
    transport: CallTransport
    slots: CallSlots
    pending_starts: PendingStarts
    timeouts: AttemptTimeouts
    pauses: Sequence[float]
    random: Random
    group: TaskGroup


class DialPlan(NamedTuple):
    """What a program asked for."""

    targets: tuple[Dialout, ...]
    place: RoomCalls
    attempts: int
    """For each target."""
    ring_timeout: float
    key: Hashable
    until: float | anyio.Event | None = None
    turn: IntentTurn | None = None
    confirm: Confirm | None = None
    gate: Gate | None = None
    notes: Mapping[str, Any] | None = None
    """What its sessions are to have as notes."""
    still: Callable[[], bool] | None = None
    """Is asked once more when a start is kept and about to be sent: what the gate knew may have changed. False ends the dial."""


class _Made(NamedTuple):
    """An attempt, and what is known of it. Of one that another process made there is no `dialled`."""

    place: int
    """Among all of the dial, in order of their beginning."""
    result: Attempt
    dialled: DialAttempt | None = None
    error: DailyError | None = None


class DialRun:
    """One dial.

    Args:
        tools: the dialer's.
        plan: what to do.
    """

    def __init__(self, tools: DialTools, plan: DialPlan) -> None:
        self._tools = tools
        self._calls = tools.calls
        self._plan = plan
        self._made: list[_Made] = []
        self._places = count()
        self._winner: DialAttempt | None = None
        """The attempt that reached somebody."""
        self._is_left_open = False
        """True if a call may go on that nobody follows."""
        self._is_held_back = False
        """True once the gate has let no start through."""
        self._current: dict[DialAttempt, anyio.CancelScope] = {}
        """The attempts that run."""
        self._scopes: list[anyio.CancelScope] = []
        """Of the attempts of this round, also of those that wait for their turn."""
        self._log = Log()
        self._until = _point_in_time(plan.until, self._now())

    @property
    def winner(self) -> DialAttempt | None:
        """The attempt that reached somebody; None if there is none, or another process made it."""
        return self._winner

    def abandon(self) -> None:
        """Let a cancellation through at once: ending the calls has taken too long."""
        for attempt in self._current:
            attempt.abandon()

    def _now(self) -> float:
        return self._calls.clock.now() or 0.0

    async def run(self) -> DialResult:
        """Dial, within the plan's time; return the result."""
        while True:
            with suppress(ClaimLost):  # it stood still, and another process dials: wait for what comes of that
                return await self._run()
            self._made, self._winner, self._is_left_open = [], None, False

    async def _run(self) -> DialResult:
        turn = self._plan.turn
        async with AsyncExitStack() as stack:
            with self._time_limit():
                if turn is not None:
                    intent = await stack.enter_async_context(turn.held())
                    self._made = [_recorded(*one) for one in enumerate(intent.records) if not one[1].is_open]
                    if intent.outcome is not None:
                        return self._result()
                    await self._resume_open(intent)
                await self._dial()
            result = self._result()
            if turn is not None and self._is_over() and not self._is_left_open and not self._hit_setup(result):
                await self._seal(turn, result)
            return result

    async def _seal(self, turn: IntentTurn, result: DialResult) -> None:
        """Let the turn end the intent with this result, and keep an answer that was reported late."""
        turn.outcome = result.outcome
        for made, attempt in zip(self._made, result.attempts, strict=True):
            if attempt.outcome is not made.result.outcome:
                await turn.end(attempt)

    @contextmanager
    def _time_limit(self) -> Iterator[None]:
        """Cancel what runs when the plan's time is over."""
        until, watching = self._until, anyio.CancelScope()
        seconds = max(0.0, until - self._now()) if isinstance(until, float) else None
        with self._calls.clock.move_on_after(seconds) as scope:
            if seconds == 0 or (isinstance(until, anyio.Event) and until.is_set()):
                scope.cancel()
            elif isinstance(until, anyio.Event):
                self._tools.group.start_soon(cancel_when, until, scope, watching)
            try:
                yield
            finally:
                watching.cancel()

    # --- attempts -------------------------------------------------------------------------------------------------

    async def _dial(self) -> None:
        """Make attempts until no further one may be made: in each round one for each target, all at once."""
        while (
            not self._is_held_back
            and not self._is_over()
            and (due := [one for one in self._plan.targets if self._may_dial(one)])
        ):
            if self._made and self._made[-1].dialled is not None:
                await self._calls.clock.sleep(self._pause())
                if self._is_over():
                    return
            await self._round(due)

    def _may_dial(self, target: Dialout) -> bool:
        """Return whether a further start to a target is within its budget, and would not be refused again."""
        made = [one for one in self._made if one.result.destination == target.destination]
        return len(made) < self._plan.attempts and not any(map(_is_permanent, made))

    async def _round(self, due: list[Dialout]) -> None:
        await self._at_once([partial(self._attempt, target) for target in due])

    async def _at_once(self, works: Sequence[_Work]) -> None:
        """Do all of it, until the first answer that counts."""
        self._scopes = [anyio.CancelScope() for _ in works]
        try:
            if len(works) == 1:
                await works[0](self._scopes[0])
                return
            async with anyio.create_task_group() as group:
                for work, scope in zip(works, self._scopes, strict=True):
                    group.start_soon(self._do_within, work, scope)
        except ExceptionGroup as errors:  # the first one is what a dial of one target would raise
            raise errors.exceptions[0] from None
        finally:
            self._scopes = []

    @staticmethod
    async def _do_within(work: _Work, scope: anyio.CancelScope) -> None:
        with scope:
            await work(scope)

    async def _attempt(self, target: Dialout, scope: anyio.CancelScope) -> None:
        plan = self._plan
        slot = await self._tools.slots.acquire(plan.place.room, plan.key)
        if self._answered() is not None:
            slot.release()
            return
        if not self._calls.is_open:
            slot.release()
            raise NotRunning("the dispatcher takes no more events, so the call could not be followed: not started")
        if not await self._may_start(slot):
            return
        if self._answered() is not None:  # reported while the gate was asked
            slot.release()
            return
        identified = _with_user_id(target)
        attempt = self._new_attempt(identified, unique_user_id=identified is not target)
        try:
            await attempt.note_ahead()
            place = await self._begin(attempt, identified)
            if self._may_still_start():
                await self._run_kept(attempt, place, scope)
            elif plan.turn is not None:
                await self._withdraw(plan.turn, attempt)
        finally:
            self._tools.slots.assign(slot, attempt.session_id, plan.place)
            if identified is target:  # other calls with this user id might have been this attempt's
                self._tools.slots.observe_all()

    async def _may_start(self, slot: CallSlot) -> bool:
        """Ask the gate; without its consent the slot is free again."""
        if self._plan.gate is None:
            return True
        try:
            answer = await self._plan.gate()
        except BaseException:
            slot.release()
            raise
        if answer is True:
            return True
        slot.release()
        self._is_held_back = True
        if isinstance(answer, str) and self._plan.turn is not None:
            self._plan.turn.outcome = answer
        return False

    def _may_still_start(self) -> bool:
        """Return whether nothing became known while a start was kept that speaks against it: an answer, or an order to start no more."""
        if self._answered() is not None:
            return False
        if self._plan.still is None or self._plan.still():
            return True
        self._is_held_back = True
        return False

    async def _begin(self, attempt: DialAttempt, options: Dialout) -> int:
        """Keep a start that is about to be sent; return its place. If that fails or is cancelled, it is certain that nothing was sent."""
        turn = self._plan.turn
        if turn is None:
            return next(self._places)
        try:
            return await turn.begin(options, self._plan.place.room)
        except ClaimLost:
            raise
        except BaseException:
            await self._withdraw(turn, attempt)
            raise

    @staticmethod
    async def _withdraw(turn: IntentTurn, attempt: DialAttempt) -> None:
        """Nothing was sent: such a start does not count."""
        await turn.end(attempt.result(DialOutcome.CANCELLED), counts=False)

    def _new_attempt(self, options: Dialout, *, unique_user_id: bool) -> DialAttempt:
        tools, place = self._tools, self._plan.place
        shared = (tools.pending_starts, tools.timeouts)
        return DialAttempt(tools.calls, tools.transport, options, place, *shared, unique_user_id, self._plan.notes)

    async def _run_kept(
        self, attempt: DialAttempt, place: int, scope: anyio.CancelScope, since: float | None = None
    ) -> None:
        """Run an attempt, or resume one that another process began. What comes of it is kept, also if it is cancelled or fails."""
        result: Attempt | None = None
        ring_timeout = 0.0 if self._is_reached() else self._plan.ring_timeout
        self._current[attempt] = scope
        try:
            if since is None:
                found = await attempt.run(ring_timeout)
            else:
                was_away = self._plan.turn is not None and self._plan.turn.was_away
                found = await attempt.resume(since, ring_timeout, was_away=was_away)
            result = await self._judge(attempt, found) if found.outcome is DialOutcome.ANSWERED else found
        finally:
            del self._current[attempt]
            # Whoever takes the intent up searches for it, or still hears of its answer.
            is_left_open = result is None and not (
                attempt.is_over and (self._is_reached() or not attempt.may_be_answered)
            )
            result = result or self._cut_off(attempt)
            if attempt.started_at is not None:
                self._made.append(_Made(place, result, attempt, attempt.error))
                self._made.sort(key=lambda made: made.place)
            if self._plan.turn is not None and not is_left_open:
                counts = not attempt.is_unsent and setup_error_of(result, attempt.error) is None
                await self._plan.turn.end(result, counts=counts)
            self._is_left_open |= is_left_open
        if result.outcome is DialOutcome.ANSWERED and result.verdict is not None:
            await self._note(result)

    async def _note(self, result: Attempt) -> None:
        """Make a verdict a note of its session. Whether that can be kept changes nothing: the attempt has it, too."""
        try:
            await self._calls.annotate(result.session_id or "", verdict=result.verdict)
        except (ValueError, TelstateError) as error:
            self._log.warning("dial.not_noted", session_id=result.session_id, error=mask(text_of(error)))

    def _is_reached(self) -> bool:
        """Return whether an answer has won, also one that another process saw."""
        return self._winner is not None or any(made.result.outcome is DialOutcome.ANSWERED for made in self._made)

    def _cut_off(self, attempt: DialAttempt) -> Attempt:
        """Return the attempt of a dial that was cancelled, or failed."""
        if not attempt.is_over:
            return attempt.result(DialOutcome.UNKNOWN, "the dial was cancelled, and the call could not be ended")
        if attempt.was_answered and not self._is_reached():
            return attempt.result(DialOutcome.ANSWERED if self._plan.confirm is None else DialOutcome.UNCONFIRMED)
        if attempt.may_be_answered and not self._is_reached():
            return attempt.result(DialOutcome.UNKNOWN, NOT_HEARD)
        return attempt.result(DialOutcome.CANCELLED)

    async def _judge(self, attempt: DialAttempt, result: Attempt) -> Attempt:
        """Let the program say whether an answer counts; the first one that does ends the other attempts."""
        verdict = None
        if self._plan.confirm is not None:
            try:
                verdict = await self._ask(self._plan.confirm, result)
            except BaseException:
                await attempt.end_call()
                raise
            result = attempt.result(DialOutcome.ANSWERED)._replace(verdict=None if verdict is None else verdict.what)
            if verdict is None or not verdict.reached:
                if verdict is not None:  # one that counts is noted when it is kept: after a kill nobody is asked again
                    await self._note(result)
                return await self._end(attempt, result, DialOutcome.UNCONFIRMED)
        if self._is_reached():
            return await self._end(attempt, result, DialOutcome.CANCELLED)
        self._winner = attempt
        self._end_others(attempt)
        return result

    def _end_others(self, winner: DialAttempt) -> None:
        """End all other attempts. One that searches for the call of an earlier process goes on, and ends that once it is found."""
        spared = {id(scope) for one, scope in self._current.items() if one is winner or one.give_up_when_found()}
        for scope in self._scopes:
            if id(scope) not in spared and not scope.cancel_called:
                scope.cancel()

    async def _end(self, attempt: DialAttempt, result: Attempt, outcome: DialOutcome) -> Attempt:
        if await attempt.end_call():
            return result._replace(outcome=outcome)
        return result._replace(outcome=DialOutcome.UNKNOWN, error="the call could not be ended: check the room")

    async def _ask(self, confirm: Confirm, result: Attempt) -> Verdict | None:
        """Return the program's verdict; None if the call ends before."""
        session = self._calls.session(result.session_id or "")
        verdict: Verdict | None = None
        if session is None or session.ended:
            return None
        watching = anyio.CancelScope()
        with anyio.CancelScope() as scope:
            self._tools.group.start_soon(self._cancel_at_end, session.session_id, scope, watching)
            try:
                verdict = await confirm(session, result)
            finally:
                watching.cancel()
            if not isinstance(verdict, Verdict):
                raise DefinitionError(
                    f"confirm= must return a Verdict, as Verdict(reached=True), not {type(verdict).__name__}; the call was ended"
                )
        return verdict

    async def _cancel_at_end(self, session_id: str, scope: anyio.CancelScope, watching: anyio.CancelScope) -> None:
        with watching:
            with suppress(NotRunning):
                await self._calls.wait_for(session_id, State.STOPPED)
            scope.cancel()

    async def _resume_open(self, intent: Intent) -> None:
        """Find out what came of starts that another process began: the next one is sent only if their calls are certainly over."""
        found = [(number, record) for number, record in enumerate(intent.records) if record.is_open]
        await self._at_once([partial(self._resume, number, record) for number, record in found])

    async def _resume(self, number: int, record: DialRecord, scope: anyio.CancelScope) -> None:
        slot = await self._tools.slots.acquire(self._plan.place.room, self._plan.key)
        attempt = self._new_attempt(_as_recorded(self._plan.targets, record), unique_user_id=True)
        try:
            await self._run_kept(attempt, number, scope, record.started_at)
        finally:
            self._tools.slots.assign(slot, attempt.session_id, self._plan.place)

    # --- results --------------------------------------------------------------------------------------------------

    def _answered(self) -> int | None:
        """Return the index of the last attempt that is known to be answered by now: an answered number is not called again."""
        return max((place for place, made in enumerate(self._made) if self._was_answered(made)), default=None)

    def _was_answered(self, made: _Made) -> bool:
        if self._winner is not None:
            return made.dialled is self._winner
        if made.result.outcome is DialOutcome.ANSWERED:
            return True
        if self._plan.confirm is not None or self._is_reached():
            return False
        if made.dialled is not None:
            return made.dialled.was_answered
        session = self._calls.session(made.result.session_id or "")
        return session is not None and session.was_answered

    def _is_over(self) -> bool:
        """Return whether there must be no further start, whatever the budget is."""
        if self._answered() is not None or any(made.result.outcome in _ENDS_DIAL for made in self._made):
            return True
        refused = {made.result.destination for made in self._made if _is_permanent(made)}
        return all(target.destination in refused for target in self._plan.targets)

    def _hit_setup(self, result: DialResult) -> bool:
        """Return whether it is over because of the set-up. That may be mended, and then the intent is dialled."""
        return result.outcome in _REFUSALS and any(setup_error_of(made.result, made.error) for made in self._made)

    def _result(self) -> DialResult:
        """Return the result by what is known now: an attempt whose answer was reported late had counted as unanswered."""
        results = tuple(
            made.result._replace(outcome=DialOutcome.ANSWERED, error=None) if self._was_answered(made) else made.result
            for made in self._made
        )
        if not results:
            return NotAnswered(DialOutcome.CANCELLED, None, (), self._plan.targets[0].destination)
        deciding, answered = self._deciding(results), self._answered()
        if answered is not None and (self._is_reached() or results[deciding].outcome is not DialOutcome.UNKNOWN):
            deciding = answered
        result, error = results[deciding], self._made[deciding].error
        session = self._calls.session(result.session_id) if result.session_id is not None else None
        if result.outcome is DialOutcome.ANSWERED:
            known = session or answered_session(result, self._plan.place.room)
            return Answered(known, results, result.destination)
        return NotAnswered(result.outcome, session, results, result.destination, error)

    @staticmethod
    def _deciding(results: Sequence[Attempt]) -> int:
        """Return the index of the attempt that decides, if none was answered: one of which nothing is known, else the last."""
        unknown = (place for place, result in enumerate(results) if result.outcome is DialOutcome.UNKNOWN)
        return next(unknown, len(results) - 1)

    def _pause(self) -> float:
        """Return the seconds before the next attempt. Daily may ask for more."""
        made = -(-len(self._made) // len(self._plan.targets))
        error, pauses = self._made[-1].error, self._tools.pauses
        pause = pauses[min(made, len(pauses)) - 1] * self._tools.random.uniform(1 - _JITTER, 1 + _JITTER)
        requested = error.retry_after if isinstance(error, TemporarilyNotAvailable) else 0.0
        return max(pause, min(requested, _LONGEST_PAUSE))


async def cancel_when(event: anyio.Event, scope: anyio.CancelScope, watching: anyio.CancelScope) -> None:
    """Cancel a scope at an event, until it is watched no more."""
    with watching:
        await event.wait()
        scope.cancel()


def _point_in_time(until: float | anyio.Event | None, now: float) -> float | anyio.Event | None:
    """Return when a dial's time is over."""
    return until if until is None or isinstance(until, anyio.Event) else now + float(until)


def _recorded(place: int, record: DialRecord) -> _Made:
    result = attempt_of(record)
    return _Made(place, result, None, error_of(result))


def _with_user_id(options: Dialout) -> Dialout:
    return options if options.user_id is not None else options.model_copy(update={"user_id": str(uuid4())})


def _as_recorded(targets: Sequence[Dialout], record: DialRecord) -> Dialout:
    """Return the options of a start that was kept, as far as they find its call."""
    target = next((one for one in targets if one.destination == record.destination), targets[0])
    return target.model_copy(update={"user_id": record.user_id})


def _is_permanent(made: _Made) -> bool:
    return is_for_good(made.result, made.error)


def is_for_good(attempt: Attempt, error: DailyError | None) -> bool:
    """Return whether a further start to this target would be refused again, or fail again.

    Args:
        attempt: the last one.
        error: why it was refused.
    """
    refusal = _refusal_of(attempt, error)
    return refusal is not None and is_permanent(refusal)


def setup_error_of(attempt: Attempt, error: DailyError | None) -> DailyError | NotSupported | None:
    """Return why there was no call, if the key, the account or the room is at fault, and not the number; else None.

    Args:
        attempt: the last one.
        error: why it was refused.
    """
    refusal = _refusal_of(attempt, error)
    return refusal if refusal is not None and is_about_setup(refusal) else None


def _refusal_of(attempt: Attempt, error: DailyError | None) -> DailyError | NotSupported | None:
    """Return the error of a start that was refused; of a call that failed it is that of the same text."""
    if attempt.outcome is DialOutcome.FAILED:
        return error_type_of(attempt.error or "")(attempt.error or "")
    return error if attempt.outcome is DialOutcome.REFUSED else None
