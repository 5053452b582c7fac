"""RestControl: which request a session needs, in which room, and whether it still exists."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from telstate import Engine, Presence, Session, SourceGap
from telstate.control import DailyApi, RestControl, RoomParticipant
from telstate.control import _rest as module
from telstate.errors import DailyError, NotSupported
from telstate.events import DialoutAnswered, DialoutConnected
from telstate.options import Dtmf, PhoneDialout, Refer, Transfer
from telstate.testing import FakeClock, FakeDaily, PhoneLine
from telstate.testing._daily import KEY
from telstate.testing._faults import instead
from tests.calls import SESSION
from tests.control.dial_setup import NUMBER, ROOM, over_http
from tests.control.in_room import session_of
from tests.routing import until

BOB = "sip:bob@example.com"
NOW = 1_790_000_000.0


@asynccontextmanager
async def rest(daily: FakeDaily, room: str | None = None) -> AsyncIterator[RestControl]:
    """With somebody in the room, and a clock that stands still."""
    daily.host(ROOM)
    async with DailyApi(KEY, url=daily.url, timeout=5.0, pauses=(0.01,)) as api:
        yield RestControl(api, room, clock=FakeClock(NOW))


def dialout(
    session_id: str = SESSION, *, answered_ago: float | None = None, silent_for: float | None = None
) -> Session:
    """A dial-out that rings, or was answered so many seconds ago, or without events for so long."""
    kind = DialoutConnected if answered_ago is None else DialoutAnswered
    ago = answered_ago if answered_ago is not None else silent_for
    session = Engine().receive(kind(session_id=session_id), None if ago is None else NOW - ago).session
    assert session is not None
    return session


@pytest.mark.anyio
async def test_the_room_is_the_sessions_or_the_default(daily: FakeDaily) -> None:
    """Without either it is not supported, and nothing is sent."""
    session = session_of("dialout-answered")
    assert session.room is None
    async with rest(daily) as control:
        for request in (
            control.stop(session),
            control.send_dtmf(session, Dtmf(tones="1")),
            control.transfer(session, Transfer(to_end_point=BOB)),
            control.refer(session, Refer(to_end_point=BOB)),
            control.presence(),
            control.start(PhoneDialout(phone_number=NUMBER)),
        ):
            with pytest.raises(NotSupported, match=r"RestControl\(api, room=…\)"):
                await request
        assert await control.reconcile(session) is Presence.UNKNOWN
        assert not daily.seen
    async with rest(daily, ROOM) as control:
        session_id = await control.start(PhoneDialout(phone_number=NUMBER, user_id="u"))
        await joined(daily, session_id)
        assert RoomParticipant(session_id, "u", NUMBER) in await control.presence()
        assert repr(control).endswith(f"room={ROOM!r})")
        daily.host("other")
        assert len(await control.presence("other")) == 1
        daily.faults.append(instead(200, b'{"ok": "true"}'))
        elsewhere = Engine().receive(DialoutAnswered(session_id="s", room="other")).session
        assert elsewhere is not None
        await control.stop(elsewhere)
    assert daily.seen[-1].path == "/v1/rooms/other/dialOut/stop"


async def joined(daily: FakeDaily, session_id: str) -> None:
    """Wait until a dialled party is in the room."""
    await until(lambda: daily.session(session_id).joined_at)  # the fake lives in another thread


@pytest.mark.anyio
async def test_the_requests(daily: FakeDaily) -> None:
    """Only given values are sent. A dial-in is ejected."""
    daily.rules["*"] = instead(200, b'{"ok": "true", "ejectedIds": ["%b"]}' % SESSION.encode())
    dialled_out, dialled_in = session_of("dialout-answered"), session_of("dialin-connected")
    async with rest(daily, ROOM) as control:
        await control.stop(dialled_out)
        await control.stop(dialled_in)
        await control.send_dtmf(dialled_in, Dtmf(tones="1a"))
        await control.send_dtmf(dialled_in, Dtmf(tones="1", digit_duration_ms=100))
        extended = Transfer(to_end_point=NUMBER, caller_id=NUMBER, extension="1", wait_before_extension_dial_sec=1)
        await control.transfer(dialled_out, extended)
        await control.transfer(dialled_out, Transfer(to_end_point=BOB))
        await control.refer(dialled_out, Refer(to_end_point=BOB))
        sent = len(daily.seen)
        with pytest.raises(NotSupported):
            await control.send_dtmf(dialled_in, Dtmf(tones="1", method="sip-info"))
        assert len(daily.seen) == sent
    session = {"sessionId": SESSION}
    room = f"/v1/rooms/{ROOM}"
    more = {"callerId": NUMBER, "extension": "1", "waitBeforeExtensionDialSec": 1}
    assert [(one.path, one.body) for one in daily.seen] == [
        (f"{room}/dialOut/stop", session),
        (f"{room}/eject", {"ids": [SESSION]}),
        (f"{room}/dialOut/sendDTMF", {**session, "tones": "1A"}),
        (f"{room}/dialOut/sendDTMF", {**session, "tones": "1", "digitDurationMs": 100}),
        (f"{room}/sipCallTransfer", {**session, "toEndPoint": NUMBER, **more}),
        (f"{room}/sipCallTransfer", {**session, "toEndPoint": BOB}),
        (f"{room}/sipRefer", {**session, "toEndPoint": BOB}),
    ]


@pytest.mark.anyio
async def test_reconcile(daily: FakeDaily) -> None:
    """A session is gone only if it had media for a while, or no event for ten minutes, and is not in the room."""
    daily.lines[NUMBER] = PhoneLine()
    async with rest(daily, ROOM) as control:
        session_id = await control.start(PhoneDialout(phone_number=NUMBER))
        await joined(daily, session_id)
        assert await control.reconcile(dialout()) is Presence.UNKNOWN
        assert await control.reconcile(session_of("dialout-answered")) is Presence.UNKNOWN, "no time is known"
        for ago, presence in ((0.0, Presence.UNKNOWN), (25.0, Presence.UNKNOWN), (35.0, Presence.GONE)):
            assert await control.reconcile(dialout(answered_ago=ago)) is presence
        for silent, presence in ((590.0, Presence.UNKNOWN), (600.0, Presence.GONE)):
            assert await control.reconcile(dialout(silent_for=silent)) is presence
        assert await control.reconcile(dialout(session_id, answered_ago=35.0)) is Presence.ALIVE
        assert await control.reconcile(dialout(session_id)) is Presence.ALIVE


@pytest.mark.anyio
async def test_reconcile_where_the_room_is_not_there_any_more(daily: FakeDaily) -> None:
    """Nobody can be asked then. The session does not stay for ever: it is gone when silence would end it without a question."""
    async with rest(daily, "deleted") as control:
        for early in (dialout(answered_ago=86_399.0), dialout(silent_for=599.0), session_of("dialout-answered")):
            with pytest.raises(DailyError, match="does not exist") as refused:
                await control.reconcile(early)
            assert refused.value.status == 404
        for late in (dialout(answered_ago=86_400.0), dialout(silent_for=600.0)):
            assert await control.reconcile(late) is Presence.GONE
        daily.rules["/rooms/*/presence"] = instead(500)
        with pytest.raises(DailyError):
            await control.reconcile(dialout(answered_ago=86_400.0))


@pytest.mark.long
@pytest.mark.asyncio
async def test_reconcile_for_a_dispatcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a gap: a session whose end was lost is ended, one in the room lives, and one that rings is unknown."""
    monkeypatch.setattr(module, "_PRESENCE_LAG", 0.0)
    daily = FakeDaily()
    numbers = [f"+1202555010{number}" for number in range(3)]
    daily.lines[numbers[0]] = PhoneLine(loses={"dialout.stopped", "participant.left"})
    daily.lines[numbers[2]] = PhoneLine(answers=None)
    controls: list[RestControl] = []

    async def reconcile(session: Session) -> Presence:
        return await controls[0].reconcile(session)

    async with over_http(daily=daily, calls={"reconcile": reconcile}) as phone:
        control = phone.calls.control
        assert isinstance(control, RestControl)
        controls.append(control)
        ids = [await control.start(PhoneDialout(phone_number=number), ROOM) for number in numbers]
        for session_id, state in zip(ids, ("answered", "answered", "connected"), strict=True):
            await phone.calls.wait_for(session_id, state, 5)
        daily.hang_up(ids[0])
        await anyio.to_thread.run_sync(daily.settled)
        assert not any(phone.calls.session(one).ended for one in ids)  # type: ignore[union-attr]
        await phone.calls.receive(SourceGap(reason="lost"))
        gone = await phone.calls.wait_for(ids[0], "stopped", 5)
        assert gone.end_sign == "gone"
        assert {session.session_id for session in phone.calls.live()} == set(ids[1:])


@pytest.mark.asyncio
async def test_through_real_webhooks() -> None:
    """A session that we stop ends as local, whichever report comes first; one that the far side ends does not."""
    async with over_http() as phone:
        calls, daily = phone.calls, phone.daily
        control = calls.control
        assert isinstance(control, RestControl)
        ids = [await control.start(PhoneDialout(phone_number=NUMBER), ROOM) for _ in range(3)]
        for session_id in ids:
            await calls.wait_for(session_id, "answered", 5)
        dialin = daily.dial_in(daily.host(ROOM)[0])
        await calls.wait_for(dialin, "connected", 5)
        await calls.stop(ids[0])
        await calls.transfer(ids[1], BOB)
        await calls.stop(dialin)
        daily.hang_up(ids[2])
        ended = [await calls.wait_for(one, "stopped", 5) for one in (*ids, dialin)]
        assert [(session.ended_by, session.cause) for session in ended] == [
            ("local", "completed"),
            ("remote", "transferred"),
            ("unknown", "completed"),
            ("local", "completed"),
        ]
        assert [daily.session(one).ended_by for one in (*ids, dialin)] == ["stop", "transfer", "remote", "eject"]
