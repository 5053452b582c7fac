"""The forwards that pipecat's transport makes by itself, with the real transport and Daily's fake: who could not be forwarded is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog

from telstate import Caller, Dispatcher, Router
from telstate.sources import attach_pipecat
from telstate.testing import FakeDaily
from tests.sources.live import installed, until

pytestmark = pytest.mark.anyio

pipecat: Any = installed("pipecat.transports.daily.transport")
CALL_ID, ENDPOINT = "8e1b1cd6-4a3c-4f0c-9b55-4f4f0c6a3c11", "sip:room.0@example.sip.daily.co"
HELD = {"To": "+12025550150", "From": "+12025550142", "callId": CALL_ID, "callDomain": "d"}
REFUSED = "Unable to handle dialin-ready event (status: 404, error: Call Forwarding Failed)"


@pytest.fixture
def anyio_backend() -> str:
    """pipecat needs asyncio."""
    return "asyncio"


class Bot:
    """A dispatcher with a caller on hold, and a transport that is to forward them."""

    def __init__(self, calls: Dispatcher, transport: Any, lost: list[Caller]) -> None:
        self.calls = calls
        self.transport = transport
        self.lost = lost

    @property
    def caller(self) -> Caller:
        """The caller on hold."""
        caller = self.calls._sequencer.engine.caller(CALL_ID)
        assert caller is not None
        return caller

    async def tell(self, name: str, argument: str) -> None:
        """Let the transport call a handler, and wait for it."""
        await self.transport._call_event_handler(name, argument)
        await self.transport.cleanup()

    async def rest(self) -> None:
        """Wait until all that was delivered is applied."""
        marker = f"sip:marker.{sum(self.calls.counts.values())}@example.com"
        await self.transport._call_event_handler("on_dialin_connected", {"sessionId": marker})
        await until(lambda: self.calls.session(marker))
        await self.calls.idle()


@asynccontextmanager
async def bot(url: str = "http://127.0.0.1:9", key: str = "k") -> AsyncIterator[Bot]:
    """A bot whose transport forwards through this API."""
    settings = pipecat.DailyDialinSettings(call_id=CALL_ID, call_domain="d")
    params = pipecat.DailyParams(api_url=url, api_key=key, dialin_settings=settings)
    transport, lost, router = (
        pipecat.DailyTransport("https://example.daily.co/room", None, "bot", params),
        list[Caller](),
        Router(),
    )
    transport.input()  # pipecat passes errors on to it

    @router.on_caller_lost()
    async def note(caller: Caller) -> None:
        lost.append(caller)

    async with Dispatcher(router) as calls, attach_pipecat(calls, transport):
        await calls.receive(HELD)
        yield Bot(calls, transport, lost)


async def test_a_caller_who_cannot_be_forwarded_is_lost() -> None:
    """Daily's text is kept. They had hung up before."""
    with FakeDaily() as daily:
        async with bot(daily.url, daily.key) as it:
            await it.transport._on_dialin_ready(ENDPOINT)
            await until(lambda: it.lost)
            assert (it.caller.state, it.caller.from_) == ("failed", HELD["From"])
            assert "status: 404" in str(it.caller.error)
            assert [caller.call_id for caller in it.lost] == [CALL_ID]


async def test_when_nothing_reached_daily_they_are_lost_too() -> None:
    """Nobody listens there."""
    async with bot() as it:
        await it.transport._on_dialin_ready(ENDPOINT)
        await until(lambda: it.lost)
        assert it.caller.state == "failed"


@pytest.mark.parametrize(
    "text",
    [
        "Timeout handling dialin-ready event (https://api.daily.co/v1/dialin/pinlessCallUpdate)",
        "Unable to handle dialin-ready event (status: 502, error: bad gateway)",
        "Error handling dialin-ready event (https://api.daily.co/v1/dialin/pinlessCallUpdate): Server disconnected",
    ],
)
async def test_who_may_have_been_forwarded_is_not_lost(text: str) -> None:
    """It is logged. They connect, or are lost when the hold limit passes."""
    with structlog.testing.capture_logs() as logs:
        async with bot() as it:
            await it.tell("on_error", text)
            await it.tell("on_dialin_ready", ENDPOINT)
            await it.rest()
            assert it.caller.state == "waiting"
            assert it.lost == []
    assert [log["event"] for log in logs if log["event"].startswith("source.")] == ["source.forward_unknown"]


async def test_a_second_endpoint_that_fails_says_nothing_of_who_was_forwarded_to_the_first() -> None:
    """The transport tries each endpoint that becomes ready, and Daily refuses all but the first."""
    async with bot() as it:
        await it.tell("on_dialin_ready", ENDPOINT)
        await it.tell("on_error", REFUSED)
        await it.tell("on_dialin_ready", "sip:room.1@example.sip.daily.co")
        await it.rest()
        assert (it.caller.state, it.lost) == ("waiting", [])


async def test_a_second_endpoint_that_succeeds_amends_the_record() -> None:
    """The first was not ready."""
    async with bot() as it:
        await it.tell("on_error", REFUSED)
        await it.tell("on_dialin_ready", "sip:room.1@example.sip.daily.co")
        await until(lambda: it.lost)
        await it.tell("on_dialin_ready", ENDPOINT)
        await until(lambda: it.caller.state == "forwarded")
        assert (it.caller.forwarded_to, it.caller.amended) == (ENDPOINT, True)


async def test_without_settings_an_error_is_about_nobody() -> None:
    """It is logged."""
    transport = pipecat.DailyTransport("https://example.daily.co/room", None, "bot")
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router()) as calls, attach_pipecat(calls, transport):
            await calls.receive(HELD)
            await transport._call_event_handler("on_error", REFUSED)
            await transport.cleanup()
            await until(lambda: [log for log in logs if log["event"] == "source.error"])
            assert [caller.state for caller in calls.waiting()] == ["waiting"]
