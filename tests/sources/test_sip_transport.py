"""A transport whose ids are not global: each process counts its calls anew, so a scope becomes part of each id."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import structlog

from telstate import DailyError, DefinitionError, Dispatcher, NotSupported, OutcomeKind, Router, Session
from telstate.control import Dialer, TransportControl
from telstate.control._results import DialOutcome
from telstate.journals import SqliteJournal
from telstate.options import Dtmf, PhoneDialout, Refer, SipDialout, Transfer
from telstate.routing._id_scopes import _SCOPES
from telstate.sources import attach_pipecat
from tests.sources.live import installed, until
from tests.sources.sip_transport import HANDLERS, SIPTransport, new_process

pytestmark = pytest.mark.anyio

daily: Any = installed("pipecat.transports.daily.transport")


@pytest.fixture
def anyio_backend() -> str:
    """pipecat needs asyncio."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _first_call() -> None:
    new_process()


async def only_session(calls: Dispatcher) -> Session:
    """Return the one session, once it is known."""
    await until(lambda: len(list(calls.sessions())) == 1)
    (session,) = calls.sessions()
    return session


async def answered(calls: Dispatcher) -> Session:
    """Return the one session that lives, once it is answered."""
    await until(lambda: [one.state for one in calls.live()] == ["answered"])
    return calls.live()[0]


async def ended(session: Session) -> None:
    """Wait for the end of a session."""
    await until(lambda: session.ended)


async def test_the_first_call_of_every_process_is_a_call_of_its_own(tmp_path: Path) -> None:
    """Each has the number 2. With a journal, the one of the process before is known."""
    for number in (1, 2, 3):
        new_process()
        async with Dispatcher(Router(), journal=SqliteJournal(tmp_path / "calls.db")) as calls:
            transport = SIPTransport()
            async with attach_pipecat(calls, transport):
                await transport.register()
                assert await transport.receive_call() == "2"
                session = await answered(calls)
                await transport.press("1")
                await transport.hang_up()
                await ended(session)
            assert len(list(calls.sessions())) == number
            assert session.session_id.endswith("-2")
            assert (session.cause, session.dtmf, session.called) == ("completed", 1, "sip:bot@example.com")
            assert (session.anomalies, session.late, session.duplicates) == ((), 0, 0)
            assert calls.counts[OutcomeKind.UNMATCHED] == 0


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("CallBusy", "call failed: 486 Busy Here", "486 Busy Here"),
        ("CallDeclined", "call failed: 603 Decline", "603 Decline"),
        ("CallTimeout", "call not established within 30 s", "Rejected by user"),
    ],
)
async def test_a_busy_callee_did_not_answer(kind: str, text: str, reason: str) -> None:
    """It comes as a stop and as an error."""
    transport = SIPTransport()
    async with Dispatcher(Router()) as calls, attach_pipecat(calls, transport) as source:
        session_id, error = await source.start_dialout({"phoneNumber": "+12025550101"})
        assert (session_id, error) == (source.session_id("2"), None)
        await transport.ring()
        await transport.refuse(kind, text, reason)
        session = await only_session(calls)
        await until(lambda: session.state == "error")
        assert session.session_id == session_id
        assert (session.cause, session.error_msg, session.anomalies) == ("unanswered", text, ())
        assert source.transport_id(session.session_id) == "2"
        with pytest.raises(ValueError, match="is not a session of this transport"):
            source.transport_id("2")


async def test_requests_use_the_transport_s_own_id() -> None:
    """Those of a dispatcher's control."""
    transport = SIPTransport()
    control = TransportControl(transport)
    async with Dispatcher(Router(), control=control) as calls, attach_pipecat(calls, transport) as source:
        await source.start_dialout({"sipUri": "sip:bob@example.com"})
        await transport.ring()
        await transport.answer()
        session = await only_session(calls)
        await until(lambda: session.state == "answered")
        await calls.send_dtmf(session, Dtmf(tones="1"))
        await calls.refer(session, Refer(to_end_point="sip:eve@example.com"))
        await calls.stop(session)
        assert transport.requests == [
            ("send_dtmf", {"sessionId": "2", "tones": "1"}),
            ("sip_refer", {"sessionId": "2", "toEndPoint": "sip:eve@example.com"}),
            ("stop_dialout", "2"),
        ]
        await transport.hang_up()
        await until(lambda: session.ended)
        assert (session.ended_by, session.transfers[0].target) == ("local", "sip:eve@example.com")


