"""The dispatcher: the right handlers run, in the right order, and sessions do not wait for each other."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
import structlog
from anyio.lowlevel import checkpoint

from telstate import (
    CallEnded,
    DefinitionError,
    DialinEvent,
    DialoutAnswered,
    DialoutEvent,
    Dispatcher,
    Event,
    LogClock,
    NotRunning,
    Outcome,
    OutcomeKind,
    ParseError,
    Router,
    Session,
    Settings,
    State,
)
from telstate.journals import MemoryJournal, SqliteJournal
from telstate.testing import FakeClock, Noise, simulate
from telstate.testing._clock import settle
from tests.calls import SESSION, joined, js
from tests.routing import until

pytestmark = pytest.mark.anyio


async def idle(calls: Dispatcher) -> None:
    """Wait until no handler runs or waits; fail after half a minute."""
    with anyio.fail_after(30):
        await calls.idle()


def recording() -> tuple[Router, list[str]]:
    """Return a router whose handlers record what they were called for."""
    router, seen = Router(), []

    @router.on_start()
    async def start(session: Session) -> None:
        seen.append(f"start {session.direction}")

    @router.on(DialoutEvent)
    @router.on(DialinEvent)
    async def on(event: Event) -> None:
        seen.append(event.name)

    for state in State:

        @router.on_state(state)
        async def entered(session: Session, outcome: Outcome, entered: str = state) -> None:
            seen.append(f"entered {entered}")

    @router.on_end()
    async def end(session: Session, calls: Dispatcher) -> None:
        seen.append(f"end {session.cause}")

    return router, seen


async def cancellation() -> BaseException:
    """Return the exception of a cancellation that is over."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await checkpoint()
        except anyio.get_cancelled_exc_class() as error:
            found = error
    return found


# --- which handlers, in which order -------------------------------------------------------------------------------


async def test_handlers_run_in_the_order_start_event_state_end() -> None:
    """For each event. A jump enters the target state only."""
    router, seen = recording()
    async with Dispatcher(router) as calls:
        await calls.receive(js("dialout-answered"))
        await calls.receive(js("dialout-stopped"))
        await idle(calls)
    assert seen == [
        "start dialout",
        "dialout-answered",
        "entered answered",
        "dialout-stopped",
        "entered stopped",
        "end completed",
    ]


async def test_late_and_duplicate_events_reach_only_handlers_that_ask_for_them() -> None:
    """`on_end` runs once, also if later evidence amends the session."""
    router, seen = recording()
    asked: list[str] = []

    @router.on(DialoutAnswered, outcomes=[OutcomeKind.LATE, OutcomeKind.DUPLICATE])
    async def late(outcome: Outcome) -> None:
        asked.append(outcome.kind)

    async with Dispatcher(router) as calls:
        await calls.receive(js("dialout-stopped"))
        await idle(calls)
        for payload in (js("dialout-answered"), js("dialout-answered"), js("dialin-connected")):
            await calls.receive(payload)
        await calls.receive(js("dialout-error"))
        await idle(calls)
        session = calls.session(SESSION)
        assert session is not None
        assert session.amended
    assert seen == [
        "start dialout",
        "dialout-stopped",
        "entered stopped",
        "end unanswered",
        "dialout-error",
        "entered error",
    ]
    assert asked == ["late", "duplicate"]


async def test_on_end_runs_once_for_every_session_that_ends() -> None:
    """Promise 2, over lost, repeated, swapped and delayed events."""
    router, ends = Router(), Counter[str]()

    @router.on_end()
    async def end(session: Session) -> None:
        ends[session.session_id] += 1

    noise = Noise(lost=0.1, repeated=0.3, swapped=0.3, delayed=0.1)
    async with Dispatcher(router, clock=LogClock()) as calls:
        for sent in simulate(
            9, calls=300, dialects=["daily-js", "webhook", "daily-python"], twice=0.4, noise=noise, span=1800.0
        ):
            await calls.receive(sent.payload)
        await idle(calls)
        ended = {session.session_id for session in calls.sessions() if session.ended}
    assert set(ends) == ended
    assert len(ended) > 250
    assert set(ends.values()) == {1}


async def test_log_transitions_logs_each_transition_without_numbers() -> None:
    """One line each, with the ids to search for."""
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), log_transitions=True) as calls:
            await calls.receive(js("dialout-answered", "s", sipCallId="c", destination="+12025550100"))
            await calls.receive(js("dialout-warning", "s"))
            await calls.receive(js("dialout-stopped", "s"))
    line = {
        "event": "session.moved",
        "log_level": "info",
        "session_id": "s",
        "sip_call_id": "c",
        "direction": "dialout",
        "room": None,
    }
    assert logs == [
        {**line, "source": "idle", "target": "answered", "cause": None},
        {**line, "source": "answered", "target": "stopped", "cause": "completed"},
    ]


async def test_a_parked_event_runs_state_handlers_but_no_event_handlers_when_it_is_applied() -> None:
    """Event handlers belong to the outcome that it had when it arrived."""
    router, seen = recording()
    async with Dispatcher(router) as calls:
        await calls.receive(joined())
        await calls.receive(js("dialin-connected"))
        await idle(calls)
    assert seen == ["start dialin", "dialin-connected", "entered connected", "entered answered"]


