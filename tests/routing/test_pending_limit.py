"""The pending limit: whom `receive` waits for, and who goes on when there is room."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from telstate import Dispatcher, Router, Session, State
from telstate.events import DialoutConnected
from telstate.journals import SqliteJournal
from telstate.routing._backlog import Backlog
from telstate.testing._clock import settle
from tests.calls import js

pytestmark = pytest.mark.anyio


async def test_a_handler_that_follows_changes_does_not_count() -> None:
    """It waits for events: `receive` must not wait for it."""
    router = Router()

    @router.on(DialoutConnected)
    async def wait(calls: Dispatcher) -> None:
        async for change in calls.changes():
            if change.session is not None and change.session.state is State.ANSWERED:
                return

    async with Dispatcher(router, pending_limit=1, drain=0) as calls:
        await calls.receive(js("dialout-connected", "a"))
        await settle()
        with anyio.fail_after(20):
            await calls.receive(js("dialout-answered", "a"))


@pytest.mark.both_loops
async def test_it_holds_for_many_senders_that_share_a_commit(tmp_path: Path) -> None:
    """What was submitted and is not stepped yet counts."""
    router = Router()

    @router.on(DialoutConnected)
    async def stuck() -> None:
        await anyio.sleep_forever()

    journal = SqliteJournal(tmp_path / "calls.db")
    async with (
        Dispatcher(router, journal=journal, pending_limit=10, drain=0) as calls,
        anyio.create_task_group() as group,
    ):
        for number in range(1000):
            group.start_soon(calls.receive, js("dialout-connected", f"s{number}"))
        await anyio.sleep(0.2)
        pending = calls.sizes()["pending"]
        group.cancel_scope.cancel()
    assert pending <= 11


async def test_a_finished_job_wakes_only_the_next_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    """To wake them all took half a minute for 10 000 senders."""
    router, looks = Router(), 0

    class Counted(Backlog):
        @property
        def is_full(self) -> bool:
            nonlocal looks
            looks += 1
            return super().is_full

    monkeypatch.setattr("telstate.routing._run.Backlog", Counted)

    @router.on(DialoutConnected)
    async def work() -> None:
        await anyio.lowlevel.checkpoint()

    async with Dispatcher(router, pending_limit=10) as calls:
        async with anyio.create_task_group() as group:
            for number in range(500):
                group.start_soon(calls.receive, js("dialout-connected", f"s{number}"))
        await calls.idle()
    assert looks < 10 * 500


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_senders_go_on_in_order_also_if_one_that_was_woken_is_cancelled() -> None:
    """The next one takes its place. Only asyncio can still cancel a task that was woken."""
    backlog, went_on = Backlog(1), list[str]()
    backlog.pending = 1

    async def send(name: str) -> None:
        await backlog.wait_for_place()
        went_on.append(name)
        backlog.pending += 1

    tasks = {name: asyncio.create_task(send(name)) for name in ("cancelled", "second", "third")}
    await settle()
    for waiting in (["cancelled", "second", "third"], ["third"]):
        assert [name for name, task in tasks.items() if not task.done()] == waiting
        backlog.pending = 0
        backlog.relieve()
        tasks["cancelled"].cancel()
        await settle()
    assert went_on == ["second", "third"]
    assert backlog.reserved == 0


@pytest.mark.both_loops
async def test_a_handler_that_waits_for_many_events_counts_once() -> None:
    """Not each of its waits makes room."""
    router = Router()

    @router.on(DialoutConnected)
    async def wait(session: Session, calls: Dispatcher) -> None:
        if session.session_id == "s0":
            async with anyio.create_task_group() as group:
                for number in range(100):
                    group.start_soon(calls.wait_for, f"x{number}", "answered")
        await anyio.sleep_forever()

    async with Dispatcher(router, pending_limit=5, drain=0) as calls:
        with anyio.move_on_after(0.3):
            for number in range(1000):
                await calls.receive(js("dialout-connected", f"s{number}"))
                await settle()
        assert calls.sizes()["pending"] <= 6


async def test_a_task_that_a_handler_left_behind_makes_no_room() -> None:
    """The handler has finished, so it is not among the pending jobs that the limit counts."""
    router = Router()
    async with anyio.create_task_group() as group:

        @router.on(DialoutConnected)
        async def leave_behind(session: Session, calls: Dispatcher) -> None:
            group.start_soon(calls.wait_for, f"x{session.session_id}", "answered")
            await settle()

        async with Dispatcher(router) as calls:
            for number in range(20):
                await calls.receive(js("dialout-connected", f"s{number}"))
            await calls.idle()
            assert calls._backlog.awaiting == 0
            group.cancel_scope.cancel()


@pytest.mark.parametrize("limit", ["pending_limit", "lane_limit"])
async def test_a_limit_below_one_is_refused(limit: str) -> None:
    """No event could ever have its handlers run."""
    limits: dict[str, Any] = {limit: 0}
    with pytest.raises(ValueError, match=f"{limit}= takes a number of events from 1 on, not 0"):
        Dispatcher(Router(), **limits)


@pytest.mark.both_loops
async def test_a_handler_of_one_dispatcher_is_none_of_another() -> None:
    """It waits at the limit of the other like any sender."""
    first, second = Router(), Router()

    @second.on(DialoutConnected)
    async def stuck() -> None:
        await anyio.sleep_forever()

    async with Dispatcher(second, pending_limit=1, drain=0) as other:

        @first.on(DialoutConnected)
        async def forward(event: DialoutConnected) -> None:
            await other.receive(event)

        async with Dispatcher(first, drain=0) as calls:
            for number in range(20):
                await calls.receive(js("dialout-connected", f"s{number}"))
            await anyio.sleep(0.05)
            assert other.sizes()["pending"] <= 2
