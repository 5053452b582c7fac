"""What Daily's words mean: each text that was published, what is made of statuses, and that nobody's words do harm."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import structlog

from telstate.control import DailyApi, Dtmf, PhoneDialout, Refer, RestControl, Rooms, SipRoom, Telephony, Transfer
from telstate.control._error_mapping import ADVICE, error_type_of, is_permanent, one_line
from telstate.errors import (
    DailyError,
    DialoutInProgress,
    ForwardingFailed,
    NoSuchSession,
    NotAllowed,
    NotHosting,
    RoomFull,
    TemporarilyNotAvailable,
    UnknownResult,
)
from telstate.testing import _phone_lines as lines
from telstate.testing._daily import KEY, FakeDaily
from telstate.testing._faults import Fault, cut, hang, instead

BOB = "sip:bob@example.com"
TEXTS = [
    ("NOT_ALLOWED", NotAllowed),
    ("DIALOUT_IN_PROGRESS", DialoutInProgress),
    ("TEMPORARILY_NOT_AVAILABLE", TemporarilyNotAvailable),
    ("NOT_FOUND", NoSuchSession),
    ("Room is not hosting a call", NotHosting),
    ("dialOut already started", DialoutInProgress),
    ("Call closed before command could be delivered", NotHosting),
    ("No dialout to stop", NoSuchSession),
    ("No session running", NoSuchSession),
    ("invalid sessionId", NoSuchSession),
    ("Call Forwarding Failed", ForwardingFailed),
    ("no workers available", TemporarilyNotAvailable),
    ("no worker is available", TemporarilyNotAvailable),
    ("dial-out not enabled for room. add enable_dialout property to room", NotAllowed),
    (
        "dial-out to PhoneNumber is not enabled for domain. Contact support to enable it for your domain",
        NotAllowed,
    ),
    ("SIP/PSTN is not enabled for the room", NotAllowed),
    ("property 'enable_dialout' cannot be set to that value with your current plan", NotAllowed),
    ("International dialout not supported. Contact sales to enable it for your domain", NotAllowed),
    ("unable to start dialout (is dialout enabled? are you a room owner or participant admin?)", NotAllowed),
    ("Dialout already exists", DialoutInProgress),
    ("A dial-out is already in progress.", DialoutInProgress),
    ("Dialout(DialoutAlreadyExists)", DialoutInProgress),
    ("Dialout(UserMustBeAdmin)", NotAllowed),
    ("Dialout(CallState(NotInACall))", NotHosting),
    ("Dialout sessionId was not returned by the server", UnknownResult),
    ("Dialout(SessionIdNotReturned)", UnknownResult),
    ("Signalling(ResponseReceiveTimeout)", UnknownResult),
    ("Signalling(ResponseReceiveFailed)", UnknownResult),
    ("ResponseDeserializationFailed", UnknownResult),
    ("timed out waiting for response", UnknownResult),
    ("response canceled", UnknownResult),
    ("max_sip_pstn_sessions_per_room reached", RoomFull),
    ("maximum number of SIP/PSTN sessions reached", RoomFull),
    ("too many PSTN sessions", RoomFull),
]
UNKNOWN = [
    "",
    "Switch to soup failed, could not initiate dial out",
    "DialOut failed with error: process error, Channel closed",
    "SDP negotiation failed",
    "Requested codec unavailable, using fallback",
    "unable to transfer SIP call",
    "Missing fields",
    "too many requests. A sip of sessions",
    "limit of sessions",
    "not-found",
]


@pytest.mark.parametrize(("text", "kind"), TEXTS)
def test_what_daily_says(text: str, kind: type[DailyError]) -> None:
    """In whatever case, and whatever stands around it."""
    for told in (text, text.upper(), text.lower(), f"error: {text}\n(really)"):
        assert error_type_of(told) is kind


@pytest.mark.parametrize("text", UNKNOWN)
def test_what_nobody_knows(text: str) -> None:
    """Is an error all the same, and no other."""
    assert error_type_of(text) is DailyError


def test_for_each_meaning_there_is_advice() -> None:
    """One sentence that says what to do."""
    for _, kind in TEXTS:
        assert ADVICE[kind].endswith(".")


@pytest.mark.parametrize(
    ("error", "lasting"),
    [
        (NotAllowed(""), True),
        (NotHosting(""), False),
        (DialoutInProgress(""), True),
        (TemporarilyNotAvailable("", status=400), False),
        (RoomFull("", status=400), False),
        (NoSuchSession("", status=404), False),
        (UnknownResult("", status=400), False),
        (DailyError("", status=399), False),
        (DailyError("", status=400), True),
        (DailyError("", status=499), True),
        (DailyError("", status=500), False),
        (DailyError("", status=200), False),
        (DailyError(""), False),
    ],
)
def test_what_lasts(error: DailyError, lasting: bool) -> None:
    """Unknown words last if Daily found fault with the request."""
    assert is_permanent(error) is lasting


HOSTILE = [
    "limit sip ",
    "maximum ",
    "too many sip session",
    "dialout ",
    "no worker is ",
    "not enabled for ",
    "response",
    "a",
    " ",
    "\n",
]


@pytest.mark.parametrize("part", HOSTILE)
def test_long_texts_take_no_more_time_than_their_length(part: str) -> None:
    """An error's text comes from elsewhere: it must not stop the program."""

    def seconds(size: int) -> float:
        text = part * (size // len(part))
        best = float("inf")
        for _ in range(2):
            began = time.process_time()
            error_type_of(text)
            one_line(text)
            best = min(best, time.process_time() - began)
        return best

    assert seconds(500_000) < 40 * seconds(50_000) + 0.5


def test_a_meaning_is_found_behind_much_else() -> None:
    """And on one line it is cut."""
    assert error_type_of("x" * 500_000 + " No dialout to stop") is NoSuchSession
    assert one_line("a\x00b\n\n c\x1b\u2028" + "d" * 1000) == "a b c " + "d" * 494 + "…"
    assert one_line("d" * 500) == "d" * 500


@pytest.fixture
def anyio_backend() -> str:
    """asyncio alone: both event loops meet in the tests of what sends the requests."""
    return "asyncio"


# --- over HTTP ----------------------------------------------------------------------------------------------------


def api_of(daily: FakeDaily, **how: Any) -> DailyApi:
    """A client in a hurry."""
    return DailyApi(KEY, url=daily.url, **{"timeout": 5.0, "pauses": (0.01, 0.02), **how})


async def error_of(daily: FakeDaily, *faults: Fault, method: str = "POST", path: str = "/rooms") -> DailyError:
    """What comes of a fault."""
    daily.faults.extend(faults)
    async with api_of(daily) as api:
        with pytest.raises(DailyError) as raised:
            await api.request(method, path, {"name": "x"} if method == "POST" else None)
    return raised.value


def told(status: int, error: str, info: str = "", **headers: str) -> Fault:
    """Daily's usual form."""
    return instead(status, b'{"error": "%b", "info": "%b"}' % (error.encode(), info.encode()), **headers)


@pytest.mark.anyio
async def test_a_refusal_over_http(daily: FakeDaily) -> None:
    """Told as the name of the error, as its text, or as plain text."""
    for text, kind in [*TEXTS[:12], (UNKNOWN[1], DailyError)]:
        for fault in (told(400, text), told(400, "invalid-request-error", text), instead(400, text.encode())):
            error = await error_of(daily, fault)
            assert type(error) is kind
            assert error.status == 400
            assert text in str(error)
            assert ADVICE.get(kind, "") in str(error)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (told(401, "authentication-error"), NotAllowed),
        (told(403, "forbidden"), NotAllowed),
        (told(403, "forbidden", "No dialout to stop"), NoSuchSession),
        (told(404, "not-found", "room x not found"), DailyError),
        (told(429, "rate-limit-error"), TemporarilyNotAvailable),
        (told(429, "NOT_ALLOWED"), TemporarilyNotAvailable),
        (told(500, "server-error"), UnknownResult),
        (told(500, "NOT_ALLOWED"), UnknownResult),
        (told(503, "TEMPORARILY_NOT_AVAILABLE", "no workers available"), TemporarilyNotAvailable),
        (told(503, "server-error", "no workers available"), TemporarilyNotAvailable),
        (instead(503, b"upstream"), UnknownResult),
        (instead(503, b"<html>no workers available</html>"), UnknownResult),
        (instead(503, b'"TEMPORARILY_NOT_AVAILABLE"'), UnknownResult),
        (instead(302, b"NOT_ALLOWED"), NotAllowed),
        (instead(200, b"NOT_ALLOWED"), UnknownResult),
    ],
)
async def test_a_status_means_what_the_words_do_not_say(daily: FakeDaily, fault: Fault, kind: type[DailyError]) -> None:
    """Where a server failed, only Daily's own words make it certain that nothing was done: a gateway does not know."""
    error = await error_of(daily, fault)
    assert type(error) is kind
    assert len(daily.seen) == 1


