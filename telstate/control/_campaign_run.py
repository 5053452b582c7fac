"""One run of a campaign: it calls who is due, one start after another, and says what came of each contact.

What the journal's ledger has of a contact decides what happens next, so a run goes on where an earlier one ended. Nothing else is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Container,
    Sequence,
)
from contextlib import AsyncExitStack, suppress
from functools import partial
from inspect import isawaitable
from typing import Any

import anyio
from anyio.abc import TaskGroup

from telstate.calls._intents import HALT_PAUSED, HALT_STOPPED, Intent
from telstate.control._campaign_ledger import attempts_of, kept_attempts, ledger_name, outcome_of
from telstate.control._campaign_orders import CampaignOrders
from telstate.control._campaign_places import CampaignPlaces
from telstate.control._campaign_plan import CampaignPlan, Contacts
from telstate.control._campaign_progress import (
    CampaignChange,
    CampaignChangeKind,
    CampaignNews,
    CampaignProgress,
    CampaignState,
)
from telstate.control._campaign_queue import CampaignQueue, Pending
from telstate.control._campaign_results import ContactOutcome, ContactResult, NotTried, result_of
from telstate.control._contacts import Contact, ContactList, InvalidContact, contact_of
from telstate.control._dial_run import DialPlan, cancel_when, is_for_good, setup_error_of
from telstate.control._dialer import Dialer
from telstate.control._results import Attempt, DialOutcome, DialResult
from telstate.errors import Busy, DefinitionError, DialoutInProgress, NotHosting, NotRunning, UnknownResult
from telstate.events import IntentHeld
from telstate.routing._intent_ledger import IntentLedger

__all__ = ["CampaignRun"]

_UNREAD = 1000
"""Results that wait for the reader."""
_LAST_CONTACTS = 5.0
"""Seconds that the next contact of an async iterable may take to come, once nobody is called any more."""
_YIELD_EVERY = 200
_HOLD_SHARE = 3.0
"""What is known of a contact is held whenever a third of its time to live has passed."""
_SHORTEST_WAIT = 0.001
_MOST_RESUMED = 3
"""So often it is tried to find out what came of a start, before that is `unknown`."""
_MAY_BE_ANSWERED_LATE = frozenset({DialOutcome.UNANSWERED, DialOutcome.FAILED, DialOutcome.CANCELLED})
_MOST_UNREADY, _UNREADY_PAUSE = 3, 60.0
"""So often, and in such intervals in seconds, a contact's own room may be without its bot before that counts as a fault of the set-up."""
_FOR_GOOD = frozenset({DialOutcome.STOPPED, DialOutcome.UNKNOWN})


