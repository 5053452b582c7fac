"""A program that receives what the fake sends about callers of a trunk and callers with a PIN: sessions with the right facts."""

from __future__ import annotations

import time

import pytest
from pydantic import SecretStr

from telstate import Cause, State
from telstate.control import DailyApi, Rooms, Trunks
from telstate.options import PinDialin, SipTrunk, TrunkAccess, TrunkNotification
from tests.testing.world import SECRET, watched

pytestmark = pytest.mark.asyncio

NUMBER, CALLER = "+12025550100", "+12025550142"


async def test_a_trunks_caller_waits_then_is_a_session() -> None:
    """With the numbers and the time in ringback; nothing about it is odd."""
    async with watched(registers=0.05) as world, DailyApi(world.daily.key, url=world.daily.url) as api:
        daily, hook = world.daily, f"{str(world.daily._webhook).removesuffix('/webhooks')}/sip-trunk"
        notification = TrunkNotification(webhook_url=hook, hmac=SecretStr(SECRET))
        access = TrunkAccess(allowed_ips=("203.0.113.7",))
        await Trunks(api).create(SipTrunk(trunk_name="a", notification=notification, trunk_config=access))
        call_id = daily.call_trunk(NUMBER, CALLER, talks=0.05)
        (call,) = daily.trunk_calls
        await world.until(lambda: call.state in ("accepted", "connected"))
        for caller in world.calls.waiting():  # unless they are connected already
            assert (caller.call_id, caller.room, caller.via_trunk) == (call_id, call.room, True)
        await world.until(lambda: call.state == "connected")
        session = world.calls.session(str(call.session_id))
        assert session is not None
        assert (session.state, session.room) == (State.CONNECTED, call.room)
        assert (session.caller, session.called, session.pinless_call_id) == (CALLER, NUMBER, call_id)
        daily.host(call.room)
        await world.until(lambda: not daily.live())
        ended = world.calls.session(str(call.session_id))
        assert ended is not None
        assert ended.cause is Cause.COMPLETED
        assert not ended.anomalies
        assert not world.calls.waiting()


async def test_a_caller_with_a_pin_is_a_session_of_the_room() -> None:
    """From the first event on."""
    async with watched() as world, DailyApi(world.daily.key, url=world.daily.url) as api:
        pin = PinDialin(display_name="Caller", wait_for_meeting_start=True)
        room = await Rooms(api).create("pin", pin=pin, properties={"exp": time.time() + 60})
        call_id = world.daily.call_pin(NUMBER, str(room.pin), CALLER)
        world.daily.host("pin")
        (leg,) = world.daily.live()
        await world.until(lambda: leg.joined_at is not None)
        session = world.calls.session(leg.session_id)
        assert session is not None
        assert (session.state, session.room, session.display_name) == (State.ANSWERED, "pin", "Caller")
        assert leg.call_id == call_id
        assert not session.anomalies
