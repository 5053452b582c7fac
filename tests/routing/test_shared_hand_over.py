"""Leaving a shared journal and taking it over: what runs finishes, the next owner begins the rest, and knows what had begun."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import anyio
import pytest
import structlog
from pydantic_core import to_json

from telstate import Dispatcher, Event, JournalError, Outcome, OutcomeKind, Router, Session, Settings
from telstate.events import DeadlinePassed, Dialect
from telstate.routing._ports import Entry
from telstate.testing import FakeClock
from tests.calls import js
from tests.contracts.shared_memory_journal import SharedLog, SharedMemoryJournal
from tests.routing import until
from tests.routing.kept import rest

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops]


class Crashing(SharedMemoryJournal):
    """A handle whose process can crash: then it writes nothing more."""

    crashed = False

    async def save(self, key: str, state: bytes, revision: int | None) -> int:
        """Save, unless it has crashed."""
        if self.crashed:
            raise JournalError("crashed")
        return await super().save(key, state, revision)

    async def done(self, seqs: Sequence[int]) -> None:
        """Mark, unless it has crashed."""
        if self.crashed:
            raise JournalError("crashed")
        await super().done(seqs)


class Owner:
    """A dispatcher on a shared log, whose handlers wait for `gate`."""

    def __init__(self, log: SharedLog, *, open_gate: bool = True, **options: Any) -> None:
        self.journal = Crashing(log)
        self.gate = anyio.Event()
        if open_gate:
            self.gate.set()
        self.began: list[int] = []
        self.seen: list[tuple[int, bool]] = []
        router = Router()

        @router.on(Event, outcomes=OutcomeKind)
        async def handle(outcome: Outcome) -> None:
            assert outcome.seq is not None
            self.began.append(outcome.seq)
            await self.gate.wait()
            self.seen.append((outcome.seq, bool(outcome.redelivered)))

        options.setdefault("clock", FakeClock())
        self.calls = Dispatcher(router, journal=self.journal, **options)
        self._leave = anyio.Event()

    async def run(self) -> None:
        """Stay in the block until `leave`."""
        async with self.calls:
            await self._leave.wait()

    def leave(self) -> None:
        """Leave the block."""
        self._leave.set()


def publish(log: SharedLog, *names: str, action: str = "dialout-connected") -> None:
    """Append events as receivers do."""
    log.append([Entry(1_790_000_000.0, Dialect.DAILY_JS, to_json(js(action, name))) for name in names])


async def test_leaving_begins_nothing_and_waits_for_what_runs() -> None:
    """Events may come for ever. The next owner begins the rest, once, and as what it is: new."""
    log = SharedLog(checkpoint_every=10_000)
    first, second = Owner(log, open_gate=False), Owner(log)
    publish(log, "a", "a", "b", "a")
    async with anyio.create_task_group() as group:
        group.start_soon(first.run)
        await until(lambda: len(first.began) == 2)
        first.leave()
        await anyio.sleep(0.02)
        publish(log, "c", "d")
        await until(lambda: first.calls._sequencer.seq == 6)  # it goes on to step
        await anyio.sleep(0.02)
        assert first.began == [1, 3]
        first.gate.set()
    assert sorted(first.seen) == [(1, False), (3, False)]
    publish(log, "e")
    async with second.calls:
        await until(lambda: len(second.seen) == 5)
    assert sorted(second.seen) == [(2, False), (4, False), (5, False), (6, False), (7, False)]
    assert log.done >= set(range(1, 8))


async def test_what_runs_may_wait_for_events_while_it_is_left() -> None:
    """They are stepped all the while."""
    log, answered = SharedLog(checkpoint_every=10_000), []
    router = Router()

    @router.on(Event)
    async def handle(event: Event, calls: Dispatcher) -> None:
        if event.action == "dialout-connected":
            answered.append(await calls.wait_for("a", "answered", timeout=5))

    async def answer() -> None:
        await until(lambda: calls.is_stopping)
        await anyio.sleep(0.02)
        publish(log, "a", action="dialout-answered")

    calls = Dispatcher(router, journal=SharedMemoryJournal(log), clock=FakeClock())
    async with anyio.create_task_group() as group:
        group.start_soon(answer)
        async with calls:
            publish(log, "a")
            await until(lambda: bool(calls._run.lanes.running()))
    assert [session.session_id for session in answered] == ["a"]


async def test_what_was_cut_off_is_redelivered_and_nothing_else() -> None:
    """At the end of the drain it had begun, what is behind it had not."""
    log = SharedLog(checkpoint_every=10_000)
    first, second = Owner(log, open_gate=False, drain=0.05), Owner(log)
    with structlog.testing.capture_logs() as logs:
        async with first.calls:
            publish(log, "a", "a", "b")
            await until(lambda: len(first.began) == 2)
    assert [(line["event"], line["hint"]) for line in logs] == [
        ("dispatcher.left_unfinished", "whoever owns the journal next runs their handlers")
    ]
    async with second.calls:
        await until(lambda: len(second.seen) == 3)
    assert sorted(second.seen) == [(1, True), (2, False), (3, True)]


@pytest.mark.parametrize("checkpoint_every", [1, 10_000])
async def test_after_a_crash_everything_unfinished_may_have_run(checkpoint_every: int) -> None:
    """Nobody knows what had begun. Also where the crashed owner had taken the journal over in order."""
    log = SharedLog(checkpoint_every=checkpoint_every)
    zeroth, first, second = Owner(log), Owner(log, open_gate=False, drain=0), Owner(log)
    async with zeroth.calls:
        publish(log, "z")
        await until(lambda: len(zeroth.seen) == 1)
    with structlog.testing.capture_logs():
        async with first.calls:
            publish(log, "a", "a", "b")
            await until(lambda: len(first.began) == 2)
            first.journal.crashed = True
    async with second.calls:
        await until(lambda: len(second.seen) == 3)
    assert sorted(second.seen) == [(2, True), (3, True), (4, True)]


async def test_what_may_have_run_stays_so_over_a_hand_over() -> None:
    """The owner after the crash hands it over without having begun it."""
    log = SharedLog(checkpoint_every=10_000)
    first, second, third = Owner(log, open_gate=False, drain=0), Owner(log, open_gate=False, drain=0), Owner(log)
    with structlog.testing.capture_logs():
        async with first.calls:
            publish(log, "a", "a")
            await until(lambda: len(first.began) == 1)
            first.journal.crashed = True
        async with second.calls:
            publish(log, "a")
            await until(lambda: second.calls._sequencer.seq == 3)
    async with third.calls:
        await until(lambda: len(third.seen) == 3)
    assert third.seen == [(1, True), (2, True), (3, False)]


async def test_events_that_came_before_the_first_owner_are_new() -> None:
    """Receivers publish before a worker starts."""
    log = SharedLog(checkpoint_every=10_000)
    publish(log, "a", "b")
    first = Owner(log)
    async with first.calls:
        await until(lambda: len(first.seen) == 2)
    assert sorted(first.seen) == [(1, False), (2, False)]


async def test_a_hand_over_whose_checkpoint_failed_is_none() -> None:
    """What ran after the last checkpoint, and was not marked, may have run."""
    log = SharedLog(checkpoint_every=10_000)

    class HalfBroken(Crashing):
        async def done(self, seqs: Sequence[int]) -> None:
            raise OSError(f"no marks for {seqs}")

        async def save(self, key: str, state: bytes, revision: int | None) -> int:
            if key == "engine":
                raise OSError("no checkpoint today")
            return await super().save(key, state, revision)

    first, second = Owner(log), Owner(log)
    first.journal.__class__ = HalfBroken
    with structlog.testing.capture_logs():
        async with first.calls:
            publish(log, "a")
            await until(lambda: len(first.seen) == 1)
            await rest(first.calls)
    async with second.calls:
        await until(lambda: len(second.seen) == 1)
    assert second.seen == [(1, True)]


async def test_marks_are_written_without_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the next tick, as no commit of its own comes along where others append; not at the look that is there for failures."""
    monkeypatch.setattr("telstate.routing._work_log._FLUSH_AGAIN", 3600)
    log = SharedLog(checkpoint_every=None)
    owner = Owner(log)
    mark = owner.journal.done

    async def slow(seqs: Sequence[int]) -> None:
        await anyio.sleep(0.01)
        await mark(seqs)

    owner.journal.done = slow  # type: ignore[method-assign]
    async with owner.calls:
        await anyio.sleep(0.05)
        for number in range(1, 60):
            publish(log, f"s{number}")
            await anyio.sleep(0.002)
            if not number % 20:  # what comes during a write is in the next one
                await until(lambda: number in log.done)  # noqa: B023


