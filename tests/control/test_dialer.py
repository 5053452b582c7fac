"""The dialer: the result of each kind of line and of each kind of loss.

Tests with a `setup` run in memory with a fast `FakeClock`, and in the long part once more over HTTP in real time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

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
from telstate.control import Dialer, DialOutcome, DialResult, RestControl
from telstate.control._api import DailyApi
from telstate.errors import JournalError, UnknownResult
from telstate.events import DialinConnected, DialinStopped
from telstate.journals import SqliteJournal
from telstate.options import Permissions, PhoneDialout, SipDialout
from telstate.testing import FakeDaily, PhoneLine, refusals
from telstate.testing._faults import hang, instead
from tests.control.dial_setup import NUMBER, ROOM, DialSetup, in_memory, over_http

pytestmark = pytest.mark.asyncio

OTHER = "+12025550102"
RINGS_ON = PhoneLine(answers=None)
BUSY = PhoneLine(busy=True)
ANSWER_IS_LATE = PhoneLine(answers=0.05, talks=0.05, delays={"dialout.answered": 0.0})
"""The event of the end need not wait for that of the answer, which a test holds."""


class Setup(Protocol):
    """`in_memory` or `over_http`."""

    def __call__(self, **options: Any) -> AbstractAsyncContextManager[DialSetup]:
        """Set it up."""
        ...


@pytest.fixture(params=[in_memory, pytest.param(over_http, marks=pytest.mark.long)], ids=["memory", "http"])
def setup(request: pytest.FixtureRequest) -> Setup:
    """Both forms of everything that a dial needs."""
    made: Setup = request.param
    return made


def outcomes(result: DialResult) -> list[str]:
    """The outcome of each attempt."""
    return [str(attempt.outcome) for attempt in result.attempts]


def session_of(result: DialResult) -> Session:
    """The result's session."""
    assert result.session is not None
    return result.session


async def test_answered_at_once(setup: Setup) -> None:
    """One start, and the session is the live one."""
    async with setup() as phone:
        result = await phone.dial()
        assert result
        assert outcomes(result) == ["answered"]
        assert result.destination == NUMBER
        assert result.session is phone.calls.session(result.session.session_id)
        assert result.session.state is State.ANSWERED
        assert result.session.user_id == result.attempts[0].user_id
        assert [leg.session_id for leg in phone.daily.live(NUMBER)] == [result.session.session_id]
        assert phone.dialer.sizes() == {"dials": 0, "starts": 0, "slots": 1}


async def test_only_an_answered_result_is_true(setup: Setup) -> None:
    """So `if result:` is the question that programs ask."""
    async with setup() as phone:
        phone.daily.lines[NUMBER] = [BUSY, PhoneLine()]
        unanswered, answered = await phone.dial(attempts=1), await phone.dial(attempts=1)
        assert (bool(unanswered), bool(answered)) == (False, True)
        assert unanswered.outcome is DialOutcome.UNANSWERED
        assert answered.outcome is DialOutcome.ANSWERED


@pytest.mark.parametrize(
    ("first", "outcome"),
    [
        (BUSY, "unanswered"),
        (PhoneLine(gives_up=0.1), "unanswered"),
        (RINGS_ON, "unanswered"),
        (PhoneLine(rings=None, busy=True), "unanswered"),
        (PhoneLine(fails=0.1), "failed"),
        (PhoneLine(refuses=refusals.TEMPORARILY_NOT_AVAILABLE), "refused"),
        (PhoneLine(refuses=refusals.TOO_MANY_REQUESTS), "refused"),
        (PhoneLine(refuses=refusals.TOO_MANY_SESSIONS), "refused"),
        (PhoneLine(busy=True, loses={"dialout.stopped"}), "unanswered"),
        (PhoneLine(answers=None, loses={"dialout.stopped"}), "unanswered"),
        (PhoneLine(answers=None, loses={"dialout.connected"}), "unanswered"),
        (PhoneLine(refuses=refusals.NOT_HOSTING), "refused"),
        (PhoneLine(answer_lost=True, busy=True), "unanswered"),
    ],
)
async def test_it_is_dialled_again(setup: Setup, first: PhoneLine, outcome: str) -> None:
    """The next attempt may do better, and the call before is over by then."""
    async with setup() as phone:
        phone.daily.lines[NUMBER] = [first, PhoneLine()]
        result = await phone.dial()
        assert outcomes(result) == [outcome, "answered"]
        assert phone.daily.most_at_once(NUMBER) == 1
        assert result.attempts[0].user_id != result.attempts[1].user_id
        assert session_of(result).session_id == result.attempts[1].session_id


