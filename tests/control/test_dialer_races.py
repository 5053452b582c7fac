"""The dialer in moments that only a carrier in memory can hit: each of its answers is chosen by the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from structlog.testing import capture_logs

from telstate import DialoutAnswered, Dispatcher, NotRunning, Router, Session
from telstate.control import Dialer, DialOutcome, RoomParticipant
from telstate.errors import Busy, DailyError, JournalError, NoSuchSession, TemporarilyNotAvailable, UnknownResult
from telstate.events import DialinConnected, DialinStopped, DialoutConnected, DialoutStopped
from telstate.journals import SqliteJournal
from telstate.options import PhoneDialout
from telstate.routing._clock import SystemClock
from telstate.testing import FakeClock, PhoneLine
from tests.control.dial_setup import NUMBER, ROOM, dialing, until
from tests.control.fake_carrier import FakeCarrier, FakeLeg
from tests.control.test_dialer import outcomes

pytestmark = pytest.mark.asyncio

RINGS_ON = PhoneLine(answers=None)
OPTIONS = PhoneDialout(phone_number=NUMBER)
NAMED = PhoneDialout(phone_number=NUMBER, user_id="customer-7")
QUICK: dict[str, Any] = {"find_within": 0.3, "stop_timeouts": [0.1, 0.1, 0.1]}


def ringing() -> Any:
    """A carrier whose calls ring on, and whose methods a test may replace."""
    return FakeCarrier(FakeClock(), line=RINGS_ON)


@asynccontextmanager
async def dialer_on(carrier: Any, **calls: Any) -> AsyncIterator[Dialer]:
    """A dialer on the carrier, on the carrier's clock."""
    async with dialing(carrier, calls={"clock": carrier._clock, **calls}, **QUICK) as dialer:
        yield dialer


async def test_a_participant_with_the_same_user_id_is_not_the_call() -> None:
    """Daily could not stop it, as it is no dial-out, and a second call would begin beside the first."""
    carrier = ringing()
    carrier.participants = (RoomParticipant("a-browser", "customer-7"),)

    async def lost(options: Any, _: Any) -> str:
        carrier.make(options)
        raise UnknownResult("lost")

    carrier.start = lost
    async with dialer_on(carrier) as dialer:
        result = await dialer.dial(NAMED, ring_timeout=0.2)
        assert outcomes(result) == ["unknown"]
        assert carrier.most_at_once() == 1


async def test_a_late_event_of_the_call_before_is_not_of_the_next() -> None:
    """Both have the user id that the program gave."""
    carrier = ringing()
    legs: list[FakeLeg] = []

    async def start(options: Any, _: Any) -> Any:
        legs.append(carrier.make(options))
        if len(legs) == 1:
            await carrier.emit("connected", legs[0])
            return legs[0].session_id
        await carrier.emit("error", legs[0], error_msg="late: it was stopped before")
        raise UnknownResult("lost")

    carrier.start = start
    async with dialer_on(carrier) as dialer:
        result = await dialer.dial(NAMED, ring_timeout=0.1)
        assert outcomes(result) == ["unanswered", "unknown"]
        assert carrier.most_at_once() == 1


async def test_a_denial_says_nothing_once_a_stop_is_accepted() -> None:
    """The call ends a moment after the accepted stop, and only then the next one is made."""
    carrier = ringing()
    stop, tried = carrier.stop, 0

    async def unsteady(session: Session) -> None:
        nonlocal tried
        tried += 1
        if tried == 1:
            raise NoSuchSession("no dialout to stop", status=404)
        if tried == 2:
            carrier.group.start_soon(later, session)
            return
        await stop(session)

    async def later(session: Session) -> None:
        await carrier._clock.sleep(0.05)
        await stop(session)

    carrier.stop = unsteady
    async with dialer_on(carrier) as dialer:
        assert outcomes(await dialer.dial(OPTIONS, attempts=2, ring_timeout=0.05)) == ["unanswered", "unanswered"]
    assert len(carrier.sessions) == 2
    assert carrier.most_at_once() == 1


