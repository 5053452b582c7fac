"""What blocks the event loop is named in the log, while it lasts and with its place in the code."""

from __future__ import annotations

import threading
import time

import anyio
import anyio.lowlevel
import pytest
import structlog

from telstate import Dispatcher, Router
from telstate.events import DialoutConnected
from tests.calls import js
from tests.routing import until

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops]


def watches() -> list[threading.Thread]:
    """The threads that watch a loop."""
    return [thread for thread in threading.enumerate() if thread.name == "telstate loop watch"]


def block(seconds: float) -> None:
    """Block the event loop, as a driver that is not async does."""
    time.sleep(seconds)


async def test_a_handler_that_blocks_the_loop_is_named() -> None:
    """Once, while it blocks; then that the loop turns again, and after how long."""
    router = Router()

    @router.on(DialoutConnected)
    async def blocks() -> None:
        await anyio.lowlevel.checkpoint()
        block(0.6)

    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(router, slow_after=0.2) as calls:
            await anyio.sleep(0.1)
            await calls.receive(js("dialout-connected"))
            await calls.idle()
            await until(lambda: any(log["event"] == "loop.turns_again" for log in logs))
    (blocked,) = [log for log in logs if log["event"] == "loop.blocked"]
    (turns,) = [log for log in logs if log["event"] == "loop.turns_again"]
    assert blocked["handler"] == f"{__name__}.{blocks.__qualname__}"
    assert blocked["at"].startswith(__file__)
    assert blocked["at"].endswith(" in block")
    assert "time.sleep(seconds)" in blocked["exception"]
    assert 0.2 <= blocked["seconds"] <= 0.5
    assert 0.5 <= turns["seconds"] <= 3


async def test_a_program_that_blocks_the_loop_is_named_without_a_handler() -> None:
    """It stops the handlers all the same."""
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), slow_after=0.2):
            await anyio.sleep(0.1)
            block(0.6)
    (blocked,) = [log for log in logs if log["event"] == "loop.blocked"]
    assert blocked["handler"] is None
    assert blocked["at"].endswith(" in block")


async def test_handlers_that_wait_block_nothing() -> None:
    """However long; they are slow."""
    router = Router()

    @router.on(DialoutConnected)
    async def waits() -> None:
        await anyio.sleep(0.8)

    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(router, slow_after=0.2) as calls:
            await calls.receive(js("dialout-connected"))
            await calls.idle()
    assert [log["event"] for log in logs] == ["handler.slow"]


async def test_the_dispatchers_of_a_loop_share_one_thread() -> None:
    """It ends with the last of them."""
    await until(lambda: not watches())  # those of earlier tests end within a moment
    async with Dispatcher(Router()):
        await until(lambda: len(watches()) == 1)
        async with Dispatcher(Router()):
            await anyio.sleep(0.05)
            assert len(watches()) == 1
        await anyio.sleep(0.05)
        assert len(watches()) == 1
    await until(lambda: not watches())
