"""The dialer: one intent to reach somebody, carried out with one budget of starts, and never with two calls at once.

    async with Dispatcher(router, control=RestControl(api)) as calls, Dialer(calls, room="support") as dialer:
        result = await dialer.dial(PhoneDialout(phone_number="+12025550101"), attempts=3, ring_timeout=30)

Each attempt is one start; the next begins once the call before is certainly over. What comes back is what came of it, also where
nobody answered: exceptions are for misuse, for a journal that fails, and for a dialer that is left. Whoever cancels `dial` has
the call ended. A process that is killed leaves its calls to themselves: what is known of them is in the journal, but no dialer
takes an intent up again.
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
from telstate.control._results import Attempt, DialOutcome, DialResult
from telstate.errors import Busy, DefinitionError, NotRunning, TemporarilyNotAvailable, UnknownResult
from telstate.events import Presence, PresenceChecked
from telstate.options import Dialout, PhoneDialout, SipDialout
from telstate.routing._cancellation import current_task, is_cancelled
from telstate.routing._dispatcher import Dispatcher
from telstate.routing._log import Log

__all__ = ["Dialer"]

_PER_ROOM = 5
"""Daily's default for `max_sip_pstn_sessions_per_room` (docs.daily.co/docs/guides/features/dial-in-dial-out)."""
_PAUSES = (2.0, 10.0, 30.0)
_LOOKS = (1.0, 2.0, 4.0, 5.0)
_FIND_WITHIN = 30.0
"""Presence may be 15 seconds behind (docs.daily.co/reference/rest-api/presence)."""
_STOPS = (2.0, 4.0, 8.0)
_DOUBT_AFTER = 30.0
_LONGEST_PAUSE = 60.0
_SPREAD = 0.25
"""Pauses are spread by so much: a thousand dials that were refused together should not come back together."""