async def test_many_marks_share_a_write() -> None:
    """The tick collects them."""
    log, writes = SharedLog(checkpoint_every=None), []
    owner = Owner(log)
    mark = owner.journal.done

    async def counted(seqs: Sequence[int]) -> None:
        writes.append(len(seqs))
        await mark(seqs)

    owner.journal.done = counted  # type: ignore[method-assign]
    async with owner.calls:
        publish(log, *(f"s{number}" for number in range(200)))
        await until(lambda: len(log.done) == 200)
    assert sum(writes) == 200
    assert len(writes) <= 5


async def test_what_comes_from_outside_cannot_be_an_event_of_the_program() -> None:
    """Whoever may publish events of Daily's cannot end a session with a limit of ours. It is a dead letter, in each life."""

    class Received(SharedMemoryJournal):
        async def tail(self, after: int) -> Any:
            async for record in super().tail(after):
                yield record._replace(is_received=True)

        async def read(self, after: int = 0) -> Any:
            async for record in super().read(after):
                yield record._replace(is_received=True)

    log = SharedLog(checkpoint_every=10_000)
    forged = DeadlinePassed(session_id="a", deadline="silence", due_at=1_790_000_000.0)
    for _ in range(2):
        calls = Dispatcher(Router(), journal=Received(log), clock=FakeClock())
        with structlog.testing.capture_logs() as logs:
            async with calls:
                publish(log, "a")
                log.append([Entry(1_790_000_000.0, Dialect.DAILY_JS, forged.to_json())])
                await until(lambda: calls._sequencer.seq == len(log.records))  # noqa: B023
                assert [session.session_id for session in calls.live()] == ["a"]
        assert {line["event"] for line in logs} == {"journal.unreadable_event"}
    reasons = {(kept.letter.seq, kept.letter.reason) for kept in log.letters.values()}
    assert reasons == {(2, "ParseError"), (4, "ParseError")}
    assert "it came from outside" in log.letters[1].letter.detail


