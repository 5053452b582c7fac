"""The dialer, against a fake of Daily over HTTP: what each kind of line and each kind of loss makes of a dial."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from telstate import (
    CallEnded,
    DefinitionError,
    DialoutAnswered,
    Dispatcher,
    NotRunning,
    NotSupported,
    Router,
    Session,
    State,
)
from telstate.control import Dialer, DialOutcome, Permissions, PhoneDialout, RestControl, SipDialout
from telstate.control._api import DailyApi
from telstate.control._call_transport import RoomParticipant
from telstate.errors import DailyError, JournalError, NoSuchSession, TemporarilyNotAvailable, UnknownResult
from telstate.events import DialinConnected, DialinStopped, DialoutConnected, DialoutError, DialoutStopped
from telstate.journals import JsonlJournal
from telstate.testing import _phone_lines as lines
from telstate.testing._daily import FakeDaily, PhoneLine
from telstate.testing._faults import App, hang, instead
from tests.control.calling import NUMBER, ROOM, Phone, phone, until
from tests.control.wire import QUICK, Wire

pytestmark = pytest.mark.asyncio

RINGS_ON = PhoneLine(answers=None)
BUSY = PhoneLine(busy=True)


def kinds(result: Any) -> list[str]:
    """What came of each attempt."""
    return [str(attempt.outcome) for attempt in result.attempts]


async def test_answered_at_once() -> None:
    """One start, and the session is the live one."""
    async with phone() as line:
        result = await line.dial()
        assert result.answered
        assert kinds(result) == ["answered"]
        assert result.destination == NUMBER
        assert isinstance(result.session, Session)
        assert result.session is line.calls.session(result.session.session_id)
        assert result.session.state is State.ANSWERED
        assert result.session.user_id == result.attempts[0].user_id
        assert [leg.session_id for leg in line.daily.live(NUMBER)] == [result.session.session_id]
        assert line.dialer.sizes() == {"dials": 0, "starts": 0, "places": 1}


@pytest.mark.parametrize(
    ("first", "came"),
    [
        (BUSY, "unanswered"),
        (PhoneLine(gives_up=0.1), "unanswered"),
        (RINGS_ON, "unanswered"),
        (PhoneLine(rings=None, busy=True), "unanswered"),
        (PhoneLine(fails=0.1), "failed"),
        (PhoneLine(refuses=lines.TEMPORARILY_NOT_AVAILABLE), "refused"),
        (PhoneLine(refuses=lines.TOO_MANY_REQUESTS), "refused"),
        (PhoneLine(refuses=lines.TOO_MANY_SESSIONS), "refused"),
        (PhoneLine(busy=True, loses={"dialout.stopped"}), "unanswered"),
        (PhoneLine(answers=None, loses={"dialout.stopped"}), "unanswered"),
        (PhoneLine(answers=None, loses={"dialout.connected"}), "unanswered"),
        (PhoneLine(refuses=lines.NOT_HOSTING), "refused"),
        (PhoneLine(answer_lost=True, busy=True), "unanswered"),
    ],
)
async def test_tried_again(first: PhoneLine, came: str) -> None:
    """Each of these may go better the next time, and the call before is over by then."""
    async with phone() as line:
        line.daily.lines[NUMBER] = [first, PhoneLine()]
        result = await line.dial()
        assert kinds(result) == [came, "answered"]
        assert line.daily.most_at_once(NUMBER) == 1
        assert result.attempts[0].user_id != result.attempts[1].user_id
        assert result.session.session_id == result.attempts[1].session_id


@pytest.mark.parametrize(
    ("only", "outcome"),
    [
        (PhoneLine(refuses=lines.NOT_ALLOWED), DialOutcome.REFUSED),
        (PhoneLine(refuses=lines.NOT_ENABLED_FOR_ROOM), DialOutcome.REFUSED),
        (PhoneLine(refuses=lines.NUMBERS_NOT_ENABLED), DialOutcome.REFUSED),
        (PhoneLine(refuses=lines.INTERNATIONAL_NOT_SUPPORTED), DialOutcome.REFUSED),
        (PhoneLine(refuses=lines.DIALOUT_IN_PROGRESS), DialOutcome.REFUSED),
        (PhoneLine(refuses=lines.Refusal(400, "invalid-request-error", "something new")), DialOutcome.REFUSED),
        (PhoneLine(fails=0.05, error="SIP/PSTN dial-out is not enabled for domain"), DialOutcome.FAILED),
        (PhoneLine(start_lost=True), DialOutcome.UNKNOWN),
    ],
)
async def test_ended_at_once(only: PhoneLine, outcome: DialOutcome) -> None:
    """Another try would meet the same, or might be a second call."""
    async with phone(find_within=0.3) as line:
        line.daily.lines[NUMBER] = only
        result = await line.dial(attempts=5)
        assert result.outcome is outcome
        assert kinds(result) == [str(outcome)]
        assert (result.error is not None) == (outcome is not DialOutcome.FAILED)
        starts = [seen for seen in line.daily.seen if seen.path.endswith("/dialOut/start")]
        assert len(starts) == 1


async def test_the_budget_is_one() -> None:
    """Whatever the attempts end by."""
    async with phone() as line:
        refused = PhoneLine(refuses=lines.TEMPORARILY_NOT_AVAILABLE)
        line.daily.lines[NUMBER] = [BUSY, refused, PhoneLine(fails=0.02), PhoneLine()]
        result = await line.dial(attempts=3)
        assert kinds(result) == ["unanswered", "refused", "failed"]
        assert result.outcome is DialOutcome.FAILED
        assert result.session.error_msg == lines.PhoneLine().error
        assert line.daily.starts(NUMBER) == 2


async def test_a_refused_start_is_an_event() -> None:
    """In Python Daily tells no other, so handlers would wait for ever."""
    router, told = Router(), list[Session]()

    @router.on_end()
    async def ended(session: Session) -> None:
        told.append(session)

    async with phone(router=router) as line:
        line.daily.lines[NUMBER] = PhoneLine(refuses=lines.NOT_ALLOWED)
        result = await line.dial()
        await line.calls.idle()
        assert [(one.state, one.cause, one.room, one.destination) for one in told] == [
            (State.ERROR, "refused", ROOM, NUMBER)
        ]
        assert result.session is told[0]
        assert "not enabled" in (told[0].error_msg or "")


async def test_pauses_grow_and_heed_what_daily_asks() -> None:
    """By a fault that says how long to wait."""
    async with phone(pauses=[0.0, 0.25]) as line:
        line.daily.lines[NUMBER] = [BUSY, BUSY, PhoneLine()]
        await line.dial()
        first, second, third = (leg.started_at for leg in line.daily.sessions)
        assert second - first < 0.18 < third - second
        line.daily.faults.append(instead(429, b'{"error": "rate-limit-error"}', retry_after="1"))
        begun = anyio.current_time()
        assert kinds(await line.dial("+12025550102")) == ["refused", "answered"]
        assert anyio.current_time() - begun > 0.9


# --- what is lost -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lost",
    [
        PhoneLine(answer_lost=True),
        PhoneLine(answer_lost=True, answers=0.3),
        PhoneLine(answer_after=0.8, answers=0.1),
        PhoneLine(answer_lost=True, loses={"dialout.connected"}),
    ],
)
async def test_a_start_without_an_answer_is_found_by_its_events(lost: PhoneLine) -> None:
    """And is the same attempt as before."""
    async with phone(start_timeout=0.3) as line:
        line.daily.lines[NUMBER] = lost
        result = await line.dial()
        assert kinds(result) == ["answered"]
        assert result.session.session_id == line.daily.live(NUMBER)[0].session_id
        assert line.daily.starts(NUMBER) == 1


async def test_a_start_without_an_answer_and_events_is_found_in_the_room() -> None:
    """Then its ringing is over, as its answer is not heard of either: it is ended, and tried again."""
    silent = {"dialout.connected", "dialout.answered", "participant.joined"}
    async with phone() as line:
        line.daily.lines[NUMBER] = [PhoneLine(answer_lost=True, loses=silent), PhoneLine()]
        result = await line.dial()
        assert kinds(result) == ["unanswered", "answered"]
        assert result.attempts[0].session_id == line.daily.sessions[0].session_id
        assert line.daily.most_at_once(NUMBER) == 1


async def test_what_is_found_nowhere_is_unknown() -> None:
    """And never dialled again, though here it rings."""
    everything = {"dialout.connected", "dialout.answered", "dialout.stopped", "participant.joined"}
    async with phone(find_within=0.3) as line:
        line.daily.lines[NUMBER] = PhoneLine(answer_lost=True, answers=None, loses=everything)
        result = await line.dial(attempts=5)
        assert (result.outcome, result.session) == (DialOutcome.UNKNOWN, None)
        assert "look before you send it again" in str(result.error)
        assert line.daily.starts(NUMBER) == 1
        assert line.dialer.sizes() == {"dials": 0, "starts": 0, "places": 0}


async def test_a_hang_up_that_cannot_be_made_sure_of_is_unknown() -> None:
    """A second call beside one that may still ring would be the worst."""
    async with phone() as line:
        line.daily.lines[NUMBER] = RINGS_ON
        line.daily.rules["/rooms/*/dialOut/stop"] = instead(500)
        result = await line.dial(ring_timeout=0.2)
        assert result.outcome is DialOutcome.UNKNOWN
        assert result.session.session_id == line.daily.live(NUMBER)[0].session_id
        assert line.daily.starts(NUMBER) == 1


async def test_whoever_hears_nothing_hangs_up_on_people_only_once() -> None:
    """Without a webhook, or with one that is switched off, nobody knows that somebody picked up."""
    async with phone() as line:
        line.daily.hooks = {}
        result = await line.dial(ring_timeout=0.3)
        assert kinds(result) == ["unknown"]
        assert "webhook check" in str(result.error)
        assert line.daily.live(NUMBER) == []
        assert line.daily.starts(NUMBER) == 1


async def test_a_hang_up_that_nobody_told_keeps_a_place_only_until_somebody_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Then Daily is asked who is there: else no dial after five such calls would ever return."""
    monkeypatch.setattr("telstate.control._rest._PRESENCE_LAG", 0.2)
    async with phone(per_room=2, doubt_after=0.1) as line:
        lost = PhoneLine(talks=0.1, loses={"dialout.stopped", "participant.left"})
        line.daily.lines.default = lost
        first, second = await line.dial("+12025550111"), await line.dial("+12025550112")
        await until(lambda: not line.daily.live())
        assert line.dialer.sizes()["places"] == 2
        with anyio.fail_after(5):
            assert (await line.dial()).answered
        assert {first.session.cause, second.session.cause} == {"expired"}