async def test_filters_see_the_state_at_the_step() -> None:
    """Not the state when the handler gets its turn."""
    router, seen = Router(), []

    @router.on(DialoutEvent, state="connected")
    async def by_state(event: Event, session: Session) -> None:
        seen.append(f"{event.name} now {session.state}")

    @router.on(DialoutEvent, direction="dialin")
    @router.on(DialoutEvent, provider="other")
    @router.on(DialoutEvent, where=lambda session: session.destination == "nobody")
    async def never() -> None:
        seen.append("never")

    @router.on(DialoutEvent, provider="daily", where=lambda event: event.name == "dialout-answered")
    async def by_provider(event: Event) -> None:
        seen.append(f"by provider {event.name}")

    async with Dispatcher(router) as calls:
        for name in ("connected", "answered", "stopped"):
            await calls.receive(js(f"dialout-{name}", provider="daily"))
        await idle(calls)
    assert seen == ["dialout-connected now stopped", "by provider dialout-answered"]


async def test_a_filter_that_raises_is_logged_and_only_its_handler_does_not_run() -> None:
    """Other handlers of the event do."""
    router, seen = Router(), []

    @router.on(DialoutAnswered, where=lambda session: session.no_such_thing)
    async def broken() -> None:
        seen.append("broken")

    @router.on(DialoutAnswered)
    async def fine() -> None:
        seen.append("fine")

    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(router) as calls:
            await calls.receive(js("dialout-answered"))
            await idle(calls)
    assert seen == ["fine"]
    assert [log["event"] for log in logs] == ["filter.failed"]


async def test_handlers_for_events_without_a_session_and_for_unmatched_events() -> None:
    """`on_unmatched` runs for an event that belongs to a session which cannot be named."""
    router, seen = Router(), []

    @router.on("dialin-ready")
    async def ready(event: Event, session: Session | None) -> None:
        seen.append(f"{event.name} of {session}")

    @router.on_unmatched()
    async def unmatched(event: Event, outcome: Outcome) -> None:
        seen.append(f"{outcome.kind} {event.name}")

    async with Dispatcher(router) as calls:
        await calls.receive({"action": "dialin-ready", "sipEndpoint": "sip:a@b"})
        await calls.receive(js("dialout-error", None))
        await idle(calls)
    assert seen == ["dialin-ready of None", "unmatched dialout-error"]


async def test_middleware_wraps_each_handler_the_outer_around_the_inner() -> None:
    """A middleware that does not call `call_next` skips the handler."""
    outer, inner, seen = Router("outer"), Router("inner"), []
    outer.include(inner)

    @outer.middleware
    async def around(call_next: Any, handler: str, session: Session) -> None:
        seen.append(f"before {handler.rpartition('.')[2]}")
        await call_next()
        seen.append("after")

    @inner.middleware
    async def inside(call_next: Any, event: Event) -> None:
        seen.append("inside")
        if event.name != "dialout-stopped":
            await call_next()

    @outer.on(DialoutEvent)
    async def first(event: Event) -> None:
        seen.append("first")

    @inner.on(DialoutEvent)
    async def second(event: Event) -> None:
        seen.append("second")

    async with Dispatcher(outer) as calls:
        await calls.receive(js("dialout-answered"))
        await calls.receive(js("dialout-stopped"))
        await idle(calls)
    one = ["before first", "first", "after", "before second", "inside", "second", "after"]
    assert seen == one + [word for word in one if word != "second"]


async def test_on_retired_runs_once_when_retention_has_passed() -> None:
    """With everything that was learned after the end."""
    router, seen = Router(), []
    clock = FakeClock()

    @router.on_retired()
    async def record(session: Session) -> None:
        seen.append((session.session_id, str(session.cause)))

    async with Dispatcher(router, clock=clock) as calls:
        await calls.receive(js("dialout-stopped"))
        await clock.advance(7199)
        await calls.receive(js("dialout-answered"))
        assert seen == []
        await clock.advance(2)
        await idle(calls)
    assert seen == [(SESSION, "completed")]


# --- lanes and isolation ------------------------------------------------------------------------------------------


@pytest.mark.both_loops
async def test_handlers_of_a_session_keep_order_and_never_overlap() -> None:
    """Promise 4, over a thousand sessions whose handlers sleep, raise, time out and yield."""
    router = Router()
    intervals: dict[str, list[tuple[float, float, str]]] = {}

    @router.on(DialoutEvent)
    async def work(event: Event, session: Session) -> None:
        begun = anyio.current_time()
        number = int(session.session_id)
        if number % 5 == 1:
            await anyio.sleep(0.002 * (number % 7))
        elif number % 5 == 2:
            with anyio.move_on_after(0.001):
                await anyio.sleep_forever()
        elif number % 5 == 3:
            await checkpoint()
        intervals.setdefault(session.session_id, []).append((begun, anyio.current_time(), event.name))
        if number % 5 == 4:
            raise ValueError(number)

    names = ["dialout-connected", "dialout-warning", "dialout-answered", "dialout-stopped"]
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(router, slow_after=60) as calls:
            for name in names:
                for number in range(1000):
                    await calls.receive(js(name, str(number)))
            await idle(calls)
            assert len(calls.live()) == 0
            assert calls.sizes()["lanes"] == 0
    assert len(intervals) == 1000
    for ran in intervals.values():
        assert [name for _, _, name in ran] == names
        assert all(before[1] <= after[0] for before, after in pairwise(ran))
    assert sum(log.get("times", log["event"] == "handler.failed") for log in logs) == 800


