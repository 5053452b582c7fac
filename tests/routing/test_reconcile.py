"""Reconciling: somebody is asked before silence ends a session, and where events may have been missed; only GONE ends one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog

from telstate import (
    Cause,
    Dispatcher,
    OutcomeKind,
    Presence,
    PresenceChecked,
    Router,
    Session,
    Settings,
    SettingsChanged,
    SourceGap,
    State,
)
from telstate.journals import SqliteJournal
from telstate.routing import _presence as reconciler
from telstate.routing._ports import Entry, Journal
from telstate.testing import FakeClock
from telstate.testing._clock import settle
from tests.calls import SESSION, joined, js
from tests.routing import until
from tests.routing.kept import KINDS, actions, journal_at, replayed, rest, state_of

pytestmark = pytest.mark.anyio

ALIVE, GONE, UNKNOWN = Presence
HOUR = 3600.0
RETRY = Settings().presence_retry
every_journal = pytest.mark.parametrize("kind", ["none", *KINDS])


class Daily:
    """Somebody who can be asked; he notes what he was asked, and how many questions there were at once."""

    def __init__(self, answer: Any = ALIVE) -> None:
        self.answer = answer
        """What he says: a value, or an exception to raise."""
        self.asked: list[str] = []
        self.gate: anyio.Event | None = None
        """If there is one, he answers once it is set."""
        self.most = 0
        self.under_way = Counter[str]()

    async def __call__(self, session: Session) -> Presence:
        """Answer."""
        session_id = session.session_id
        self.asked.append(session_id)
        self.under_way[session_id] += 1
        assert self.under_way[session_id] == 1
        self.most = max(self.most, self.under_way.total())
        try:
            if self.gate is not None:
                await self.gate.wait()
        finally:
            self.under_way[session_id] -= 1
        if isinstance(self.answer, BaseException):
            raise self.answer
        said: Presence = self.answer
        return said


def kept_at(kind: str, path: Path) -> Journal | None:
    """A journal, or none."""
    return None if kind == "none" else journal_at(kind, path)


async def pass_time(calls: Dispatcher, clock: FakeClock, seconds: float) -> None:
    """Let time pass, and all questions and answers of it be kept."""
    await clock.advance(seconds)
    await rest(calls)
    await rest(calls)


def expect_the_same(kind: str, path: Path, calls: Dispatcher) -> None:
    """A replay of the journal, if there is one, comes to the same sessions, transitions and counts."""
    if kind != "none":
        again = replayed(kind, path)
        assert state_of(again) == state_of(calls._sequencer.engine)
        assert again.counts == calls.counts


def presences(kind: str, path: Path) -> list[str]:
    """The questions and answers that a journal has."""
    return [payload["presence"] for payload in actions(kind, path) if payload["action"] == "presence-checked"]


# --- who is asked for, and what the answer does -------------------------------------------------------------------


@every_journal
async def test_it_is_asked_before_a_silence_limit_ends_a_session_and_never_otherwise(kind: str, tmp_path: Path) -> None:
    """Alive: the limit runs anew, and is asked for again when it has passed once more."""
    path, clock, daily = tmp_path / "calls", FakeClock(), Daily()
    settings = Settings(ring_deadline=30)
    async with Dispatcher(
        Router(), journal=kept_at(kind, path), clock=clock, reconcile=daily, settings=settings
    ) as calls:
        await calls.receive(js("dialout-connected", "rings"))
        await calls.receive(js("dialout-answered", "talks"))
        await calls.receive(js("dialout-stopped", "ended"))
        await pass_time(calls, clock, 599)
        assert daily.asked == []
        await pass_time(calls, clock, 2)
        assert daily.asked == ["rings"]
        await pass_time(calls, clock, 597)
        assert daily.asked == ["rings"]
        await pass_time(calls, clock, 4)
        assert daily.asked == ["rings", "rings"]
        await calls.receive(js("dialout-answered", "rings"))
        await pass_time(calls, clock, 20 * HOUR)
        assert daily.asked == ["rings", "rings"]
        assert {session.session_id for session in calls.live()} == {"rings", "talks"}
        await pass_time(calls, clock, 4 * HOUR - 1200)
        assert daily.asked == ["rings", "rings", "talks"]
        await pass_time(calls, clock, 1202)
        assert daily.asked == ["rings", "rings", "talks", "rings"]
        assert not any(session.uncertain for session in calls.live())
        expect_the_same(kind, path, calls)
    if kind != "none":
        assert presences(kind, path) == ["unknown", "alive"] * 4


@every_journal
async def test_gone_ends_it(kind: str, tmp_path: Path) -> None:
    """As silence does: stopped, expired."""
    path, clock, daily, router = tmp_path / "calls", FakeClock(), Daily(GONE), Router()
    ends: list[str] = []

    @router.on_end()
    async def end(session: Session) -> None:
        ends.append(f"{session.session_id} {session.cause}")

    async with Dispatcher(router, journal=kept_at(kind, path), clock=clock, reconcile=daily) as calls:
        await calls.receive(js("dialout-connected"))
        await pass_time(calls, clock, 601)
        session = calls.session(SESSION)
        assert session is not None
        assert (session.state, session.cause, session.ended_by) == (State.STOPPED, Cause.EXPIRED, "system")
        assert session.transitions[-1].event == "silence-passed"
        await pass_time(calls, clock, 600)
        assert daily.asked == [SESSION]
        expect_the_same(kind, path, calls)
    assert ends == [f"{SESSION} expired"]


@every_journal
@pytest.mark.parametrize(
    "answer",
    [UNKNOWN, None, True, "nowhere", 0, ValueError("no network"), TimeoutError()],
    ids=["unknown", "none", "true", "text", "zero", "raises", "times out"],
)
async def test_who_does_not_know_ends_nothing_and_is_asked_again(kind: str, answer: Any, tmp_path: Path) -> None:
    """After the time for that, again and again."""
    path, clock, daily = tmp_path / "calls", FakeClock(), Daily(answer)
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), journal=kept_at(kind, path), clock=clock, reconcile=daily) as calls:
            await calls.receive(js("dialout-connected"))
            await pass_time(calls, clock, 601)
            assert len(daily.asked) == 1
            for again in range(2, 6):
                await pass_time(calls, clock, RETRY - 2)
                assert len(daily.asked) == again - 1
                await pass_time(calls, clock, 2)
                assert len(daily.asked) == again
            (session,) = calls.live()
            assert session.uncertain
            daily.answer = "alive"  # a StrEnum's value is as good as the member
            await pass_time(calls, clock, RETRY + 1)
            assert not session.uncertain
            await pass_time(calls, clock, 500)
            assert len(daily.asked) == 6
            expect_the_same(kind, path, calls)
    assert sum(log["event"] == "reconcile.failed" for log in logs) == (0 if answer is UNKNOWN else 5)


async def test_an_answer_that_takes_too_long_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked again later."""
    monkeypatch.setattr(reconciler, "ANSWER_WITHIN", 0.02)
    clock, daily = FakeClock(), Daily(GONE)
    daily.gate = anyio.Event()
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), clock=clock, reconcile=daily) as calls:
            await calls.receive(js("dialout-connected"))
            await clock.advance(601)
            await anyio.sleep(0.1)
            assert len(calls.live()) == 1
            assert daily.under_way.total() == 0
            daily.gate = None
            await clock.advance(RETRY)
            assert calls.live() == []
    assert len(daily.asked) == 2
    assert [log["event"] for log in logs] == ["reconcile.failed"]