async def test_who_is_there_keeps_his_place() -> None:
    """However often Daily is asked."""
    async with phone(per_room=1, doubt_after=0.05) as line:
        first = await line.dial("+12025550111")
        with anyio.move_on_after(0.5):
            await line.dial()
        assert line.daily.starts(NUMBER) == 0
        assert first.session.state is State.ANSWERED


async def test_one_denial_is_not_believed() -> None:
    """Of a start that was just accepted, a part of Daily may know nothing yet: here it rings on, and is stopped all the same."""
    denial = instead(404, b'{"error": "not-found", "info": "No dialout to stop"}')
    async with phone() as line:
        line.daily.lines[NUMBER] = [RINGS_ON, PhoneLine()]

        async def once(*request: Any) -> None:
            del line.daily.rules["/rooms/*/dialOut/stop"]
            await denial(*request)

        line.daily.rules["/rooms/*/dialOut/stop"] = once
        result = await line.dial(ring_timeout=0.2)
        assert kinds(result) == ["unanswered", "answered"]
        assert line.daily.most_at_once(NUMBER) == 1


async def test_a_denial_says_nothing_once_the_stop_is_accepted() -> None:
    """The call ends a moment after the accepted stop, and only then the next one is made."""
    wire: Any = Wire()
    end, tried = wire.stop, 0

    async def stop(session: Session) -> None:
        nonlocal tried
        tried += 1
        if tried == 1:
            raise NoSuchSession("no dialout to stop", status=404)
        if tried == 2:
            group.start_soon(soon, session)
            return
        await end(session)

    async def soon(session: Session) -> None:
        await anyio.sleep(0.05)
        await end(session)

    wire.stop = stop
    async with wired(wire) as dialer, anyio.create_task_group() as group:
        assert kinds(await dialer.dial(OPTIONS, attempts=2, ring_timeout=0.05)) == ["unanswered", "unanswered"]
    assert len(wire.legs) == 2
    assert wire.most == 1


