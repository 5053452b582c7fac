"""The timeout of a handler: it is cancelled, logged, and becomes a dead letter; the rest goes on."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog

from telstate import DefinitionError, Dispatcher, HandlerTimeout, Retry, Router, Session
from telstate.events import DialoutConnected
from telstate.journals import SqliteJournal
from telstate.testing import FakeClock
from telstate.testing._clock import settle
from tests.calls import js
from tests.routing import until

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops]


async def reasons(calls: Dispatcher) -> list[str]:
    """Why handlers were given up."""
    return [kept.letter.reason for kept in await calls.dead_letters.list()]


async def test_a_handler_over_its_timeout_is_cancelled_and_a_dead_letter() -> None:
    """By the dispatcher's clock, not before; the session's next handler runs, and handlers of errors see why."""
    router, clock, seen = Router(), FakeClock(), list[object]()

    @router.on(DialoutConnected, timeout=30)
    async def hang() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            seen.append("cancelled")

    @router.on(DialoutConnected)
    async def next_one(session: Session) -> None:
        seen.append(session.session_id)

    @router.on_handler_error()
    async def note(error: Exception, handler: str) -> None:
        seen.append((type(error), str(error)))

    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(router, clock=clock, drain=0) as calls:
            await calls.receive(js("dialout-connected", "s"))
            await clock.advance(29.9)
            assert seen == []
            await clock.advance(0.2)
            await calls.idle()
            (kept,) = await calls.dead_letters.list()
    name = f"{__name__}.{hang.__qualname__}"
    text = f"{name} was cancelled: it took longer than its timeout of 30 seconds"
    assert seen == ["cancelled", (HandlerTimeout, text), "s"]
    assert (kept.letter.reason, kept.letter.handler, kept.letter.detail) == ("HandlerTimeout", name, text)
    assert [log["event"] for log in logs] == ["handler.failed"]


async def test_a_handler_in_time_is_left_alone() -> None:
    """Also one that raises: with its own exception."""
    router = Router(timeout=60)

    @router.on(DialoutConnected)
    async def fail() -> None:
        await anyio.sleep(0.001)
        raise KeyError

    with structlog.testing.capture_logs():
        async with Dispatcher(router) as calls:
            await calls.receive(js("dialout-connected"))
            await calls.idle()
            assert await reasons(calls) == ["KeyError"]


async def swallow() -> None:
    """Take no notice of being cancelled."""
    with suppress(BaseException):
        await anyio.sleep_forever()


async def translate() -> None:
    """Raise something else when cancelled."""
    try:
        await anyio.sleep_forever()
    except BaseException as error:
        raise OSError("the connection broke") from error


async def in_a_group() -> None:
    """Hang in a task of its own."""
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep_forever)


@pytest.mark.parametrize("hang", [swallow, translate, in_a_group])
async def test_a_handler_cannot_hide_its_timeout(hang: Callable[[], Awaitable[None]]) -> None:
    """It did not finish, whatever it makes of its cancellation."""
    router, clock = Router(), FakeClock()

    @router.on(DialoutConnected, timeout=1)
    async def hangs() -> None:
        await hang()

    with structlog.testing.capture_logs():
        async with Dispatcher(router, clock=clock, drain=0) as calls:
            await calls.receive(js("dialout-connected"))
            await settle()
            await clock.advance(1.1)
            await calls.idle()
            assert await reasons(calls) == ["HandlerTimeout"]


async def test_a_routers_timeout_holds_for_all_its_handlers_unless_they_have_their_own() -> None:
    """Those of included routers, of every kind, too; `math.inf` is none."""
    router, inner, quick = Router(timeout=10), Router("inner"), Router("quick", timeout=1)
    clock, cancelled = FakeClock(), list[str]()
    router.include(inner)
    router.include(quick)

    async def wait_as(name: str) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(name)

    @router.on_start()
    async def start(session: Session) -> None:
        if session.session_id == "a":
            await wait_as("start")

    @inner.on_state("connected")
    async def state(session: Session) -> None:
        if session.session_id == "b":
            await wait_as("state")

    @quick.on_end(timeout=5)
    async def end(session: Session) -> None:
        if session.session_id == "c":
            await wait_as("end")

    @quick.on("dialout-stopped")
    async def stopped(session: Session) -> None:
        if session.session_id == "d":
            await wait_as("stopped")

    @quick.on("dialout-stopped", timeout=math.inf)
    async def never(session: Session) -> None:
        if session.session_id == "e":
            await wait_as("never")

    with structlog.testing.capture_logs():
        async with Dispatcher(router, clock=clock, drain=0) as calls:
            for name in "abcde":
                await calls.receive(js("dialout-connected", name))
                await calls.receive(js("dialout-stopped", name))
            await clock.advance(0.9)
            assert cancelled == []
            for seconds, expected in ((1, "stopped"), (4, "end"), (5, "start")):
                await clock.advance(seconds)
                assert expected in cancelled
            await clock.advance(1000)
            assert sorted(cancelled) == ["end", "start", "state", "stopped"]
    assert "never" in cancelled


async def test_retries_are_within_the_timeout() -> None:
    """The timeout is that of the handler, not of an attempt."""
    router, clock, attempts = Router(), FakeClock(), list[float]()

    @router.on(DialoutConnected, timeout=25, retry=Retry(attempts=9, wait_initial=10, wait_max=10, wait_jitter=0))
    async def fail() -> None:
        attempts.append(clock.now())
        raise OSError

    with structlog.testing.capture_logs():
        async with Dispatcher(router, clock=clock) as calls:
            await calls.receive(js("dialout-connected"))
            await settle()
            await clock.advance(1000)
            await calls.idle()
            assert await reasons(calls) == ["HandlerTimeout"]
    assert len(attempts) == 3


@pytest.mark.parametrize("live_only", [False, True])
async def test_a_handler_that_is_cut_off_first_did_not_time_out(tmp_path: Path, *, live_only: bool) -> None:
    """By the end of its session, or of the dispatcher: then it is no dead letter, and in the second case runs again."""
    router, begun = Router(), list[str]()

    @router.on(DialoutConnected, timeout=60, live_only=live_only)
    async def hang(session: Session) -> None:
        begun.append(session.session_id)
        await anyio.sleep_forever()

    journal = SqliteJournal(tmp_path / "calls.db")
    for _ in range(2):
        with structlog.testing.capture_logs():
            async with Dispatcher(router, journal=journal, drain=0) as calls:
                if not begun:
                    await calls.receive(js("dialout-connected", "s"))
                await until(lambda: begun)
                if live_only and len(begun) == 1:
                    await calls.receive(js("dialout-stopped", "s"))
                    await calls.idle()
                assert await reasons(calls) == []
    assert begun == (["s"] if live_only else ["s", "s"])


async def test_hanging_handlers_with_a_timeout_do_not_stop_receive(tmp_path: Path) -> None:
    """At the pending limit, over a restart too: they make room for further events."""
    router = Router(timeout=0.05)

    @router.on(DialoutConnected)
    async def hang() -> None:
        await anyio.sleep_forever()

    journal = SqliteJournal(tmp_path / "calls.db")
    with structlog.testing.capture_logs(), anyio.fail_after(20):
        for start in range(2):
            async with Dispatcher(router, journal=journal, pending_limit=20, drain=0) as calls:
                for number in range(100):
                    await calls.receive(js("dialout-connected", f"{start}-{number}"))


@pytest.mark.parametrize("given", [0, -1, math.nan, True, "30"])
async def test_a_timeout_that_is_none_is_refused(given: Any) -> None:
    """At the registration, and by the router."""
    with pytest.raises(DefinitionError, match="timeout= takes seconds above 0"):
        Router(timeout=given)

    async def handle() -> None: ...

    for decorator in (Router().on_start, Router().on_end, Router().on_retired, Router().on_handler_error):
        with pytest.raises(DefinitionError, match="timeout= takes seconds above 0"):
            decorator(timeout=given)(handle)
