"""Regressions that killed processes and slow disks have shown: what recovery and passing time must not change."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest
import structlog

from telstate import Dispatcher, Event, Router, Session, Settings
from telstate.journals import SqliteJournal
from telstate.routing._ports import Entry
from telstate.testing import FakeClock
from telstate.testing._clock import settle
from tests.calls import js
from tests.routing import until
from tests.routing.kept import marks, replayed
from tests.soak.run import copied

pytestmark = pytest.mark.anyio

SHORT = Settings(retention=10, key_ttl=10, parked_ttl=10)


class Noting(SqliteJournal):
    """A journal that can be made to wait, and counts its checkpoints."""

    checkpoint_every = 50
    gate: anyio.Event | None = None
    saved = 0

    async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
        """Append, once the gate is open."""
        if self.gate is not None:
            await self.gate.wait()
        return await super().append(entries)

    async def save(self, key: str, state: bytes, revision: int | None) -> int:
        """Save, and count."""
        self.saved += 1
        return await super().save(key, state, revision)


async def test_a_session_due_to_be_forgotten_on_a_slow_disk_waits_for_the_event_before(tmp_path: Path) -> None:
    """A replay knows only when the event came: it finds the session that was there then, and so must the dispatcher."""
    clock, journal = FakeClock(), Noting(tmp_path / "calls.db")
    answered = anyio.Event()

    async def send(calls: Dispatcher) -> None:
        await calls.receive(js("dialout-connected", "a"))
        answered.set()

    async with (
        anyio.create_task_group() as group,
        Dispatcher(Router(), journal=journal, clock=clock, settings=SHORT) as calls,
    ):
        await calls.receive(js("dialout-stopped", "a"))
        await clock.advance(9.9)
        gate = journal.gate = anyio.Event()
        group.start_soon(send, calls)
        await settle()
        await clock.advance(0.2)
        gate.set()
        await answered.wait()
        counts = calls.counts
    assert counts == replayed(journal.path).counts


async def test_a_session_retires_once_however_often_the_program_starts(tmp_path: Path) -> None:
    """Call records are written there; no event came since, so no checkpoint knows that it has left."""
    clock, router, seen = FakeClock(), Router(), []

    @router.on_retired()
    async def gone(session: Session) -> None:
        seen.append(session.session_id)

    for start in range(4):
        journal = SqliteJournal(tmp_path / "calls.db")
        async with Dispatcher(router, journal=journal, clock=clock, settings=SHORT) as calls:
            if not start:
                await calls.receive(js("dialout-stopped", "a"))
                continue
            await clock.advance(20)
            await calls.idle()
    assert seen == ["a"]


async def test_a_checkpoint_is_saved_soon_after_a_long_recovery(tmp_path: Path) -> None:
    """More events than lie between two checkpoints were read again: one is due at the next event, and later ones too."""
    journal = SqliteJournal(tmp_path / "calls.db")
    await journal.open(Settings().model_dump())
    payloads = [json.dumps(js("dialout-stopped", f"s{number}")).encode() for number in range(60)]
    await journal.append([Entry(1_790_000_000.0, "daily-js", payload) for payload in payloads])
    await journal.aclose()
    noting = Noting(tmp_path / "calls.db")
    async with Dispatcher(Router(), journal=noting, clock=FakeClock()) as calls:
        await calls.receive(js("dialout-warning", "s1"))
        await until(lambda: noting.saved == 1)
        for _ in range(500):
            await calls.receive(js("dialout-warning", "s1"))
        await until(lambda: noting.saved > 1)


async def test_a_checkpoint_does_not_overtake_dead_letters_and_marks(tmp_path: Path) -> None:
    """A job that a checkpoint no longer has is marked by then, and its letters are kept; else they are lost."""
    router, path = Router(), tmp_path / "live" / "calls.db"

    @router.on(Event)
    async def breaks(event: Event) -> None:
        await anyio.sleep(0.02)  # longer than the commit, which would write the letter
        if event.session_id == "breaks":
            raise ValueError("no such number")

    with structlog.testing.capture_logs():
        async with Dispatcher(router, journal=SqliteJournal(path)) as calls:
            await calls.receive(js("dialout-connected", "works"))
            await calls.receive(js("dialout-connected", "breaks"))
            await calls._backlog.empty()
            await calls._run.checkpoints.save()
            copy = copied(path, tmp_path / "crash")  # all that a kill at this moment would leave
    journal = SqliteJournal(copy)
    async with Dispatcher(Router(), journal=journal) as calls:
        await calls.idle()
        letters = await calls.dead_letters.list()
    assert [kept.letter.detail for kept in letters] == ["no such number"]
    # the source gap of the restart is the third
    assert [record.done async for record in SqliteJournal(journal.path).read()] == [True, True, True]


async def test_a_job_that_finished_after_the_checkpoint_does_not_run_again(tmp_path: Path) -> None:
    """The checkpoint has it as unfinished, and the journal has its mark."""
    router, path, may_go, runs = Router(), tmp_path / "live" / "calls.db", anyio.Event(), list[str]()

    @router.on(Event)
    async def wait(event: Event) -> None:
        await may_go.wait()
        runs.append(event.action)

    async with Dispatcher(router, journal=SqliteJournal(path)) as calls:
        await calls.receive(js("dialout-stopped"))
        await calls._run.checkpoints.save()
        may_go.set()
        await calls._backlog.empty()
        await calls._run.work_log.flush()
        copy = copied(path, tmp_path / "crash")
    async with Dispatcher(router, journal=SqliteJournal(copy)) as calls:
        await calls.idle()
    assert runs == ["dialout-stopped"]


async def test_marks_that_could_not_be_written_are_in_the_checkpoint(tmp_path: Path) -> None:
    """The next start writes them. Their handlers do not run again."""

    class Unmarked(SqliteJournal):
        async def done(self, seqs: Sequence[int]) -> None:
            raise OSError(28, f"No space left for {len(seqs)} marks")

    router, seen, path = Router(), list[str](), tmp_path / "calls.db"

    @router.on(Event)
    async def see(event: Event) -> None:
        seen.append(event.action)

    with structlog.testing.capture_logs():
        async with Dispatcher(router, journal=Unmarked(path)) as calls:
            await calls.receive(js("dialout-stopped"))
    assert marks(path) == set()
    async with Dispatcher(router, journal=SqliteJournal(path)) as calls:
        await calls.idle()
    assert seen == ["dialout-stopped"]
    assert marks(path) == {1}


async def test_a_retry_under_way_at_the_checkpoint_runs_once_after_a_crash(tmp_path: Path) -> None:
    """Its dead letter is still there. Its work is done, though the mark of that is only in the checkpoint."""
    router, path, runs, stuck = Router(), tmp_path / "live" / "calls.db", list[str](), anyio.Event()

    class Unmarked(SqliteJournal):
        async def done(self, seqs: Sequence[int]) -> None:  # noqa: ARG002 - as the protocol names it
            raise OSError(28, "No space left on device")

    @router.on("dialout-stopped")
    async def fail_then_hang() -> None:
        runs.append("run")
        if len(runs) == 1:
            raise ValueError
        if len(runs) == 2:
            await stuck.wait()

    with structlog.testing.capture_logs():
        async with Dispatcher(router, journal=Unmarked(path), drain=0) as calls:
            await calls.receive(js("dialout-stopped"))
            await calls.idle()
            (kept,) = await calls.dead_letters.list()
            await calls.dead_letters.retry(kept.number)
            await until(lambda: len(runs) == 2)
            await calls._run.checkpoints.save()
            copy = copied(path, tmp_path / "crash")
    async with Dispatcher(router, journal=SqliteJournal(copy)) as calls:
        await calls.idle()
        assert await calls.dead_letters.list() == []
    assert len(runs) == 3


async def test_an_event_that_waited_for_handlers_gets_its_time_afterwards(tmp_path: Path) -> None:
    """Its session may be forgotten while it waits. In a replay it must not come before that."""
    clock, router, may_go = FakeClock(), Router(), anyio.Event()
    journal = SqliteJournal(tmp_path / "calls.db")

    @router.on("dialin-warning")
    async def wait() -> None:
        await may_go.wait()

    async with (
        anyio.create_task_group() as group,
        Dispatcher(router, journal=journal, clock=clock, settings=SHORT, pending_limit=1) as calls,
    ):
        await calls.receive(js("dialout-stopped", "a"))
        await clock.advance(9)
        await calls.receive(js("dialin-warning", "b"))
        group.start_soon(calls.receive, js("dialout-stopped", "a"))
        await clock.advance(2)
        await until(lambda: calls.session("a") is None)
        may_go.set()
        await until(lambda: calls._sequencer.seq == 3)
        await calls.idle()
        counts = calls.counts
    assert counts == replayed(journal.path).counts
