"""The error mapping: each published text of Daily's, what statuses mean, and that hostile texts do no harm."""

from __future__ import annotations

import json
import logging
import re
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import structlog

from telstate.control import DailyApi, RestControl, Rooms, Telephony
from telstate.control._error_mapping import ADVICE, error_type_of, is_permanent, meaning_of, one_line
from telstate.errors import (
    DailyError,
    DialoutInProgress,
    ForwardingFailed,
    InvalidRequest,
    NoSuchSession,
    NotAllowed,
    NotHosting,
    NotSupported,
    RoomFull,
    TemporarilyNotAvailable,
    UnknownResult,
)
from telstate.options import Dtmf, PhoneDialout, Refer, SipRoom, Transfer
from telstate.testing import FakeDaily, refusals
from telstate.testing._daily import KEY
from telstate.testing._faults import Fault, cut, hang, instead
from tests.corpus import HERE

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
    ('Dialout settings are not valid: JsonApiError { message: "data did not match any variant" }', InvalidRequest),
    ("Dialout settings are not valid JSON: expected value", InvalidRequest),
    ("Send DTMF settings are not valid: JsonApiError", InvalidRequest),
    ("SIP call transfer settings are not valid", InvalidRequest),
    ("SIP refer settings are not valid", InvalidRequest),
    ("The setting is not valid", InvalidRequest),
    ("these settings aren't valid", InvalidRequest),
    ("invalid dialout settings", InvalidRequest),
    ("Failed to parse participant ID: Error(ParseChar { character: 'x', index: 0 })", InvalidRequest),
    ("Failed to parse participant IDs JSON", InvalidRequest),
    ("Can't send DTMF if 'sessionId' is not set", InvalidRequest),
    ("Can't perform SIP REFER if 'sessionId' is not set", InvalidRequest),
    ("No SIP call in progress", NoSuchSession),
    ("no SIP calls are in progress", NoSuchSession),
    ("Sip(NoSipCallInProgress)", NoSuchSession),
    ("no such session", NoSuchSession),
    ("no such session: 16777218", NoSuchSession),
    ("transport already has an active call", DialoutInProgress),
    ("the transport has already an active call", DialoutInProgress),
    ("dial-outs are not enabled for this domain", NotAllowed),
    ("dial out isn't enabled for your account", NotAllowed),
    ("International dial-outs are not supported", NotAllowed),
    ("sip_call_transfer is not supported yet", NotSupported),
    ("sip_refer isn't supported", NotSupported),
    ("sipCallTransfer not implemented", NotSupported),
    ("the settings were invalid", InvalidRequest),
    ("dialout is disabled for this room", NotAllowed),
    ("Unable to handle dialin-ready event (status: 503, error: service unavailable)", ForwardingFailed),
    (
        "Error handling dialin-ready event (https://api.daily.co/v1/dialin/pinlessCallUpdate): connection failed",
        ForwardingFailed,
    ),
    ("Timeout handling dialin-ready event (https://api.daily.co/v1/dialin/pinlessCallUpdate)", UnknownResult),
]
KNOWN = [
    ("Dialout(Properties(UnknownCallClientError))", r"enable_dialout.* has not joined .*owner"),
    ("Switch to soup failed, could not initiate dial out", "try again"),
    ("DialOut failed with error: process error, Channel closed", "tried again"),
    ("SDP negotiation failed", "codecs"),
    ("unable to transfer SIP call", "target"),
    ("400: the room is not in SFU mode", "SFU"),
]
"""What they mean, without a type of error for it: what to do depends on what the program finds out."""
UNKNOWN = [
    "",
    "Requested codec unavailable, using fallback",
    "Missing fields",
    "valid settings",
    "the session is active",
    "the video is not supported",
    "too many requests. A sip of sessions",
    "limit of sessions",
    "not-found",
]


@pytest.mark.parametrize(("text", "kind"), TEXTS)
def test_known_texts(text: str, kind: type[DailyError]) -> None:
    """In any case, and with any text around them: a prefix of daily-python's, or JSON, once or twice."""
    in_json = json.dumps({"error": "invalid-request-error", "info": text})
    wrapped = (f"Error handling startDialout: {text}", in_json, json.dumps({"body": in_json}), str({"message": text}))
    for shown in (text, text.upper(), text.lower(), f"error: {text}\n(really)", *wrapped):
        assert error_type_of(shown) is kind


@pytest.mark.parametrize(("text", "advice"), KNOWN)
def test_known_texts_without_a_type(text: str, advice: str) -> None:
    """The error says what to check. A dial may be tried again."""
    for shown in (text, text.upper(), f"Error handling startDialout: {text}"):
        meaning = meaning_of(shown)
        assert meaning.kind is DailyError
        assert re.search(advice, meaning.advice)
    assert not is_permanent(DailyError(text))


