"""The real daily-python: its class, its names, and its own thread as far as it runs without a server.

Without one it tells of refused starts and of leaving. Of everything else another thread plays its part: one that holds the
event loop still while it calls.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog
from telstate.sources._handlers import HANDLERS, STATE

from telstate import Dispatcher, Event, OutcomeKind, Router
from telstate.events import event_types
from telstate.journals import JsonlJournal
from tests.calls import js
from tests.sources.live import from_a_thread, installed, payloads, until

daily = installed("daily")
pipecat = installed("pipecat.transports.daily.transport")

from telstate.sources._daily import DailyEvents  # noqa: E402 - it needs the package that may be missing

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """asyncio alone, as these need it."""
    return "asyncio"


@asynccontextmanager
async def client_of(events: Any) -> AsyncIterator[Any]:
    """A real call client. pipecat has to initialise the native library: a second time would abort the process."""
    pipecat.DailyTransport("https://example.daily.co/room", None, "bot")
    client = daily.CallClient(event_handler=events)
    try:
        yield client
    finally:
        client.release()


@asynccontextmanager
async def heard(seen: list[Event], **options: Any) -> AsyncIterator[tuple[Dispatcher, DailyEvents]]:
    """A dispatcher whose every event is seen, and events for it."""
    router = Router()

    @router.on(Event, outcomes=OutcomeKind)
    async def see(event: Event) -> None:
        seen.append(event)

    async with Dispatcher(router) as calls:
        async with DailyEvents(calls, **options) as events:
            yield calls, events
        await calls.idle()


def test_the_names_are_those_of_the_installed_version() -> None:
    """All that the dialect reads and daily-python has: no more, no fewer, and each of them is ours."""
    read = {f"on_{name.replace('-', '_')}" for name, kind in event_types().items() if not kind.local}
    assert set(HANDLERS) == read & set(dir(daily.EventHandler))
    for name in (*HANDLERS, STATE):
        assert getattr(DailyEvents, name) is not getattr(daily.EventHandler, name)
    told = [name for name in dir(daily.EventHandler) if name.startswith(("on_dial", "on_dtmf", "on_participant"))]
    assert set(told) - set(HANDLERS) == {"on_participant_counts_updated", "on_participant_updated"}


def test_the_native_module_calls_all_of_them() -> None:
    """Its type stub leaves four out, so its own text is asked."""
    (library,) = Path(daily.__file__ or "").parent.glob("daily.*.so")
    text = library.read_bytes()
    assert [name for name in (*HANDLERS, STATE) if name.encode() not in text] == []


async def test_a_refused_start_is_told_by_daily_s_own_thread() -> None:
    """Before a room is joined, the real client refuses."""
    threads: list[str] = []
    seen: list[Event] = []
    async with heard(seen, client="bot") as (calls, events), client_of(events) as client:
        for settings in ({"phoneNumber": "+12025550101", "userId": "u1"}, {"sipUri": "sip:bob@example.com"}, {}):
            told = events.completion(settings)

            def completion(*answer: Any, told: Any = told) -> None:
                threads.append(threading.current_thread().name)
                told(*answer)

            client.start_dialout(settings, completion=completion)
        await until(lambda: len(seen) == 3)
        sessions = [calls.session(event.session_id or "") for event in seen]
    assert threading.current_thread().name not in threads
    assert [(event.action, event.call_client_id) for event in seen] == [("dialout-refused", "bot")] * 3
    assert all(event.session_id is not None and event.session_id.startswith("local-") for event in seen)
    # As a set: what is wrong with settings is told before what is wrong with the call, whichever was started first.
    assert {(s.destination, s.user_id, s.cause) for s in sessions if s is not None} == {
        ("+12025550101", "u1", "refused"),
        ("sip:bob@example.com", None, "refused"),
        (None, None, "refused"),
    }
    assert all(session is not None and session.error_msg for session in sessions)


async def test_when_the_client_has_left_sessions_are_uncertain() -> None:
    """The real client tells of leaving without having joined."""
    seen: list[Event] = []
    async with heard(seen, client="bot") as (calls, events), client_of(events) as client:
        for session_id, told_by in (("ours", "bot"), ("other", "another bot")):
            await calls.receive(js("dialout-connected", session_id, callClientId=told_by))
        client.leave()
        await until(lambda: any(session.uncertain for session in calls.live()))
        assert {session.session_id: session.uncertain for session in calls.live()} == {"ours": True, "other": False}
    assert [event.action for event in seen[2:]] == ["source-gap"]


async def test_an_accepted_start() -> None:
    """The session is there before any event of it, and knows whom we called."""
    seen: list[Event] = []
    async with heard(seen) as (calls, events):
        told = events.completion({"phoneNumber": "+12025550101", "callerId": 7})
        odd = events.completion({"phoneNumber": "", "userId": 5})

        def answer() -> None:
            told("s1", None)
            events.on_dialout_connected({"sessionId": "s1"})
            odd("s2", None)

        from_a_thread(answer)
        await until(lambda: len(seen) == 3)
        first, second = calls.session("s1"), calls.session("s2")
        assert first is not None
        assert (first.state, first.destination) == ("connected", "+12025550101")
        assert second is not None
        assert (second.destination, second.user_id) == (None, None)
    assert [event.action for event in seen] == ["dialout-requested", "dialout-connected", "dialout-requested"]


async def test_an_answer_that_says_nothing() -> None:
    """Is no start and no refusal, but is told."""
    seen: list[Event] = []
    with structlog.testing.capture_logs() as logs:
        async with heard(seen) as (_, events):
            from_a_thread(lambda: events.completion({})(None, None))
            await until(lambda: logs)
            assert seen == []
            from_a_thread(lambda: events.completion({})(None, ""))
    assert [log["event"] for log in logs] == ["source.start_unanswered"]
    assert [event.action for event in seen] == ["dialout-refused"], "an error without a text is one"


async def test_every_handler_is_heard_in_order(tmp_path: Path) -> None:
    """With the arguments that daily-python gives, kept as they came."""
    data = {"sessionId": "s"}
    person = {"id": "s", "info": {"userName": "Bob", "isLocal": False}}
    arguments: dict[str, tuple[Any, ...]] = {
        "on_dialin_ready": ("sip:room@example.sip.daily.co",),
        "on_participant_joined": (person,),
        "on_participant_left": (person, "leftCall"),
    }
    path = tmp_path / "calls"
    async with Dispatcher(Router(), journal=JsonlJournal(path)) as calls:
        async with DailyEvents(calls) as events:
            from_a_thread(lambda: [getattr(events, name)(*arguments.get(name, (data,))) for name in HANDLERS])
        assert calls.counts[OutcomeKind.MOVED] > 0
    expected = [arguments.get(name, (data,)) for name in HANDLERS]
    assert [(told["handler"], told["data"]) for told in payloads(path)] == [
        (name, list(given) if len(given) == 2 else given[0]) for name, given in zip(HANDLERS, expected, strict=True)
    ]


async def test_each_is_the_event_of_its_name() -> None:
    """Nothing of them is odd or unknown."""
    seen: list[Event] = []
    person = {"id": "s", "info": {"userName": "Bob", "isLocal": False}}
    async with heard(seen, client="bot") as (_, events):

        def tell() -> None:
            for name in HANDLERS:
                if name == "on_dialin_ready":
                    events.on_dialin_ready("sip:room@example.sip.daily.co")
                elif name == "on_participant_left":
                    events.on_participant_left(person, "leftCall")
                else:
                    getattr(events, name)(person if name == "on_participant_joined" else {"sessionId": "s"})

        from_a_thread(tell)
    told = {f"on_{event.name.replace('-', '_')}": event for event in seen}
    assert set(told) == set(HANDLERS)
    assert all(event.call_client_id == "bot" and not event.anomalies for event in seen)
    assert told["on_participant_left"].to_json().count(b"leftCall") == 1


async def test_five_thousand_callbacks_hold_up_no_thread_and_stay_in_order() -> None:
    """The event loop stands still while they come."""
    seen: list[Event] = []
    async with heard(seen) as (calls, events):

        def call() -> None:
            for number in range(5_000):
                events.on_dialout_connected({"sessionId": f"s{number}"})

        before = time.perf_counter()
        from_a_thread(call)
        took = time.perf_counter() - before
        await until(lambda: len(calls.live()) == 5_000)
        assert [session.session_id for session in calls.live()] == [f"s{n}" for n in range(5_000)]
    assert took < 5, "a millisecond each is a hundred times what it takes"


async def test_what_is_not_for_us_or_makes_no_sense() -> None:
    """Other callbacks do nothing; wrong arguments are logged, not raised, and what comes after is heard."""
    seen: list[Event] = []
    with structlog.testing.capture_logs() as logs:
        async with heard(seen) as (_, events):

            def call() -> None:
                events.on_app_message({"hello": "world"}, "somebody")
                events.on_participant_updated({"id": "x"})
                events.on_call_state_updated("joined")
                handlers: Any = events
                handlers.on_dialin_ready()
                handlers.on_participant_joined("nobody")
                handlers.on_call_state_updated()
                handlers.on_dialout_stopped({"sessionId": "s"}, "more")
                events.on_dialout_answered({"sessionId": "s"})

            from_a_thread(call)
    assert [event.action for event in seen if event.session_id] == ["dialout-stopped", "dialout-answered"]
    assert [log["handler"] for log in logs if log["event"] == "source.no_event"] == [
        "on_dialin_ready",
        "on_participant_joined",
    ]


async def test_after_the_block_callbacks_do_nothing() -> None:
    """They neither raise nor reach anybody, also when the event loop has ended."""
    async with Dispatcher(Router()) as calls:
        async with DailyEvents(calls) as events:
            from_a_thread(lambda: events.on_dialout_connected({"sessionId": "s"}))
        from_a_thread(lambda: events.on_dialout_stopped({"sessionId": "s"}))
        from_a_thread(lambda: events.completion({})("other", None))
        session = calls.session("s")
        assert session is not None
        assert session.state == "connected"
        assert len(calls.live()) == 1


def test_a_loop_that_ended_without_the_block_being_left() -> None:
    """Then nobody hears any more, and daily-python's thread is still not disturbed."""

    class Open(Dispatcher):
        is_open = True  # as if it were entered: its block would have to be left as well

    calls = Open(Router())
    loop = asyncio.new_event_loop()
    events = loop.run_until_complete(DailyEvents(calls).__aenter__())
    loop.close()
    from_a_thread(partial(events.on_dialout_connected, {"sessionId": "s"}))
    with structlog.testing.capture_logs() as logs:
        del events
        gc.collect()  # here, not while the interpreter ends
    assert [(log["event"], log["events"]) for log in logs] == [("source.left", 1)]


async def test_callbacks_of_ones_own() -> None:
    """A class that derives from it hears first, or after."""
    heard_too: list[Any] = []

    class Mine(DailyEvents):
        def __init__(self, calls: Dispatcher, name: str) -> None:
            super().__init__(calls)
            self.name = name

        def on_dialout_answered(self, data: Any) -> None:
            super().on_dialout_answered(data)
            heard_too.append((self.name, data.pop("sessionId")))

    async with Dispatcher(Router()) as calls:
        async with Mine(calls, "mine") as events:
            from_a_thread(lambda: events.on_dialout_answered({"sessionId": "s"}))
        assert calls.session("s") is not None
    assert heard_too == [("mine", "s")]
