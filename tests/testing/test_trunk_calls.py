"""Calls on a SIP trunk of the fake, from the carrier's INVITE to the end, over real HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from telstate.sources import TRUNK, Secret, verify
from telstate.testing import CallRejected, FakeDaily, Leg, PhoneLine, TrunkCall
from tests.control.receiving import SECRET, Receiver

NUMBER, CALLER = "+12025550100", "+12025550142"


@pytest.fixture
def hook() -> Iterator[Receiver]:
    """The receiver of the domain's webhooks."""
    with Receiver() as listening:
        yield listening


@pytest.fixture
def daily(hook: Receiver) -> Iterator[FakeDaily]:
    """With the usual patience."""
    with FakeDaily(hook.url) as fake:
        yield fake


@pytest.fixture
def hasty(hook: Receiver) -> Iterator[FakeDaily]:
    """With little patience, but more than a machine stands still for."""
    with FakeDaily(hook.url, ringback=1.5) as fake:
        yield fake


def rest(daily: FakeDaily, method: str, path: str, body: Any = None) -> httpx.Response:
    """Send a request with the key."""
    headers = {"Authorization": f"Bearer {daily.key}"}
    return httpx.request(method, daily.url + path, json=body, headers=headers, trust_env=False)


def make(daily: FakeDaily, receiver: Receiver, name: str = "support", **fields: Any) -> dict[str, Any]:
    """Create a trunk."""
    body = {
        "trunk_name": name,
        "notification": {"webhook_url": receiver.url, "hmac": SECRET},
        "trunk_config": {"allowed_ips": ["203.0.113.7"], "exp_offset": 60},
        "room_template": {"enable_recording": "cloud", "max_sip_pstn_sessions_per_room": 1},
        "description": "Our carrier",
        **fields,
    }
    answer = rest(daily, "POST", "/sip-trunk", body)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def call_of(daily: FakeDaily, call_id: str) -> TrunkCall:
    """What became of a call."""
    (call,) = [one for one in daily.trunk_calls if one.call_id == call_id]
    return call


def connected(daily: FakeDaily, call_id: str) -> Leg:
    """The session of a call, once there is one."""
    call = call_of(daily, call_id)
    until(lambda: call.state == "connected")
    assert call.session_id is not None
    return daily.session(call.session_id)


def events(daily: FakeDaily, room: str) -> list[str]:
    """The domain's webhooks about a room, without the bot's own; `dialin.ready`, which no order binds, comes first."""
    daily.settled()
    of = [one for one in daily.sent if one.body["payload"].get("room") == room]
    kinds = [one.type for one in of if not one.body["payload"].get("owner")]
    return sorted(kinds, key=lambda kind: kind != "dialin.ready")


def test_a_call_from_the_invite_to_the_end(daily: FakeDaily, receiver: Receiver) -> None:
    """The room is made from the template, the receiver learns of it, the caller is connected, and heard once the bot is there."""
    make(daily, receiver)
    call_id = daily.call_trunk(NUMBER, CALLER)
    leg = connected(daily, call_id)
    call = call_of(daily, call_id)
    body = receiver.received[-1]
    verify([Secret(SECRET)], TRUNK, receiver.headers[-1], receiver.raw[-1], time.time())
    assert (body["type"], body["version"]) == ("sip_trunk.incoming", "1.0.0")
    payload = body["payload"]
    assert (payload["from"], payload["to"], payload["call_id"]) == (CALLER, NUMBER, call_id)
    assert payload["room"] == {"name": call.room, "url": f"https://example.daily.co/{call.room}"}
    assert payload["trunk"] == {"name": "support", "description": "Our carrier"}
    room = rest(daily, "GET", f"/rooms/{call.room}").json()["config"]
    assert (room["enable_recording"], room["sip"]["display_name"]) == ("cloud", CALLER)
    assert 0 < room["exp"] - time.time() < 60
    assert (leg.room, leg.call_id, leg.sip_from, leg.live) == (
        call.room,
        call_id,
        f"sip:{CALLER}@carrier.example",
        True,
    )
    assert leg.joined_at is None
    assert events(daily, call.room) == ["dialin.ready", "dialin.connected"]
    daily.host(call.room)
    until(lambda: leg.joined_at is not None)
    assert daily.hang_up(call_id)
    assert events(daily, call.room)[2:] == ["participant.joined", "participant.left", "dialin.stopped"]
    assert (leg.ended_by, daily.hang_up(call_id)) == ("remote", False)


