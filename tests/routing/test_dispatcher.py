"""The dispatcher: the right handlers, in the right order, and nobody waits for anybody else's."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator
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
from telstate.journals import SqliteJournal
from telstate.testing import FakeClock, Noise, simulate
from telstate.testing._clock import settle
from tests.calls import SESSION, joined, js

pytestmark = pytest.mark.anyio


async def quiet(calls: Dispatcher) -> None:
    """Wait until nothing runs or waits."""
    with anyio.fail_after(10):
        await calls.idle()


def recording() -> tuple[Router, list[str]]:
    """A router whose handlers write down what they were called for."""
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


# --- which handlers, in which order -------------------------------------------------------------------------------


async def test_start_event_states_end() -> None:
    """In this order for each event; a jump enters the target only."""
    router, seen = recording()
    async with Dispatcher(router) as calls:
        await calls.receive(js("dialout-answered"))
        await calls.receive(js("dialout-stopped"))
        await quiet(calls)
    assert seen == [
        "start dialout",
        "dialout-answered",
        "entered answered",
        "dialout-stopped",
        "entered stopped",
        "end completed",
    ]


async def test_only_news_reaches_handlers_that_do_not_ask() -> None:
    """Nobody greets a caller who has hung up; on_end comes once, whatever is told later."""
    router, seen = recording()
    asked: list[str] = []

    @router.on(DialoutAnswered, outcomes=[OutcomeKind.LATE, OutcomeKind.DUPLICATE])
    async def late(outcome: Outcome) -> None:
        asked.append(outcome.kind)

    async with Dispatcher(router) as calls:
        await calls.receive(js("dialout-stopped"))
        await quiet(calls)
        for payload in (js("dialout-answered"), js("dialout-answered"), js("dialin-connected")):
            await calls.receive(payload)
        await calls.receive(js("dialout-error"))
        await quiet(calls)
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


async def test_every_session_ends_once_whatever_the_day_brings() -> None:
    """Promise 2: one on_end for each that ended, none for the others, over shuffled and repeated events."""
    router, ends = Router(), Counter[str]()

    @router.on_end()
    async def end(session: Session) -> None:
        ends[session.session_id] += 1

    noise = Noise(lost=0.1, repeated=0.3, swapped=0.3, delayed=0.1)
    async with Dispatcher(router, clock=LogClock()) as calls:
        ended: set[str] = set()
        for sent in simulate(
            9, calls=300, dialects=["daily-js", "webhook", "daily-python"], twice=0.4, noise=noise, span=1800.0
        ):
            outcome = await calls.receive(sent.payload)
            if outcome.session is not None and outcome.session.ended:
                ended.add(outcome.session.session_id)
        await quiet(calls)
    assert set(ends) == ended
    assert len(ended) > 250
    assert set(ends.values()) == {1}


async def test_transitions_are_logged_when_asked_without_numbers() -> None:
    """One line each, with what finds the call again."""
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
    }
    assert logs == [
        {**line, "source": "idle", "target": "answered", "cause": None},
        {**line, "source": "answered", "target": "stopped", "cause": "completed"},
    ]


async def test_events_that_waited_run_state_handlers_but_not_event_handlers() -> None:
    """They had their outcome when they came."""
    router, seen = recording()
    async with Dispatcher(router) as calls:
        await calls.receive(joined())
        await calls.receive(js("dialin-connected"))
        await quiet(calls)
    assert seen == ["start dialin", "dialin-connected", "entered connected", "entered answered"]


async def test_filters_see_the_state_as_it_was() -> None:
    """Not as it is when the handler's turn comes."""
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
        await quiet(calls)
    assert seen == ["dialout-connected now stopped", "by provider dialout-answered"]


async def test_a_filter_that_raises_is_named_and_costs_nobody_else() -> None:
    """Its handler does not run."""
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
            await quiet(calls)
    assert seen == ["fine"]
    assert [log["event"] for log in logs] == ["filter.failed"]


async def test_events_of_no_session_and_unmatched_ones() -> None:
    """They have handlers too."""
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
        await quiet(calls)
    assert seen == ["dialin-ready of None", "unmatched dialout-error"]


async def test_middleware_wraps_the_outer_around_the_inner() -> None:
    """Each handler on its own; it may look, and may leave the handler out."""
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
        await quiet(calls)
    one = ["before first", "first", "after", "before second", "inside", "second", "after"]
    assert seen == one + [word for word in one if word != "second"]


