"""Reconciling: before a silence limit ends a session, and where events may have been missed, `reconcile` is asked. Only GONE ends one."""

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
    JournalError,
    NotRunning,
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
from telstate.routing import _presence
from telstate.routing._ports import Entry, Journal
from telstate.testing import FakeClock
from telstate.testing._clock import settle
from tests.calls import SESSION, joined, js
from tests.routing import until
from tests.routing.kept import actions, replayed, rest, state_of

pytestmark = pytest.mark.anyio

ALIVE, GONE, UNKNOWN = Presence
HOUR = 3600.0
RETRY = Settings().presence_retry
every_journal = pytest.mark.parametrize("kind", ["none", "sqlite"])


class Reconcile:
    """A `reconcile` function that records what it was asked, and how many questions were open at once."""

    def __init__(self, answer: Any = ALIVE, *, first: Sequence[Any] = ()) -> None:
        self.answer = answer
        """The answer to every question: a value, or an exception to raise."""
        self.first = list(first)
        """The answers to the first questions, before `answer` holds."""
        self.asked: list[str] = []
        self.gate: anyio.Event | None = None
        """If there is one, answers wait until it is set."""
        self.most = 0
        self.open = Counter[str]()
        """Questions without an answer, by session."""

    async def __call__(self, session: Session) -> Presence:
        """Answer."""
        session_id = session.session_id
        self.asked.append(session_id)
        self.open[session_id] += 1
        assert self.open[session_id] == 1
        self.most = max(self.most, self.open.total())
        try:
            if self.gate is not None:
                await self.gate.wait()
        finally:
            self.open[session_id] -= 1
        answer = self.first.pop(0) if self.first else self.answer
        if isinstance(answer, BaseException):
            raise answer
        presence: Presence = answer
        return presence


def kept_at(kind: str, path: Path) -> Journal | None:
    """Open a journal; None for the default in memory."""
    return None if kind == "none" else SqliteJournal(path)


async def pass_time(calls: Dispatcher, clock: FakeClock, seconds: float) -> None:
    """Advance the clock, and wait until all questions and answers are in the journal."""
    await clock.advance(seconds)
    await rest(calls)
    await rest(calls)


def expect_the_same(kind: str, path: Path, calls: Dispatcher) -> None:
    """Check that a replay of the journal, if there is one, comes to the same sessions, transitions and counts."""
    if kind != "none":
        again = replayed(path)
        assert state_of(again) == state_of(calls._sequencer.engine)
        assert again.counts == calls.counts


def presences(path: Path) -> list[str]:
    """Return the questions and answers in a journal, in order."""
    return [payload["presence"] for payload in actions(path) if payload["action"] == "presence-checked"]


# --- when it is asked, and what the answer does -------------------------------------------------------------------


@every_journal
async def test_reconcile_is_asked_when_a_silence_limit_passes_and_never_otherwise(kind: str, tmp_path: Path) -> None:
    """ALIVE restarts the limit. When it passes again, `reconcile` is asked again."""
    path, clock, reconcile = tmp_path / "calls", FakeClock(), Reconcile()
    settings = Settings(ring_deadline=30)
    async with Dispatcher(
        Router(), journal=kept_at(kind, path), clock=clock, reconcile=reconcile, settings=settings
    ) as calls:
        await calls.receive(js("dialout-connected", "rings"))
        await calls.receive(js("dialout-answered", "talks"))
        await calls.receive(js("dialout-stopped", "ended"))
        await pass_time(calls, clock, 599)
        assert reconcile.asked == []
        await pass_time(calls, clock, 2)
        assert reconcile.asked == ["rings"]
        await pass_time(calls, clock, 597)
        assert reconcile.asked == ["rings"]
        await pass_time(calls, clock, 4)
        assert reconcile.asked == ["rings", "rings"]
        await calls.receive(js("dialout-answered", "rings"))
        await pass_time(calls, clock, 20 * HOUR)
        assert reconcile.asked == ["rings", "rings"]
        assert {session.session_id for session in calls.live()} == {"rings", "talks"}
        await pass_time(calls, clock, 4 * HOUR - 1200)
        assert reconcile.asked == ["rings", "rings", "talks"]
        await pass_time(calls, clock, 1202)
        assert reconcile.asked == ["rings", "rings", "talks", "rings"]
        assert not any(session.uncertain for session in calls.live())
        expect_the_same(kind, path, calls)
    if kind != "none":
        assert presences(path) == ["unknown", "alive"] * 4