@pytest.mark.parametrize(
    ("only", "outcome"),
    [
        (PhoneLine(refuses=refusals.NOT_ALLOWED), DialOutcome.REFUSED),
        (PhoneLine(refuses=refusals.NOT_ENABLED_FOR_ROOM), DialOutcome.REFUSED),
        (PhoneLine(refuses=refusals.NUMBERS_NOT_ENABLED), DialOutcome.REFUSED),
        (PhoneLine(refuses=refusals.INTERNATIONAL_NOT_SUPPORTED), DialOutcome.REFUSED),
        (PhoneLine(refuses=refusals.DIALOUT_IN_PROGRESS), DialOutcome.REFUSED),
        (PhoneLine(refuses=refusals.Refusal(400, "invalid-request-error", "something new")), DialOutcome.REFUSED),
        (PhoneLine(fails=0.05, error="SIP/PSTN dial-out is not enabled for domain"), DialOutcome.FAILED),
        (
            PhoneLine(fails=0.05, error="Error handling startDialout: Dialout settings are not valid"),
            DialOutcome.FAILED,
        ),
        (PhoneLine(start_lost=True), DialOutcome.UNKNOWN),
    ],
)
async def test_it_is_not_dialled_again(setup: Setup, only: PhoneLine, outcome: DialOutcome) -> None:
    """Another attempt would end the same, or could be a second call."""
    async with setup(find_within=0.3) as phone:
        phone.daily.lines[NUMBER] = only
        result = await phone.dial(attempts=5)
        assert not result
        assert result.outcome is outcome
        assert outcomes(result) == [str(outcome)]
        assert (result.error is not None) == (outcome is not DialOutcome.FAILED)
        if isinstance(phone.daily, FakeDaily):
            starts = [seen for seen in phone.daily.seen if seen.path.endswith("/dialOut/start")]
            assert len(starts) == 1


async def test_all_attempts_share_one_budget(setup: Setup) -> None:
    """Refused starts count too."""
    async with setup() as phone:
        refused = PhoneLine(refuses=refusals.TEMPORARILY_NOT_AVAILABLE)
        phone.daily.lines[NUMBER] = [BUSY, refused, PhoneLine(fails=0.02), PhoneLine()]
        result = await phone.dial(attempts=3)
        assert outcomes(result) == ["unanswered", "refused", "failed"]
        assert result.outcome is DialOutcome.FAILED
        assert session_of(result).error_msg == PhoneLine().error
        assert phone.daily.starts(NUMBER) == 2


async def test_a_refused_start_is_an_event(setup: Setup) -> None:
    """In Python Daily sends no other event, so handlers would wait forever."""
    router, ended = Router(), list[Session]()

    @router.on_end()
    async def on_end(session: Session) -> None:
        ended.append(session)

    async with setup(router=router) as phone:
        phone.daily.lines[NUMBER] = PhoneLine(refuses=refusals.NOT_ALLOWED)
        result = await phone.dial()
        await phone.calls.idle()
        assert [(one.state, one.cause, one.room, one.destination) for one in ended] == [
            (State.ERROR, "refused", ROOM, NUMBER)
        ]
        assert result.session is ended[0]
        assert "not enabled" in (ended[0].error_msg or "")


async def test_pauses_grow(setup: Setup) -> None:
    """The last one repeats."""
    async with setup(pauses=[0.0, 3.0]) as phone:
        phone.daily.lines[NUMBER] = [BUSY, BUSY, PhoneLine()]
        await phone.dial()
        first, second, third = (leg.started_at for leg in phone.daily.sessions)
        assert second - first < 2.2 < third - second