class _Intent:
    """One call of `dial`."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.done = anyio.Event()
        self.result: DialResult | None = None
        self.error: Exception | None = None
        self.ringing: DialAttempt | None = None


class Dialer:
    """Dials. An async context manager, inside the dispatcher's block; leaving it ends what still rings, not what was answered.

    Args:
        calls: where the calls' events come in. Its `control` carries the starts out: a `RestControl`, a `ClientControl`, a
            `TransportControl`, or any other `CallTransport`.
        room: which room dials, unless `dial` is told another; a call client needs none.
        per_room: how many SIP and PSTN sessions a room may have at once, those that the dispatcher knows of from elsewhere
            among them. A dial waits for a place. None for any number.
        per_key: how many calls one key may have at once: see `dial`. None for any number.
        pauses: seconds between two attempts, spread by a quarter; the last one repeats.
        find_within: seconds in which a start that got no answer is looked for.
        looks: seconds between two looks at the room's presence for it; the last one repeats.
        stops: seconds to wait for the end of a call after each stop that is sent.
        doubt_after: seconds after which, while a dial waits for a place, Daily is asked whether the calls that have them are still
            there: a hang-up that nobody told would keep a place for a day.
        random: for the spreading, and nothing else.

    Raises:
        DefinitionError: if the dispatcher has no control that can start calls.
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
        looks: Sequence[float] = _LOOKS,
        stops: Sequence[float] = _STOPS,
        doubt_after: float = _DOUBT_AFTER,
        random: Random | None = None,
    ) -> None:
        if not hasattr(calls.control, "start"):
            raise DefinitionError(
                "a dialer needs a dispatcher that can start calls: Dispatcher(router, control=RestControl(api)), or another"
                " CallTransport of telstate.control"
            )
        for name, limit in (("per_room", per_room), ("per_key", per_key)):
            if limit is not None and limit < 1:
                raise DefinitionError(f"{name}={limit!r} must be at least 1, or None for any number")
        for name, times in (("pauses", pauses), ("looks", looks), ("stops", stops)):
            if not times or min(times) < 0:
                raise DefinitionError(f"{name}={times!r} must be seconds, at least one")
        self._calls = calls
        self._carrier = cast("CallTransport", calls.control)
        self._room = room
        self._places = CallLimiter(per_room, per_key)
        self._pauses = tuple(pauses)
        self._patience = AttemptTimeouts(tuple(looks), find_within, tuple(stops))
        self._doubt_after = doubt_after
        self._random = random or Random()  # noqa: S311 - it spreads pauses
        self._sightings = PendingStarts()
        self._held: dict[str, CallSlot] = {}
        """The places of sessions that live."""
        self._intents: set[_Intent] = set()
        self._group: TaskGroup | None = None
        self._open = False
        self._log = Log()

    async def __aenter__(self) -> Self:
        if self._group is not None:
            raise NotRunning("a dialer runs once: make another one")
        if not self._calls.is_open:
            raise NotRunning("enter `async with Dispatcher(…) as calls:` before its dialer")
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._group.start_soon(self._follow)
        self._group.start_soon(self._doubt)
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._group is not None  # noqa: S101
        self._open = False
        try:
            with anyio.CancelScope(shield=True), anyio.move_on_after(self._patience.find_within):
                for intent in tuple(self._intents):
                    self._give_up(intent)
                for intent in tuple(self._intents):
                    await intent.done.wait()
        finally:  # also where asyncio cancels this, which no shield holds off
            if self._intents:
                self._log.error(
                    "dialer.left_unfinished", dials=len(self._intents), hint="their calls may still be there"
                )
                self._group.start_soon(self._let_go)
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
        """Reach somebody: return when the call is answered, or all was tried that may be tried.

        A refusal that another try would meet again ends it at once, as does a call that this program stopped itself. Where it
        cannot be known whether there is a call (`DialOutcome.UNKNOWN`), that ends it too.

        Args:
            options: whom to call. Without a `user_id` each attempt gets one of its own.
            attempts: how many starts there may be at most, the refused ones among them.
            ring_timeout: seconds from an accepted start to the answer, before the call is ended.
            room: which room dials, if not the dialer's.
            key: whose limit `per_key` counts: a customer, a trunk, a caller id. All dials without one share one.

        Raises:
            NotSupported: if the carrier cannot carry an option, or needs a room. Nothing was sent.
            JournalError: if a call could not be kept; it was ended.
            NotRunning: if the dialer or the dispatcher was left; the call was ended.
            DefinitionError: if an argument makes no sense.
        """
        if not isinstance(options, (SipDialout, PhoneDialout)):
            raise DefinitionError(f"dial takes a SipDialout or a PhoneDialout, not {type(options).__name__}")
        _check(attempts, ring_timeout)
        if self._group is None or not self._open:
            raise NotRunning("a dialer dials inside its own block: `async with Dialer(calls) as dialer:`")
        try:
            hash(key)
        except TypeError as error:
            raise DefinitionError(f"key={key!r} must be hashable: a text, a number, or a tuple of such") from error
        intent = _Intent()
        self._intents.add(intent)
        self._group.start_soon(self._run, intent, options, attempts, ring_timeout, room or self._room, key)
        try:
            with self._calls.awaiting_events():
                await intent.done.wait()
        except BaseException:
            # In a task of its own it survives a cancellation by asyncio too, which no shield holds off.
            self._give_up(intent)
            with anyio.CancelScope(shield=True), anyio.move_on_after(sum(self._patience.stops)):
                await intent.done.wait()
            raise
        if intent.error is not None:
            raise intent.error
        assert intent.result is not None  # noqa: S101
        return intent.result

    def sizes(self) -> dict[str, int]:
        """How much is under way: dials, starts whose answer is open, and places that are taken."""
        return {"dials": len(self._intents), "starts": len(self._sightings), "places": len(self._places)}

    # --- one intent -----------------------------------------------------------------------------------------------

    def _give_up(self, intent: _Intent) -> None:
        """Nobody waits for it any more."""
        if (
            intent.result is not None
            and intent.result.answered
            and intent.ringing is not None
            and self._group is not None
        ):
            # Answered in the moment of the cancellation: it is not done before the call is ended.
            intent.done = anyio.Event()
            self._intents.add(intent)
            self._group.start_soon(self._take_back, intent, intent.ringing)
        intent.scope.cancel()

    async def _let_go(self) -> None:
        """What still takes as long again is held up by something that may never end, as a disk that hangs."""
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(self._patience.find_within):
                for intent in tuple(self._intents):
                    await intent.done.wait()
            for intent in self._intents:
                if intent.ringing is not None:
                    intent.ringing.let_go()

    async def _take_back(self, intent: _Intent, ringing: DialAttempt) -> None:
        try:
            with self._calls.as_handler():
                await ringing.take_back()
        finally:
            self._intents.discard(intent)
            intent.done.set()

    async def _run(  # noqa: PLR0917 - a task group passes nothing by name
        self,
        intent: _Intent,
        options: Dialout,
        attempts: int,
        ring_timeout: float,
        room: str | None,
        key: Hashable,
    ) -> None:
        try:
            # As a handler it may act while the dispatcher is shut down, and is waited for by no limit.
            with self._calls.as_handler(), intent.scope:
                intent.result = await self._dial(intent, options, attempts, ring_timeout, room, key)
        except Exception as error:
            intent.error = error
        except anyio.get_cancelled_exc_class() as error:
            task = current_task()
            if is_cancelled() or (task is not None and task.cancelling()):
                raise
            # By what the carrier waited for: that must not end the dials of others.
            intent.error = UnknownResult(f"the carrier was cancelled by itself: {error!r}; look before you dial again")
        finally:
            if intent.result is None and intent.error is None:
                intent.error = NotRunning("the dialer was left before the call was answered; the call was ended")
            self._intents.discard(intent)
            intent.done.set()

    async def _dial(  # noqa: PLR0917
        self,
        intent: _Intent,
        options: Dialout,
        attempts: int,
        ring_timeout: float,
        room: str | None,
        key: Hashable,
    ) -> DialResult:
        made: list[Attempt] = []
        rung: list[DialAttempt] = []
        while True:
            place = await self._places.take(room, key)
            if _answered(rung) is not None:
                place.free()
                return self._result(made, rung, options)
            if not self._calls.is_open:
                place.free()
                raise NotRunning(
                    "the dispatcher takes nothing in any more: nobody would hear of the call; it was not started"
                )
            named = options if options.user_id is not None else options.model_copy(update={"user_id": str(uuid4())})
            ringing = intent.ringing = DialAttempt(
                self._calls, self._carrier, named, room, self._sightings, self._patience, named is not options
            )
            rung.append(ringing)
            try:
                made.append(await ringing.run(ring_timeout))
            finally:
                self._hold(place, ringing.session_id)
                if named is options:  # others may have calls with its user id, which might have been its own
                    for one in self._calls.live():
                        self._see(one)
            over = len(made) == attempts or _is_final(made[-1], ringing)
            if not over:
                await anyio.sleep(self._pause(len(made), ringing))
            if over or _answered(rung) is not None:
                return self._result(made, rung, options)

    def _result(self, made: list[Attempt], rung: list[DialAttempt], options: Dialout) -> DialResult:
        """By what is known now: where the word of an answer came late, it was taken for unanswered."""
        made = [
            one._replace(outcome=DialOutcome.ANSWERED, error=None) if ringing.was_answered else one
            for one, ringing in zip(made, rung, strict=True)
        ]
        answered = _answered(rung)
        decides = -1 if answered is None or made[-1].outcome is DialOutcome.UNKNOWN else answered
        ringing = rung[decides]
        error = None if made[decides].outcome is DialOutcome.ANSWERED else ringing.error
        session = self._calls.session(ringing.session_id) if ringing.session_id is not None else None
        return DialResult(made[decides].outcome, session, tuple(made), error, options.destination)

    def _pause(self, made: int, ringing: DialAttempt) -> float:
        """Seconds before the next attempt: Daily may ask for more than we would wait."""
        pause = self._pauses[min(made, len(self._pauses)) - 1] * self._random.uniform(1 - _SPREAD, 1 + _SPREAD)
        asked = ringing.error.retry_after if isinstance(ringing.error, TemporarilyNotAvailable) else 0.0
        return max(pause, min(asked, _LONGEST_PAUSE))

    # --- places ---------------------------------------------------------------------------------------------------

    def _hold(self, place: CallSlot, session_id: str | None) -> None:
        """A place belongs to the call from now on, if there is one."""
        session = self._calls.session(session_id) if session_id is not None else None
        if session is None or session.ended or session.session_id in self._held:
            place.free()
        else:
            self._held[session.session_id] = place
            self._places.went(session.session_id)  # it was taken for another's if its events were here first

    async def _follow(self) -> None:
        """Know which calls there are, until the dispatcher closes."""
        while True:
            try:
                changes = self._calls.changes()
            except NotRunning:  # it was shut down, and this dialer is about to be left
                return
            for session_id in (*self._held, *self._places.others):
                if (known := self._calls.session(session_id)) is None or known.ended:
                    self._went(session_id)
            for session in self._calls.live():
                self._see(session)
            try:
                async for outcome in changes:
                    if outcome.session is not None:
                        self._see(outcome.session)
            except Busy:
                continue  # fallen behind: look at all, and follow anew
            return

    async def _doubt(self) -> None:
        """While somebody waits for a place, see that those who have one are still there."""
        while True:
            await anyio.sleep(self._doubt_after)
            rooms, keys = self._places.wanted
            held = [one for one, place in self._held.items() if place.room in rooms or place.key in keys]
            behind = (*held, *self._places.others_in(rooms))
            if rooms:
                self._log.info("dialer.waiting", rooms=[*rooms][:20], behind=behind[:20], sessions=len(behind))
            for session_id in behind:
                await self._ask_for(session_id)

    async def _ask_for(self, session_id: str) -> None:
        session = self._calls.session(session_id)
        try:
            if session is None or session.ended or await self._carrier.reconcile(session) is not Presence.GONE:
                return
            for presence in (Presence.UNKNOWN, Presence.GONE):  # an answer counts if it was asked for
                await self._calls.receive(PresenceChecked(session_id=session_id, presence=presence))
        except Exception as error:
            self._log.info("dial.no_presence", session_id=session_id, error=str(error))

    def _see(self, session: Session) -> None:
        self._sightings.see(session)
        if session.ended:
            self._went(session.session_id)
        elif session.room is not None and session.session_id not in self._held and session not in self._sightings:
            self._places.came(session.session_id, session.room)

    def _went(self, session_id: str) -> None:
        self._places.went(session_id)
        if (place := self._held.pop(session_id, None)) is not None:
            place.free()


def _check(attempts: Any, ring_timeout: Any) -> None:
    if not isinstance(attempts, int) or isinstance(attempts, bool) or attempts < 1:
        raise DefinitionError(f"attempts={attempts!r} must be a whole number of at least 1")
    if not isinstance(ring_timeout, (int, float)) or not ring_timeout > 0:
        raise DefinitionError(f"ring_timeout={ring_timeout!r} must be a number of seconds above 0")


def _answered(rung: list[DialAttempt]) -> int | None:
    """The last attempt that is known by now to have been answered, if any: whoever picked up is not called again."""
    return max((number for number, ringing in enumerate(rung) if ringing.was_answered), default=None)


def _is_final(attempt: Attempt, ringing: DialAttempt) -> bool:
    """Whether another start is out of the question."""
    if attempt.outcome is DialOutcome.REFUSED:
        return ringing.error is not None and is_permanent(ringing.error)
    if attempt.outcome is DialOutcome.FAILED:
        return is_permanent(error_type_of(attempt.error or "")(attempt.error or ""))
    return attempt.outcome is not DialOutcome.UNANSWERED