@every_journal
async def test_gone_is_a_sign_of_the_end(kind: str, tmp_path: Path) -> None:
    """It counts at once: the session was silent for its whole limit before anybody was asked."""
    path, clock, reconcile, router = tmp_path / "calls", FakeClock(), Reconcile(GONE), Router()
    ends: list[str] = []

    @router.on_end()
    async def end(session: Session) -> None:
        ends.append(f"{session.session_id} {session.cause}")

    async with Dispatcher(router, journal=kept_at(kind, path), clock=clock, reconcile=reconcile) as calls:
        await calls.receive(js("dialout-connected"))
        await pass_time(calls, clock, 601)
        session = calls.session(SESSION)
        assert session is not None
        assert (session.state, session.cause, session.ended_by) == (State.STOPPED, Cause.UNANSWERED, "unknown")
        assert (session.end_source, session.end_sign) == ("inferred", "gone")
        assert session.transitions[-1].event == "end-inferred"
        await pass_time(calls, clock, 600)
        assert reconcile.asked == [SESSION]
        expect_the_same(kind, path, calls)
    assert ends == [f"{SESSION} unanswered"]


@every_journal
@pytest.mark.parametrize(
    "answer",
    [UNKNOWN, None, True, "nowhere", 0, ValueError("no network"), TimeoutError()],
    ids=["unknown", "none", "true", "text", "zero", "raises", "times out"],
)
async def test_an_answer_other_than_alive_or_gone_ends_nothing_and_is_retried(
    kind: str, answer: Any, tmp_path: Path
) -> None:
    """After `presence_retry`, without limit."""
    path, clock, reconcile = tmp_path / "calls", FakeClock(), Reconcile(answer)
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), journal=kept_at(kind, path), clock=clock, reconcile=reconcile) as calls:
            await calls.receive(js("dialout-connected"))
            await pass_time(calls, clock, 601)
            assert len(reconcile.asked) == 1
            for again in range(2, 6):
                await pass_time(calls, clock, RETRY - 2)
                assert len(reconcile.asked) == again - 1
                await pass_time(calls, clock, 2)
                assert len(reconcile.asked) == again
            (session,) = calls.live()
            assert session.uncertain
            reconcile.answer = "alive"  # the value of a StrEnum member is accepted too
            await pass_time(calls, clock, RETRY + 1)
            assert not session.uncertain
            await pass_time(calls, clock, 500)
            assert len(reconcile.asked) == 6
            expect_the_same(kind, path, calls)
    assert sum(log["event"] == "reconcile.failed" for log in logs) == (0 if answer is UNKNOWN else 5)


