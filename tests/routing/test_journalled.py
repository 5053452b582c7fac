"""The dispatcher with a journal: kept before it is stepped, stepped in the order it was kept, and the same on replay."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from random import Random

import anyio
import pytest
import structlog

from telstate import (
    Cause,
    DialoutEvent,
    Dispatcher,
    Event,
    JournalError,
    LogClock,
    NotRunning,
    Outcome,
    ParseError,
    Replay,
    Router,
    Session,
    Settings,
    StopRequested,
)
from telstate.journals import SqliteJournal
from telstate.routing import _dispatcher as dispatcher
from telstate.routing._ports import DeadLetter, Entry
from telstate.testing import FakeClock, Noise, simulate
from telstate.testing._clock import settle
from telstate.views._report import session_as_dict
from tests.calls import SESSION, js

pytestmark = pytest.mark.anyio


class Shaky(SqliteJournal):
    """A journal that can be told to fail, and to take its time."""

    failing = False
    slow = 0.0
    batches: list[int]

    async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
        """Fail, or append."""
        self.batches = [*getattr(self, "batches", []), len(entries)]
        await anyio.sleep(self.slow)
        if self.failing:
            raise OSError(28, "No space left on device")
        return await super().append(entries)


async def test_an_append_that_fails_changes_nothing_and_raises(tmp_path: Path) -> None:
    """And when there is room again, it goes on."""
    journal = Shaky(tmp_path / "calls.db")
    async with Dispatcher(Router(), journal=journal) as calls:
        journal.failing = True
        with pytest.raises(JournalError, match=r"was not taken in: .*No space left") as caught:
            await calls.receive(js("dialout-connected"))
        assert isinstance(caught.value.__cause__, OSError)
        assert calls.session(SESSION) is None
        assert sum(calls.counts.values()) == 0
        journal.failing = False
        outcome = await calls.receive(js("dialout-connected"))
        assert outcome.event_id == f"{journal.id}:1"


async def test_many_receives_share_a_commit_and_step_in_its_order(tmp_path: Path) -> None:
    """Their outcomes come in the order of their numbers."""
    journal = Shaky(tmp_path / "calls.db")
    outcomes: list[Outcome] = []
    async with Dispatcher(Router(), journal=journal) as calls:
        journal.slow = 0.01

        async def send(number: int) -> None:
            outcomes.append(await calls.receive(js("dialout-connected", f"s{number}")))

        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(send, number)
    assert len(journal.batches) <= 4
    assert sum(journal.batches) == 100
    by_number = sorted(outcomes, key=lambda outcome: int(str(outcome.event_id).rpartition(":")[2]))
    opened = [outcome.session.opened for outcome in by_number if outcome.session is not None]
    assert opened == list(range(1, 101))


async def test_a_cancelled_receive_is_kept_or_not_but_never_half(tmp_path: Path) -> None:
    """What was begun is finished: the journal and the state agree."""
    path = tmp_path / "calls.db"
    journal = Shaky(path)
    async with Dispatcher(Router(), journal=journal) as calls:
        journal.slow = 0.005
        for number in range(30):
            with anyio.move_on_after(0.001 * (number % 8)):
                await calls.receive(js("dialout-connected", f"s{number}"))
        await calls.idle()
        stepped = {session.session_id for session in calls.live()}
    replay = Replay()
    for line in path.read_bytes().splitlines():
        replay.feed(line)
    assert {session.session_id for session in replay.engine.sessions()} == stepped


async def test_live_and_replayed_are_the_same(tmp_path: Path) -> None:
    """Promise 5, over a bad day, with limits that passed, to the byte."""
    path = tmp_path / "calls.db"
    clock = FakeClock()
    rng = Random(5)
    settings = Settings(ring_deadline=20, setup_deadline=5)
    async with Dispatcher(Router(), journal=SqliteJournal(path), clock=clock, settings=settings) as calls:
        for sent in simulate(
            5,
            calls=60,
            noise=Noise(lost=0.15, repeated=0.05, swapped=0.05, delayed=0.02),
            dialects=["daily-js", "webhook", "daily-python"],
            twice=0.3,
            start=clock.now(),
            span=2000.0,
        ):
            await clock.advance(max(0.0, sent.at - clock.now()))
            if rng.random() < 0.98:
                await calls.receive(sent.payload)
        await clock.advance(700.0)
        await calls.idle()
        live = [session_as_dict(session) for session in calls._sequencer.engine.sessions()]
        counts = calls.counts
    replay = Replay()
    for line in path.read_bytes().splitlines():
        replay.feed(line)
    assert [session_as_dict(session) for session in replay.engine.sessions()] == live
    assert replay.engine.counts == counts
    assert any(session["cause"] == Cause.EXPIRED for session in live)
    assert b"deadline-passed" in path.read_bytes()


async def test_handled_events_are_marked_and_unfinished_ones_run_again(tmp_path: Path) -> None:
    """With the same id, and said to be redelivered."""
    path = tmp_path / "calls.db"
    router, seen = Router(), []
    hang = anyio.Event()

    @router.on(DialoutEvent)
    async def work(event: Event, outcome: Outcome) -> None:
        seen.append((event.name, outcome.event_id, outcome.redelivered))
        if event.name == "dialout-answered" and not outcome.redelivered:
            await hang.wait()

    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(router, journal=SqliteJournal(path), drain=0.05) as calls:
            await calls.receive(js("dialout-connected"))
            await calls.receive(js("dialout-answered"))
            await calls.receive(js("dialin-connected", "other"))
    assert [log["events"] for log in logs if log["event"] == "dispatcher.left_unfinished"] == [1]
    done = [json.loads(line)["done"] for line in path.read_bytes().splitlines() if b'"done"' in line]
    assert sorted(done) == [1, 3]
    first_run = list(seen)
    async with Dispatcher(router, journal=SqliteJournal(path)) as calls:
        await calls.idle()
        session = calls.session(SESSION)
        assert session is not None
        assert session.state == "answered"
    assert seen[len(first_run) :] == [("dialout-answered", first_run[1][1], True)]


async def test_what_runs_again_may_use_the_dispatcher_and_knows_all(tmp_path: Path) -> None:
    """Recovery is over before the first handler begins."""
    path = tmp_path / "calls.db"
    journal = SqliteJournal(path)
    await journal.open(Settings().model_dump())
    payloads = [json.dumps(js(name)).encode() for name in ("dialout-connected", "dialout-answered")]
    await journal.append([Entry(1_790_000_000.0 + n, "daily-js", payload) for n, payload in enumerate(payloads)])
    await journal.aclose()
    router, seen = Router(), []

    @router.on(DialoutEvent)
    async def work(event: Event, session: Session, calls: Dispatcher) -> None:
        seen.append(f"{event.name} in {session.state}")
        if event.name == "dialout-connected":
            await calls.receive(js("dialout-warning"))

    async with Dispatcher(router, journal=SqliteJournal(path), clock=FakeClock()) as calls:
        await calls.idle()
    assert seen == ["dialout-connected in answered", "dialout-answered in answered", "dialout-warning in answered"]


async def test_what_was_cut_off_is_not_marked_whatever_it_made_of_that(tmp_path: Path) -> None:
    """It raised in its clean-up, or swallowed the cancellation: it did not finish."""
    path = tmp_path / "calls.db"
    router = Router()

    @router.on(DialoutEvent)
    async def stubborn(session: Session) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            if session.session_id == "raises":
                raise ValueError("in its clean-up")
            return  # noqa: B012 - what a bad handler does

    with structlog.testing.capture_logs():
        async with Dispatcher(router, journal=SqliteJournal(path), drain=0.05) as calls:
            await calls.receive(js("dialout-connected", "raises"))
            await calls.receive(js("dialout-connected", "swallows"))
            await settle()
    assert b'"done"' not in path.read_bytes()


async def test_a_clock_that_goes_back_does_not_split_live_and_replay(tmp_path: Path) -> None:
    """The journal tells the times that were stepped with."""
    path = tmp_path / "calls.db"
    clock = FakeClock()
    async with Dispatcher(Router(), journal=SqliteJournal(path), clock=clock) as calls:
        await calls.receive(js("dialout-connected", "a"))
        await clock.advance(500)
        clock._now -= 400
        await calls.receive(js("dialout-connected", "b"))
        for _ in range(6):
            await clock.advance(300)
            await calls.idle()
        live = [session_as_dict(session) for session in calls._sequencer.engine.sessions()]
    replay = Replay()
    for line in path.read_bytes().splitlines():
        replay.feed(line)
    assert [session_as_dict(session) for session in replay.engine.sessions()] == live
    assert [session["cause"] for session in live] == ["expired", "expired"]


async def test_marks_that_could_not_be_written_are_tried_again(tmp_path: Path) -> None:
    """Dead letters too: never silence."""
    path = tmp_path / "calls.db"
    router = Router()

    class Full(SqliteJournal):
        full = True

        async def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
            if self.full:
                raise OSError(28, "No space left on device")
            await super().add_dead_letters(letters)

    @router.on("dialout-connected")
    async def breaks() -> None:
        raise ValueError("no")

    journal = Full(path)
    with structlog.testing.capture_logs():
        async with Dispatcher(router, journal=journal) as calls:
            await calls.receive(js("dialout-connected"))
            await calls.idle()
            await calls.receive(js("dialout-answered"))
            await calls.idle()
            assert b'"dead"' not in path.read_bytes()
            journal.full = False
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [line["dead"]["seq"] for line in lines if "dead" in line] == [1]
    assert sorted(line["done"] for line in lines if "done" in line) == [1, 2]


async def test_marks_are_written_though_nothing_more_comes(tmp_path: Path) -> None:
    """Soon, not only at the next commit."""
    path = tmp_path / "calls.db"
    router = Router()

    @router.on(DialoutEvent)
    async def work() -> None:
        await anyio.sleep(0.01)

    async with Dispatcher(router, journal=SqliteJournal(path), slow_after=0.1) as calls:
        await calls.receive(js("dialout-connected"))
        await anyio.sleep(0.3)
        assert b'{"v":1,"done":1}' in path.read_bytes()


async def test_a_journal_that_cannot_be_used_leaves_the_router_free(tmp_path: Path) -> None:
    """And the file closed; the next dispatcher can use both. One dispatcher runs once."""
    path = tmp_path / "calls.db"
    path.write_bytes(b"something else\n")
    router = Router()
    with pytest.raises(JournalError, match="no telstate journal"):
        await Dispatcher(router, journal=SqliteJournal(path)).__aenter__()
    router.on_start()(nothing)
    path.unlink()
    async with Dispatcher(router, journal=SqliteJournal(path)) as calls:
        pass
    with pytest.raises(NotRunning, match="runs once"):
        await calls.__aenter__()


async def nothing() -> None:
    """A handler."""


async def test_what_raised_is_done_and_a_dead_letter(tmp_path: Path) -> None:
    """It is not run again by itself; a person can look at it."""
    path = tmp_path / "calls.db"
    router = Router()

    @router.on(DialoutEvent)
    async def breaks(session: Session) -> None:
        raise ValueError("no such number")

    with structlog.testing.capture_logs():
        async with Dispatcher(router, journal=SqliteJournal(path)) as calls:
            await calls.receive(js("dialout-connected"))
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    (letter,) = [line["dead"] for line in lines if "dead" in line]
    assert (letter["seq"], letter["reason"], letter["detail"]) == (1, "ValueError", "no such number")
    assert [line["done"] for line in lines if "done" in line] == [1]


async def test_payloads_are_kept_as_they_came(tmp_path: Path) -> None:
    """Bytes to the byte, in their dialect; a record inside a record is unwrapped."""
    path = tmp_path / "calls.db"
    raw = b'{"action": "dialout-connected", "sessionId": "a" , "new":[1, 2]}'
    record = {
        "v": 1,
        "seq": 9,
        "at": 5.0,
        "dialect": "daily-js",
        "event": None,
        "payload": js("dialout-connected", "c"),
    }
    async with Dispatcher(Router(), journal=SqliteJournal(path)) as calls:
        await calls.receive(raw)
        await calls.receive({"handler": "on_dialout_connected", "data": {"sessionId": "b"}})
        await calls.receive(record)
        await calls.link("a", "b")
    lines = [json.loads(line) for line in path.read_bytes().splitlines()[1:] if b'"payload"' in line]
    assert raw in path.read_bytes()
    assert [line["dialect"] for line in lines] == ["daily-js", "daily-python", "daily-js", "daily-js"]
    assert [line["payload"].get("action") for line in lines[2:]] == ["dialout-connected", "sessions-linked"]


async def test_the_journals_settings_hold_unless_others_are_given(tmp_path: Path) -> None:
    """So a restart counts as before."""
    path = tmp_path / "calls.db"
    async with Dispatcher(Router(), journal=SqliteJournal(path), settings=Settings(ring_deadline=7)):
        pass
    clock = FakeClock()
    async with Dispatcher(Router(), journal=SqliteJournal(path), clock=clock) as calls:
        await calls.receive(js("dialout-connected"))
        await settle()
        await clock.advance(8)
        await calls.idle()
    assert b'"deadline":"ring"' in path.read_bytes()


async def test_other_settings_hold_from_the_start_on_in_a_replay_too(tmp_path: Path) -> None:
    """The change is an event; what was remembered by then is measured anew."""
    path = tmp_path / "calls.db"
    clock = FakeClock()
    async with Dispatcher(Router(), journal=SqliteJournal(path), clock=clock) as calls:
        await calls.receive(js("dialout-connected", "before"))
    other = Settings(silence_before_answer=60, ring_deadline=20)
    async with Dispatcher(Router(), journal=SqliteJournal(path), clock=clock, settings=other) as calls:
        assert calls._sequencer.engine.settings == other
        await calls.receive(js("dialout-connected", "after"))
        await clock.advance(61)
        await calls.idle()
        sessions = {session.session_id: session for session in calls._sequencer.engine.sessions()}
        assert sessions["before"].cause is sessions["after"].cause is Cause.EXPIRED
        live = [session_as_dict(session) for session in calls._sequencer.engine.sessions()]
    kept = path.read_bytes()
    assert kept.count(b"settings-changed") == 1
    assert kept.count(b'"deadline":"ring"') == 1  # of the one that began to ring under it
    replay = Replay()
    for line in kept.splitlines():
        replay.feed(line)
    assert replay.engine.settings == other
    assert [session_as_dict(session) for session in replay.engine.sessions()] == live
    async with Dispatcher(Router(), journal=SqliteJournal(path), clock=clock) as calls:
        assert calls._sequencer.engine.settings == other
    assert path.read_bytes().count(b"settings-changed") == 1


async def test_a_journal_that_breaks_its_contract_is_told_to_those_who_wait(tmp_path: Path) -> None:
    """And goes on when it keeps it."""

    class Forgetful(SqliteJournal):
        async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
            seqs = await super().append(entries)
            return seqs[:-1] if seqs[0] == 1 else seqs

    async with Dispatcher(Router(), journal=Forgetful(tmp_path / "calls.db")) as calls:
        with pytest.raises(JournalError, match="0 numbers for 1 events"):
            await calls.receive(js("dialout-connected"))
        assert (await calls.receive(js("dialout-answered"))).session is not None


async def test_a_recorded_log_needs_no_second_journal(tmp_path: Path) -> None:
    """Its time may be unknown, and a journal's never is."""
    with pytest.raises(ValueError, match="without one"):
        Dispatcher(Router(), journal=SqliteJournal(tmp_path / "calls.db"), clock=LogClock())
    with pytest.raises(ValueError, match="slow_after"):
        Dispatcher(Router(), slow_after=0)


