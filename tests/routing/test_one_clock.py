"""One clock governs everything that waits: the timeouts of `wait_for` and `wait_ready`, and the pauses and timeout of a `Retry`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import anyio
import pytest
import structlog

from telstate import DefinitionError, Dispatcher, LogClock, Retry, Router, Session, State
from telstate.events import DialoutConnected
from telstate.testing import FakeClock
from telstate.testing._clock import settle
from tests.calls import SESSION, js
from tests.routing import until

pytestmark = pytest.mark.anyio

URI = "sip:room.0@example.sip.daily.co"


WAITS: dict[str, tuple[Callable[[Dispatcher, float | None], Awaitable[object]], dict[str, str], str]] = {
    "wait_for": (
        lambda calls, timeout: calls.wait_for(SESSION, State.ANSWERED, timeout),
        js("dialout-answered"),
        f"{SESSION} did not become answered within 30 seconds",
    ),
    "wait_ready": (
        lambda calls, timeout: calls.wait_ready(URI, timeout),
        {"action": "dialin-ready", "sipEndpoint": URI},
        f"{URI} was not ready within 30 seconds",
    ),
}


@pytest.mark.both_loops
@pytest.mark.parametrize("method", WAITS)
async def test_a_timeout_passes_by_the_dispatchers_clock(method: str) -> None:
    """Not by real time: neither before nor after."""
    wait, _, message = WAITS[method]
    clock, raised = FakeClock(), list[tuple[float, str]]()

    async def expect_timeout(calls: Dispatcher, seconds: float) -> None:
        with pytest.raises(TimeoutError) as info:
            await wait(calls, seconds)
        raised.append((clock.now() - begun, str(info.value)))

    begun = clock.now()
    with anyio.fail_after(5):
        async with Dispatcher(Router(), clock=clock) as calls, anyio.create_task_group() as group:
            group.start_soon(expect_timeout, calls, 30)
            group.start_soon(expect_timeout, calls, 3600)
            await clock.advance(29.9)
            assert raised == []
            await clock.advance(0.2)
            assert [at for at, _ in raised] == [30]
            assert message in raised[0][1]
            assert calls.sizes()["waiters"] == 1
            await clock.advance(3600)
            assert [at for at, _ in raised] == [30, 3600]
            assert calls.sizes()["waiters"] == 0


@pytest.mark.parametrize("method", WAITS)
@pytest.mark.parametrize("seconds", [None, 30.0])
async def test_what_comes_in_time_is_returned_and_leaves_no_timeout_behind(method: str, seconds: float | None) -> None:
    """Without a timeout it waits without limit."""
    wait, payload, _ = WAITS[method]
    clock, found = FakeClock(), list[object]()

    async def keep(calls: Dispatcher) -> None:
        found.append(await wait(calls, seconds))

    async with Dispatcher(Router(), clock=clock) as calls, anyio.create_task_group() as group:
        group.start_soon(keep, calls)
        await clock.advance(29 if seconds else 100_000)
        assert found == []
        await calls.receive(payload)
        await clock.advance(100)
        assert found == [calls.session(SESSION) or calls.endpoint(URI)]
    assert not clock._timeouts


async def test_a_timeout_of_zero_passes_at_once() -> None:
    """Unless it need not wait."""
    clock = FakeClock()
    async with Dispatcher(Router(), clock=clock) as calls, anyio.create_task_group() as group:

        async def expect_timeout() -> None:
            with pytest.raises(TimeoutError):
                await calls.wait_for(SESSION, "answered", 0)

        group.start_soon(expect_timeout)
        await clock.advance(0)
        await calls.receive(js("dialout-answered"))
        assert (await calls.wait_for(SESSION, "answered", 0)).session_id == SESSION


@contextmanager
def attempts_of(retry: Retry, clock: FakeClock) -> Iterator[tuple[Router, list[float]]]:
    """A router with a handler that always fails, and the times of its attempts."""
    router, times = Router(), list[float]()
    begun = clock.now() or 0.0

    @router.on("dialout-connected", retry=retry)
    async def fail() -> None:
        times.append((clock.now() or 0.0) - begun)
        raise OSError("down")

    with structlog.testing.capture_logs(), anyio.fail_after(5):
        yield router, times


async def reasons(calls: Dispatcher) -> list[str]:
    """Why handlers were given up."""
    return [kept.letter.reason for kept in await calls.dead_letters.list()]


async def test_the_pauses_of_a_retry_pass_by_the_dispatchers_clock() -> None:
    """They double, up to the longest. After the last attempt it is a dead letter."""
    clock = FakeClock()
    retry = Retry(attempts=5, timeout=None, wait_initial=10, wait_max=60, wait_jitter=0)
    with attempts_of(retry, clock) as (router, times):
        async with Dispatcher(router, clock=clock) as calls:
            await calls.receive(js("dialout-connected"))
            await settle()
            assert times == [0]
            await clock.advance(9.9)
            assert times == [0]
            await clock.advance(0.2)
            assert times == [0, 10]
            await clock.advance(130)
            assert times == [0, 10, 30, 70, 130]
            assert await reasons(calls) == ["OSError"]
            await clock.advance(1000)
    assert len(times) == 5


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(45, [0, 10, 20, 30, 40]), (50.1, [0, 10, 20, 30, 40, 50]), (5, [0])],
)
async def test_no_attempt_begins_after_the_timeout_of_a_retry(seconds: float, expected: list[float]) -> None:
    """It is given up as soon as the next attempt would come too late."""
    clock = FakeClock()
    retry = Retry(attempts=None, timeout=seconds, wait_initial=10, wait_max=10, wait_jitter=0)
    with attempts_of(retry, clock) as (router, times):
        async with Dispatcher(router, clock=clock) as calls:
            await calls.receive(js("dialout-connected"))
            await clock.advance(expected[-1])
            assert await reasons(calls) == ["OSError"]
            await clock.advance(100)
    assert times == expected


async def test_jitter_lengthens_a_pause_by_up_to_its_seconds() -> None:
    """So that not all calls retry at the same moment."""
    clock = FakeClock()
    retry = Retry(attempts=2, wait_initial=10, wait_max=20, wait_jitter=5)
    with attempts_of(retry, clock) as (router, times):
        async with Dispatcher(router, clock=clock) as calls:
            for number in range(5):
                await calls.receive(js("dialout-connected", f"s{number}"))
            await until(lambda: len(times) == 5)
            await clock.advance(16)
            await calls.idle()
            assert len(await reasons(calls)) == 5
    pauses = sorted(times)[5:]
    assert pauses[0] >= 10
    assert pauses[-1] <= 15
    assert len(set(pauses)) > 1


async def test_the_timeout_of_a_retry_is_in_real_time_where_the_clock_is_that_of_a_log() -> None:
    """Hours of a recorded log pass in a moment: they must not end the attempts."""
    router, clock, times, passed = Router(), LogClock(), list[float | None](), anyio.Event()

    @router.on("dialout-connected", retry=Retry(attempts=3, wait_initial=0.01, wait_jitter=0))
    async def fail() -> None:
        times.append(clock.now())
        await passed.wait()
        raise OSError("down")

    async with Dispatcher(router, clock=clock) as calls:
        await calls.receive({"v": 1, "dialect": "daily-js", "at": 1000.0, "payload": js("dialout-connected")})
        await until(lambda: times)
        await calls.receive({"v": 1, "dialect": "daily-js", "at": 9000.0, "payload": js("dialout-answered")})
        passed.set()
        await calls.idle()
    assert times == [1000.0, 9000.0, 9000.0]


async def test_a_retry_that_succeeds_runs_the_next_handlers_after_its_pause() -> None:
    """Those of other sessions do not wait."""
    router, clock, seen = Router(), FakeClock(), list[str]()

    @router.on("dialout-connected", retry=Retry(attempts=2, wait_initial=30, wait_max=30, wait_jitter=0))
    async def second_time(session: Session) -> None:
        seen.append(session.session_id)
        if seen == ["a"]:
            raise OSError("not yet")

    @router.on("dialout-connected")
    async def next_one(session: Session) -> None:
        seen.append(f"next {session.session_id}")

    async with Dispatcher(router, clock=clock) as calls:
        await calls.receive(js("dialout-connected", "a"))
        await settle()
        await calls.receive(js("dialout-connected", "b"))
        await settle()
        assert seen == ["a", "b", "next b"]
        await clock.advance(30)
        assert seen == ["a", "b", "next b", "a", "next a"]
        assert await calls.dead_letters.list() == []


async def test_the_clock_of_a_log_keeps_its_time_where_an_event_has_none() -> None:
    """A log's lines may have no time of their own."""
    clock = LogClock()
    async with Dispatcher(Router(), clock=clock) as calls:
        await calls.receive(DialoutConnected(session_id="a", occurred_at=1_790_000_000.0))
        await calls.link("a", "b")
        assert clock.now() == 1_790_000_000.0


async def test_retire_is_for_the_clock_of_a_log() -> None:
    """A journal does not know of it, so a replay would come to another state."""
    async with Dispatcher(Router()) as calls:
        with pytest.raises(DefinitionError, match="recorded logs"):
            calls.retire()
