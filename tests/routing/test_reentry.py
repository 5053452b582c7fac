"""A dispatcher can be entered again after it was left: a FastAPI app is started again by each TestClient."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import structlog

from telstate import (
    DefinitionError,
    DialoutEvent,
    Dispatcher,
    JournalError,
    NotRunning,
    Outcome,
    OutcomeKind,
    Router,
    Session,
    State,
)
from telstate.journals import MemoryJournal, SqliteJournal
from tests.calls import SESSION, js
from tests.routing import until

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops]


@pytest.mark.parametrize("journal", [None, MemoryJournal()])
async def test_a_journal_in_memory_begins_anew(journal: MemoryJournal | None) -> None:
    """No session, count or event id of the run before is left."""
    router, seen, ids = Router(), list[str](), set[str | None]()

    @router.on(DialoutEvent)
    async def note(session: Session) -> None:
        seen.append(session.session_id)

    calls = Dispatcher(router, journal=journal)
    for number in range(3):
        async with calls as entered:
            assert entered is calls
            assert calls.sessions() == []
            outcome = await calls.receive(js("dialout-answered"))
            assert (outcome.kind, outcome.redelivered) == (OutcomeKind.MOVED, False)
            ids.add(outcome.event_id)
        assert [session.state for session in calls.sessions()] == [State.ANSWERED]  # those of the last run
        assert sum(calls.counts.values()) == 1
        assert seen == [SESSION] * (number + 1)
        assert not calls.is_open
    assert len(ids) == 3


async def test_a_journal_on_disk_goes_on(tmp_path: Path) -> None:
    """Sessions and sequence numbers continue, and unfinished handlers run again."""
    router, seen = Router(), list[tuple[str, bool]]()

    @router.on(DialoutEvent)
    async def work(session: Session, outcome: Outcome) -> None:
        if not outcome.redelivered and session.session_id == "stuck":
            await anyio.sleep_forever()
        seen.append((session.session_id, outcome.redelivered))

    journal = SqliteJournal(tmp_path / "calls.db")
    calls = Dispatcher(router, journal=journal, drain=0.05)
    with structlog.testing.capture_logs() as logs:
        async with calls:
            await calls.receive(js("dialout-connected", "quick"))
            await calls.receive(js("dialout-connected", "stuck"))
    assert [log["event"] for log in logs] == ["dispatcher.left_unfinished"]
    async with calls:
        assert [(session.session_id, session.uncertain) for session in calls.sessions()] == [
            ("quick", True),
            ("stuck", True),
        ]
        outcome = await calls.receive(js("dialout-answered", "quick"))
        assert outcome.event_id == f"{journal.id}:4"  # the third is the gap between the runs
        assert outcome.session is calls.session("quick")
        await calls.idle()
    assert sorted(seen) == [("quick", False), ("quick", False), ("stuck", True)]


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("backends", [("asyncio", "asyncio"), ("trio", "trio"), ("asyncio", "trio")])
def test_each_run_may_have_an_event_loop_of_its_own(tmp_path: Path, backends: Sequence[str], *, on_disk: bool) -> None:
    """A module's global dispatcher outlives the event loop that ran it first."""
    router, seen = Router(), list[str]()

    @router.on(DialoutEvent)
    async def note(session: Session) -> None:
        await anyio.lowlevel.checkpoint()
        seen.append(session.session_id)

    calls = Dispatcher(router, journal=SqliteJournal(tmp_path / "calls.db") if on_disk else None)

    async def run(session_id: str) -> None:
        with anyio.fail_after(10):
            async with calls, anyio.create_task_group() as group:
                group.start_soon(calls.wait_for, session_id, "answered")
                await calls.receive(js("dialout-connected", session_id))
                await calls.receive_many([js("dialout-answered", session_id)])

    for number, backend in enumerate(backends):
        anyio.run(run, f"s{number}", backend=backend)
    assert seen == ["s0", "s0", "s1", "s1"]
    assert [session.session_id for session in calls.sessions()] == (["s0", "s1"] if on_disk else ["s1"])


async def test_handlers_registered_between_two_runs_take_part_in_the_second() -> None:
    """While it runs, registering is refused."""
    router, seen = Router(), list[str]()
    calls = Dispatcher(router)
    async with calls:
        with pytest.raises(DefinitionError, match="runs already"):
            router.on_start()

    @router.on_start()
    async def note(session: Session) -> None:
        seen.append(session.session_id)

    async with calls:
        await calls.receive(js("dialout-connected"))
    assert seen == [SESSION]


async def refused(calls: Dispatcher) -> None:
    """Expect that it cannot be entered now."""
    with pytest.raises(NotRunning, match="leave its block before you enter it again"):
        await calls.__aenter__()


async def test_it_cannot_be_entered_while_it_runs() -> None:
    """In its block and while it drains. The run under way is not affected."""
    router, seen = Router(), list[str]()

    @router.on(DialoutEvent)
    async def try_to_enter(session: Session, calls: Dispatcher) -> None:
        await until(lambda: not calls.is_open)
        await refused(calls)
        seen.append(session.session_id)

    async with Dispatcher(router) as calls:
        await refused(calls)
        await calls.receive(js("dialout-connected"))
        await refused(calls)
        assert calls.session(SESSION) is not None
    assert seen == [SESSION]
    async with calls:
        pass


class SlowJournal(MemoryJournal):
    """A journal that takes time to open and to close, and may fail to open."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = {"open", "aclose"}
        """The methods that wait for the gate."""
        self.gate = anyio.Event()
        self.waits = ""
        """The method that waits now."""
        self.error: Exception | None = None

    async def _wait(self, method: str) -> None:
        if method in self.slow:
            self.waits = method
            await self.gate.wait()
            self.waits, self.gate = "", anyio.Event()

    async def open(self, settings: dict[str, Any]) -> None:
        """Open once the gate is open."""
        await self._wait("open")
        if self.error is not None:
            raise self.error
        await super().open(settings)

    async def aclose(self) -> None:
        """Close once the gate is open."""
        await self._wait("aclose")
        await super().aclose()


async def test_it_cannot_be_entered_while_it_opens_or_closes_its_journal() -> None:
    """Two runs would share the journal."""
    journal = SlowJournal()
    calls = Dispatcher(Router(), journal=journal)

    async def run() -> None:
        async with calls:
            await calls.receive(js("dialout-connected"))

    for _ in range(2):
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            for method in ("open", "aclose"):
                await until(lambda method=method: journal.waits == method)  # type: ignore[misc]
                await refused(calls)
                journal.gate.set()
        assert len(calls.sessions()) == 1


async def test_it_can_be_entered_again_after_its_journal_could_not_be_opened() -> None:
    """Because it failed, or because opening was cancelled."""
    journal = SlowJournal()
    journal.slow.clear()
    calls = Dispatcher(Router(), journal=journal)
    journal.error = JournalError("locked")
    with pytest.raises(JournalError, match="locked"):
        async with calls:
            raise AssertionError("it was entered")
    journal.error = None
    journal.slow.add("open")
    with anyio.move_on_after(0.01) as scope:
        async with calls:
            raise AssertionError("it was entered")
    assert scope.cancelled_caught
    journal.slow.clear()
    async with calls:
        await calls.receive(js("dialout-connected"))
