"""The contract of acting from inside a room, for a call client and for pipecat's real transport."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest
from pydantic import ValidationError

from telstate import Dispatcher, Router
from telstate.control import CallTransport, Dialer, RestControl, RoomParticipant
from telstate.errors import (
    CallEnded,
    DailyError,
    DialoutInProgress,
    InvalidRequest,
    NoSuchSession,
    NotAllowed,
    NotHosting,
    NotSupported,
    TemporarilyNotAvailable,
    UnknownResult,
)
from telstate.events import Presence
from telstate.options import Dtmf, PhoneDialout, Refer, SipDialout, Transfer
from tests.calls import SESSION, js
from tests.control.in_room import NO_CALL, FakeClient, acting, answered, session_of
from tests.routing import until
from tests.sources.live import installed

installed("daily")
installed("pipecat.transports.daily.transport")

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("kind", ["client", "transport"])]

NUMBER = "+12025550101"
PHONE = PhoneDialout(phone_number=NUMBER, user_id="u1", extension="12", wait_before_extension_dial_sec=3)
BOB = "sip:bob@example.com"
NOT_ENABLED = "unable to start dialout (is dialout enabled? are you a room owner or participant admin?)"
TEXTS = [
    (NOT_ENABLED, NotAllowed),
    ("Dialout(UserMustBeAdmin)", NotAllowed),
    ("Dialout(DialoutAlreadyExists)", DialoutInProgress),
    ("TEMPORARILY_NOT_AVAILABLE", TemporarilyNotAvailable),
    ("No dialout to stop", NoSuchSession),
    (NO_CALL, NotHosting),
    ("Sip(CallState(NotInACall))", NotHosting),
    ("Dialout(SessionIdNotReturned)", UnknownResult),
    ("Dialout sessionId was not returned by the server", UnknownResult),
    ("Signalling(ResponseReceiveTimeout)", UnknownResult),
    ("Switch to soup failed, could not initiate dial out", DailyError),
    ("", DailyError),
    ('Dialout settings are not valid: JsonApiError { message: "did not match any variant" }', InvalidRequest),
    ("Dialout(Properties(UnknownCallClientError))", DailyError),
    ("transport already has an active call", DialoutInProgress),
]
ACTS: dict[str, Callable[[CallTransport], Awaitable[None]]] = {
    "stop_dialout": lambda control: control.stop(answered()),
    "send_dtmf": lambda control: control.send_dtmf(answered(), Dtmf(tones="1")),
    "sip_call_transfer": lambda control: control.transfer(answered(), Transfer(to_end_point=BOB)),
    "sip_refer": lambda control: control.refer(answered(), Refer(to_end_point=BOB)),
}


@pytest.fixture
def anyio_backend() -> str:
    """asyncio only: both controls need it."""
    return "asyncio"


async def test_a_start_returns_the_session_id(kind: str) -> None:
    """Only given options are sent. The room is always the client's."""
    async with acting(kind) as (control, fake):
        assert await control.start(PHONE) == "session-1"
        assert await control.start(SipDialout(sip_uri=BOB), room="other") == "session-2"
    assert fake.sent == [
        (
            "start_dialout",
            {"phoneNumber": NUMBER, "userId": "u1", "extension": "12", "waitBeforeExtensionDialSec": 3},
        ),
        ("start_dialout", {"sipUri": BOB}),
    ]


@pytest.mark.parametrize(("text", "error"), TEXTS)
async def test_the_errors_of_refused_starts(kind: str, text: str, error: type[DailyError]) -> None:
    """With Daily's text, and without the number."""
    async with acting(kind) as (control, fake):
        fake.answers["start_dialout"] = [(None, text)]
        with pytest.raises(DailyError) as raised:
            await control.start(PHONE)
    assert type(raised.value) is error
    assert text in str(raised.value)
    assert raised.value.info == (text or None)
    assert NUMBER not in str(raised.value)


@pytest.mark.parametrize("answer", [(None, None), ("", None), (7, None), ("one",), ("s", None, None)], ids=repr)
async def test_a_start_without_a_session_id(kind: str, answer: tuple[Any, ...]) -> None:
    """There may be a call."""
    async with acting(kind) as (control, fake):
        fake.answers["start_dialout"] = [answer]
        with pytest.raises(UnknownResult, match="check before you"):
            await control.start(PHONE)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize(("text", "error"), [TEXTS[1], TEXTS[4], TEXTS[6], TEXTS[9], TEXTS[10]])