async def test_retired_sessions_are_told_once_with_the_final_truth() -> None:
    """When their retention has passed."""
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
        await quiet(calls)
    assert seen == [(SESSION, "completed")]


# --- nobody waits for anybody else --------------------------------------------------------------------------------


async def test_a_thousand_sessions_in_order_without_overlap() -> None:
    """Promise 4, by intervals: handlers that sleep, raise, hang for a while and swallow cancellations."""
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
            await quiet(calls)
            assert len(calls.live()) == 0
            assert calls.sizes()["lanes"] == 0
    assert len(intervals) == 1000
    for told in intervals.values():
        assert [name for _, _, name in told] == names
        assert all(before[1] <= after[0] for before, after in pairwise(told))
    assert sum(log["event"] == "handler.failed" for log in logs) == 800


async def test_a_handler_that_hangs_holds_up_neither_receive_nor_other_sessions() -> None:
    """It is named in the log, once."""
    router, seen = Router(), []

    @router.on(DialoutEvent)
    async def work(session: Session) -> None:
        if session.session_id == "stuck":
            await anyio.sleep(60)
        seen.append(session.session_id)

    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(router, slow_after=0.05, drain=0.01) as calls:
            with anyio.fail_after(2):
                await calls.receive(js("dialout-connected", "stuck"))
                for number in range(200):
                    await calls.receive(js("dialout-connected", f"s{number}"))
                    await calls.receive(js("dialout-warning", "stuck"))
                while len(seen) < 200:
                    await checkpoint()
                await anyio.sleep(0.2)
    assert set(seen) == {f"s{number}" for number in range(200)}
    slow = [log for log in logs if log["event"] == "handler.slow"]
    assert [log["lane"] for log in slow] == ["stuck"]
    assert 0 < slow[0]["waiting"] <= 200  # it is named while they come in, on a machine that is busy
    assert [log["events"] for log in logs if log["event"] == "dispatcher.left_unfinished"] == [201]


async def test_a_handler_that_raises_stops_nothing_and_is_told_in_full() -> None:
    """With the session, the event and the traceback; those who watch errors are told, and may raise themselves."""
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
        raise RuntimeError("the watcher too")

    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(router) as calls:
            outcome = await calls.receive(js("dialout-answered", "s", sipCallId="c"))
            await quiet(calls)
    assert seen == ["breaks: no such number in s", "went on"]
    failed, watcher = logs
    assert (failed["event"], failed["session_id"], failed["sip_call_id"], failed["direction"]) == (
        "handler.failed",
        "s",
        "c",
        "dialout",
    )
    assert failed["event_id"] == outcome.event_id
    assert failed["exception"].startswith("Traceback (most recent call last)")
    assert "no such number" in failed["exception"]
    assert watcher["event"] == "handler_error.failed"


async def test_a_cancellation_from_elsewhere_is_only_a_failure() -> None:
    """A handler that awaits something which was cancelled gets the exception, and must not take its lane along."""
    router, seen = Router(), []

    @router.on("dialout-connected")
    async def hurt() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            try:
                await checkpoint()
            except anyio.get_cancelled_exc_class() as error:
                cancelled = error
        raise cancelled

    @router.on("dialout-answered")
    async def next_one() -> None:
        seen.append("next")

    @router.on_handler_error()
    async def watch(error: Exception) -> None:
        seen.append(type(error).__name__)

    async with Dispatcher(router) as calls:
        await calls.receive(js("dialout-connected"))
        await calls.receive(js("dialout-answered"))
        await quiet(calls)
    assert seen == ["RuntimeError", "next"]


async def test_a_handler_that_cancels_its_own_task_hurts_nobody(anyio_backend: str) -> None:
    """asyncio lets it; the task is the worker's."""
    if anyio_backend != "asyncio":
        return
    router, seen = Router(), []

    @router.on(DialoutEvent)
    async def work(event: Event, session: Session) -> None:
        task = asyncio.current_task()
        assert task is not None
        if session.session_id in ("before", "while"):
            task.cancel()
        if session.session_id == "while":
            await checkpoint()
        await checkpoint() if session.session_id.startswith("s") else None
        seen.append(f"{session.session_id} {event.name}")

    with structlog.testing.capture_logs():
        async with Dispatcher(router) as calls:
            for name in ("connected", "answered"):
                for session_id in ("s1", "before", "s2", "while", "s3"):
                    await calls.receive(js(f"dialout-{name}", session_id))
            await quiet(calls)
            assert calls.sizes()["lanes"] == 0
    assert sorted(seen) == sorted(
        f"{key} dialout-{name}" for key in ("s1", "s2", "s3", "before") for name in ("connected", "answered")
    )