@pytest.mark.both_loops
async def test_a_hanging_handler_delays_neither_receive_nor_other_sessions() -> None:
    """The log names it once as slow."""
    router, seen = Router(), []

    @router.on(DialoutEvent)
    async def work(session: Session) -> None:
        if session.session_id == "stuck":
            await anyio.sleep(60)
        seen.append(session.session_id)

    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(router, slow_after=0.05, drain=0.01) as calls:
            with anyio.fail_after(20):
                await calls.receive(js("dialout-connected", "stuck"))
                for number in range(200):
                    await calls.receive(js("dialout-connected", f"s{number}"))
                    await calls.receive(js("dialout-warning", "stuck"))
                while len(seen) < 200:
                    await checkpoint()
                await until(lambda: any(log["event"] == "handler.slow" for log in logs))
                await anyio.sleep(0.2)  # in which it would be named again
    assert set(seen) == {f"s{number}" for number in range(200)}
    slow = [log for log in logs if log["event"] == "handler.slow"]
    assert [log["lane"] for log in slow] == ["stuck"]
    assert 0 < slow[0]["waiting"] <= 200  # on a busy machine it is named while they still come in
    assert [log["events"] for log in logs if log["event"] == "dispatcher.left_unfinished"] == [201]


async def test_a_handler_that_raises_is_logged_and_stops_nothing() -> None:
    """With session, event and traceback. `on_handler_error` handlers run, and may raise themselves."""
    router, seen = Router(), []

    @router.on(DialoutAnswered)
    async def breaks(event: Event) -> None:
        raise ValueError("no such number")

    @router.on(DialoutAnswered)
    async def goes_on() -> None:
        seen.append("went on")

    @router.on_handler_error()
    async def watch(error: Exception, handler: str, session: Session) -> None:
        seen.append(f"{handler.rpartition('.')[2]}: {error} in {session.session_id}")
        raise RuntimeError("the error handler too")

    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(router) as calls:
            outcome = await calls.receive(js("dialout-answered", "s", sipCallId="c"))
            await idle(calls)
    assert seen == ["breaks: no such number in s", "went on"]
    failed, again = logs
    assert (failed["event"], failed["session_id"], failed["sip_call_id"], failed["direction"]) == (
        "handler.failed",
        "s",
        "c",
        "dialout",
    )
    assert failed["event_id"] == outcome.event_id
    assert failed["exception"].startswith("Traceback (most recent call last)")
    assert "no such number" in failed["exception"]
    assert again["event"] == "handler_error.failed"


