"""Calls to the numbers of the fake's domain: pinless ones that REST points at a URL, and those with the PIN of a room."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from telstate.sources import PINLESS, Secret, verify
from telstate.testing import CallRejected, FakeDaily
from tests.control.receiving import SECRET, Receiver

NUMBER, OTHER = "+12025550100", "+12025550101"


def rest(daily: FakeDaily, method: str, path: str, body: Any = None) -> httpx.Response:
    """Send a request with the key."""
    headers = {"Authorization": f"Bearer {daily.key}"}
    return httpx.request(method, daily.url + path, json=body, headers=headers, trust_env=False)


def pinless(daily: FakeDaily, *entries: Any) -> httpx.Response:
    """Replace the domain's list."""
    return rest(daily, "POST", "/", {"properties": {"pinless_dialin": list(entries)}})


def test_a_call_to_a_pinless_number_is_reported_to_its_url(daily: FakeDaily, receiver: Receiver) -> None:
    """Signed with its secret, whether it is in the list or has a config."""
    pinless(daily, {"phone_number": NUMBER, "room_creation_api": receiver.url, "hmac": SECRET})
    config = {"type": "pinless_dialin", "phone_number": OTHER, "room_creation_api": receiver.url, "hmac": SECRET}
    assert rest(daily, "POST", "/domain-dialin-config", config).status_code == 200
    for number in (NUMBER, OTHER):
        call_id = daily.call_in(number)
        daily.settled()
        assert (receiver.received[-1]["To"], receiver.received[-1]["callId"]) == (number, call_id)
        verify([Secret(SECRET)], PINLESS, receiver.headers[-1], receiver.raw[-1], time.time())
    with pytest.raises(ValueError, match=r"or let REST set one for \+12025550102"):
        daily.call_in("+12025550102")


def test_the_list_is_replaced_as_a_whole(daily: FakeDaily) -> None:
    """An entry without a secret gets a new one each time; one that is not sent again is gone."""
    entry = {"phone_number": NUMBER, "room_creation_api": "https://a"}
    first, second = (pinless(daily, entry).json()["config"]["pinless_dialin"][0] for _ in range(2))
    assert first["hmac"] != second["hmac"]
    kept = pinless(daily, second).json()["config"]["pinless_dialin"]
    assert kept == [second] == rest(daily, "GET", "/").json()["config"]["pinless_dialin"]
    assert pinless(daily).json()["config"]["pinless_dialin"] == []


@pytest.mark.parametrize(
    "entries",
    [
        [7],
        [{"phone_number": NUMBER}],
        [{"phone_number": NUMBER, "room_creation_api": "https://a", "hmac": "no base64!"}],
        [{"phone_number": NUMBER, "room_creation_api": "https://a"}] * 2,
        [{"phone_number": OTHER, "room_creation_api": "https://a"}],
    ],
)
def test_lists_that_daily_refuses(daily: FakeDaily, entries: list[Any]) -> None:
    """With 400, and nothing changes. The last number has a config already."""
    assert (
        rest(daily, "POST", "/domain-dialin-config", {"type": "pin_dialin", "phone_number": OTHER}).status_code == 200
    )
    assert pinless(daily, *entries).status_code == 400
    assert rest(daily, "GET", "/").json()["config"]["pinless_dialin"] == []


def room_with_pin(daily: FakeDaily, name: str = "a", **dialin: Any) -> str:
    """Make a room; return its PIN."""
    properties = {"dialin": {"display_name": "Caller", **dialin}, "exp": time.time() + 60}
    answer = rest(daily, "POST", "/rooms", {"name": name, "properties": properties})
    assert answer.status_code == 200, answer.text
    pin: str = answer.json()["config"]["dialin_code"]
    return pin


def test_a_call_with_a_pin_is_a_dial_in_of_the_room(receiver: Receiver) -> None:
    """Like any other, without a SIP endpoint."""
    with FakeDaily(receiver.url) as daily:
        pin = room_with_pin(daily)
        daily.host("a")
        call_id = daily.call_pin(NUMBER, pin, OTHER)
        (leg,) = daily.live()
        assert (leg.room, leg.call_id, leg.display_name, leg.sip_endpoint) == ("a", call_id, "Caller", None)
        while leg.joined_at is None:
            time.sleep(0.002)
        assert daily.hang_up(call_id)
        daily.settled()
        kinds = [one["type"] for one in receiver.received if one["payload"].get("session_id") == leg.session_id]
        assert kinds == ["dialin.connected", "participant.joined", "participant.left", "dialin.stopped"]


def test_callers_who_wait_for_the_bot(daily: FakeDaily) -> None:
    """If the room has them wait; one hangs up before, and one finds the room full."""
    pin = room_with_pin(daily, wait_for_meeting_start=True)
    rest(daily, "POST", "/rooms/a", {"properties": {"max_sip_pstn_sessions_per_room": 1}})
    hasty, patient, late = (daily.call_pin(NUMBER, pin) for _ in range(3))
    assert daily.sessions == []
    assert daily.hang_up(hasty)
    assert not daily.hang_up(hasty)
    daily.host("a")
    (leg,) = daily.sessions
    assert (leg.call_id, daily.hang_up(late)) == (patient, False)


def test_callers_whom_no_room_takes(daily: FakeDaily) -> None:
    """A wrong PIN, another number, and a room where nobody is."""
    pin = room_with_pin(daily, room_numbers=[{"phone_number": NUMBER}])
    with pytest.raises(CallRejected, match=f"no room has the PIN 1 at \\{NUMBER}"):
        daily.call_pin(NUMBER, "1")
    with pytest.raises(CallRejected, match=f"no room has the PIN {pin} at \\{OTHER}"):
        daily.call_pin(OTHER, pin)
    with pytest.raises(CallRejected, match="nobody is in a, and wait_for_meeting_start is not set"):
        daily.call_pin(NUMBER, pin)
    assert "dialin_code" not in rest(daily, "POST", "/rooms/a", {"properties": {"dialin": None}}).json()["config"]
    with pytest.raises(CallRejected, match="no room has the PIN"):
        daily.call_pin(NUMBER, pin)


@pytest.mark.parametrize(
    ("dialin", "exp"),
    [
        ({"display_name": "a"}, None),
        ({"display_name": "a"}, 1),
        ({"display_name": "a"}, 10**12),
        ({}, 60),
        ("a", 60),
        ({"display_name": "a", "room_numbers": NUMBER}, 60),
    ],
)
def test_rooms_that_daily_refuses(daily: FakeDaily, dialin: Any, exp: float | None) -> None:
    """A room with a PIN must expire."""
    until = time.time() + exp if exp == 60 else exp
    properties = {"dialin": dialin, **({} if until is None else {"exp": until})}
    assert rest(daily, "POST", "/rooms", {"properties": properties}).status_code == 400
    assert rest(daily, "POST", "/rooms", {"properties": {"enable_dialin": "yes"}}).status_code == 400
