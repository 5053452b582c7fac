"""A dispatcher with a journal: events are kept before they are stepped, in that order, and a replay finds the same."""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
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
    Router,
    Session,
    Settings,
    StopRequested,
)
from telstate.journals import SqliteJournal
from telstate.routing import _run
from telstate.routing._ports import DeadLetter, Entry
from telstate.testing import FakeClock, Noise, simulate
from telstate.testing._clock import settle
from tests.calls import SESSION, js
from tests.routing import until
from tests.routing.kept import actions, marks, payloads, replayed, state_of

pytestmark = pytest.mark.anyio


class Shaky(SqliteJournal):
    """A journal that can fail, and be slow."""

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
    """When there is room again, it goes on."""
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


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio wakes tasks in no order
async def test_an_answer_does_not_wait_for_handlers(tmp_path: Path) -> None:
    """Who waits for the commit goes on before a worker that has waited for work begins the handlers."""
    router, order = Router(), list[str]()

    @router.on(DialoutEvent)
    async def handle(event: DialoutEvent) -> None:
        order.append(f"handler of {event.session_id}")

    async with Dispatcher(router, journal=SqliteJournal(tmp_path / "calls.db")) as calls:
        for session_id in "abc":
            await calls.receive(js("dialout-connected", session_id))
            order.append(f"answer to {session_id}")
            await calls.idle()
    assert order == [f"{what} {session_id}" for session_id in "abc" for what in ("answer to", "handler of")]


@pytest.mark.both_loops
async def test_a_cancelled_receive_is_kept_or_not_but_never_half(tmp_path: Path) -> None:
    """A commit that has begun is finished: the journal and the state agree."""
    path = tmp_path / "calls.db"
    journal = Shaky(path)
    async with Dispatcher(Router(), journal=journal) as calls:
        journal.slow = 0.005
        for number in range(30):
            with anyio.move_on_after(0.001 * (number % 8)):
                await calls.receive(js("dialout-connected", f"s{number}"))
        await calls.idle()
        stepped = {session.session_id for session in calls.live()}
    assert {session.session_id for session in replayed(path).sessions()} == stepped


async def test_live_and_replayed_are_the_same(tmp_path: Path) -> None:
    """Promise 5, over a bad day with limits that passed, to the byte."""
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
        live = [session.to_dict() for session in calls.sessions()]
        counts = calls.counts
    replay = replayed(path)
    assert [session.to_dict() for session in replay.sessions()] == live
    assert replay.counts == counts
    assert any(session["cause"] == Cause.EXPIRED for session in live)
    assert "deadline-passed" in [payload["action"] for payload in actions(path)]


async def test_handled_events_are_marked_and_unfinished_ones_run_again(tmp_path: Path) -> None:
    """With the same id, marked as redelivered."""
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
    assert marks(path) == {1, 3}
    first_run = list(seen)
    async with Dispatcher(router, journal=SqliteJournal(path)) as calls:
        await calls.idle()
        session = calls.session(SESSION)
        assert session is not None
        assert session.state == "answered"
    assert seen[len(first_run) :] == [("dialout-answered", first_run[1][1], True)]


async def test_redelivered_handlers_can_use_the_dispatcher_and_see_the_latest_state(tmp_path: Path) -> None:
    """Recovery is over before the first handler begins."""
    path = tmp_path / "calls.db"
    journal = SqliteJournal(path)
    await journal.open(Settings().model_dump())
    received = [json.dumps(js(name)).encode() for name in ("dialout-connected", "dialout-answered")]
    await journal.append([Entry(1_790_000_000.0 + n, "daily-js", payload) for n, payload in enumerate(received)])
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


@pytest.mark.both_loops
async def test_a_handler_that_was_cut_off_is_not_marked(tmp_path: Path) -> None:
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
    assert marks(path) == set()