@pytest.mark.anyio
async def test_what_only_asks_has_no_unknown_result(daily: FakeDaily) -> None:
    """Nothing was to be done."""
    for fault in (told(500, "x"), told(400, "timed out waiting for response"), instead(200, b"{")):
        assert type(await error_of(daily, *[fault] * 3, method="GET")) is DailyError
        daily.faults.clear()
    assert (
        type(await error_of(daily, *[told(503, "no workers available")] * 3, method="GET")) is TemporarilyNotAvailable
    )


@pytest.mark.anyio
@pytest.mark.parametrize(("headers", "seconds"), [({}, 0.0), ({"retry_after": "7"}, 7.0), ({"retry_after": "x"}, 0.0)])
@pytest.mark.parametrize("status", [429, 503])
async def test_when_to_try_again(daily: FakeDaily, status: int, headers: dict[str, str], seconds: float) -> None:
    """As Daily says it."""
    error = await error_of(daily, told(status, "TEMPORARILY_NOT_AVAILABLE", **headers))
    assert isinstance(error, TemporarilyNotAvailable)
    assert error.retry_after == seconds
    assert TemporarilyNotAvailable("").retry_after == 0.0


@pytest.mark.anyio
async def test_hostile_refusals(daily: FakeDaily) -> None:
    """They are read, and cut."""
    deep = b'{"info": ' + b"[" * 900 + b"]" * 900 + b"}"
    for body in (b'{"info": "' + b"limit sip " * 50_000 + b'"}', deep, b'{"error": "\\ud800\\u0000", "info": 7}'):
        error = await error_of(daily, instead(400, body))
        assert type(error) is DailyError
        assert len(str(error)) < 700
        assert str(error).isprintable()