class CampaignRun:
    """One run.

    Args:
        plan: what to do.
        contacts: whom to call.
        dialer: inside its block.
        news: is told of changes.
    """

    def __init__(self, plan: CampaignPlan, contacts: Contacts, dialer: Dialer, news: CampaignNews) -> None:
        self._plan = plan
        self._contacts = contacts
        self._dialer = dialer
        self._calls = dialer._calls
        self._clock = dialer._calls.clock
        self._news = news
        self._wake = anyio.Event()
        self._orders = CampaignOrders(plan.name, self._calls, self._tell_state)
        self._places = CampaignPlaces(plan, dialer, self._wake_up)
        self._began_at = self._clock.now() or 0.0
        self._queue = CampaignQueue()
        self._dialing = 0
        self._calling = 0
        """With those whose call has ended, and of which it is decided what is next."""
        self._list = ContactList()
        self._tried: dict[str, Pending] = {}
        """The contacts that wait for a further start, by the sessions of those they had."""
        self._unknown_yet = 0
        self._counts: Counter[str] = Counter()
        self._done: Counter[str] = Counter()
        self._is_read = isinstance(contacts, AsyncIterable)
        """True if calls may begin: a list is read first, for its priorities. What comes by and by is called as it comes."""
        self._is_read_out = False
        self._read_count = 0
        self._reading = anyio.CancelScope()
        self._awaits_contact = True
        """True while the iterable is asked for its next one."""
        self._over = anyio.Event()
        """Set when nobody is called any more, for good."""
        self._next_pick = self._next_start = 0.0
        self._cut = anyio.Event()
        """Set when calls that ring must end."""
        self._setup_error: Exception | None = None
        """Why nobody can be called before the set-up is mended."""
        self._scope = anyio.CancelScope()
        self._ended = anyio.Event()
        self._error: Exception | None = None
        self._group: TaskGroup
        self._send, self._receive = anyio.create_memory_object_stream[ContactResult](_UNREAD)
        self.is_finished: bool = False

    # --- from outside ---------------------------------------------------------------------------------------------

    async def results(self) -> AsyncGenerator[ContactResult, None]:
        """Run it, and yield results as they come. If that is left, calls that ring are ended; the next run goes on."""
        self._dialer._check_open().start_soon(self._run)
        try:
            async for result in self._receive:
                yield result
        finally:
            self._scope.cancel()
            self._receive.close()
            with anyio.CancelScope(shield=True):
                await self._ended.wait()
        if self._error is not None:
            raise self._error

    async def ask(self, wish: str, *, cut: bool = False) -> None:
        """Pause, resume or stop it.

        Raises:
            DefinitionError: if it was stopped before.
            JournalError: if that could not be kept.
        """
        await self._orders.ask(wish)
        if cut:
            self._cut.set()
        self._orders.look()

    def progress(self) -> CampaignProgress:
        """Return how far it is."""
        state = {HALT_PAUSED: CampaignState.PAUSED, HALT_STOPPED: CampaignState.STOPPED}.get(
            self._orders.halt or "", CampaignState.RUNNING
        )
        return CampaignProgress(
            CampaignState.FINISHED if self.is_finished else state,
            contacts=self._counts["contacts"],
            waiting=self._queue.waiting,
            due=self._queue.due,
            dialing=self._dialing,
            talking=self._places.talking,
            done={outcome: count for outcome, count in sorted(self._done.items()) if count},
            starts=self._counts["starts"],
            duplicates=self._counts["duplicates"],
            next_due=self._queue.next_due,
        )

    # --- the run --------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Run it in a task of the dialer's, so that nothing of it hangs on the reader of the results."""
        try:
            with self._scope, self._send:
                await self._run_parts()
        except BaseException as error:
            first, rest = _parted(error)
            self._error = _left() if first is None or isinstance(first, NotRunning) else first
            if rest is not None:
                raise rest from None
        finally:
            self._send.close()
            self._ended.set()
            self._news.end()

    async def _run_parts(self) -> None:
        await self._orders.hold()  # so the journal knows it before anybody may be called
        await self._orders.obey()  # nobody is called after a pause or a stop that was asked for while no process ran it
        async with anyio.create_task_group() as group:
            self._group = group
            for part in (
                self._read,
                self._end_reading,
                self._orders.follow,
                self._hold,
                self._watch_time,
                partial(self._places.check, self._is_place_awaited),
                self._hear_late,
            ):
                group.start_soon(part)
            await self._schedule()
            self.is_finished = True
            self._tell(CampaignChangeKind.STATE)
            group.cancel_scope.cancel()

    async def _schedule(self) -> None:
        """Start calls as they are due, until each contact has a result."""
        while True:
            self._wake = anyio.Event()
            if self._orders.halt == HALT_STOPPED or self._is_out_of_time():
                await self._give_up()
            self._queue.promote(self._now())
            while (one := self._next()) is not None:
                self._places.take(one.contact.caller_id)
                self._dialing += 1
                self._calling += 1
                self._group.start_soon(self._call, one)
            if self._setup_error is not None and not self._calling:
                raise self._setup_error
            if self._is_read_out and not self._queue and not self._calling:
                return
            with self._clock.move_on_after(self._until_next()):
                await self._wake.wait()

    def _next(self) -> Pending | None:
        """Take who is to be called now. Starts whose end is not known come first: their calls may still ring."""
        if not self._is_read or self._places.is_full or self._setup_error is not None:
            return None
        if (one := self._queue.take_open()) is not None:
            return one
        now = self._now()
        if self._is_halted() or now < self._next_pick:
            return None
        while (one := self._queue.take(self._places.has_room)) is not None:
            opens = self._opens(one.contact, now)
            if opens <= now:
                if self._plan.starts_per_second is not None:
                    self._next_pick = max(now, self._next_pick) + 1 / self._plan.starts_per_second
                return one
            one.due = opens
            self._queue.add(one)
        return None

    def _until_next(self) -> float | None:
        """Return the seconds until there may be something to do that nothing else wakes for."""
        times = [] if self._queue.next_due is None else [self._queue.next_due]
        if self._plan.until is not None and not self._is_out_of_time():
            times.append(self._plan.until)
        if self._queue.due and self._next_pick > self._now() and not self._is_halted():
            times.append(self._next_pick)
        return max(_SHORTEST_WAIT, min(times) - self._now()) if times else None

    async def _give_up(self) -> None:
        """Give all that are not called any more their result."""
        self._over.set()
        reason = NotTried.CAMPAIGN_STOPPED if self._orders.halt == HALT_STOPPED else NotTried.OUT_OF_TIME
        for one in self._queue.drain():
            attempts = attempts_of(self._ledger_of(one.contact).read())
            await self._finish(result_of(one.contact, attempts, None, reason, was_known=not one.is_touched))

    # --- contacts -------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        """Read the list, and look up in the ledger how far each contact is."""
        with self._reading:
            async for given in _each(self._contacts):
                if self._reading.cancel_called:
                    break
                self._read_count += 1
                self._awaits_contact = False
                await self._take_in(given)
                if not self._read_count % _YIELD_EVERY:
                    self._check_room()
                    await anyio.lowlevel.checkpoint()
                self._awaits_contact = True
        self._check_room()
        self._is_read = self._is_read_out = True
        self._wake.set()

    async def _end_reading(self) -> None:
        """Once the campaign is over for good, take in who is there; do not wait for who may still come by and by."""
        if not isinstance(self._contacts, AsyncIterable):
            return
        await self._over.wait()
        seen = -1
        while seen != self._read_count or not self._awaits_contact:
            seen = self._read_count
            await self._clock.sleep(_LAST_CONTACTS)
        self._reading.cancel()

    async def _take_in(self, given: str | Contact | InvalidContact) -> None:
        contact = self._list.take(given)
        if contact is None:
            self._counts["duplicates"] += 1
            self._tell(CampaignChangeKind.DUPLICATE, contact_of(given))
            return
        self._counts["contacts"] += 1
        if isinstance(contact, InvalidContact):
            await self._finish(ContactResult(contact, NotTried.INVALID, error=contact.error, was_known=True))
            return
        ledger = self._ledger_of(contact)
        known = ledger.read()
        self._unknown_yet += not known.records and known.outcome is None
        await self._consider(contact, known)
        if self._age(known) > self._calls.settings.intent_ttl / _HOLD_SHARE:
            await ledger.post(IntentHeld(intent=ledger.intent))

    def _check_room(self) -> None:
        """The journal must remember all contacts, or one who was reached might be called again."""
        limit = self._calls.settings.max_intents
        if len(self._list.keys) + 1 > limit or self._calls.sizes()["intents"] + self._unknown_yet > limit:
            raise DefinitionError(
                f"the journal remembers {limit} intents at most, which are too few for this campaign and what else is dialled:"
                " Dispatcher(…, settings=Settings(max_intents=…)) with room for all contacts. Nobody was forgotten"
            )

    async def _consider(self, contact: Contact, known: Intent) -> None:
        """Decide by the ledger what happens with a contact that comes in."""
        attempts = attempts_of(known)
        one = Pending(contact, len(attempts))
        self._counts["starts"] += one.starts
        for attempt in attempts:
            if attempt.outcome is DialOutcome.ANSWERED:
                self._places.follow(attempt.session_id, contact.caller_id, self._group)
        if (outcome := outcome_of(known)) is not None:
            await self._finish(_ended(one, outcome, attempts))
        elif any(record.is_open for record in known.records):
            one.is_open = True
            self._queue.add(one)
        else:
            await self._plan_next(one, attempts)

    async def _plan_next(
        self, one: Pending, attempts: Sequence[Attempt], *, is_news: bool = False, not_before: float = 0.0
    ) -> None:
        """Let a contact wait for the next start, or give it its result."""
        plan, now = self._plan, self._now()
        due = plan.retry.next_start(attempts, plan.ring_timeout)
        if due is not None and attempts and len(attempts) <= one.inherited:
            due = max(due, self._began_at + plan.late_events)  # their answer may still be reported
        cut_short: NotTried | None = None
        if due is not None:
            due = self._opens(one.contact, max(due, now, not_before))
            if self._orders.halt == HALT_STOPPED:
                cut_short = NotTried.CAMPAIGN_STOPPED
            elif plan.until is not None and due >= plan.until:
                cut_short = NotTried.OUT_OF_TIME
        if due is None or cut_short is not None:
            await self._finish(result_of(one.contact, attempts, None, cut_short, was_known=not one.is_touched))
            return
        if one.resumed < _MOST_RESUMED and any(map(self._is_answered_late, attempts)):
            one.resumed += 1
            one.is_open = True
            self._queue.add(one)
            self._wake.set()
            return
        one.due = due
        self._queue.add(one)
        self._tried.update((attempt.session_id, one) for attempt in attempts if attempt.session_id is not None)
        if is_news:
            self._tell(CampaignChangeKind.ATTEMPTED, one.contact, attempt=attempts[-1], due_at=due)
        self._wake.set()

    def _is_answered_late(self, attempt: Attempt) -> bool:
        """Return whether an answer was reported after an attempt was over. With `confirm` it does not count: nobody has judged it."""
        session = None if self._plan.confirm is not None else self._calls.session(attempt.session_id or "")
        return session is not None and session.was_answered and attempt.outcome in _MAY_BE_ANSWERED_LATE

    async def _hear_late(self) -> None:
        """Let an answer that is reported late count at once: a session is forgotten long before a retry that is due in some hours."""
        while self._plan.confirm is None:
            try:
                async for outcome in self._calls.changes():
                    session = outcome.session
                    if session is not None and session.was_answered and (one := self._tried.get(session.session_id)):
                        one.resumed += self._queue.open(one)
                        self._wake.set()
            except Busy:  # this reader fell behind
                for one in {id(one): one for one in self._tried.values()}.values():
                    if any(map(self._is_answered_late, attempts_of(self._ledger_of(one.contact).read()))):
                        self._queue.open(one)
                self._wake.set()
            except NotRunning:
                return

    async def _finish(self, result: ContactResult) -> None:
        self._done[str(result.outcome)] += 1
        self._tell(CampaignChangeKind.FINISHED, result.contact, result=result)
        await self._send.send(result)

    # --- one call -------------------------------------------------------------------------------------------------

    async def _call(self, one: Pending) -> None:
        """Make one start, or find out what came of one; then decide what is next."""
        gate = _Gate(self, one)
        result: DialResult | None = None
        try:
            with suppress(_CutOffError, UnknownResult):  # the ledger has the start, and what came of it is found out
                result = await self._dial(one, gate)
        finally:
            self._places.free(one.contact.caller_id)
            self._dialing -= 1
        if result:
            self._places.follow(result.session.session_id, one.contact.caller_id, self._group)
        await self._conclude(one, result, gate.denied)
        self._calling -= 1
        self._wake.set()

    async def _dial(self, one: Pending, gate: _Gate) -> DialResult | None:
        """Make a start, or find out what came of one. None if another run of the campaign has called them meanwhile: the plan is asked anew."""
        plan, contact = self._plan, one.contact
        options = contact.options()
        ledger = self._ledger_of(contact)
        known = ledger.read()
        records = known.records
        one.is_open |= any(record.is_open for record in records)
        if not one.is_open and known.outcome is None:
            due = plan.retry.next_start(attempts_of(known), plan.ring_timeout)
            if due is None or due > self._now():
                return None
        made = sum(record.destination == options.destination for record in records)
        room = next((record.room for record in records if record.is_open), None) or await self._room_for(contact)
        notes = {**contact.notes, "campaign": plan.name}
        return await self._dialer._carry_out(
            DialPlan(
                (options,),
                self._dialer._place(room),
                made + 1,
                plan.ring_timeout,
                contact.caller_id,
                None if one.is_open else self._cut,
                self._dialer._turn(ledger.intent),
                plan.confirm,
                gate.may_start,
                notes,
                partial(self._is_open_for, contact),
            )
        )

    async def _room_for(self, contact: Contact) -> str | None:
        """Ask the program for a room.

        Raises:
            _CutOffError: if the campaign's calls were to end meanwhile.
            DefinitionError: if it gives something else.
        """
        room: Any = self._plan.room
        if callable(room):
            room = room(contact)
            if isawaitable(room):
                room = await self._until_cut(room)
        if room is not None and not isinstance(room, str):
            raise DefinitionError(f"room= must return the name of a room, not {type(room).__name__}")
        return room

    async def _until_cut(self, asked: Awaitable[Any]) -> Any:
        watching = anyio.CancelScope()
        with anyio.CancelScope() as scope:
            self._group.start_soon(cancel_when, self._cut, scope, watching)
            try:
                return await asked
            finally:
                watching.cancel()
        raise _CutOffError

    async def _conclude(self, one: Pending, result: DialResult | None, denied: NotTried | None) -> None:
        if result is not None and (error := _setup_error_of(result)) is not None:
            await self._mind_setup(one, error)
            return
        contact, known = one.contact, self._ledger_of(one.contact).read()
        attempts = kept_attempts(known, result)
        new = max(0, len(attempts) - one.starts)
        self._counts["starts"] += new
        one.is_touched = one.is_touched or new > 0 or one.is_open
        one.starts = max(one.starts, len(attempts))
        one.is_open = any(record.is_open for record in known.records)
        if result:
            await self._finish(_ended(one, DialOutcome.ANSWERED, attempts))
        elif (outcome := outcome_of(known)) is not None:
            await self._finish(_ended(one, outcome, attempts))
        elif denied is not None:
            await self._finish(_ended(one, denied, attempts))
        elif one.is_open:
            await self._resume_again(one, attempts)
        elif result is not None and result.attempts and (result.outcome in _FOR_GOOD or _is_for_good(result)):
            await self._finish(result_of(contact, attempts, result.outcome, None, was_known=False))
        else:
            await self._plan_next(one, attempts, is_news=one.is_touched and new > 0)

    async def _mind_setup(self, one: Pending, error: Exception) -> None:
        """End the campaign by a fault of the set-up. A room of the contact's own may only lack its bot for a while: it is tried again later."""
        is_own_room = callable(self._plan.room) and isinstance(error, (NotHosting, DialoutInProgress))
        if not is_own_room or one.unready == _MOST_UNREADY:
            self._setup_error = self._setup_error or error
            return
        one.unready += 1
        known = attempts_of(self._ledger_of(one.contact).read())
        await self._plan_next(one, known, not_before=self._now() + _UNREADY_PAUSE)

    async def _resume_again(self, one: Pending, attempts: Sequence[Attempt]) -> None:
        """Nobody knows yet what came of a start: look again, but not for ever."""
        one.resumed += 1
        if one.resumed < _MOST_RESUMED:
            self._queue.add(one)
            return
        unknown = DialOutcome.UNKNOWN
        await self._finish(result_of(one.contact, attempts, unknown, None, was_known=False))

    # --- whether, and when ----------------------------------------------------------------------------------------

    def _now(self) -> float:
        return self._clock.now() or 0.0

    def _is_out_of_time(self) -> bool:
        return self._plan.until is not None and self._now() >= self._plan.until

    def _is_halted(self) -> bool:
        is_over = self._setup_error is not None or self._is_out_of_time()
        return self._orders.halt is not None or self._calls.is_stopping or is_over

    def _is_place_awaited(self) -> bool:
        return bool(self._queue.due) and not self._is_halted()

    def _opens(self, contact: Contact, at: float) -> float:
        """Return from when on a contact may be called, from a time on, by the hours where they are."""
        hours = self._plan.hours
        return at if hours is None else hours.next_open(at, contact.time_zone)

    def _is_open_for(self, contact: Contact) -> bool:
        self._orders.look()
        now = self._now()
        return not self._is_halted() and self._opens(contact, now) <= now

    async def _must_not_call(self, contact: Contact) -> bool:
        asked = self._plan.do_not_call
        if isinstance(asked, Container):
            return contact.number in asked
        answer: Any = asked(contact.number)
        return bool(await answer if isawaitable(answer) else answer)

    async def _wait_for_turn(self) -> None:
        """Wait until the start rate allows another start."""
        if self._plan.starts_per_second is not None:
            at = max(self._now(), self._next_start)
            self._next_start = at + 1 / self._plan.starts_per_second
            if at > self._now():
                await self._clock.sleep(at - self._now())

    async def _watch_time(self) -> None:
        """At the campaign's end, let calls that ring end, too."""
        if self._plan.until is None:
            return
        await self._clock.sleep(max(0.0, self._plan.until - self._now()))
        self._cut.set()
        self._wake.set()

    # --- what must not be forgotten, and what others are told -----------------------------------------------------

    async def _hold(self) -> None:
        """Let the journal not forget a contact while the campaign runs."""
        while True:
            await self._clock.sleep(self._calls.settings.intent_ttl / _HOLD_SHARE)
            await self._orders.hold()
            for key in self._list.keys.values():
                ledger = self._ledger(key)
                if ledger.read() != Intent():
                    await ledger.post(IntentHeld(intent=ledger.intent))

    def _age(self, known: Intent) -> float:
        """Return how long ago the ledger heard of an intent at the latest."""
        times = [record.ended_at or record.started_at for record in known.records]
        return self._now() - max(times) if times else 0.0

    def _ledger(self, key: str) -> IntentLedger:
        return self._calls.intent_ledger(ledger_name(self._plan.name, key))

    def _ledger_of(self, contact: Contact) -> IntentLedger:
        return self._ledger(contact.key)

    def _wake_up(self) -> None:
        """Let the scheduler look whether there is somebody to call now."""
        self._wake.set()

    def _tell_state(self) -> None:
        self._tell(CampaignChangeKind.STATE)
        self._wake.set()

    def _tell(self, kind: CampaignChangeKind, contact: Contact | InvalidContact | None = None, **more: Any) -> None:
        if self._news.is_followed:
            self._news.tell(CampaignChange(kind, self._now(), self.progress(), contact, **more))


