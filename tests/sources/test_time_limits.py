"""Time limits of many tasks, looked after by one timer."""

from __future__ import annotations

import asyncio
import time

import pytest

from telstate.sources import _time_limits as time_limits
from telstate.sources._time_limits import TimeLimits

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks often."""
    monkeypatch.setattr(time_limits, "_LOOK_EVERY", 0.01)


async def test_a_block_that_takes_too_long_raises() -> None:
    """Each after its own time; the task is not cancelled afterwards."""
    limits = TimeLimits()

    async def work(seconds: float) -> float:
        started = time.monotonic()
        with pytest.raises(TimeoutError), limits.within(seconds):
            await asyncio.sleep(9)
        await asyncio.sleep(0)
        return time.monotonic() - started

    took = await asyncio.gather(work(0.05), work(0.15))
    assert 0.05 <= took[0] < 5
    assert 0.15 <= took[1] < 5


async def test_a_block_in_time_leaves_nothing_behind() -> None:
    """No timer runs when there is no block."""
    limits = TimeLimits()
    for _ in range(3):
        with limits.within(5):
            await asyncio.sleep(0)
        with pytest.raises(KeyError), limits.within(5):
            raise KeyError
    assert not limits._set
    await asyncio.sleep(0.05)
    assert limits._timer is None


async def test_a_cancellation_from_outside_is_one() -> None:
    """Also at the same moment as the limit."""
    limits = TimeLimits()

    async def work() -> None:
        with limits.within(0.01):
            await asyncio.sleep(9)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    time.sleep(0.02)  # noqa: ASYNC251 - the limit has passed, and nobody has looked yet
    task.cancel()
    for limit in list(limits._set):
        limit.expire()
    with pytest.raises(asyncio.CancelledError):
        await task