async def test_an_exception_that_cannot_say_its_text_and_a_watcher_that_is_cancelled() -> None:
    """Neither reaches the next handler."""
    router, seen = Router(), []

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    @router.on("dialout-connected")
    async def breaks() -> None:
        raise Mute

    @router.on_handler_error()
    async def watch() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            try:
                await checkpoint()
            except anyio.get_cancelled_exc_class() as error:
                cancelled = error
        raise cancelled

    @router.on("dialout-answered")
    async def after() -> None:
        seen.append("after")

    with structlog.testing.capture_logs():
        async with Dispatcher(router) as calls:
            await calls.receive(js("dialout-connected"))
            await calls.receive(js("dialout-answered"))
            await quiet(calls)
    assert seen == ["after"]


async def test_handlers_do_not_run_in_the_context_of_whoever_brought_the_event() -> None:
    """A request's user must not be the user of the next call."""
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
        await quiet(calls)
    assert seen == ["nobody"]


async def test_what_a_handler_sets_in_its_context_no_other_handler_sees() -> None:
    """Not the next of its session, not the next of its worker; what it calls and what it starts does."""
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
        raise RuntimeError("seen by the one that looks at errors")

    @router.on_handler_error()
    async def look(session: Session) -> None:
        seen.append((session.session_id, "error", user.get()))

    async with Dispatcher(router) as calls:
        for number in range(3):
            await calls.receive(js("dialout-connected", f"s{number}"))
        await quiet(calls)
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


async def test_live_only_handlers_end_with_their_session() -> None:
    """Cancelled when it ends, not started if it has."""
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
        await quiet(calls)
    assert seen == ["talking", "cut off in stopped", "end"]


# --- bounds -------------------------------------------------------------------------------------------------------


async def test_a_full_lane_gives_handlers_up_but_never_the_state() -> None:
    """Dead letters, and said in the log."""
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
            await quiet(calls)
    assert seen == ["dialout-connected"] + ["dialout-warning"] * 3
    assert [log["reason"] for log in logs] == ["LaneFull"] * 8


async def test_only_the_global_limit_makes_receive_wait_and_never_inside_a_handler() -> None:
    """A handler that receives is one of those that would be waited for."""
    router = Router()
    gate = anyio.Event()
    told: list[str] = []

    @router.on("dialout-connected")
    async def wait(session: Session, calls: Dispatcher) -> None:
        if session.session_id == "first":
            await calls.receive(js("dialout-warning", "inside"))
            told.append("received inside")
        await gate.wait()

    @router.on("dialout-warning")
    async def warned(session: Session) -> None:
        told.append(f"warned {session.session_id}")

    async with Dispatcher(router, pending_limit=5) as calls:
        await calls.receive(js("dialout-connected", "first"))
        for number in range(4):
            await calls.receive(js("dialout-connected", str(number)))
        await settle()
        assert "received inside" in told
        with anyio.move_on_after(0.05) as waited:
            await calls.receive(js("dialout-connected", "more"))
        assert waited.cancelled_caught
        assert calls.session("more") is None
        async with anyio.create_task_group() as group:
            group.start_soon(calls.receive, js("dialout-connected", "more"))
            await settle()
            gate.set()
        assert calls.session("more") is not None
        await quiet(calls)


async def test_a_handler_that_waits_for_an_event_does_not_stand_in_its_way() -> None:
    """At the global limit `receive` waits for handlers, but not for those that wait for what it brings."""
    router, seen = Router(), []

    @router.on("dialout-connected")
    async def wait(session: Session, calls: Dispatcher) -> None:
        seen.append(await calls.wait_for(session.session_id, "answered"))

    async with Dispatcher(router, pending_limit=3) as calls:
        with anyio.fail_after(5):
            for name in ("dialout-connected", "dialout-answered"):
                for number in range(10):
                    await calls.receive(js(name, f"s{number}"))
        await quiet(calls)
    assert len(seen) == 10