class _CutOffError(Exception):
    """The program was asked for something until all calls were to end."""


class _Gate:
    """Lets a start through at the last moment before it is kept and sent, or does not.

    Args:
        run: of the campaign.
        one: whom it is about.
    """

    def __init__(self, run: CampaignRun, one: Pending) -> None:
        self._run = run
        self._one = one
        self.denied: NotTried | None = None
        """Why they are never called in this campaign."""

    async def may_start(self) -> bool | str:
        """Answer the dialer: see `Gate`."""
        run, contact = self._run, self._one.contact
        if self._one.is_open or not run._is_open_for(contact):
            return False
        await run._wait_for_turn()
        if await run._must_not_call(contact):
            self.denied = NotTried.DO_NOT_CALL
            return str(self.denied)
        if not run._is_open_for(contact):
            return False
        run._tell(CampaignChangeKind.STARTED, contact)
        return True


def _ended(one: Pending, outcome: ContactOutcome, attempts: Sequence[Attempt]) -> ContactResult:
    """Return the result of a contact that is not called again."""
    cut_short = outcome if isinstance(outcome, NotTried) else None
    return result_of(one.contact, attempts, outcome, cut_short, was_known=not one.is_touched)


def _is_for_good(result: DialResult) -> bool:
    return is_for_good(result.attempts[-1], result.error)


def _setup_error_of(result: DialResult) -> Exception | None:
    return setup_error_of(result.attempts[-1], result.error) if result.attempts and not result else None


def _left() -> NotRunning:
    return NotRunning("the dialer was left before the campaign was through: run it again, and it goes on from there")


def _parted(error: BaseException) -> tuple[Exception | None, BaseException | None]:
    """Return the first error, which is what a reader expects of a dial; and what else there is, as a cancellation."""
    if not isinstance(error, BaseExceptionGroup):
        return (error, None) if isinstance(error, Exception) else (None, error)
    errors, rest = error.split(Exception)
    first: BaseException | None = errors
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first if isinstance(first, Exception) else None, rest


async def _each(contacts: Contacts) -> AsyncIterator[str | Contact | InvalidContact]:
    async with AsyncExitStack():
        if isinstance(contacts, AsyncIterable):
            async for one in contacts:
                yield one
        else:
            for one in contacts:
                yield one