async def test_the_errors_of_refused_requests(kind: str, act: str, text: str, error: type[DailyError]) -> None:
    """The same for every request."""
    async with acting(kind) as (control, fake):
        fake.answers[act] = [(text,)]
        with pytest.raises(DailyError) as raised:
            await ACTS[act](control)
    assert type(raised.value) is error
    assert str(raised.value).startswith(f"{act}: ")
    assert text in str(raised.value)


@pytest.mark.parametrize(
    ("text", "starts"),
    [
        ('Dialout settings are not valid: JsonApiError { message: "did not match any variant" }', 1),
        ("transport already has an active call", 1),
        (NOT_ENABLED, 1),
        ("Dialout(Properties(UnknownCallClientError))", 3),
        (NO_CALL, 3),
    ],
)
async def test_what_would_be_refused_again_is_not_dialled_again(kind: str, text: str, starts: int) -> None:
    """Where the bot may be about to join, it is."""
    async with acting(kind) as (control, fake):
        fake.answers["start_dialout"] = [(None, text)]
        async with Dispatcher(Router(), control=control) as calls, Dialer(calls, pauses=[0.0]) as dialer:
            result = await dialer.dial(PHONE, attempts=3, ring_timeout=1)
    assert [attempt.outcome for attempt in result.attempts] == ["refused"] * starts
    assert [name for name, _ in fake.acts] == ["start_dialout"] * starts
    assert text in str(result.error)


async def test_what_a_transport_itself_does_not_support(kind: str) -> None:
    """pipecat's SIPTransport answers so."""
    async with acting(kind) as (control, fake):
        fake.answers["sip_call_transfer"] = [("sip_call_transfer is not supported yet",)]
        with pytest.raises(NotSupported, match=r"sip_call_transfer: the answer was: .*use another control"):
            await ACTS["sip_call_transfer"](control)


async def test_a_long_text_is_cut_short_and_on_one_line(kind: str) -> None:
    """So that it fits into a log."""
    async with acting(kind) as (control, fake):
        fake.answers["stop_dialout"] = [("no\nnot\x00\x1bthis " * 1000,)]
        with pytest.raises(DailyError) as raised:
            await control.stop(answered())
    assert len(str(raised.value)) < 700
    assert str(raised.value).isprintable()


async def test_the_requests(kind: str) -> None:
    """Only given values are sent, by Daily's names."""
    async with acting(kind) as (control, fake):
        session = answered()
        await control.stop(session)
        await control.send_dtmf(session, Dtmf(tones="1#a"))
        await control.send_dtmf(session, Dtmf(tones="2", method="sip-info", digit_duration_ms=200))
        await control.transfer(session, Transfer(to_end_point=BOB))
        await control.transfer(session, Transfer(to_end_point=NUMBER, caller_id="+12025550102"))
        await control.refer(session, Refer(to_end_point=BOB))
    mine = {"sessionId": SESSION}
    assert fake.sent == [
        ("stop_dialout", SESSION),
        ("send_dtmf", {**mine, "tones": "1#A"}),
        ("send_dtmf", {**mine, "tones": "2", "method": "sip-info", "digitDurationMs": 200}),
        ("sip_call_transfer", {**mine, "toEndPoint": BOB}),
        ("sip_call_transfer", {**mine, "toEndPoint": NUMBER, "callerId": "+12025550102"}),
        ("sip_refer", {**mine, "toEndPoint": BOB}),
    ]


async def test_invalid_arguments(kind: str) -> None:
    """The dispatcher refuses them before anything is sent."""
    async with acting(kind) as (control, fake), Dispatcher(Router(), control=control) as calls:
        await calls.receive(js("dialout-answered"))
        for request in (
            partial(calls.send_dtmf, SESSION, "5x"),
            partial(calls.transfer, SESSION, "bob"),
            partial(calls.refer, SESSION, NUMBER),
        ):
            with pytest.raises(ValidationError) as raised:
                await request()
            assert isinstance(raised.value, ValueError)
    assert fake.sent == []


async def test_forwarding_is_not_supported(kind: str) -> None:
    """The error says what to do."""
    async with acting(kind) as (control, fake):
        with pytest.raises(NotSupported, match=r"RestControl\(api\)"):
            await control.forward("id", "domain", BOB)
    assert fake.sent == []


