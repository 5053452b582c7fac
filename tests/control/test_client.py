"""A call client: daily-python's real one, without a room, and what only a completion from a foreign thread can do."""

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

from telstate.control import CallTransport, ClientControl, RoomParticipant
from telstate.errors import DailyError, DefinitionError, NotHosting, NotSupported, UnknownResult
from telstate.events import Presence
from telstate.options import Codecs, Dtmf, Permissions, PhoneDialout, Refer, SipDialout, Transfer, VideoSettings
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
    """asyncio alone, as these need it."""
    return "asyncio"


@asynccontextmanager
async def real() -> AsyncIterator[Any]:
    """A real call client. pipecat has to initialise the native library: a second time would abort the process."""
    transport_of()
    client = daily.CallClient()
    try:
        yield client
    finally:
        client.release()


def test_acting_needs_no_daily_python() -> None:
    """It is not even imported, and nor are pipecat and httpx."""
    code = "import sys, telstate.control; print(*{name.split('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert not {"pipecat", "daily", "httpx"} & set(run.stdout.decode().split())


def test_the_installed_client_has_all_that_is_called() -> None:
    """By name."""
    fake = FakeClient()
    fake.release()
    names = [name for name in dir(fake) if name.split("_")[0] in ("start", "stop", "eject", "update", "send", "sip")]
    assert len(names) == 7
    assert [name for name in (*names, "participants") if not hasattr(daily.CallClient, name)] == []


async def test_the_real_client_refuses_all_where_no_room_was_joined() -> None:
    """By its own thread, with the options as they are sent."""
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
            provider="signalwire",
        ),
        SipDialout(
            sip_uri=BOB,
            display_name="Bob",
            user_id="u2",
            video=True,
            video_settings=VideoSettings(width=1280, height=720, fps=15, video_bitrate=900),
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
            lambda: control.transfer(
                session, Transfer(to_end_point="+12025550101", extension="1", wait_before_extension_dial_sec=2)
            ),
            lambda: control.refer(session, Refer(to_end_point=BOB)),
            control.presence,
        ]
        for act in acts:
            with pytest.raises(NotHosting, match=r"NotInACall.* let the bot join first"):
                await act()
        assert await control.reconcile(session) is Presence.UNKNOWN


async def test_the_real_client_s_own_words() -> None:
    """Where an id is none, and once it is released."""
    async with real() as client:
        control = ClientControl(client)
        session = answered()
        session.session_id = "x"
        with pytest.raises(DailyError, match="Failed to parse participant ID") as raised:
            await control.stop(session)
        assert type(raised.value) is DailyError
        assert [one.session_id for one in control._there()] == [client.participants()["local"]["id"]]
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


async def test_who_dialled_in_is_ejected() -> None:
    """A stop is for dial-outs only."""
    fake = FakeClient()
    control: CallTransport = ClientControl(fake)
    await control.stop(answered("dialin"))
    fake.release()
    assert fake.sent == [("eject_remote_participants", [SESSION])]


@pytest.mark.parametrize("answer", [(), (None, None), ("a", "b", "c")])
async def test_an_answer_of_another_shape(answer: tuple[Any, ...]) -> None:
    """Says nothing."""
    fake = FakeClient()
    fake.answers["stop_dialout"] = [answer]
    with pytest.raises(UnknownResult, match="says nothing"):
        await ClientControl(fake).stop(answered())
    fake.release()
    assert fake.swallowed == []


async def test_an_error_that_is_no_text() -> None:
    """It is shown as one."""
    fake = FakeClient()
    fake.answers["start_dialout"] = [("s1", {"code": "NOT_ALLOWED"})]
    with pytest.raises(DailyError, match="NOT_ALLOWED"):
        await ClientControl(fake).start(PHONE)
    fake.release()


async def test_a_completion_that_is_called_at_once() -> None:
    """On the same thread, before the call returns."""

    class Prompt(FakeClient):
        def start_dialout(self, _settings: Any = None, completion: Any = None) -> None:
            """Answer."""
            completion("s1", None)

    fake = Prompt()
    assert await ClientControl(fake).start(PHONE) == "s1"
    fake.release()


async def test_the_completion_waits_for_nobody() -> None:
    """The event loop stands still while it is called."""
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
    """It may tell of a call that nobody knows of; a second answer tells nothing."""
    fake = FakeClient()
    fake.delay = 0.1
    control = ClientControl(fake, timeout=0.02)
    with structlog.testing.capture_logs() as logs:
        with pytest.raises(UnknownResult):
            await control.start(PHONE)
        with pytest.raises(UnknownResult):
            await control.stop(answered())
        await until(lambda: len(logs) == 2)
        fake.delay = 0
        fake.answers["start_dialout"] = [("s1", None), ("s2", None)]
        assert await ClientControl(fake).start(PHONE) == "s1"
        fake.release()
        await anyio.sleep(0.01)
    assert [(log["event"], log["request"], log["session_id"]) for log in logs] == [
        ("daily.late_answer", "start_dialout", "session-1"),
        ("daily.late_answer", "stop_dialout", None),
    ]


def test_an_answer_after_the_loop_has_ended() -> None:
    """Disturbs nobody."""
    fake = FakeClient()
    fake.delay = 0.2

    async def leave() -> None:
        with pytest.raises(UnknownResult):
            await ClientControl(fake, timeout=0.01).start(PHONE)

    asyncio.run(leave())
    fake.release()
    assert fake.told == 1
    assert fake.swallowed == []


def test_without_asyncio_it_says_so() -> None:
    """And nothing is sent."""
    fake = FakeClient()
    control = ClientControl(fake)
    with pytest.raises(RuntimeError, match="needs asyncio"):
        anyio.run(control.start, PHONE, backend="trio")
    with pytest.raises(RuntimeError, match="needs asyncio"):
        anyio.run(control.stop, answered(), backend="trio")
    fake.release()
    assert fake.sent == []


async def test_a_client_that_is_too_old() -> None:
    """Says what it lacks."""

    class Old:
        def start_dialout(self, settings: Any, completion: Any) -> None:
            """It has nothing else."""

        def participants(self) -> dict[str, Any]:
            """Only itself."""
            return {"local": {"id": "bot"}}

    control = ClientControl(Old())
    with pytest.raises(NotSupported, match="Old has no send_dtmf: take a newer version"):
        await control.send_dtmf(answered(), Dtmf(tones="1"))
    assert await control.presence() == (RoomParticipant("bot"),)
    assert await control.reconcile(answered()) is Presence.UNKNOWN


def test_what_is_no_client() -> None:
    """Is refused when it is built, with what to take instead."""
    with pytest.raises(TypeError, match=r"not DailyTransport: for pipecat's DailyTransport take TransportControl"):
        ClientControl(transport_of())
    with pytest.raises(TypeError, match=r"not str: make one by daily\.CallClient"):
        ClientControl("client")
    fake = FakeClient()
    for timeout in (0, -1, float("nan")):
        with pytest.raises(DefinitionError, match="seconds to wait"):
            ClientControl(fake, timeout=timeout)
    assert repr(ClientControl(fake)) == "ClientControl(FakeClient)"
    fake.release()