def test_a_bot_that_is_there_first_hears_the_caller_at_once(daily: FakeDaily, receiver: Receiver) -> None:
    """The endpoint is ready once, and the caller talks as long as told."""
    make(daily, receiver)
    receiver.delay = 0.05
    call_id = daily.call_trunk(NUMBER, talks=0.02)
    call = call_of(daily, call_id)
    daily.host(call.room)
    leg = connected(daily, call_id)
    until(lambda: not leg.live)
    kinds = ["dialin.ready", "dialin.connected", "participant.joined", "participant.left", "dialin.stopped"]
    assert events(daily, call.room) == kinds


@pytest.mark.long
def test_a_call_that_the_receiver_does_not_accept_is_rejected(hasty: FakeDaily, receiver: Receiver) -> None:
    """It is told again and again while the caller hears ringback, then the carrier gets a 480. No event says so."""
    make(hasty, receiver)
    receiver.answers = 503
    for _ in range(10):
        receiver.received.clear()
        started = time.monotonic()
        call_id = hasty.call_trunk(NUMBER)
        call = call_of(hasty, call_id)
        until(lambda call=call: call.state != "ringing")  # type: ignore[misc]
        assert time.monotonic() - started > 0.25
        if len(receiver.received) > 2:  # else the machine stood still
            break
    assert (call.state, call.rejected, call.session_id) == ("rejected", "480 Notification Failed", None)
    tries = [one for one in receiver.received if one["type"] == "sip_trunk.incoming"]
    assert len(tries) > 2
    assert {one["id"] for one in tries} == {f"sip-trunk-in-{call_id}"}
    assert events(hasty, call.room) == []
    assert [one.delivered for one in hasty.sent if one.type == "sip_trunk.incoming"][-1] is False


def test_an_answer_that_comes_after_a_failure_is_in_time(daily: FakeDaily, receiver: Receiver) -> None:
    """Any 2xx is one."""
    make(daily, receiver)
    receiver.answers = 500
    call_id = daily.call_trunk(NUMBER)
    until(lambda: len(receiver.received) > 1)
    receiver.answers = 202
    assert connected(daily, call_id).live


@pytest.mark.long
def test_a_receiver_that_is_too_slow_is_no_receiver(hasty: FakeDaily, receiver: Receiver) -> None:
    """The caller does not wait longer than the budget."""
    make(hasty, receiver)
    receiver.delay = 3.0
    call = call_of(hasty, hasty.call_trunk(NUMBER))
    until(lambda: call.state != "ringing")
    assert call.rejected == "480 Notification Failed"


def test_callers_who_hang_up_early(daily: FakeDaily, receiver: Receiver) -> None:
    """While it rings, or before the SIP worker is up: nobody is told, and no session follows."""
    make(daily, receiver)
    receiver.answers = 500
    ringing = call_of(daily, daily.call_trunk(NUMBER))
    assert daily.hang_up(ringing.call_id)
    receiver.answers = 200
    daily.settled()
    assert (ringing.state, daily.hang_up(ringing.call_id)) == ("abandoned", False)
    assert daily.sessions == []


@pytest.mark.long
def test_callers_who_hang_up_or_whose_room_is_deleted_before_they_are_connected(receiver: Receiver) -> None:
    """The latter are rejected; the call says why."""
    with FakeDaily(registers=3.0) as daily:
        make(daily, receiver)
        gone, early = (call_of(daily, daily.call_trunk(NUMBER)) for _ in range(2))
        until(lambda: gone.state == early.state == "accepted")
        assert rest(daily, "DELETE", f"/rooms/{gone.room}").status_code == 200
        assert daily.hang_up(early.call_id)
        until(lambda: gone.state == "rejected")
        assert gone.rejected == f"404: the room {gone.room} was deleted"
        assert (early.state, daily.sessions) == ("abandoned", [])


