"""The contract of acting from inside a room: the same for a call client and for pipecat's real transport."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest
from pydantic import ValidationError

from telstate import Dispatcher, Router
from telstate.control import CallTransport, RestControl, RoomParticipant
from telstate.errors import (
    CallEnded,
    DailyError,
    DialoutInProgress,
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
from tests.sources.live import installed

installed("daily")
installed("pipecat.transports.daily.transport")

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("way", ["client", "transport"])]

NUMBER = "+12025550101"
PHONE = PhoneDialout(phone_number=NUMBER, user_id="u1", extension="12", wait_before_extension_dial_sec=3)
BOB = "sip:bob@example.com"
NOT_ENABLED = "unable to start dialout (is dialout enabled? are you a room owner or participant admin?)"
MEANINGS = [
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
]
ACTS: dict[str, Callable[[CallTransport], Awaitable[None]]] = {
    "stop_dialout": lambda control: control.stop(answered()),
    "send_dtmf": lambda control: control.send_dtmf(answered(), Dtmf(tones="1")),
    "sip_call_transfer": lambda control: control.transfer(answered(), Transfer(to_end_point=BOB)),
    "sip_refer": lambda control: control.refer(answered(), Refer(to_end_point=BOB)),
}


@pytest.fixture
def anyio_backend() -> str:
    """asyncio alone, as these need it."""
    return "asyncio"


async def test_a_start_returns_the_id(way: str) -> None:
    """With what Daily takes, and nothing else; the room is the client's, whatever is given."""
    async with acting(way) as (control, fake):
        assert await control.start(PHONE) == "session-1"
        assert await control.start(SipDialout(sip_uri=BOB), room="other") == "session-2"
    assert fake.sent == [
        (
            "start_dialout",
            {"phoneNumber": NUMBER, "userId": "u1", "extension": "12", "waitBeforeExtensionDialSec": 3},
        ),
        ("start_dialout", {"sipUri": BOB}),
    ]


@pytest.mark.parametrize(("said", "kind"), MEANINGS)
async def test_a_refused_start_raises_what_it_means(way: str, said: str, kind: type[DailyError]) -> None:
    """With what Daily said, and whom we called is not added."""
    async with acting(way) as (control, fake):
        fake.answers["start_dialout"] = [(None, said)]
        with pytest.raises(DailyError) as raised:
            await control.start(PHONE)
    assert type(raised.value) is kind
    assert said in str(raised.value)
    assert raised.value.info == (said or None)
    assert NUMBER not in str(raised.value)


@pytest.mark.parametrize("answer", [(None, None), ("", None), (7, None), ("one",), ("s", None, None)], ids=repr)
async def test_a_start_of_which_no_id_is_told(way: str, answer: tuple[Any, ...]) -> None:
    """Nobody knows whether there is a call."""
    async with acting(way) as (control, fake):
        fake.answers["start_dialout"] = [answer]
        with pytest.raises(UnknownResult, match="look before you"):
            await control.start(PHONE)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize(("said", "kind"), [MEANINGS[1], MEANINGS[4], MEANINGS[6], MEANINGS[9], MEANINGS[10]])
async def test_what_is_refused_raises_what_it_means(way: str, act: str, said: str, kind: type[DailyError]) -> None:
    """Whatever was asked."""
    async with acting(way) as (control, fake):
        fake.answers[act] = [(said,)]
        with pytest.raises(DailyError) as raised:
            await ACTS[act](control)
    assert type(raised.value) is kind
    assert str(raised.value).startswith(f"{act}: ")
    assert said in str(raised.value)


async def test_a_long_text_is_shown_in_part_and_on_one_line(way: str) -> None:
    """So that it fits into a log."""
    async with acting(way) as (control, fake):
        fake.answers["stop_dialout"] = [("no\nnot\x00\x1bthis " * 1000,)]
        with pytest.raises(DailyError) as raised:
            await control.stop(answered())
    assert len(str(raised.value)) < 700
    assert str(raised.value).isprintable()


