"""Tests with the real pipecat: its `DailyTransport` and its registry of handlers, without joining a room."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from telstate import Dispatcher, Event, OutcomeKind, Router, State
from telstate.journals import SqliteJournal
from telstate.sources import attach_pipecat
from telstate.sources._callbacks import EVENTS, STATE
from tests.sources.live import callback_of, installed, payloads, until

pipecat = installed("pipecat.transports.daily.transport")
base: Any = installed("pipecat.transports.base_transport")

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """These need asyncio."""
    return "asyncio"


def transport_of() -> Any:
    """A real transport that has not joined."""
    return pipecat.DailyTransport("https://example.daily.co/room", None, "bot")


class OtherTransport(base.BaseTransport):  # type: ignore[misc]
    """A real transport of another kind, with some events."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        for name in names:
            self._register_event_handler(name)

    def input(self) -> Any:
        """None."""

    def output(self) -> Any:
        """None."""


@asynccontextmanager
async def running(transport: Any) -> AsyncIterator[None]:
    """Set the real client up, as a pipeline does."""
    tasks, frames, clocks = (
        installed(name)
        for name in (
            "pipecat.utils.asyncio.task_manager",
            "pipecat.processors.frame_processor",
            "pipecat.clocks.system_clock",
        )
    )
    setup = frames.FrameProcessorSetup(
        clock=clocks.SystemClock(), task_manager=tasks.TaskManager(), pipeline_worker=None
    )
    await transport._client.setup(setup)
    try:
        yield
    finally:
        await transport._client.cleanup()


def test_the_installed_transport_has_all_events() -> None:
    """pipecat's own registry has each of them."""
    transport = transport_of()
    assert {*EVENTS, STATE, "on_left"} <= set(transport._event_handlers)


def test_the_module_does_not_import_pipecat() -> None:
    """Nor daily-python."""
    code = "import sys, telstate.sources._pipecat; print(*{name.split('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert not {"pipecat", "daily"} & set(run.stdout.decode().split())


@pytest.mark.parametrize("journalled", [False, True])
async def test_the_order_is_kept(journalled: bool, tmp_path: Path) -> None:
    """pipecat runs each handler in its own task, and the journal lets tasks overtake each other."""
    transport = transport_of()
    number = 200 if journalled else 1_000
    journal = SqliteJournal(tmp_path / "calls") if journalled else None
    async with Dispatcher(Router(), journal=journal) as calls:
        async with attach_pipecat(calls, transport):
            for n in range(number):
                await transport._call_event_handler("on_dialout_connected", {"sessionId": f"s{n}"})
            await transport.cleanup()  # pipecat's own waiting for handlers
        assert [session.session_id for session in calls.live()] == [f"s{n}" for n in range(number)]
    if journalled:
        kept = [payload["data"]["sessionId"] for payload in await payloads(tmp_path / "calls")]
        assert kept == [f"s{n}" for n in range(number)]


async def test_every_event_is_delivered() -> None:
    """With the arguments that the transport passes."""
    transport, seen = transport_of(), list[Event]()
    router = Router()

    @router.on(Event, outcomes=OutcomeKind)
    async def see(event: Event) -> None:
        seen.append(event)

    person = {"id": "s", "info": {"userName": "Bob"}}
    async with Dispatcher(router) as calls:
        async with attach_pipecat(calls, transport, client="bot"):
            for name in EVENTS:
                if name == "on_participant_left":
                    await transport._call_event_handler(name, person, "leftCall")
                elif name == "on_participant_joined":
                    await transport._call_event_handler(name, person)
                elif name == "on_dialin_ready":
                    await transport._on_dialin_ready("sip:room@example.sip.daily.co")
                else:
                    await getattr(transport, f"_{name}")({"sessionId": "s"})
            await transport.cleanup()
        await calls.idle()
    assert {callback_of(event.name) for event in seen} == set(EVENTS)
    assert all(event.call_client_id == "bot" and not event.anomalies for event in seen)
    assert all(event.room == "room" for event in seen)  # by the URL that the transport joins


@pytest.mark.parametrize(("name", "arguments"), [("on_left", ()), (STATE, ("left",))])
async def test_sessions_are_uncertain_after_the_bot_left(name: str, arguments: tuple[str, ...]) -> None:
    """An orderly leave comes as `on_left`, an ejection as a state."""
    transport = transport_of()
    async with Dispatcher(Router()) as calls, attach_pipecat(calls, transport):
        await transport._on_call_state_updated("joined")
        await transport._on_dialout_answered({"sessionId": "s"})
        session = await calls.wait_for("s", State.ANSWERED, timeout=20)
        assert not session.uncertain
        await getattr(transport, f"_{name}")(*arguments)
        await until(lambda: session.uncertain)


async def test_interrupted_signalling_makes_its_sessions_uncertain_and_so_does_its_return() -> None:
    """Of the interrupted transport alone. The connections of media have no effect, nor has a first connect."""
    first, second = transport_of(), pipecat.DailyTransport("https://example.daily.co/other", None, "bot")
    async with (
        Dispatcher(Router()) as calls,
        attach_pipecat(calls, first, client="first"),
        attach_pipecat(calls, second),
    ):
        for transport, session_id in ((first, "a"), (second, "b")):
            await transport._on_network_connection_status_updated({"connection": "signalling", "event": "connected"})
            await transport._on_dialout_answered({"sessionId": session_id})
            await transport._on_network_connection_status_updated(
                {"connection": "sendTransport", "event": "interrupted"}
            )
        await until(lambda: sum(calls.counts.values()) == 6)
        assert not any(session.uncertain for session in calls.live())
        for status in ("interrupted", "connected"):
            await first._on_network_connection_status_updated({"connection": "signalling", "event": status})
            await until(lambda: [session.uncertain for session in calls.live()] == [True, False])
            await first._on_dtmf_event({"sessionId": "a", "tone": "1"})
            await until(lambda: not any(session.uncertain for session in calls.live()))