@pytest.mark.both_loops
async def test_a_question_without_an_answer_times_out_and_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timeout is in real time: a request takes what it takes."""
    monkeypatch.setattr(_presence, "ANSWER_WITHIN", 0.02)
    clock, reconcile = FakeClock(), Reconcile(GONE)
    reconcile.gate = anyio.Event()
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), clock=clock, reconcile=reconcile) as calls:
            await calls.receive(js("dialout-connected"))
            await clock.advance(601)
            await until(lambda: logs)
            await rest(calls)
            assert len(calls.live()) == 1
            assert reconcile.open.total() == 0
            reconcile.gate = None
            await clock.advance(RETRY)
            assert calls.live() == []
    assert len(reconcile.asked) == 2
    assert [log["event"] for log in logs] == ["reconcile.failed"]


@every_journal
async def test_an_event_during_the_question_outweighs_gone(kind: str, tmp_path: Path) -> None:
    """The answer is late then."""
    path, clock, reconcile = tmp_path / "calls", FakeClock(), Reconcile(GONE)
    reconcile.gate = anyio.Event()
    async with Dispatcher(Router(), journal=kept_at(kind, path), clock=clock, reconcile=reconcile) as calls:
        await calls.receive(js("dialout-connected"))
        await pass_time(calls, clock, 601)
        assert reconcile.open == {SESSION: 1}
        (session,) = calls.live()
        assert session.uncertain
        await calls.receive(js("dialout-warning"))
        assert not session.uncertain
        reconcile.gate.set()
        await rest(calls)
        assert calls.live() == [session]
        assert calls.counts[OutcomeKind.LATE] == 1
        await pass_time(calls, clock, 590)
        assert calls.live() == [session]
        await pass_time(calls, clock, 20)
        assert calls.live() == []  # silent since, and GONE again
        assert len(reconcile.asked) == 2
        expect_the_same(kind, path, calls)


@pytest.mark.parametrize("answer", [ALIVE, GONE])
async def test_an_answer_about_a_session_that_has_ended_meanwhile_changes_nothing(answer: Presence) -> None:
    """And nothing of the question stays in memory."""
    clock, reconcile = FakeClock(), Reconcile(answer)
    reconcile.gate = anyio.Event()
    async with Dispatcher(Router(), clock=clock, reconcile=reconcile) as calls:
        await calls.receive(js("dialout-connected"))
        await clock.advance(601)
        await calls.receive(js("dialout-stopped"))
        reconcile.gate.set()
        await settle()
        session = calls.session(SESSION)
        assert session is not None
        assert (session.cause, session.amended) == (Cause.UNANSWERED, False)
        await clock.advance(3 * HOUR)
        assert set(calls.sizes().values()) == {0}
    assert len(reconcile.asked) == 1


# --- how many at once ---------------------------------------------------------------------------------------------


@pytest.mark.long
@every_journal
async def test_at_most_sixteen_questions_are_open_at_once(kind: str, tmp_path: Path) -> None:
    """The silence limits of two thousand sessions pass in the same second. Each is asked about once."""
    path, clock, reconcile = tmp_path / "calls", FakeClock(), Reconcile(GONE)
    reconcile.gate = anyio.Event()
    settings = Settings(presence_retry=HOUR)
    async with Dispatcher(
        Router(), journal=kept_at(kind, path), clock=clock, reconcile=reconcile, settings=settings
    ) as calls:
        async with anyio.create_task_group() as group:
            for number in range(2000):
                group.start_soon(calls.receive, js("dialout-connected", f"s{number}"))
        await pass_time(calls, clock, 600)
        await until(lambda: kind == "none" or presences(path).count("unknown") == 2000, 60)
        assert reconcile.open.total() == 16
        reconcile.gate.set()
        await until(lambda: not calls.live(), 60)
        await rest(calls)
        expect_the_same(kind, path, calls)
    assert reconcile.most == 16
    assert Counter(reconcile.asked) == dict.fromkeys((f"s{number}" for number in range(2000)), 1)


async def test_a_timer_that_wakes_late_asks_once_about_each_session(tmp_path: Path) -> None:
    """Every real timer wakes a little late."""
    path, clock, reconcile = tmp_path / "calls", FakeClock(), Reconcile()
    async with Dispatcher(Router(), journal=SqliteJournal(path), clock=clock, reconcile=reconcile) as calls:
        for number in range(20):
            await calls.receive(js("dialout-connected", f"s{number}"))
        clock._now += 600.004
        await pass_time(calls, clock, RETRY - 1)
        await pass_time(calls, clock, 2)
    assert Counter(reconcile.asked) == dict.fromkeys((f"s{number}" for number in range(20)), 1)
    assert Counter(presences(path)) == {"unknown": 20, "alive": 20}


class SlowJournal(SqliteJournal):
    """A journal whose appends wait for a gate."""

    gate: anyio.Event | None = None

    async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
        """Append once the gate is open."""
        if self.gate is not None:
            await self.gate.wait()
        return await super().append(entries)


async def test_an_event_behind_the_question_in_a_slow_journal_keeps_the_session_alive(tmp_path: Path) -> None:
    """Two silence limits pass. While the questions are being written, an event of the second session arrives."""
    clock, reconcile = FakeClock(), Reconcile(GONE)
    journal = SlowJournal(tmp_path / "calls")
    async with Dispatcher(Router(), journal=journal, clock=clock, reconcile=reconcile) as calls:
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
async def test_a_gap_makes_live_sessions_uncertain_and_each_is_asked_about(
    kind: str, gap: SourceGap, concerned: set[str], tmp_path: Path
) -> None:
    """Those of the gap's room or client, or all. ALIVE or an event of their own makes them certain again."""
    path, clock, reconcile = tmp_path / "calls", FakeClock(), Reconcile()
    reconcile.gate = anyio.Event()
    async with Dispatcher(Router(), journal=kept_at(kind, path), clock=clock, reconcile=reconcile) as calls:
        await calls.receive(js("dialout-answered", "a", room="r1"))
        await calls.receive(js("dialout-connected", "b", room="r2"))
        await calls.receive(js("dialin-connected", "c", callClientId="k"))
        await calls.receive(js("dialout-stopped", "d", room="r1"))
        await pass_time(calls, clock, 10)
        await calls.receive(gap)
        await rest(calls)
        assert {session.session_id for session in calls.live() if session.uncertain} == concerned
        assert sorted(reconcile.asked) == sorted(concerned)
        if "c" in concerned:
            await calls.receive(joined("c"))
            session = calls.session("c")
            assert session is not None
            assert not session.uncertain
        reconcile.gate.set()
        await rest(calls)
        assert not any(session.uncertain for session in calls.live())
        assert {session.session_id for session in calls.live()} == {"a", "b", "c"}
        expect_the_same(kind, path, calls)