async def test_a_clock_that_goes_back_does_not_split_live_and_replay(tmp_path: Path) -> None:
    """The journal has the times that were stepped with."""
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
        live = [session.to_dict() for session in calls.sessions()]
    assert [session.to_dict() for session in replayed(path).sessions()] == live
    assert [session["cause"] for session in live] == ["expired", "expired"]


async def test_marks_and_dead_letters_that_could_not_be_written_are_tried_again(tmp_path: Path) -> None:
    """They are written with a later commit. Nothing is marked before its letter is kept."""
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
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(router, journal=journal) as calls:
            await calls.receive(js("dialout-connected"))
            await calls.idle()
            await calls.receive(js("dialout-answered"))
            await calls.idle()
            assert await calls.dead_letters.list() == []
            assert marks(path) == set()
            journal.full = False
    assert [kept.letter.seq async for kept in SqliteJournal(path).dead_letters()] == [1]
    assert marks(path) == {1, 2}
    assert "journal.marks_failed" in {log["event"] for log in logs}


async def test_marks_are_written_though_nothing_more_comes(tmp_path: Path) -> None:
    """After a while, not only with the next commit."""
    path = tmp_path / "calls.db"
    router = Router()

    @router.on(DialoutEvent)
    async def work() -> None:
        await anyio.sleep(0.01)

    async with Dispatcher(router, journal=SqliteJournal(path)) as calls:
        await calls.receive(js("dialout-connected"))
        await until(lambda: marks(path) == {1})


class Counting(SqliteJournal):
    """A journal that counts the transactions of marks alone."""

    marked = 0

    async def done(self, seqs: Sequence[int]) -> None:
        """Count."""
        self.marked += 1
        await super().done(seqs)


async def test_marks_go_along_with_the_next_append(tmp_path: Path) -> None:
    """Events that come one after another need no transaction of marks between them; at the end all marks are written."""
    path = tmp_path / "calls.db"
    router, journal = Router(), Counting(path)

    @router.on(DialoutEvent)
    async def work() -> None:
        await anyio.lowlevel.checkpoint()

    async with Dispatcher(router, journal=journal) as calls:
        began = time.monotonic()
        for number in range(100):
            await calls.receive(js("dialout-connected", f"s{number}"))
        spent = time.monotonic() - began
        assert len(marks(path)) > 50
        assert journal.marked <= 1 + spent / 0.02
        await until(lambda: marks(path) == set(range(1, 101)))
    assert journal.marked < 10 + spent / 0.02


async def test_an_append_that_fails_loses_no_marks(tmp_path: Path) -> None:
    """They are written later, by another append or by themselves."""
    path = tmp_path / "calls.db"
    router, journal = Router(), SqliteJournal(path, busy=0.01)
    router.on(DialoutEvent)(nothing)
    async with Dispatcher(router, journal=journal) as calls:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            await calls.receive(js("dialout-connected"))
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(JournalError, match="locked"):
                await calls.receive(js("dialout-answered"))
            assert set(calls._run.work_log.unwritten) == {1}  # twice if it was about to be written by itself as well
            other.execute("ROLLBACK")
        await calls.receive(js("dialout-answered"))
        await until(lambda: marks(path) == {1, 2})


async def test_a_mark_waits_for_its_dead_letter(tmp_path: Path) -> None:
    """Nobody looks again at what is marked: a crash between the two would lose the letter."""
    path = tmp_path / "calls.db"
    router = Router()

    @router.on(DialoutEvent)
    async def breaks() -> None:
        raise ValueError("no")

    class Full(SqliteJournal):
        async def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:  # noqa: ARG002
            raise JournalError("full")

    with structlog.testing.capture_logs():
        async with Dispatcher(router, journal=Full(path)) as calls:
            for number in range(20):
                await calls.receive(js("dialout-connected", f"s{number}"))
            await calls.idle()
            await calls.receive(js("dialout-connected", "last"))
            assert marks(path) == set()