# --- the key ------------------------------------------------------------------------------------------------------


async def shown_by(ask: Callable[[], Awaitable[Any]]) -> str:
    """All that an error can be made to show. Behind it there is none."""
    with pytest.raises(DailyError) as raised:
        await ask()
    error = raised.value
    assert error.__cause__ is None
    assert error.__context__ is None
    shown = traceback.TracebackException.from_exception(error, capture_locals=True).format()
    return "".join([*shown, repr(error), repr(vars(error)), repr(error.args)])


@pytest.mark.anyio
async def test_the_key_is_shown_nowhere(daily: FakeDaily, caplog: pytest.LogCaptureFixture) -> None:
    """Not by what is built upon the API, whatever Daily repeats to us."""
    text = ""
    echo = f'{{"error": "Bearer {KEY}", "info": "you said {KEY}", "ok": "{KEY}"}}'.encode()
    with caplog.at_level(logging.DEBUG), structlog.testing.capture_logs() as logs:
        async with api_of(daily, timeout=0.1) as api:
            telephony, rooms, control = Telephony(api, 0.1), Rooms(api), RestControl(api, "r")
            asks: list[Callable[[], Awaitable[Any]]] = [
                lambda: telephony.start("r", PhoneDialout(phone_number="+12025550101")),
                lambda: telephony.stop("r", "s"),
                lambda: telephony.send_dtmf("r", "s", Dtmf(tones="1")),
                lambda: telephony.transfer("r", "s", Transfer(to_end_point=BOB)),
                lambda: telephony.refer("r", "s", Refer(to_end_point=BOB)),
                lambda: telephony.forward("c", "d", BOB),
                lambda: telephony.eject("r", "s"),
                lambda: rooms.get("r"),
                lambda: rooms.create("r"),
                lambda: rooms.set_sip("r", SipRoom(display_name="x")),
                lambda: rooms.delete("r"),
                lambda: rooms.presence("r"),
                control.presence,
                lambda: control.forward("c", "d", BOB),
            ]
            text += repr((api, telephony, rooms, control))
            for fault in (instead(400, echo), cut):
                for ask in asks:
                    daily.faults.extend([fault] * 3)
                    text += await shown_by(ask)
                    daily.faults.clear()
            for ask in asks[:2]:
                daily.faults.extend([hang] * 3)
                text += await shown_by(ask)
                daily.faults.clear()
    assert "•••" in text
    text += caplog.text + repr(logs)
    assert any(line["event"] == "daily.again" for line in logs)
    assert KEY not in text
    assert KEY[:20] not in text


def test_what_the_fake_says_has_a_meaning() -> None:
    """Each of its published refusals."""
    refusals = [one for one in vars(lines).values() if isinstance(one, lines.Refusal)]
    assert len(refusals) >= 10
    for one in refusals:
        assert one is lines.TOO_MANY_REQUESTS or error_type_of(f"{one.error} {one.info}") is not DailyError