async def test_what_is_sent(way: str) -> None:
    """Only what was given, as Daily spells it."""
    async with acting(way) as (control, fake):
        session = answered()
        await control.stop(session)
        await control.send_dtmf(session, Dtmf(tones="1#a"))
        await control.send_dtmf(session, Dtmf(tones="2", method="sip-info", digit_duration_ms=200))
        await control.transfer(session, Transfer(to_end_point=BOB))
        extended = Transfer(
            to_end_point=NUMBER, caller_id="+12025550102", extension="9", wait_before_extension_dial_sec=1
        )
        await control.transfer(session, extended)
        await control.refer(session, Refer(to_end_point=BOB))
    mine = {"sessionId": SESSION}
    assert fake.sent == [
        ("stop_dialout", SESSION),
        ("send_dtmf", {**mine, "tones": "1#A"}),
        ("send_dtmf", {**mine, "tones": "2", "method": "sip-info", "digitDurationMs": 200}),
        ("sip_call_transfer", {**mine, "toEndPoint": BOB}),
        (
            "sip_call_transfer",
            {
                **mine,
                "toEndPoint": NUMBER,
                "callerId": "+12025550102",
                "extension": "9",
                "waitBeforeExtensionDialSec": 1,
            },
        ),
        ("sip_refer", {**mine, "toEndPoint": BOB}),
    ]


async def test_arguments_that_daily_would_not_take(way: str) -> None:
    """A dispatcher refuses them before anything is sent."""
    async with acting(way) as (control, fake), Dispatcher(Router(), control=control) as calls:
        await calls.receive(js("dialout-answered"))
        for refused in (
            partial(calls.send_dtmf, SESSION, "5x"),
            partial(calls.transfer, SESSION, "bob"),
            partial(calls.refer, SESSION, NUMBER),
        ):
            with pytest.raises(ValidationError) as raised:
                await refused()
            assert isinstance(raised.value, ValueError)
    assert fake.sent == []


async def test_forwarding_is_not_supported(way: str) -> None:
    """And it says what to do."""
    async with acting(way) as (control, fake):
        with pytest.raises(NotSupported, match=r"RestControl\(api\)"):
            await control.forward("id", "domain", BOB)
    assert fake.sent == []


@pytest.mark.parametrize("act", ACTS)
async def test_what_the_call_itself_raises(way: str, act: str) -> None:
    """Nothing was sent; the text is kept."""
    async with acting(way) as (control, fake):
        for name in (act, "start_dialout", "participants"):
            fake.raises[name] = RuntimeError("this object has already been released")
        for do in (partial(ACTS[act], control), partial(control.start, PHONE), control.presence):
            with pytest.raises(DailyError, match="was not sent: this object has already been released") as raised:
                await do()
            assert type(raised.value) is DailyError
        assert await control.reconcile(answered()) is Presence.UNKNOWN
    assert fake.acted == []


async def test_no_answer(way: str) -> None:
    """Is an unknown result, in time."""
    async with acting(way, timeout=0.05) as (control, fake):
        for name in (*ACTS, "start_dialout"):
            fake.answers[name] = []
        with anyio.fail_after(5):
            with pytest.raises(UnknownResult, match=r"no answer within 0\.05 seconds"):
                await control.start(PHONE)
            for act in ACTS.values():
                with pytest.raises(UnknownResult):
                    await act(control)


async def test_an_answer_that_comes_late_or_twice(way: str) -> None:
    """Disturbs neither Daily's thread nor whoever asks next."""
    async with acting(way, timeout=0.05) as (control, fake):
        fake.delay = 0.2
        fake.answers["start_dialout"] = [("late", None), ("late", None)]
        with pytest.raises(UnknownResult):
            await control.start(PHONE)
        with anyio.fail_after(5):
            while fake.told < 2:  # noqa: ASYNC110 - nothing sets an event for it
                await anyio.sleep(0.01)
        fake.delay = 0
        fake.answers["start_dialout"] = [("first", None), (None, "no"), ("other", None)]
        assert await control.start(PHONE) == "first"
        fake.answers["stop_dialout"] = [(None,), ("no",)]
        await control.stop(answered())


async def test_whoever_waits_may_be_cancelled(way: str) -> None:
    """The answer then finds nobody."""
    async with acting(way) as (control, fake):
        fake.delay = 0.2
        with anyio.move_on_after(0.05) as scope:
            await control.start(PHONE)
        assert scope.cancelled_caught
        with anyio.fail_after(5):
            while fake.told < 1:  # noqa: ASYNC110 - nothing sets an event for it
                await anyio.sleep(0.01)
        fake.delay = 0
        assert await control.start(PHONE) == "session-2"


async def test_many_at_once(way: str) -> None:
    """Each gets its own answer."""
    got: dict[int, str] = {}
    async with acting(way) as (control, fake):

        async def start(number: int) -> None:
            got[number] = await control.start(PhoneDialout(phone_number=f"+1202555{number:04}"))

        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(start, number)
    called = {body["phoneNumber"]: f"session-{n}" for n, (_, body) in enumerate(fake.sent, 1)}
    assert got == {number: called[f"+1202555{number:04}"] for number in range(200)}