@pytest.mark.both_loops
async def test_a_cancellation_error_that_a_handler_brings_along_is_a_failure() -> None:
    """As from awaiting something that was cancelled. It must not end the worker."""
    router, seen = Router(), []

    @router.on("dialout-connected")
    async def hurt() -> None:
        raise await cancellation()

    @router.on("dialout-answered")
    async def next_one() -> None:
        seen.append("next")

    @router.on_handler_error()
    async def watch(error: Exception) -> None:
        seen.append(type(error).__name__)

    async with Dispatcher(router) as calls:
        await calls.receive(js("dialout-connected"))
        await calls.receive(js("dialout-answered"))
        await idle(calls)
    assert seen == ["RuntimeError", "next"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_handler_that_cancels_its_own_task_affects_no_other_handler() -> None:
    """The task is the worker's, and goes on to other sessions. It is cancelled before, between and after suspensions."""
    router, seen = Router(), []

    @router.on(DialoutEvent)
    async def work(event: Event, session: Session) -> None:
        task = asyncio.current_task()
        assert task is not None
        if session.session_id == "after":
            await checkpoint()
        if session.session_id in ("before", "between", "after"):
            task.cancel()
        if session.session_id == "between":
            await checkpoint()
        await checkpoint() if session.session_id.startswith("s") else None
        seen.append(f"{session.session_id} {event.name}")

    @router.on(DialoutEvent)
    async def next_of_the_same(event: Event, session: Session) -> None:
        await checkpoint()
        seen.append(f"next {session.session_id} {event.name}")

    sessions = ["s1", "before", "s2", "between", "s3", "after", "s4"]
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(router) as calls:
            for name in ("connected", "answered"):
                for session_id in sessions:
                    await calls.receive(js(f"dialout-{name}", session_id))
            await idle(calls)
            assert calls.sizes()["lanes"] == 0
    assert sorted(seen) == sorted(
        f"{handler}{session_id} dialout-{name}"
        for handler in ("", "next ")
        for session_id in sessions
        for name in ("connected", "answered")
        if (handler, session_id) != ("", "between")
    )
    assert [log["session_id"] for log in logs if log["event"] == "handler.failed"] == ["between"] * 2


@pytest.mark.both_loops
async def test_a_broken_exception_and_a_cancelled_error_handler_do_not_reach_the_next_handler() -> None:
    """An exception may raise when it is asked for its text."""
    router, seen = Router(), []

    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    @router.on("dialout-connected")
    async def breaks() -> None:
        raise Unprintable

    @router.on_handler_error()
    async def watch() -> None:
        raise await cancellation()

    @router.on("dialout-answered")
    async def after() -> None:
        seen.append("after")

    with structlog.testing.capture_logs():
        async with Dispatcher(router) as calls:
            await calls.receive(js("dialout-connected"))
            await calls.receive(js("dialout-answered"))
            await idle(calls)
    assert seen == ["after"]


@pytest.mark.both_loops
async def test_handlers_do_not_run_in_the_context_of_receive() -> None:
    """The user of a web request must not be the user of a call."""
    user: ContextVar[str] = ContextVar("user", default="nobody")
    router, seen = Router(), []

    @router.on(DialoutEvent)
    async def look() -> None:
        seen.append(user.get())

    async def request(calls: Dispatcher) -> None:
        user.set("somebody")
        await calls.receive(js("dialout-connected"))

    async with Dispatcher(router) as calls:
        async with anyio.create_task_group() as group:
            group.start_soon(request, calls)
        await idle(calls)
    assert seen == ["nobody"]


@pytest.mark.both_loops
async def test_a_context_variable_set_in_a_handler_reaches_no_other_handler() -> None:
    """But what it calls, and the tasks that it starts."""
    user: ContextVar[str] = ContextVar("user", default="nobody")
    router, seen = Router(), []

    async def inner(session: Session) -> None:
        seen.append((session.session_id, "inner", user.get()))

    @router.on(DialoutEvent)
    async def bind(session: Session) -> None:
        seen.append((session.session_id, "before", user.get()))
        user.set(session.session_id)
        await checkpoint()
        async with anyio.create_task_group() as group:
            group.start_soon(inner, session)
        structlog.contextvars.bind_contextvars(session_id=session.session_id)
        assert user.get() == session.session_id

    @router.on(DialoutEvent)
    async def next_of_the_same(session: Session) -> None:
        assert structlog.contextvars.get_contextvars() == {}
        seen.append((session.session_id, "next", user.get()))
        raise RuntimeError("for the error handler")

    @router.on_handler_error()
    async def look(session: Session) -> None:
        seen.append((session.session_id, "error", user.get()))

    async with Dispatcher(router) as calls:
        for number in range(3):
            await calls.receive(js("dialout-connected", f"s{number}"))
        await idle(calls)
    assert sorted(seen) == sorted(
        one
        for session_id in ("s0", "s1", "s2")
        for one in (
            (session_id, "before", "nobody"),
            (session_id, "inner", session_id),
            (session_id, "next", "nobody"),
            (session_id, "error", "nobody"),
        )
    )


@pytest.mark.both_loops
async def test_live_only_handlers_are_cancelled_when_their_session_ends() -> None:
    """And not started if it has ended."""
    router, seen = Router(), []

    @router.on("dialout-answered", live_only=True)
    async def talk(session: Session) -> None:
        seen.append("talking")
        try:
            await anyio.sleep_forever()
        finally:
            seen.append(f"cut off in {session.state}")

    @router.on("dialout-warning", live_only=True)
    async def warned() -> None:
        seen.append("never")

    @router.on_end()
    async def end() -> None:
        seen.append("end")

    async with Dispatcher(router) as calls:
        await calls.receive(js("dialout-answered"))
        await settle()
        await calls.receive(js("dialout-warning"))
        await calls.receive(js("dialout-stopped"))
        await idle(calls)
    assert seen == ["talking", "cut off in stopped", "end"]


async def test_jobs_behind_a_suspended_handler_take_no_turns_from_receive() -> None:
    """They are not runnable: `receive` must not let the event loop turn for them."""
    router, gate, turns = Router(), anyio.Event(), 0

    @router.on("dialout-warning")
    async def wait() -> None:
        await gate.wait()

    async def count_turns() -> None:
        nonlocal turns
        while not gate.is_set():
            turns += 1
            await checkpoint()

    async with Dispatcher(router, lane_limit=8, drain=0.1) as calls, anyio.create_task_group() as group:
        await calls.receive_many([js("dialout-warning", "busy")] * 4)  # queued before the first of them suspends
        await settle()
        assert (calls.sizes()["pending"], calls._backlog.runnable) == (4, 0)
        group.start_soon(count_turns)
        for number in range(20):
            await calls.receive(js("dialout-connected", f"s{number}"))
        gate.set()
        await idle(calls)
        assert calls._backlog.runnable == 0
    assert turns < 20


# --- bounds -------------------------------------------------------------------------------------------------------


async def test_handlers_beyond_the_lane_limit_become_dead_letters() -> None:
    """The log names them. Every event is still stepped."""
    router, seen = Router(), []
    gate = anyio.Event()

    @router.on(DialoutEvent)
    async def slow(event: Event) -> None:
        await gate.wait()
        seen.append(event.name)

    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(router, lane_limit=3) as calls:
            await calls.receive(js("dialout-connected"))
            await settle()
            for _ in range(10):
                await calls.receive(js("dialout-warning"))
            await calls.receive(js("dialout-stopped"))
            session = calls.session(SESSION)
            assert session is not None
            assert (session.state, session.events) == (State.STOPPED, 12)
            gate.set()
            await idle(calls)
    assert seen == ["dialout-connected"] + ["dialout-warning"] * 3
    assert [log["reason"] for log in logs] == ["LaneFull"] * 8


async def test_receive_waits_at_the_pending_limit_but_never_inside_a_handler() -> None:
    """A handler that receives is among those that would be waited for."""
    router = Router()
    gate = anyio.Event()
    seen: list[str] = []

    @router.on("dialout-connected")
    async def wait(session: Session, calls: Dispatcher) -> None:
        if session.session_id == "first":
            await calls.receive(js("dialout-warning", "inside"))
            seen.append("received inside")
        await gate.wait()

    @router.on("dialout-warning")
    async def warned(session: Session) -> None:
        seen.append(f"warned {session.session_id}")

    async with Dispatcher(router, pending_limit=5) as calls:
        await calls.receive(js("dialout-connected", "first"))
        for number in range(4):
            await calls.receive(js("dialout-connected", str(number)))
        await settle()
        assert "received inside" in seen
        with anyio.move_on_after(0.05) as waited:
            await calls.receive(js("dialout-connected", "more"))
        assert waited.cancelled_caught
        assert calls.session("more") is None
        async with anyio.create_task_group() as group:
            group.start_soon(calls.receive, js("dialout-connected", "more"))
            await settle()
            gate.set()
        assert calls.session("more") is not None
        await idle(calls)


async def test_a_handler_that_waits_for_an_event_does_not_count_at_the_pending_limit() -> None:
    """`receive` must not wait for a handler that waits for what it brings."""
    router, seen = Router(), []

    @router.on("dialout-connected")
    async def wait(session: Session, calls: Dispatcher) -> None:
        seen.append(await calls.wait_for(session.session_id, "answered"))

    async with Dispatcher(router, pending_limit=3) as calls:
        with anyio.fail_after(5):
            for name in ("dialout-connected", "dialout-answered"):
                for number in range(10):
                    await calls.receive(js(name, f"s{number}"))
        await idle(calls)
    assert len(seen) == 10


@pytest.mark.both_loops
async def test_as_handler_receives_beyond_the_pending_limit() -> None:
    """What runs inside counts as a handler, in this task only; after it, `receive` waits again."""
    router, gate = Router(), anyio.Event()

    @router.on(DialoutEvent)
    async def wait() -> None:
        await gate.wait()

    async with Dispatcher(router, pending_limit=2) as calls:
        for number in range(2):
            await calls.receive(js("dialout-connected", f"s{number}"))
        with anyio.fail_after(5), calls.as_handler():
            await calls.receive(js("dialout-connected", "inside"))
            outcomes = await calls.receive_many([js("dialout-connected", f"many{number}") for number in range(2)])
            assert len(outcomes) == 2
        with anyio.move_on_after(0.05) as waited:
            await calls.receive(js("dialout-connected", "after"))
        assert waited.cancelled_caught
        assert [session.session_id for session in calls.sessions()] == ["s0", "s1", "inside", "many0", "many1"]
        gate.set()


async def test_what_counts_as_a_handler_and_waits_does_not_raise_the_pending_limit() -> None:
    """It is no pending job, so `receive` would never have waited for it."""
    router, gate = Router(), anyio.Event()

    @router.on("dialout-connected")
    async def wait() -> None:
        await gate.wait()

    async def dial(calls: Dispatcher) -> None:
        with calls.as_handler():
            await calls.wait_for("later", "answered")

    async with Dispatcher(router, pending_limit=2) as calls, anyio.create_task_group() as group:
        group.start_soon(dial, calls)
        await settle()
        for name in "ab":
            await calls.receive(js("dialout-connected", name))
        with anyio.move_on_after(0.05) as waited:
            await calls.receive(js("dialout-connected", "c"))
        assert waited.cancelled_caught
        gate.set()
        await idle(calls)
        await calls.receive(js("dialout-answered", "later"))


async def test_as_handler_ends_with_its_block_also_inside_a_handler_or_after_an_exception() -> None:
    """A handler that uses it is still a handler afterwards."""
    router, inside = Router(), list[bool]()

    @router.on(DialoutEvent)
    async def use_it(calls: Dispatcher) -> None:
        with calls.as_handler():
            inside.append(calls._backlog.in_handler)
        inside.append(calls._backlog.in_handler)

    async with Dispatcher(router) as calls:
        await calls.receive(js("dialout-connected"))
        await idle(calls)
        with suppress(ZeroDivisionError), calls.as_handler():
            inside.append(calls._backlog.in_handler)
            raise ZeroDivisionError
        inside.append(calls._backlog.in_handler)
    assert inside == [True, True, True, False]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_cancelling_the_task_of_a_handler_that_finished_changes_nothing() -> None:
    """As `loop.call_later(30, task.cancel)` does: by then its worker waits for other handlers."""
    router, tasks = Router(), list[asyncio.Task[Any]]()

    @router.on("dialout-connected")
    async def remember() -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)

    async with Dispatcher(router) as calls:
        await calls.receive(js("dialout-connected", "a"))
        await calls.idle()
        await settle()
        tasks[0].cancel()
        with anyio.CancelScope(shield=True):
            await settle()
        assert calls.is_open
        await calls.receive(js("dialout-connected", "b"))
        await calls.idle()
    assert len(tasks) == 2