async def test_an_end_that_is_told_before_the_answer_to_the_stop_is_waited_for_no_more() -> None:
    """Its event may overtake Daily's answer."""

    async def late(app: App, scope: Any, receive: Any, send: Any) -> None:
        async def slowly(message: Any) -> None:
            if message["type"] == "http.response.start":
                await anyio.sleep(0.3)
            await send(message)

        await app(scope, receive, slowly)

    async with phone(stops=[30.0]) as line:
        line.daily.lines[NUMBER] = RINGS_ON
        line.daily.rules["/rooms/*/dialOut/stop"] = late
        with anyio.fail_after(5):
            result = await line.dial(attempts=1, ring_timeout=0.1)
        assert result.outcome is DialOutcome.UNANSWERED
        assert result.session.ended_by == "local"


async def test_waiters_wake_though_the_end_is_told_by_nobody() -> None:
    """Daily's word that there is no such call ends the session."""
    async with phone() as line:
        line.daily.lines[NUMBER] = PhoneLine(answers=None, loses={"dialout.stopped"})
        async with anyio.create_task_group() as group:
            group.start_soon(line.dial)
            await until(line.calls.live)
            with pytest.raises(CallEnded) as ended:
                await line.calls.wait_for(line.calls.live()[0].session_id, State.ANSWERED, timeout=5)
            assert ended.value.session.ended_by == "local"
            group.cancel_scope.cancel()


async def test_of_two_starts_with_one_user_id_none_is_mistaken() -> None:
    """A user id that the program gives may be on several calls."""
    async with phone(start_timeout=0.3) as line:
        line.daily.lines["+12025550103"] = PhoneLine(answer_lost=True, answers=0.2)
        results: dict[str, Any] = {}

        async def dial(number: str) -> None:
            results[number] = await line.dialer.dial(
                PhoneDialout(phone_number=number, user_id="customer-7"), ring_timeout=1
            )

        async with anyio.create_task_group() as group:
            for number in (NUMBER, "+12025550103"):
                group.start_soon(dial, number)
        for number, result in results.items():
            assert result.outcome is DialOutcome.ANSWERED
            assert result.session.destination == number
            assert line.daily.starts(number) == 1


# --- who gives up -----------------------------------------------------------------------------------------------------


async def cancelled(line: Phone, after: float, by: str) -> None:
    """Dial, and give it up after a while, by anyio's means or by asyncio's."""
    if by == "anyio":
        with anyio.move_on_after(after):
            await line.dial(ring_timeout=5)
    else:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(line.dial(ring_timeout=5), after)


