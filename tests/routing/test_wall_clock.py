"""Steps of the wall clock, a journal from the future, and a machine that was suspended: no limit moves, no call ends by them."""

from __future__ import annotations

import time
from pathlib import Path

import anyio
import pytest
import structlog

from telstate import DeadlinePassed, Dispatcher, Router, Settings, State
from telstate.journals import SqliteJournal
from telstate.routing import SystemClock
from telstate.routing import _clock as clock_module
from telstate.routing._clock_watch import ClockWatch
from tests.calls import SESSION, js
from tests.routing import until

pytestmark = pytest.mark.anyio

STEPS = [30.0, 3600.0, 25 * 3600.0, -3600.0]


class Machine:
    """The clocks of a machine, which a test sets. The real ones run on below them."""

    def __init__(self) -> None:
        self.wall_is_off = 0.0
        self.suspended = 0.0

    def wall(self) -> float:
        """Return Unix seconds."""
        return self._real() + self.wall_is_off + self.suspended

    def uptime(self) -> float:
        """Return seconds with those of suspensions."""
        return time.monotonic() + self.suspended

    _real = staticmethod(time.time)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine whose clocks can be set, for everything that is made in the test."""
    machine = Machine()
    monkeypatch.setattr(time, "time", machine.wall)
    monkeypatch.setattr(clock_module, "time", machine.wall)
    monkeypatch.setattr("telstate.routing._clock_watch._uptime", machine.uptime)
    monkeypatch.setattr("telstate.routing._self_checks._EVERY", 0.02)
    return machine


def deadlines() -> tuple[Router, list[float]]:
    """A router that notes when a deadline passed, by a monotonic clock."""
    router, passed = Router(), list[float]()

    @router.on(DeadlinePassed)
    async def note() -> None:
        passed.append(time.monotonic())

    return router, passed


@pytest.mark.parametrize("step", STEPS)
async def test_a_step_moves_no_deadline_and_ends_no_call(machine: Machine, tmp_path: Path, step: float) -> None:
    """It is in the log, once, with its size."""
    router, passed = deadlines()
    journal = SqliteJournal(tmp_path / "calls.db")
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(router, journal=journal, settings=Settings(ring_deadline=0.3)) as calls:
            await calls.receive(js("dialout-answered", "talking"))
            begun = time.monotonic()  # before, as a busy machine may return late
            await calls.receive(js("dialout-connected", SESSION))
            machine.wall_is_off = step
            await until(lambda: passed)
            await anyio.sleep(0.2)
            assert passed[0] - begun > 0.25
            assert len(calls.live()) == 2
            assert not any(session.uncertain for session in calls.live())
    steps = [log["seconds"] for log in logs if log["event"] == "clock.wall_clock_stepped"]
    assert steps == [pytest.approx(step, abs=0.5)]


async def test_a_clock_that_is_set_back_is_a_second_step(machine: Machine) -> None:
    """+1 h for a moment: two lines."""
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router()) as calls:
            machine.wall_is_off = 3600.0
            await until(lambda: len(logs) == 1)
            machine.wall_is_off = 0.0
            await until(lambda: len(logs) == 2)
            assert calls.live() == []
    assert [round(log["seconds"]) for log in logs] == [3600, -3600]


@pytest.mark.parametrize("step", STEPS[:3])
async def test_a_journal_from_the_future_is_opened_with_a_warning(
    machine: Machine, tmp_path: Path, step: float
) -> None:
    """Deadlines run on from its last time, over further restarts too, and a call that lived lives on."""
    journal, settings = SqliteJournal(tmp_path / "calls.db"), Settings(ring_deadline=0.3)
    machine.wall_is_off = step
    router, passed = deadlines()
    async with Dispatcher(router, journal=journal, settings=settings) as calls:
        await calls.receive(js("dialout-answered", "talking"))
    machine.wall_is_off = 0.0
    for start in range(2):
        with structlog.testing.capture_logs() as logs:
            async with Dispatcher(router, journal=journal) as calls:
                begun = time.monotonic()  # before, as a busy machine may return late
                await calls.receive(js("dialout-connected", f"{SESSION}-{start}"))
                await until(lambda: passed)
                assert passed.pop() - begun > 0.25
                talking = calls.session("talking")
                assert talking is not None
                assert talking.state is State.ANSWERED
        found = [log["seconds"] for log in logs if log["event"] == "journal.ahead_of_clock"]
        assert found == [pytest.approx(step, abs=5)]


async def test_time_in_which_the_machine_was_suspended_has_passed(machine: Machine, tmp_path: Path) -> None:
    """As while a service is down: limits pass, live sessions are uncertain, and it is no step of the wall clock."""
    router, passed = deadlines()
    journal, settings = SqliteJournal(tmp_path / "calls.db"), Settings(ring_deadline=200)
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(router, journal=journal, settings=settings) as calls:
            await calls.receive(js("dialout-answered", "talking"))
            await calls.receive(js("dialout-connected", SESSION))
            machine.suspended = 300.0
            await until(lambda: passed)
            await until(lambda: all(session.uncertain for session in calls.live()))
            assert len(calls.live()) == 2
    facts = [(log["event"], round(log["seconds"])) for log in logs if log["event"].startswith("clock.")]
    assert facts == [("clock.suspended", 300)]


async def test_a_process_that_stood_still_may_have_missed_events(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sends them does not wait for ever: its live sessions are uncertain until they are heard of again, as after a restart."""
    monkeypatch.setattr("telstate.routing._self_checks._STOOD_STILL", 0.1)
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router()) as calls:
            await calls.receive(js("dialout-connected", SESSION))
            await anyio.sleep(0.05)
            time.sleep(0.3)  # noqa: ASYNC251 - that is what is tested
            await until(lambda: all(session.uncertain for session in calls.live()))
    assert "clock.stood_still" in {log["event"] for log in logs}


def test_small_corrections_are_no_steps(machine: Machine) -> None:
    """As NTP makes them all the time."""
    watch = ClockWatch(SystemClock(), wall=machine.wall, uptime=machine.uptime)
    with structlog.testing.capture_logs() as logs:
        for _ in range(10):
            machine.wall_is_off += 0.5
            watch.look()
    assert logs == []


def test_a_clock_skips_only_forwards() -> None:
    """It never falls."""
    clock = SystemClock()
    before = clock.now()
    clock.skip(10)
    assert clock.now() >= before + 10
    with pytest.raises(ValueError, match="never falls"):
        clock.skip(-1)