@pytest.mark.long
async def test_memory_is_bounded_in_a_flood_of_events() -> None:
    """Ten times as many as may be pending. Every event is stepped, and every handler runs."""
    router = Router()
    most = runs = 0

    @router.on(DialoutEvent)
    async def work() -> None:
        nonlocal runs
        await anyio.sleep(0.002)
        runs += 1

    async with Dispatcher(router, pending_limit=200, settings=Settings(max_ended=100)) as calls:
        tracemalloc.start()
        for number in range(2000):
            await calls.receive(
                js("dialout-stopped", f"s{number}") if number % 2 else js("dialout-warning", f"w{number % 40}")
            )
            most = max(most, calls.sizes()["pending"])
        grown = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most <= 201
        await idle(calls)
    assert runs == sum(calls.counts.values()) == 2000
    assert grown < 8_000_000


# --- wait_for, changes, queries -----------------------------------------------------------------------------------


async def test_wait_for_returns_when_the_state_is_reached_or_passed() -> None:
    """An unknown id is waited for. It wakes at the step, before any handler."""
    async with Dispatcher(Router()) as calls, anyio.create_task_group() as group:
        found: list[str] = []

        async def wait(state: str) -> None:
            session = await calls.wait_for(SESSION, state, timeout=5)
            found.append(f"{state} in {session.state}")

        for state in ("connected", "answered", "stopped"):
            group.start_soon(wait, state)
        await settle()
        await calls.receive(js("dialout-answered"))
        await settle()
        assert sorted(found) == ["answered in answered", "connected in answered"]
        await calls.receive(js("dialout-error"))
        await settle()
        assert found[2:] == ["stopped in error"]
        assert calls.sizes()["waiters"] == 0