def test_every_text_on_record_has_a_meaning() -> None:
    """What Daily and its packages are known to say; a warning is no error."""
    lines = (HERE / "texts" / "errors.jsonl").read_text(encoding="utf-8").splitlines()
    for one in map(json.loads, lines):
        assert bool(meaning_of(one["text"]).advice) != ("warning" in one["where"]), one
    assert len(lines) >= 30


@pytest.mark.parametrize("text", UNKNOWN)
def test_unknown_texts_are_plain_errors(text: str) -> None:
    """And of no other type."""
    assert error_type_of(text) is DailyError


def test_each_error_type_has_advice() -> None:
    """A sentence that says what to do."""
    for _, kind in TEXTS:
        assert ADVICE[kind].endswith(".")


@pytest.mark.parametrize(
    ("error", "permanent"),
    [
        (NotAllowed(""), True),
        (NotHosting(""), False),
        (DialoutInProgress(""), True),
        (TemporarilyNotAvailable("", status=400), False),
        (RoomFull("", status=400), False),
        (NoSuchSession("", status=404), False),
        (UnknownResult("", status=400), False),
        (InvalidRequest(""), True),
        (NotSupported(""), True),
        (DailyError("", status=399), False),
        (DailyError("", status=400), True),
        (DailyError("", status=499), True),
        (DailyError("", status=500), False),
        (DailyError("", status=200), False),
        (DailyError(""), False),
    ],
)
def test_permanent_refusals(error: DailyError, permanent: bool) -> None:
    """An unknown text is permanent if the status says that the request is at fault."""
    assert is_permanent(error) is permanent


HOSTILE = [
    "limit sip ",
    "maximum ",
    "too many sip session",
    "dialout ",
    "no worker is ",
    "not enabled for ",
    "dial outs are already ",
    "settings are not ",
    "can't send_dtmf is not yet ",
    "start_" + "x" * 35,
    "is isn't ",
    "response",
    "a",
    " ",
    "\n",
]


@pytest.mark.long
@pytest.mark.parametrize("part", HOSTILE)
def test_the_time_for_a_text_grows_no_faster_than_its_length(part: str) -> None:
    """A text comes from outside: it must not block the program."""

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


def test_a_known_text_is_found_at_the_end_of_a_long_one() -> None:
    """And `one_line` cuts long texts."""
    assert error_type_of("x" * 500_000 + " No dialout to stop") is NoSuchSession
    assert one_line("a\x00b\n\n c\x1b\u2028" + "d" * 1000) == "a b c " + "d" * 494 + "…"
    assert one_line("d" * 500) == "d" * 500


@pytest.fixture
def anyio_backend() -> str:
    """asyncio only: test_api.py runs on both event loops."""
    return "asyncio"


# --- over HTTP ----------------------------------------------------------------------------------------------------


def api_of(daily: FakeDaily, **options: Any) -> DailyApi:
    """A client with short times."""
    return DailyApi(KEY, url=daily.url, **{"timeout": 5.0, "pauses": (0.01, 0.02), **options})


async def error_of(daily: FakeDaily, *faults: Fault, method: str = "POST", path: str = "/rooms") -> DailyError:
    """The error that faults cause."""
    daily.faults.extend(faults)
    async with api_of(daily) as api:
        with pytest.raises(DailyError) as raised:
            await api.request(method, path, {"name": "x"} if method == "POST" else None)
    return raised.value


def refusal(status: int, error: str, info: str = "", **headers: str) -> Fault:
    """A refusal in Daily's usual form."""
    return instead(status, b'{"error": "%b", "info": "%b"}' % (error.encode(), info.encode()), **headers)