async def test_a_journal_that_cannot_be_used_leaves_the_router_free(tmp_path: Path) -> None:
    """And the file closed: the next dispatcher can use both."""
    path = tmp_path / "calls.db"
    path.write_bytes(b"something else\n")
    router = Router()
    with pytest.raises(JournalError, match="not a SQLite database"):
        await Dispatcher(router, journal=SqliteJournal(path)).__aenter__()
    router.on_start()(nothing)
    path.unlink()
    async with Dispatcher(router, journal=SqliteJournal(path)):
        pass


async def test_a_dispatcher_can_be_entered_again_but_not_twice_at_once(tmp_path: Path) -> None:
    """It then begins with what the journal has."""
    calls = Dispatcher(Router(), journal=SqliteJournal(tmp_path / "calls.db"))
    async with calls:
        await calls.receive(js("dialout-connected"))
        with pytest.raises(NotRunning, match="is running"):
            await calls.__aenter__()
    async with calls:
        assert [session.session_id for session in calls.live()] == [SESSION]


async def nothing() -> None:
    """A handler."""


async def test_an_event_whose_handler_raised_is_done_and_a_dead_letter(tmp_path: Path) -> None:
    """It does not run again by itself; a person can look at it."""
    path = tmp_path / "calls.db"
    router = Router()

    @router.on(DialoutEvent)
    async def breaks(session: Session) -> None:
        raise ValueError("no such number")

    with structlog.testing.capture_logs():
        async with Dispatcher(router, journal=SqliteJournal(path)) as calls:
            await calls.receive(js("dialout-connected"))
    ((_, letter, _),) = [kept async for kept in SqliteJournal(path).dead_letters()]
    assert (letter.seq, letter.reason, letter.detail) == (1, "ValueError", "no such number")
    assert marks(path) == {1}


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
    records = [record async for record in SqliteJournal(path).read()]
    assert records[0].payload == raw
    assert [record.dialect for record in records] == ["daily-js", "daily-python", "daily-js", "daily-js"]
    assert [json.loads(payload).get("action") for payload in payloads(path)[2:]] == [
        "dialout-connected",
        "sessions-linked",
    ]


async def test_the_settings_of_the_journal_hold_unless_others_are_given(tmp_path: Path) -> None:
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
    assert [payload.get("deadline") for payload in actions(path)] == [None, "ring"]


async def test_other_settings_hold_from_the_start_on_in_a_replay_too(tmp_path: Path) -> None:
    """The change is an event. Limits that run already are measured anew."""
    path = tmp_path / "calls.db"
    clock = FakeClock()
    async with Dispatcher(Router(), journal=SqliteJournal(path), clock=clock) as calls:
        await calls.receive(js("dialout-connected", "before"))
    other = Settings(silence_before_answer=60, ring_deadline=20)
    async with Dispatcher(Router(), journal=SqliteJournal(path), clock=clock, settings=other) as calls:
        assert calls._sequencer.engine.settings == other
        await calls.receive(js("dialout-connected", "after"))
        await clock.advance(61)
        await until(lambda: all(session.ended for session in calls.sessions()))  # the limits are still being written
        sessions = {session.session_id: session for session in calls.sessions()}
        assert sessions["before"].cause is sessions["after"].cause is Cause.EXPIRED
        live = state_of(calls._sequencer.engine)
    kept = actions(path)
    assert [payload["action"] for payload in kept].count("settings-changed") == 1
    # Only the session that began to ring under these settings has the deadline.
    assert [payload["sessionId"] for payload in kept if payload.get("deadline") == "ring"] == ["after"]
    replay = replayed(path)
    assert replay.settings == other
    assert state_of(replay) == live
    async with Dispatcher(Router(), journal=SqliteJournal(path), clock=clock) as calls:
        assert calls._sequencer.engine.settings == other
    assert [payload["action"] for payload in actions(path)].count("settings-changed") == 1


