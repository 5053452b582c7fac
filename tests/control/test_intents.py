"""Dials with an intent: in one process, one after another and at once; and after a restart."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from telstate import DefinitionError, Dispatcher, Router, Settings
from telstate.control import Dialer, DialOutcome, DialResult, RoomParticipant
from telstate.control import _intent_turn as intent_turn
from telstate.errors import JournalError, NotAllowed, NotSupported, UnknownResult
from telstate.events import (
    AttemptBegun,
    AttemptEnded,
    DialoutAnswered,
    DialoutConnected,
    DialoutError,
    DialoutRequested,
    DialoutStopped,
    Event,
    IntentClaimed,
    SourceGap,
    StopRequested,
)
from telstate.journals import SqliteJournal
from telstate.options import Permissions, PhoneDialout
from telstate.routing._intent_ledger import IntentLedger
from telstate.testing import FakeControl, PhoneLine, refusals
from tests.control.dial_setup import NUMBER, QUICK, DialSetup, in_memory, over_http, until

pytestmark = pytest.mark.anyio
NAME = "order-4711"
OTHER = "+12025550102"
OPTIONS = PhoneDialout(phone_number=NUMBER)
REQUESTED = DialoutRequested(session_id="s", user_id="u", destination=NUMBER)
CONNECTED = DialoutConnected(session_id="s", user_id="u", destination=NUMBER)
BUSY, RINGS_ON = PhoneLine(busy=True), PhoneLine(answers=None)


@pytest.fixture
def anyio_backend() -> str:
    """The event loop."""
    return "asyncio"


async def advance(phone: DialSetup, seconds: float) -> None:
    """Let time pass, and the engine notice."""
    await phone.clock.sleep(seconds)
    await phone.calls.receive(DialoutConnected(session_id=f"after {seconds}"))


async def test_a_result_is_repeated_without_a_start() -> None:
    """With its attempts and its session, while that is known, and as far as the ledger has it after."""
    settings = Settings(key_ttl=1, retention=2, intent_ttl=20)
    async with in_memory(line=PhoneLine(talks=0.2), calls={"settings": settings}) as phone:
        phone.daily.lines[NUMBER] = [BUSY, PhoneLine(talks=5)]
        first, again = await phone.dial(intent=NAME), await phone.dial(intent=NAME)
        assert first
        assert again
        assert again.session is first.session
        assert [attempt[:5] for attempt in again.attempts] == [attempt[:5] for attempt in first.attempts]
        assert phone.daily.starts(NUMBER) == 2
        other = await phone.dial(intent="order-4712")
        assert other
        assert phone.daily.starts(NUMBER) == 3
        assert phone.calls.sizes()["intents"] == 2
        await advance(phone, 8)  # the sessions have left memory
        late = await phone.dial(intent=NAME)
        assert late
        assert phone.calls.session(late.session.session_id) is None
        assert (late.session.session_id, late.session.ended) == (first.session.session_id, True)
        assert late.session.destination == NUMBER
        await advance(phone, 22)
        assert phone.calls.sizes()["intents"] == 0


async def test_a_budget_is_for_all_dials_of_an_intent() -> None:
    """A later dial with a larger one goes on; with the same one it repeats the result."""
    async with in_memory(line=BUSY) as phone:
        for attempts, starts in ((2, 2), (2, 2), (1, 2), (3, 3)):
            result = await phone.dial(intent=NAME, attempts=attempts)
            assert result.outcome is DialOutcome.UNANSWERED
            assert phone.daily.starts(NUMBER) == starts == len(result.attempts)


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        (PhoneLine(refuses=refusals.INTERNATIONAL_NOT_SUPPORTED), DialOutcome.REFUSED),
        (PhoneLine(start_lost=True), DialOutcome.UNKNOWN),
        (PhoneLine(fails=0.1, error="International dial-out is not enabled for domain"), DialOutcome.FAILED),
    ],
)
async def test_what_must_not_be_dialled_again_ends_the_intent(line: PhoneLine, outcome: DialOutcome) -> None:
    """Whatever the budget is."""
    async with in_memory(line=line) as phone:
        for _ in range(2):
            result = await phone.dial(intent=NAME, attempts=3)
            assert result.outcome is outcome
            assert len(phone.daily.requested) == 1
        if outcome is DialOutcome.REFUSED:
            assert isinstance(result.error, NotAllowed)
        if outcome is DialOutcome.UNKNOWN:
            assert isinstance(result.error, UnknownResult)


@pytest.mark.parametrize(
    ("wrong", "outcome"),
    [
        (PhoneLine(refuses=refusals.Refusal(401, "authentication-error")), DialOutcome.REFUSED),
        (PhoneLine(refuses=refusals.Refusal(402, "payment-required")), DialOutcome.REFUSED),
        (PhoneLine(refuses=refusals.Refusal(404, "not-found", "room support not found")), DialOutcome.REFUSED),
        (PhoneLine(refuses=refusals.NOT_ALLOWED), DialOutcome.REFUSED),
        (PhoneLine(refuses=refusals.NOT_ENABLED_FOR_ROOM), DialOutcome.REFUSED),
        (PhoneLine(refuses=refusals.NOT_HOSTING), DialOutcome.REFUSED),
        (PhoneLine(refuses=refusals.DIALOUT_IN_PROGRESS), DialOutcome.REFUSED),
        (PhoneLine(fails=0.1, error="dial-out is not enabled for domain"), DialOutcome.FAILED),
    ],
)
async def test_a_fault_of_the_set_up_neither_ends_an_intent_nor_counts(wrong: PhoneLine, outcome: DialOutcome) -> None:
    """The key, the account or the room is at fault: once that is mended, the intent has all its starts."""
    async with in_memory() as phone:
        phone.daily.lines[NUMBER] = [BUSY, wrong, wrong, PhoneLine()]
        assert (await phone.dial(intent=NAME, attempts=1)).outcome is DialOutcome.UNANSWERED
        for _ in range(2):
            result = await phone.dial(intent=NAME, attempts=2, until=3)
            assert (result.outcome, len(result.attempts)) == (outcome, 2)
        result = await phone.dial(intent=NAME, attempts=2)
        assert [attempt.outcome for attempt in result.attempts] == ["unanswered", "answered"]


async def test_a_start_that_was_not_sent_does_not_count() -> None:
    """REST carries no permissions."""
    async with over_http() as phone:
        options = PhoneDialout(phone_number=NUMBER, permissions=Permissions(can_receive={"base": True}))
        with pytest.raises(NotSupported):
            await phone.dialer.dial(options, intent=NAME, attempts=1)
        assert await phone.dial(intent=NAME, attempts=1)


async def test_two_at_once_are_one() -> None:
    """The second waits, and gets the result of the first."""
    async with in_memory(line=PhoneLine(answers=0.3)) as phone, anyio.create_task_group() as group:
        results: list[DialResult] = []

        async def dial() -> None:
            results.append(await phone.dial(intent=NAME))

        for _ in range(3):
            group.start_soon(dial)
        await until(lambda: len(results) == 3)
        assert len({result.session.session_id for result in results if result}) == 1
        assert phone.daily.starts(NUMBER) == 1


async def test_a_cancelled_dial_can_be_taken_up() -> None:
    """Its call was ended, and its start counts."""
    async with in_memory() as phone:
        phone.daily.lines[NUMBER] = [RINGS_ON, PhoneLine()]
        with phone.within(0.2):
            await phone.dial(intent=NAME, ring_timeout=10)
        assert phone.daily.live() == []
        result = await phone.dial(intent=NAME, attempts=2)
        assert [attempt.outcome for attempt in result.attempts] == ["cancelled", "answered"]
        assert phone.daily.starts(NUMBER) == 2


async def test_until_ends_a_dial_and_not_its_intent() -> None:
    """With what there is: while it rings, in a pause, and before the first start; by seconds and by an event."""
    async with in_memory(line=RINGS_ON, pauses=[30]) as phone:
        result = await phone.dial(intent=NAME, until=0.2, ring_timeout=10)
        assert (result.outcome, bool(result)) == (DialOutcome.CANCELLED, False)
        (attempt,) = result.attempts
        assert attempt.rang
        assert attempt.started_at is not None
        assert attempt.ended_at is not None
        assert 0.1 < attempt.ended_at - attempt.started_at < 0.6
        assert phone.daily.live() == []
        assert (await phone.dial(until=5)).outcome is DialOutcome.UNANSWERED
        assert (await phone.dial(until=0)).attempts == ()
        event = anyio.Event()
        async with anyio.create_task_group() as group:
            results: list[DialResult] = []

            async def dial() -> None:
                results.append(await phone.dial(until=event, ring_timeout=100))

            group.start_soon(dial)
            await until(phone.daily.live)
            event.set()
            await until(lambda: results)
        assert results[0].outcome is DialOutcome.CANCELLED
        assert phone.daily.live() == []
        phone.daily.lines[NUMBER] = [PhoneLine()]
        assert await phone.dial(intent=NAME, until=100, attempts=2)


async def test_an_attempt_says_whether_it_rang() -> None:
    """As far as `dialout-connected` says it."""
    async with in_memory() as phone:
        for line, rang in ((BUSY, True), (PhoneLine(rings=None, busy=True), False), (RINGS_ON, True), (PhoneLine(rings=None, answers=0.1), True)):  # fmt: skip
            phone.daily.lines[NUMBER] = [line]
            (attempt,) = (await phone.dial(attempts=1)).attempts
            assert (attempt.rang, attempt.destination) == (rang, NUMBER)


async def interrupted(path: Path, *events: object, numbers: Sequence[str] = (NUMBER,)) -> None:
    """Write the journal of a process that ended with starts under way: to one number, with the user id `u`, or to several."""
    async with Dispatcher(Router(), journal=SqliteJournal(path)) as calls:
        now = calls.clock.now() or 0.0
        await calls.receive(IntentClaimed(intent=NAME, claim="dead", expires_at=now + 30))
        for place, number in enumerate(numbers):
            user_id = f"u{place or ''}"
            await calls.receive(AttemptBegun(intent=NAME, claim="dead", user_id=user_id, destination=number))
        for event in events:
            await calls.receive(event)  # type: ignore[arg-type]


async def taken_up(
    path: Path,
    control: FakeControl,
    *events: object,
    attempts: int = 1,
    numbers: Sequence[str] = (NUMBER,),
    ring_timeout: float = 5,
    find_within: float = 1.0,
) -> DialResult:
    """Take it up with another process, which hears of events."""
    results: list[DialResult] = []
    async with (
        Dispatcher(Router(), journal=SqliteJournal(path), control=control) as calls,
        Dialer(calls, **{**QUICK, "room": None, "find_within": find_within}) as dialer,
        anyio.create_task_group() as group,
    ):

        async def dial() -> None:
            targets = [PhoneDialout(phone_number=number) for number in numbers]
            results.append(await dialer.dial(targets, intent=NAME, attempts=attempts, ring_timeout=ring_timeout))

        group.start_soon(dial)
        await anyio.sleep(0.1)
        for event in events:
            await calls.receive(event)  # type: ignore[arg-type]
    return results[0]


async def test_a_call_that_goes_on_is_followed_after_a_restart(tmp_path: Path) -> None:
    """It is found by the events that the journal has, and nothing is started."""
    path, control = tmp_path / "calls.db", FakeControl()
    await interrupted(path, DialoutConnected(session_id="s", user_id="u", destination=NUMBER))
    result = await taken_up(path, control, DialoutAnswered(session_id="s"))
    assert result
    assert result.session.session_id == "s"
    assert control.requests == []


async def test_a_call_that_was_answered_meanwhile_is_the_result(tmp_path: Path) -> None:
    """And stays it, over further restarts and a checkpoint."""
    path, control = tmp_path / "calls.db", FakeControl()
    await interrupted(path, DialoutAnswered(session_id="s", user_id="u", destination=NUMBER))
    for _ in range(2):
        result = await taken_up(path, control, attempts=3)
        assert result
        assert result.session.session_id == "s"
    assert control.requests == []


async def test_a_start_of_which_nothing_is_found_is_unknown(tmp_path: Path) -> None:
    """It is not sent again, whatever the budget."""
    path, control = tmp_path / "calls.db", FakeControl()
    await interrupted(path)
    for _ in range(2):
        result = await taken_up(path, control, attempts=3)
        assert result.outcome is DialOutcome.UNKNOWN
        assert len(result.attempts) == 1
    assert control.requests == []


@pytest.mark.parametrize(("by_dialer", "outcome"), [(True, "answered"), (None, "stopped")])
async def test_a_call_that_a_dialer_gave_up_is_dialled_again(
    tmp_path: Path, by_dialer: bool | None, outcome: str
) -> None:
    """That it was this program which ended it is no reason against it: nobody decided that they should not be reached."""
    path, control = tmp_path / "calls.db", FakeControl()
    stop = StopRequested(session_id="s", by_dialer=by_dialer)
    await interrupted(path, REQUESTED, CONNECTED, stop, DialoutStopped(session_id="s"))
    result = await taken_up(path, control, DialoutAnswered(session_id="dialout-1"), attempts=2)
    assert result.outcome == outcome
    assert [request.verb for request in control.requests] == ["start"] * (outcome == "answered")


async def test_what_presence_does_not_tell_events_do(tmp_path: Path) -> None:
    """Though it hangs for as long as the search goes on."""

    class Deaf(FakeControl):
        """A Daily that does not answer."""

        async def presence(self, room: str | None = None) -> tuple[RoomParticipant, ...]:
            """Hang."""
            await anyio.sleep_forever()
            raise AssertionError(room)

    path = tmp_path / "calls.db"
    await interrupted(path, DialoutAnswered(session_id="s", user_id="u", destination=NUMBER))
    result = await taken_up(path, Deaf())
    assert result
    assert result.session.session_id == "s"


@pytest.mark.parametrize("is_found_late", [False, True])
async def test_the_calls_of_several_targets_are_followed_at_once(tmp_path: Path, is_found_late: bool) -> None:
    """After a restart as before: the first answer ends the others, also one of which the journal did not know yet, and nothing is started."""
    path, control = tmp_path / "calls.db", FakeControl()
    rings = DialoutConnected(session_id="one", user_id="u", destination=NUMBER)
    answers = DialoutAnswered(session_id="two", user_id="u1", destination=OTHER)
    await interrupted(path, *([] if is_found_late else [rings]), numbers=(NUMBER, OTHER))
    news = (answers, rings) if is_found_late else (answers,)
    with anyio.fail_after(30):  # the first one may ring for longer
        result = await taken_up(path, control, *news, numbers=(NUMBER, OTHER), attempts=2, ring_timeout=100)
    assert result
    assert (result.session.session_id, result.destination) == ("two", OTHER)
    assert {(request.verb, request.target) for request in control.requests} == {("stop", "one")}
    again = await taken_up(path, control, numbers=(NUMBER, OTHER), attempts=2)
    assert again
    assert again.session.session_id == "two"


async def test_an_answer_while_nobody_listened_is_waited_for(tmp_path: Path) -> None:
    """Daily may send it again. If it does not, nobody knows whether there was one: it is not dialled again, whatever the budget."""
    stopped, path, other = DialoutStopped(session_id="s"), tmp_path / "calls.db", tmp_path / "other.db"
    for journal in (path, other):
        await interrupted(journal, REQUESTED, CONNECTED)
    control = FakeControl()
    result = await taken_up(path, control, stopped, DialoutAnswered(session_id="s"), attempts=2, find_within=60)
    assert result
    assert result.session.session_id == "s"
    for _ in range(2):
        result = await taken_up(other, control, stopped, attempts=2, find_within=0.1)
        assert result.outcome is DialOutcome.UNKNOWN
        assert "events may have been missed" in str(result.attempts[0].error)
    assert control.requests == []


async def test_an_answer_that_the_killed_process_would_have_heard_was_none(tmp_path: Path) -> None:
    """It heard the end of the call: it is dialled again."""
    path, control = tmp_path / "calls.db", FakeControl()
    await interrupted(path, REQUESTED, CONNECTED, DialoutStopped(session_id="s"))
    assert await taken_up(path, control, DialoutAnswered(session_id="dialout-1"), attempts=2)
    assert [request.verb for request in control.requests] == ["start"]


async def test_what_daily_says_itself_needs_no_answer(tmp_path: Path) -> None:
    """That the callee was busy is told, whoever listened before."""
    path, control = tmp_path / "calls.db", FakeControl()
    await interrupted(path, REQUESTED, CONNECTED)
    busy = DialoutError(session_id="s", error="CallBusy", error_msg="call failed: 486 Busy Here")
    result = await taken_up(path, control, busy, attempts=1, find_within=60)
    assert result.outcome is DialOutcome.UNANSWERED


@pytest.mark.long
@pytest.mark.parametrize(
    ("present", "outcome"),
    [(["bot"], DialOutcome.UNANSWERED), (["bot", "s"], DialOutcome.UNKNOWN), ([], DialOutcome.UNKNOWN)],
    ids=["only the bot", "the callee too", "nobody"],
)
async def test_a_call_that_still_rings_was_not_answered_while_nobody_listened(
    tmp_path: Path, present: list[str], outcome: DialOutcome
) -> None:
    """Daily can stop it, and lists who is in the room, but not the callee. A list without anybody says nothing."""
    path, control = tmp_path / "calls.db", FakeControl()
    control.participants += [RoomParticipant(one, None, None) for one in present]
    await interrupted(path, REQUESTED, CONNECTED)
    result = await taken_up(path, control, attempts=1, ring_timeout=0.1, find_within=0.1)
    assert result.outcome is outcome
    assert {request.verb for request in control.requests} == {"stop"}


@pytest.mark.long
async def test_who_is_asked_to_end_soon_after_a_restart_leaves_it_to_the_next_one(tmp_path: Path) -> None:
    """It ends the call, but does not say that nobody answered: the next process may still hear it."""
    path, control, asked = tmp_path / "calls.db", FakeControl(), anyio.Event()
    await interrupted(path, REQUESTED, CONNECTED)
    async with (
        Dispatcher(Router(), journal=SqliteJournal(path), control=control) as calls,
        Dialer(calls, **{**QUICK, "room": None, "find_within": 60}) as dialer,
        anyio.create_task_group() as group,
    ):

        def is_found() -> bool:
            runs = [one.run for one in dialer._dials if one.run is not None]
            return any(attempt.session_id for run in runs for attempt in run._current)

        async def ask() -> None:
            await until(is_found)
            asked.set()

        group.start_soon(ask)
        result = await dialer.dial(OPTIONS, intent=NAME, attempts=2, until=asked)
        assert result.outcome is DialOutcome.UNKNOWN
    assert [request.verb for request in control.requests][-1:] == ["stop"]
    result = await taken_up(path, control, DialoutAnswered(session_id="s"), attempts=2, find_within=60)
    assert result
    assert result.session.session_id == "s"


@pytest.mark.parametrize("is_answered", [True, False])
async def test_an_end_after_events_may_have_been_missed(is_answered: bool) -> None:
    """As after a restart: a receiver that was cut off, or a process that stood still. Without an intent, too."""
    control, results = FakeControl(), list[DialResult]()
    times = {**QUICK, "room": None, "find_within": 60 if is_answered else 0.1}
    async with (
        Dispatcher(Router(), control=control) as calls,
        Dialer(calls, **times) as dialer,
        anyio.create_task_group() as group,
    ):

        async def dial() -> None:
            results.append(await dialer.dial(OPTIONS, attempts=2, ring_timeout=60))

        group.start_soon(dial)
        await until(lambda: calls.session("dialout-1"))
        await calls.receive(SourceGap(reason="cut off"))
        await calls.receive(DialoutConnected(session_id="dialout-1"))
        await calls.receive(DialoutStopped(session_id="dialout-1"))
        if is_answered:
            await calls.receive(DialoutAnswered(session_id="dialout-1"))
    (result,) = results
    assert result.outcome is (DialOutcome.ANSWERED if is_answered else DialOutcome.UNKNOWN)
    assert [request.verb for request in control.requests] == ["start"]


@pytest.mark.long
async def test_a_ring_timeout_that_passed_while_the_process_stood_still() -> None:
    """What came meanwhile is taken in first: whoever has answered is not hung up on."""
    control, results = FakeControl(), list[DialResult]()
    async with (
        Dispatcher(Router(), control=control) as calls,
        Dialer(calls, **{**QUICK, "room": None}) as dialer,
        anyio.create_task_group() as group,
    ):

        async def dial() -> None:
            results.append(await dialer.dial(OPTIONS, attempts=2, ring_timeout=0.3))

        group.start_soon(dial)
        await until(lambda: calls.session("dialout-1"))
        time.sleep(1.0)  # noqa: ASYNC251 - that is what is tested
        await anyio.sleep(0.1)  # the answer waits in a socket, behind the timeout
        await calls.receive(DialoutAnswered(session_id="dialout-1"))
    assert results[0]
    assert [request.verb for request in control.requests] == ["start"]


async def test_who_lost_its_claim_dials_again_when_it_is_its_turn() -> None:
    """A process that stood still: it starts nothing without the claim, and that is no error."""
    async with in_memory() as phone, anyio.create_task_group() as group:
        phone.daily.lines[NUMBER] = [RINGS_ON, PhoneLine()]
        results: list[DialResult] = []

        async def dial() -> None:
            results.append(await phone.dial(intent=NAME, attempts=2))

        group.start_soon(dial)
        await until(phone.daily.live)
        now = phone.clock.now() or 0.0
        claim = IntentClaimed(intent=NAME, claim="other", expires_at=now + 1, takes_over=True)
        await phone.calls.receive(claim)
        await until(lambda: results)
        assert [attempt.outcome for attempt in results[0].attempts] == ["unanswered", "answered"]
        assert phone.daily.starts(NUMBER) == 2


@pytest.mark.long
async def test_an_end_is_kept_though_the_process_stands_still_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time in which it stands still is no time in which its journal had it to keep."""
    post = IntentLedger.post

    async def standing_still(ledger: IntentLedger, event: Event) -> None:
        if isinstance(event, AttemptEnded):
            time.sleep(0.6)  # noqa: ASYNC251 - that is what is tested
            for _ in range(5):  # whatever is overdue comes to pass
                await anyio.lowlevel.checkpoint()
        await post(ledger, event)

    monkeypatch.setattr(intent_turn, "_KEEP_WITHIN", 0.5)
    monkeypatch.setattr(IntentLedger, "post", standing_still)
    async with in_memory() as phone:
        assert await phone.dial(intent=NAME)
        known = phone.calls.intent_ledger(NAME).read()
        assert ([record.outcome for record in known.records], known.outcome) == (["answered"], "answered")