@every_journal
async def test_an_event_that_comes_while_it_is_asked_wins_over_gone(kind: str, tmp_path: Path) -> None:
    """The answer comes after it, and is late."""
    path, clock, daily = tmp_path / "calls", FakeClock(), Daily(GONE)
    daily.gate = anyio.Event()
    async with Dispatcher(Router(), journal=kept_at(kind, path), clock=clock, reconcile=daily) as calls:
        await calls.receive(js("dialout-connected"))
        await pass_time(calls, clock, 601)
        assert daily.under_way == {SESSION: 1}
        (session,) = calls.live()
        assert session.uncertain
        await calls.receive(js("dialout-warning"))
        assert not session.uncertain
        daily.gate.set()
        await rest(calls)
        assert calls.live() == [session]
        assert calls.counts[OutcomeKind.LATE] == 1
        await pass_time(calls, clock, 590)
        assert calls.live() == [session]
        await pass_time(calls, clock, 20)
        assert calls.live() == []  # nothing was heard since, and he says again that it is gone
        assert len(daily.asked) == 2
        expect_the_same(kind, path, calls)


@pytest.mark.parametrize("answer", [ALIVE, GONE])
async def test_a_session_that_ends_while_it_is_asked_for_stays_ended(answer: Presence) -> None:
    """Whatever is said then."""
    clock, daily = FakeClock(), Daily(answer)
    daily.gate = anyio.Event()
    async with Dispatcher(Router(), clock=clock, reconcile=daily) as calls:
        await calls.receive(js("dialout-connected"))
        await clock.advance(601)
        await calls.receive(js("dialout-stopped"))
        daily.gate.set()
        await settle()
        session = calls.session(SESSION)
        assert session is not None
        assert (session.cause, session.amended) == (Cause.UNANSWERED, False)
        await clock.advance(3 * HOUR)
        assert set(calls.sizes().values()) == {0}
    assert len(daily.asked) == 1