@pytest.mark.long
@pytest.mark.anyio
async def test_refusals_over_http(daily: FakeDaily) -> None:
    """The text may be the name of the error, its info, or the whole body."""
    for text, kind in [*TEXTS[:12], (UNKNOWN[1], DailyError), ("start_dialout is not supported", DailyError)]:
        for fault in (refusal(400, text), refusal(400, "invalid-request-error", text), instead(400, text.encode())):
            error = await error_of(daily, fault)
            assert type(error) is kind
            assert error.status == 400
            assert text in str(error)
            assert ADVICE.get(kind, "") in str(error)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (refusal(401, "authentication-error"), NotAllowed),
        (refusal(403, "forbidden"), NotAllowed),
        (refusal(403, "forbidden", "No dialout to stop"), NoSuchSession),
        (refusal(404, "not-found", "room x not found"), DailyError),
        (refusal(429, "rate-limit-error"), TemporarilyNotAvailable),
        (refusal(429, "NOT_ALLOWED"), TemporarilyNotAvailable),
        (refusal(500, "server-error"), UnknownResult),
        (refusal(500, "NOT_ALLOWED"), UnknownResult),
        (refusal(503, "TEMPORARILY_NOT_AVAILABLE", "no workers available"), TemporarilyNotAvailable),
        (refusal(503, "server-error", "no workers available"), TemporarilyNotAvailable),
        (instead(503, b"upstream"), UnknownResult),
        (instead(503, b"<html>no workers available</html>"), UnknownResult),
        (instead(503, b'"TEMPORARILY_NOT_AVAILABLE"'), UnknownResult),
        (instead(302, b"NOT_ALLOWED"), NotAllowed),
        (instead(200, b"NOT_ALLOWED"), UnknownResult),
    ],
)
async def test_the_status_decides_if_the_text_does_not(daily: FakeDaily, fault: Fault, kind: type[DailyError]) -> None:
    """After a server error only a text in Daily's form proves that nothing was done: a gateway cannot know."""
    error = await error_of(daily, fault)
    assert type(error) is kind
    assert len(daily.seen) == 1


@pytest.mark.anyio
async def test_a_get_has_no_unknown_result(daily: FakeDaily) -> None:
    """It changes nothing."""
    for fault in (refusal(500, "x"), refusal(400, "timed out waiting for response"), instead(200, b"{")):
        assert type(await error_of(daily, *[fault] * 3, method="GET")) is DailyError
        daily.faults.clear()
    assert (
        type(await error_of(daily, *[refusal(503, "no workers available")] * 3, method="GET"))
        is TemporarilyNotAvailable
    )


@pytest.mark.anyio
@pytest.mark.parametrize(("headers", "seconds"), [({}, 0.0), ({"retry_after": "7"}, 7.0), ({"retry_after": "x"}, 0.0)])
@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after(daily: FakeDaily, status: int, headers: dict[str, str], seconds: float) -> None:
    """In seconds, if Daily says so."""
    error = await error_of(daily, refusal(status, "TEMPORARILY_NOT_AVAILABLE", **headers))
    assert isinstance(error, TemporarilyNotAvailable)
    assert error.retry_after == seconds
    assert TemporarilyNotAvailable("").retry_after == 0.0


@pytest.mark.anyio
async def test_hostile_refusals_are_cut_short(daily: FakeDaily) -> None:
    """And printable."""
    deep = b'{"info": ' + b"[" * 900 + b"]" * 900 + b"}"
    for body in (b'{"info": "' + b"limit sip " * 50_000 + b'"}', deep, b'{"error": "\\ud800\\u0000", "info": 7}'):
        error = await error_of(daily, instead(400, body))
        assert type(error) is DailyError
        assert len(str(error)) < 700
        assert str(error).isprintable()


# --- the key ------------------------------------------------------------------------------------------------------


async def shown_by(request: Callable[[], Awaitable[Any]]) -> str:
    """Everything that an error can be made to show. It has neither cause nor context."""
    with pytest.raises(DailyError) as raised:
        await request()
    error = raised.value
    assert error.__cause__ is None
    assert error.__context__ is None
    shown = traceback.TracebackException.from_exception(error, capture_locals=True).format()
    return "".join([*shown, repr(error), repr(vars(error)), repr(error.args)])


@pytest.mark.long
@pytest.mark.anyio
async def test_the_key_is_never_shown(daily: FakeDaily, caplog: pytest.LogCaptureFixture) -> None:
    """Not by anything built on the API, even if Daily's answer repeats it."""
    text = ""
    echo = f'{{"error": "Bearer {KEY}", "info": "you said {KEY}", "ok": "{KEY}"}}'.encode()
    with caplog.at_level(logging.DEBUG), structlog.testing.capture_logs() as logs:
        async with api_of(daily, timeout=0.1) as api:
            telephony, rooms, control = Telephony(api, 0.1), Rooms(api), RestControl(api, "r")
            requests: list[Callable[[], Awaitable[Any]]] = [
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
                daily.rules["*"] = fault
                for request in requests:
                    text += await shown_by(request)
            daily.rules["*"] = hang
            for request in requests[:2]:
                text += await shown_by(request)
    assert "•••" in text
    text += caplog.text + repr(logs)
    assert any(line["event"] == "daily.retry" for line in logs)
    assert KEY not in text
    assert KEY[:20] not in text


def test_refusals_of_the_fake_are_known() -> None:
    """Each of its published texts."""
    known = [one for one in vars(refusals).values() if isinstance(one, refusals.Refusal)]
    assert len(known) >= 10
    for one in known:
        assert one is refusals.TOO_MANY_REQUESTS or error_type_of(f"{one.error} {one.info}") is not DailyError