async def test_a_journal_that_breaks_its_contract_is_reported_to_the_sender(tmp_path: Path) -> None:
    """And works again once it keeps it."""

    class Forgetful(SqliteJournal):
        async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
            seqs = await super().append(entries)
            return seqs[:-1] if seqs[0] == 1 else seqs

    async with Dispatcher(Router(), journal=Forgetful(tmp_path / "calls.db")) as calls:
        with pytest.raises(JournalError, match="0 numbers for 1 entries"):
            await calls.receive(js("dialout-connected"))
        assert (await calls.receive(js("dialout-answered"))).session is not None


async def test_a_recorded_log_needs_no_second_journal(tmp_path: Path) -> None:
    """A log's time may be unknown, and a journal's never is."""
    with pytest.raises(ValueError, match="without journal="):
        Dispatcher(Router(), journal=SqliteJournal(tmp_path / "calls.db"), clock=LogClock())
    with pytest.raises(ValueError, match="slow_after"):
        Dispatcher(Router(), slow_after=0)


async def test_a_journal_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    """Another program may look."""
    path = tmp_path / "calls.db"
    async with Dispatcher(Router(), journal=SqliteJournal(path)) as calls:
        await calls.receive(js("dialout-connected"))
        records: AsyncIterator[object] = SqliteJournal(path).read()
        assert len([record async for record in records]) == 1


@pytest.mark.both_loops
async def test_senders_that_wait_for_a_slow_journal_at_the_end_learn_what_was_kept(tmp_path: Path) -> None:
    """The commit under way is finished; what only waits for the next is refused."""
    journal = Shaky(tmp_path / "calls.db")
    answers: list[str] = []

    async def send(calls: Dispatcher, number: int) -> None:
        try:
            await calls.receive(js("dialout-connected", f"s{number}"))
            answers.append("kept")
        except NotRunning:
            answers.append("not kept")

    async with anyio.create_task_group() as group, Dispatcher(Router(), journal=journal, drain=0.05) as calls:
        journal.slow = 0.3
        group.start_soon(send, calls, 1)
        await settle()
        group.start_soon(send, calls, 2)
        await settle()
    assert sorted(answers) == ["kept", "not kept"]
    assert [payload["sessionId"] for payload in actions(journal.path)] == ["s1"]


@pytest.mark.both_loops
async def test_a_journal_that_hangs_does_not_block_forever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the sender nor the block: a disk that hangs is left alone."""
    monkeypatch.setattr(_run, "_CLOSE_WITHIN", 0.1)
    journal = SqliteJournal(tmp_path / "calls.db")
    hangs = threading.Event()
    answers: list[str] = []

    async def send(calls: Dispatcher) -> None:
        with pytest.raises(NotRunning, match="it may have the event, or not"):
            await calls.receive(js("dialout-connected"))
        answers.append("refused")

    def hang(entries: Sequence[Entry], done: Sequence[int]) -> list[int]:
        hangs.wait(20)
        raise sqlite3.OperationalError("disk I/O error")

    with structlog.testing.capture_logs() as logs, anyio.fail_after(5):
        async with anyio.create_task_group() as group, Dispatcher(Router(), journal=journal, drain=0.05) as calls:
            monkeypatch.setattr(journal, "_append", hang)
            group.start_soon(send, calls)
            await settle()
    hangs.set()
    assert answers == ["refused"]
    assert "journal.not_closed" in [log["event"] for log in logs]


@pytest.mark.long
@pytest.mark.both_loops
async def test_a_program_ends_though_its_disk_hangs(tmp_path: Path, anyio_backend_name: str) -> None:
    """No thread of telstate keeps the interpreter."""
    code = f"""
import anyio, time
from telstate import NotRunning, Dispatcher, Router
from telstate.journals import SqliteJournal
from telstate.routing import _run
_run._CLOSE_WITHIN = 0.2
async def main():
    journal = SqliteJournal({str(tmp_path / "calls.db")!r})
    async with anyio.create_task_group() as group, Dispatcher(Router(), journal=journal, drain=0.1) as calls:
        journal._append = lambda *_: time.sleep(3600)
        async def send():
            try:
                await calls.receive({{"action": "dialout-connected", "sessionId": "s"}})
            except NotRunning:
                print("refused")
        group.start_soon(send)
        await anyio.sleep(0.1)