async def test_wait_for_raises_if_the_session_has_ended_or_the_time_has_passed() -> None:
    """For a terminal state it returns the ended session."""
    async with Dispatcher(Router()) as calls:
        with pytest.raises(TimeoutError):
            await calls.wait_for("nobody", State.ANSWERED, timeout=0.01)
        with pytest.raises(DefinitionError, match="state= takes one of idle, connected, answered"):
            await calls.wait_for("nobody", "answerd")
        assert calls.sizes()["waiters"] == 0
        await calls.receive(js("dialout-connected"))
        raised: list[CallEnded] = []

        async def wait() -> None:
            try:
                await calls.wait_for(SESSION, "answered", timeout=5)
            except CallEnded as error:
                raised.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await settle()
            await calls.receive(js("dialout-stopped"))
        assert [error.session.cause for error in raised] == ["unanswered"]
        with pytest.raises(CallEnded):
            await calls.wait_for(SESSION, "answered")
        assert (await calls.wait_for(SESSION, "error")).state is State.STOPPED


@pytest.mark.both_loops
async def test_leaving_raises_not_running_in_everything_that_waits() -> None:
    """In `wait_for`, and in `receive` at the pending limit."""
    router, raised = Router(), []

    @router.on(DialoutEvent)
    async def forever() -> None:
        await anyio.sleep_forever()

    async def expect_not_running(wait: Any) -> None:
        with pytest.raises(NotRunning):
            await wait()
        raised.append(wait)

    with structlog.testing.capture_logs():
        async with anyio.create_task_group() as group:  # outlives the dispatcher  # noqa: SIM117
            async with Dispatcher(router, pending_limit=1, drain=0.05) as calls:
                await calls.receive(js("dialout-connected"))
                group.start_soon(expect_not_running, partial(calls.wait_for, "nobody", "answered"))
                group.start_soon(expect_not_running, partial(calls.receive, js("dialout-answered", "b")))
                await settle()
    assert len(raised) == 2


async def test_wait_for_returns_a_session_that_has_left_memory_since() -> None:
    """It was woken at the step, and got its turn later."""
    async with Dispatcher(Router(), clock=LogClock()) as calls, anyio.create_task_group() as group:
        found: list[Session] = []

        async def wait() -> None:
            found.append(await calls.wait_for(SESSION, "stopped"))

        group.start_soon(wait)
        await settle()
        await calls.receive(js("dialout-stopped"))
        calls.retire()
        assert calls.session(SESSION) is None
    assert [session.cause for session in found] == ["unanswered"]


@pytest.mark.both_loops
async def test_two_tasks_can_share_a_reader_of_changes() -> None:
    """Each change wakes one of them."""
    async with Dispatcher(Router()) as calls:
        changes, got = calls.changes(), []

        async def read() -> None:
            change: Outcome = await anext(changes)
            got.append(change.seq)

        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(read)
                group.start_soon(read)
                for number in range(2):
                    await settle()
                    await calls.receive(js("dialout-connected", f"s{number}"))
    assert sorted(got) == [1, 2]


async def test_changes_yields_outcomes_that_open_or_move_a_session() -> None:
    """From the call on, until the dispatcher is left."""
    seen: list[str] = []

    async def follow(changes: AsyncIterator[Outcome]) -> None:
        async for outcome in changes:
            assert outcome.session is not None
            seen.append(f"{outcome.session.session_id} {outcome.event.name}")

    async with anyio.create_task_group() as group:  # outlives the dispatcher  # noqa: SIM117
        async with Dispatcher(Router()) as calls:
            changes = calls.changes()  # it follows from here on, also if it is read later
            for payload in (
                js("dialout-connected", "a"),
                js("dialout-warning", "a"),
                js("dialin-warning", "b"),
                js("dialout-answered", "a"),
            ):
                await calls.receive(payload)
            group.start_soon(follow, changes)
            await settle()
            assert calls.sizes()["subscribers"] == 1
            unread = calls.changes()
            assert calls.sizes()["subscribers"] == 2
            del unread
            gc.collect()
            assert calls.sizes()["subscribers"] == 1
    assert seen == ["a dialout-connected", "b dialin-warning", "a dialout-answered"]


