"""TransportControl: with pipecat's real `DailyTransport`, without a room, and with fakes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from telstate.control import CallTransport, TransportControl
from telstate.errors import DailyError, NotHosting, NotSupported, UnknownResult
from telstate.events import Presence
from telstate.options import Dtmf, PhoneDialout, Refer, Transfer
from tests.calls import SESSION
from tests.control.in_room import FakeClient, acting, answered, running, transport_of
from tests.sources.live import installed

installed("pipecat.transports.daily.transport")

pytestmark = pytest.mark.anyio

PHONE = PhoneDialout(phone_number="+12025550101")
BOB = "sip:bob@example.com"


@pytest.fixture
def anyio_backend() -> str:
    """asyncio only: pipecat needs it."""
    return "asyncio"


class Plain:
    """A fake transport, with its answers or exceptions by name."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.sent: list[tuple[str, Any]] = []

    def participants(self) -> dict[str, Any]:
        """List nobody."""
        return {}

    async def start_dialout(self, settings: Any = None) -> Any:
        """Dial."""
        return await self._answer("start_dialout", settings)

    async def stop_dialout(self, participant_id: str) -> Any:
        """Stop."""
        return await self._answer("stop_dialout", participant_id)

    async def send_dtmf(self, settings: Any) -> Any:
        """Change the argument, as pipecat does."""
        settings["sessionId"] = settings.get("sessionId") or "another"
        return await self._answer("send_dtmf", settings)

    async def _answer(self, name: str, argument: Any) -> Any:
        self.sent.append((name, argument))
        answer = self.answers.get(name)
        if isinstance(answer, tuple) and answer and isinstance(answer[0], Exception):
            await anyio.lowlevel.checkpoint()
            raise answer[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_the_real_transport_refuses_every_request_without_a_joined_room() -> None:
    """On daily-python's own thread."""
    transport = transport_of()
    control = TransportControl(transport)
    session = answered()
    async with running(transport):
        acts: list[Callable[[], Any]] = [
            lambda: control.start(PHONE),
            lambda: control.stop(session),
            lambda: control.send_dtmf(session, Dtmf(tones="1", method="auto")),
            lambda: control.transfer(session, Transfer(to_end_point=BOB)),
            lambda: control.refer(session, Refer(to_end_point=BOB)),
            control.presence,
        ]
        for act in acts:
            with pytest.raises(NotHosting, match=r"NotInACall.* let the bot join first"):
                await act()
        assert await control.reconcile(session) is Presence.UNKNOWN


async def test_without_a_running_pipeline() -> None:
    """Nothing is sent before it starts and after it ended."""
    transport = transport_of()
    control = TransportControl(transport)
    for text in ("pipeline not started", "NoneType"):
        for act in (control.start(PHONE), control.stop(answered())):
            with pytest.raises(DailyError, match=rf"was not sent: .*{text}") as raised:
                await act
            assert type(raised.value) is DailyError
        async with running(transport):
            pass
    assert await control.reconcile(answered()) is Presence.UNKNOWN


async def test_a_dial_in_cannot_be_ejected() -> None:
    """pipecat has no public method for it; the error says what to use."""
    async with acting("transport") as (control, fake):
        with pytest.raises(
            NotSupported, match=r"DailyTransport has no eject_remote_participants: .*RestControl\(api\)"
        ):
            await control.stop(answered("dialin"))
    assert fake.sent == []


async def test_a_transport_that_can_eject() -> None:
    """A later pipecat may."""
    ejected: list[Any] = []

    class Newer(Plain):
        async def eject_remote_participants(self, ids: list[str]) -> None:
            """Record them."""
            ejected.append(ids)

    control: CallTransport = TransportControl(Newer())
    await control.stop(answered("dialin"))
    assert ejected == [[SESSION]]


async def test_each_request_has_its_own_dict() -> None:
    """pipecat changes it."""
    transport = Plain(start_dialout=("s1", None))
    control = TransportControl(transport)
    for _ in range(2):
        assert await control.start(PHONE) == "s1"
        await control.send_dtmf(answered(), Dtmf(tones="1"))
    bodies = [body for _, body in transport.sent]
    assert len({id(body) for body in bodies}) == 4
    assert bodies[1] == {"sessionId": SESSION, "tones": "1"}


@pytest.mark.parametrize("answer", [None, "s1", (), ("s1",), ["s1", None, None], 7])
async def test_a_start_that_returns_something_else(answer: Any) -> None:
    """Old versions returned None: there may be a call."""
    with pytest.raises(UnknownResult, match="without a session id"):
        await TransportControl(Plain(start_dialout=answer)).start(PHONE)


async def test_a_transport_that_raises() -> None:
    """At once: nothing was sent. After it has waited: the result is unknown."""
    control = TransportControl(Plain(start_dialout=RuntimeError("no pipeline"), stop_dialout=TypeError()))
    with pytest.raises(DailyError, match="start_dialout was not sent: no pipeline") as raised:
        await control.start(PHONE)
    assert type(raised.value) is DailyError
    assert isinstance(raised.value.__cause__, RuntimeError)
    with pytest.raises(DailyError, match="stop_dialout was not sent: TypeError"):
        await control.stop(answered())
    control = TransportControl(Plain(start_dialout=(TypeError("cannot unpack"),)))
    with pytest.raises(UnknownResult, match="pipecat failed while it read the answer"):
        await control.start(PHONE)


def test_trio_is_refused() -> None:
    """Nothing is sent."""
    transport = Plain()
    with pytest.raises(RuntimeError, match="needs asyncio"):
        anyio.run(TransportControl(transport).start, PHONE, backend="trio")
    assert transport.sent == []


def test_other_objects_are_refused() -> None:
    """At construction, with what to use instead."""
    fake = FakeClient()
    with pytest.raises(TypeError, match=r"not FakeClient: for daily-python's CallClient use ClientControl"):
        TransportControl(fake)
    fake.release()
    with pytest.raises(TypeError, match="not dict: other transports make no calls"):
        TransportControl({})
    assert repr(TransportControl(transport_of())) == "TransportControl(DailyTransport)"