@pytest.mark.parametrize("act", ACTS)
async def test_a_method_that_raises(kind: str, act: str) -> None:
    """Nothing was sent; the error has its text."""
    async with acting(kind) as (control, fake):
        for name in (act, "start_dialout", "participants"):
            fake.raises[name] = RuntimeError("this object has already been released")
        for do in (partial(ACTS[act], control), partial(control.start, PHONE), control.presence):
            with pytest.raises(DailyError, match="was not sent: this object has already been released") as raised:
                await do()
            assert type(raised.value) is DailyError
        assert await control.reconcile(answered()) is Presence.UNKNOWN
    assert fake.acts == []


async def test_no_answer(kind: str) -> None:
    """The result is unknown, after the timeout."""
    async with acting(kind, timeout=0.05) as (control, fake):
        for name in (*ACTS, "start_dialout"):
            fake.answers[name] = []
        with anyio.fail_after(30):
            with pytest.raises(UnknownResult, match=r"no answer within 0\.05 seconds"):
                await control.start(PHONE)
            for act in ACTS.values():
                with pytest.raises(UnknownResult):
                    await act(control)


async def test_a_late_or_repeated_answer(kind: str) -> None:
    """It affects neither Daily's thread nor the next request."""
    async with acting(kind, timeout=0.15) as (control, fake):
        fake.may_answer.clear()
        fake.answers["start_dialout"] = [("late", None), ("late", None)]
        with pytest.raises(UnknownResult):
            await control.start(PHONE)
        fake.may_answer.set()
        await until(lambda: fake.completed >= 2)
        control._timeout = 20.0  # type: ignore[attr-defined]  # the other thread may be slow
        fake.answers["start_dialout"] = [("first", None), (None, "no"), ("other", None)]
        assert await control.start(PHONE) == "first"
        fake.answers["stop_dialout"] = [(None,), ("no",)]
        await control.stop(answered())


async def test_a_request_can_be_cancelled(kind: str) -> None:
    """Its answer is dropped."""
    async with acting(kind) as (control, fake):
        fake.may_answer.clear()

        async def cancel_what_was_sent() -> None:
            await until(lambda: fake.acts)
            scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(cancel_what_was_sent)
            with anyio.CancelScope() as scope:
                await control.start(PHONE)
        assert scope.cancelled_caught
        fake.may_answer.set()
        await until(lambda: fake.completed >= 1)
        assert await control.start(PHONE) == "session-2"


async def test_many_at_once(kind: str) -> None:
    """Each gets its own answer."""
    got: dict[int, str] = {}
    async with acting(kind) as (control, fake):

        async def start(number: int) -> None:
            got[number] = await control.start(PhoneDialout(phone_number=f"+1202555{number:04}"))

        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(start, number)
    called = {body["phoneNumber"]: f"session-{n}" for n, (_, body) in enumerate(fake.sent, 1)}
    assert got == {number: called[f"+1202555{number:04}"] for number in range(200)}


def people(fake: FakeClient, *ids: str) -> None:
    """Add participants."""
    fake.people |= {one: {"id": one, "info": {"userId": f"user-{one}", "userName": one.title()}} for one in ids}


async def test_presence(kind: str) -> None:
    """All participants, including this client. Odd entries are left out."""
    async with acting(kind) as (control, fake):
        people(fake, "ann")
        fake.people |= {"x": "nobody", "eve": {}, "dan": {"id": "dan", "info": {"userId": 7, "userName": None}}}
        assert await control.presence() == (
            RoomParticipant("bot", None, "Bot"),
            RoomParticipant("ann", "user-ann", "Ann"),
            RoomParticipant("eve"),
            RoomParticipant("dan"),
        )
        assert await control.presence("any room") == await control.presence()
        fake.people = None
        with pytest.raises(DailyError, match="not a mapping"):
            await control.presence()
    assert fake.acts == []


async def test_presence_without_a_joined_room(kind: str) -> None:
    """Not an empty room: a program might dial again because of it."""
    async with acting(kind) as (control, fake):
        fake.joined = False
        with pytest.raises(NotHosting, match="let the bot join first"):
            await control.presence()
        fake.joined = True
        fake.answers["update_remote_participants"] = [("Permissions(…)",)]
        assert await control.presence() == (RoomParticipant("bot", None, "Bot"),), (
            "refused for another reason: it is in a call"
        )


