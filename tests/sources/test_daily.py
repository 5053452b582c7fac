"""Tests with the real daily-python: its class, its callback names, and its own thread.

Without a server, daily-python reports only refused starts and leaving. For all other callbacks, another thread plays its part, and
blocks the event loop while it calls.
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

from telstate import Dispatcher, Event, OutcomeKind, Router
from telstate.events import event_types
from telstate.journals import SqliteJournal
from telstate.sources._callbacks import EVENTS, STATE
from tests.sources.live import callback_of, from_a_thread, installed, payloads, until

daily = installed("daily")
pipecat = installed("pipecat.transports.daily.transport")

from telstate.sources._daily import DailyEvents  # noqa: E402 - it needs the package that may be missing

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """These need asyncio."""
    return "asyncio"


@asynccontextmanager
async def client_of(events: Any) -> AsyncIterator[Any]:
    """A real call client. pipecat has to initialise the native library: a second initialisation would abort the process."""
    pipecat.DailyTransport("https://example.daily.co/room", None, "bot")
    client = daily.CallClient(event_handler=events)
    try:
        yield client
    finally:
        client.release()


@asynccontextmanager
async def recording(seen: list[Event], **options: Any) -> AsyncIterator[tuple[Dispatcher, DailyEvents]]:
    """A dispatcher that records every event, and a source for it."""
    router = Router()

    @router.on(Event, outcomes=OutcomeKind)
    async def see(event: Event) -> None:
        seen.append(event)

    async with Dispatcher(router) as calls:
        async with DailyEvents(calls, **options) as events:
            yield calls, events
        await calls.idle()


def test_callback_names_match_the_installed_version() -> None:
    """All callbacks that the dialect reads and daily-python has are overridden, and no others."""
    read = {callback_of(name) for name, kind in event_types().items() if not kind.local}
    assert set(EVENTS) == read & set(dir(daily.EventHandler))
    for name in (*EVENTS, STATE):
        assert getattr(DailyEvents, name) is not getattr(daily.EventHandler, name)
    names = [name for name in dir(daily.EventHandler) if name.startswith(("on_dial", "on_dtmf", "on_participant"))]
    assert set(names) - set(EVENTS) == {"on_participant_counts_updated", "on_participant_updated"}


def test_the_native_module_calls_every_callback() -> None:
    """The type stub leaves four out, so this reads the binary."""
    (library,) = Path(daily.__file__ or "").parent.glob("daily.*.so")
    text = library.read_bytes()
    assert [name for name in (*EVENTS, STATE) if name.encode() not in text] == []


async def test_a_refused_start_becomes_dialout_refused() -> None:
    """The real client refuses before a room is joined, and reports it on its own thread."""
    threads: list[str] = []
    seen: list[Event] = []
    async with recording(seen, client="bot") as (calls, events), client_of(events) as client:
        for settings in ({"phoneNumber": "+12025550101", "userId": "u1"}, {"sipUri": "sip:bob@example.com"}, {}):
            complete = events.completion(settings)

            def completion(*answer: Any, complete: Any = complete) -> None:
                threads.append(threading.current_thread().name)
                complete(*answer)

            client.start_dialout(settings, completion=completion)
        await until(lambda: len(seen) == 3)
        sessions = [calls.session(event.session_id or "") for event in seen]
    assert threading.current_thread().name not in threads
    assert [(event.action, event.call_client_id) for event in seen] == [("dialout-refused", "bot")] * 3
    assert all(event.session_id is not None and event.session_id.startswith("local-") for event in seen)
    # As a set: errors in settings are reported before errors of the call, whichever was started first.
    assert {(s.destination, s.user_id, s.cause) for s in sessions if s is not None} == {
        ("+12025550101", "u1", "refused"),
        ("sip:bob@example.com", None, "refused"),
        (None, None, "refused"),
    }
    assert all(session is not None and session.error_msg for session in sessions)


async def test_sessions_that_only_our_client_reports_are_uncertain_after_it_left() -> None:
    """The real client reports leaving without having joined."""
    seen: list[Event] = []
    async with recording(seen, client="bot") as (calls, events), client_of(events) as client:
        for session_id, told_by in (("ours", "bot"), ("other", "another bot")):
            payload = {"handler": "on_dialout_connected", "data": {"sessionId": session_id}, "callClientId": told_by}
            await calls.receive(payload)
        client.leave()
        await until(lambda: any(session.uncertain for session in calls.live()))
        assert {session.session_id: session.uncertain for session in calls.live()} == {"ours": True, "other": False}
    assert [(event.action, event.call_client_id) for event in seen[2:]] == [("left-meeting", "bot")]


async def test_an_accepted_start_opens_the_session() -> None:
    """It exists before its first event, and has the destination."""
    seen: list[Event] = []
    async with recording(seen) as (calls, events):
        complete = events.completion({"phoneNumber": "+12025550101", "callerId": 7})
        odd = events.completion({"phoneNumber": "", "userId": 5})

        def answer() -> None:
            complete("s1", None)
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


async def test_an_empty_answer_to_a_start_is_logged() -> None:
    """It is neither a start nor a refusal."""
    seen: list[Event] = []
    with structlog.testing.capture_logs() as logs:
        async with recording(seen) as (_, events):
            from_a_thread(lambda: events.completion({})(None, None))
            await until(lambda: logs)
            assert seen == []
            from_a_thread(lambda: events.completion({})(None, ""))
    assert [log["event"] for log in logs] == ["source.start_unanswered"]
    assert [event.action for event in seen] == ["dialout-refused"], "an error without a text is one"


async def test_every_callback_is_journalled_in_order(tmp_path: Path) -> None:
    """With the arguments that daily-python passes, unchanged."""
    data = {"sessionId": "s"}
    person = {"id": "s", "info": {"userName": "Bob", "isLocal": False}}
    arguments: dict[str, tuple[Any, ...]] = {
        "on_dialin_ready": ("sip:room@example.sip.daily.co",),
        "on_participant_joined": (person,),
        "on_participant_left": (person, "leftCall"),
    }
    path = tmp_path / "calls"
    async with Dispatcher(Router(), journal=SqliteJournal(path)) as calls:
        async with DailyEvents(calls) as events:
            from_a_thread(lambda: [getattr(events, name)(*arguments.get(name, (data,))) for name in EVENTS])
        assert calls.counts[OutcomeKind.MOVED] > 0
    expected = [arguments.get(name, (data,)) for name in EVENTS]
    assert [(payload["handler"], payload["data"]) for payload in await payloads(path)] == [
        (name, list(given) if len(given) == 2 else given[0]) for name, given in zip(EVENTS, expected, strict=True)
    ]


async def test_every_callback_becomes_its_event() -> None:
    """Without anomalies."""
    seen: list[Event] = []
    person = {"id": "s", "info": {"userName": "Bob", "isLocal": False}}
    async with recording(seen, client="bot") as (_, events):

        def call_all() -> None:
            for name in EVENTS:
                if name == "on_dialin_ready":
                    events.on_dialin_ready("sip:room@example.sip.daily.co")
                elif name == "on_participant_left":
                    events.on_participant_left(person, "leftCall")
                else:
                    getattr(events, name)(person if name == "on_participant_joined" else {"sessionId": "s"})

        from_a_thread(call_all)
    events_by_name = {callback_of(event.name): event for event in seen}
    assert set(events_by_name) == set(EVENTS)
    assert all(event.call_client_id == "bot" and not event.anomalies for event in seen)
    assert events_by_name["on_participant_left"].to_json().count(b"leftCall") == 1


async def test_five_thousand_callbacks_do_not_block_and_keep_order() -> None:
    """The event loop is blocked while they come."""
    seen: list[Event] = []
    async with recording(seen) as (calls, events):

        def call() -> None:
            for number in range(5_000):
                events.on_dialout_connected({"sessionId": f"s{number}"})

        before = time.process_time()
        from_a_thread(call)
        took = time.process_time() - before
        await until(lambda: len(calls.live()) == 5_000)
        assert [session.session_id for session in calls.live()] == [f"s{n}" for n in range(5_000)]
    assert took < 5, "a millisecond each is a hundred times what it takes"


async def test_other_callbacks_and_wrong_arguments_raise_nothing() -> None:
    """Other callbacks are ignored; wrong arguments are logged; later callbacks work."""
    seen: list[Event] = []
    with structlog.testing.capture_logs() as logs:
        async with recording(seen) as (_, events):

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
    assert [log["handler"] for log in logs if log["event"] == "source.unreadable"] == [
        "on_dialin_ready",
        "on_participant_joined",
    ]


async def test_after_the_block_callbacks_do_nothing() -> None:
    """They neither raise nor change anything."""
    async with Dispatcher(Router()) as calls:
        async with DailyEvents(calls) as events:
            from_a_thread(lambda: events.on_dialout_connected({"sessionId": "s"}))
        from_a_thread(lambda: events.on_dialout_stopped({"sessionId": "s"}))
        from_a_thread(lambda: events.completion({})("other", None))
        session = calls.session("s")
        assert session is not None
        assert session.state == "connected"
        assert len(calls.live()) == 1


def test_callbacks_after_the_event_loop_has_ended_do_not_raise() -> None:
    """The block was never left."""

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
    assert [(log["event"], log["events"]) for log in logs] == [("source.events_lost", 1)]


async def test_a_subclass_can_have_its_own_callbacks() -> None:
    """It calls `super()`."""
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