async def test_without_reconcile_a_session_stays_uncertain_until_its_next_event() -> None:
    """A gap ends nothing."""
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


async def test_gone_after_a_gap_ends_the_session_at_once() -> None:
    """The missed event was its stopped."""
    clock, reconcile = FakeClock(), Reconcile(GONE)
    async with Dispatcher(Router(), clock=clock, reconcile=reconcile) as calls:
        await calls.receive(js("dialout-answered"))
        await calls.receive(SourceGap())
        await settle()
        assert calls.live() == []
    assert reconcile.asked == [SESSION]


@pytest.mark.parametrize("outdated", [ALIVE, GONE])
@pytest.mark.parametrize("news", [True, False])
async def test_an_answer_from_before_a_gap_is_dropped_and_asked_for_again(outdated: Presence, *, news: bool) -> None:
    """Events may have been missed since the question. Only the second answer counts."""
    clock, reconcile = FakeClock(), Reconcile(ALIVE, first=[outdated])
    reconcile.gate = anyio.Event()
    async with Dispatcher(Router(), clock=clock, reconcile=reconcile) as calls:
        await calls.receive(js("dialout-connected"))
        await clock.advance(601)
        if news:
            await calls.receive(js("dialout-answered"))
        await calls.receive(SourceGap())
        await settle()
        (session,) = calls.live()
        assert (reconcile.asked, session.uncertain) == ([SESSION], True)
        reconcile.gate.set()
        await settle()
        assert (reconcile.asked, session.uncertain, session.ended) == ([SESSION, SESSION], False, False)
        # Opened by connected; the questions, the gap and one answer are noted. An outdated answer is no event.
        assert calls.counts[OutcomeKind.LATE] == 0
        assert calls.counts[OutcomeKind.NOTED] == 4


def signalling(status: str, client: str = "k") -> dict[str, Any]:
    """Make what daily-python reports of its signalling connection."""
    data = {"connection": "signalling", "event": status}
    return {"handler": "on_network_connection_status_updated", "data": data, "callClientId": client}


