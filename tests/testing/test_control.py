"""The fake control: handlers and dialers are tested without Daily."""

from __future__ import annotations

import anyio
import pytest

from telstate import (
    CallEnded,
    Dispatcher,
    DtmfReceived,
    NoSuchSession,
    NotAllowed,
    PinlessDialin,
    Presence,
    Router,
    Session,
)
from telstate.control import Dialer, DialResult, RoomParticipant
from telstate.options import Dtmf, PhoneDialout, Refer, Transfer
from telstate.testing import FakeClock, FakeControl, Request
from tests.calls import js
from tests.routing import until

pytestmark = pytest.mark.asyncio

NUMBER = "+12025550190"


async def test_every_verb_is_recorded() -> None:
    """With the session's id and the options."""
    control = FakeControl()
    async with Dispatcher(Router(), control=control) as calls:
        for session_id in ("s1", "s2", "s3"):
            await calls.receive(js("dialout-answered", session_id))
        await calls.send_dtmf("s1", "12#")
        await calls.transfer("s1", NUMBER)
        await calls.refer("s2", "sip:agent@pbx.example")
        await calls.stop("s3")
    assert control.requests == [
        Request("send_dtmf", "s1", Dtmf(tones="12#")),
        Request("transfer", "s1", Transfer(to_end_point=NUMBER)),
        Request("refer", "s2", Refer(to_end_point="sip:agent@pbx.example")),
        Request("stop", "s3"),
    ]


async def test_a_handler_that_transfers() -> None:
    """The session ends as transferred, once Daily reports the end."""
    router, control = Router(), FakeControl()

    @router.on(DtmfReceived, where=lambda event: event.tone == "0")
    async def operator(session: Session, calls: Dispatcher) -> None:
        await calls.transfer(session, NUMBER)

    async with Dispatcher(router, control=control) as calls:
        await calls.receive(js("dialin-connected", "s1"))
        await calls.receive({"action": "dtmf-event", "sessionId": "s1", "tone": "0"})
        await calls.idle()
        await calls.receive(js("dialin-stopped", "s1"))
        session = calls.session("s1")
    assert control.requests == [Request("transfer", "s1", Transfer(to_end_point=NUMBER))]
    assert session is not None
    assert session.cause == "transferred"


async def test_a_caller_on_hold_is_forwarded() -> None:
    """The request has the call's id and the endpoint."""
    router, control = Router(), FakeControl()

    @router.on(PinlessDialin)
    async def connect(event: PinlessDialin, calls: Dispatcher) -> None:
        await calls.forward(event, "sip:bot@example.sip.daily.co")

    async with Dispatcher(router, control=control) as calls:
        await calls.receive({"To": "+12025550100", "From": "+12025550101", "callId": "c1", "callDomain": "d"})
        await calls.idle()
    assert control.requests == [Request("forward", "c1", "sip:bot@example.sip.daily.co")]


async def test_requests_can_be_refused() -> None:
    """As often as said, and only those of the verb."""
    control = FakeControl()
    control.refuse(NotAllowed("no transfers"), verb="transfer", times=2)
    control.refuse(NotAllowed("nothing"))
    async with Dispatcher(Router(), control=control) as calls:
        await calls.receive(js("dialout-answered", "s1"))
        for _ in range(2):
            with pytest.raises(NotAllowed, match="no transfers"):
                await calls.transfer("s1", NUMBER)
        with pytest.raises(NotAllowed, match="nothing"):
            await calls.send_dtmf("s1", "1")
        await calls.send_dtmf("s1", "2")
        await calls.transfer("s1", NUMBER)
    assert [request.verb for request in control.requests] == [
        "transfer",
        "transfer",
        "send_dtmf",
        "send_dtmf",
        "transfer",
    ]


async def test_a_dialer_dials_with_it() -> None:
    """The test sends the events of the call."""
    control = FakeControl()
    results: list[DialResult] = []
    async with Dispatcher(Router(), control=control) as calls, Dialer(calls, room="garage") as dialer:

        async def answer() -> None:
            await until(lambda: bool(control.requests))
            await calls.receive(js("dialout-answered", "dialout-1"))

        async with anyio.create_task_group() as group:
            group.start_soon(answer)
            results.append(await dialer.dial(PhoneDialout(phone_number=NUMBER)))
    (result,) = results
    assert result
    (start,) = control.requests
    assert (start.verb, start.target) == ("start", "dialout-1")
    assert isinstance(start.argument, PhoneDialout)
    assert start.argument.phone_number == NUMBER


async def test_presence_is_what_the_test_sets() -> None:
    """Unknown by default."""
    control = FakeControl()
    assert await control.presence("garage") == ()
    control.participants.append(RoomParticipant("s1"))
    assert await control.presence("garage") == (RoomParticipant("s1"),)
    control.presences["s1"] = Presence.GONE
    async with Dispatcher(Router(), control=control) as calls:
        for session_id in ("s1", "s2"):
            await calls.receive(js("dialout-answered", session_id))
        assert [await control.reconcile(session) for session in calls.live()] == [Presence.GONE, Presence.UNKNOWN]


async def test_a_stopped_session_ends_without_an_event() -> None:
    """15 seconds later, by the fake clock."""
    control, clock = FakeControl(), FakeClock()
    async with Dispatcher(Router(), control=control, clock=clock) as calls:
        await calls.receive(js("dialout-answered", "s1"))
        control.refuse(NoSuchSession("gone"))
        with pytest.raises(CallEnded):
            await calls.stop("s1")
        await clock.advance(16)
        session = calls.session("s1")
        assert session is not None
        assert session.state == "stopped"
