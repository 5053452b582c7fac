"""Leaving the block: no new events, handlers finish within the deadline, the journal has the rest, and the log names it."""

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
    """Run a service that has received its two calls."""
    command = [sys.executable, "-m", "tests.routing.service", str(journal), str(drain), backend]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        try:
            read_until(process, "ready")
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], word: str) -> None:
    """Read what a process prints up to a line with this word."""
    assert process.stdout is not None
    for line in process.stdout:
        if word in line:
            return
    raise AssertionError(f"it ended without {word!r}")


async def marks(journal: Path) -> list[bool]:
    """Return for each event in a journal whether it is done."""
    return [record.done async for record in SqliteJournal(journal).read()]


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.both_loops), signal.SIGINT])
async def test_a_signal_drains_within_the_deadline_and_names_what_is_left(
    tmp_path: Path, anyio_backend_name: str, number: int
) -> None:
    """The quick call's handler finishes, the stuck one's runs again at the next start. The program goes on after the block."""
    with service(tmp_path / "calls.db", 1.0, anyio_backend_name) as process:
        began = time.monotonic()
        process.send_signal(number)
        output, _ = process.communicate(timeout=20)
        took = time.monotonic() - began
    assert process.returncode == 0
    assert "handled quick" in output
    assert "handled stuck" not in output
    assert "left the block" in output
    assert "dispatcher.stopping" in output
    (line,) = [line for line in output.splitlines() if "dispatcher.left_unfinished" in line]
    assert ":2" in line  # the number of the event that was left
    assert 0.9 < took < 10
    assert await marks(tmp_path / "calls.db") == [True, False]


@pytest.mark.both_loops
async def test_a_second_signal_ends_the_draining(tmp_path: Path, anyio_backend_name: str) -> None:
    """Nothing is lost: the journal has what was acknowledged."""
    with service(tmp_path / "calls.db", 600.0, anyio_backend_name) as process:
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        read_until(process, "dispatcher.stopping")  # two signals that come at once are one
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
        took = time.monotonic() - began
    assert process.returncode == 0
    assert "left the block" in output
    assert took < 10
    quick, stuck = await marks(tmp_path / "calls.db")
    assert quick == ("handled quick" in output)  # its handler may have finished before the second signal
    assert not stuck


@pytest.mark.both_loops
async def test_shut_down_leaves_the_block() -> None:
    """Called in a handler, which still finishes. What follows the block runs."""
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


@pytest.mark.both_loops
async def test_a_second_shut_down_ends_the_draining() -> None:
    """The log names the event whose handler was cancelled."""
    router = Router()

    @router.on(DialoutEvent)
    async def hang() -> None:
        await anyio.sleep_forever()

    with structlog.testing.capture_logs() as logs, anyio.fail_after(5):
        async with anyio.create_task_group() as group, Dispatcher(router, drain=600) as calls:
            await calls.receive(js("dialout-connected"))

            async def shut_down() -> None:
                await until(lambda: not calls._run.accepts)
                calls.shut_down()
                calls.shut_down()

            group.start_soon(shut_down)
    (left,) = [log for log in logs if log["event"] == "dispatcher.left_unfinished"]
    assert left["events"] == 1
    assert left["hint"] == "they are lost with this process: a SqliteJournal would keep them"


@pytest.mark.both_loops
async def test_idle_raises_not_running_for_handlers_that_the_drain_cancels() -> None:
    """They never finish. `idle` must neither wait for them nor block the event loop."""
    router = Router()

    @router.on(DialoutEvent)
    async def stuck() -> None:
        await anyio.sleep_forever()

    raised: list[NotRunning] = []
    calls = Dispatcher(router, drain=0.01)

    async def wait() -> None:
        with pytest.raises(NotRunning, match="left before all handlers had finished") as info:
            await calls.idle()
        raised.append(info.value)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group, calls:
            await calls.receive(js("dialout-connected"))
            group.start_soon(wait)
            await until(lambda: bool(calls._run.lanes.unfinished()))
        await wait()
    assert len(raised) == 2


@pytest.mark.both_loops
@pytest.mark.parametrize("raised", ["before", "by"])
async def test_an_outer_cancellation_does_not_hide_an_exception_of_the_block(raised: str) -> None:
    """Not during the drain either: it cancels the handlers, and the exception propagates."""
    router = Router()

    @router.on(DialoutEvent)
    async def hang() -> None:
        await anyio.sleep_forever()

    async def fail(scope: anyio.CancelScope) -> None:
        async with Dispatcher(router, drain=600) as calls:
            await calls.receive(js("dialout-connected"))
            await until(lambda: bool(calls._run.lanes.unfinished()))
            scope.deadline = anyio.current_time() + 0.2
            try:
                await anyio.sleep(60 if raised == "by" else 0)
            finally:
                raise ValueError("clean-up")

    with anyio.fail_after(5):
        with pytest.raises(ValueError, match="clean-up"):  # noqa: PT012
            with anyio.CancelScope() as scope:
                await fail(scope)
            raise AssertionError("it was lost")