@pytest.mark.long
async def test_pauses_are_those_of_the_dispatchers_clock() -> None:
    """A ring timeout of half a minute and pauses of minutes take no time in a test."""
    async with in_memory(pauses=[120.0]) as phone:
        phone.daily.lines[NUMBER] = [RINGS_ON, PhoneLine()]
        with anyio.fail_after(20):
            assert await phone.dial(ring_timeout=30)
        first, second = (leg.started_at for leg in phone.daily.sessions)
        assert 120 * 0.75 + 30 <= second - first <= 120 * 1.25 + 31


@pytest.mark.long
async def test_a_pause_that_daily_asks_for_is_kept() -> None:
    """Over HTTP: `Retry-After`. One that a test can wait for."""
    async with over_http() as phone:
        phone.daily.faults.append(instead(429, b'{"error": "rate-limit-error"}', retry_after="1"))
        began = anyio.current_time()
        assert outcomes(await phone.dial()) == ["refused", "answered"]
        assert anyio.current_time() - began > 0.9


# --- losses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lost",
    [
        PhoneLine(answer_lost=True),
        PhoneLine(answer_lost=True, answers=0.3),
        PhoneLine(answer_after=0.8, answers=0.1),
        PhoneLine(answer_lost=True, loses={"dialout.connected"}),
    ],
)
async def test_a_start_without_an_answer_is_found_by_its_events(setup: Setup, lost: PhoneLine) -> None:
    """And is still the first attempt."""
    async with setup(start_timeout=0.3) as phone:
        phone.daily.lines[NUMBER] = lost
        result = await phone.dial()
        assert outcomes(result) == ["answered"]
        assert session_of(result).session_id == phone.daily.live(NUMBER)[0].session_id
        assert phone.daily.starts(NUMBER) == 1


async def test_a_start_without_an_answer_and_events_is_found_in_the_room(setup: Setup) -> None:
    """It was answered by then, but no event says so: it is ended at the ring timeout, and dialled again."""
    silent = {"dialout.connected", "dialout.answered", "participant.joined"}
    async with setup() as phone:
        phone.daily.lines[NUMBER] = [PhoneLine(answer_lost=True, loses=silent), PhoneLine()]
        result = await phone.dial()
        assert outcomes(result) == ["unanswered", "answered"]
        assert result.attempts[0].session_id == phone.daily.sessions[0].session_id
        assert phone.daily.most_at_once(NUMBER) == 1


async def test_a_start_that_is_found_nowhere_is_unknown(setup: Setup) -> None:
    """It is never dialled again; here the first call does ring."""
    everything = {"dialout.connected", "dialout.answered", "dialout.stopped", "participant.joined"}
    async with setup(find_within=0.3) as phone:
        phone.daily.lines[NUMBER] = PhoneLine(answer_lost=True, answers=None, loses=everything)
        result = await phone.dial(attempts=5)
        assert (result.outcome, result.session) == (DialOutcome.UNKNOWN, None)
        assert "check before you send it again" in str(result.error)
        assert phone.daily.starts(NUMBER) == 1
        assert phone.dialer.sizes() == {"dials": 0, "starts": 0, "slots": 0}


async def test_a_call_that_could_not_be_ended_is_unknown_and_says_why(setup: Setup) -> None:
    """A second call beside one that may still ring would be the worst. No event reports it, so the result must say why."""
    async with setup() as phone:
        phone.daily.lines[NUMBER] = RINGS_ON
        phone.on_stop(refuse="not in SFU mode")
        result = await phone.dial(ring_timeout=0.2)
        assert result.outcome is DialOutcome.UNKNOWN
        assert session_of(result).session_id == phone.daily.live(NUMBER)[0].session_id
        assert phone.daily.starts(NUMBER) == 1
        assert isinstance(result.error, UnknownResult)
        assert "not in SFU mode" in str(result.error)
        assert result.attempts[0].error == str(result.error)