async def test_reading_goes_on_while_it_is_written(tmp_path: Path) -> None:
    """A second program may look."""
    path = tmp_path / "calls.db"
    async with Dispatcher(Router(), journal=SqliteJournal(path)) as calls:
        await calls.receive(js("dialout-connected"))
        records: AsyncIterator[object] = SqliteJournal(path).read()
        assert len([record async for record in records]) == 1


async def test_whoever_waits_for_a_slow_journal_at_the_end_is_told(tmp_path: Path) -> None:
    """What is under way is kept, what only waits is not, and both are told which."""
    journal = Shaky(tmp_path / "calls.db")
    told: list[str] = []

    async def send(calls: Dispatcher, number: int) -> None:
        try:
            await calls.receive(js("dialout-connected", f"s{number}"))
            told.append("kept")
        except NotRunning:
            told.append("not kept")

    async with anyio.create_task_group() as group, Dispatcher(Router(), journal=journal, drain=0.05) as calls:
        journal.slow = 0.3
        group.start_soon(send, calls, 1)
        await settle()
        group.start_soon(send, calls, 2)
        await settle()
    assert sorted(told) == ["kept", "not kept"]
    assert b"s2" not in journal.path.read_bytes()


async def test_a_journal_that_hangs_keeps_nobody_waiting_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither who waits for its answer nor who leaves the block: a disk that hangs is left alone."""
    monkeypatch.setattr(dispatcher, "_CLOSE_WITHIN", 0.1)
    journal = SqliteJournal(tmp_path / "calls.db")
    hangs = threading.Event()
    told: list[str] = []

    async def send(calls: Dispatcher) -> None:
        with pytest.raises(NotRunning, match="whether it has it is not known"):
            await calls.receive(js("dialout-connected"))
        told.append("closed")

    with structlog.testing.capture_logs() as logs, anyio.fail_after(5):
        async with anyio.create_task_group() as group, Dispatcher(Router(), journal=journal, drain=0.05) as calls:
            monkeypatch.setattr("telstate.journals._jsonl.os.fdatasync", lambda _: hangs.wait(20))
            group.start_soon(send, calls)
            await settle()
    hangs.set()
    assert told == ["closed"]
    assert "journal.not_closed" in [log["event"] for log in logs]


async def test_a_program_ends_though_its_disk_hangs(tmp_path: Path, anyio_backend_name: str) -> None:
    """No thread of ours keeps the interpreter."""
    code = f"""