# --- how many at once ---------------------------------------------------------------------------------------------


@every_journal
async def test_at_most_sixteen_questions_at_once_and_each_once(kind: str, tmp_path: Path) -> None:
    """Two thousand sessions fall silent in the same second."""
    path, clock, daily = tmp_path / "calls", FakeClock(), Daily(GONE)
    daily.gate = anyio.Event()
    settings = Settings(presence_retry=HOUR)
    async with Dispatcher(
        Router(), journal=kept_at(kind, path), clock=clock, reconcile=daily, settings=settings
    ) as calls:
        async with anyio.create_task_group() as group:
            for number in range(2000):
                group.start_soon(calls.receive, js("dialout-connected", f"s{number}"))
        await pass_time(calls, clock, 600)
        await until(lambda: kind == "none" or presences(kind, path).count("unknown") == 2000, 60)
        assert daily.under_way.total() == 16
        daily.gate.set()
        await until(lambda: not calls.live(), 60)
        await rest(calls)
        expect_the_same(kind, path, calls)
    assert daily.most == 16
    assert Counter(daily.asked) == dict.fromkeys((f"s{number}" for number in range(2000)), 1)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_clock_that_wakes_too_late_asks_once_each(kind: str, tmp_path: Path) -> None:
    """All real clocks do."""
    path, clock, daily = tmp_path / "calls", FakeClock(), Daily()
    async with Dispatcher(Router(), journal=journal_at(kind, path), clock=clock, reconcile=daily) as calls:
        for number in range(20):
            await calls.receive(js("dialout-connected", f"s{number}"))
        clock._now += 600.004
        await pass_time(calls, clock, 60)
        await pass_time(calls, clock, 1)
    assert Counter(daily.asked) == dict.fromkeys((f"s{number}" for number in range(20)), 1)
    assert Counter(presences(kind, path)) == {"unknown": 20, "alive": 20}


class Slow(SqliteJournal):
    """A journal that takes its time when it is told to."""

    gate: anyio.Event | None = None

    async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
        """Append, once it may."""
        if self.gate is not None:
            await self.gate.wait()
        return await super().append(entries)


async def test_who_speaks_while_the_disk_is_slow_is_not_asked_for(tmp_path: Path) -> None:
    """Two fall silent; while that is written, the second speaks. It is alive, whatever anybody says."""
    clock, daily = FakeClock(), Daily(GONE)
    journal = Slow(tmp_path / "calls")
    async with Dispatcher(Router(), journal=journal, clock=clock, reconcile=daily) as calls:
        await calls.receive(js("dialout-connected", "a"))
        await calls.receive(js("dialout-connected", "b"))
        journal.gate = anyio.Event()
        await clock.advance(600)
        async with anyio.create_task_group() as group:
            group.start_soon(calls.receive, js("dialout-warning", "b"))
            await settle()
            journal.gate.set()
        await rest(calls)
        await rest(calls)
        assert [session.session_id for session in calls.live()] == ["b"]