async def test_other_handlers_keep_working() -> None:
    """Added before or after, async or not; they may change what they get."""
    transport, seen = transport_of(), list[str]()

    @transport.event_handler("on_dialout_answered")  # type: ignore[untyped-decorator]
    async def before(_transport: Any, data: Any) -> None:
        await anyio.lowlevel.checkpoint()
        seen.append(f"before {data['sessionId']}")

    async with Dispatcher(Router()) as calls, attach_pipecat(calls, transport):

        @transport.event_handler("on_dialout_answered")  # type: ignore[untyped-decorator]
        def after(_transport: Any, data: Any) -> None:
            seen.append(f"after {data['sessionId']}")

        await transport._call_event_handler("on_dialout_answered", {"sessionId": "s"})
        await transport.cleanup()
        await until(lambda: calls.session("s"))
    assert sorted(seen) == ["after s", "before s"]


async def test_events_after_the_block_are_ignored() -> None:
    """Those that wait are delivered before."""
    transport = transport_of()
    async with Dispatcher(Router()) as calls:
        async with attach_pipecat(calls, transport):
            await transport._call_event_handler("on_dialout_connected", {"sessionId": "s"})
            await transport.cleanup()
        await transport._call_event_handler("on_dialout_stopped", {"sessionId": "s"})
        await transport.cleanup()
        session = calls.session("s")
        assert session is not None
        assert session.state == "connected"


async def test_a_refused_start_becomes_dialout_refused() -> None:
    """By the real client, which has not joined a room."""
    transport = transport_of()
    async with Dispatcher(Router()) as calls, running(transport):
        async with attach_pipecat(calls, transport, client="bot") as source:
            answer = await source.start_dialout({"phoneNumber": "+12025550101"})
        (session,) = calls.sessions()
        assert answer[0] is None
        assert answer[1] is not None
        assert session.error_msg == answer[1]
        assert session.session_id.startswith("local-")
        assert (session.cause, session.destination) == ("refused", "+12025550101")
        assert session.call_client_id == "bot"


async def test_an_accepted_start_opens_the_session() -> None:
    """Only a room accepts one, so here the transport's method is replaced."""

    class Accepting(pipecat.DailyTransport):  # type: ignore[misc, name-defined]
        async def start_dialout(self, settings: Any = None) -> Any:
            """Return what the real one returns for an accepted start."""
            return ("s1" if settings else None), None

    transport = Accepting("https://example.daily.co/room", None, "bot")
    async with Dispatcher(Router()) as calls:
        async with attach_pipecat(calls, transport) as source:
            assert await source.start_dialout({"sipUri": "sip:bob@example.com", "userId": "u1"}) == ("s1", None)
        session = calls.session("s1")
        assert session is not None
        assert (session.state, session.destination, session.user_id) == ("idle", "sip:bob@example.com", "u1")


async def test_an_exception_of_a_start_is_raised() -> None:
    """Here, because no pipeline runs."""
    transport = transport_of()
    async with Dispatcher(Router()) as calls:
        async with attach_pipecat(calls, transport) as source:
            with pytest.raises(Exception, match="pipeline not started"):
                await source.start_dialout({"phoneNumber": "+12025550101"})
        assert sum(calls.counts.values()) == 0


async def test_events_that_a_transport_lacks_are_left_out(capfd: pytest.CaptureFixture[str]) -> None:
    """pipecat would log a warning for each."""
    transport = OtherTransport("on_dialin_connected", "on_other")
    async with Dispatcher(Router()) as calls:
        async with attach_pipecat(calls, transport):
            await transport._call_event_handler("on_dialin_connected", {"sessionId": "s"})
            await transport.cleanup()
        assert [session.session_id[-2:] for session in calls.live()] == ["-s"]
    assert {name: len(known.handlers) for name, known in transport._event_handlers.items()} == {
        "on_dialin_connected": 1,
        "on_other": 0,
    }
    assert "not registered" not in capfd.readouterr().err


async def test_a_transport_without_registry_gets_all_handlers() -> None:
    """It need not be pipecat's."""
    added: dict[str, Any] = {}

    class Plain:
        def add_event_handler(self, name: str, handler: Any) -> None:
            """Keep the handler."""
            added[name] = handler

    transport = Plain()
    async with Dispatcher(Router()) as calls:
        async with attach_pipecat(calls, transport):
            added["on_dialin_stopped"](transport, {"sessionId": "s"})
        assert [session.session_id[-2:] for session in calls.sessions()] == ["-s"]
    assert set(added) == {*EVENTS, STATE, "on_left", "on_error"}


async def test_a_transport_without_phone_calls_is_refused() -> None:
    """The error has advice, and nothing is registered."""
    transport = OtherTransport("on_participant_joined", "on_client_connected")
    async with Dispatcher(Router()) as calls:
        with pytest.raises(
            TypeError, match=r"OtherTransport has none of Daily's dial-in .* attach to the DailyTransport"
        ):
            attach_pipecat(calls, transport)
        with pytest.raises(TypeError, match=r"takes a pipecat transport, such as DailyTransport.*, not dict"):
            attach_pipecat(calls, {})
    assert not any(known.handlers for known in transport._event_handlers.values())


def test_without_a_running_loop_it_raises() -> None:
    """Nothing is registered."""
    transport = transport_of()
    with pytest.raises(RuntimeError, match="need asyncio"):
        attach_pipecat(Dispatcher(Router()), transport)
    assert not transport._event_handlers["on_dialin_ready"].handlers
