"""The pace at which a log is played: by the log's clock, with pauses, other speeds, and silences that are cut short."""

from __future__ import annotations

import anyio
import pytest

from telstate.views import _playback as playback
from telstate.views._playback import Playback

pytestmark = pytest.mark.anyio


async def test_the_clock_is_the_logs() -> None:
    """It runs from one line to the next, never beyond, and stands while it pauses and after the end."""
    now = 100.0
    play = Playback("a log", 60.0, clock=lambda: now)
    assert (play.now, play.pace) == (None, 60.0)
    await play.reach(1_000.0)
    assert play.now == 1_000.0
    async with anyio.create_task_group() as group:
        group.start_soon(play.reach, 1_120.0)
        await anyio.wait_all_tasks_blocked()
        now += 1.0
        assert play.now == 1_060.0
        now += 5.0
        assert play.now == 1_120.0  # the line is late: the clock waits for it
        play.set(speed=10.0)
    assert (play.now, play.pace) == (1_120.0, 10.0)
    play.set(paused=True)
    now += 50.0
    assert (play.now, play.pace, play.is_paused) == (1_120.0, 0.0, True)
    play.set(paused=False)
    play.end()
    now += 1.0
    assert (play.now, play.to_dict()["ended"]) == (1_120.0, True)


async def test_a_line_waits_for_its_time_and_for_the_end_of_a_pause() -> None:
    """In real time."""
    play = Playback("a log", 100.0)
    await play.reach(0.0)
    began = anyio.current_time()
    await play.reach(10.0)
    assert anyio.current_time() - began >= 0.09
    play.set(paused=True)
    with anyio.move_on_after(0.2) as scope:
        await play.reach(11.0)
    assert scope.cancelled_caught
    play.set(paused=False, speed=1_000.0)
    with anyio.fail_after(5):
        await play.reach(11.0)
        await play.reach(None)  # a line without a time has a pace of its own


async def test_a_silence_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A night without calls does not take a night."""
    monkeypatch.setattr(playback, "_LONGEST_SILENCE", 0.05)
    play = Playback("a log", 1.0)
    await play.reach(0.0)
    with anyio.fail_after(5):
        await play.reach(30_000.0)
    assert play.now == 30_000.0


@pytest.mark.parametrize("speed", [0.0, -1.0, 1e9, float("nan"), float("inf")])
async def test_a_speed_has_bounds(speed: float) -> None:
    """At the beginning and later."""
    with pytest.raises(ValueError, match="above 0"):
        Playback("a log", speed)
    play = Playback("a log", 1.0)
    with pytest.raises(ValueError, match="above 0"):
        play.set(speed=speed)