# --- events that may have been missed -----------------------------------------------------------------------------


@every_journal
@pytest.mark.parametrize(
    ("gap", "concerned"),
    [
        (SourceGap(), {"a", "b", "c"}),
        (SourceGap(room="r1"), {"a"}),
        (SourceGap(call_client_id="k"), {"c"}),
        (SourceGap(room="r3"), set[str]()),
    ],
    ids=["all", "a room's", "a client's", "nobody's"],
)
async def test_a_gap_makes_live_sessions_uncertain_and_each_is_asked_for(
    kind: str, gap: SourceGap, concerned: set[str], tmp_path: Path
) -> None:
    """Those of the room or client that it speaks of, or all; alive, or heard of, they are certain again."""
    path, clock, daily = tmp_path / "calls", FakeClock(), Daily()
    daily.gate = anyio.Event()
    async with Dispatcher(Router(), journal=kept_at(kind, path), clock=clock, reconcile=daily) as calls:
        await calls.receive(js("dialout-answered", "a", room="r1"))
        await calls.receive(js("dialout-connected", "b", room="r2"))
        await calls.receive(js("dialin-connected", "c", callClientId="k"))
        await calls.receive(js("dialout-stopped", "d", room="r1"))
        await pass_time(calls, clock, 10)
        await calls.receive(gap)
        await rest(calls)
        assert {session.session_id for session in calls.live() if session.uncertain} == concerned
        assert sorted(daily.asked) == sorted(concerned)
        if "c" in concerned:
            await calls.receive(joined("c"))
            session = calls.session("c")
            assert session is not None
            assert not session.uncertain
        daily.gate.set()
        await rest(calls)
        assert not any(session.uncertain for session in calls.live())
        assert {session.session_id for session in calls.live()} == {"a", "b", "c"}
        expect_the_same(kind, path, calls)


async def test_a_gap_with_nobody_to_ask_ends_nothing_and_hearing_clears_it() -> None:
    """Uncertain is only a word then."""
    clock = FakeClock()
    async with Dispatcher(Router(), clock=clock) as calls:
        await calls.receive(js("dialout-answered"))
        await calls.receive(SourceGap())
        (session,) = calls.live()
        assert session.uncertain
        await clock.advance(HOUR)
        assert session.uncertain
        await calls.receive(js("dtmf-event", tone="1"))
        assert not session.uncertain


async def test_gone_after_a_gap_ends_it_at_once() -> None:
    """Its stopped was what was missed."""
    clock, daily = FakeClock(), Daily(GONE)
    async with Dispatcher(Router(), clock=clock, reconcile=daily) as calls:
        await calls.receive(js("dialout-answered"))
        await calls.receive(SourceGap())
        await settle()
        assert calls.live() == []
    assert daily.asked == [SESSION]


async def test_a_gap_while_it_is_asked_for_is_not_forgotten() -> None:
    """It was heard of, then events were missed, then the old answer comes: it is asked for again, and soon."""
    clock, daily = FakeClock(), Daily(GONE)
    daily.gate = anyio.Event()
    async with Dispatcher(Router(), clock=clock, reconcile=daily) as calls:
        await calls.receive(js("dialout-connected"))
        await clock.advance(601)
        await calls.receive(js("dialout-answered"))
        await calls.receive(SourceGap())
        await settle()
        daily.gate.set()
        await settle()
        await clock.advance(3 * RETRY)
        assert not any(session.uncertain for session in calls.live())
    assert len(daily.asked) > 1