async def test_sessions_legs_and_endpoints_can_be_looked_up() -> None:
    """The context is the program's own."""
    router = Router()

    @router.on_start()
    async def start(session: Session) -> None:
        session.context["bot"] = "b1"

    async with Dispatcher(router) as calls:
        await calls.receive(js("dialin-connected", "a", sipCallId="c", sipEndpoint="sip:r@x"))
        await calls.receive(js("dialout-connected", "b"))
        await calls.link("a", "b")
        await idle(calls)
        assert [leg.session_id for leg in calls.legs("c")] == ["a", "b"]
        await calls.receive(js("dialout-stopped", "b"))
        assert [session.session_id for session in calls.sessions()] == ["a", "b"]
        assert [session.session_id for session in calls.live()] == ["a"]
        assert [session.context for session in calls.sessions()] == [{"bot": "b1"}] * 2
        endpoint = calls.endpoint("r@x")
        assert endpoint is not None
        assert endpoint.session_id == "a"


async def test_an_event_id_is_the_journals_id_and_the_sequence_number() -> None:
    """Also with the journal in memory."""
    journal = MemoryJournal()
    async with Dispatcher(Router(), journal=journal) as calls:
        ids = [(await calls.receive(js("dialout-connected", str(n)))).event_id for n in range(3)]
        assert ids == [f"{journal.id}:{n}" for n in (1, 2, 3)]


# --- entering and leaving ---------------------------------------------------------------------------------------------------------


async def test_another_thread_is_refused() -> None:
    """It would step the engine beside the event loop. The error says how to get to the loop, and that works."""
    async with Dispatcher(Router()) as calls:

        def elsewhere() -> None:
            for call in (calls.receive, calls.receive_many):
                argument: Any = js("dialout-connected") if call == calls.receive else [js("dialout-connected")]
                with pytest.raises(NotRunning, match="another thread"):
                    anyio.run(call, argument)
            anyio.from_thread.run(calls.receive, js("dialout-answered"))

        await anyio.to_thread.run_sync(elsewhere)
        assert [str(session.state) for session in calls.sessions()] == ["answered"]
        assert sum(calls.counts.values()) == 1


async def test_outside_the_block_everything_raises_not_running() -> None:
    """Before and after. What is not an event changes nothing."""
    calls = Dispatcher(Router())

    async def expect_not_running() -> None:
        with pytest.raises(NotRunning, match="async with"):
            await calls.receive(js("dialout-connected"))
        with pytest.raises(NotRunning, match="async with"):
            await calls.receive_many([])
        with pytest.raises(NotRunning, match="async with"):
            await calls.wait_for(SESSION, "answered")
        with pytest.raises(NotRunning, match="async with"):
            calls.changes()
        with pytest.raises(NotRunning, match="async with"):
            calls.retire()
        with pytest.raises(NotRunning, match="async with"):
            calls.dead_letters  # noqa: B018
        with pytest.raises(NotRunning, match="async with"):
            await calls.add_dead_letter(b"x", ParseError("", "an event", "x"), "daily-js")

    await expect_not_running()
    async with calls:
        with pytest.raises(ParseError):
            await calls.receive(b"nonsense")
        assert sum(calls.counts.values()) == 0
        assert await calls.dead_letters.list() == []
    await expect_not_running()


@pytest.mark.both_loops
async def test_leaving_lets_handlers_finish_until_the_drain_deadline() -> None:
    """What is left then is cancelled. The router can be used again."""
    router, seen = Router(), []

    @router.on("dialout-connected")
    async def brief() -> None:
        await anyio.sleep(0.05)
        seen.append("finished")

    @router.on("dialin-connected")
    async def forever() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            seen.append("cancelled")

    for _ in range(2):
        async with Dispatcher(router, drain=0.3) as calls:
            await calls.receive(js("dialout-connected", "a"))
            await calls.receive(js("dialin-connected", "b"))
        assert seen == ["finished", "cancelled"]
        seen.clear()