async def test_a_flood_of_ten_times_what_handlers_can_take() -> None:
    """Memory is bounded by the limit, not by the flood; every event is stepped, and every handler runs."""
    router = Router()
    most = runs = 0

    @router.on(DialoutEvent)
    async def work() -> None:
        nonlocal runs
        await anyio.sleep(0.002)
        runs += 1

    async with Dispatcher(router, pending_limit=500, settings=Settings(max_ended=100)) as calls:
        tracemalloc.start()
        for number in range(5000):
            await calls.receive(
                js("dialout-stopped", f"s{number}") if number % 2 else js("dialout-warning", f"w{number % 40}")
            )
            most = max(most, calls.sizes()["pending"])
        grown = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most <= 501
        await quiet(calls)
    assert runs == sum(calls.counts.values()) == 5000
    assert grown < 20_000_000


# --- waiting, following, asking -----------------------------------------------------------------------------------


async def test_wait_for_a_state() -> None:
    """Reached or passed; an unknown id is waited for; it wakes at the step, not in the lane."""
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


async def test_wait_for_what_will_not_come() -> None:
    """It ended before, or the time passed."""
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


async def test_nobody_waits_for_a_closed_dispatcher() -> None:
    """Neither for a state nor for room."""
    router, told = Router(), []

    @router.on(DialoutEvent)
    async def forever() -> None:
        await anyio.sleep_forever()

    async def expect_closed(wait: Any) -> None:
        with pytest.raises(NotRunning):
            await wait()
        told.append("closed")

    with structlog.testing.capture_logs():
        async with anyio.create_task_group() as group:  # outlives the dispatcher  # noqa: SIM117
            async with Dispatcher(router, pending_limit=1, drain=0.05) as calls:
                await calls.receive(js("dialout-connected"))
                group.start_soon(expect_closed, partial(calls.wait_for, "nobody", "answered"))
                group.start_soon(expect_closed, partial(calls.receive, js("dialout-answered", "b")))
                await settle()
    assert told == ["closed", "closed"]


async def test_who_waited_gets_a_session_that_has_left_memory_since() -> None:
    """It was woken at the step, and had its turn only later."""
    async with Dispatcher(Router()) as calls, anyio.create_task_group() as group:
        found: list[Session] = []

        async def wait() -> None:
            found.append(await calls.wait_for(SESSION, "stopped"))

        group.start_soon(wait)
        await settle()
        await calls.receive(js("dialout-stopped"))
        calls.retire()
        assert calls.session(SESSION) is None
    assert [session.cause for session in found] == ["unanswered"]


async def test_changes_can_be_followed() -> None:
    """Each outcome that opened a session or let one rise, until the dispatcher closes."""
    seen: list[str] = []

    async def follow(changes: AsyncIterator[Outcome]) -> None:
        async for outcome in changes:
            assert outcome.session is not None
            seen.append(f"{outcome.session.session_id} {outcome.event.name}")

    async with anyio.create_task_group() as group:  # outlives the dispatcher  # noqa: SIM117
        async with Dispatcher(Router()) as calls:
            changes = calls.changes()  # it follows from here on, whenever it is first read
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


async def test_questions_and_context() -> None:
    """What the engine knows, the dispatcher tells; the context is the program's own."""
    router = Router()

    @router.on_start()
    async def start(session: Session) -> None:
        session.context["bot"] = "b1"

    async with Dispatcher(router) as calls:
        await calls.receive(js("dialin-connected", "a", sipCallId="c", sipEndpoint="sip:r@x"))
        await calls.receive(js("dialout-connected", "b"))
        await calls.link("a", "b")
        await quiet(calls)
        assert [leg.session_id for leg in calls.legs("c")] == ["a", "b"]
        assert [session.context for session in calls.live()] == [{"bot": "b1"}] * 2
        endpoint = calls.endpoint("r@x")
        assert endpoint is not None
        assert endpoint.session_id == "a"


