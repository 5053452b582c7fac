"""Telephony over REST: requests, retries, and the error of each refusal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from telstate.control import DailyApi, Telephony
from telstate.errors import (
    DailyError,
    DefinitionError,
    DialoutInProgress,
    ForwardingFailed,
    NoSuchSession,
    NotAllowed,
    NotHosting,
    NotRunning,
    NotSupported,
    RoomFull,
    TemporarilyNotAvailable,
    UnknownResult,
)
from telstate.options import Dtmf, Permissions, PhoneDialout, Refer, SipDialout, Transfer
from telstate.testing import FakeDaily, PhoneLine, refusals
from telstate.testing._daily import KEY
from telstate.testing._faults import Fault, cut, hang, instead, lost
from tests.control.receiving import Receiver, has_come

pytestmark = pytest.mark.anyio

ROOM = "support"
NUMBER = "+12025550101"
BOB = "sip:bob@example.com"
PHONE = PhoneDialout(phone_number=NUMBER)
RINGS_ON = PhoneLine(answers=None)
TRIES = 3
NOT_IDEMPOTENT: dict[str, Callable[[Telephony], Awaitable[object]]] = {
    f"/rooms/{ROOM}/dialOut/start": lambda phones: phones.start(ROOM, PHONE),
    f"/rooms/{ROOM}/dialOut/sendDTMF": lambda phones: phones.send_dtmf(ROOM, "s", Dtmf(tones="1")),
    f"/rooms/{ROOM}/sipCallTransfer": lambda phones: phones.transfer(ROOM, "s", Transfer(to_end_point=BOB)),
    f"/rooms/{ROOM}/sipRefer": lambda phones: phones.refer(ROOM, "s", Refer(to_end_point=BOB)),
    "/dialin/pinlessCallUpdate": lambda phones: phones.forward("c", "d", BOB),
}
IDEMPOTENT: dict[str, Callable[[Telephony], Awaitable[object]]] = {
    f"/rooms/{ROOM}/dialOut/stop": lambda phones: phones.stop(ROOM, "s"),
    f"/rooms/{ROOM}/eject": lambda phones: phones.eject(ROOM, "s"),
}


@pytest.fixture
def anyio_backend() -> str:
    """asyncio only: test_api.py runs on both event loops."""
    return "asyncio"


@asynccontextmanager
async def telephony(daily: FakeDaily, *, timeout: float = 5.0) -> AsyncIterator[Telephony]:  # noqa: ASYNC109
    """With somebody in the room."""
    daily.host(ROOM)
    async with DailyApi(KEY, url=daily.url, timeout=timeout, pauses=(0.01, 0.02)) as api:
        yield Telephony(api, start_timeout=timeout)


def requests_of(daily: FakeDaily) -> list[tuple[str, str, Any]]:
    """Every request: its method, its path below the base URL, its body."""
    return [(one.method, one.path.removeprefix("/v1"), one.body) for one in daily.seen]


def paths_of(daily: FakeDaily) -> list[str]:
    """The path of every request."""
    return [one.path.removeprefix("/v1") for one in daily.seen]


# --- requests ---------------------------------------------------------------------------------------------------


async def test_the_requests(daily: FakeDaily) -> None:
    """Method, path and body of each; only given values are sent."""
    daily.lines[NUMBER] = daily.lines[BOB] = RINGS_ON
    async with telephony(daily) as phones:
        one = await phones.start(ROOM, PhoneDialout(phone_number=NUMBER, user_id="u", extension="9"))
        two = await phones.start(ROOM, SipDialout(sip_uri=f"{BOB}?X-a=b", display_name="Bob"))
        assert [leg.session_id for leg in daily.sessions] == [one, two]
        await phones.send_dtmf(ROOM, one, Dtmf(tones="1a#", digit_duration_ms=200))
        await phones.stop(ROOM, one)
        await phones.transfer(
            ROOM,
            two,
            Transfer(to_end_point=NUMBER, caller_id="+12025550102", wait_before_extension_dial_sec=1, extension="7"),
        )
        three = await phones.start(ROOM, SipDialout(sip_uri=BOB))
        await phones.refer(ROOM, three, Refer(to_end_point=BOB))
        four = daily.dial_in(daily.host(ROOM)[0])
        await phones.eject(ROOM, four)
    room = f"/rooms/{ROOM}"
    assert requests_of(daily) == [
        ("POST", f"{room}/dialOut/start", {"phoneNumber": NUMBER, "userId": "u", "extension": "9"}),
        ("POST", f"{room}/dialOut/start", {"sipUri": f"{BOB}?X-a=b", "displayName": "Bob"}),
        ("POST", f"{room}/dialOut/sendDTMF", {"sessionId": one, "tones": "1A#", "digitDurationMs": 200}),
        ("POST", f"{room}/dialOut/stop", {"sessionId": one}),
        (
            "POST",
            f"{room}/sipCallTransfer",
            {
                "sessionId": two,
                "toEndPoint": NUMBER,
                "callerId": "+12025550102",
                "extension": "7",
                "waitBeforeExtensionDialSec": 1,
            },
        ),
        ("POST", f"{room}/dialOut/start", {"sipUri": BOB}),
        ("POST", f"{room}/sipRefer", {"sessionId": three, "toEndPoint": BOB}),
        ("POST", f"{room}/eject", {"ids": [four]}),
    ]
    assert {leg.ended_by for leg in daily.sessions[:4]} == {"stop", "transfer", "refer", "eject"}
    assert daily.session(one).tones == ["1A#"]


@pytest.mark.parametrize("prefix", ["", "sip:"])
async def test_a_caller_on_hold_is_forwarded(daily: FakeDaily, receiver: Receiver, prefix: str) -> None:
    """To an endpoint of the room, with or without `sip:`."""
    async with telephony(daily) as phones:
        endpoint = daily.host(ROOM)[0]
        call_id = daily.call_in("+12025550199", pinless=receiver.url)
        await phones.forward(call_id, "domain", prefix + endpoint.removeprefix("sip:"))
    assert requests_of(daily) == [
        ("POST", "/dialin/pinlessCallUpdate", {"callId": call_id, "callDomain": "domain", "sipUri": endpoint})
    ]
    assert [leg.call_id for leg in daily.live()] == [call_id]


@pytest.mark.parametrize("caller", [("", "domain"), ("call", "")])
async def test_forward_needs_the_callers_ids(daily: FakeDaily, caller: tuple[str, str]) -> None:
    """Daily would only say that fields are missing."""
    async with telephony(daily) as phones:
        with pytest.raises(ValueError, match="the caller's callId and callDomain"):
            await phones.forward(*caller, "sip:a@b.example")
    assert not daily.seen


@pytest.mark.parametrize("endpoint", ["", "sip:", "bob smith@example.com", "sips:bob@example.com", "sip:a@b\r\nX: y"])
async def test_forward_needs_a_sip_uri(daily: FakeDaily, endpoint: str) -> None:
    """Daily would drop the caller."""
    async with telephony(daily) as phones:
        with pytest.raises(ValueError, match="sip:"):
            await phones.forward("c", "d", endpoint)
    assert not daily.seen


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("a/b", "a%2Fb"),
        ("ä", "%C3%A4"),
        ("a b?c#d%", "a%20b%3Fc%23d%25"),
        ("../webhooks", "..%2Fwebhooks"),
        ("...", "..."),
        ("a\nb", "a%0Ab"),
    ],
)
async def test_room_names_are_quoted(daily: FakeDaily, name: str, quoted: str) -> None:
    """No name leads to another path."""
    sent: list[bytes] = []

    async def fault(app: Any, scope: Any, receive: Any, send: Any) -> None:
        sent.append(scope["raw_path"])
        await instead(200, b'{"ok": "true", "sessionId": "s", "ejectedIds": ["s"]}')(app, scope, receive, send)

    async with telephony(daily) as phones:
        daily.faults.extend([fault] * 2)
        assert await phones.start(name, PHONE) == "s"
        await phones.eject(name, "s")
    assert sent == [f"/v1/rooms/{quoted}/{what}".encode() for what in ("dialOut/start", "eject")]


async def test_invalid_room_names(daily: FakeDaily) -> None:
    """A path would lose them, or cannot hold them."""
    async with telephony(daily) as phones:
        for name in ("", ".", "..", "\ud800"):
            for request in (
                phones.start(name, PHONE),
                phones.stop(name, "s"),
                phones.send_dtmf(name, "s", Dtmf(tones="1")),
                phones.transfer(name, "s", Transfer(to_end_point=BOB)),
                phones.refer(name, "s", Refer(to_end_point=BOB)),
                phones.eject(name, "s"),
            ):
                with pytest.raises(DefinitionError, match="the last part of its URL"):
                    await request
    assert not daily.seen


async def test_options_that_rest_cannot_carry(daily: FakeDaily) -> None:
    """Nothing is sent."""
    async with telephony(daily) as phones:
        for permissions in (Permissions(can_receive={}), Permissions(can_receive={"base": False})):
            with pytest.raises(NotSupported, match="call client"):
                await phones.start(ROOM, PhoneDialout(phone_number=NUMBER, permissions=permissions))
        with pytest.raises(NotSupported, match="omit the method"):
            await phones.send_dtmf(ROOM, "s", Dtmf(tones="1", method="sip-info"))
        for none in ([], ["s"] * 101):
            with pytest.raises(DefinitionError, match=f"not {len(none)}"):
                await phones.eject(ROOM, *none)
    assert not daily.seen


async def test_after_its_api_was_left(daily: FakeDaily) -> None:
    """Nothing is sent."""
    async with telephony(daily) as phones:
        pass
    with pytest.raises(NotRunning):
        await phones.stop(ROOM, "s")
    assert not daily.seen


# --- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (refusals.ALREADY_STARTED, DialoutInProgress),
        (refusals.DIALOUT_IN_PROGRESS, DialoutInProgress),
        (refusals.CALL_CLOSED, NotHosting),
        (refusals.NOT_ALLOWED, NotAllowed),
        (refusals.NUMBERS_NOT_ENABLED, NotAllowed),
        (refusals.INTERNATIONAL_NOT_SUPPORTED, NotAllowed),
        (refusals.TEMPORARILY_NOT_AVAILABLE, TemporarilyNotAvailable),
        (refusals.TOO_MANY_REQUESTS, TemporarilyNotAvailable),
        (refusals.TOO_MANY_SESSIONS, RoomFull),
        (refusals.Refusal(500, "server-error"), UnknownResult),
        (refusals.Refusal(400, "invalid-request-error", "something new"), DailyError),
    ],
)
async def test_a_refused_start(daily: FakeDaily, refusal: refusals.Refusal, kind: type[DailyError]) -> None:
    """It is never retried."""
    daily.lines[NUMBER] = PhoneLine(refuses=refusal)
    async with telephony(daily) as phones:
        with pytest.raises(DailyError) as raised:
            await phones.start(ROOM, PHONE)
    assert type(raised.value) is kind
    assert (raised.value.status, raised.value.error) == (refusal.status, refusal.error)
    assert NUMBER not in str(raised.value)
    assert len(daily.seen) == 1


async def test_refusals_of_requests_that_act_on_a_call(daily: FakeDaily) -> None:
    """Of a session that does not exist, and of a room without anybody."""
    async with telephony(daily) as phones:
        for path, request in {**NOT_IDEMPOTENT, **IDEMPOTENT}.items():
            if "start" in path:
                continue
            with pytest.raises(ForwardingFailed if "pinless" in path else NoSuchSession):
                await request(phones)
        daily.leave(ROOM)
        for path, request in {**NOT_IDEMPOTENT, **IDEMPOTENT}.items():
            if "pinless" not in path and "DTMF" not in path and "eject" not in path:
                with pytest.raises(NotHosting):
                    await request(phones)


async def test_rooms_that_may_not_dial_out(daily: FakeDaily) -> None:
    """At all, or not more calls."""
    daily.lines[NUMBER] = RINGS_ON
    daily.host("mute", enable_dialout=False)
    daily.host("full", max_sip_pstn_sessions_per_room=1)
    async with telephony(daily) as phones:
        with pytest.raises(NotAllowed, match="enable_dialout"):
            await phones.start("mute", PHONE)
        await phones.start("full", PHONE)
        with pytest.raises(RoomFull):
            await phones.start("full", PHONE)


# --- retries --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [lost, cut, hang, instead(500), instead(429), instead(502, b"<html>")])
async def test_other_requests_are_never_retried(daily: FakeDaily, fault: Fault) -> None:
    """A second start is a second call, a second key is pressed twice."""
    daily.rules["*"] = fault
    async with telephony(daily, timeout=0.05 if fault is hang else 5) as phones:
        for request in NOT_IDEMPOTENT.values():
            for _ in range(10):
                before = len(daily.seen)
                with pytest.raises(DailyError) as raised:
                    await request(phones)
                if fault is not hang or await has_come(daily, before):
                    break
            refused = raised.value.status == 429
            assert type(raised.value) is (TemporarilyNotAvailable if refused else UnknownResult)
    assert paths_of(daily) == list(NOT_IDEMPOTENT)


@pytest.mark.parametrize("fault", [cut, hang, instead(500), instead(429), instead(502, b"<html>")])
async def test_stops_are_retried(daily: FakeDaily, fault: Fault) -> None:
    """To end a session twice is the same as once."""
    daily.rules["*"] = fault
    async with telephony(daily, timeout=0.05 if fault is hang else 5) as phones:
        came = list[str]()
        for request in IDEMPOTENT.values():
            for _ in range(10):
                before = len(daily.seen)
                with pytest.raises(DailyError):
                    await request(phones)
                if fault is not hang or await has_come(daily, before, TRIES):
                    break
            came += paths_of(daily)[before:]
    assert came == [path for path in IDEMPOTENT for _ in range(TRIES)]


@pytest.mark.parametrize("fault", [cut, instead(503), instead(429)])
@pytest.mark.parametrize("eject", [False, True])
async def test_a_retried_stop_succeeds(daily: FakeDaily, fault: Fault, *, eject: bool) -> None:
    """Once Daily answers."""
    daily.lines[NUMBER] = RINGS_ON
    async with telephony(daily) as phones:
        session_id = await phones.start(ROOM, PHONE)
        daily.faults.extend([fault] * (TRIES - 1))
        await (phones.eject if eject else phones.stop)(ROOM, session_id)
    assert not daily.live()
    assert len(daily.seen) == 1 + TRIES


@pytest.mark.parametrize("fault", [lost, cut, instead(503)])
@pytest.mark.parametrize("eject", [False, True])
async def test_a_retried_stop_that_finds_no_session_was_carried_out(
    daily: FakeDaily, fault: Fault, *, eject: bool
) -> None:
    """The first request ended it, as far as anybody can know."""
    daily.lines[NUMBER] = RINGS_ON
    async with telephony(daily) as phones:
        end = phones.eject if eject else phones.stop
        session_id = await phones.start(ROOM, PHONE)
        if fault is not lost:
            daily.hang_up(session_id)
        daily.faults.append(fault)
        await end(ROOM, session_id)
        assert not daily.live()
        assert len(daily.seen) == 3
        daily.faults.append(instead(429))  # it was not carried out, so the next answer counts as the first
        with pytest.raises(NoSuchSession) as raised:
            await end(ROOM, session_id)
        assert not raised.value.repeated


@pytest.mark.parametrize("eject", [False, True])
async def test_a_retried_stop_that_finds_no_call_was_carried_out(daily: FakeDaily, *, eject: bool) -> None:
    """The first request ended the last session and with it the meeting. Without a first request it proves nothing."""
    nobody = instead(404, b'{"error": "not-found", "info": "Room is not hosting a call"}')
    async with telephony(daily) as phones:
        end = phones.eject if eject else phones.stop
        daily.faults.extend([cut, nobody, nobody])
        await end(ROOM, "x")
        with pytest.raises(NotHosting) as raised:
            await end(ROOM, "x")
        assert not raised.value.repeated


async def test_an_eject_names_the_sessions_that_did_not_exist(daily: FakeDaily) -> None:
    """The others were removed."""
    daily.lines[NUMBER] = RINGS_ON
    async with telephony(daily) as phones:
        there = [await phones.start(ROOM, PHONE) for _ in range(2)]
        with pytest.raises(NoSuchSession) as raised:
            await phones.eject(ROOM, *there, "x", "y")
    assert "x, y" in str(raised.value)
    assert there[0] not in str(raised.value)
    assert not daily.live()


# --- odd answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"ok": "true"}',
        b'{"ok": "true", "sessionId": ""}',
        b'{"ok": true, "sessionId": 7}',
        b"[]",
        b'"s"',
        b"7",
    ],
)
async def test_a_start_without_a_session_id(daily: FakeDaily, body: bytes) -> None:
    """There may be a call."""
    daily.faults.append(instead(200, body))
    async with telephony(daily) as phones:
        with pytest.raises(UnknownResult, match="check before you"):
            await phones.start(ROOM, PHONE)
    assert len(daily.seen) == 1


@pytest.mark.parametrize("ok", [b'"false"', b"false", b'"no"', b"0", b"null", b"{}"])
async def test_an_answer_that_is_not_ok(daily: FakeDaily, ok: bytes) -> None:
    """It was not done, whatever else it says."""
    daily.rules["*"] = instead(200, b'{"ok": %b, "sessionId": "s", "ejectedIds": ["s"]}' % ok)
    async with telephony(daily) as phones:
        for request in (*NOT_IDEMPOTENT.values(), *IDEMPOTENT.values()):
            with pytest.raises(DailyError, match="not ok") as raised:
                await request(phones)
            assert type(raised.value) is DailyError


async def test_an_answer_that_is_not_ok_may_say_why(daily: FakeDaily) -> None:
    """It means the same as with another status."""
    daily.rules["*"] = instead(200, b'{"ok": "false", "error": "NOT_ALLOWED", "info": "buy it"}')
    async with telephony(daily) as phones:
        with pytest.raises(NotAllowed, match="not ok: NOT_ALLOWED: buy it") as raised:
            await phones.start(ROOM, PHONE)
        assert (raised.value.status, raised.value.error, raised.value.info) == (200, "NOT_ALLOWED", "buy it")
    assert len(daily.seen) == 1


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'"ok"', b"7", b"{"])
async def test_an_answer_that_is_not_an_object(daily: FakeDaily, body: bytes) -> None:
    """It may have been done."""
    daily.rules["*"] = instead(200, body)
    async with telephony(daily) as phones:
        for request in (*NOT_IDEMPOTENT.values(), *IDEMPOTENT.values()):
            with pytest.raises(UnknownResult):
                await request(phones)


@pytest.mark.parametrize("ok", [b'"true"', b'"True"', b"true"])
async def test_answers_that_are_ok(daily: FakeDaily, ok: bytes) -> None:
    """Daily's is a string, and others may come."""
    daily.faults.extend([instead(200, b'{"ok": %b, "sessionId": "s", "more": [1]}' % ok)] * 6)
    async with telephony(daily) as phones:
        for path, request in {**NOT_IDEMPOTENT, **IDEMPOTENT}.items():
            if "eject" not in path:
                assert await request(phones) == ("s" if "start" in path else None)


async def test_an_eject_without_the_session_in_its_answer(daily: FakeDaily) -> None:
    """It did not exist."""
    async with telephony(daily) as phones:
        for ejected in (b"null", b'"s"', b"{}", b"[]", b'["t"]', b'[["s"]]', b'{"s": 1}'):
            daily.faults.append(instead(200, b'{"ejectedIds": %b}' % ejected))
            with pytest.raises(NoSuchSession):
                await phones.eject(ROOM, "s")


async def test_a_start_has_its_own_timeout(daily: FakeDaily) -> None:
    """Longer than that of other requests."""
    daily.lines[NUMBER] = PhoneLine(answer_after=0.4)
    async with DailyApi(KEY, url=daily.url, timeout=0.1, pauses=()) as api:
        daily.host(ROOM)
        assert await Telephony(api).start(ROOM, PHONE)
        daily.lines[NUMBER] = PhoneLine(answer_after=30)
        for _ in range(10):
            before = len(daily.seen)
            with pytest.raises(DailyError) as raised:
                await Telephony(api, start_timeout=0.05).start(ROOM, PHONE)
            if await has_come(daily, before):
                break
        assert type(raised.value) is UnknownResult
        assert "within 0.05 seconds" in str(raised.value)