async def test_reconcile(kind: str) -> None:
    """A session is gone only if it had media, and if a client that is in a call does not list it."""
    ringing = session_of("dialout-connected")
    async with acting(kind) as (control, fake):
        reconcile = control.reconcile
        assert await reconcile(answered()) is Presence.GONE
        assert await reconcile(ringing) is Presence.UNKNOWN
        people(fake, SESSION)
        assert await reconcile(answered()) is Presence.ALIVE
        assert await reconcile(ringing) is Presence.ALIVE
        fake.people = {"local": {"id": "bot"}}
        fake.joined = False
        assert await reconcile(answered()) is Presence.UNKNOWN
        fake.joined = True
        fake.answers["update_remote_participants"] = [("no",)]
        assert await reconcile(answered()) is Presence.UNKNOWN
        fake.people = 7
        assert await reconcile(answered()) is Presence.UNKNOWN
    assert fake.acts == []


async def test_during_a_join(kind: str) -> None:
    """daily-python makes requests wait until it has joined: a list from before says nothing."""
    async with acting(kind) as (control, fake):
        for request, expected in (
            (
                control.presence,
                (RoomParticipant("bot", None, "Bot"), RoomParticipant(SESSION, f"user-{SESSION}", SESSION.title())),
            ),
            (partial(control.reconcile, answered()), Presence.ALIVE),
        ):
            fake.people = {"local": {"id": "bot", "info": {"userName": "Bot"}}}
            fake.may_answer.clear()
            async with anyio.create_task_group() as group:
                group.start_soon(join, fake)
                assert await request() == expected


async def join(fake: FakeClient) -> None:
    """Join a moment later, before an answer."""
    await anyio.sleep(0.05)
    people(fake, SESSION)
    fake.may_answer.set()


async def test_a_client_that_does_not_answer_whether_it_is_in_a_call(kind: str) -> None:
    """After the timeout."""
    async with acting(kind, timeout=0.05) as (control, fake):
        fake.answers["update_remote_participants"] = []
        assert await control.reconcile(answered()) is Presence.UNKNOWN
        with pytest.raises(DailyError, match="no answer within") as raised:
            await control.presence()
    assert type(raised.value) is DailyError, "it changes nothing, so the result is not unknown"


async def test_with_a_dispatcher(kind: str) -> None:
    """After an accepted stop the end is local. Nothing is sent about an ended session."""
    async with acting(kind) as (control, fake), Dispatcher(Router(), control=control) as calls:
        await calls.receive(js("dialout-connected"))
        await calls.receive(js("dialout-answered"))
        fake.answers["stop_dialout"] = [("TEMPORARILY_NOT_AVAILABLE",)]
        with pytest.raises(TemporarilyNotAvailable):
            await calls.stop(SESSION)
        del fake.answers["stop_dialout"]
        await calls.stop(SESSION)
        sent = list(fake.sent)
        await calls.receive(js("dialout-stopped"))
        session = calls.session(SESSION)
        assert session is not None
        assert session.ended
        assert session.ended_by == "local"
        for act in (calls.stop(session), calls.send_dtmf(session, "1"), calls.transfer(session, BOB)):
            with pytest.raises(CallEnded):
                await act
    assert sent == [("stop_dialout", SESSION)] * 2
    assert fake.sent == sent


async def test_after_a_refused_stop_the_end_is_not_local(kind: str) -> None:
    """Daily did not do it."""
    async with acting(kind) as (control, fake), Dispatcher(Router(), control=control) as calls:
        await calls.receive(js("dialout-answered"))
        fake.answers["stop_dialout"] = [("NOT_ALLOWED",)]
        with pytest.raises(NotAllowed):
            await calls.stop(SESSION)
        await calls.receive(js("dialout-stopped"))
        session = calls.session(SESSION)
        assert session is not None
        assert session.ended_by != "local"


async def test_combined_with_rest_for_forwarding(kind: str) -> None:
    """As the docstring shows."""
    async with acting(kind) as (control, fake):
        forwarded: list[tuple[str, ...]] = []
        base: Any = type(control)

        class Both(base):  # type: ignore[misc]
            def __init__(self, target: Any, rest: RestControl) -> None:
                super().__init__(target)
                self._rest = rest

            async def forward(self, call_id: str, call_domain: str, sip_endpoint: str) -> None:
                await self._rest.forward(call_id, call_domain, sip_endpoint)

        class Rest(RestControl):
            def __init__(self) -> None:
                """Without an API."""

            async def forward(self, *arguments: str) -> None:
                """Record it."""
                forwarded.append(arguments)

        target = control._target  # type: ignore[attr-defined]
        both: CallTransport = Both(target, Rest())
        await both.forward("id", "domain", BOB)
        await both.stop(answered())
    assert forwarded == [("id", "domain", BOB)]
    assert fake.sent == [("stop_dialout", SESSION)]
