"""How a program ends: intake stops, handlers finish within the deadline, the journal has the rest, and what is left is told."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
import structlog

from telstate import DialoutEvent, Dispatcher, NotRunning, Router, Session
from telstate.journals import SqliteJournal
from tests.calls import js
from tests.routing import until

pytestmark = pytest.mark.anyio


@contextmanager
def service(journal: Path, drain: float, backend: str) -> Iterator[subprocess.Popen[str]]:
    """A running service that has taken its two calls."""
    command = [sys.executable, "-m", "tests.routing.service", str(journal), str(drain), backend]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line == "ready\n":
                    break
            yield process
        finally:
            process.kill()


async def marks(journal: Path) -> list[bool]:
    """Which of its events are done."""
    return [record.done async for record in SqliteJournal(journal).read()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_within_the_deadline_and_tells_what_it_left(
    tmp_path: Path, anyio_backend_name: str, number: int
) -> None:
    """The quick call's handler finishes, the stuck one's is left to the journal; the program goes on after the block."""
    with service(tmp_path / "calls.db", 1.0, anyio_backend_name) as process:
        began = time.monotonic()
        process.send_signal(number)
        told, _ = process.communicate(timeout=20)
        took = time.monotonic() - began
    assert process.returncode == 0
    assert "handled quick" in told
    assert "handled stuck" not in told
    assert "left the block" in told
    assert "dispatcher.stopping" in told
    assert "dispatcher.left_unfinished" in told
    assert ":2" in told  # the event that was left
    assert 0.9 < took < 10
    assert await marks(tmp_path / "calls.db") == [True, False]


async def test_a_second_signal_ends_at_once(tmp_path: Path, anyio_backend_name: str) -> None:
    """Nothing is lost by that: what was acknowledged is in the journal."""
    with service(tmp_path / "calls.db", 600.0, anyio_backend_name) as process:
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        time.sleep(0.1)  # noqa: ASYNC251 - the process is another one
        process.send_signal(signal.SIGTERM)
        told, _ = process.communicate(timeout=20)
        took = time.monotonic() - began
    assert process.returncode == 0
    assert "left the block" in told
    assert took < 10
    assert await marks(tmp_path / "calls.db") == [False, False]


async def test_stop_ends_the_block_from_anywhere() -> None:
    """From a handler as well; what follows the block runs, and nothing is taken in any more."""
    router, seen = Router(), []

    @router.on(DialoutEvent)
    async def enough(calls: Dispatcher) -> None:
        calls.shut_down()
        await anyio.sleep(0.01)
        seen.append("finished")

    with anyio.fail_after(5):
        async with Dispatcher(router) as calls:
            await calls.receive(js("dialout-connected"))
            await anyio.sleep_forever()
    assert seen == ["finished"]


async def test_a_stop_that_is_told_twice_does_not_drain() -> None:
    """Nor does one that comes while it drains."""
    router = Router()

    @router.on(DialoutEvent)
    async def hang() -> None:
        await anyio.sleep_forever()

    with structlog.testing.capture_logs() as logs, anyio.fail_after(5):
        async with anyio.create_task_group() as group, Dispatcher(router, drain=600) as calls:
            await calls.receive(js("dialout-connected"))

            async def stop_again() -> None:
                await until(lambda: not calls._run.accepts)
                calls.shut_down()
                calls.shut_down()

            group.start_soon(stop_again)
    (left,) = [log for log in logs if log["event"] == "dispatcher.left_unfinished"]
    assert left["events"] == 1
    assert "without a journal it is lost" in left["hint"]


async def test_whoever_waits_for_what_the_drain_cuts_off_is_told() -> None:
    """It never comes, and to look for it again and again would hold up the whole program."""
    router = Router()

    @router.on(DialoutEvent)
    async def stuck() -> None:
        await anyio.sleep_forever()

    told: list[str] = []
    calls = Dispatcher(router, drain=0.01)

    async def wait() -> None:
        with pytest.raises(NotRunning) as raised:
            await calls.idle()
        told.append(str(raised.value))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group, calls:
            await calls.receive(js("dialout-connected"))
            group.start_soon(wait)
            await until(lambda: bool(calls._run.lanes.unfinished()))
        await wait()
    assert len(told) == 2


@pytest.mark.parametrize("raised", ["before", "by"])
async def test_an_error_of_the_block_is_not_hidden_by_a_cancellation(raised: str) -> None:
    """Also where handlers still run: whoever cancels from further out cancels them, and the error goes on."""
    router = Router()

    @router.on(DialoutEvent)
    async def hang() -> None:
        await anyio.sleep_forever()

    async def fail() -> None:
        async with Dispatcher(router, drain=600) as calls:
            await calls.receive(js("dialout-connected"))
            await until(lambda: bool(calls._run.lanes.unfinished()))
            try:
                await anyio.sleep(60 if raised == "by" else 0)
            finally:
                raise ValueError("clean-up")

    with anyio.fail_after(5):
        with pytest.raises(ValueError, match="clean-up"):  # noqa: PT012
            with anyio.move_on_after(0.3):
                await fail()
            raise AssertionError("it was lost")


async def test_an_error_of_the_block_is_not_swallowed_by_a_stop() -> None:
    """Whatever comes first, the exception is the program's."""

    async def fail() -> None:
        async with Dispatcher(Router()) as calls:
            calls.shut_down()
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await fail()