@pytest.mark.parametrize("by", ["anyio", "asyncio"])
@pytest.mark.parametrize(
    ("ringing", "after"),
    [
        (RINGS_ON, 0.2),
        (PhoneLine(answers=None, loses={"dialout.stopped"}), 0.2),
        (PhoneLine(answers=None, answer_after=0.3), 0.05),
        (PhoneLine(answers=None, answer_lost=True), 0.02),
        (PhoneLine(answers=0.2, answer_after=0.4), 0.1),
        (BUSY, 0.3),
    ],
)
async def test_whoever_cancels_has_the_call_ended(ringing: PhoneLine, after: float, by: str) -> None:
    """Also one whose start is not answered yet; and nothing is dialled after that."""
    async with phone(start_timeout=1.0, pauses=[0.2]) as line:
        line.daily.lines[NUMBER] = ringing
        await cancelled(line, after, by)
        assert line.daily.live(NUMBER) == []
        starts = line.daily.starts(NUMBER)
        await anyio.sleep(0.3)
        assert line.daily.starts(NUMBER) == starts
        assert line.dialer.sizes() == {"dials": 0, "starts": 0, "places": 0}


async def test_leaving_the_dialer_ends_what_rings() -> None:
    """Not what was answered."""
    options = PhoneDialout(phone_number="+12025550102")
    async with phone() as line:
        line.daily.lines["+12025550102"] = RINGS_ON
        async with anyio.create_task_group() as group:
            async with Dialer(line.calls, room=ROOM) as dialer:

                async def dial() -> None:
                    with pytest.raises(NotRunning, match="was ended"):
                        await dialer.dial(options)

                answered = await dialer.dial(PhoneDialout(phone_number=NUMBER))
                group.start_soon(dial)
                await until(lambda: line.daily.live("+12025550102"))
            assert answered.session is not None
            assert [leg.session_id for leg in line.daily.live()] == [answered.session.session_id]
            with pytest.raises(NotRunning, match="inside its own block"):
                await dialer.dial(options)


async def test_shut_down_ends_what_rings(tmp_path: Path) -> None:
    """And knows it: their ends are taken in, so that the next start finds no ghosts who have a place."""
    daily, journal = FakeDaily(), tmp_path / "calls.jsonl"
    async with phone(daily, calls={"journal": JsonlJournal(journal)}) as line:
        line.daily.lines[NUMBER] = RINGS_ON
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(line.dial)
            await until(lambda: len(line.daily.live(NUMBER)) == 3)
            line.calls.shut_down()
            await anyio.sleep(30)
    assert daily.live(NUMBER) == []
    async with Dispatcher(Router(), journal=JsonlJournal(journal)) as again:
        assert again.live() == []


async def test_answered_while_it_is_ended_is_answered() -> None:
    """The ring timeout came first, and the stop was on its way: whoever picked up is not called again."""

    async def slow(app: App, scope: Any, receive: Any, send: Any) -> None:
        await anyio.sleep(0.4)
        await app(scope, receive, send)

    async with phone() as line:
        line.daily.lines[NUMBER] = PhoneLine(answers=0.4)
        line.daily.rules["/rooms/*/dialOut/stop"] = slow
        result = await line.dial(ring_timeout=0.2)
        assert kinds(result) == ["answered"]
        assert result.session.ended
        assert result.session.ended_by == "local"
        assert line.daily.starts(NUMBER) == 1


async def test_answered_though_the_stop_was_refused_is_a_call() -> None:
    """It is not ended any more, either."""
    refused = instead(400, b'{"error": "invalid-request-error", "info": "not in SFU mode"}')
    async with phone() as line:
        line.daily.lines[NUMBER] = PhoneLine(answers=0.3)
        line.daily.faults.extend([_started, refused])
        result = await line.dial(ring_timeout=0.15)
        assert kinds(result) == ["answered"]
        assert result.error is None
        assert result.session.state is State.ANSWERED
        assert [leg.session_id for leg in line.daily.live()] == [result.session.session_id]