@every_journal
async def test_interrupted_signalling_asks_about_its_client_s_sessions_and_again_once_it_is_back(
    kind: str, tmp_path: Path
) -> None:
    """An answer in between is too old: the session may have ended after it. A first connect asks about nobody."""
    path, reconcile = tmp_path / "calls", Reconcile()
    async with Dispatcher(Router(), journal=kept_at(kind, path), clock=FakeClock(), reconcile=reconcile) as calls:
        await calls.receive(signalling("connected"))
        await calls.receive(js("dialout-answered", "a", callClientId="k"))
        await calls.receive(js("dialout-answered", "b", callClientId="other"))
        await calls.receive(signalling("connected", "other"))
        await rest(calls)
        assert reconcile.asked == []
        await calls.receive(signalling("interrupted"))
        await rest(calls)
        assert reconcile.asked == ["a"]
        assert not any(session.uncertain for session in calls.live())
        reconcile.answer = GONE
        await calls.receive(signalling("connected"))
        await rest(calls)
        assert reconcile.asked == ["a", "a"]
        assert [session.session_id for session in calls.live()] == ["b"]
        await calls.receive(signalling("connected"))
        await rest(calls)
        assert reconcile.asked == ["a", "a"]
        expect_the_same(kind, path, calls)


async def test_a_connection_that_is_back_outdates_the_answer_under_way() -> None:
    """It was asked while events could not arrive."""
    reconcile = Reconcile(GONE, first=[ALIVE])
    reconcile.gate = anyio.Event()
    async with Dispatcher(Router(), clock=FakeClock(), reconcile=reconcile) as calls:
        await calls.receive(js("dialout-answered", "a", callClientId="k"))
        await calls.receive(signalling("interrupted"))
        await settle()
        await calls.receive(signalling("connected"))
        reconcile.gate.set()
        await settle()
        assert reconcile.asked == ["a", "a"]
        assert calls.live() == []


# --- restarts -----------------------------------------------------------------------------------------------------


async def test_a_restart_asks_about_every_live_session(tmp_path: Path) -> None:
    """Events may have been missed meanwhile. The gap, the questions and the answers are in the journal."""
    path, clock = tmp_path / "calls", FakeClock()
    async with Dispatcher(Router(), journal=SqliteJournal(path), clock=clock) as calls:
        for number in range(40):
            await calls.receive(js("dialout-answered", f"s{number}"))
        await calls.receive(js("dialout-stopped", "s0"))
    clock._now += 30
    reconcile = Reconcile(UNKNOWN)
    async with Dispatcher(Router(), journal=SqliteJournal(path), clock=clock, reconcile=reconcile) as calls:
        await rest(calls)
        await until(lambda: len(reconcile.asked) == 39, 10.0)
        assert all(session.uncertain for session in calls.live())
        expect_the_same("sqlite", path, calls)
    assert [payload["action"] for payload in actions(path)].count("source-gap") == 1
    reconcile = Reconcile(ALIVE)
    async with Dispatcher(Router(), journal=SqliteJournal(path), clock=clock, reconcile=reconcile) as calls:
        await until(lambda: not any(session.uncertain for session in calls.live()), 10.0)
        await rest(calls)
        assert len(calls.live()) == len(reconcile.asked) == 39
        expect_the_same("sqlite", path, calls)
        state = state_of(calls._sequencer.engine)
    assert state_of(replayed(path)) == state


@pytest.mark.both_loops
@every_journal
async def test_leaving_cancels_open_questions(kind: str, tmp_path: Path) -> None:
    """After a restart they are asked again."""
    path, clock, reconcile = tmp_path / "calls", FakeClock(), Reconcile()
    reconcile.gate = anyio.Event()
    with anyio.fail_after(5):
        async with Dispatcher(Router(), journal=kept_at(kind, path), clock=clock, reconcile=reconcile) as calls:
            for number in range(30):
                await calls.receive(js("dialout-connected", f"s{number}"))
            await pass_time(calls, clock, 601)
            assert reconcile.open.total() == 16
    assert reconcile.open.total() == 0
    if kind != "none":
        reconcile = Reconcile()
        async with Dispatcher(Router(), journal=SqliteJournal(path), clock=clock, reconcile=reconcile) as calls:
            await until(lambda: not any(session.uncertain for session in calls.live()), 10.0)
        assert set(reconcile.asked) == {f"s{number}" for number in range(30)}


class FailingJournal(SqliteJournal):
    """A journal whose disk is full for some events."""

    refuses: bytes | None = None

    async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
        """Append, unless one of the entries contains `refuses`."""
        if self.refuses is not None and any(self.refuses in entry.payload for entry in entries):
            raise OSError(28, "No space left on device")
        return await super().append(entries)


