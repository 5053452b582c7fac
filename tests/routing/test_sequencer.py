"""The sequencer without a dispatcher: group commit, order, cancellation, closing, limits; and a journal that others share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from random import Random
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest
import structlog
from anyio.abc import TaskGroup
from pydantic_core import to_json

from telstate import (
    Caller,
    Cause,
    Dispatcher,
    Engine,
    Event,
    JournalError,
    NotRunning,
    Outcome,
    OutcomeKind,
    ParseError,
    Router,
    Session,
    Settings,
    SettingsChanged,
    parse,
)
from telstate.calls._outcome import Unmatched
from telstate.routing._backlog import Backlog
from telstate.routing._memory_journal import MemoryJournal
from telstate.routing._ports import Entry, Journal, Record
from telstate.routing._sequencer import Sequencer
from telstate.routing._work_log import WorkLog
from telstate.testing import FakeClock
from telstate.testing._clock import settle
from tests.calls import js
from tests.contracts.shared_memory_journal import SharedLog, SharedMemoryJournal
from tests.routing import until
from tests.routing.kept import rest

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops]

SHORT = Settings(silence_before_answer=60, retention=10, key_ttl=10, parked_ttl=10)


class Plain(SharedMemoryJournal):
    """A journal of its own log, whose appends can wait, fail, and leave gaps in their numbers."""

    tail = cast("Any", None)

    def __init__(self, log: SharedLog | None = None) -> None:
        super().__init__(log or SharedLog())
        self.log = self._log
        self.gate: anyio.Event | None = None
        self.failing = False
        self.step = 1
        self.batches: list[int] = []

    async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
        """Append, once the gate is open."""
        self.batches.append(len(entries))
        if self.gate is not None:
            await self.gate.wait()
        if self.failing:
            raise OSError(28, "No space left on device")
        return [seq * self.step for seq in await super().append(entries)]


class Gated(SharedMemoryJournal):
    """A handle on a shared log whose tail can be held up, or whose appends return only after it."""

    gate: anyio.Event | None = None
    tail_first = False
    tailed = 0

    async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
        """Append; with `tail_first`, return when what was appended has come back and was stepped."""
        seqs = await super().append(entries)
        if self.tail_first:
            await until(lambda: self.tailed >= seqs[-1])
        return seqs

    def go_on(self) -> None:
        """Yield what was held up, and all that follows."""
        if self.gate is not None:
            self.gate.set()
            self.gate = None

    async def tail(self, after: int) -> AsyncGenerator[Record, None]:
        """Yield records, once the gate is open."""
        async with aclosing(super().tail(after)) as records:
            async for record in records:
                if self.gate is not None:
                    await self.gate.wait()
                yield record
                self.tailed = record.seq


class Running:
    """A sequencer that runs, and what its listener has seen."""

    def __init__(self, journal: Journal, clock: FakeClock, settings: Settings | None, at_once: int) -> None:
        self.work_log = WorkLog(journal, clock)
        self.sequencer = Sequencer(journal, clock, settings, Backlog(10_000), self.work_log, at_once=at_once)
        self.sequencer.open(Engine(settings), 0, self._stepped, asks=False)
        self.clock = clock
        self.stepped: list[Outcome] = []
        self.departed: list[Session | Unmatched | Caller] = []

    def _stepped(self, outcome: Outcome | None, departed: tuple[Session | Unmatched | Caller, ...]) -> None:
        if outcome is not None:
            self.stepped.append(outcome)
        self.departed += departed

    @property
    def numbers(self) -> list[int]:
        """The numbers of the steps, in their order."""
        return [outcome.seq for outcome in self.stepped]

    @property
    def kinds(self) -> list[tuple[str, OutcomeKind]]:
        """The events of the steps and what became of them."""
        return [(outcome.event.action, outcome.kind) for outcome in self.stepped]

    async def submit(self, *payloads: dict[str, Any]) -> list[Outcome]:
        """Submit payloads as they would be received now. Every submitter must get the outcomes of its own entries."""
        entries = [entry(self.clock.now(), payload) for payload in payloads]
        outcomes = await self.sequencer.submit(entries)
        assert [outcome.event for outcome in outcomes] == [one.event for one in entries]
        return outcomes


def entry(at: float, payload: dict[str, Any]) -> Entry:
    """Return an entry, read as a dispatcher reads it."""
    return Entry(at, "daily-js", to_json(payload), parse(payload))


@asynccontextmanager
async def running(
    journal: Journal, clock: FakeClock | None = None, settings: Settings | None = None, at_once: int = 500
) -> AsyncIterator[Running]:
    """Run a sequencer, with its timers."""
    await journal.open({})
    async with anyio.create_task_group() as group:
        one = Running(journal, clock or FakeClock(), settings, at_once)
        for task in (one.sequencer.run, one.sequencer.follow, one.sequencer.run_timers):
            group.start_soon(task)
        await settle()
        yield one
        group.cancel_scope.cancel()


def start(group: TaskGroup, one: Running, answers: list[Any], *payloads: dict[str, Any]) -> None:
    """Submit in a task of its own; its outcomes or its error become an answer."""

    async def submit() -> None:
        try:
            answers.append(await one.submit(*payloads))
        except (JournalError, NotRunning) as error:
            answers.append(error)

    group.start_soon(submit)


# --- group commit -------------------------------------------------------------------------------------------------


async def test_many_submitters_share_an_append_and_get_their_own_outcomes() -> None:
    """While one append is under way, all others wait for the next."""
    journal = Plain()
    journal.gate = anyio.Event()
    async with running(journal) as one, anyio.create_task_group() as group:
        answers: list[Any] = []
        for number in range(100):
            start(group, one, answers, js("dialout-connected", f"s{number}"))
            if not number:
                await settle()
        await settle()
        assert one.stepped == answers == []
        assert one.sequencer.busy
        journal.gate.set()
        await until(lambda: len(answers) == 100)
        assert journal.batches == [1, 99]
        assert not one.sequencer.busy
    assert one.numbers == list(range(1, 101))
    assert sorted(outcome.seq for outcomes in answers for outcome in outcomes) == list(range(1, 101))


async def test_a_commit_has_a_limit_but_splits_no_submission() -> None:
    """Handlers get a turn between two commits; entries that are submitted together are kept together."""
    journal = Plain()
    journal.gate = anyio.Event()
    async with running(journal, at_once=10) as one, anyio.create_task_group() as group:
        answers: list[Any] = []
        for count in (1, 4, 4, 4, 25, 1):
            start(group, one, answers, *[js("dialout-connected", f"s{number}") for number in range(count)])
            await settle()
        journal.gate.set()
        await until(lambda: len(answers) == 6)
    assert journal.batches == [1, 8, 4, 25, 1]
    assert [len(outcomes) for outcomes in answers] == [1, 4, 4, 4, 25, 1]
    assert all(outcomes[0].seq + len(outcomes) - 1 == outcomes[-1].seq for outcomes in answers)


async def test_a_failing_append_fails_all_its_submitters_and_changes_nothing() -> None:
    """When the journal works again, so does the sequencer."""
    journal = Plain()
    journal.failing = True
    async with running(journal) as one:
        answers: list[Any] = []
        async with anyio.create_task_group() as group:
            for number in range(10):
                start(group, one, answers, js("dialout-connected", f"s{number}"))
        assert [str(answer.__cause__) for answer in answers] == ["[Errno 28] No space left on device"] * 10
        assert (one.sequencer.engine.received, one.sequencer.seq, one.stepped) == (0, 0, [])
        journal.failing = False
        (outcome,) = await one.submit(js("dialout-connected", "s"))
        assert (outcome.seq, one.sequencer.seq, outcome.event_id) == (1, 1, f"{journal.id}:1")


async def test_events_are_stepped_in_the_order_of_the_journals_numbers() -> None:
    """A journal may leave gaps. The engine and the outcomes use its numbers."""
    journal = Plain()
    journal.step = 7
    async with running(journal) as one:
        outcomes = await one.submit(js("dialout-connected", "a"), js("dialout-connected", "b"))
        assert [outcome.seq for outcome in outcomes] == one.numbers == [7, 14]
        session = one.sequencer.engine.session("b")
        assert session is not None
        assert session.opened == one.sequencer.seq == 14


async def test_a_journal_that_returns_too_few_numbers_is_reported() -> None:
    """Nothing is stepped then, as nobody knows which entries it has."""

    class Forgetful(Plain):
        async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
            return (await super().append(entries))[:-1]

    async with running(Forgetful()) as one:
        with pytest.raises(JournalError, match="1 numbers for 2 entries"):
            await one.submit(js("dialout-connected", "a"), js("dialout-connected", "b"))
        assert one.stepped == []


async def test_numbers_that_do_not_rise_are_reported() -> None:
    """The engine would take the second event for one it has."""

    class Repeating(Plain):
        async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
            return [1 for _ in await super().append(entries)]

    async with running(Repeating()) as one:
        await one.submit(js("dialout-connected", "a"))
        with pytest.raises(JournalError, match="do not rise"):
            await one.submit(js("dialout-connected", "b"))
        with pytest.raises(JournalError, match="do not rise"):
            await one.submit(js("dialout-connected", "b"), js("dialout-connected", "c"))
        assert len(one.stepped) == 1


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_cancellation_from_inside_a_journal_is_a_failed_append() -> None:
    """As of a future of its connection. On asyncio it would end the dispatcher without a word."""

    class Cancelling(Plain):
        async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
            if self.failing:
                raise asyncio.CancelledError
            return await super().append(entries)

    journal = Cancelling()
    async with Dispatcher(Router(), journal=journal) as calls:
        journal.failing = True
        with pytest.raises(JournalError, match="cancelled itself"):
            await calls.receive(js("dialout-connected", "a"))
        journal.failing = False
        await calls.receive(js("dialout-connected", "b"))
        assert [session.session_id for session in calls.sessions()] == ["b"]


class Full(MemoryJournal):
    """An immediate journal that takes only so many more entries."""

    left = 1_000_000

    def append_now(self, entry: Entry) -> int:
        """Append, as long as there is room."""
        if not self.left:
            raise OSError(28, "No space left on device")
        self.left -= 1
        return super().append_now(entry)


async def test_an_immediate_journal_that_fails_raises_a_journal_error() -> None:
    """What it kept before the failure has its answers, in order with what was no event."""
    journal = Full()
    async with Dispatcher(Router(), journal=journal) as calls:
        journal.left = 3
        with pytest.raises(JournalError, match="No space left") as caught:
            await calls.receive_many([b"{}", *(js("dialout-connected", f"s{number}") for number in range(10))])
        error, *outcomes = caught.value.answers
        assert isinstance(error, ParseError)
        assert [outcome.session for outcome in outcomes] == calls.sessions()
        assert len(outcomes) == 3
        with pytest.raises(JournalError, match="No space left"):
            await calls.receive(js("dialout-connected", "s"))


async def test_an_event_that_cannot_be_written_fails_before_it_shares_a_commit() -> None:
    """The others are not affected."""
    journal = Plain()
    bad = SettingsChanged(settings={"not JSON": object()})
    async with running(journal) as one:
        with pytest.raises(ParseError, match="written as JSON"):
            await one.sequencer.submit_events(bad)
        await one.submit(js("dialout-connected", "a"))
    assert journal.batches == [1]


async def test_a_commit_writes_marks_too() -> None:
    """They need no sync of their own."""
    journal = Plain()
    async with running(journal) as one:
        await one.submit(js("dialout-connected", "s"))
        one.work_log.done(1)
        assert journal.log.done == set()
        await one.submit(js("dialout-connected", "t"))
        await until(lambda: journal.log.done == {1})


async def test_an_empty_submission_appends_nothing() -> None:
    """A batch may have had no event at all."""
    journal = Plain()
    async with running(journal) as one:
        assert await one.submit() == []
    assert journal.batches == []


async def test_an_immediate_journal_is_stepped_without_waiting_and_pauses_now_and_then() -> None:
    """`step_now` refuses every 32nd event, and `submit` lets the event loop turn after it."""
    journal = MemoryJournal()
    async with running(journal) as one:
        turned = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(open_now, turned)
            for _ in range(2):
                for _ in range(31):
                    outcome = one.sequencer.step_now(entry(1.0, js("dialin-warning", "s")))
                    assert outcome is not None
                assert one.sequencer.step_now(entry(1.0, js("dialin-warning", "s"))) is None
                await one.submit(js("dialin-warning", "s"))
            assert turned.is_set()
    assert one.numbers == list(range(1, 65))


# --- cancellation and closing -------------------------------------------------------------------------------------


async def test_a_submitter_cancelled_before_its_commit_leaves_nothing() -> None:
    """From the middle of the queue, too."""
    journal = Plain()
    journal.gate = anyio.Event()
    async with running(journal) as one, anyio.create_task_group() as group:
        answers: list[Any] = []
        start(group, one, answers, js("dialout-connected", "under way"))
        await settle()
        start(group, one, answers, js("dialout-connected", "waits"))
        with anyio.move_on_after(0.01):
            await one.submit(js("dialout-connected", "gives up"))
        start(group, one, answers, js("dialout-connected", "waits too"))
        await settle()
        journal.gate.set()
        await until(lambda: len(answers) == 3)
    assert [outcome.event.session_id for outcome in one.stepped] == ["under way", "waits", "waits too"]
    assert journal.batches == [1, 2]


async def test_a_submitter_cancelled_during_its_commit_is_stepped_all_the_same() -> None:
    """The journal has the event, so the state must have it."""
    journal = Plain()
    journal.gate = anyio.Event()
    async with running(journal) as one:
        with anyio.move_on_after(0.01):
            await one.submit(js("dialout-connected", "s"))
        assert one.stepped == []
        journal.gate.set()
        await until(lambda: one.numbers == [1])


async def test_a_cancelled_submitter_of_an_immediate_journal_leaves_nothing() -> None:
    """Cancelled before the step: after it, nothing could be undone."""
    async with running(MemoryJournal()) as one:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await one.submit(js("dialout-connected", "s"))
        assert one.stepped == []


async def test_close_finishes_the_commit_under_way_and_refuses_the_rest() -> None:
    """Those that waited, and those that come later."""
    journal = Plain()
    journal.gate = anyio.Event()
    async with running(journal) as one, anyio.create_task_group() as group:
        answers: list[Any] = []
        start(group, one, answers, js("dialout-connected", "under way"))
        await settle()
        start(group, one, answers, js("dialout-connected", "waits"))
        await settle()
        one.sequencer.close(5)
        await until(lambda: len(answers) == 1)
        assert isinstance(answers[0], NotRunning)
        with pytest.raises(NotRunning):
            await one.submit(js("dialout-connected", "too late"))
        journal.gate.set()
        await until(lambda: len(answers) == 2)
        assert answers[1][0].seq == 1
    assert journal.batches == [1]


async def test_close_waits_for_a_hanging_journal_only_as_long_as_given() -> None:
    """Nobody knows whether the journal has the event, and the error says so."""
    journal = Plain()
    journal.gate = anyio.Event()
    async with running(journal) as one, anyio.create_task_group() as group:
        answers: list[Any] = []
        start(group, one, answers, js("dialout-connected", "s"))
        await settle()
        one.sequencer.close(0.02)
        await until(lambda: len(answers) == 1)
        assert isinstance(answers[0], NotRunning)
        assert "or not" in str(answers[0])
    assert one.stepped == []


async def test_a_sequencer_that_is_cancelled_leaves_no_submitter_waiting() -> None:
    """Its task group may be cancelled from outside, without `close`. The commit under way is finished."""
    journal = Plain()
    journal.gate = anyio.Event()
    answers: list[Any] = []
    async with anyio.create_task_group() as group:
        async with running(journal) as one:
            start(group, one, answers, js("dialout-connected", "under way"))
            await settle()
            start(group, one, answers, js("dialout-connected", "waits"))
            await settle()
            group.start_soon(open_later, journal.gate)
        await until(lambda: len(answers) == 2)
    kept, refused = sorted(answers, key=lambda answer: isinstance(answer, NotRunning))
    assert kept[0].seq == 1
    assert isinstance(refused, NotRunning)


async def open_now(gate: anyio.Event) -> None:
    """Open a gate as soon as the event loop turns."""
    gate.set()


async def open_later(gate: anyio.Event) -> None:
    """Open a gate after a moment."""
    await anyio.sleep(0.02)
    gate.set()


# --- limits -------------------------------------------------------------------------------------------------------


async def test_a_limit_is_appended_when_it_is_due() -> None:
    """It is an event in the journal, as any other."""
    async with running(Plain(), settings=SHORT) as one:
        await one.submit(js("dialout-connected", "s"))
        await one.clock.advance(59)
        assert one.numbers == [1]
        await one.clock.advance(1)
        assert one.kinds == [("dialout-connected", OutcomeKind.MOVED), ("deadline-passed", OutcomeKind.MOVED)]
        await one.clock.advance(10)
        assert [gone.session_id for gone in one.departed if isinstance(gone, Session)] == ["s"]


async def test_an_event_that_the_journal_has_before_a_limit_renews_it() -> None:
    """The limit was due and on its way when the event came; it is late, and the session lives."""
    journal = Plain()
    async with running(journal, settings=SHORT) as one, anyio.create_task_group() as group:
        answers: list[Any] = []
        await one.submit(js("dialout-connected", "s"))
        await one.clock.advance(59)
        journal.gate = anyio.Event()
        start(group, one, answers, js("dialout-warning", "s"))
        await settle()
        await one.clock.advance(2)
        journal.gate.set()
        await until(lambda: len(one.stepped) == 3)
        assert one.kinds[1:] == [("dialout-warning", OutcomeKind.NOTED), ("deadline-passed", OutcomeKind.LATE)]
        assert len(one.sequencer.engine.live()) == 1


async def test_a_limit_that_could_not_be_kept_is_appended_later() -> None:
    """The failure is logged."""
    journal = Plain()
    with structlog.testing.capture_logs() as logs:
        async with running(journal, settings=SHORT) as one:
            await one.submit(js("dialout-connected", "s"))
            journal.failing = True
            await one.clock.advance(60)
            assert [log["event"] for log in logs] == ["journal.cannot_keep_events", "journal.limit_failed"]
            assert one.numbers == [1]
            journal.failing = False
            await one.clock.advance(1)
            assert one.numbers == [1, 2]


async def test_a_limit_that_an_immediate_journal_could_not_keep_is_appended_later() -> None:
    """The timer goes on."""
    journal, clock = Full(), FakeClock()
    async with Dispatcher(Router(), journal=journal, clock=clock) as calls:
        await calls.receive(js("dialout-connected", "a"))
        journal.left = 0
        await clock.advance(601)
        journal.left = 1000
        await clock.advance(5)
        session = calls.session("a")
        assert session is not None
        assert session.ended


async def test_new_settings_hold_for_limits_that_run() -> None:
    """The timer looks again at once, also where it would have slept past the new limit."""
    other = Settings(silence_before_answer=20)
    async with running(Plain(), settings=Settings()) as one:
        await one.submit(js("dialout-connected", "s"))
        await one.clock.advance(1)
        await one.sequencer.submit_events(SettingsChanged(settings=other.model_dump()))
        await one.clock.advance(18)
        assert len(one.sequencer.engine.live()) == 1
        await one.clock.advance(2)
        assert one.sequencer.engine.live() == []


async def test_closing_while_a_limit_is_appended_ends_the_timer_without_an_error() -> None:
    """The limit is kept and stepped; then there is nothing more to do."""
    journal = Plain()
    async with running(journal, settings=SHORT) as one:
        await one.submit(js("dialout-connected", "s"))
        journal.gate = anyio.Event()
        await one.clock.advance(60)
        one.sequencer.close(5)
        journal.gate.set()
        await until(lambda: one.numbers == [1, 2])
        await settle()


async def test_time_goes_on_where_the_journal_was() -> None:
    """Also if the clock of the machine has been put back since."""
    clock, engine = FakeClock(1000.0), Engine()
    engine.receive(parse(js("dialout-connected", "s")), 1300.0)
    journal = Plain()
    sequencer = Sequencer(journal, clock, None, Backlog(10_000), WorkLog(journal, clock), at_once=500)
    sequencer.open(engine, 1, lambda *_: None, asks=False)
    assert sequencer.now() == 1300
    await clock.advance(5)
    assert sequencer.now() == 1305


# --- a journal that others share ----------------------------------------------------------------------------------


def fold(log: SharedLog, settings: Settings, now: float) -> dict[str, Any]:
    """Return what a replay of a shared log knows at a time."""
    engine = Engine(settings)
    for seq in range(1, len(log.records) + 1):
        record = log.record(seq)
        try:
            engine.receive(parse(record.payload, record.dialect), record.at, seq, record.dialect)
        except ParseError:
            continue
    engine.advance(now)
    return engine.snapshot()


def some_payload(rng: Random) -> dict[str, Any]:
    """Return an event of one of a few sessions."""
    direction, session_id = rng.choice(["dialin", "dialout"]), f"s{rng.randrange(12)}"
    action = rng.choice(["connected", "answered", "stopped", "error", "warning", "warning"])
    if direction == "dialin" and action == "answered":
        return {"action": "participant-joined", "participant": {"session_id": f"in{session_id}"}}
    return js(f"{direction}-{action}", session_id if direction == "dialout" else f"in{session_id}")


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(3, 60))])
async def test_two_sequencers_on_one_log_come_to_the_same_state(seed: int) -> None:
    """Both append, others append too, time passes, tails lag and appends are cancelled, in random order.

    Both step every record, in the order of the log, and end with what a replay of it knows.
    """
    rng, clock, log = Random(seed), FakeClock(), SharedLog()
    settings = Settings(
        silence_before_answer=30, silence_in_call=45, ring_deadline=12, retention=20, key_ttl=20, parked_ttl=20
    )
    handles = [Gated(log), Gated(log)]
    answers: list[Any] = []
    async with (
        running(handles[0], clock, settings) as one,
        running(handles[1], clock, settings) as other,
        anyio.create_task_group() as group,
    ):
        for _ in range(300):
            match rng.randrange(10):
                case 0 | 1 | 2 | 3:
                    payloads = [some_payload(rng) for _ in range(rng.choice([1, 1, 1, 3]))]
                    start(group, rng.choice([one, other]), answers, *payloads)
                case 4 | 5:
                    log.append([entry(clock.now() - rng.uniform(0, 1), some_payload(rng))])
                case 6:
                    log.append([Entry(clock.now(), "daily-js", rng.choice([b'{"no": "event"}', b"[1]", b"{"]))])
                case 7:
                    for handle in handles:
                        handle.go_on()
                    await clock.advance(rng.choice([0.3, 1, 5, 15]))
                case 8:
                    slow = rng.choice(handles)
                    slow.gate = slow.gate or anyio.Event()
                    await clock.advance(0.1)
                case _:
                    with anyio.move_on_after(rng.choice([0, 0.001])):
                        await rng.choice([one, other]).submit(some_payload(rng))
            for _ in range(rng.randrange(6)):
                await anyio.lowlevel.checkpoint()
        for handle in handles:
            handle.go_on()
        await clock.advance(40)
        await until(lambda: one.sequencer.seq == other.sequencer.seq == len(log.records))
    now = clock.now() + 1
    assert not one.sequencer.busy
    assert not other.sequencer.busy
    assert one.numbers == other.numbers == sorted(set(one.numbers))
    assert one.kinds == other.kinds
    for each in (one, other):
        each.sequencer.engine.advance(now)
        assert each.sequencer.engine.snapshot() == fold(log, settings, now)
    for outcome in [outcome for outcomes in answers for outcome in outcomes]:
        assert parse(log.record(outcome.seq).payload) == outcome.event
    assert {"deadline-passed"} < {action for action, _ in one.kinds}
    letters = {kept.letter.seq for kept in log.letters.values()}
    await one.work_log.flush()
    letters |= {kept.letter.seq for kept in log.letters.values()}
    assert letters == set(range(1, len(log.records) + 1)) - set(one.numbers)


@pytest.mark.parametrize("tail_first", [True, False])
async def test_a_submitter_gets_the_outcomes_of_its_own_records_from_the_tail(tail_first: bool) -> None:
    """Before `append` returns, or after it."""
    log = SharedLog()
    handle = Gated(log)
    handle.tail_first = tail_first
    handle.gate = None if tail_first else anyio.Event()
    async with running(handle) as one, anyio.create_task_group() as group:
        answers: list[Any] = []
        start(group, one, answers, js("dialout-connected", "a"), js("dialout-connected", "b"))
        log.append([entry(1.0, js("dialout-connected", "theirs"))])
        await settle()
        if handle.gate is not None:
            assert answers == []
            assert one.sequencer.busy
            handle.gate.set()
        await until(lambda: len(answers) == 1)
        ((first, second),) = answers
    assert [first.event.session_id, second.event.session_id] == ["a", "b"]
    assert {first.seq, second.seq} < set(one.numbers) == {1, 2, 3}
    assert first in one.stepped


async def test_close_fails_submitters_whose_record_has_not_come_back() -> None:
    """The journal has the event, and the error says so."""
    handle = Gated(SharedLog())
    handle.gate = anyio.Event()
    async with running(handle) as one, anyio.create_task_group() as group:
        answers: list[Any] = []
        start(group, one, answers, js("dialout-connected", "s"))
        await settle()
        one.sequencer.close(5)
        await until(lambda: len(answers) == 1)
    assert isinstance(answers[0], NotRunning)
    assert "which has it" in str(answers[0])
    assert not one.sequencer.busy


async def test_a_record_of_others_that_cannot_be_read_is_a_dead_letter_and_stops_nothing() -> None:
    """A later version of the program may be able to read it."""
    log = SharedLog()
    with structlog.testing.capture_logs() as logs:
        async with running(SharedMemoryJournal(log)) as one:
            log.append([Entry(5.0, "daily-js", b'{"no": "event"}'), entry(6.0, js("dialout-connected", "s"))])
            await until(lambda: one.numbers == [2])
            await one.work_log.flush()
    ((_, letter, _),) = log.letters.values()
    assert (letter.seq, letter.reason, letter.payload) == (1, "ParseError", b'{"no": "event"}')
    assert log.done == {1}
    assert [log["event"] for log in logs] == ["journal.unreadable_event"]


@pytest.mark.parametrize("tail_first", [True, False])
async def test_an_own_record_that_cannot_be_read_back_does_not_block_its_submitter(tail_first: bool) -> None:
    """For example after a bug in a model. If `append` has returned, the event is known; otherwise the record must be read."""
    handle = Gated(SharedLog())
    handle.tail_first = tail_first
    handle.gate = anyio.Event()
    with structlog.testing.capture_logs():
        async with running(handle) as one, anyio.create_task_group() as group:
            bad = Entry(1.0, "daily-js", b'{"no": "event"}', parse(js("dialout-connected", "s")))
            group.start_soon(open_later, handle.gate)
            if not tail_first:
                assert len(await one.sequencer.submit([bad])) == 1
            else:
                with pytest.raises(JournalError, match="cannot be read back"), anyio.fail_after(5):
                    await one.sequencer.submit([bad])
            assert len(await one.submit(js("dialout-connected", "t"))) == 1


async def test_a_limit_appended_after_an_event_of_others_is_late() -> None:
    """The event had not come back when the limit was due here; the journal has it first, so it wins."""
    log = SharedLog()
    handle = Gated(log)
    async with running(handle, settings=SHORT) as one:
        await one.submit(js("dialout-connected", "s"))
        handle.gate = anyio.Event()
        log.append([entry(one.clock.now() + 59, js("dialout-warning", "s"))])
        await one.clock.advance(60)
        assert len(log.records) == 3
        handle.gate.set()
        await until(lambda: one.numbers == [1, 2, 3])
        assert one.kinds[1:] == [("dialout-warning", OutcomeKind.NOTED), ("deadline-passed", OutcomeKind.LATE)]
        handle.gate = None
        await one.clock.advance(60)
        session = one.sequencer.engine.session("s")
        assert session is not None
        assert session.cause is Cause.EXPIRED


async def test_a_session_leaves_memory_only_when_no_older_event_can_be_on_its_way() -> None:
    """A replay knows when that event was received, and still has the session then."""
    log = SharedLog()
    async with running(SharedMemoryJournal(log), settings=SHORT) as one:
        await one.submit(js("dialout-stopped", "s"))
        begun = one.clock.now()
        looks = counted(one.sequencer, "_pass")
        await one.clock.advance(10 + 2 - 0.5)
        assert one.departed == []
        assert len(looks) < 20  # it does not spin meanwhile
        log.append([entry(begun + 9.9, js("dialout-warning", "s"))])
        await settle()
        assert one.stepped[-1].session is not None
        await one.clock.advance(1)
        assert len(one.departed) == 1


def counted(thing: object, name: str) -> list[tuple[Any, ...]]:
    """Return a list that grows with each call of a method, by its arguments."""
    calls: list[tuple[Any, ...]] = []
    method = getattr(thing, name)

    def call(*arguments: Any) -> Any:
        calls.append(arguments)
        return method(*arguments)

    setattr(thing, name, call)
    return calls


async def test_an_append_that_fails_though_the_log_has_it_is_stepped_as_a_record_of_others() -> None:
    """The connection broke before the answer: the sender gets an error and sends the event again."""

    class Lossy(SharedMemoryJournal):
        lossy = True

        async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
            seqs = await super().append(entries)
            if self.lossy:
                raise TimeoutError("no answer")
            return seqs

    handle = Lossy(SharedLog())
    async with running(handle) as one:
        with pytest.raises(JournalError, match="no answer"):
            await one.submit(js("dialout-stopped", "s"))
        await until(lambda: one.numbers == [1])
        handle.lossy = False
        (again,) = await one.submit(js("dialout-stopped", "s"))
        assert (again.seq, again.kind) == (2, OutcomeKind.DUPLICATE)
        assert not one.sequencer._early


async def test_a_tail_that_ends_fails_its_submitters() -> None:
    """They would wait for ever."""

    class Ending(SharedMemoryJournal):
        async def tail(self, after: int) -> AsyncGenerator[Record, None]:
            await settle()
            for _ in ():
                yield Record(after, 0.0, "", b"", done=False)

    caught: list[Exception] = []

    async def submit(calls: Dispatcher) -> None:
        with pytest.raises(JournalError, match="tail ended") as error:
            await calls.receive(js("dialout-connected", "a"))
        caught.append(error.value)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            with pytest.RaisesGroup(pytest.RaisesExc(JournalError, match="tail ended")):
                async with Dispatcher(Router(), journal=Ending(SharedLog())) as calls:
                    group.start_soon(submit, calls)
                    await anyio.sleep_forever()
    assert len(caught) == 1


async def test_an_append_that_hangs_does_not_collect_the_outcomes_of_others() -> None:
    """Memory is bounded meanwhile."""

    class Hanging(SharedMemoryJournal):
        hangs = False

        async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
            if self.hangs:
                await anyio.sleep_forever()
            return await super().append(entries)

    log = SharedLog(checkpoint_every=None)
    mine, theirs = Hanging(log), Hanging(log)
    async with (
        Dispatcher(Router(), journal=mine, drain=0) as calls,
        Dispatcher(Router(), journal=theirs, drain=0) as others,
    ):
        mine.hangs = True
        async with anyio.create_task_group() as group:
            group.start_soon(calls.receive, js("dialout-connected", "mine"))
            await settle()
            for number in range(2000):
                await others.receive(js("dialout-connected", f"s{number}"))
            await until(lambda: len(calls.sessions()) == 2000)
            kept = len(calls._sequencer._early)
            group.cancel_scope.cancel()
        assert calls._sequencer._commit_scope is not None
        calls._sequencer._commit_scope.cancel()
    assert kept < 2000


# --- whole dispatchers on one log ---------------------------------------------------------------------------------


class Worker:
    """A dispatcher on a shared log, and the events its handlers have seen."""

    def __init__(self, log: SharedLog, clock: FakeClock, **options: Any) -> None:
        self.journal = SharedMemoryJournal(log)
        self.seen: list[tuple[str, str | None]] = []
        router = Router()

        @router.on(Event, outcomes=OutcomeKind)
        async def handle(event: Event, outcome: Outcome) -> None:
            self.seen.append((event.action, outcome.event_id))

        self.calls = Dispatcher(router, journal=self.journal, clock=clock, **options)

    @property
    def state(self) -> dict[str, Any]:
        """What its engine knows."""
        return self.calls._sequencer.engine.snapshot()


async def stepped(log: SharedLog, *workers: Worker) -> None:
    """Wait until dispatchers have stepped the whole log and rest."""
    for worker in workers:
        await until(lambda w=worker: w.calls._sequencer.seq == len(log.records))  # type: ignore[misc]
        await rest(worker.calls)


async def test_two_dispatchers_on_one_log_see_the_same() -> None:
    """Each handles every event once, with the same ids, also those that the other one received."""
    log, clock = SharedLog(checkpoint_every=10_000), FakeClock()
    one, other = Worker(log, clock, settings=SHORT), Worker(log, clock, settings=SHORT)
    async with one.calls, other.calls:
        async with anyio.create_task_group() as group:
            for number in range(40):
                calls = (one if number % 2 else other).calls
                group.start_soon(calls.receive, js("dialout-connected", f"s{number}"))
        outcome = await one.calls.receive(js("dialout-answered", "s0"))
        await stepped(log, one, other)
        assert (await other.calls.wait_for("s0", "answered")).session_id == "s0"
        assert outcome.seq == 41
        await clock.advance(61)
        await stepped(log, one, other)
        ended = [session for session in one.calls.sessions() if session.ended]
        assert len(ended) == 39
        assert one.state == other.state
    assert sorted(one.seen) == sorted(other.seen)
    assert len(set(one.seen)) == len(one.seen) == len(log.records)
    handled_twice = [event_id for action, event_id in one.seen if action == "deadline-passed"]
    assert len(handled_twice) in range(39, 2 * 39 + 1)  # both timers appended them; the second of each is late


async def test_a_takeover_has_no_gap_and_reads_back_what_it_appends() -> None:
    """Others went on to append in between. Their events may come before its own, and none is skipped."""

    class Busy(SharedMemoryJournal):
        async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
            if any(type(one.event) is SettingsChanged for one in entries):
                self._log.append([entry(1_790_000_001.0, js("dialout-answered", "a"))])
            return await super().append(entries)

    log, clock = SharedLog(), FakeClock()
    async with Dispatcher(Router(), journal=SharedMemoryJournal(log), clock=clock) as calls:
        await calls.receive(js("dialout-connected", "a"))
    log.append([entry(clock.now(), js("dialout-connected", "b"))])
    async with Dispatcher(Router(), journal=Busy(log), clock=clock, settings=SHORT) as calls:
        assert {session.session_id: str(session.state) for session in calls.live()} == {
            "a": "answered",
            "b": "connected",
        }
        assert not any(session.uncertain for session in calls.live())
        assert calls._sequencer.engine.settings == SHORT
        assert (await calls.receive(js("dialout-stopped", "a"))).seq == 5
        assert calls._sequencer.engine.received == 5
    assert [parse(payload).action for _, _, payload in log.records] == [
        "dialout-connected",
        "dialout-connected",
        "dialout-answered",
        "settings-changed",
        "dialout-stopped",
    ]


async def test_a_takeover_forgets_no_session_that_an_older_event_may_still_concern() -> None:
    """As while it runs."""
    log, clock = SharedLog(), FakeClock()
    async with Dispatcher(Router(), journal=SharedMemoryJournal(log), clock=clock, settings=SHORT) as calls:
        await calls.receive(js("dialout-stopped", "s"))
        ended = clock.now()
    await clock.advance(10.5)
    async with Dispatcher(Router(), journal=SharedMemoryJournal(log), clock=clock) as calls:
        log.append([entry(ended + 9.9, js("dialout-stopped", "s"))])
        await until(lambda: calls._sequencer.seq == 2)
        assert calls.counts[OutcomeKind.DUPLICATE] == 1


async def test_a_takeover_goes_on_from_a_checkpoint_whose_record_was_pruned() -> None:
    """A stream keeps its records for a while only."""

    class Pruned(SharedMemoryJournal):
        async def read(self, after: int = 0) -> AsyncGenerator[Record, None]:
            async for record in super().read(max(after, 3)):
                yield record

    log, clock = SharedLog(), FakeClock()
    async with Dispatcher(Router(), journal=SharedMemoryJournal(log), clock=clock) as calls:
        for name in ("a", "b", "c"):
            await calls.receive(js("dialout-connected", name))
    log.append([entry(clock.now(), js("dialout-connected", "d"))])
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), journal=Pruned(log), clock=clock) as calls:
            assert [session.session_id for session in calls.live()] == ["a", "b", "c", "d"]
    assert logs == []


async def test_a_burst_that_others_append_fills_no_lane() -> None:
    """Handlers get a turn while it is stepped, as they do when events are received here."""
    log, clock = SharedLog(checkpoint_every=10_000), FakeClock()
    worker = Worker(log, clock, lane_limit=20)
    async with worker.calls as calls:
        log.append([entry(clock.now(), js("dialin-warning", "s")) for _ in range(2_000)])
        await stepped(log, worker)
        assert await calls.dead_letters.list() == []
    assert len(worker.seen) == 2_000


async def test_a_stale_owner_overwrites_no_checkpoint() -> None:
    """Another one has opened the log since, so its own state may be old: it logs an error, and leaves the checkpoint alone.

    From then on it takes in nothing more, and says why.
    """
    log, clock = SharedLog(checkpoint_every=10_000), FakeClock()
    owner, stale = Worker(log, clock), Worker(log, clock)
    with structlog.testing.capture_logs() as logs:
        async with stale.calls:
            async with owner.calls:
                await owner.calls.receive(js("dialout-connected", "s"))
                await stepped(log, owner, stale)
            kept = dict(log.checkpoints)
            assert kept
            await stale.calls.receive(js("dialout-connected", "s1"))
            for _ in range(3):
                await stale.calls._run.checkpoints.save()
                assert log.checkpoints == kept
                with pytest.raises(JournalError, match="another handle was opened since"):
                    await stale.calls.receive(js("dialout-connected", "s2"))
            assert stale.calls.not_ready is not None
            assert "another handle was opened since" in stale.calls.not_ready
    assert log.checkpoints == kept
    conflicts = [log for log in logs if log["event"] == "checkpoint.conflict"]
    assert len(conflicts) == 4  # the last one when it was left
