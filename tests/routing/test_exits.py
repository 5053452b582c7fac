"""A handler may raise whatever there is: it becomes a dead letter and stops nothing. Only KeyboardInterrupt ends the service."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn

import anyio
import pytest
import structlog
from anyio.lowlevel import checkpoint

from telstate import DialoutEvent, Dispatcher, Presence, Router, Session, SourceGap
from telstate.journals import SqliteJournal
from telstate.routing._lanes import Job, Lane
from tests.calls import js
from tests.cli.running import ROOT
from tests.routing import until
from tests.routing.dying import letters_of

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops]


class Own(BaseException):
    """An exception that is no Exception."""


class Exits(Exception):
    """An exception that exits when it is asked for its text."""

    def __str__(self) -> str:
        raise SystemExit(5)

    __repr__ = __str__


class ExitsToo(asyncio.CancelledError):
    """A cancellation that exits when it is asked for its text."""

    def __repr__(self) -> str:
        raise SystemExit(5)


RAISED: dict[str, BaseException] = {
    "SystemExit": SystemExit(0),
    "GeneratorExit": GeneratorExit(),
    "Own": Own("mine"),
    "Exits": Exits(),
    "BaseExceptionGroup": BaseExceptionGroup("two", [ValueError(), BaseExceptionGroup("more", [SystemExit(3)])]),
}


def fail(name: str) -> NoReturn:
    """Raise an exception by its name."""
    raise RAISED[name]


@pytest.mark.parametrize("suspends", [False, True])
@pytest.mark.parametrize("name", list(RAISED))
async def test_whatever_a_handler_raises_is_a_dead_letter_and_stops_nothing(name: str, suspends: bool) -> None:
    """The other handlers of its event run, those of errors too, and the next events of its session."""
    router, seen = Router(), []

    @router.on("dialout-connected")
    async def bad() -> None:
        if suspends:
            await checkpoint()
        fail(name)

    @router.on(DialoutEvent)
    async def good(event: DialoutEvent) -> None:
        seen.append(event.name)

    @router.on_handler_error()
    async def watch(error: BaseException) -> None:
        seen.append(type(error).__name__)
        if suspends:
            await checkpoint()
        fail(name)

    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(router) as calls:
            await calls.receive(js("dialout-connected"))
            await calls.receive(js("dialout-answered"))
            await calls.idle()
            assert [kept.letter.reason for kept in await calls.dead_letters.list()] == [name]
    assert seen == [name, "dialout-connected", "dialout-answered"]
    assert [log["event"] for log in logs] == ["handler.failed", "handler_error.failed"]


async def test_every_hook_and_every_middleware_may_exit() -> None:
    """Each leaves a dead letter, and what is retried is tried again only for what it is to be retried for."""
    router, attempts = Router(), []

    @router.middleware
    async def around(call_next: Callable[[], Coroutine[Any, Any, object]], handler: str) -> None:
        if handler.endswith("fine"):
            raise SystemExit
        await call_next()

    @router.on_start()
    async def start() -> None:
        raise SystemExit

    @router.on("dialout-connected")
    async def fine() -> None:
        """It is the middleware that exits."""

    @router.on_end(retry=3)
    async def end() -> None:
        attempts.append("end")
        raise SystemExit

    @router.on_unmatched()
    async def unmatched() -> None:
        raise SystemExit

    @router.on_caller_lost()
    async def lost() -> None:
        raise SystemExit

    @router.on_retired()
    async def retired() -> None:
        raise SystemExit

    async with Dispatcher(router) as calls:
        await calls.receive(js("dialout-connected"))
        await calls.receive(js("dialout-stopped"))
        await calls.receive({"action": "dialout-answered"})
        await calls.idle()
        calls._sequencer._listener(None, calls._sequencer.engine.retire())
        await calls.idle()
        letters = [kept.letter for kept in await calls.dead_letters.list()]
    assert sorted(str(letter.handler).rsplit(".", 1)[1] for letter in letters) == [
        "end",
        "fine",
        "retired",
        "start",
        "unmatched",
    ]
    assert {letter.reason for letter in letters} == {"SystemExit"}
    assert attempts == ["end"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_cancellation_whose_text_exits_is_a_failure_too() -> None:
    """Its text is asked for, to say that the handler cancelled itself."""
    router = Router()

    @router.on("dialout-connected")
    async def bad() -> None:
        raise ExitsToo

    async with Dispatcher(router) as calls:
        await calls.receive(js("dialout-connected"))
        await calls.idle()
        (kept,) = await calls.dead_letters.list()
    assert "the handler cancelled itself" in kept.letter.detail


async def test_a_filter_that_exits_only_keeps_its_handler_from_running() -> None:
    """It runs while the event is stepped: `receive` returns all the same."""
    router, seen = Router(), []

    @router.on(DialoutEvent, where=lambda session: fail("SystemExit"))  # noqa: ARG005
    async def filtered() -> None:
        seen.append("filtered")

    @router.on(DialoutEvent)
    async def other() -> None:
        seen.append("other")

    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(router) as calls:
            await calls.receive(js("dialout-connected"))
            await calls.idle()
    assert seen == ["other"]
    assert [log["event"] for log in logs] == ["filter.failed"]


@pytest.mark.parametrize("name", ["SystemExit", "GeneratorExit"])
async def test_a_reconcile_that_exits_is_asked_again(name: str) -> None:
    """It says nothing about the session, which lives."""

    async def reconcile(session: Session) -> Presence:
        asked.append(name)
        await checkpoint()
        fail(name)

    asked: list[str] = []
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), reconcile=reconcile) as calls:
            await calls.receive(js("dialout-connected"))
            for _ in range(2):
                await calls.receive(SourceGap(reason="test"))
                await until(lambda: [log["event"] for log in logs].count("reconcile.failed") == len(asked) > 0)
            assert calls.live()
    assert asked


@pytest.mark.parametrize("where", ["handler", "group", "filter", "observer", "reconcile"])
async def test_a_keyboard_interrupt_leaves_the_block_in_order(where: str, tmp_path: Path) -> None:
    """Its body is cancelled, other handlers finish, what raised it is a dead letter, and the block raises it."""
    router, seen = Router(), []

    def interrupt(place: str) -> bool:
        if place == where:
            raise KeyboardInterrupt
        return True

    @router.on("dialout-connected", where=lambda session: interrupt("filter") and bool(session))
    async def bad() -> None:
        interrupt("handler")
        if where == "group":
            raise BaseExceptionGroup("two", [KeyboardInterrupt(), ValueError()])
        if where == "observer":
            raise ValueError

    @router.on("dialout-answered")
    async def other() -> None:
        await anyio.sleep(0.05)
        seen.append("other")

    @router.on_handler_error()
    async def watch() -> None:
        interrupt("observer")

    async def reconcile(session: Session) -> Presence:
        interrupt("reconcile")
        return Presence.UNKNOWN

    journal = SqliteJournal(tmp_path / "calls.db")
    with pytest.raises(KeyboardInterrupt, match="raised it"), anyio.fail_after(10):  # noqa: PT012
        async with Dispatcher(router, journal=journal, reconcile=reconcile) as calls:
            try:
                await calls.receive_many(
                    [js("dialout-connected"), js("dialout-answered", "b"), SourceGap(reason="test")]
                )
                await anyio.sleep_forever()
            finally:
                seen.append("body")
    assert sorted(seen) == ["body", "other"]
    reasons = {"handler": "KeyboardInterrupt", "group": "BaseExceptionGroup", "observer": "ValueError"}
    letters = [kept.letter.reason async for kept in SqliteJournal(tmp_path / "calls.db").dead_letters()]
    assert letters == ([reasons[where]] if where in reasons else [])
    async with Dispatcher(Router(), journal=journal) as calls:
        await calls.idle()


async def test_a_worker_that_nobody_runs_any_more_lets_go_of_its_handler() -> None:
    """Whoever closes it throws a GeneratorExit into the handler: that is no failure, after which the worker would go on."""
    router, seen = Router(), []

    @router.on(DialoutEvent)
    async def work() -> None:
        try:
            await anyio.sleep(3600)
        finally:
            seen.append("closed")

    async with Dispatcher(router) as calls:
        lane, runner = Lane(), calls._run.lanes._runner
        rest = runner.begin(lane, Job(1, tuple(calls._run._handlers._all), None, None, None))
        assert isinstance(rest, Coroutine)
        rest.send(None)
        rest.close()  # a RuntimeError if it waits for anything after that
        assert await calls.dead_letters.list() == []
    assert seen == ["closed"]


PROGRAM = """
import sys
import anyio
from telstate import DialoutEvent, Dispatcher, Router, Session
from telstate.journals import SqliteJournal

router = Router()


@router.on(DialoutEvent)
async def work(session: Session) -> None:
    if session.session_id == "poison":
        raise KeyboardInterrupt
    print(session.session_id, flush=True)


async def main() -> None:
    async with Dispatcher(router, journal=SqliteJournal("calls.db"), stop_on_signals=True) as calls:
        if not calls.sessions():
            await calls.receive_many([{"action": "dialout-connected", "sessionId": name} for name in ("a", "poison", "b")])
            await anyio.sleep_forever()
        await calls.idle()


anyio.run(main, backend=sys.argv[1])
"""


@pytest.mark.long
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_process_ends_as_on_ctrl_c_and_comes_up_again(tmp_path: Path, backend: str) -> None:
    """The event is a dead letter, so the next start has nothing to do."""
    (tmp_path / "program.py").write_text(PROGRAM)
    runs = [
        subprocess.run(
            [sys.executable, "program.py", backend],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=False,
            timeout=60,
        )
        for _ in range(2)
    ]
    assert [(run.returncode, run.stdout.split()) for run in runs] == [(-2, [b"a", b"b"]), (0, [])]
    assert [kept.letter.reason for kept in letters_of(tmp_path / "calls.db")] == ["KeyboardInterrupt"]
