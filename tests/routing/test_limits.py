"""Silence limits and deadlines in a dispatcher: every call ends, no live call is cut off, and a replay agrees."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Any

import anyio
import pytest

from telstate import (
    Cause,
    DeadlinePassed,
    DialoutRequested,
    Dispatcher,
    EndedBy,
    Engine,
    Event,
    Outcome,
    OutcomeKind,
    Router,
    Session,
    Settings,
    State,
    parse,
)
from telstate.journals import SqliteJournal
from telstate.routing._ports import Journal
from telstate.testing import FakeClock, Noise, Sent, simulate
from tests.calls import joined, js
from tests.routing.kept import actions, replayed, rest, state_of

pytestmark = pytest.mark.anyio

HOUR = 3600.0
ENDS = ("dialin-stopped", "dialout-stopped", "dialin-error", "dialout-error", "participant-left")
"""All that reports an end, or is a sign of one."""
every_journal = pytest.mark.parametrize("kind", ["none", "sqlite"])


def kept_at(kind: str, path: Path) -> Journal | None:
    """Return a journal, or none."""
    return None if kind == "none" else SqliteJournal(path)


async def pass_time(calls: Dispatcher, clock: FakeClock, seconds: float) -> None:
    """Let time pass, and wait until everything due in it has happened, on the disk too."""
    await clock.advance(seconds)
    await rest(calls)


def expect_the_same(kind: str, path: Path, engine: Engine) -> None:
    """Check that a replay of the journal, if there is one, has the same sessions, transitions and counts."""
    if kind != "none":
        again = replayed(path)
        assert state_of(again) == state_of(engine)
        assert again.counts == engine.counts


# --- many calls ---------------------------------------------------------------------------------------------------


def a_bad_burst(calls: int) -> tuple[list[Sent], set[str]]:
    """Return many calls in ten minutes, of which 17 % lose every sign of their end, and the ids of those."""
    noise = Noise(repeated=0.03, swapped=0.05, delayed=0.01, delay=300.0)
    day = list(
        simulate(
            17,
            calls=calls,
            span=600.0,
            dialects=["daily-js", "webhook", "daily-python"],
            twice=0.2,
            noise=noise,
        )
    )
    ids = sorted({sent.call.session_id for sent in day})
    lost = {session_id for place, session_id in enumerate(ids) if place % 100 < 17}
    kept = [sent for sent in day if sent.call.session_id not in lost or parse(sent.payload).name not in ENDS]
    return kept, lost


async def send_in_bursts(calls: Dispatcher, clock: FakeClock, day: list[Sent]) -> None:
    """Send events of the same second together, as they reach a busy server."""
    for second, burst in groupby(day, key=lambda sent: int(sent.at)):
        await clock.advance(max(0.0, second - clock.now()))
        async with anyio.create_task_group() as group:
            for sent in burst:
                group.start_soon(calls.receive, sent.payload)


@every_journal
@pytest.mark.parametrize("count", [400, pytest.param(5_000, marks=pytest.mark.long)])
async def test_all_calls_end_though_every_sixth_loses_its_end(kind: str, count: int, tmp_path: Path) -> None:
    """Calls that lost their end expire, by the system; the others end as they truly did."""
    path, clock, router = tmp_path / "calls", FakeClock(), Router()
    ends, retired = Counter[str](), dict[str, Session]()

    @router.on_end()
    async def end(session: Session) -> None:
        ends[session.session_id] += 1

    @router.on_retired()
    async def final(session: Session) -> None:
        assert session.session_id not in retired
        retired[session.session_id] = session

    day, lost = a_bad_burst(count)
    known = set[str]()
    async with Dispatcher(router, journal=kept_at(kind, path), clock=clock) as calls:
        await send_in_bursts(calls, clock, day)
        await rest(calls)
        engine = calls._sequencer.engine
        known |= {session.session_id for session in engine.sessions()}
        assert len(known) > 0.98 * count  # a busy call has only its end, if that is not lost
        await pass_time(calls, clock, 700.0)
        expect_the_same(kind, path, engine)
        in_call = {session.session_id for session in calls.live()}
        assert in_call < lost & known  # calls that rang have expired by now, answered ones have not
        assert len(in_call) > count / 10
        await pass_time(calls, clock, 24 * HOUR)
        assert calls.live() == []
        counts = engine.counts
        await pass_time(calls, clock, 3 * HOUR)
        assert set(calls.sizes().values()) == {0}
    assert set(ends) == set(retired) == known
    assert set(ends.values()) == {1}
    truth = {sent.call.session_id: sent.call for sent in day}
    for session_id, session in retired.items():
        call = truth[session_id]
        if session_id in lost:
            assert session.state is State.STOPPED
            assert session.ended_by is EndedBy.SYSTEM
            assert session.cause is (Cause.TRANSFERRED if session.transferred_to else Cause.EXPIRED)
        else:
            assert session.state is call.state
            cause = call.cause
            if cause is Cause.TRANSFERRED and not session.transferred_to:
                cause = Cause.COMPLETED  # daily-python does not report transfers
            assert session.cause is cause
            assert session.ended_by is not EndedBy.SYSTEM
    assert {session.cause for session in retired.values()} == set(Cause) - {Cause.REFUSED}
    if kind != "none":
        again = replayed(path)
        assert again.counts == counts
        assert again.live() == []


# --- one call -----------------------------------------------------------------------------------------------------


@every_journal
@pytest.mark.parametrize("noisy", [False, True], ids=["silent", "others leave"])
@pytest.mark.parametrize("direction", ["dialin", "dialout"])
async def test_a_call_answered_23_hours_ago_lives_and_a_day_of_silence_ends_it(
    kind: str, noisy: bool, direction: str, tmp_path: Path
) -> None:
    """Only silence ends a call, not its age. Other participants who leave are no sign of life. No duration counts the silence."""
    path, clock = tmp_path / "calls", FakeClock()
    async with Dispatcher(Router(), journal=kept_at(kind, path), clock=clock) as calls:
        begun = clock.now()
        await calls.receive(js(f"{direction}-connected", "a"))
        await calls.receive(joined("a") if direction == "dialin" else js("dialout-answered", "a"))
        for _ in range(23):
            await pass_time(calls, clock, HOUR)
            if noisy:
                await calls.receive(joined("b", "participant-left"))
        (session,) = calls.live()
        assert session.state is State.ANSWERED
        await pass_time(calls, clock, HOUR - 1)
        assert calls.live() == [session]
        await pass_time(calls, clock, 2)
        assert calls.live() == []
        assert (session.state, session.cause, session.ended_by) == (State.STOPPED, Cause.EXPIRED, EndedBy.SYSTEM)
        assert (session.end_source, session.ended_at) == ("assumed", begun)
        expect_the_same(kind, path, calls._sequencer.engine)


async def test_a_sign_of_life_starts_the_silence_limit_again() -> None:
    """A key press in the 23rd hour: it lives through the 46th."""
    clock = FakeClock()
    async with Dispatcher(Router(), clock=clock) as calls:
        await calls.receive(js("dialout-answered", "a"))
        await clock.advance(23 * HOUR)
        await calls.receive(js("dtmf-event", "a", tone="1"))
        await clock.advance(23 * HOUR)
        assert len(calls.live()) == 1
        await clock.advance(HOUR + 1)
        assert calls.live() == []


@every_journal
@pytest.mark.parametrize(
    "first",
    [DialoutRequested(session_id="a"), js("dialin-warning", "a"), js("dialout-connected", "a")],
    ids=["idle dial-out", "idle dial-in", "ringing"],
)
async def test_a_call_that_is_not_answered_ends_after_ten_minutes(
    kind: str, first: Event | dict[str, Any], tmp_path: Path
) -> None:
    """Idle, or a dial-out that rings: not a second earlier."""
    path, clock = tmp_path / "calls", FakeClock()
    async with Dispatcher(Router(), journal=kept_at(kind, path), clock=clock) as calls:
        begun = clock.now()
        await calls.receive(first)
        await pass_time(calls, clock, 599)
        (session,) = calls.live()
        await pass_time(calls, clock, 2)
        assert calls.live() == []
        assert (session.cause, session.ended_by, session.ended_at) == (Cause.EXPIRED, EndedBy.SYSTEM, begun)
        assert [move.event for move in session.transitions][-1] == "silence-passed"
        expect_the_same(kind, path, calls._sequencer.engine)


async def test_a_dialin_without_media_ends_after_ten_minutes() -> None:
    """A day is for calls in which somebody talks."""
    clock = FakeClock()
    async with Dispatcher(Router(), clock=clock) as calls:
        await calls.receive(js("dialin-connected", "a"))
        await clock.advance(599)
        assert len(calls.live()) == 1
        await clock.advance(2)
        assert calls.live() == []


# --- deadlines ----------------------------------------------------------------------------------------------------


@every_journal
async def test_deadlines_reach_their_handlers_once_and_end_nothing(kind: str, tmp_path: Path) -> None:
    """Setup, ring and media: for each session that is late, and not for those that got there in time."""
    path, clock, router = tmp_path / "calls", FakeClock(), Router()
    seen: list[tuple[str, str, int, OutcomeKind]] = []
    begun = clock.now()

    @router.on(DeadlinePassed)
    async def late(event: DeadlinePassed, session: Session, outcome: Outcome) -> None:
        assert not session.ended
        seen.append((session.session_id, event.deadline, round(clock.now() - begun), outcome.kind))

    settings = Settings(setup_deadline=10, ring_deadline=30, media_deadline=20)
    async with Dispatcher(router, journal=kept_at(kind, path), clock=clock, settings=settings) as calls:
        for payload in (
            DialoutRequested(session_id="idle"),
            js("dialout-connected", "rings"),
            js("dialin-connected", "no media"),
            js("dialout-connected", "answered"),
            js("dialin-connected", "media"),
            DialoutRequested(session_id="set up"),
        ):
            await calls.receive(payload)
        await pass_time(calls, clock, 9)
        for payload in (js("dialout-answered", "answered"), joined("media"), js("dialout-answered", "set up")):
            await calls.receive(payload)
        for _ in range(60):
            await pass_time(calls, clock, 5)
        assert len(calls.live()) == 6
        expect_the_same(kind, path, calls._sequencer.engine)
    noted = OutcomeKind.NOTED
    assert sorted((who, which, kind_) for who, which, _, kind_ in seen) == [
        ("idle", "setup", noted),
        ("no media", "media", noted),
        ("rings", "ring", noted),
    ]
    at = {which: seconds for _, which, seconds, _ in seen}
    if (
        kind == "none"
    ):  # with a journal, handlers run once the disk has the event, and by then the test's clock is ahead
        assert at == {"setup": 10, "media": 20, "ring": 30}
    else:
        assert [payload["deadline"] for payload in actions(path) if payload["action"] == "deadline-passed"] == [
            "setup",
            "media",
            "ring",
        ]


@every_journal
async def test_an_event_that_the_journal_has_before_a_due_limit_renews_it(kind: str, tmp_path: Path) -> None:
    """However long the limit was due when the event arrived. The limit is then late, or never appended."""
    path, clock = tmp_path / "calls", FakeClock()
    async with Dispatcher(Router(), journal=kept_at(kind, path), clock=clock) as calls:
        await calls.receive(js("dialout-connected", "a"))
        clock._now += 5_000
        outcome = await calls.receive(js("dialout-answered", "a"))
        assert outcome.session is not None
        await pass_time(calls, clock, 1)
        assert (outcome.session.state, outcome.session.cause) == (State.ANSWERED, None)
        expect_the_same(kind, path, calls._sequencer.engine)


async def test_a_clock_that_wakes_too_late_appends_each_limit_once(tmp_path: Path) -> None:
    """As all real clocks do. One limit is one event in the journal."""
    path, clock = tmp_path / "calls", FakeClock()
    settings = Settings(ring_deadline=30)
    async with Dispatcher(Router(), journal=SqliteJournal(path), clock=clock, settings=settings) as calls:
        for number in range(20):
            await calls.receive(js("dialout-connected", f"s{number}"))
        clock._now += 0.004
        await pass_time(calls, clock, 30.004)
        clock._now += 600.004
        await pass_time(calls, clock, 60)
        assert calls.live() == []
    appended = Counter(
        (payload["sessionId"], payload["deadline"])
        for payload in actions(path)
        if payload["action"] == "deadline-passed"
    )
    assert len(appended) == 40
    assert set(appended.values()) == {1}


@pytest.mark.long
def test_the_burst_has_both_directions_all_dialects_and_the_losses() -> None:
    """The tests above rely on that."""
    day, lost = a_bad_burst(10_000)
    assert {sent.call.direction for sent in day} == {"dialin", "dialout"}
    assert 0.165 < len(lost) / len({sent.call.session_id for sent in day} | lost) < 0.175
    shapes = {next(key for key in ("action", "type", "handler", "From") if key in sent.payload) for sent in day}
    assert {"action", "type", "handler"} <= shapes