async def test_without_any_event_it_hangs_up_on_people_only_once(setup: Setup) -> None:
    """Without a webhook, or with one that Daily has switched off, nobody knows that somebody picked up."""
    async with setup() as phone:
        everything = {"dialout.connected", "dialout.answered", "dialout.stopped"}
        phone.daily.lines[NUMBER] = PhoneLine(loses=everything)
        if isinstance(phone.daily, FakeDaily):
            phone.daily.hooks = {}
        result = await phone.dial(ring_timeout=0.3)
        assert outcomes(result) == ["unknown"]
        assert "webhook check" in str(result.error)
        assert phone.daily.live(NUMBER) == []
        assert phone.daily.starts(NUMBER) == 1


async def test_an_unreported_end_holds_a_slot_only_until_a_dial_waits_for_it(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then Daily is asked who is in the room: else no dial after five such calls would ever return."""
    monkeypatch.setattr("telstate.control._rest._PRESENCE_LAG", 0.2)
    async with setup(per_room=2, check_slots_every=0.1) as phone:
        phone.daily.lines.default = PhoneLine(talks=0.1, loses={"dialout.stopped", "participant.left"})
        first, second = await phone.dial("+12025550111"), await phone.dial("+12025550112")
        await phone.until(lambda: not phone.daily.live())
        assert phone.dialer.sizes()["slots"] == 2
        # Else the second may be too fresh for one look at both, and the dial needs only one slot.
        await phone.clock.sleep(0.3)
        with anyio.fail_after(5):
            assert await phone.dial()
        await phone.until(lambda: {session_of(first).cause, session_of(second).cause} == {"completed"})


async def test_a_call_that_still_exists_keeps_its_slot(setup: Setup) -> None:
    """However often Daily is asked."""
    async with setup(per_room=1, check_slots_every=0.05) as phone:
        first = await phone.dial("+12025550111")
        with phone.within(0.5):
            await phone.dial()
        assert phone.daily.starts(NUMBER) == 0
        assert session_of(first).state is State.ANSWERED


async def test_one_denial_is_not_believed(setup: Setup) -> None:
    """One of Daily's parts may not know a new call yet. Here the call rings on, and is stopped all the same."""
    async with setup() as phone:
        phone.daily.lines[NUMBER] = [RINGS_ON, PhoneLine()]
        phone.on_stop(refuse="No dialout to stop", status=404, times=1)
        result = await phone.dial()
        assert outcomes(result) == ["unanswered", "answered"]
        assert phone.daily.most_at_once(NUMBER) == 1


async def test_an_end_reported_before_the_answer_to_the_stop_is_not_waited_for(setup: Setup) -> None:
    """Its event may overtake Daily's answer."""
    async with setup(stop_timeouts=[30.0]) as phone:
        phone.daily.lines[NUMBER] = RINGS_ON
        if isinstance(phone.daily, FakeDaily):
            phone.daily.rules["/rooms/*/dialOut/stop"] = _answers_late
        else:
            stop = phone.daily.stop

            async def late(session: Session) -> None:
                await stop(session)
                await phone.clock.sleep(0.3)

            phone.daily.stop = late
        with phone.within(5) as scope:
            result = await phone.dial(attempts=1, ring_timeout=0.1)
            assert result.outcome is DialOutcome.UNANSWERED
            assert session_of(result).ended_by == "local"
        assert not scope.cancelled_caught


async def _answers_late(app: Any, scope: Any, receive: Any, send: Any) -> None:
    async def slowly(message: Any) -> None:
        if message["type"] == "http.response.start":
            await anyio.sleep(0.3)
        await send(message)

    await app(scope, receive, slowly)


async def test_waiters_wake_though_no_event_reports_the_end(setup: Setup) -> None:
    """Daily's answer that there is no such call ends the session."""
    async with setup() as phone:
        phone.daily.lines[NUMBER] = PhoneLine(answers=None, loses={"dialout.stopped"})
        async with anyio.create_task_group() as group:
            group.start_soon(phone.dial)
            await phone.until(phone.calls.live)
            with pytest.raises(CallEnded) as ended:
                await phone.calls.wait_for(phone.calls.live()[0].session_id, State.ANSWERED, timeout=60)
            assert ended.value.session.ended_by == "local"
            group.cancel_scope.cancel()


async def test_two_starts_with_one_user_id_are_not_confused(setup: Setup) -> None:
    """A user id that the program gives may be on several calls."""
    async with setup() as phone:
        phone.daily.lines["+12025550103"] = PhoneLine(answer_lost=True, answers=0.2)
        results: dict[str, DialResult] = {}

        async def dial(number: str) -> None:
            options = PhoneDialout(phone_number=number, user_id="customer-7")
            results[number] = await phone.dialer.dial(options, ring_timeout=20)

        async with anyio.create_task_group() as group:
            for number in (NUMBER, "+12025550103"):
                group.start_soon(dial, number)
        for number, result in results.items():
            assert result
            assert result.session.destination == number
            assert phone.daily.starts(number) == 1


# --- cancellation -----------------------------------------------------------------------------------------------------


async def cancelled(phone: DialSetup, after: float, by: str) -> None:
    """Dial, and cancel that after a while, with a cancel scope or as asyncio does."""
    if by == "anyio":
        with phone.within(after):
            await phone.dial(ring_timeout=5)
        return
    task = asyncio.create_task(phone.dial(ring_timeout=5))
    await phone.clock.sleep(after)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


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
async def test_a_cancelled_dial_ends_its_call(setup: Setup, ringing: PhoneLine, after: float, by: str) -> None:
    """Also a call whose start has no answer yet; and nothing is dialled after that."""
    async with setup(start_timeout=1.0, pauses=[0.2]) as phone:
        phone.daily.lines[NUMBER] = ringing
        await cancelled(phone, after, by)
        assert phone.daily.live(NUMBER) == []
        starts = phone.daily.starts(NUMBER)
        await phone.clock.sleep(0.3)
        assert phone.daily.starts(NUMBER) == starts
        assert phone.dialer.sizes() == {"dials": 0, "starts": 0, "slots": 0}


async def test_leaving_the_dialer_ends_calls_that_ring(setup: Setup) -> None:
    """Not those that were answered."""
    options = PhoneDialout(phone_number=OTHER)
    async with setup() as phone:
        phone.daily.lines[OTHER] = RINGS_ON
        async with anyio.create_task_group() as group:
            async with Dialer(phone.calls, room=ROOM) as dialer:

                async def dial() -> None:
                    with pytest.raises(NotRunning, match="was ended"):
                        await dialer.dial(options)

                answered = await dialer.dial(PhoneDialout(phone_number=NUMBER))
                group.start_soon(dial)
                await phone.until(lambda: phone.daily.live(OTHER))
            assert answered
            assert [leg.session_id for leg in phone.daily.live()] == [answered.session.session_id]
            with pytest.raises(NotRunning, match="inside its own block"):
                await dialer.dial(options)


async def test_shut_down_ends_calls_that_ring(tmp_path: Path) -> None:
    """Their ends are received, so that after the next start no session that has ended holds a slot."""
    daily, path = FakeDaily(), tmp_path / "calls.db"
    async with over_http(daily=daily, calls={"journal": SqliteJournal(path)}) as phone:
        phone.daily.lines[NUMBER] = RINGS_ON
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(phone.dial)
            await phone.until(lambda: len(phone.daily.live(NUMBER)) == 3)
            phone.calls.shut_down()
            await anyio.sleep(30)
    assert daily.live(NUMBER) == []
    async with Dispatcher(Router(), journal=SqliteJournal(path)) as again:
        assert again.live() == []


async def test_a_call_answered_while_it_is_ended_is_answered(setup: Setup) -> None:
    """The ring timeout came first, and the stop was on its way: somebody who picked up is not called again."""
    async with setup() as phone:
        phone.daily.lines[NUMBER] = PhoneLine(answers=0.3)
        phone.hold("dialout.answered", until=lambda: phone.requests("stop"))
        phone.on_stop(until=lambda: "dialout.answered" in phone.arrivals.types)
        result = await phone.dial(ring_timeout=0.2)
        assert outcomes(result) == ["answered"]
        assert session_of(result).ended
        assert session_of(result).ended_by == "local"
        assert phone.daily.starts(NUMBER) == 1


async def test_a_call_answered_after_a_refused_stop_goes_on(setup: Setup) -> None:
    """It is not stopped again."""
    async with setup() as phone:
        phone.daily.lines[NUMBER] = PhoneLine(answers=0.3)
        phone.on_stop(refuse="not in SFU mode", times=1)
        result = await phone.dial(ring_timeout=0.15)
        assert outcomes(result) == ["answered"]
        assert result.error is None
        assert session_of(result).state is State.ANSWERED
        assert [leg.session_id for leg in phone.daily.live()] == [session_of(result).session_id]


@pytest.mark.parametrize("by", ["task", "leaving"])
async def test_a_call_answered_while_its_dial_is_cancelled_is_ended(setup: Setup, by: str) -> None:
    """The stop was refused meanwhile: another one is sent, as nobody waits for that call any more."""
    async with setup() as phone:
        phone.daily.lines[NUMBER] = PhoneLine(answers=0.3)
        phone.hold("dialout.answered", until=lambda: phone.requests("stop"))
        async with Dialer(phone.calls, room=ROOM, stop_timeouts=[0.3, 0.3, 0.3]) as dialer:

            def is_cancelled() -> bool:
                return any(one.scope.cancel_called for one in tuple(dialer._dials))

            phone.on_stop(until=is_cancelled, refuse="not in SFU mode", times=1)
            options = PhoneDialout(phone_number=NUMBER)
            task = asyncio.create_task(dialer.dial(options, ring_timeout=0.2))
            await phone.until(lambda: "dialout.answered" in phone.arrivals.types)
            if by == "task":
                task.cancel()
                await asyncio.wait([task])
        (raised,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(raised, NotRunning if by == "leaving" else asyncio.CancelledError)
        await phone.until(lambda: not phone.daily.live(NUMBER))
        assert phone.daily.starts(NUMBER) == 1


async def test_an_answer_reported_while_the_next_attempt_rings_is_the_last(setup: Setup) -> None:
    """There is no third start, though the second was not answered."""
    async with setup() as phone:
        phone.daily.lines[NUMBER] = [ANSWER_IS_LATE, PhoneLine(answers=None), PhoneLine()]
        phone.hold("dialout.answered", until=lambda: phone.requests("start") == 2)
        result = await phone.dial()
        assert outcomes(result) == ["answered", "unanswered"]
        assert result
        assert result.session.session_id == result.attempts[0].session_id
        assert phone.daily.starts(NUMBER) == 2


async def test_an_answer_reported_while_the_next_attempt_is_refused_for_good_is_an_answer(setup: Setup) -> None:
    """The result of somebody who picked up is not "refused"."""
    async with setup(start_timeout=20) as phone:
        phone.daily.lines[NUMBER] = [ANSWER_IS_LATE, PhoneLine(refuses=refusals.NOT_ALLOWED, answer_after=3)]
        phone.hold("dialout.answered", until=lambda: phone.requests("start") == 2)
        result = await phone.dial()
        assert outcomes(result) == ["answered", "refused"]
        assert (result.outcome, result.error) == (DialOutcome.ANSWERED, None)
        assert session_of(result).session_id == result.attempts[0].session_id


async def test_a_cancelled_call_that_could_not_be_ended_is_logged(setup: Setup) -> None:
    """Nobody gets the result."""
    async with setup() as phone:
        phone.daily.lines[NUMBER] = RINGS_ON
        phone.on_stop(refuse="not in SFU mode")
        with capture_logs() as logs:
            with phone.within(0.3):
                await phone.dial(ring_timeout=0.1)
            await phone.until(lambda: not phone.dialer.sizes()["dials"])
        assert [log["log_level"] for log in logs if log["event"] == "dial.not_ended"] == ["error"]
        phone.undo_on_stop()


async def test_an_answer_reported_after_the_end_is_an_answer(setup: Setup) -> None:
    """If it arrives before the next start."""
    async with setup(pauses=[3.0]) as phone:
        phone.daily.lines[NUMBER] = ANSWER_IS_LATE
        phone.hold("dialout.answered", until=lambda: "dialout.stopped" in phone.arrivals.types)
        result = await phone.dial()
        assert outcomes(result) == ["answered"]
        assert session_of(result).amended
        assert phone.daily.starts(NUMBER) == 1
        assert phone.dialer.sizes() == {"dials": 0, "starts": 0, "slots": 0}


async def test_a_call_that_the_program_stops_is_not_dialled_again(setup: Setup) -> None:
    """As by the handler of a deadline, or of another call."""
    async with setup() as phone:
        phone.daily.lines[NUMBER] = RINGS_ON
        async with anyio.create_task_group() as group:

            async def stop() -> None:
                await phone.until(phone.calls.live)
                await phone.clock.sleep(0.05)
                await phone.calls.stop(phone.calls.live()[0])

            group.start_soon(stop)
            result = await phone.dial(ring_timeout=5)
        assert outcomes(result) == ["stopped"]
        assert session_of(result).ended_by == "local"


# --- limits -----------------------------------------------------------------------------------------------------------


async def test_a_room_has_five_slots(setup: Setup) -> None:
    """The sixth call waits for one, so that Daily has nothing to refuse. A caller who dialled in counts."""
    async with setup() as phone:
        if isinstance(phone.daily, FakeDaily):
            (endpoint,) = phone.daily.host(ROOM)
            caller = phone.daily.dial_in(endpoint)
        else:
            await phone.calls.receive(DialinConnected(session_id="caller", room=ROOM))
        await phone.until(phone.calls.live)
        results: list[DialResult] = []

        async def dial(number: int) -> None:
            results.append(await phone.dial(f"+120255502{number:02}", attempts=1, ring_timeout=20))

        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(dial, number)
            await phone.until(lambda: len(results) == 4)
            await phone.clock.sleep(0.1)  # a fifth could be started now
            assert phone.requests("start") == 4
            if isinstance(phone.daily, FakeDaily):
                phone.daily.hang_up(caller)
            else:
                await phone.calls.receive(DialinStopped(session_id="caller", room=ROOM))
            for made in range(5, 13):
                await phone.until(lambda made=made: len(results) == made)  # type: ignore[misc]
                assert phone.requests("start") == made
                first = phone.daily.live()[0]
                if isinstance(phone.daily, FakeDaily):
                    phone.daily.hang_up(first.session_id)
                else:
                    await phone.daily.end(first)
        assert [result.outcome for result in results] == [DialOutcome.ANSWERED] * 12
        assert most_at_once([leg for leg in phone.daily.sessions if getattr(leg, "room", ROOM) == ROOM]) == 5
        if isinstance(phone.daily, FakeDaily):
            await anyio.to_thread.run_sync(phone.daily.settled)


async def test_a_key_has_its_own_limit(setup: Setup) -> None:
    """In all rooms together."""
    async with setup(per_key=1) as phone:
        if isinstance(phone.daily, FakeDaily):
            phone.daily.host("other")
        phone.daily.lines.default = PhoneLine(talks=0.2)
        async with anyio.create_task_group() as group:
            for number, room in enumerate((ROOM, "other", ROOM)):
                group.start_soon(partial(phone.dial, f"+120255502{number:02}", room=room, key="k", ring_timeout=3))
        assert most_at_once(phone.daily.sessions) == 1


def most_at_once(legs: Sequence[Any]) -> int:
    """The highest number of concurrent calls."""
    steps = sorted((at, step) for leg in legs for at, step in ((leg.started_at, 1), (leg.ended_at or 1e12, -1)))
    now, highest = 0, 0
    for _, step in steps:
        now += step
        highest = max(highest, now)
    return highest


# --- misuse -----------------------------------------------------------------------------------------------------------


async def test_misuse_is_reported_before_anything_is_sent() -> None:
    """Each error says what to do."""
    async with over_http() as phone:
        with pytest.raises(DefinitionError, match="takes a SipDialout or a PhoneDialout, not dict"):
            await phone.dialer.dial({"phoneNumber": NUMBER})  # type: ignore[arg-type]
        with pytest.raises(DefinitionError, match="at least 1"):
            await phone.dial(attempts=0)
        with pytest.raises(DefinitionError, match="attempts=True"):
            await phone.dial(attempts=True)
        for nothing in (0, None, "3"):
            with pytest.raises(DefinitionError, match="above 0"):
                await phone.dial(ring_timeout=nothing)
        with pytest.raises(DefinitionError, match="hashable"):
            await phone.dial(key=["a"])  # or its slot would be taken forever
        permitted = PhoneDialout(phone_number=NUMBER, permissions=Permissions(can_receive={"base": False}))
        with pytest.raises(NotSupported, match="permissions"):
            await phone.dialer.dial(permitted)
        with pytest.raises(DefinitionError, match="per_room=0"):
            Dialer(phone.calls, per_room=0)
        with pytest.raises(DefinitionError, match="pauses"):
            Dialer(phone.calls, pauses=[])
        with pytest.raises(NotRunning, match="entered once"):
            await phone.dialer.__aenter__()
        assert [seen.path for seen in phone.daily.seen if "dialOut" in seen.path] == []
        assert phone.dialer.sizes() == {"dials": 0, "starts": 0, "slots": 0}


async def test_a_dialer_needs_a_control_that_can_start_calls() -> None:
    """A dispatcher without one only receives."""
    with pytest.raises(DefinitionError, match="control=RestControl"):
        Dialer(Dispatcher(Router()))
    async with DailyApi("key", url="http://127.0.0.1:1") as api:
        control = RestControl(api)
        with pytest.raises(NotRunning, match="before its dialer"):
            await Dialer(Dispatcher(Router(), control=control)).__aenter__()
        async with Dispatcher(Router(), control=control) as calls, Dialer(calls) as dialer:
            with pytest.raises(NotSupported, match="needs the room"):
                await dialer.dial(SipDialout(sip_uri="sip:bob@example.com"))


@pytest.mark.long
async def test_a_journal_that_fails_ends_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that cannot be kept must not ring."""
    journal = SqliteJournal(tmp_path / "calls.db")
    async with over_http(calls={"journal": journal}) as phone:
        phone.daily.lines[NUMBER] = RINGS_ON

        async def fail(_: Any) -> Any:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(journal, "append", fail)
        with pytest.raises(JournalError):
            await phone.dial(ring_timeout=5)
        assert phone.daily.live(NUMBER) == []
        monkeypatch.undo()


async def test_a_handler_can_dial(setup: Setup) -> None:
    """A caller is answered, and the bot calls somebody for them; the dispatcher's limits block neither."""
    router, results = Router(), list[DialResult]()

    @router.on(DialoutAnswered)
    async def consult(session: Session) -> None:
        if session.destination == NUMBER:
            results.append(await phone.dial(OTHER))

    async with setup(router=router, calls={"pending_limit": 1}) as phone:
        await phone.dial()
        await phone.until(lambda: results)
        assert results[0]


# --- over HTTP in the short part, too ---------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (PhoneLine(), ["answered"]),
        (PhoneLine(answer_lost=True), ["answered"]),
        (PhoneLine(refuses=refusals.TEMPORARILY_NOT_AVAILABLE), ["refused", "answered"]),
        (PhoneLine(answers=None, loses={"dialout.stopped"}), ["unanswered", "answered"]),
    ],
)
async def test_over_http(first: PhoneLine, expected: list[str]) -> None:
    """REST, presence and webhooks carry what the tests in memory assume."""
    async with over_http() as phone:
        phone.daily.lines[NUMBER] = [first, PhoneLine()]
        assert outcomes(await phone.dial()) == expected
        assert phone.daily.most_at_once(NUMBER) == 1


@pytest.mark.long
async def test_a_start_that_hangs_is_unknown() -> None:
    """Nobody could tell that Daily never saw it."""
    async with over_http(start_timeout=0.2, find_within=0.3) as phone:
        phone.daily.faults.append(hang)
        result = await phone.dial()
        assert result.outcome is DialOutcome.UNKNOWN
        assert phone.daily.starts(NUMBER) == 0