import anyio, os, time
from telstate import NotRunning, Dispatcher, Router
from telstate.journals import SqliteJournal
from telstate.routing import _dispatcher as dispatcher
dispatcher._CLOSE_WITHIN = 0.2
async def main():
    async with anyio.create_task_group() as group, Dispatcher(
        Router(), journal=SqliteJournal({str(tmp_path / "calls.db")!r}), drain=0.1
    ) as calls:
        os.fdatasync = lambda _: time.sleep(3600)
        async def send():
            try:
                await calls.receive({{"action": "dialout-connected", "sessionId": "s"}})
            except NotRunning:
                print("told")
        group.start_soon(send)
        await anyio.sleep(0.1)
anyio.run(main, backend={anyio_backend_name!r})
"""
    with anyio.fail_after(30):
        run = await anyio.run_process([sys.executable, "-c", code])
    assert b"told" in run.stdout


async def test_a_start_that_is_cancelled_leaves_the_journal_free(tmp_path: Path) -> None:
    """The next one finds nobody who writes it."""
    for make in (SqliteJournal, SqliteJournal):
        path = tmp_path / make.__name__
        for tenths in range(30):
            with anyio.move_on_after(tenths / 10_000):
                async with Dispatcher(Router(), journal=make(path)):
                    pass
        async with Dispatcher(Router(), journal=make(path)) as calls:
            await calls.receive(js("dialout-connected"))


async def test_one_journal_serves_one_dispatcher(tmp_path: Path) -> None:
    """The second is refused, and the first goes on."""
    for journal in (SqliteJournal(tmp_path / "calls.db"), SqliteJournal(tmp_path / "calls.db")):
        async with Dispatcher(Router(), journal=journal) as calls:
            with pytest.raises(JournalError, match="is open already"):
                await Dispatcher(Router(), journal=journal).__aenter__()
            await calls.receive(js("dialout-connected"))
        async with Dispatcher(Router(), journal=journal) as calls:
            assert len(calls.live()) == 1


async def test_what_only_this_side_knows_does_not_come_in_with_a_request(tmp_path: Path) -> None:
    """A body that says `stop-requested` is somebody's who should not; a program passes the event, or names the dialect."""
    async with Dispatcher(Router(), journal=SqliteJournal(tmp_path / "calls.db")) as calls:
        for body in (b'{"action":"stop-requested","sessionId":"s"}', {"action": "settings-changed", "settings": {}}):
            with pytest.raises(ParseError, match=r"pass StopRequested|pass SettingsChanged"):
                await calls.receive(body)
        await calls.receive(StopRequested(session_id="s"))
        await calls.receive({"action": "stop-requested", "sessionId": "s"}, dialect="daily-js")
        with pytest.raises(ParseError, match="pass StopRequested"):
            await calls.receive({"action": "stop-requested", "sessionId": "s"})
        assert sum(calls.counts.values()) == 2


async def test_who_gives_up_on_a_slow_journal_leaves_nothing_behind(tmp_path: Path) -> None:
    """Ten thousand requests that timed out while the disk stood still are not written when it goes on."""
    journal = Shaky(tmp_path / "calls.db")
    async with Dispatcher(Router(), journal=journal) as calls:
        journal.slow = 0.3
        async with anyio.create_task_group() as group:
            for number in range(2000):
                group.start_soon(calls.receive, js("dialout-connected", f"s{number}"))
            await anyio.sleep(0.1)
            group.cancel_scope.cancel()
        await calls.idle()
        assert len(calls.live()) <= 1000
        assert calls._keeper is not None
        assert not calls._keeper._inbox