def test_callers_whose_room_is_full(daily: FakeDaily, receiver: Receiver) -> None:
    """They are rejected; the call says why."""
    make(daily, receiver, "full", room_template={"max_sip_pstn_sessions_per_room": 0})
    full = call_of(daily, daily.call_trunk(NUMBER, trunk="full"))
    until(lambda: full.state == "rejected")
    assert "has 0 telephone sessions, and may not have more" in str(full.rejected)


def test_a_deleted_room_ends_a_call_that_no_bot_joined(daily: FakeDaily, receiver: Receiver) -> None:
    """Its caller is not left in a room that does not exist."""
    make(daily, receiver)
    leg = connected(daily, daily.call_trunk(NUMBER))
    assert rest(daily, "DELETE", f"/rooms/{leg.room}").status_code == 200
    assert (leg.live, leg.ended_by) == (False, "meeting")
    assert events(daily, leg.room)[-1] == "dialin.stopped"


def test_lines_of_a_trunks_caller(daily: FakeDaily, receiver: Receiver) -> None:
    """They fail, and webhooks get lost, as with any dial-in."""
    make(daily, receiver)
    leg = connected(daily, daily.call_trunk(NUMBER, line=PhoneLine(fails=0.0, loses={"dialin.connected"})))
    until(lambda: not leg.live)
    assert events(daily, leg.room) == ["dialin.ready", "dialin.error"]


def test_which_trunk_is_called(daily: FakeDaily, receiver: Receiver) -> None:
    """The only one, or the named one; a disabled one takes no calls."""
    with pytest.raises(CallRejected, match="no trunk is the only one"):
        daily.call_trunk(NUMBER)
    trunk = make(daily, receiver)
    make(daily, receiver, "sales")
    with pytest.raises(CallRejected, match="no trunk is the only one"):
        daily.call_trunk(NUMBER)
    assert call_of(daily, daily.call_trunk(NUMBER, trunk="sales")).trunk == "sales"
    assert rest(daily, "PUT", f"/sip-trunk/{trunk['id']}", {"enabled": False}).json()["enabled"] is False
    with pytest.raises(CallRejected, match="the trunk support is disabled"):
        daily.call_trunk(NUMBER, trunk="support")


@pytest.mark.parametrize(
    ("fields", "info"),
    [
        ({"trunk_name": ""}, "trunk_name is missing"),
        ({"trunk_name": 7}, "trunk_name is not a field of a trunk, or has the wrong type"),
        ({"webhook_url": "https://a"}, "webhook_url is not a field"),
        ({"notification": {}}, "notification.webhook_url is required"),
        ({"notification": {"webhook_url": "http://127.0.0.1:1/"}}, "must return 2xx, recvd undefined"),
        ({"notification": {"webhook_url": "http://127.0.0.1:1/", "hmac": "no base64!"}}, "hmac must be base64"),
        ({"trunk_config": {}}, "must have allowed_ips or credential, or is_open"),
        ({"trunk_config": {"allowed_ips": []}}, "must have allowed_ips or credential, or is_open"),
    ],
)
def test_trunks_that_daily_refuses(daily: FakeDaily, receiver: Receiver, fields: dict[str, Any], info: str) -> None:
    """With 400."""
    body = {
        "trunk_name": "support",
        "notification": {"webhook_url": receiver.url},
        "trunk_config": {"is_open": True},
    }
    answer = rest(daily, "POST", "/sip-trunk", {**body, **fields})
    assert answer.status_code == 400
    assert info in answer.json()["info"]
    assert rest(daily, "GET", "/sip-trunk").json() == {"total_count": 0, "data": []}


def test_the_budget_is_checked() -> None:
    """It is a number of seconds."""
    with pytest.raises(ValueError, match="ringback= above 0"):
        FakeDaily(ringback=0)