@pytest.mark.both_loops
async def test_shut_down_does_not_swallow_an_exception_of_the_block() -> None:
    """Only the cancellation that it caused itself."""

    async def fail() -> None:
        async with Dispatcher(Router()) as calls:
            calls.shut_down()
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await fail()


@pytest.mark.both_loops
async def test_an_outer_cancellation_propagates() -> None:
    """What follows the block does not run."""
    reached = False
    with anyio.move_on_after(0.05) as scope:
        async with Dispatcher(Router()):
            await anyio.sleep_forever()
        reached = True
    assert scope.cancelled_caught
    assert not reached


@pytest.mark.both_loops
async def test_handlers_can_use_the_dispatcher_while_it_drains(tmp_path: Path) -> None:
    """A redeploy must not make a dead letter of a half-finished handler. Outside of handlers it is NotRunning."""
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
    assert [kept async for kept in SqliteJournal(tmp_path / "calls.db").dead_letters()] == []


@pytest.mark.both_loops
async def test_as_handler_can_use_the_dispatcher_while_it_drains() -> None:
    """As a dialer's task, which outlives the body. After the drain it is NotRunning there too."""
    router, released = Router(), anyio.Event()

    @router.on("dialout-connected")
    async def hold_the_drain() -> None:
        await released.wait()

    async def work(calls: Dispatcher) -> None:
        await until(lambda: not calls.is_open)
        with pytest.raises(NotRunning):
            await calls.receive(js("dialout-connected", "outside"))
        with calls.as_handler():
            await calls.receive(js("dialout-answered", "s"))
            assert (await calls.wait_for("s", "answered")).session_id == "s"
            assert await calls.dead_letters.list() == []
            released.set()
            await until(lambda: not calls._run.is_running)
            with pytest.raises(NotRunning):
                await calls.receive(js("dialout-stopped", "s"))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group, Dispatcher(router) as calls:
            await calls.receive(js("dialout-connected", "s"))
            group.start_soon(work, calls)
    assert [(session.session_id, session.state) for session in calls.sessions()] == [("s", "answered")]


@pytest.mark.long
async def test_a_second_signal_ends_a_program_whose_body_waits_for_a_thread(
    tmp_path: Path, anyio_backend_name: str
) -> None:
    """Nothing can cancel a thread, as one that reads standard input. The journal has what was acknowledged."""
    code = f"""
import anyio, logging, sys, time
logging.basicConfig(level=logging.INFO, stream=sys.stdout, force=True)
from telstate import Dispatcher, Router
from telstate.journals import SqliteJournal
async def main():
    async with Dispatcher(Router(), journal=SqliteJournal({str(tmp_path / "calls.db")!r}), stop_on_signals=True) as calls:
        await calls.receive({{"action": "dialout-connected", "sessionId": "s"}})
        print("ready", flush=True)
        await anyio.to_thread.run_sync(time.sleep, 600)
anyio.run(main, backend={anyio_backend_name!r})
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:  # noqa: ASYNC220
        read_until(process, "ready")
        process.send_signal(signal.SIGTERM)
        read_until(process, "dispatcher.stopping")
        time.sleep(0.3)  # noqa: ASYNC251 - nothing else runs in this process
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == -signal.SIGTERM
    assert len(await marks(tmp_path / "calls.db")) == 1


async def test_a_handler_that_cannot_finish_any_more_runs_again_at_the_next_start(tmp_path: Path) -> None:
    """Because what it uses takes nothing more: that is no failure of its own, and nobody waits for the rest of the drain's time."""
    router, ran, leaving = Router(), [], anyio.Event()

    @router.on(DialoutEvent)
    async def dial(session: Session) -> None:
        ran.append(session.session_id)
        if len(ran) <= 2:  # in the first process
            await leaving.wait()
            raise NotRunning("not started")

    path, began = tmp_path / "calls.db", time.monotonic()
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(router, journal=SqliteJournal(path), drain=60) as calls:
            await calls.receive(js("dialout-connected", "a"))
            await calls.receive(js("dialout-connected", "b"))
            await calls.receive(js("dialout-answered", "b"))
            await until(lambda: len(ran) == 2)
            calls.shut_down()
            leaving.set()
            await anyio.sleep_forever()
    assert time.monotonic() - began < 30
    assert await marks(path) == [False, False, False]
    assert [line["event"] for line in logs if line["log_level"] == "error"] == []
    async with Dispatcher(router, journal=SqliteJournal(path)) as calls:
        await calls.idle()
        assert await calls.dead_letters.list() == []
    assert sorted(ran) == ["a", "a", "b", "b", "b"]