@pytest.mark.parametrize("by", ["task", "leaving"])
async def test_answered_while_it_is_ended_and_cancelled_is_ended(by: str) -> None:
    """The stop was refused meanwhile: another one is sent, for nobody waits for that call any more."""

    async def slow(app: App, scope: Any, receive: Any, send: Any) -> None:
        await anyio.sleep(0.4)
        await instead(400, b'{"info": "not in SFU mode"}')(app, scope, receive, send)

    async with phone() as line:
        line.daily.lines[NUMBER] = PhoneLine(answers=0.3)
        line.daily.faults.extend([_started, slow])
        quick: dict[str, Any] = {"room": ROOM, "stops": [0.3, 0.3, 0.3]}
        async with Dialer(line.calls, **quick) as dialer:
            options = PhoneDialout(phone_number=NUMBER)
            task = asyncio.create_task(dialer.dial(options, ring_timeout=0.2))
            await asyncio.sleep(0.4)
            if by == "task":
                task.cancel()
                await asyncio.wait([task])
        (told,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(told, NotRunning if by == "leaving" else asyncio.CancelledError)
        await until(lambda: not line.daily.live(NUMBER))
        assert line.daily.starts(NUMBER) == 1


async def test_an_answer_that_is_told_while_the_next_rings_ends_it_there() -> None:
    """No third start, though two were not answered as far as was known."""
    async with phone() as line:
        late = PhoneLine(answers=0.05, talks=0.05, delays={"dialout.answered": 0.4})
        line.daily.lines[NUMBER] = [late, PhoneLine(answers=None), PhoneLine()]
        result = await line.dial(ring_timeout=0.6)
        assert kinds(result) == ["answered", "unanswered"]
        assert result.answered
        assert result.session.session_id == result.attempts[0].session_id
        assert line.daily.starts(NUMBER) == 2


async def test_an_answer_that_is_told_while_the_next_is_refused_for_good_is_an_answer() -> None:
    """Nobody is told "refused" of somebody who picked up."""
    async with phone(pauses=[0.2]) as line:
        first = PhoneLine(answers=0.05, talks=0.05, delays={"dialout.answered": 0.5})
        line.daily.lines[NUMBER] = [first, PhoneLine(refuses=lines.NOT_ALLOWED, answer_after=0.4)]
        result = await line.dial()
        assert kinds(result) == ["answered", "refused"]
        assert (result.outcome, result.error) == (DialOutcome.ANSWERED, None)
        assert result.session.session_id == result.attempts[0].session_id


async def test_a_call_that_could_not_be_ended_is_said_to_who_cancelled_too() -> None:
    """By the log: the result is nobody's."""
    async with phone() as line:
        line.daily.lines[NUMBER] = RINGS_ON
        line.daily.rules["/rooms/*/dialOut/stop"] = instead(400, b'{"info": "not in SFU mode"}')
        with capture_logs() as logs:
            with anyio.move_on_after(0.3):
                await line.dial(ring_timeout=0.1)
            await until(lambda: not line.dialer.sizes()["dials"])
        assert [log["log_level"] for log in logs if log["event"] == "dial.not_ended"] == ["error"]
        del line.daily.rules["/rooms/*/dialOut/stop"]


async def test_an_answer_that_is_told_after_the_end_is_an_answer() -> None:
    """If it comes before the next start."""
    async with phone(pauses=[0.5]) as line:
        line.daily.lines[NUMBER] = PhoneLine(answers=0.05, talks=0.05, delays={"dialout.answered": 0.3})
        result = await line.dial()
        assert kinds(result) == ["answered"]
        assert result.session.amended
        assert line.daily.starts(NUMBER) == 1
        assert line.dialer.sizes() == {"dials": 0, "starts": 0, "places": 0}


async def test_a_call_that_could_not_be_ended_says_why() -> None:
    """There is no event for it, and the result is all that the program sees."""
    async with phone() as line:
        line.daily.lines[NUMBER] = RINGS_ON
        line.daily.rules["/rooms/*/dialOut/stop"] = instead(400, b'{"info": "not in SFU mode"}')
        result = await line.dial(ring_timeout=0.1)
        assert result.outcome is DialOutcome.UNKNOWN
        assert isinstance(result.error, UnknownResult)
        assert "not in SFU mode" in str(result.error)
        assert result.attempts[0].error == str(result.error)


async def _started(app: App, scope: Any, receive: Any, send: Any) -> None:
    """No fault: a start that is let through."""
    await app(scope, receive, send)


async def test_a_call_that_the_program_stops_itself_is_not_dialled_again() -> None:
    """As by a handler of a deadline, or of another call."""
    async with phone() as line:
        line.daily.lines[NUMBER] = RINGS_ON
        async with anyio.create_task_group() as group:

            async def stop() -> None:
                await until(line.calls.live)
                await anyio.sleep(0.05)
                await line.calls.stop(line.calls.live()[0])

            group.start_soon(stop)
            result = await line.dial(ring_timeout=5)
        assert kinds(result) == ["stopped"]
        assert result.session.ended_by == "local"


# --- limits -----------------------------------------------------------------------------------------------------------


async def test_a_room_holds_five() -> None:
    """The sixth waits for a place, and Daily has nothing to refuse; who dialled in counts."""
    async with phone() as line:
        line.daily.lines.default = PhoneLine(talks=0.3)
        (endpoint,) = line.daily.host(ROOM)
        line.daily.dial_in(endpoint, talks=0.5)
        await until(line.calls.live)
        results: list[Any] = []

        async def dial(number: int) -> None:
            results.append(await line.dial(f"+120255502{number:02}", attempts=1, ring_timeout=3))

        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(dial, number)
        assert [result.outcome for result in results] == [DialOutcome.ANSWERED] * 12
        assert most_in_room(line.daily) == 5
        await anyio.to_thread.run_sync(line.daily.settled)


async def test_a_key_has_its_own_limit() -> None:
    """In whatever room."""
    async with phone(per_key=1) as line:
        line.daily.host("other")
        line.daily.lines.default = PhoneLine(talks=0.2)
        async with anyio.create_task_group() as group:
            for number, room in enumerate((ROOM, "other", ROOM)):
                group.start_soon(partial(line.dial, f"+120255502{number:02}", room=room, key="k", ring_timeout=3))
        assert most(line.daily.sessions) == 1


def most(legs: Sequence[Any]) -> int:
    """The most that lived at one time."""
    steps = sorted((at, step) for leg in legs for at, step in ((leg.started_at, 1), (leg.ended_at or 1e12, -1)))
    now, highest = 0, 0
    for _, step in steps:
        now += step
        highest = max(highest, now)
    return highest


def most_in_room(daily: FakeDaily) -> int:
    """The most sessions in the room."""
    return most([leg for leg in daily.sessions if leg.room == ROOM])


# --- misuse -----------------------------------------------------------------------------------------------------------


async def test_misuse_is_said_before_anything_is_sent() -> None:
    """Each in words that say what to do."""
    async with phone() as line:
        with pytest.raises(DefinitionError, match="takes a SipDialout or a PhoneDialout, not dict"):
            await line.dialer.dial({"phoneNumber": NUMBER})  # type: ignore[arg-type]
        with pytest.raises(DefinitionError, match="at least 1"):
            await line.dial(attempts=0)
        with pytest.raises(DefinitionError, match="attempts=True"):
            await line.dial(attempts=True)
        for nothing in (0, None, "3"):
            with pytest.raises(DefinitionError, match="above 0"):
                await line.dial(ring_timeout=nothing)
        permitted = PhoneDialout(phone_number=NUMBER, permissions=Permissions(can_receive={"base": False}))
        with pytest.raises(NotSupported, match="permissions"):
            await line.dialer.dial(permitted)
        with pytest.raises(DefinitionError, match="per_room=0"):
            Dialer(line.calls, per_room=0)
        with pytest.raises(DefinitionError, match="pauses"):
            Dialer(line.calls, pauses=[])
        with pytest.raises(NotRunning, match="runs once"):
            await line.dialer.__aenter__()
        assert [seen.path for seen in line.daily.seen if "dialOut" in seen.path] == []
        assert line.dialer.sizes() == {"dials": 0, "starts": 0, "places": 0}


async def test_a_dialer_needs_a_way_to_daily() -> None:
    """A dispatcher without one can only listen."""
    with pytest.raises(DefinitionError, match="control=RestControl"):
        Dialer(Dispatcher(Router()))
    async with DailyApi("key", url="http://127.0.0.1:1") as api:
        control = RestControl(api)
        with pytest.raises(NotRunning, match="before its dialer"):
            await Dialer(Dispatcher(Router(), control=control)).__aenter__()
        async with Dispatcher(Router(), control=control) as calls, Dialer(calls) as dialer:
            with pytest.raises(NotSupported, match="needs the room"):
                await dialer.dial(SipDialout(sip_uri="sip:bob@example.com"))


async def test_a_journal_that_fails_ends_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be kept must not ring."""
    journal = JsonlJournal(tmp_path / "calls.jsonl")
    async with phone(calls={"journal": journal}) as line:
        line.daily.lines[NUMBER] = RINGS_ON

        async def fail(_: Any) -> Any:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(journal, "append", fail)
        with pytest.raises(JournalError):
            await line.dial(ring_timeout=5)
        assert line.daily.live(NUMBER) == []
        monkeypatch.undo()


async def test_inside_a_handler() -> None:
    """A caller is answered, and the bot calls somebody for him; the dispatcher's limits hold nobody up."""
    router, results = Router(), list[Any]()

    @router.on(DialoutAnswered)
    async def consult(session: Session) -> None:
        if session.destination == NUMBER:
            results.append(await line.dial("+12025550102"))

    async with phone(router=router, calls={"pending_limit": 1}) as line:
        await line.dial()
        await until(lambda: results)
        assert results[0].answered


async def test_hanging_requests() -> None:
    """A start that hangs before Daily has seen it is unknown too: nobody could tell."""
    async with phone(start_timeout=0.2, find_within=0.3) as line:
        line.daily.faults.append(hang)
        result = await line.dial()
        assert result.outcome is DialOutcome.UNKNOWN
        assert line.daily.starts(NUMBER) == 0


# --- moments that only a carrier of our own can hit ---------------------------------------------------------------------

OPTIONS = PhoneDialout(phone_number=NUMBER)
NAMED = PhoneDialout(phone_number=NUMBER, user_id="customer-7")


@asynccontextmanager
async def wired(wire: Wire, **calls: Any) -> AsyncIterator[Dialer]:
    """A dialer over it."""
    async with Dispatcher(Router(), control=wire, **calls) as taking:  # type: ignore[arg-type]
        wire.calls = taking
        async with Dialer(taking, **QUICK) as dialer:
            yield dialer


async def test_somebody_else_with_the_user_id_is_not_taken_for_the_call() -> None:
    """He could not be stopped, for Daily knows no such dial-out, and a second call would begin beside the first."""
    wire: Any = Wire()
    wire.present = (RoomParticipant("a-browser", "customer-7"),)

    async def lost(options: Any, _: Any) -> str:
        wire.make(options)
        raise UnknownResult("lost")

    wire.start = lost
    async with wired(wire) as dialer:
        result = await dialer.dial(NAMED, ring_timeout=0.2)
        assert kinds(result) == ["unknown"]
        assert wire.most == 1


async def test_a_late_word_of_the_call_before_is_not_taken_for_the_next() -> None:
    """It has the same user id, if the program gave one."""
    wire: Any = Wire()

    async def start(options: Any, _: Any) -> Any:
        session_id = wire.make(options)
        if len(wire.legs) == 1:
            await wire.tell(DialoutConnected, session_id)
            return session_id
        await wire.tell(DialoutError, next(iter(wire.legs)), error_msg="late: it was stopped before")
        raise UnknownResult("lost")

    wire.start = start
    async with wired(wire) as dialer:
        result = await dialer.dial(NAMED, ring_timeout=0.1)
        assert kinds(result) == ["unanswered", "unknown"]
        assert wire.most == 1


@pytest.mark.parametrize("told", [None, DialoutError])
async def test_a_stop_of_the_programs_own_is_heeded_however_it_is_told(told: Any) -> None:
    """By an error, or by nobody."""
    wire: Any = Wire()

    async def stop(session: Session) -> None:
        was = session.session_id in wire.live
        wire.live.discard(session.session_id)
        if was and told is not None:
            await wire.tell(told, session.session_id, error_msg="Channel closed")

    wire.stop = stop
    async with wired(wire) as dialer, anyio.create_task_group() as group:

        async def give_up() -> None:
            await until(lambda: wire.legs)
            await wire.calls.stop(wire.calls.live()[0])

        group.start_soon(give_up)
        assert kinds(await dialer.dial(OPTIONS, ring_timeout=0.2)) == ["stopped"]


async def test_a_stop_that_raises_anything_is_tried_again_and_said() -> None:
    """As a DailyApi does that was left before."""
    wire: Any = Wire()

    async def stop(_: Session) -> None:
        raise NotRunning("use a DailyApi in an `async with`")

    wire.stop = stop
    with capture_logs() as logs:
        async with wired(wire) as dialer:
            with anyio.move_on_after(0.1):
                await dialer.dial(OPTIONS)
    assert [line["event"] for line in logs] == ["dial.not_stopped"] * 3 + ["dial.not_ended"]


async def test_a_disk_that_hangs_does_not_keep_a_dialer_from_being_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has twice `find_within` for what it is about; it says that there may be a call, and ends."""
    wire: Any = Wire()
    journal = JsonlJournal(tmp_path / "calls.jsonl")
    reached = anyio.Event()

    async def start(options: Any, _: Any) -> str:
        monkeypatch.setattr(journal, "append", hang_up_on)
        session_id: str = wire.make(options)
        return session_id

    async def hang_up_on(_: Any) -> Any:
        reached.set()
        await anyio.sleep_forever()

    wire.start = start
    with capture_logs() as logs, anyio.fail_after(10):
        async with Dispatcher(Router(), control=wire, journal=journal, drain=0.1) as calls:
            monkeypatch.setattr("telstate.routing._dispatcher._CLOSE_WITHIN", 0.1)
            wire.calls = calls
            async with anyio.create_task_group() as group, Dialer(calls, **QUICK) as dialer:
                group.start_soon(dialer.dial, OPTIONS)
                await reached.wait()
                group.cancel_scope.cancel()
    assert [line["event"] for line in logs] == ["dialer.left_unfinished"]


async def test_a_call_that_was_not_the_ones_takes_a_place_again() -> None:
    """Of somebody else's with the same user id it is not known whose it is until the start is over."""
    wire: Any = Wire()

    async def start(options: Any, _: Any) -> str:
        await wire.calls.receive(
            DialoutConnected(session_id="theirs", room="r", user_id="u", destination="+12025550999")
        )
        await anyio.sleep(0.02)
        raise DailyError("no", status=400)

    wire.start = start
    async with wired(wire) as dialer:
        result = await dialer.dial(PhoneDialout(phone_number=NUMBER, user_id="u"))
        assert result.outcome is DialOutcome.REFUSED
        assert dialer._places.others == ("theirs",)


async def test_two_starts_with_one_session_have_one_place() -> None:
    """Whatever stands before Daily may answer the second as it did the first; the place of neither is kept for ever."""
    wire: Any = Wire()

    async def start(*_: Any) -> str:
        await wire.calls.receive(DialoutAnswered(session_id="same", room="r"))
        return "same"

    wire.start = start
    async with wired(wire) as dialer:
        for _ in range(2):
            assert (await dialer.dial(OPTIONS)).answered
            assert dialer.sizes()["places"] == 1
        await wire.calls.receive(DialoutStopped(session_id="same"))
        await until(lambda: dialer.sizes()["places"] == 0)


async def test_the_log_has_nobodys_number() -> None:
    """What a carrier says may have it, and a program may take it for the user id."""
    wire: Any = Wire()
    options = PhoneDialout(phone_number=NUMBER, user_id=NUMBER)

    async def lost(*_: Any) -> str:
        raise UnknownResult(f"no word of {NUMBER}")

    async def fail(*_: Any, **__: Any) -> Any:
        raise ValueError(f"nothing of {NUMBER}")

    wire.presence = wire.stop = wire.transfer = fail
    with capture_logs() as logs:
        async with wired(wire) as dialer:
            await dialer.dial(options, ring_timeout=0.02)
            wire.start = lost
            await dialer.dial(options, ring_timeout=0.02)
            await dialer.dial(OPTIONS.model_copy(update={"user_id": None}))
            for session in wire.calls.live():
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    await wire.calls.transfer(session, NUMBER)
                await wire.calls.idle()
    said = {"dial.not_stopped", "dial.unanswered_start", "dial.unknown", "dial.no_presence", "call.not_acted"}
    assert {line["event"] for line in logs} >= said
    assert NUMBER not in str(logs)


async def test_a_refusal_that_is_not_kept_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no call, and its id is one of our own."""
    wire: Any = Wire()
    journal = JsonlJournal(tmp_path / "calls.jsonl")

    async def refused(*_: Any) -> str:
        raise TemporarilyNotAvailable("no workers available")

    async def fail(_: Any) -> Any:
        raise OSError(28, "No space left on device")

    wire.start = refused
    async with wired(wire, journal=journal) as dialer:
        monkeypatch.setattr(journal, "append", fail)
        with pytest.raises(JournalError):
            await dialer.dial(OPTIONS)
        assert wire.stopped == []
        monkeypatch.undo()


async def test_a_cancellation_from_around_the_dispatcher_ends_in_time(tmp_path: Path) -> None:
    """Then the journal's task is gone before the call is ended, and what was to be kept waits for nothing."""
    wire: Any = Wire()
    with anyio.fail_after(5):
        with anyio.move_on_after(0.2):
            async with wired(wire, journal=JsonlJournal(tmp_path / "calls.jsonl")) as dialer:
                await dialer.dial(OPTIONS)
        assert wire.legs
        assert not wire.live


async def test_leaving_waits_for_the_end_of_what_was_answered_and_cancelled_at_once() -> None:
    """The hang-up is on its way when the block ends."""
    wire: Any = Wire()
    ends = wire.stop

    async def slow(session: Session) -> None:
        await anyio.sleep(0.1)
        await ends(session)

    wire.stop = slow
    async with wired(wire) as dialer:
        dialling = asyncio.create_task(dialer.dial(OPTIONS))
        await until(lambda: wire.legs)
        (intent,) = dialer._intents
        done = intent.done

        class Now:
            wait = staticmethod(done.wait)

            def set(self) -> None:
                done.set()
                dialling.cancel()

        intent.done = Now()  # type: ignore[assignment]
        await wire.tell(DialoutAnswered, next(iter(wire.legs)))
        with pytest.raises(asyncio.CancelledError):
            await dialling
        assert dialer.sizes()["dials"] == 0
    assert not wire.live


async def test_cancelled_again_and_again_while_it_is_left() -> None:
    """By asyncio, whose cancellations go through every shield; the call is ended, and no task stays."""
    wire: Any = Wire()
    ends = wire.stop

    async def slow(session: Session) -> None:
        await anyio.sleep(0.2)
        await ends(session)

    wire.stop = slow

    async def program() -> None:
        async with wired(wire) as dialer:
            await dialer.dial(OPTIONS)

    before = asyncio.all_tasks()
    running = asyncio.create_task(program())
    await until(lambda: wire.legs)
    for _ in range(4):
        running.cancel()
        await asyncio.sleep(0.03)
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not wire.live
    assert asyncio.all_tasks() == before


async def test_a_start_whose_task_is_cancelled_is_found_and_ended() -> None:
    """As by a server that cancels all tasks at its end."""
    wire: Any = Wire()

    async def slow(options: Any, _: Any) -> Any:
        session_id = wire.make(options)
        await wire.tell(DialoutConnected, session_id)
        await anyio.sleep(0.5)
        return session_id

    wire.start = slow

    async def program() -> None:
        async with wired(wire) as dialer:
            await dialer.dial(OPTIONS)

    before = asyncio.all_tasks()
    running = asyncio.create_task(program())
    await until(lambda: wire.live)
    for task in asyncio.all_tasks() - before:
        task.cancel()
    await asyncio.wait([running])
    assert not wire.live


async def test_a_carrier_that_is_cancelled_by_itself_ends_no_other_dial() -> None:
    """A future of its own was cancelled; that is nobody else's cancellation."""
    wire: Any = Wire()
    start = wire.start

    async def odd(options: Any, room: Any) -> Any:
        if len(wire.legs) == 1:
            raise asyncio.CancelledError
        return await start(options, room)

    wire.start = odd
    async with wired(wire) as dialer, anyio.create_task_group() as group:
        group.start_soon(partial(dialer.dial, OPTIONS, attempts=1, ring_timeout=0.5))
        await until(lambda: wire.legs)
        with pytest.raises(UnknownResult, match="cancelled by itself"):
            await dialer.dial(OPTIONS)
        wire.start = start
        assert kinds(await dialer.dial(OPTIONS, attempts=1, ring_timeout=0.1)) == ["unanswered"]


async def test_shut_down_at_once_is_no_error_and_nothing_is_started() -> None:
    """Before the dialer has looked at anything, and after."""
    wire: Any = Wire()
    async with wired(wire) as dialer:
        wire.calls.shut_down()
        with anyio.CancelScope(shield=True), pytest.raises(NotRunning, match="not started"):
            await dialer.dial(OPTIONS)
    assert not wire.legs


async def test_who_left_while_the_dialer_was_behind_gives_his_place_free() -> None:
    """More changes than are kept for one who follows."""
    wire: Any = Wire()
    async with wired(wire) as dialer:
        callers = [f"caller-{number}" for number in range(5)]
        for caller in callers:
            await wire.calls.receive(DialinConnected(session_id=caller, room="r"))
        await anyio.sleep(0.05)
        for number in range(5_001):
            for kind in (DialoutConnected, DialoutStopped):
                await wire.calls.receive(kind(session_id=f"other-{number}", room="elsewhere"))
        for caller in callers:
            await wire.calls.receive(DialinStopped(session_id=caller, room="r"))
        with anyio.fail_after(3):
            await dialer.dial(OPTIONS, attempts=1, ring_timeout=0.1)


async def test_a_key_must_be_hashable() -> None:
    """Or its place in the room would be taken for ever."""
    async with wired(Wire()) as dialer:
        with pytest.raises(DefinitionError, match="hashable"):
            await dialer.dial(OPTIONS, key=["a"])  # type: ignore[arg-type]