@pytest.mark.both_loops
async def test_an_exception_in_the_block_propagates() -> None:
    """Handlers that have begun still finish."""
    router, seen = Router(), []

    @router.on("dialout-connected")
    async def brief() -> None:
        await anyio.sleep(0.02)
        seen.append("finished")

    async def block() -> None:
        async with Dispatcher(router) as calls:
            await calls.receive(js("dialout-connected"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await block()
    assert seen == ["finished"]


# --- time ---------------------------------------------------------------------------------------------------------


async def test_deadlines_run_handlers_and_silence_limits_end_sessions() -> None:
    """By the dispatcher's clock."""
    router, seen = recording()
    clock = FakeClock()

    @router.on("deadline-passed")
    async def deadline(event: Any, session: Session) -> None:
        seen.append(f"{event.deadline} at {round(clock.now() - begun)} in {session.state}")

    begun = clock.now()
    async with Dispatcher(router, clock=clock, settings=Settings(ring_deadline=30)) as calls:
        await calls.receive(js("dialout-connected"))
        await clock.advance(29)
        assert "ring at 30 in connected" not in seen
        await clock.advance(2)
        await idle(calls)
        assert seen[-1] == "ring at 30 in connected"
        await clock.advance(568)
        session = calls.session(SESSION)
        assert session is not None
        assert session.state is State.CONNECTED
        await clock.advance(2)
        await idle(calls)
        assert session.cause == "expired"
    assert seen[-3:] == ["silence at 600 in stopped", "entered stopped", "end expired"]


async def test_a_limit_that_begins_later_and_is_due_sooner_passes_in_time() -> None:
    """The timer sleeps for a day when a session with a limit of ten minutes comes."""
    clock = FakeClock()
    async with Dispatcher(Router(), clock=clock) as calls:
        await calls.receive(js("dialout-answered", "a"))
        await clock.advance(5)
        await calls.receive(js("dialout-connected", "b"))
        await clock.advance(601)
        assert [session.session_id for session in calls.live()] == ["a"]


async def test_the_end_of_a_meeting_starts_a_limit_of_a_minute() -> None:
    """For the sessions of its room."""
    clock = FakeClock()
    async with Dispatcher(Router(), clock=clock) as calls:
        await calls.receive(js("dialout-answered", room="r"))
        await clock.advance(1000)
        ended = {"room": "r", "end_ts": clock.now()}
        await calls.receive({"type": "meeting.ended", "id": "m", "payload": ended})
        await clock.advance(59)
        assert len(calls.live()) == 1
        await clock.advance(2)
        assert len(calls.live()) == 0


async def test_an_event_that_the_journal_has_before_a_due_limit_renews_it() -> None:
    """However long the limit was due."""
    clock = FakeClock()
    async with Dispatcher(Router(), clock=clock) as calls:
        await calls.receive(js("dialout-connected"))
        clock._now += 10_000
        await calls.receive(js("dialout-answered"))
        await clock.advance(1)
        session = calls.session(SESSION)
        assert session is not None
        assert (session.state, session.late) == (State.ANSWERED, 0)


@pytest.mark.both_loops
async def test_a_handler_that_fails_while_it_is_cancelled_ends_nothing_else() -> None:
    """On trio the failure and the cancellation come in one exception group."""
    router, seen = Router(), []

    async def child() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            seen.append("cleaned")
            raise ValueError("while cleaning up")

    async def two_children() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(child)
            group.start_soon(anyio.sleep_forever)

    @router.on("dialout-connected", live_only=True)
    async def while_it_lives() -> None:
        await two_children()

    @router.on("dialin-connected")
    async def until_the_drain_ends() -> None:
        await two_children()

    @router.on("dialout-warning")
    async def another() -> None:
        seen.append("another")

    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(router, drain=0.05) as calls:
            await calls.receive(js("dialout-connected", "a"))
            await calls.receive(js("dialin-connected", "b"))
            await settle()
            await calls.receive(js("dialout-stopped", "a"))
            await settle()
            await calls.receive(js("dialout-warning", "c"))
            await settle()
    assert seen == ["cleaned", "another", "cleaned"]
    assert [log["event"] for log in logs].count("handler.failed") >= 1


def test_a_dispatcher_is_made_without_an_event_loop(tmp_path: Path) -> None:
    """As a module's global. Wrong arguments raise at once."""
    Dispatcher(Router(), journal=SqliteJournal(tmp_path / "calls.db"))
    with pytest.raises(TypeError, match=r"such as telstate.journals.SqliteJournal\('calls.db'\)"):
        Dispatcher(Router(), journal=cast("Any", "calls.db"))
    with pytest.raises(TypeError, match=r"expected a telstate.Router with the handlers first, got \[<function"):
        Dispatcher(cast("Any", [js]))
    with pytest.raises(DefinitionError, match="takes an async function that returns a Presence"):
        Dispatcher(Router(), reconcile=cast("Any", print))


async def test_a_failure_is_logged_without_phone_numbers() -> None:
    """Those in the text of the exception are masked too. A log that cannot be written ends nothing."""
    router = Router()

    @router.on("dialout-connected")
    async def bad(event: DialoutEvent) -> None:
        raise ValueError("cannot call +12025550101")

    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(router) as calls:
            await calls.receive(js("dialout-connected", "s", destination="+12025550101"))
            await idle(calls)
    assert "+12" in repr(logs)
    assert "2025550101" not in repr(logs)

    def broken(*_: object) -> None:
        raise BrokenPipeError

    structlog.configure(processors=[broken])  # type: ignore[list-item]
    try:
        async with Dispatcher(router) as calls:
            await calls.receive(js("dialout-connected", "s"))
            await idle(calls)
            await calls.receive(js("dialout-stopped", "s"))
    finally:
        structlog.reset_defaults()


async def test_idle_outside_the_block_raises_not_running() -> None:
    """Neither before nor after it is anything under way that could finish."""
    calls = Dispatcher(Router())
    for _ in range(2):
        with anyio.fail_after(20), pytest.raises(NotRunning):
            await calls.idle()
        async with calls:
            await calls.idle()