@pytest.mark.parametrize("event", [None, "error"])
async def test_a_stop_of_the_programs_is_respected_however_the_end_is_reported(event: str | None) -> None:
    """By an error, or by no event."""
    carrier = ringing()

    async def stop(session: Session) -> None:
        leg = carrier.session(session.session_id)
        if leg.live and event is not None:
            await carrier.end(leg, event, error_msg="Channel closed")
        leg.ended_at = carrier._now()

    carrier.stop = stop
    async with dialer_on(carrier) as dialer, anyio.create_task_group() as group:

        async def give_up() -> None:
            await until(carrier.calls.live)
            await carrier.calls.stop(carrier.calls.live()[0])

        group.start_soon(give_up)
        assert outcomes(await dialer.dial(OPTIONS, ring_timeout=0.2)) == ["stopped"]


async def test_a_stop_that_raises_anything_is_tried_again_and_logged() -> None:
    """As a DailyApi raises `NotRunning` when it was left first."""
    carrier = ringing()

    async def stop(_: Session) -> None:
        raise NotRunning("use a DailyApi in an `async with`")

    carrier.stop = stop
    with capture_logs() as logs:
        async with dialer_on(carrier) as dialer:
            with carrier._clock.move_on_after(0.1):
                await dialer.dial(OPTIONS)
    assert [line["event"] for line in logs] == ["dial.not_stopped"] * 3 + ["dial.not_ended"]


async def test_a_disk_that_hangs_does_not_keep_a_dialer_from_being_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice `find_within` must suffice; then it logs that there may be a call, and ends. Even if the clock stands still."""
    carrier = ringing()
    journal = SqliteJournal(tmp_path / "calls.db")
    reached = anyio.Event()

    async def start(options: Any, _: Any) -> str:
        monkeypatch.setattr(journal, "append", hang)
        session_id: str = carrier.make(options).session_id
        return session_id

    async def hang(_: Any) -> Any:
        reached.set()
        await anyio.sleep_forever()

    carrier.start = start
    with capture_logs() as logs, anyio.fail_after(10):
        async with Dispatcher(Router(), control=carrier, clock=FakeClock(), journal=journal, drain=0.1) as calls:
            monkeypatch.setattr("telstate.routing._run._CLOSE_WITHIN", 0.1)
            carrier.calls = calls
            async with anyio.create_task_group() as group, Dialer(calls, room=ROOM, **QUICK) as dialer:
                group.start_soon(dialer.dial, OPTIONS)
                await reached.wait()
                group.cancel_scope.cancel()
    assert [line["event"] for line in logs] == ["dialer.left_unfinished"]


async def test_a_call_of_somebody_else_takes_a_slot_once_the_start_is_over() -> None:
    """While the start with the same user id is open, it is not known whose call it is."""
    carrier = ringing()

    async def start(options: Any, _: Any) -> str:
        await carrier.calls.receive(
            DialoutConnected(session_id="theirs", room=ROOM, user_id="u", destination="+12025550999")
        )
        await carrier._clock.sleep(0.02)
        raise DailyError("no", status=400)

    carrier.start = start
    async with dialer_on(carrier) as dialer:
        result = await dialer.dial(PhoneDialout(phone_number=NUMBER, user_id="u"))
        assert result.outcome is DialOutcome.REFUSED
        assert dialer._slots._limiter.others == ("theirs",)


async def test_two_starts_with_one_session_have_one_slot() -> None:
    """A gateway may answer the second start as it did the first; no slot is kept forever."""
    carrier = ringing()

    async def start(*_: Any) -> str:
        await carrier.calls.receive(DialoutAnswered(session_id="same", room=ROOM))
        return "same"

    carrier.start = start
    async with dialer_on(carrier) as dialer:
        for _ in range(2):
            assert await dialer.dial(OPTIONS)
            assert dialer.sizes()["slots"] == 1
        await carrier.calls.receive(DialoutStopped(session_id="same"))
        await until(lambda: dialer.sizes()["slots"] == 0)


async def test_the_log_shows_no_number() -> None:
    """A carrier's text may hold it, and a program may use it as the user id."""
    carrier = ringing()
    options = PhoneDialout(phone_number=NUMBER, user_id=NUMBER)

    async def lost(*_: Any) -> str:
        raise UnknownResult(f"no answer for {NUMBER}")

    async def fail(*_: Any, **__: Any) -> Any:
        raise ValueError(f"nothing known of {NUMBER}")

    carrier.presence = carrier.stop = carrier.transfer = fail
    with capture_logs() as logs:
        async with dialer_on(carrier) as dialer:
            await dialer.dial(options, ring_timeout=0.02)
            carrier.start = lost
            await dialer.dial(options, ring_timeout=0.02)
            await dialer.dial(OPTIONS.model_copy(update={"user_id": None}))
            for session in carrier.calls.live():
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    await carrier.calls.transfer(session, NUMBER)
                await carrier.calls.idle()
    expected = {"dial.not_stopped", "dial.start_unanswered", "dial.unknown", "dial.no_presence", "call.request_failed"}
    assert {line["event"] for line in logs} >= expected
    assert NUMBER not in str(logs)