@pytest.mark.parametrize("answer", [ALIVE, GONE])
async def test_an_answer_that_could_not_be_kept_is_asked_for_again(answer: Presence, tmp_path: Path) -> None:
    """The session stays uncertain until then."""
    clock, reconcile, journal = FakeClock(), Reconcile(answer), FailingJournal(tmp_path / "calls")
    journal.refuses = f'"{answer}"'.encode()
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), journal=journal, clock=clock, reconcile=reconcile) as calls:
            await calls.receive(js("dialout-connected"))
            await pass_time(calls, clock, 601)
            (session,) = calls.live()
            assert session.uncertain
            assert len(reconcile.asked) == 1
            journal.refuses = None
            await pass_time(calls, clock, RETRY + 1)
            assert len(reconcile.asked) == 2
            assert session.ended == (answer is GONE)
            expect_the_same("sqlite", journal.path, calls)
    events = ["journal.cannot_keep_events", "reconcile.not_kept", "journal.keeps_events_again"]
    assert [log["event"] for log in logs] == events


async def test_a_question_at_a_silence_limit_that_could_not_be_kept_is_asked_later(tmp_path: Path) -> None:
    """The timer tries again a second later."""
    clock, reconcile, journal = FakeClock(), Reconcile(GONE), FailingJournal(tmp_path / "calls")
    journal.refuses = b"presence-checked"
    with structlog.testing.capture_logs():
        async with Dispatcher(Router(), journal=journal, clock=clock, reconcile=reconcile) as calls:
            await calls.receive(js("dialout-connected"))
            await pass_time(calls, clock, 601)
            assert reconcile.asked == []
            journal.refuses = None
            await pass_time(calls, clock, 5)
            await pass_time(calls, clock, 5)
            assert reconcile.asked == [SESSION]
            assert calls.live() == []


async def test_a_question_after_a_gap_that_could_not_be_kept_is_asked_later(tmp_path: Path) -> None:
    """It is not forgotten."""
    clock, reconcile, journal = FakeClock(), Reconcile(GONE), FailingJournal(tmp_path / "calls")
    journal.refuses = b"presence-checked"
    with structlog.testing.capture_logs():
        async with Dispatcher(Router(), journal=journal, clock=clock, reconcile=reconcile) as calls:
            await calls.receive(js("dialout-answered"))
            await calls.receive(SourceGap())
            await pass_time(calls, clock, 1)
            journal.refuses = None
            await pass_time(calls, clock, 10 * RETRY)
            assert reconcile.asked == [SESSION]


async def test_a_second_question_after_a_gap_that_could_not_be_kept_is_asked_later(tmp_path: Path) -> None:
    """The first answer was outdated."""
    clock, reconcile, journal = FakeClock(), Reconcile(GONE, first=[UNKNOWN]), FailingJournal(tmp_path / "calls")
    reconcile.gate = anyio.Event()
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), journal=journal, clock=clock, reconcile=reconcile) as calls:
            await calls.receive(js("dialout-connected"))
            await pass_time(calls, clock, 601)
            await calls.receive(js("dialout-answered"))
            await calls.receive(SourceGap())
            journal.refuses = b"presence-checked"
            reconcile.gate.set()
            await rest(calls)
            await until(lambda: any(log["event"] == "reconcile.not_kept" for log in logs))
            assert reconcile.asked == [SESSION]
            journal.refuses = None
            await pass_time(calls, clock, 2)
            assert reconcile.asked == [SESSION, SESSION]
            assert calls.live() == []


@pytest.mark.both_loops
async def test_a_reconcile_that_cancels_itself_counts_as_unknown() -> None:
    """As a client that is closed cancels its open requests. It is asked again."""
    clock, asked = FakeClock(), list[str]()

    async def cancels_itself(session: Session) -> Presence:
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
        async with Dispatcher(Router(), clock=clock, reconcile=cancels_itself) as calls:
            await calls.receive(js("dialout-connected"))
            await clock.advance(601)
            await clock.advance(RETRY + 1)
            await calls.receive(js("dialout-connected", "another"))
            assert len(calls.live()) == 2
    assert asked == [SESSION, SESSION]


