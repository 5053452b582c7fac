"""What blocks the event loop is named in the log, while it lasts and with its place in the code."""

from __future__ import annotations

import threading
import time
from collections.abc import MutableMapping, Sequence
from typing import Any

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


def blocked(logs: Sequence[MutableMapping[str, Any]]) -> list[int]:
    """The places of the lines that name `block`. A machine that stands still blocks a loop elsewhere, too."""
    return [
        place for place, log in enumerate(logs) if log["event"] == "loop.blocked" and log["at"].endswith(" in block")
    ]


def block(logs: Sequence[MutableMapping[str, Any]]) -> None:
    """Block the event loop, as a driver that is not async does: until the log names it, and for a while longer."""
    gives_up = time.monotonic() + 30
    while not blocked(logs) and time.monotonic() < gives_up:
        time.sleep(0.1)
    time.sleep(0.4)


async def test_a_handler_that_blocks_the_loop_is_named() -> None:
    """Once, while it blocks; then that the loop turns again, and after how long."""
    router = Router()

    @router.on(DialoutConnected)
    async def blocks() -> None:
        await anyio.lowlevel.checkpoint()
        block(logs)

    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(router, slow_after=0.2) as calls:
            await anyio.sleep(0.1)
            await calls.receive(js("dialout-connected"))
            await calls.idle()
            await until(lambda: logs[-1]["event"] == "loop.turns_again")
    (place,) = blocked(logs)
    named, turns = logs[place], logs[place + 1]
    assert named["handler"] == f"{__name__}.{blocks.__qualname__}"
    assert named["at"].startswith(__file__)
    assert "time.sleep(0." in named["exception"]
    assert named["seconds"] >= 0.2
    assert turns["event"] == "loop.turns_again"
    assert turns["seconds"] >= named["seconds"] + 0.3


async def test_a_program_that_blocks_the_loop_is_named_without_a_handler() -> None:
    """It stops the handlers all the same."""
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), slow_after=0.2):
            await anyio.sleep(0.1)
            block(logs)
    (place,) = blocked(logs)
    assert logs[place]["handler"] is None


async def test_handlers_that_wait_block_nothing() -> None:
    """However long; they are slow. A machine that stands still blocks the loop, but not each time."""
    router = Router()

    @router.on(DialoutConnected)
    async def waits() -> None:
        await anyio.sleep(0.8)

    seen = list[list[str]]()
    while len(seen) < 10 and ["handler.slow"] not in seen:
        with structlog.testing.capture_logs() as logs:
            async with Dispatcher(router, slow_after=0.2) as calls:
                await calls.receive(js("dialout-connected"))
                await calls.idle()
        seen.append([log["event"] for log in logs])
    assert seen[-1] == ["handler.slow"]


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