async def test_the_log_of_a_slot_check_shows_no_number() -> None:
    """Nor does it end the checks."""
    carrier = FakeCarrier(FakeClock())
    faulty: Any = carrier

    async def fail(_: Session) -> Any:
        raise ValueError(f"nothing known of {NUMBER}")

    faulty.reconcile = fail
    with capture_logs() as logs:
        async with dialing(carrier, calls={"clock": carrier._clock}, per_room=1, check_slots_every=1) as dialer:
            assert await dialer.dial(OPTIONS)
            with carrier._clock.move_on_after(5):
                await dialer.dial(OPTIONS)
    checks = [line for line in logs if line["event"] == "dial.no_presence"]
    assert len(checks) >= 3
    assert NUMBER not in str(checks)


async def test_a_refusal_that_is_not_kept_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no call: the refused session's id is one of our own."""
    carrier = ringing()
    journal = SqliteJournal(tmp_path / "calls.db")

    async def refused(*_: Any) -> str:
        raise TemporarilyNotAvailable("no workers available")

    async def fail(_: Any) -> Any:
        raise OSError(28, "No space left on device")

    carrier.start = refused
    async with dialer_on(carrier, journal=journal) as dialer:
        monkeypatch.setattr(journal, "append", fail)
        with pytest.raises(JournalError):
            await dialer.dial(OPTIONS)
        assert carrier.stops == []
        monkeypatch.undo()


async def test_a_cancellation_from_outside_the_dispatcher_ends_in_time(tmp_path: Path) -> None:
    """The journal's task is gone before the call is ended, and nothing waits for what was to be kept."""
    carrier = FakeCarrier(SystemClock(), line=RINGS_ON)
    with anyio.fail_after(5):
        with anyio.CancelScope() as outside:
            async with dialer_on(carrier, journal=SqliteJournal(tmp_path / "calls.db")) as dialer:
                outside.deadline = anyio.current_time() + 0.2
                await dialer.dial(OPTIONS)
        assert carrier.sessions
        assert not carrier.live()


def slow_to_stop(carrier: Any, seconds: float) -> None:
    """Let each stop take a while."""
    stop = carrier.stop

    async def slow(session: Session) -> None:
        await carrier._clock.sleep(seconds)
        await stop(session)

    carrier.stop = slow


async def test_leaving_waits_for_the_end_of_a_call_answered_at_its_cancellation() -> None:
    """The stop is on its way when the block ends."""
    carrier = ringing()
    slow_to_stop(carrier, 0.1)
    async with dialer_on(carrier) as dialer:
        dialing_ = asyncio.create_task(dialer.dial(OPTIONS))
        await until(carrier.live)
        (dial,) = dialer._dials
        done = dial.done

        class CancelsWhenSet:
            wait = staticmethod(done.wait)

            def set(self) -> None:
                done.set()
                dialing_.cancel()

        dial.done = CancelsWhenSet()  # type: ignore[assignment]
        await carrier.emit("answered", carrier.live()[0])
        with pytest.raises(asyncio.CancelledError):
            await dialing_
        assert dialer.sizes()["dials"] == 0
    assert not carrier.live()