def people(fake: FakeClient, *ids: str) -> None:
    """Let these be in the room too."""
    fake.people |= {one: {"id": one, "info": {"userId": f"user-{one}", "userName": one.title()}} for one in ids}


async def test_presence(way: str) -> None:
    """Who is there, this client among them; what makes no sense is left out."""
    async with acting(way) as (control, fake):
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
        with pytest.raises(DailyError, match="no mapping"):
            await control.presence()
    assert fake.acted == []


async def test_presence_where_no_room_was_joined(way: str) -> None:
    """Is not an empty room: somebody might dial again for it."""
    async with acting(way) as (control, fake):
        fake.joined = False
        with pytest.raises(NotHosting, match="let the bot join first"):
            await control.presence()
        fake.joined = True
        fake.answers["update_remote_participants"] = [("Permissions(…)",)]
        assert await control.presence() == (RoomParticipant("bot", None, "Bot"),), (
            "refused for another reason: it is in a call"
        )


async def test_reconcile(way: str) -> None:
    """Gone is only who spoke, and is not there, by a client that is in a call."""
    ringing = session_of("dialout-connected")
    async with acting(way) as (control, fake):
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
    assert fake.acted == []


async def test_a_client_that_is_joining(way: str) -> None:
    """daily-python lets requests wait until it has joined: who was seen before says nothing."""
    async with acting(way) as (control, fake):
        for ask, expected in (
            (
                control.presence,
                (RoomParticipant("bot", None, "Bot"), RoomParticipant(SESSION, f"user-{SESSION}", SESSION.title())),
            ),
            (partial(control.reconcile, answered()), Presence.ALIVE),
        ):
            fake.people = {"local": {"id": "bot", "info": {"userName": "Bot"}}}
            fake.delay = 0.2
            async with anyio.create_task_group() as group:
                group.start_soon(join, fake)
                assert await ask() == expected


async def join(fake: FakeClient) -> None:
    """Be in the room a moment later."""
    await anyio.sleep(0.05)
    people(fake, SESSION)


async def test_a_client_that_does_not_say_whether_it_is_in_a_call(way: str) -> None:
    """In time."""
    async with acting(way, timeout=0.05) as (control, fake):
        fake.answers["update_remote_participants"] = []
        assert await control.reconcile(answered()) is Presence.UNKNOWN
        with pytest.raises(DailyError, match="no answer within") as raised:
            await control.presence()
    assert type(raised.value) is DailyError, "nothing was to be done, so nothing may have been"


async def test_through_a_dispatcher(way: str) -> None:
    """What was accepted is known: the end is ours. Of what has ended nothing is sent."""
    async with acting(way) as (control, fake), Dispatcher(Router(), control=control) as calls:
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


async def test_a_refused_stop_leaves_the_end_to_others(way: str) -> None:
    """We asked, but Daily did not do it."""
    async with acting(way) as (control, fake), Dispatcher(Router(), control=control) as calls:
        await calls.receive(js("dialout-answered"))
        fake.answers["stop_dialout"] = [("NOT_ALLOWED",)]
        with pytest.raises(NotAllowed):
            await calls.stop(SESSION)
        await calls.receive(js("dialout-stopped"))
        session = calls.session(SESSION)
        assert session is not None
        assert session.ended_by != "local"


async def test_forwarding_by_rest_beside_it(way: str) -> None:
    """As the docstring shows it."""
    async with acting(way) as (control, fake):
        forwarded: list[tuple[str, ...]] = []
        kind: Any = type(control)

        class Both(kind):  # type: ignore[misc]
            def __init__(self, through: Any, rest: RestControl) -> None:
                super().__init__(through)
                self._rest = rest

            async def forward(self, call_id: str, call_domain: str, sip_endpoint: str) -> None:
                await self._rest.forward(call_id, call_domain, sip_endpoint)

        class Rest(RestControl):
            def __init__(self) -> None:
                """It needs no API."""

            async def forward(self, *given: str) -> None:
                """Keep it."""
                forwarded.append(given)

        through = control._through  # type: ignore[attr-defined]
        both: CallTransport = Both(through, Rest())
        await both.forward("id", "domain", BOB)
        await both.stop(answered())
    assert forwarded == [("id", "domain", BOB)]
    assert fake.sent == [("stop_dialout", SESSION)]