async def test_outcomes_have_ids_for_good() -> None:
    """The journal's own, and the number."""
    async with Dispatcher(Router()) as calls:
        ids = [(await calls.receive(js("dialout-connected", str(n)))).event_id for n in range(3)]
    journal, _, first = str(ids[0]).rpartition(":")
    assert journal.startswith("memory-")
    assert first == "1"
    assert ids == [f"{journal}:{n}" for n in (1, 2, 3)]


# --- life ---------------------------------------------------------------------------------------------------------


async def test_outside_its_block_it_is_closed() -> None:
    """Before and after; and what is no event changes nothing."""
    calls = Dispatcher(Router())
    with pytest.raises(NotRunning, match="async with"):
        await calls.receive(js("dialout-connected"))
    async with calls:
        with pytest.raises(ParseError):
            await calls.receive(b"nonsense")
        assert sum(calls.counts.values()) == 0
    with pytest.raises(NotRunning):
        await calls.receive(js("dialout-connected"))


async def test_leaving_lets_handlers_finish_within_the_deadline() -> None:
    """And cancels what is left then; the router can be used again."""
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


async def test_an_exception_in_the_block_comes_through() -> None:
    """And handlers that began still finish."""
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


async def test_deadlines_tell_their_handlers_and_silence_ends_a_session() -> None:
    """On the clock that is given."""
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
        await quiet(calls)
        assert seen[-1] == "ring at 30 in connected"
        await clock.advance(568)
        session = calls.session(SESSION)
        assert session is not None
        assert session.state is State.CONNECTED
        await clock.advance(2)
        await quiet(calls)
        assert session.cause == "expired"
    assert seen[-3:] == ["silence at 600 in stopped", "entered stopped", "end expired"]


async def test_a_shorter_limit_that_comes_later_is_not_overslept() -> None:
    """The timer sleeps for a day, when a session with ten minutes comes."""
    clock = FakeClock()
    async with Dispatcher(Router(), clock=clock) as calls:
        await calls.receive(js("dialout-answered", "a"))
        await clock.advance(5)
        await calls.receive(js("dialout-connected", "b"))
        await clock.advance(601)
        assert [session.session_id for session in calls.live()] == ["a"]


async def test_a_limit_that_no_session_event_arms_is_kept_too() -> None:
    """A meeting's end leaves its calls a minute."""
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


async def test_an_event_that_arrives_before_a_due_limit_is_appended_renews_it() -> None:
    """What the journal has first wins, however long the limit was due."""
    clock = FakeClock()
    async with Dispatcher(Router(), clock=clock) as calls:
        await calls.receive(js("dialout-connected"))
        clock._now += 10_000
        await calls.receive(js("dialout-answered"))
        await clock.advance(1)
        session = calls.session(SESSION)
        assert session is not None
        assert (session.state, session.late) == (State.ANSWERED, 0)


async def test_a_handler_whose_clean_up_fails_when_it_is_cut_off_ends_nothing_else() -> None:
    """On trio such a thing comes together with the cancellation, in one group."""
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
    async def cut_off() -> None:
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


def test_it_is_made_without_an_event_loop(tmp_path: Path) -> None:
    """As a module's global; what it cannot be made of is told at once."""
    Dispatcher(Router(), journal=SqliteJournal(tmp_path / "calls.db"))
    with pytest.raises(TypeError, match=r"such as telstate.journals.SqliteJournal\('calls.db'\)"):
        Dispatcher(Router(), journal=cast("Any", "calls.db"))
    with pytest.raises(DefinitionError, match="takes an async function that returns a Presence"):
        Dispatcher(Router(), reconcile=cast("Any", print))


async def test_a_failure_is_told_without_phone_numbers() -> None:
    """Those in its text as well; and a log that cannot be written ends nothing."""
    router = Router()

    @router.on("dialout-connected")
    async def bad(event: DialoutEvent) -> None:
        raise ValueError("cannot call +12025550101")

    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(router) as calls:
            await calls.receive(js("dialout-connected", "s", destination="+12025550101"))
            await quiet(calls)
    assert "+12" in repr(logs)
    assert "2025550101" not in repr(logs)

    def broken(*_: object) -> None:
        raise BrokenPipeError

    structlog.configure(processors=[broken])  # type: ignore[list-item]
    try:
        async with Dispatcher(router) as calls:
            await calls.receive(js("dialout-connected", "s"))
            await quiet(calls)
            await calls.receive(js("dialout-stopped", "s"))
    finally:
        structlog.reset_defaults()