async def test_cancelled_again_and_again_while_it_is_left() -> None:
    """By asyncio, whose cancellations ignore shields. The call is ended, and no task remains."""
    carrier = FakeCarrier(SystemClock(), line=RINGS_ON)
    slow_to_stop(carrier, 0.2)

    async def program() -> None:
        async with dialer_on(carrier) as dialer:
            await dialer.dial(OPTIONS)

    before = asyncio.all_tasks()
    running = asyncio.create_task(program())
    await until(carrier.live)
    for _ in range(4):
        running.cancel()
        await asyncio.sleep(0.03)
    with pytest.raises((asyncio.CancelledError, BaseExceptionGroup)):
        await running
    assert not carrier.live()
    assert asyncio.all_tasks() == before


async def test_a_start_whose_task_is_cancelled_is_found_and_ended() -> None:
    """As by a server that cancels all tasks when it ends."""
    carrier: Any = FakeCarrier(SystemClock(), line=RINGS_ON)

    async def slow(options: Any, _: Any) -> Any:
        leg = carrier.make(options)
        await carrier.emit("connected", leg)
        await anyio.sleep(0.5)
        return leg.session_id

    carrier.start = slow

    async def program() -> None:
        async with dialer_on(carrier) as dialer:
            await dialer.dial(OPTIONS)

    before = asyncio.all_tasks()
    running = asyncio.create_task(program())
    await until(carrier.live)
    for task in asyncio.all_tasks() - before:
        task.cancel()
    await asyncio.wait([running])
    assert not carrier.live()


async def test_a_carrier_that_is_cancelled_by_itself_ends_no_other_dial() -> None:
    """A future of its own was cancelled; that cancels nobody else."""
    carrier = ringing()
    start = carrier.start

    async def odd(options: Any, room: Any) -> Any:
        if carrier.sessions:
            raise asyncio.CancelledError
        return await start(options, room)

    carrier.start = odd
    async with dialer_on(carrier) as dialer, anyio.create_task_group() as group:
        group.start_soon(partial(dialer.dial, OPTIONS, attempts=1, ring_timeout=0.5))
        await until(carrier.live)
        with pytest.raises(UnknownResult, match="cancelled by itself"):
            await dialer.dial(OPTIONS)
        carrier.start = start
        assert outcomes(await dialer.dial(OPTIONS, attempts=1, ring_timeout=0.1)) == ["unanswered"]


async def test_after_a_shutdown_nothing_is_started() -> None:
    """Neither before the dialer has looked at any session nor after; and that is no error of the block."""
    carrier = ringing()
    async with dialer_on(carrier) as dialer:
        carrier.calls.shut_down()
        with anyio.CancelScope(shield=True), pytest.raises(NotRunning, match="not started"):
            await dialer.dial(OPTIONS)
    assert not carrier.sessions


async def test_a_dialer_that_fell_behind_releases_the_slots_of_ended_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader of `changes` that lags by too much gets `Busy` and misses what happened."""
    carrier = ringing()
    follow, behind = Dispatcher.changes, False

    async def changes(calls: Dispatcher) -> Any:
        async for outcome in follow(calls):
            if behind:
                raise Busy("the reader fell behind")
            yield outcome

    monkeypatch.setattr(Dispatcher, "changes", changes)
    async with dialer_on(carrier) as dialer:
        callers = [f"caller-{number}" for number in range(5)]
        for caller in callers:
            await carrier.calls.receive(DialinConnected(session_id=caller, room=ROOM))
        await until(lambda: len(dialer._slots._limiter.others) == 5)
        behind = True
        for caller in callers:
            await carrier.calls.receive(DialinStopped(session_id=caller, room=ROOM))
        assert len(dialer._slots._limiter.others) == 5
        await until(lambda: not dialer._slots._limiter.others)
        behind = False
        with anyio.fail_after(20):
            assert outcomes(await dialer.dial(OPTIONS, attempts=1, ring_timeout=0.1)) == ["unanswered"]