# --- restarts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_a_restart_asks_for_whatever_was_live(kind: str, tmp_path: Path) -> None:
    """Events may have been missed while nobody listened: the gap is in the journal, and so are question and answer."""
    path, clock = tmp_path / "calls", FakeClock()
    async with Dispatcher(Router(), journal=journal_at(kind, path), clock=clock) as calls:
        for number in range(40):
            await calls.receive(js("dialout-answered", f"s{number}"))
        await calls.receive(js("dialout-stopped", "s0"))
    clock._now += 30
    daily = Daily(UNKNOWN)
    async with Dispatcher(Router(), journal=journal_at(kind, path), clock=clock, reconcile=daily) as calls:
        await rest(calls)
        await until(lambda: len(daily.asked) == 39, 10.0)
        assert all(session.uncertain for session in calls.live())
        expect_the_same(kind, path, calls)
    assert [payload["action"] for payload in actions(kind, path)].count("source-gap") == 1
    daily = Daily(ALIVE)
    async with Dispatcher(Router(), journal=journal_at(kind, path), clock=clock, reconcile=daily) as calls:
        await until(lambda: not any(session.uncertain for session in calls.live()), 10.0)
        await rest(calls)
        assert len(calls.live()) == len(daily.asked) == 39
        expect_the_same(kind, path, calls)
        state = state_of(calls._sequencer.engine)
    assert state_of(replayed(kind, path)) == state


@pytest.mark.parametrize("kind", ["none", *KINDS])
async def test_leaving_while_questions_hang_does_not_hang(kind: str, tmp_path: Path) -> None:
    """They are given up; after a restart they are asked again."""
    path, clock, daily = tmp_path / "calls", FakeClock(), Daily()
    daily.gate = anyio.Event()
    with anyio.fail_after(5):
        async with Dispatcher(Router(), journal=kept_at(kind, path), clock=clock, reconcile=daily) as calls:
            for number in range(30):
                await calls.receive(js("dialout-connected", f"s{number}"))
            await pass_time(calls, clock, 601)
            assert daily.under_way.total() == 16
    assert daily.under_way.total() == 0
    if kind != "none":
        daily = Daily()
        async with Dispatcher(Router(), journal=journal_at(kind, path), clock=clock, reconcile=daily) as calls:
            await until(lambda: not any(session.uncertain for session in calls.live()), 10.0)
        assert set(daily.asked) == {f"s{number}" for number in range(30)}


class Shaky(SqliteJournal):
    """A journal that does not keep some of our own events."""

    refuses: bytes = b"-"

    async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
        """Append, or raise."""
        if any(self.refuses in entry.payload for entry in entries):
            raise OSError(28, "No space left on device")
        return await super().append(entries)


@pytest.mark.parametrize("answer", [ALIVE, GONE])
async def test_an_answer_that_could_not_be_kept_is_asked_for_again(answer: Presence, tmp_path: Path) -> None:
    """Nothing is lost with it."""
    clock, daily, journal = FakeClock(), Daily(answer), Shaky(tmp_path / "calls")
    journal.refuses = f'"{answer}"'.encode()
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), journal=journal, clock=clock, reconcile=daily) as calls:
            await calls.receive(js("dialout-connected"))
            await pass_time(calls, clock, 601)
            (session,) = calls.live()
            assert session.uncertain
            assert len(daily.asked) == 1
            journal.refuses = b"nothing at all"
            await pass_time(calls, clock, RETRY + 1)
            assert len(daily.asked) == 2
            assert session.ended == (answer is GONE)
            expect_the_same("jsonl", journal.path, calls)
    assert [log["event"] for log in logs] == ["reconcile.not_kept"]


async def test_a_question_that_could_not_be_kept_is_asked_later(tmp_path: Path) -> None:
    """That of a silence limit: a second later."""
    clock, daily, journal = FakeClock(), Daily(GONE), Shaky(tmp_path / "calls")
    journal.refuses = b"presence-checked"
    with structlog.testing.capture_logs():
        async with Dispatcher(Router(), journal=journal, clock=clock, reconcile=daily) as calls:
            await calls.receive(js("dialout-connected"))
            await pass_time(calls, clock, 601)
            assert daily.asked == []
            journal.refuses = b"nothing at all"
            await pass_time(calls, clock, 5)
            await pass_time(calls, clock, 5)
            assert daily.asked == [SESSION]
            assert calls.live() == []


async def test_a_question_after_a_gap_that_could_not_be_kept_is_asked_soon(tmp_path: Path) -> None:
    """As soon as others that failed."""
    clock, daily, journal = FakeClock(), Daily(GONE), Shaky(tmp_path / "calls")
    journal.refuses = b"presence-checked"
    with structlog.testing.capture_logs():
        async with Dispatcher(Router(), journal=journal, clock=clock, reconcile=daily) as calls:
            await calls.receive(js("dialout-answered"))
            await calls.receive(SourceGap())
            await pass_time(calls, clock, 1)
            journal.refuses = b"nothing at all"
            await pass_time(calls, clock, 10 * RETRY)
            assert daily.asked == [SESSION]