async def test_the_program_can_report_presence_itself() -> None:
    """ALIVE restarts the silence limit. GONE counts only if it was asked for."""
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


async def test_an_open_question_ends_nothing_after_a_restart_without_reconcile(tmp_path: Path) -> None:
    """The question came from a gap and got no answer, and the next release of the program has no `reconcile`."""
    path, clock = tmp_path / "calls", FakeClock()
    async with Dispatcher(Router(), journal=SqliteJournal(path), clock=clock, reconcile=Reconcile(UNKNOWN)) as calls:
        await calls.receive(js("dialout-answered"))
        await calls.receive(SourceGap())
        await rest(calls)
    async with Dispatcher(Router(), journal=SqliteJournal(path), clock=clock) as calls:
        await pass_time(calls, clock, 2 * RETRY)
        assert len(calls.live()) == 1


async def test_an_unknown_reported_by_the_program_ends_nothing() -> None:
    """Without `reconcile`, nobody answers it."""
    clock = FakeClock()
    async with Dispatcher(Router(), clock=clock) as calls:
        await calls.receive(js("dialout-answered"))
        await calls.receive(PresenceChecked(session_id=SESSION, presence=UNKNOWN))
        await clock.advance(2 * RETRY)
        assert len(calls.live()) == 1


async def test_many_gaps_in_a_row_ask_at_most_twice_about_a_session() -> None:
    """Once, and once more if the answer under way may be outdated."""
    clock, reconcile = FakeClock(), Reconcile()
    async with Dispatcher(Router(), clock=clock, reconcile=reconcile) as calls:
        for number in range(200):
            await calls.receive(js("dialout-answered", f"s{number}"))
        for _ in range(50):
            await calls.receive(SourceGap())
        await until(lambda: not any(session.uncertain for session in calls.live()))
        assert calls.counts[OutcomeKind.NOTED] <= 50 + 200 * 4
    assert len(reconcile.asked) <= 400


async def test_shorter_limits_hold_from_the_settings_event_on() -> None:
    """The timer looks again at all limits."""
    clock = FakeClock()
    async with Dispatcher(Router(), clock=clock) as calls:
        await calls.receive(js("dialout-connected"))
        await settle()
        await calls.receive(SettingsChanged(settings={"silence_before_answer": 5.0}))
        await clock.advance(6)
        assert calls.live() == []


# --- reported by the program --------------------------------------------------------------------------------------


@every_journal
async def test_report_gone_ends_a_session(kind: str, tmp_path: Path) -> None:
    """At once, without asking `reconcile`. For an ended or unknown session it does nothing."""
    path, reconcile = tmp_path / "calls", Reconcile(ALIVE)
    reconcile.gate = anyio.Event()
    async with Dispatcher(Router(), journal=kept_at(kind, path), clock=FakeClock(), reconcile=reconcile) as calls:
        session = (await calls.receive(js("dialout-answered"))).session
        assert session is not None
        await calls.report_gone(SESSION)
        assert (session.state, session.cause, session.ended_by) == (State.STOPPED, Cause.COMPLETED, "unknown")
        assert session.end_sign == "gone"
        for session_id in (SESSION, "nobody"):
            await calls.report_gone(session_id)
        assert sum(calls.counts.values()) == 3
        assert [known.session_id for known in calls.sessions()] == [SESSION]
        expect_the_same(kind, path, calls)
    if kind != "none":
        assert presences(path) == ["unknown", "gone"]


async def test_report_gone_raises_what_keeps_it_from_being_recorded(tmp_path: Path) -> None:
    """JournalError if the journal fails, and NotRunning outside the block. The session lives on."""
    journal = FailingJournal(tmp_path / "calls")
    async with Dispatcher(Router(), journal=journal) as calls:
        await calls.receive(js("dialout-answered"))
        journal.refuses = b"presence-checked"
        with pytest.raises(JournalError):
            await calls.report_gone(SESSION)
        assert [session.uncertain for session in calls.live()] == [False]
    with pytest.raises(NotRunning):
        await calls.report_gone(SESSION)