anyio.run(main, backend={anyio_backend_name!r})
"""
    with anyio.fail_after(30):
        run = await anyio.run_process([sys.executable, "-c", code])
    assert b"refused" in run.stdout


@pytest.mark.both_loops
async def test_a_cancelled_start_leaves_the_journal_free(tmp_path: Path) -> None:
    """The next dispatcher can write it."""
    path = tmp_path / "calls.db"
    for tenths in range(30):
        with anyio.move_on_after(tenths / 10_000):
            async with Dispatcher(Router(), journal=SqliteJournal(path)):
                pass
    async with Dispatcher(Router(), journal=SqliteJournal(path)) as calls:
        await calls.receive(js("dialout-connected"))


async def test_one_journal_serves_one_dispatcher_at_a_time(tmp_path: Path) -> None:
    """The second is refused, and the first goes on."""
    journal = SqliteJournal(tmp_path / "calls.db")
    async with Dispatcher(Router(), journal=journal) as calls:
        with pytest.raises(JournalError, match="is open already"):
            await Dispatcher(Router(), journal=journal).__aenter__()
        await calls.receive(js("dialout-connected"))
    async with Dispatcher(Router(), journal=journal) as calls:
        assert len(calls.live()) == 1


async def test_events_that_only_this_side_knows_do_not_come_in_with_a_request(tmp_path: Path) -> None:
    """A body that says `stop-requested` may be forged; a program passes the event as an object, or names the dialect."""
    async with Dispatcher(Router(), journal=SqliteJournal(tmp_path / "calls.db")) as calls:
        for body in (b'{"action":"stop-requested","sessionId":"s"}', {"action": "settings-changed", "settings": {}}):
            with pytest.raises(ParseError, match=r"pass StopRequested|pass SettingsChanged"):
                await calls.receive(body)
        await calls.receive(StopRequested(session_id="s"))
        await calls.receive({"action": "stop-requested", "sessionId": "s"}, dialect="daily-js")
        with pytest.raises(ParseError, match="pass StopRequested"):
            await calls.receive({"action": "stop-requested", "sessionId": "s"})
        assert sum(calls.counts.values()) == 2


@pytest.mark.both_loops
async def test_a_sender_that_gives_up_on_a_slow_journal_leaves_nothing_behind(tmp_path: Path) -> None:
    """Thousands of requests that timed out while the disk stood still are not written when it goes on."""
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
        assert not calls._sequencer._queue


async def test_a_journal_that_cannot_be_closed_leaves_the_router_free(tmp_path: Path) -> None:
    """Handlers can be registered again."""

    class Stubborn(SqliteJournal):
        async def aclose(self) -> None:
            await super().aclose()
            raise OSError(5, "Input/output error")

    router = Router()
    with pytest.raises(OSError, match="Input/output"):
        async with Dispatcher(router, journal=Stubborn(tmp_path / "calls.db")):
            pass

    @router.on("dialout-connected")
    async def later() -> None: ...


@pytest.mark.long
async def test_a_dead_letter_being_written_when_the_block_is_left_is_kept_once(tmp_path: Path) -> None:
    """The write is not cut off, so it is not made again."""
    writing = anyio.Event()

    class Slow(SqliteJournal):
        async def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
            """As the disk's thread: the call that was submitted is made, whoever is cancelled."""
            with anyio.CancelScope(shield=True):
                await super().add_dead_letters(letters)
            writing.set()
            await anyio.sleep(0.2)

    router, failing = Router(), anyio.Event()

    @router.on("dialout-connected")
    async def fail() -> None:
        await failing.wait()
        raise ValueError

    async with Dispatcher(router, journal=Slow(tmp_path / "j.db"), drain=0) as calls:
        await calls.receive(js("dialout-connected", "a"))
        await settle()
        failing.set()
        await writing.wait()
    assert len([kept async for kept in SqliteJournal(tmp_path / "j.db").dead_letters()]) == 1
