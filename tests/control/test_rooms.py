"""Rooms over REST: requests, answers, and answers that make no sense."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from telstate.control import DailyApi, Room, RoomParticipant, Rooms
from telstate.errors import DailyError, DefinitionError, UnknownResult
from telstate.options import PinDialin, RoomNumber, SipRoom
from telstate.testing import FakeDaily, PhoneLine
from telstate.testing._daily import KEY
from telstate.testing._faults import Fault, cut, instead, lost

pytestmark = pytest.mark.anyio

SIP = SipRoom(display_name="Support", num_endpoints=3)
CONFIGURED = {"sip_mode": "dial-in", "display_name": "Support", "num_endpoints": 3}
URIS = tuple(f"sip:support.{number}@example.sip.daily.co" for number in range(3))


@pytest.fixture
def anyio_backend() -> str:
    """asyncio only: test_api.py runs on both event loops."""
    return "asyncio"


@asynccontextmanager
async def rooms_of(daily: FakeDaily) -> AsyncIterator[Rooms]:
    """With short pauses."""
    async with DailyApi(KEY, url=daily.url, timeout=5.0, pauses=(0.01, 0.02)) as api:
        yield Rooms(api)


async def test_the_life_of_a_room(daily: FakeDaily) -> None:
    """Every request, and every answer."""
    async with rooms_of(daily) as rooms:
        room = await rooms.create("support", sip=SIP, properties={"enable_dialout": True, "sip": "another"})
        assert room == await rooms.get("support")
        assert (room.name, room.url) == ("support", "https://example.daily.co/support")
        assert room.sip == CONFIGURED
        assert room.endpoints == URIS
        assert room.config["enable_dialout"] is True
        one = await rooms.set_sip("support", SipRoom(display_name="One"))
        assert one.endpoints == URIS[:1]
        none = await rooms.clear_sip("support")
        assert (none.sip, none.endpoints) == (None, ())
        assert await rooms.delete("support") is None  # type: ignore[func-returns-value]
        with pytest.raises(DailyError, match="for a typo") as raised:
            await rooms.get("support")
        assert raised.value.status == 404
    path = "/v1/rooms/support"
    assert [(one.method, one.path, one.body) for one in daily.seen] == [
        ("POST", "/v1/rooms", {"name": "support", "properties": {"enable_dialout": True, "sip": CONFIGURED}}),
        ("GET", path, None),
        ("POST", path, {"properties": {"sip": {"sip_mode": "dial-in", "display_name": "One"}}}),
        ("POST", path, {"properties": {"sip": None}}),
        ("DELETE", path, None),
        ("GET", path, None),
    ]


async def test_daily_can_choose_the_name(daily: FakeDaily) -> None:
    """Only given values are sent."""
    async with rooms_of(daily) as rooms:
        room = await rooms.create()
        assert room.name
        assert (room.sip, room.endpoints) == (None, ())
        with pytest.raises(DailyError, match="already exists"):
            await rooms.create(room.name)
        for method in (rooms.create, rooms.get, rooms.delete, rooms.clear_sip, rooms.presence):
            for name in ("", ".", ".."):
                with pytest.raises(DefinitionError):
                    await method(name)
    assert [one.body for one in daily.seen] == [{}, {"name": room.name}]


async def test_presence(daily: FakeDaily) -> None:
    """The participants, with the user id of a dial-out. Odd entries are left out."""
    daily.lines["+12025550101"] = PhoneLine()
    daily.host("support")
    async with rooms_of(daily) as rooms:
        (bot,) = await rooms.presence("support")
        assert (bot.user_id, bot.user_name) == (None, "bot")
        with pytest.raises(DailyError) as raised:
            await rooms.presence("a/b")
        assert raised.value.status == 404
        people = b'[{"id": "a", "userId": "u", "userName": "n"}, {"id": "b", "userId": 7, "userName": []}, {"id": 7}, {}, "c", null]'
        daily.faults.append(instead(200, b'{"data": %b}' % people))
        assert await rooms.presence("support") == (RoomParticipant("a", "u", "n"), RoomParticipant("b"))


@pytest.mark.parametrize("body", [b"", b"[]", b"7", b'"a"', b"{}", b'{"data": null}', b'{"data": {"a": 1}}'])
async def test_an_answer_that_is_not_a_presence_is_an_error(daily: FakeDaily, body: bytes) -> None:
    """Not an empty room: a program might dial again because of it."""
    daily.faults.append(instead(200, body))
    async with rooms_of(daily) as rooms:
        with pytest.raises(DailyError, match="not a presence") as raised:
            await rooms.presence("support")
    assert type(raised.value) is DailyError


@pytest.mark.parametrize("body", [b"", b"[]", b'"a"', b"{}", b'{"name": 7}', b'{"config": {}}'])
async def test_an_answer_that_is_not_a_room_is_an_error(daily: FakeDaily, body: bytes) -> None:
    """The change may have been made all the same."""
    daily.rules["*"] = instead(200, body)
    async with rooms_of(daily) as rooms:
        for change in (rooms.create(), rooms.set_sip("a", SIP), rooms.clear_sip("a")):
            with pytest.raises(UnknownResult, match="not a room"):
                await change
        with pytest.raises(DailyError, match="not a room") as raised:
            await rooms.get("a")
        assert type(raised.value) is DailyError


@pytest.mark.parametrize(
    "config",
    [
        b"null",
        b"7",
        b"[]",
        b'{"sip": [], "sip_uri": "sip:a@b"}',
        b'{"sip": "x", "sip_uri": {"endpoint": 7, "extra_endpoints": "sip:a@b"}}',
        b'{"sip_uri": {"endpoint": "", "extra_endpoints": [null, 7, "", {}]}}',
    ],
)
async def test_odd_values_of_a_room_are_left_out(daily: FakeDaily, config: bytes) -> None:
    """The rest is read."""
    daily.faults.append(instead(200, b'{"name": "a", "url": 7, "config": %b}' % config))
    async with rooms_of(daily) as rooms:
        room = await rooms.get("a")
    assert isinstance(room, Room)
    assert room[:4] == ("a", None, None, ())
    assert isinstance(room.config, dict)


async def test_a_room_with_extra_endpoints_only(daily: FakeDaily) -> None:
    """They are listed too."""
    daily.faults.append(
        instead(200, b'{"name": "a", "config": {"sip_uri": {"extra_endpoints": ["sip:a@b", 7, "c@d"]}}}')
    )
    async with rooms_of(daily) as rooms:
        assert (await rooms.get("a")).endpoints == ("sip:a@b", "c@d")


@pytest.mark.parametrize("fault", [lost, cut, instead(500), instead(429)])
async def test_retries(daily: FakeDaily, fault: Fault) -> None:
    """Creating a room is never retried; idempotent requests are."""
    async with rooms_of(daily) as rooms:
        daily.faults.append(fault)
        with pytest.raises(DailyError) as raised:
            await rooms.create("new")
        assert isinstance(raised.value, UnknownResult) == (raised.value.status != 429)
        assert len(daily.seen) == 1
        daily.host("support")
        daily.faults.append(fault)
        assert (await rooms.set_sip("support", SIP)).endpoints == URIS
        daily.faults.append(fault)
        assert (await rooms.clear_sip("support")).endpoints == ()
        assert len(daily.seen) == 5
        daily.faults.append(fault)
        await rooms.delete("support")  # if the answer was lost, the first request deleted it
        assert len(daily.seen) == 7
        with pytest.raises(DailyError, match="not found"):
            await rooms.delete("support")
        with pytest.raises(DailyError, match="not found"):
            await rooms.get("support")


@pytest.mark.parametrize("then_all", [True, False])
async def test_an_incomplete_presence_is_requested_again(daily: FakeDaily, then_all: bool) -> None:
    """A participant who is missing in it would count as gone."""
    part = b'{"total_count": 2, "data": [{"id": "a", "userId": null}]}'
    whole = b'{"total_count": 2, "data": [{"id": "a"}, {"id": "b", "userId": "u"}]}'
    daily.faults.extend((instead(200, part), instead(200, whole if then_all else part)))
    async with DailyApi(daily.key, url=daily.url) as api:
        if then_all:
            assert await Rooms(api).presence("r") == (RoomParticipant("a"), RoomParticipant("b", "u"))
        else:
            with pytest.raises(DailyError, match="listed 1 of 2"):
                await Rooms(api).presence("r")


async def test_a_room_with_a_pin(daily: FakeDaily) -> None:
    """Daily makes the PIN, and keeps it until PIN dial-in is disabled."""
    exp = time.time() + 3600
    pin = PinDialin(display_name="Caller", room_numbers=(RoomNumber(phone_number="+12025550100"),))
    async with rooms_of(daily) as rooms:
        room = await rooms.create("a", pin=pin, enable_dialin=True, enable_dialout=False, properties={"exp": exp})
        assert room.pin is not None
        assert room.pin.isdecimal()
        assert (room.config["enable_dialin"], room.config["enable_dialout"]) == (True, False)
        assert room.config["dialin"] == pin.body()
        changed = await rooms.update("a", pin=PinDialin(display_name="Other"), enable_dialout=True)
        assert (changed.pin, changed.config["dialin"]) == (room.pin, {"display_name": "Other"})
        assert (changed.config["enable_dialin"], changed.config["enable_dialout"]) == (True, True)
        assert (await rooms.update("a", sip=SIP)).endpoints == tuple(uri.replace("support", "a") for uri in URIS)
        assert (await rooms.clear_pin("a")).pin is None
        daily.faults.append(instead(200, b'{"name": "a", "config": {"dialin_code": 12345}}'))
        assert (await rooms.get("a")).pin == "12345"
    assert daily.seen[0].body == {
        "name": "a",
        "properties": {"exp": exp, "dialin": pin.body(), "enable_dialin": True, "enable_dialout": False},
    }


async def test_a_room_with_a_pin_must_expire(daily: FakeDaily) -> None:
    """Within a year: Daily refuses others. What can be seen here is not sent."""
    pin, now = PinDialin(display_name="Caller"), time.time()
    async with rooms_of(daily) as rooms:
        for exp, text in (
            (None, "must expire within a year: give properties="),
            ("soon", "must expire within a year"),
            (True, "must expire within a year"),
            (now - 1, "in the future and less than 365 days away"),
            (now + 366 * 86400, "in the future and less than 365 days away"),
            ((now + 60) * 1000, "in Unix seconds"),
        ):
            with pytest.raises(DefinitionError, match=text):
                await rooms.create("a", pin=pin, properties={"exp": exp})
        with pytest.raises(DefinitionError, match="must expire"):
            await rooms.create("a", properties={"dialin": pin.body()})
        with pytest.raises(DefinitionError, match="less than 365 days away"):
            await rooms.update("a", pin=pin, properties={"exp": 1})
        with pytest.raises(DefinitionError, match="nothing to change"):
            await rooms.update("a")
        assert daily.seen == []
        await rooms.create("a")
        with pytest.raises(DailyError, match="exp of less than 365 days"):
            await rooms.update("a", pin=pin)  # it may have had one
        assert (await rooms.update("a", pin=pin, properties={"exp": now + 60})).pin is not None