async def test_an_intent_is_not_over_while_the_end_of_a_start_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its result would be that of the starts whose ends are known. The next dial finds out what came of it."""
    post = IntentLedger.post

    async def failing(ledger: IntentLedger, event: Event) -> None:
        if isinstance(event, AttemptEnded):
            raise JournalError("disk full")
        await post(ledger, event)

    async with in_memory() as phone:
        with monkeypatch.context() as broken:
            broken.setattr(IntentLedger, "post", failing)
            first = await phone.dial(intent=NAME)
        again = await phone.dial(intent=NAME)
        assert first
        assert again
        assert again.session is first.session
        assert phone.daily.starts(NUMBER) == 1
        assert phone.calls.intent_ledger(NAME).read().outcome == "answered"


async def test_arguments_are_checked() -> None:
    """Before anything is sent."""
    async with in_memory() as phone:
        for name in ("", " ", f" {NAME}", f"{NAME}\n", "x" * 1025, "\ud800"):
            with pytest.raises(DefinitionError, match="must be a name"):
                await phone.dial(intent=name)
        assert phone.calls.sizes()["intents"] == 0
        with pytest.raises(DefinitionError, match="leave user_id out"):
            await phone.dialer.dial(PhoneDialout(phone_number=NUMBER, user_id="u"), intent=NAME)
        for until_ in (-1, "later"):
            with pytest.raises(DefinitionError, match="until="):
                await phone.dial(until=until_)
        assert phone.daily.requested == []