async def test_a_call_of_another_transport_or_process_is_refused_and_lives_on() -> None:
    """Its number may be that of a call that this transport has."""
    first, second = SIPTransport(), SIPTransport()
    async with Dispatcher(Router(), control=TransportControl(second)) as calls, attach_pipecat(calls, first):
        await first.receive_call()
        session = await only_session(calls)
        new_process()
        async with attach_pipecat(calls, second):
            assert await second.receive_call() == "2"
            with pytest.raises(NotSupported, match="of its own transport"):
                await calls.send_dtmf(session, Dtmf(tones="1"))
        assert second.requests == []
        assert not session.ended


async def test_a_dial_in_and_a_transfer_through_a_cloud_are_refused() -> None:
    """There is no request for the one, and the transport says itself that it has no other."""
    transport = SIPTransport()
    async with Dispatcher(Router(), control=TransportControl(transport)) as calls, attach_pipecat(calls, transport):
        await transport.receive_call()
        session = await only_session(calls)
        with pytest.raises(NotSupported, match="no request that ends a dial-in: end its pipeline"):
            await calls.stop(session)
        with pytest.raises((DailyError, NotSupported), match="sip_call_transfer is not supported yet"):
            await calls.transfer(session, Transfer(to_end_point="sip:eve@example.com"))
        assert not session.ended


async def test_a_dialer_dials_through_it() -> None:
    """It waits for the events of the id that the start returned. Busy is a reason to try again, as with Daily."""

    class Busy(SIPTransport):
        """Whoever is called is busy."""

        async def start_dialout(self, settings: Any = None) -> tuple[str, str | None]:
            """Start a call, which fails."""
            answer = await super().start_dialout(settings)
            await self.ring()
            await self.refuse("CallBusy", "call failed: 486 Busy Here", "486 Busy Here")
            return answer

    transport = Busy()
    control = TransportControl(transport)
    async with Dispatcher(Router(), control=control) as calls, attach_pipecat(calls, transport):
        async with Dialer(calls, pauses=[0.01]) as dialer:
            result = await dialer.dial(PhoneDialout(phone_number="+12025550101"), attempts=2)
        assert [attempt.outcome for attempt in result.attempts] == [DialOutcome.UNANSWERED] * 2
        assert {attempt.session_id for attempt in result.attempts} == {one.session_id for one in calls.sessions()}


async def test_a_second_call_is_refused_by_the_transport() -> None:
    """It takes one at a time."""
    transport = SIPTransport()
    control = TransportControl(transport)
    async with Dispatcher(Router(), control=control) as calls, attach_pipecat(calls, transport):
        await control.start(SipDialout(sip_uri="sip:bob@example.com"))
        with pytest.raises(DailyError, match="already has an active call"):
            await control.start(SipDialout(sip_uri="sip:bob@example.com"))


async def test_one_that_leaves_concerns_only_its_own_calls() -> None:
    """Several transports have an account together, and each has one call: the scope is their client id."""
    first, second = SIPTransport(), SIPTransport()
    async with (
        Dispatcher(Router()) as calls,
        attach_pipecat(calls, first) as one,
        attach_pipecat(calls, second) as other,
    ):
        await first.register()
        await second.register()
        ids = one.session_id(await first.receive_call()), other.session_id(await second.receive_call())
        await until(lambda: [session.state for session in calls.live()] == ["answered", "answered"])
        await first.leave()
        await until(lambda: [session.uncertain for session in calls.live()] == [True, False])
        assert tuple(session.session_id for session in calls.live()) == ids


async def test_the_account_s_address_is_no_endpoint_of_a_room() -> None:
    """An endpoint takes one caller, so a second one would be a sign that the first is gone. An account takes any number."""
    first, second = SIPTransport(), SIPTransport()
    async with (
        Dispatcher(Router()) as calls,
        attach_pipecat(calls, first, room="lobby"),
        attach_pipecat(calls, second, room="lobby"),
    ):
        for transport in (first, second):
            await transport.register()
            await transport.receive_call()
        await until(lambda: [session.state for session in calls.live()] == ["answered", "answered"])
        assert not any(session.uncertain or session.sip_endpoint for session in calls.live())
        assert {session.room for session in calls.live()} == {"lobby"}
        assert calls.endpoint("sip:bot@example.com") is not None