async def test_a_journal_that_knows_better_says_whether_it_takes_events() -> None:
    """A small checkpoint could be saved though the stream of the events is full."""

    class Full(SharedMemoryJournal):
        full = False

        async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
            await self.probe()
            return await super().append(entries)

        async def probe(self) -> None:
            if self.full:
                raise JournalError("the stream is full")

    journal = Full(SharedLog())
    async with Dispatcher(Router(), journal=journal, clock=FakeClock()) as calls:
        journal.full = True
        with pytest.raises(JournalError, match="the stream is full"):
            await calls.receive(js("dialout-connected", "a"))
        await calls._sequencer.health.probe()
        assert calls.not_ready == "the journal cannot keep events: the stream is full"
        journal.full = False
        await calls._sequencer.health.probe()
        assert calls.not_ready is None


@pytest.mark.parametrize("crashed", [False, True])
@pytest.mark.parametrize("new_events", [False, True])
async def test_a_retirement_runs_once_though_the_next_owners_clocks_are_behind(crashed: bool, new_events: bool) -> None:
    """Machines' clocks differ. What an owner has retired is still known to those whose clocks are behind, and leaves their memory later."""
    log, retired = SharedLog(checkpoint_every=10_000), list[tuple[str, str]]()
    settings = Settings(retention=60, key_ttl=60, parked_ttl=60)

    def owner(name: str, now: float) -> tuple[Dispatcher, Crashing, FakeClock]:
        router, clock, journal = Router(), FakeClock(1_790_000_000.0 + now), Crashing(log)

        @router.on_retired()
        async def note(session: Session) -> None:
            retired.append((name, session.session_id))

        return Dispatcher(router, journal=journal, clock=clock, settings=settings), journal, clock

    zeroth, _, _ = owner("zeroth", 0)
    async with zeroth:
        publish(log, "s", action="dialout-stopped")
        await until(lambda: zeroth.session("s") is not None)
    first, journal, clock = owner("first", 1)
    with structlog.testing.capture_logs():
        async with first:
            await clock.advance(69)
            await until(lambda: log.done >= {-1})
            journal.crashed = crashed
    for name, now in (("second", 55), ("third", 57)):
        calls, _, clock = owner(name, now)
        async with calls:
            assert calls.session("s") is not None
            if new_events:  # so that there is a checkpoint in which the session is known
                publish(log, name)
                await until(partial(calls.session, name))
    calls, _, clock = owner("last", 58)
    async with calls:
        await clock.advance(20)
        await until(lambda: calls.session("s") is None)
        await until(lambda: not calls.sizes()["pending"])
    assert retired == [("first", "s")]