async def test_a_cancellation_from_outside_is_not_swallowed_either() -> None:
    """It is somebody else's."""
    reached = False
    with anyio.move_on_after(0.05) as scope:
        async with Dispatcher(Router()):
            await anyio.sleep_forever()
        reached = True
    assert scope.cancelled_caught
    assert not reached


async def test_while_it_drains_handlers_may_still_do_what_they_need_to_finish(tmp_path: Path) -> None:
    """An ordinary redeploy must not turn half of a handler's work into a dead letter. Everybody else finds it closed."""
    router, seen = Router(), []
    begun = anyio.Event()

    @router.on("dialout-connected")
    async def follow_up(session: Session, calls: Dispatcher) -> None:
        begun.set()
        await until(lambda: not calls._run.accepts)
        await calls.link(session.session_id, "other")
        await calls.receive(js("dialout-answered", session.session_id))
        await calls.wait_for(session.session_id, "answered")
        seen.append("waited")

    @router.on("dialout-answered")
    async def answered() -> None:
        seen.append("answered")

    async with Dispatcher(router, journal=SqliteJournal(tmp_path / "calls.db")) as calls:
        await calls.receive(js("dialout-connected"))
        await begun.wait()
    assert sorted(seen) == ["answered", "waited"]
    with pytest.raises(NotRunning):
        await calls.receive(js("dialout-stopped"))
    assert await marks(tmp_path / "calls.db") == [True, True, True]
    assert [kept async for kept in SqliteJournal(tmp_path / "calls.db").letters()] == []


async def test_a_second_signal_ends_a_program_whose_body_does_not_end(tmp_path: Path) -> None:
    """It waits for a thread, as for a line from standard input, which nobody can cancel. Nothing acknowledged is lost."""
    code = f"""
import anyio, sys, time
from telstate import Dispatcher, Router
from telstate.journals import SqliteJournal
async def main():
    async with Dispatcher(Router(), journal=SqliteJournal({str(tmp_path / "calls.db")!r}), stop_on_signals=True) as calls:
        await calls.receive({{"action": "dialout-connected", "sessionId": "s"}})
        print("ready", flush=True)
        await anyio.to_thread.run_sync(time.sleep, 600)
anyio.run(main)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:  # noqa: ASYNC220
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)  # noqa: ASYNC251 - the process is another one
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == -signal.SIGTERM
    assert len(await marks(tmp_path / "calls.db")) == 1