@pytest.mark.long
async def test_a_transport_is_attached_once_and_again_after_that() -> None:
    """With the same scope: the transport still has its calls. Others that have its place in memory later are others."""
    gc.collect()
    known_before = dict(_SCOPES)
    transport = SIPTransport()
    async with Dispatcher(Router()) as calls:
        async with attach_pipecat(calls, transport) as source:
            before = {name: len(known.handlers) for name, known in transport._event_handlers.items()}
            with pytest.raises(DefinitionError, match="SIPTransport is attached already"):
                attach_pipecat(calls, transport)
            assert before == {name: len(known.handlers) for name, known in transport._event_handlers.items()}
            scope = source.session_id("")
        async with attach_pipecat(calls, transport) as source:
            assert source.session_id("") == scope
            await transport.receive_call()
            await until(lambda: len(calls.live()) == 1)
        with pytest.raises(ValueError, match="has the scope"):
            attach_pipecat(calls, transport, scope="another")
        del transport, source
        gc.collect()
        for _ in range(100):
            async with attach_pipecat(calls, SIPTransport()) as source:
                assert source.session_id("") != scope
        del source
        gc.collect()
        assert len(_SCOPES) <= len(known_before)


async def test_a_scope_of_one_s_own_or_none() -> None:
    """A name, or "" for ids that are global. Daily's have none."""
    async with Dispatcher(Router()) as calls:
        async with attach_pipecat(calls, SIPTransport(), scope="branch-7") as source:
            assert (source.scope, source.session_id("2")) == ("branch-7", "branch-7-2")
        async with attach_pipecat(calls, SIPTransport(), scope="") as source:
            assert (source.scope, source.session_id("2")) == ("", "2")
        with pytest.raises(ValueError, match="call_client_id"):
            attach_pipecat(calls, SIPTransport(), scope=" ")

        class Own(daily.DailyTransport):  # type: ignore[misc]
            """Derived from Daily's."""

        for kind in (daily.DailyTransport, Own):
            async with attach_pipecat(calls, kind("https://example.daily.co/room", None, "bot")) as source:
                assert source.session_id("7d208e2a") == "7d208e2a"


async def test_ids_of_every_form_get_the_scope_and_what_is_none_stays() -> None:
    """Numbers too. The transport's own dict is not changed."""
    transport = SIPTransport()
    async with Dispatcher(Router()) as calls, attach_pipecat(calls, transport, scope="x"):
        data = {"sessionId": 7, "sipCallId": "c"}
        await transport._call_event_handler("on_dialout_connected", data)
        await transport._call_event_handler("on_dialout_connected", {"participantId": "8"})
        await transport._call_event_handler("on_dialout_error", {"sessionId": None, "errorMsg": "no"})
        await transport.cleanup()
        await until(lambda: calls.counts[OutcomeKind.UNMATCHED] == 1)
        assert [session.session_id for session in calls.live()] == ["x-7", "x-8"]
        assert data == {"sessionId": 7, "sipCallId": "c"}


def test_the_fake_has_no_handler_that_daily_s_transport_lacks_but_one() -> None:
    """It is meant to be a drop-in."""
    transport = daily.DailyTransport("https://example.daily.co/room", None, "bot")
    assert set(HANDLERS) - set(transport._event_handlers) == {"on_call_quality_stats"}


async def test_an_error_that_is_about_no_call_is_logged_without_numbers() -> None:
    """pipecat's text may have one."""
    transport = SIPTransport()
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router()) as calls, attach_pipecat(calls, transport):
            await transport._call_event_handler("on_error", "registration of sip:+12025550101@example.com failed")
            await transport.cleanup()
            await until(lambda: [log for log in logs if log["event"] == "source.error"])
    (line,) = [log for log in logs if log["event"] == "source.error"]
    assert "2025550101" not in str(line)
