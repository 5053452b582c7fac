"""ClientControl: with daily-python's real client, without a room, and with completions from a foreign thread."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import structlog

from telstate import Engine
from telstate.control import CallTransport, ClientControl, RoomParticipant
from telstate.errors import DailyError, DefinitionError, InvalidRequest, NotHosting, NotSupported, UnknownResult
from telstate.events import DialoutAnswered, Presence
from telstate.options import Codecs, Dtmf, Permissions, PhoneDialout, Refer, SipDialout, Transfer
from tests.calls import SESSION
from tests.control.in_room import FakeClient, answered, transport_of
from tests.sources.live import from_a_thread, installed, until

daily = installed("daily")
installed("pipecat.transports.daily.transport")

pytestmark = pytest.mark.anyio

PHONE = PhoneDialout(phone_number="+12025550101")
BOB = "sip:bob@example.com"


@pytest.fixture
def anyio_backend() -> str:
    """asyncio only: a call client needs it."""
    return "asyncio"


@asynccontextmanager
async def real() -> AsyncIterator[Any]:
    """A real call client. pipecat must initialise the native library: a second time would abort the process."""
    transport_of()
    client = daily.CallClient()
    try:
        yield client
    finally:
        client.release()


@pytest.mark.long
def test_no_extra_is_imported() -> None:
    """Neither daily-python nor pipecat nor httpx."""
    code = "import sys, telstate.control; print(*{name.split('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert not {"pipecat", "daily", "httpx"} & set(run.stdout.decode().split())


def test_the_installed_client_has_every_method() -> None:
    """That is called here."""
    fake = FakeClient()
    fake.release()
    names = [name for name in dir(fake) if name.split("_")[0] in ("start", "stop", "eject", "update", "send", "sip")]
    assert len(names) == 7
    assert [name for name in (*names, "participants") if not hasattr(daily.CallClient, name)] == []


async def test_the_real_client_refuses_every_request_without_a_joined_room() -> None:
    """On its own thread, with options as they are sent."""
    everything = (
        PHONE,
        PhoneDialout(
            phone_number="+12025550101",
            display_name="Ann",
            user_id="u1",
            caller_id="+12025550102",
            extension="12",
            wait_before_extension_dial_sec=3,
            codecs=Codecs(audio=("PCMU",)),
            permissions=Permissions(can_receive={"base": True}),
        ),
        SipDialout(
            sip_uri=BOB,
            display_name="Bob",
            user_id="u2",
            video=True,
            codecs=Codecs(audio=("OPUS",), video=("H264",)),
            permissions=Permissions(can_receive={"base": True}),
            provider="daily",
        ),
    )
    async with real() as client:
        control = ClientControl(client)
        session = answered()
        acts: list[Callable[[], Any]] = [
            *(lambda options=options: control.start(options) for options in everything),
            lambda: control.stop(session),
            lambda: control.stop(answered("dialin")),
            lambda: control.send_dtmf(session, Dtmf(tones="1", method="auto", digit_duration_ms=500)),
            lambda: control.transfer(session, Transfer(to_end_point="+12025550101", caller_id="+12025550102")),
            lambda: control.refer(session, Refer(to_end_point=BOB)),
            control.presence,
        ]
        for act in acts:
            with pytest.raises(NotHosting, match=r"NotInACall.* let the bot join first"):
                await act()
        assert await control.reconcile(session) is Presence.UNKNOWN


async def test_error_texts_of_the_real_client() -> None:
    """For an invalid id, and after its release."""
    async with real() as client:
        control = ClientControl(client)
        session = Engine().receive(DialoutAnswered(session_id="x")).session
        assert session is not None
        with pytest.raises(InvalidRequest, match="Failed to parse participant ID"):
            await control.stop(session)
        assert [one.session_id for one in control._participants()] == [client.participants()["local"]["id"]]
    for act in (control.start(PHONE), control.stop(session), control.presence()):
        with pytest.raises(DailyError, match="was not sent: this object has already been released"):
            await act
    assert await control.reconcile(session) is Presence.UNKNOWN


async def test_the_real_client_answers_many_at_once() -> None:
    """Each of them."""
    refused: list[int] = []
    async with real() as client:
        control = ClientControl(client)

        async def start(number: int) -> None:
            with pytest.raises(NotHosting):
                await control.start(PHONE)
            refused.append(number)

        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(start, number)
    assert sorted(refused) == list(range(50))


async def test_a_dial_in_is_ejected() -> None:
    """stop_dialout works for dial-outs only."""
    fake = FakeClient()
    control: CallTransport = ClientControl(fake)
    await control.stop(answered("dialin"))
    fake.release()
    assert fake.sent == [("eject_remote_participants", [SESSION])]


@pytest.mark.parametrize("answer", [(), (None, None), ("a", "b", "c")])
async def test_an_answer_with_other_arguments(answer: tuple[Any, ...]) -> None:
    """Cannot be read."""
    fake = FakeClient()
    fake.answers["stop_dialout"] = [answer]
    with pytest.raises(UnknownResult, match="cannot be read"):
        await ClientControl(fake).stop(answered())
    fake.release()
    assert fake.swallowed == []


async def test_an_error_that_is_not_a_string() -> None:
    """It is converted."""
    fake = FakeClient()
    fake.answers["start_dialout"] = [("s1", {"code": "NOT_ALLOWED"})]
    with pytest.raises(DailyError, match="NOT_ALLOWED"):
        await ClientControl(fake).start(PHONE)
    fake.release()


async def test_a_completion_that_is_called_at_once() -> None:
    """On the same thread, before the method returns."""

    class Prompt(FakeClient):
        def start_dialout(self, _settings: Any = None, completion: Any = None) -> None:
            """Answer."""
            completion("s1", None)

    fake = Prompt()
    assert await ClientControl(fake).start(PHONE) == "s1"
    fake.release()


async def test_a_completion_never_blocks() -> None:
    """Even while the event loop is blocked."""
    completions: list[Any] = []

    class Silent(FakeClient):
        def start_dialout(self, _settings: Any = None, completion: Any = None) -> None:
            """Keep it."""
            completions.append(completion)

    fake = Silent()
    async with anyio.create_task_group() as group:

        async def start() -> None:
            assert await ClientControl(fake).start(PHONE) == "s1"

        group.start_soon(start)
        await until(lambda: completions)
        from_a_thread(lambda: completions[0]("s1", None))
    from_a_thread(lambda: completions[0]("s2", None))
    fake.release()


async def test_a_late_answer_is_logged() -> None:
    """It may report a call that nobody knows. A second answer is ignored."""
    fake = FakeClient()
    fake.may_answer.clear()
    control = ClientControl(fake, timeout=0.02)
    with structlog.testing.capture_logs() as logs:
        with pytest.raises(UnknownResult):
            await control.start(PHONE)
        with pytest.raises(UnknownResult):
            await control.stop(answered())
        fake.may_answer.set()
        await until(lambda: len(logs) == 2)
        fake.answers["start_dialout"] = [("s1", None), ("s2", None)]
        assert await ClientControl(fake).start(PHONE) == "s1"
        fake.release()
        await anyio.sleep(0.01)
    assert [(log["event"], log["request"], log["session_id"]) for log in logs] == [
        ("daily.late_answer", "start_dialout", "session-1"),
        ("daily.late_answer", "stop_dialout", None),
    ]


def test_an_answer_after_the_event_loop_has_ended() -> None:
    """It is ignored."""
    fake = FakeClient()
    fake.may_answer.clear()

    async def leave() -> None:
        with pytest.raises(UnknownResult):
            await ClientControl(fake, timeout=0.01).start(PHONE)

    asyncio.run(leave())
    fake.release()
    assert fake.completed == 1
    assert fake.swallowed == []


def test_trio_is_refused() -> None:
    """Nothing is sent."""
    fake = FakeClient()
    control = ClientControl(fake)
    with pytest.raises(RuntimeError, match="needs asyncio"):
        anyio.run(control.start, PHONE, backend="trio")
    with pytest.raises(RuntimeError, match="needs asyncio"):
        anyio.run(control.stop, answered(), backend="trio")
    fake.release()
    assert fake.sent == []


async def test_an_old_client() -> None:
    """The error names the missing method."""

    class Old:
        def start_dialout(self, settings: Any, completion: Any) -> None:
            """Do nothing."""

        def participants(self) -> dict[str, Any]:
            """List itself."""
            return {"local": {"id": "bot"}}

    control = ClientControl(Old())
    with pytest.raises(NotSupported, match="Old has no send_dtmf: install a newer version"):
        await control.send_dtmf(answered(), Dtmf(tones="1"))
    assert await control.presence() == (RoomParticipant("bot"),)
    assert await control.reconcile(answered()) is Presence.UNKNOWN


def test_other_objects_are_refused() -> None:
    """At construction, with what to use instead."""
    with pytest.raises(TypeError, match=r"not DailyTransport: for pipecat's DailyTransport use TransportControl"):
        ClientControl(transport_of())
    with pytest.raises(TypeError, match=r"not str: create one with daily\.CallClient"):
        ClientControl("client")
    fake = FakeClient()
    for timeout in (0, -1, float("nan")):
        with pytest.raises(DefinitionError, match="seconds to wait"):
            ClientControl(fake, timeout=timeout)
    assert repr(ClientControl(fake)) == "ClientControl(FakeClient)"
    fake.release()
