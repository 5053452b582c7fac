"""CallControl by REST: which request a session needs, in which room, and whether it is still there."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from pydantic import ValidationError

from telstate import Presence, Session, SourceGap
from telstate.control import DailyApi, PhoneDialout, RestControl, RoomParticipant
from telstate.control import _rest as module
from telstate.errors import NotSupported
from telstate.testing._daily import KEY, FakeDaily, PhoneLine
from telstate.testing._faults import instead
from tests.calls import SESSION
from tests.control.calling import NUMBER, ROOM, phone, until
from tests.control.in_room import session_of

BOB = "sip:bob@example.com"


@asynccontextmanager
async def rest(daily: FakeDaily, room: str | None = None) -> AsyncIterator[RestControl]:
    """With somebody in the room."""
    daily.host(ROOM)
    async with DailyApi(KEY, url=daily.url, timeout=5.0, pauses=(0.01,)) as api:
        yield RestControl(api, room)


def called(daily: FakeDaily) -> list[str]:
    """What was asked for."""
    return [one.path.removeprefix("/v1") for one in daily.seen]


@pytest.mark.anyio
async def test_the_room_is_the_sessions_or_the_default(daily: FakeDaily) -> None:
    """Without either it is not supported, and nothing is sent."""
    session = session_of("dialout-answered")
    assert session.room is None
    async with rest(daily) as control:
        for ask in (
            control.stop(session),
            control.send_dtmf(session, "1"),
            control.transfer(session, BOB),
            control.refer(session, BOB),
            control.presence(),
            control.start(PhoneDialout(phone_number=NUMBER)),
        ):
            with pytest.raises(NotSupported, match=r"RestControl\(api, room=…\)"):
                await ask
        assert await control.reconcile(session) is Presence.UNKNOWN
        assert not daily.seen
    async with rest(daily, ROOM) as control:
        session_id = await control.start(PhoneDialout(phone_number=NUMBER, user_id="u"))
        await until(lambda: len(daily.seen) and daily.session(session_id).joined_at)
        assert RoomParticipant(session_id, "u", NUMBER) in await control.presence()
        assert repr(control).endswith(f"room={ROOM!r})")
        daily.host("other")
        assert len(await control.presence("other")) == 1
        daily.faults.append(instead(200, b'{"ok": "true"}'))
        await control.stop(Session(session.session_id, session.direction, room="other"))
    assert called(daily)[-1] == "/rooms/other/dialOut/stop"


@pytest.mark.anyio
async def test_what_is_sent(daily: FakeDaily) -> None:
    """Only what was given; who dialled in is ejected."""
    daily.rules["*"] = instead(200, b'{"ok": "true", "ejectedIds": ["%b"]}' % SESSION.encode())
    dialout, dialin = session_of("dialout-answered"), session_of("dialin-connected")
    async with rest(daily, ROOM) as control:
        await control.stop(dialout)
        await control.stop(dialin)
        await control.send_dtmf(dialin, "1a")
        await control.send_dtmf(dialin, "1", digit_duration_ms=100)
        await control.transfer(dialout, NUMBER, caller_id=NUMBER, extension="1", wait_before_extension_dial_sec=0)
        await control.transfer(dialout, BOB)
        await control.refer(dialout, BOB)
        sent = len(daily.seen)
        with pytest.raises(NotSupported):
            await control.send_dtmf(dialin, "1", method="sip-info")
        for wrong in (
            control.send_dtmf(dialin, "x"),
            control.transfer(dialin, "bob"),
            control.transfer(dialin, BOB, extension="1"),
            control.refer(dialin, NUMBER),
        ):
            with pytest.raises(ValidationError):
                await wrong
        assert len(daily.seen) == sent
    mine = {"sessionId": SESSION}
    room = f"/rooms/{ROOM}"
    more = {"callerId": NUMBER, "extension": "1", "waitBeforeExtensionDialSec": 0}
    assert [(one.path.removeprefix("/v1"), one.body) for one in daily.seen] == [
        (f"{room}/dialOut/stop", mine),
        (f"{room}/eject", {"ids": [SESSION]}),
        (f"{room}/dialOut/sendDTMF", {**mine, "tones": "1A"}),
        (f"{room}/dialOut/sendDTMF", {**mine, "tones": "1", "digitDurationMs": 100}),
        (f"{room}/sipCallTransfer", {**mine, "toEndPoint": NUMBER, **more}),
        (f"{room}/sipCallTransfer", {**mine, "toEndPoint": BOB}),
        (f"{room}/sipRefer", {**mine, "toEndPoint": BOB}),
    ]


@pytest.mark.anyio
async def test_reconcile(daily: FakeDaily) -> None:
    """Gone is only who spoke, not just since, and is not there."""
    daily.lines[NUMBER] = PhoneLine()
    async with rest(daily, ROOM) as control:
        session_id = await control.start(PhoneDialout(phone_number=NUMBER))
        await until(lambda: daily.session(session_id).joined_at)
        ringing, answered = session_of("dialout-connected"), session_of("dialout-answered")
        assert await control.reconcile(ringing) is Presence.UNKNOWN
        vars(ringing)["answered_at"] = 1.0
        assert await control.reconcile(ringing) is Presence.UNKNOWN
        vars(answered)["answered_at"] = None
        assert await control.reconcile(answered) is Presence.UNKNOWN
        for ago, presence in ((0.0, Presence.UNKNOWN), (25.0, Presence.UNKNOWN), (35.0, Presence.GONE)):
            vars(answered)["answered_at"] = time.time() - ago
            assert await control.reconcile(answered) is presence
        vars(answered)["session_id"] = vars(ringing)["session_id"] = session_id
        assert await control.reconcile(answered) is Presence.ALIVE
        assert await control.reconcile(ringing) is Presence.ALIVE


@pytest.mark.asyncio
async def test_reconcile_for_a_dispatcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a gap: whose end was lost is ended, who is there stays, of who rings nobody knows."""
    monkeypatch.setattr(module, "_PRESENCE_LAG", 0.0)
    daily = FakeDaily()
    numbers = [f"+1202555010{number}" for number in range(3)]
    daily.lines[numbers[0]] = PhoneLine(loses={"dialout.stopped", "participant.left"})
    daily.lines[numbers[2]] = PhoneLine(answers=None)
    late: list[RestControl] = []

    async def ask(session: Session) -> Presence:
        return await late[0].reconcile(session)

    async with phone(daily, calls={"reconcile": ask}) as line:
        control = line.calls.control
        assert isinstance(control, RestControl)
        late.append(control)
        ids = [await control.start(PhoneDialout(phone_number=number), ROOM) for number in numbers]
        for session_id, state in zip(ids, ("answered", "answered", "connected"), strict=True):
            await line.calls.wait_for(session_id, state, 5)
        daily.hang_up(ids[0])
        await anyio.to_thread.run_sync(daily.settled)
        assert not any(line.calls.session(one).ended for one in ids)  # type: ignore[union-attr]
        await line.calls.receive(SourceGap(reason="lost"))
        gone = await line.calls.wait_for(ids[0], "stopped", 5)
        assert gone.ended_by == "system"
        assert [session.session_id for session in line.calls.live()] == ids[1:]


@pytest.mark.asyncio
async def test_through_real_webhooks() -> None:
    """What we stop ends by us, whoever is first with the news; what the far side ends does not."""
    async with phone() as line:
        calls, daily = line.calls, line.daily
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
        told = [(session.ended_by, session.cause) for session in ended]
        assert told == [
            ("local", "completed"),
            ("remote", "transferred"),
            ("unknown", "completed"),
            ("local", "completed"),
        ]
        assert [daily.session(one).ended_by for one in (*ids, dialin)] == ["stop", "transfer", "remote", "eject"]
