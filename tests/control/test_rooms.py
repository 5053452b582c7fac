"""Rooms over REST: what goes over the wire, what comes back, and what nobody can read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from telstate.control import DailyApi, Room, RoomParticipant, Rooms, SipRoom
from telstate.errors import DailyError, DefinitionError, UnknownResult
from telstate.testing import FakeDaily, PhoneLine
from telstate.testing._daily import KEY
from telstate.testing._faults import Fault, cut, instead, lost

pytestmark = pytest.mark.anyio

SIP = SipRoom(display_name="Support", num_endpoints=3)
TOLD = {"sip_mode": "dial-in", "display_name": "Support", "num_endpoints": 3}
URIS = tuple(f"sip:support.{number}@example.sip.daily.co" for number in range(3))


@pytest.fixture
def anyio_backend() -> str:
    """asyncio alone: both event loops meet in the tests of what sends the requests."""
    return "asyncio"


@asynccontextmanager
async def rooms_of(daily: FakeDaily) -> AsyncIterator[Rooms]:
    """In a hurry."""
    async with DailyApi(KEY, url=daily.url, timeout=5.0, pauses=(0.01, 0.02)) as api:
        yield Rooms(api)


async def test_the_life_of_a_room(daily: FakeDaily) -> None:
    """All that is sent, and all that comes back."""
    async with rooms_of(daily) as rooms:
        room = await rooms.create("support", sip=SIP, properties={"enable_dialout": True, "sip": "another"})
        assert room == await rooms.get("support")
        assert (room.name, room.url) == ("support", "https://example.daily.co/support")
        assert room.sip == TOLD
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
        ("POST", "/v1/rooms", {"name": "support", "properties": {"enable_dialout": True, "sip": TOLD}}),
        ("GET", path, None),
        ("POST", path, {"properties": {"sip": {"sip_mode": "dial-in", "display_name": "One"}}}),
        ("POST", path, {"properties": {"sip": None}}),
        ("DELETE", path, None),
        ("GET", path, None),
    ]


async def test_a_room_that_daily_names(daily: FakeDaily) -> None:
    """Nothing is sent that was not given."""
    async with rooms_of(daily) as rooms:
        room = await rooms.create()
        assert room.name
        assert (room.sip, room.endpoints) == (None, ())
        with pytest.raises(DailyError, match="already exists"):
            await rooms.create(room.name)
        for ask in (rooms.create, rooms.get, rooms.delete, rooms.clear_sip, rooms.presence):
            for name in ("", ".", ".."):
                with pytest.raises(DefinitionError):
                    await ask(name)
    assert [one.body for one in daily.seen] == [{}, {"name": room.name}]


async def test_presence(daily: FakeDaily) -> None:
    """Who is there, with the user id of a dial-out."""
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
async def test_what_is_no_presence(daily: FakeDaily, body: bytes) -> None:
    """Is not an empty room: somebody might dial again for it."""
    daily.faults.append(instead(200, body))
    async with rooms_of(daily) as rooms:
        with pytest.raises(DailyError, match="no presence") as raised:
            await rooms.presence("support")
    assert type(raised.value) is DailyError


@pytest.mark.parametrize("body", [b"", b"[]", b'"a"', b"{}", b'{"name": 7}', b'{"config": {}}'])
async def test_what_is_no_room(daily: FakeDaily, body: bytes) -> None:
    """What was to be made or changed may have been."""
    daily.rules["*"] = instead(200, body)
    async with rooms_of(daily) as rooms:
        for change in (rooms.create(), rooms.set_sip("a", SIP), rooms.clear_sip("a")):
            with pytest.raises(UnknownResult, match="no room"):
                await change
        with pytest.raises(DailyError, match="no room") as raised:
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
async def test_odd_rooms(daily: FakeDaily, config: bytes) -> None:
    """What makes no sense is left out."""
    daily.faults.append(instead(200, b'{"name": "a", "url": 7, "config": %b}' % config))
    async with rooms_of(daily) as rooms:
        room = await rooms.get("a")
    assert isinstance(room, Room)
    assert room[:4] == ("a", None, None, ())
    assert isinstance(room.config, dict)


async def test_only_extra_endpoints(daily: FakeDaily) -> None:
    """They are told, too."""
    daily.faults.append(
        instead(200, b'{"name": "a", "config": {"sip_uri": {"extra_endpoints": ["sip:a@b", 7, "c@d"]}}}')
    )
    async with rooms_of(daily) as rooms:
        assert (await rooms.get("a")).endpoints == ("sip:a@b", "c@d")


@pytest.mark.parametrize("fault", [lost, cut, instead(500), instead(429)])
async def test_what_is_sent_again(daily: FakeDaily, fault: Fault) -> None:
    """A room is made once; what is done twice is done once."""
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
        await rooms.delete("support")  # where the answer was lost it had gone the first time
        assert len(daily.seen) == 7
        with pytest.raises(DailyError, match="not found"):
            await rooms.delete("support")
        with pytest.raises(DailyError, match="not found"):
            await rooms.get("support")


@pytest.mark.parametrize("then_all", [True, False])
async def test_a_presence_that_is_not_whole_is_asked_for_whole(daily: FakeDaily, then_all: bool) -> None:
    """Who is not in it might be called gone."""
    part = b'{"total_count": 2, "data": [{"id": "a", "userId": null}]}'
    whole = b'{"total_count": 2, "data": [{"id": "a"}, {"id": "b", "userId": "u"}]}'
    daily.faults.extend((instead(200, part), instead(200, whole if then_all else part)))
    async with DailyApi(daily.key, url=daily.url) as api:
        if then_all:
            assert await Rooms(api).presence("r") == (RoomParticipant("a"), RoomParticipant("b", "u"))
        else:
            with pytest.raises(DailyError, match="told of 1 of 2"):
                await Rooms(api).presence("r")
