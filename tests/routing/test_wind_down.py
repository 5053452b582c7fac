"""Live calls may go on when a dispatcher is asked to stop."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from telstate import Dispatcher, NotRunning, Router, Session, State
from telstate.journals import SqliteJournal
from telstate.testing import FakeClock
from tests.calls import js
from tests.routing import until

pytestmark = pytest.mark.anyio


@pytest.mark.both_loops
async def test_a_live_call_goes_on_until_it_ends() -> None:
    """Its events are taken in and its handlers run; meanwhile nobody should send new calls here."""
    router, ended = Router(), list[str]()

    @router.on_end()
    async def end(session: Session) -> None:
        ended.append(session.session_id)

    clock = FakeClock()
    async with Dispatcher(router, clock=clock, calls_end_within=600) as calls, anyio.create_task_group() as group:
        await calls.receive(js("dialout-answered", "s"))

        async def talk() -> None:
            calls.shut_down()
            await clock.advance(300)
            assert not calls.is_open
            assert calls.not_ready == "it is stopping: 1 call goes on until it ends, and new calls should go elsewhere"
            await calls.receive(js("dialout-stopped", "s"))

        group.start_soon(talk)
        await anyio.sleep_forever()
    assert ended == ["s"]
    with pytest.raises(NotRunning):
        await calls.receive(js("dialout-connected", "t"))


async def test_the_end_of_the_block_waits_too() -> None:
    """For sources that were there before it."""
    async with anyio.create_task_group() as group:
        async with Dispatcher(Router(), calls_end_within=600) as calls:
            await calls.receive(js("dialout-answered", "s"))

            async def stop() -> None:
                await until(lambda: not calls.is_open)
                await calls.receive(js("dialout-stopped", "s"))

            group.start_soon(stop)
        assert calls.sizes()["live"] == 0


@pytest.mark.parametrize("end", ["time", "second"])
async def test_the_waiting_ends(end: str, caplog: pytest.LogCaptureFixture) -> None:
    """When the time is over, or at a second request; the log names the calls that are left."""
    clock = FakeClock()
    with anyio.fail_after(10):
        async with Dispatcher(Router(), clock=clock, calls_end_within=600) as calls:
            await calls.receive(js("dialout-answered", "s"))
            calls.shut_down()
            await clock.advance(599)
            assert calls.not_ready is not None
            if end == "time":
                await clock.advance(2)
            else:
                calls.shut_down()
            await anyio.sleep_forever()
    assert "dispatcher.calls_left calls=1" in caplog.text


async def test_without_a_live_call_it_stops_at_once() -> None:
    """As without that time; so does a block that fails."""
    with anyio.fail_after(5):
        async with Dispatcher(Router(), calls_end_within=600) as calls:
            calls.shut_down()
            await anyio.sleep_forever()
        with suppress(ZeroDivisionError):
            async with Dispatcher(Router(), calls_end_within=600) as calls:
                await calls.receive(js("dialout-answered", "s"))
                1 / 0  # noqa: B018


async def test_a_cancelled_block_does_not_wait(tmp_path: Path) -> None:
    """Nor does one that is cancelled while it waits. The next start goes on with the call."""
    path = tmp_path / "calls.db"
    with anyio.CancelScope() as scope:
        async with Dispatcher(Router(), journal=SqliteJournal(path), calls_end_within=600) as calls:
            await calls.receive(js("dialout-answered", "s"))
            scope.deadline = anyio.current_time() + 0.3
    assert scope.cancelled_caught
    async with Dispatcher(Router(), journal=SqliteJournal(path)) as calls:
        assert [session.state for session in calls.live()] == [State.ANSWERED]


def test_it_takes_seconds() -> None:
    """From 0 on."""
    with pytest.raises(ValueError, match="calls_end_within= takes seconds from 0 on"):
        Dispatcher(Router(), calls_end_within=-1)