async def test_a_question_that_is_cancelled_by_itself_hurts_nobody() -> None:
    """A client that was closed cancels what waits for it: nothing is known then, and it is asked again."""
    clock, asked = FakeClock(), list[str]()

    async def cancelled(session: Session) -> Presence:
        asked.append(session.session_id)
        if len(asked) > 1:
            return ALIVE
        with anyio.CancelScope() as scope:
            scope.cancel()
            try:
                await anyio.lowlevel.checkpoint()
            except anyio.get_cancelled_exc_class() as error:
                found = error
        raise found

    with structlog.testing.capture_logs():
        async with Dispatcher(Router(), clock=clock, reconcile=cancelled) as calls:
            await calls.receive(js("dialout-connected"))
            await clock.advance(601)
            await clock.advance(RETRY + 1)
            await calls.receive(js("dialout-connected", "another"))
            assert len(calls.live()) == 2
    assert asked == [SESSION, SESSION]


async def test_presence_may_be_told_by_the_program_itself() -> None:
    """ALIVE renews the silence; GONE counts only for what was asked for."""
    clock = FakeClock()
    async with Dispatcher(Router(), clock=clock) as calls:
        await calls.receive(js("dialout-connected"))
        outcome = await calls.receive(PresenceChecked(session_id=SESSION, presence=GONE))
        assert outcome.kind is OutcomeKind.LATE
        await clock.advance(500)
        await calls.receive(PresenceChecked(session_id=SESSION, presence=ALIVE))
        await clock.advance(500)
        assert len(calls.live()) == 1
        await clock.advance(101)
        assert calls.live() == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_start_with_nobody_to_ask_any_more_ends_no_call_that_was_asked_for(kind: str, tmp_path: Path) -> None:
    """It talks, and was asked for only because of a gap; Daily could not be reached, and the next release does not ask."""
    path, clock = tmp_path / "calls", FakeClock()
    async with Dispatcher(Router(), journal=journal_at(kind, path), clock=clock, reconcile=Daily(UNKNOWN)) as calls:
        await calls.receive(js("dialout-answered"))
        await calls.receive(SourceGap())
        await rest(calls)
    async with Dispatcher(Router(), journal=journal_at(kind, path), clock=clock) as calls:
        await pass_time(calls, clock, 2 * RETRY)
        assert len(calls.live()) == 1


async def test_unknown_told_by_the_program_ends_nothing() -> None:
    """A session is never ended for that, says the event."""
    clock = FakeClock()
    async with Dispatcher(Router(), clock=clock) as calls:
        await calls.receive(js("dialout-answered"))
        await calls.receive(PresenceChecked(session_id=SESSION, presence=UNKNOWN))
        await clock.advance(2 * RETRY)
        assert len(calls.live()) == 1


async def test_a_source_that_comes_and_goes_does_not_multiply_questions() -> None:
    """Fifty gaps in a row are one doubt: each session is asked for, and, as it may be too old, once more."""
    clock, daily = FakeClock(), Daily()
    async with Dispatcher(Router(), clock=clock, reconcile=daily) as calls:
        for number in range(200):
            await calls.receive(js("dialout-answered", f"s{number}"))
        for _ in range(50):
            await calls.receive(SourceGap())
        await settle()
        assert calls.counts[OutcomeKind.NOTED] <= 50 + 200 * 4
        assert not any(session.uncertain for session in calls.live())
    assert len(daily.asked) <= 400


async def test_a_shorter_limit_that_is_set_while_it_runs_is_not_overslept() -> None:
    """The timer looks again."""
    clock = FakeClock()
    async with Dispatcher(Router(), clock=clock) as calls:
        await calls.receive(js("dialout-connected"))
        await settle()
        await calls.receive(SettingsChanged(settings={"silence_before_answer": 5.0}))
        await clock.advance(6)
        assert calls.live() == []
