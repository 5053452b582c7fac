"""The fake of Daily over real HTTP, with a real receiver: a program sees what it does."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import threading
import time
from typing import Any

import httpx
import pytest

from telstate import Settings, State
from telstate.calls._evidence import Cause
from telstate.control import DailyApi
from telstate.errors import NotRunning, UnknownResult
from telstate.events import parse
from telstate.testing import CallRejected, FakeDaily, PhoneLine, Refusal, faults, refusals
from telstate.testing._faults import cut, hang, instead
from telstate.testing._phone_lines import DIALIN_FAILED
from tests.routing import until
from tests.testing.world import ROOM, SECRET, World, watched

pytestmark = pytest.mark.asyncio

NUMBER = "+12025550101"
ENDPOINT = f"sip:{ROOM}.0@example.sip.daily.co"
PLACE = {"domain_id", "room"}
DIALOUT = PLACE | {"timestamp", "session_id", "user_id", "destination", "caller_id", "origin"}
DIALIN = PLACE | {"timestamp", "session_id", "sip_from", "display_name", "sip_headers"}
PARTICIPANT = {"session_id", "joined_at", "room", "domain_id", "user_id", "user_name", "owner"} | {
    "networkQualityState",
    "will_eject_at",
    "permissions",
}
TRANSFER = PLACE | {"timestamp", "session_id", "mtg_session_id", "to_endpoint", "from_endpoint"}
DOCUMENTED = {
    "dialin.ready": PLACE | {"timestamp", "sip_endpoint"},
    "dialin.connected": DIALIN,
    "dialin.stopped": DIALIN,
    "dialout.connected": DIALOUT,
    "dialout.answered": DIALOUT,
    "dialout.stopped": DIALOUT,
    "dialout.warning": DIALOUT - {"origin"},
    "dialout.error": PLACE | {"timestamp", "session_id", "user_id", "error_msg"},
    "participant.joined": PARTICIPANT,
    "participant.left": PARTICIPANT | {"duration"},
    "calltransfer.triggered": TRANSFER | {"is_sip_refer"},
    "calltransfer.initiated": TRANSFER | {"is_sip_refer"},
    "calltransfer.answered": TRANSFER,
    "calltransfer.completed": TRANSFER,
    "meeting.ended": {"start_ts", "end_ts", "meeting_id", "room", "domain_id"},
}


@pytest.mark.parametrize(
    ("line", "types", "state", "cause", "ended_by"),
    [
        (
            PhoneLine(answers=0.02, talks=0.02),
            "connected answered joined left stopped",
            "stopped",
            "completed",
            "remote",
        ),
        (
            PhoneLine(rings=None, answers=0.02, talks=0.0),
            "answered joined left stopped",
            "stopped",
            "completed",
            "remote",
        ),
        (PhoneLine(busy=True), "connected stopped", "stopped", "unanswered", "busy"),
        (PhoneLine(rings=None, busy=True), "stopped", "stopped", "unanswered", "busy"),
        (PhoneLine(gives_up=0.03), "connected stopped", "stopped", "unanswered", "gives up"),
        (PhoneLine(fails=0.03, error="no way"), "connected error", "error", "failed", "fails"),
        (
            PhoneLine(warns=0.01, talks=0.01),
            "connected warning answered joined left stopped",
            *["stopped", "completed", "remote"],
        ),
    ],
)
async def test_what_a_line_does_is_what_a_program_sees(
    line: PhoneLine, types: str, state: str, cause: str, ended_by: str
) -> None:
    """In order, with its cause; and the fake knows the truth."""
    async with watched() as world:
        world.daily.lines[NUMBER] = line
        session_id = await world.dial(NUMBER, userId="u-1")
        leg = world.daily.session(session_id)
        await world.until(lambda: not leg.live)
        assert [kind.partition(".")[2] for kind in world.webhook_types(session_id)] == types.split()
        assert (leg.state, leg.ended_by) == (State(state), ended_by)
        session = world.calls.session(session_id)
        assert session is not None
        assert (session.state, session.cause) == (State(state), Cause(cause))
        assert (session.destination, session.user_id, session.room) == (
            None if types == "error" else NUMBER, "u-1", ROOM
        )  # fmt: skip
        assert not session.anomalies
        if state == "error":
            assert session.error_msg == "no way"


async def test_every_webhook_has_the_documented_fields() -> None:
    """All types that the fake sends; our parser finds no anomaly."""
    async with watched() as world:
        daily = world.daily
        (other,) = daily.host("sales")
        daily.lines[NUMBER] = PhoneLine(warns=0.0, talks=0.01)
        daily.lines["+12025550102"] = PhoneLine(fails=0.01)
        await world.dial(NUMBER, userId="u")
        await world.dial("+12025550102", userId="u")
        caller = daily.dial_in(f"{ENDPOINT}?x-daily_display_name=my%20name", sip_headers={"X-A": "b"})
        assert daily.session(caller).display_name == "my name"
        assert (await world.post("sipCallTransfer", sessionId=caller, toEndPoint=other)).json() == {"ok": "true"}
        await world.until(lambda: {"dialout.stopped", "calltransfer.completed"} <= set(world.webhook_types()))
        daily.leave(ROOM)
        daily.leave("sales")
        await world.settled()
        assert set(world.webhook_types()) == DOCUMENTED.keys()
        for one in daily.sent:
            assert one.delivered
            assert set(one.body) == {"version", "type", "id", "payload", "event_ts"}
            assert set(one.body["payload"]) == DOCUMENTED[one.type], one.type
            event = parse(one.body)
            assert event.action == one.type.replace(".", "-")
            assert not event.anomalies
            if "timestamp" in one.body["payload"]:
                assert one.body["payload"]["timestamp"] == str(int(float(one.body["payload"]["timestamp"])))
        ids = {one.type: one.body["id"] for one in daily.sent if one.body["payload"].get("session_id") == caller}
        assert ids["dialin.stopped"] == f"2868-dial-in-stop-{caller}"
        assert ids["calltransfer.triggered"].startswith(f"2868-call-transfer-trig-{caller}1")


async def test_sessions_end_before_their_meeting() -> None:
    """When the bot leaves."""
    async with watched() as world:
        session_id = await world.dial(NUMBER)
        caller = world.daily.dial_in(ENDPOINT)
        await world.until(lambda: world.daily.session(session_id).state is State.ANSWERED)
        world.daily.leave(ROOM)
        world.daily.leave(ROOM)
        world.daily.leave("nowhere")
        await world.settled()
        assert world.webhook_types()[-1] == "meeting.ended"
        assert world.webhook_types().count("meeting.ended") == 1
        assert {leg.ended_by for leg in world.daily.sessions} == {"meeting"}
        assert {session.state for session in map(world.calls.session, (session_id, caller)) if session} == {
            State.STOPPED
        }
        assert (await world.post("dialOut/start", phoneNumber=NUMBER)).json()["info"] == refusals.NOT_HOSTING.info


# --- refusals -------------------------------------------------------------------------------------------------------


OUT_OF_ORDER: list[tuple[dict[str, Any], str]] = [
    ({}, "either sipUri or phoneNumber"),
    ({"sipUri": "sip:a@b.example", "phoneNumber": NUMBER}, "either sipUri or phoneNumber"),
    ({"sipUri": "a@b.example"}, "sip:"),
    ({"sipUri": "sip:a@b.example?Header=1"}, "X-"),
    ({"phoneNumber": "2025550101"}, "country code"),
    ({"phoneNumber": 1}, "phoneNumber must be of type str"),
    ({"phoneNumber": NUMBER, "extension": "1" * 21}, "at most 20"),
    ({"phoneNumber": NUMBER, "userId": "1" * 37}, "at most 36"),
    ({"phoneNumber": NUMBER, "waitBeforeExtensionDialSec": 61}, "from 0 to 60"),
    ({"phoneNumber": NUMBER, "waitBeforeExtensionDialSec": True}, "of type int"),
    ({"phoneNumber": NUMBER, "codecs": {"audio": ["MP3"]}}, "codecs.audio"),
    ({"phoneNumber": NUMBER, "codecs": {"smell": []}}, "codecs.smell"),
]


async def test_invalid_starts_are_refused() -> None:
    """Nothing is dialled."""
    async with watched() as world:
        for body, info in OUT_OF_ORDER:
            answer = await world.post("dialOut/start", **body)
            assert (answer.status_code, answer.json()["error"]) == (400, "invalid-request-error")
            assert info in answer.json()["info"]
        assert not world.daily.sessions


async def test_valid_starts_with_all_options() -> None:
    """Options for the other kind of destination are ignored."""
    async with watched() as world:
        uri = "sip:bob@pbx.example?X-One=1&X-Two=2"
        world.daily.lines["sip:bob@pbx.example"] = PhoneLine(answers=None)
        body = {
            "displayName": "Bob",
            "userId": "u" * 36,
            "video": True,
            "codecs": {"audio": ["OPUS"], "video": ["VP8"]},
        }
        leg = world.daily.session(await world.dial(uri, extension="1", waitBeforeExtensionDialSec=60, **body))
        assert (leg.destination, leg.display_name, leg.line.answers) == (uri, "Bob", None)
        assert leg.origin == ENDPOINT
        leg = world.daily.session(await world.dial(NUMBER, callerId="+12025550177"))
        assert (leg.display_name, leg.origin) == (NUMBER, "+12025550177")


async def test_every_refusal() -> None:
    """As the line says, and then the next line."""
    each = [value for value in vars(refusals).values() if isinstance(value, Refusal)]
    async with watched() as world:
        world.daily.host(ROOM, max_sip_pstn_sessions_per_room=20)
        for number, refusal in enumerate(each):
            destination = f"+120255501{number:02}"
            world.daily.lines[destination] = [PhoneLine(refuses=refusal), PhoneLine()]
            answer = await world.post("dialOut/start", phoneNumber=destination)
            expected = {"error": refusal.error, "info": refusal.info}
            assert (answer.status_code, answer.json()) == (refusal.status, expected)
            assert world.daily.starts(destination) == 0
            await world.dial(destination)
            assert world.daily.starts(destination) == 1
    assert len(each) == 11


async def test_keys_rooms_paths_and_sessions_are_checked() -> None:
    """Before anything is done."""
    async with watched() as world:
        plain = httpx.AsyncClient(base_url=world.daily.url, trust_env=False)
        async with plain:
            assert (await plain.get("/rooms")).status_code == 400
            assert (await plain.get("/rooms", headers={"Authorization": "Bearer x"})).status_code == 401
        for method, path in (("GET", "/nothing"), ("GET", "/rooms/none"), ("GET", "/rooms/none/presence")):
            answer = await world.rest.request(method, path)
            assert (answer.status_code, answer.json()["error"]) == (404, "not-found")
        assert (await world.rest.put("/rooms")).status_code == 405
        assert (await world.rest.post("/rooms", content=b"{")).status_code == 400
        for path in ("dialOut/start", "dialOut/stop", "sipCallTransfer", "sipRefer"):
            body = {"phoneNumber": NUMBER, "sessionId": "s", "toEndPoint": "sip:a@b"}
            answer = await world.rest.post(f"/rooms/empty/{path}", json=body)
            assert (answer.status_code, answer.json()["info"]) == (404, "Room is not hosting a call")
        for path, info in (
            ("dialOut/stop", "No dialout to stop"),
            ("dialOut/sendDTMF", "No session running"),
            ("sipCallTransfer", "invalid sessionId"),
            ("sipRefer", "invalid sessionId"),
        ):
            answer = await world.post(path, sessionId="none", tones="1", toEndPoint="sip:a@b")
            assert (answer.status_code, answer.json()["info"]) == (404, info)
            assert (await world.post(path)).status_code == 400
        world.daily.host("silent", enable_dialout=False)
        answer = await world.rest.post("/rooms/silent/dialOut/start", json={"phoneNumber": NUMBER})
        assert (answer.status_code, answer.json()["info"]) == (400, refusals.NOT_ENABLED_FOR_ROOM.info)


async def test_the_sixth_session_of_a_room_is_refused() -> None:
    """A dial-in counts too; an ended session does not."""
    async with watched() as world:
        caller = world.daily.dial_in(ENDPOINT)
        for _ in range(4):
            await world.dial(NUMBER)
        answer = await world.post("dialOut/start", phoneNumber=NUMBER)
        assert answer.status_code == 400
        assert "max_sip_pstn_sessions_per_room" in answer.json()["info"]
        assert world.daily.starts(NUMBER) == world.daily.most_at_once(NUMBER) == 4
        assert world.daily.hang_up(caller)
        assert not world.daily.hang_up(caller)
        await world.dial(NUMBER)
        with pytest.raises(CallRejected, match="may not have more"):
            world.daily.dial_in(ENDPOINT)
        world.daily.host(ROOM, max_sip_pstn_sessions_per_room=6)
        world.daily.dial_in(ENDPOINT)


# --- what goes wrong ------------------------------------------------------------------------------------------------


async def test_a_lost_answer_and_a_lost_start() -> None:
    """The first made a call, the second did not."""
    async with watched() as world:
        world.daily.lines[NUMBER] = [
            PhoneLine(start_lost=True),
            PhoneLine(answer_lost=True),
            PhoneLine(answer_after=0.1, answers=0.01),
        ]
        async with DailyApi(world.daily.key, url=world.daily.url) as api:
            for starts in (0, 1):
                with pytest.raises(UnknownResult):
                    await api.request("POST", f"/rooms/{ROOM}/dialOut/start", {"phoneNumber": NUMBER})
                assert world.daily.starts(NUMBER) == starts
        began = time.monotonic()
        session_id = await world.dial(NUMBER)
        assert time.monotonic() - began >= 0.1
        assert world.daily.session(session_id).answered_at is not None
        assert world.daily.most_at_once(NUMBER) == 2


async def test_webhooks_that_are_lost_late_or_sent_twice() -> None:
    """As the line says."""
    async with watched() as world:
        mishaps = PhoneLine(
            talks=0.01, loses={"dialout.stopped"}, delays={"dialout.answered": 0.6}, twice={"participant.left"}
        )
        world.daily.lines[NUMBER] = mishaps
        session_id = await world.dial(NUMBER)
        await world.until(lambda: not world.daily.live())
        types = [kind.partition(".")[2] for kind in world.webhook_types(session_id)]
        types.remove("answered")  # it waits for none, and none for it
        assert types == ["connected", "joined", "left", "left"]
        session = world.calls.session(session_id)
        assert session is not None
        assert (session.state, session.duplicates) == (State.ANSWERED, 1)
        late = next(one.body for one in world.daily.sent if one.type == "dialout.answered")
        assert late["event_ts"] - float(late["payload"]["timestamp"]) > 0.55


async def test_a_failing_receiver_gets_all_webhooks_in_order() -> None:
    """They are retried, and none overtakes an earlier one."""
    got: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        got.append(message["body"].decode())
        status = 200 if len(got) > 3 else 500
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body"})

    from tests.sources.serving import serving

    async with serving(app, lifespan="off") as url:
        with FakeDaily(f"{url}/webhooks", pauses=[0.01] * 4) as daily:
            (endpoint,) = daily.host(ROOM)
            daily.hang_up(daily.dial_in(endpoint))
            await asyncio.to_thread(daily.settled)
            order = [one.type for one in daily.sent if one.body["payload"].get("sip_from")]
            assert order == ["dialin.connected", "dialin.stopped"]
            assert all(one.delivered for one in daily.sent)
    with FakeDaily(f"{url}/webhooks", pauses=[0.01]) as daily:
        daily.host(ROOM)
        await asyncio.to_thread(daily.settled)
        assert {one.delivered for one in daily.sent} == {False}


async def test_network_faults() -> None:
    """For the next request, or for every request to a path."""
    async with watched() as world:
        world.daily.rules["/rooms/*/dialOut/stop"] = instead(504)
        world.daily.faults.append(cut)
        with pytest.raises(httpx.RemoteProtocolError):
            await world.dial(NUMBER)
        session_id = await world.dial(NUMBER)
        assert [(await world.post("dialOut/stop", sessionId=session_id)).status_code for _ in range(2)] == [504, 504]
        world.daily.rules.clear()
        assert (await world.post("dialOut/stop", sessionId=session_id)).json() == {"ok": "true"}
        assert (await world.post("dialOut/stop", sessionId=session_id)).status_code == 404
        assert world.daily.session(session_id).ended_by == "stop"
        assert [one.path for one in world.daily.seen].count(f"/v1/rooms/{ROOM}/dialOut/stop") == 4


# --- in a call ------------------------------------------------------------------------------------------------------


async def test_tones_and_ejections() -> None:
    """Of live sessions."""
    async with watched() as world:
        session_id, other = await world.dial(NUMBER), await world.dial("+12025550102", userId="u")
        for tones in ("12#", "0"):
            answer = await world.post("dialOut/sendDTMF", sessionId=session_id, tones=tones, digitDurationMs=50)
            assert answer.json() == {"ok": "true", "sessionId": session_id}
        assert world.daily.session(session_id).tones == ["12#", "0"]
        for wrong in ({"tones": "1" * 21}, {"tones": "1", "digitDurationMs": 49}, {"tones": ""}):
            assert (await world.post("dialOut/sendDTMF", sessionId=session_id, **wrong)).status_code == 400
        assert (await world.post("eject", ids=["none", session_id])).json() == {"ejectedIds": [session_id]}
        assert (await world.post("eject", ids=["none", session_id])).json() == {"ejectedIds": []}
        assert (await world.post("eject", user_ids=["u"])).json() == {"ejectedIds": [other]}
        assert (await world.post("eject")).status_code == 400
        assert {leg.ended_by for leg in world.daily.sessions} == {"eject"}
        bot = (await world.rest.get(f"/rooms/{ROOM}/presence")).json()["data"][0]["id"]
        assert (await world.post("eject", ids=[bot])).json() == {"ejectedIds": [bot]}
        assert (await world.post("dialOut/start", phoneNumber=NUMBER)).status_code == 404


async def test_a_transfer_into_another_room() -> None:
    """It makes a new session, and the program sees that they belong together."""
    async with watched() as world:
        (sales,) = world.daily.host("sales")
        caller = world.daily.dial_in(ENDPOINT)
        await world.until(lambda: world.daily.session(caller).joined_at)
        await world.post("sipCallTransfer", sessionId=caller, toEndPoint=sales)
        await world.until(lambda: "calltransfer.completed" in world.webhook_types())
        assert world.webhook_types(caller)[2:] == [
            "participant.left",
            "dialin.stopped",
            "calltransfer.triggered",
            "calltransfer.initiated",
            "calltransfer.answered",
            "calltransfer.completed",
        ]
        (there,) = world.daily.live()
        assert (there.room, there.sip_from) == ("sales", world.daily.session(caller).sip_from)
        assert world.daily.session(caller).ended_by == "transfer"
        await world.until(lambda: there.joined_at)
        session, new = world.calls.session(caller), world.calls.session(there.session_id)
        assert session is not None
        assert new is not None
        assert (session.cause, session.transferred_to) == (Cause.TRANSFERRED, sales)
        assert new.state is State.ANSWERED


@pytest.mark.parametrize(
    ("line", "steps"),
    [
        (PhoneLine(answers=0.01), "triggered initiated answered completed"),
        (PhoneLine(busy=True), "triggered initiated"),
    ],
)
async def test_a_transfer_to_a_number(line: PhoneLine, steps: str) -> None:
    """No event says that it failed."""
    async with watched() as world:
        session_id = await world.dial(NUMBER)
        world.daily.lines["+12025550109"] = line
        assert (await world.post("sipCallTransfer", sessionId=session_id, toEndPoint="nobody")).status_code == 400
        await world.post("sipCallTransfer", sessionId=session_id, toEndPoint="+12025550109")
        last = f"calltransfer.{steps.rsplit(maxsplit=1)[-1]}"
        await world.until(lambda: last in world.webhook_types(session_id))
        await asyncio.sleep(0.05)  # nothing more comes
        await world.settled()
        sent = [
            kind.removeprefix("calltransfer.") for kind in world.webhook_types(session_id) if kind.startswith("call")
        ]
        assert sent == steps.split()
        assert world.daily.starts("+12025550109") == 0


@pytest.mark.long
async def test_a_caller_who_stays_until_a_target_answers() -> None:
    """As reports of failed transfers say: the first target never answers, the caller talks on, and the second one reaches them."""
    async with watched() as world:
        daily, first, second = world.daily, "+12025550108", "+12025550109"
        daily.lines |= {
            first: PhoneLine(answers=None, keeps_caller=True),
            second: PhoneLine(answers=0.02, keeps_caller=True),
        }
        session_id = await world.dial(NUMBER)
        await world.until(lambda: daily.session(session_id).joined_at)
        await world.post("sipCallTransfer", sessionId=session_id, toEndPoint=first)
        await asyncio.sleep(0.05)
        assert daily.session(session_id).live
        await asyncio.sleep(1.0)  # webhooks have whole seconds
        await world.post("sipCallTransfer", sessionId=session_id, toEndPoint=second)
        await world.until(lambda: world.webhook_types(session_id).count("calltransfer.completed"))
        await world.settled()
        session = world.calls.session(session_id)
        assert session is not None
        assert (session.cause, session.transfers) == ("transferred", ((first, "not-reached"), (second, "reached")))


@pytest.mark.parametrize(
    ("loses", "sign"),
    [
        ({"dialin.stopped"}, "participant-left"),
        ({"dialin.stopped", "participant.left"}, "meeting-ended"),
    ],
)
async def test_a_bot_that_leaves_where_the_ends_are_lost(loses: set[str], sign: str) -> None:
    """Or come late. The time of the end is that of the sign, not of its arrival."""
    async with watched(Settings(end_grace=0.05)) as world:
        caller = world.daily.dial_in(ENDPOINT)
        await world.until(lambda: (found := world.calls.session(caller)) is not None and found.was_answered)
        world.daily.leave(ROOM, line=PhoneLine(loses=loses, delays={"meeting.ended": 0.5}))
        session = await world.calls.wait_for(caller, "stopped", timeout=5)
        assert (session.cause, session.end_source, session.end_sign) == ("completed", "inferred", sign)
        left_at = world.daily.session(caller).left_at
        assert left_at is not None
        assert session.ended_at is not None
        assert (
            abs(session.ended_at - (time.time() - time.monotonic() + left_at)) < 0.4
        )  # it arrives half a second later


async def test_a_refer() -> None:
    """No event says how it went on."""
    async with watched() as world:
        session_id = await world.dial(NUMBER)
        await world.until(lambda: world.daily.session(session_id).joined_at)
        assert (await world.post("sipRefer", sessionId=session_id, toEndPoint=NUMBER)).status_code == 400
        await world.post("sipRefer", sessionId=session_id, toEndPoint="sip:a@pbx.example")
        await world.until(lambda: "calltransfer.initiated" in world.webhook_types(session_id))
        await asyncio.sleep(0.1)  # nothing more comes
        await world.settled()
        assert world.webhook_types(session_id)[-4:] == [
            "participant.left",
            "dialout.stopped",
            "calltransfer.triggered",
            "calltransfer.initiated",
        ]
        assert world.daily.sent[-1].body["payload"]["is_sip_refer"] is True


# --- callers --------------------------------------------------------------------------------------------------------


async def test_an_endpoint_that_is_not_ready() -> None:
    """A caller is rejected, and one who is forwarded there is dropped."""
    async with watched(registers=60.0) as world:
        with pytest.raises(CallRejected, match="not ready"):
            world.daily.dial_in(ENDPOINT)
        early, other = world.daily.call_in("+12025550150"), world.daily.call_in("+12025550150")
        body = {"callId": early, "callDomain": "d", "sipUri": ENDPOINT}
        assert (await world.rest.post("/dialin/pinlessCallUpdate", json=body)).status_code == 404
        assert world.daily.waiting == [other]


async def test_endpoints_of_a_room() -> None:
    """Each is reported; one client at a time can use one; afterwards it can be dialled again."""
    async with watched(registers=0.05) as world:
        first, second = world.daily.host("two", sip={"num_endpoints": 2})
        await world.until(lambda: world.webhook_types().count("dialin.ready") == 3)
        caller = world.daily.dial_in(first)
        with pytest.raises(CallRejected, match="busy"):
            world.daily.dial_in(first)
        world.daily.dial_in(second)
        world.daily.hang_up(caller)
        world.daily.dial_in(first.removeprefix("sip:"), media=None, line=PhoneLine(loses={"dialin.connected"}))
        await world.settled()
        assert world.webhook_types().count("dialin.connected") == 2
        with pytest.raises(CallRejected, match="no room"):
            world.daily.dial_in("sip:nobody@pbx.example")


async def test_a_dial_in_that_warns_and_fails() -> None:
    """As Daily reports it."""
    async with watched() as world:
        caller = world.daily.dial_in(ENDPOINT, line=PhoneLine(warns=0.02, fails=0.05))
        await world.until(lambda: not world.daily.session(caller).live)
        webhooks = [one for one in world.daily.sent if one.body.get("payload", {}).get("session_id") == caller]
        assert [one.type for one in webhooks if one.type.startswith("dialin")] == [
            "dialin.connected",
            "dialin.warning",
            "dialin.error",
        ]
        assert set(webhooks[-1].body["payload"]) == PLACE | {"timestamp", "session_id", "error_msg"}
        session = world.calls.session(caller)
        assert session is not None
        assert (session.state, session.error_msg) == (State.ERROR, DIALIN_FAILED)
        assert world.daily.dial_in(ENDPOINT)  # it is free again


async def test_a_caller_on_hold_whose_media_never_flows() -> None:
    """The session stays connected."""
    async with watched() as world:
        call_id = world.daily.call_in("+12025550150", media=None)
        body = {"callId": call_id, "callDomain": "d", "sipUri": ENDPOINT}
        assert (await world.rest.post("/dialin/pinlessCallUpdate", json=body)).status_code == 200
        await world.settled()
        (session,) = world.calls.live()
        assert session.state is State.CONNECTED
        assert world.daily.live()[0].joined_at is None


async def test_a_caller_on_hold() -> None:
    """Reported by a signed request, forwarded once, and then a session."""
    async with watched() as world:
        call_id = world.daily.call_in("+12025550150", "+12025550151", sip_headers={"X-A": "b"}, talks=0.3)
        await world.settled()
        assert world.daily.waiting == [call_id]
        webhook = next(one for one in world.daily.sent if one.type == "pinless")
        assert webhook.delivered
        assert set(webhook.body) == {"To", "From", "callId", "callDomain", "sipHeaders"}
        body = {"callId": call_id, "callDomain": webhook.body["callDomain"], "sipUri": ENDPOINT}
        assert (await world.rest.post("/dialin/pinlessCallUpdate", json={"callId": call_id})).json()[
            "info"
        ] == "Missing fields"
        assert (await world.rest.post("/dialin/pinlessCallUpdate", json=body)).json() == {"ok": "true"}
        (leg,) = world.daily.live()
        assert (leg.call_id, leg.sip_from) == (call_id, "sip:+12025550151@carrier.example")
        answer = await world.rest.post("/dialin/pinlessCallUpdate", json=body)
        assert (answer.status_code, answer.json()["info"]) == (404, "Call Forwarding Failed")
        await world.until(lambda: not leg.live)
        session = world.calls.session(leg.session_id)
        assert session is not None
        assert session.cause is Cause.COMPLETED


async def test_a_caller_who_is_forwarded_to_a_busy_endpoint_stays_on_hold() -> None:
    """And may hang up."""
    async with watched(registers=0.05) as world:
        await world.until(lambda: "dialin.ready" in world.webhook_types())
        world.daily.dial_in(ENDPOINT)
        call_ids = [world.daily.call_in("+12025550150") for _ in range(2)]
        body = {"callId": call_ids[0], "callDomain": "d", "sipUri": ENDPOINT}
        answer = await world.rest.post("/dialin/pinlessCallUpdate", json=body)
        assert (answer.status_code, world.daily.waiting) == (404, call_ids)
        assert world.daily.hang_up(call_ids[0])
        assert world.daily.waiting == call_ids[1:]


# --- rooms and presence ---------------------------------------------------------------------------------------------


async def test_rooms() -> None:
    """Created, read, changed, deleted."""
    async with watched() as world:
        sip = {"sip_mode": "dial-in", "display_name": "x", "num_endpoints": 2}
        made = (await world.rest.post("/rooms", json={"name": "r", "properties": {"sip": sip}})).json()
        assert (made["name"], made["config"]["sip"]) == ("r", sip)
        uris = made["config"]["sip_uri"]
        assert len(uris["extra_endpoints"]) == 1
        assert (await world.rest.post("/rooms", json={"name": "r"})).status_code == 400
        assert world.daily.host("r") == (uris["endpoint"], *uris["extra_endpoints"])
        answer = await world.rest.post("/rooms/r/dialOut/start", json={"phoneNumber": NUMBER})
        assert answer.json()["info"] == refusals.NOT_ENABLED_FOR_ROOM.info
        changed = await world.rest.post("/rooms/r", json={"properties": {"sip": None, "enable_dialout": True}})
        assert changed.json()["config"] == {"enable_dialout": True}
        assert (await world.rest.get("/rooms/r")).json() == changed.json()
        assert (await world.rest.post("/rooms/r/dialOut/start", json={"phoneNumber": NUMBER})).status_code == 200
        assert (await world.rest.get("/rooms")).json()["total_count"] == 2
        assert (await world.rest.delete("/rooms/r")).json() == {"deleted": True, "name": "r"}
        assert (await world.rest.get("/rooms/r")).status_code == 404
        assert not world.daily.live()
        assert (await world.rest.post("/rooms", json={})).json()["name"]
        assert (await world.rest.post("/rooms", json={"properties": {"sip": 1}})).status_code == 400


@pytest.mark.parametrize(
    "wrong",
    [
        {"sip": 1},
        {"sip": {"display_name": "x"}},
        {"sip": {"sip_mode": "dial-out", "display_name": "x"}},
        {"sip": {"sip_mode": "dial-in"}},
        {"sip": {"sip_mode": "dial-in", "display_name": "x", "num_endpoints": 0}},
        {"sip": {"sip_mode": "dial-in", "display_name": "x", "codecs": {"video": ["AV1"]}}},
        {"sip": {"sip_mode": "dial-in", "display_name": "x", "video": "yes"}},
        {"max_sip_pstn_sessions_per_room": "x"},
        {"max_sip_pstn_sessions_per_room": 0},
    ],
)
async def test_invalid_room_properties_are_refused(wrong: dict[str, Any]) -> None:
    """And nothing changes."""
    async with watched() as world:
        before = (await world.rest.get(f"/rooms/{ROOM}")).json()
        answer = await world.rest.post(f"/rooms/{ROOM}", json={"properties": wrong})
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid-request-error")
        assert (await world.rest.get(f"/rooms/{ROOM}")).json() == before


async def test_presence_with_a_limit() -> None:
    """The total is returned too."""
    async with watched() as world:
        await world.dial(NUMBER)
        await world.until(lambda: world.daily.sessions[0].joined_at)
        answer = (await world.rest.get(f"/rooms/{ROOM}/presence", params={"limit": 1})).json()
        assert (answer["total_count"], len(answer["data"])) == (2, 1)
        assert (await world.rest.get(f"/rooms/{ROOM}/presence", params={"limit": "x"})).status_code == 400


async def presence(world: World, **query: str) -> dict[str, Any]:
    """Return who is in the room, by id."""
    answer = (await world.rest.get(f"/rooms/{ROOM}/presence", params=query)).json()
    assert answer["total_count"] == len(answer["data"])
    return {one["id"]: one for one in answer["data"]}


@pytest.mark.parametrize("joins", ["answer", "ring"])
async def test_presence(joins: str) -> None:
    """Of those who have joined, the bot included."""
    async with watched(joins=joins) as world:
        world.daily.lines[NUMBER] = PhoneLine(answers=None)
        ringing = await world.dial(NUMBER)
        session_id = await world.dial("+12025550102", userId="u", displayName="Bo")
        await world.until(lambda: world.daily.session(session_id).joined_at)
        there = await presence(world)
        assert len(there) == (3 if joins == "ring" else 2)
        assert (ringing in there) == (joins == "ring")
        assert set(there[session_id]) == {"room", "id", "userId", "userName", "mtgSessionId", "joinTime", "duration"}
        assert (there[session_id]["userName"], there[session_id]["room"]) == ("Bo", ROOM)
        assert list(await presence(world, userId="u")) == [session_id]
        world.daily.hang_up(session_id)
        assert session_id not in await presence(world)


@pytest.mark.long
async def test_presence_lags() -> None:
    """For joining and for leaving."""
    async with watched(presence_lag=2.5) as world:
        assert not await presence(world)
        await asyncio.sleep(2.5)
        assert len(await presence(world)) == 1
        world.daily.leave(ROOM)
        assert len(await presence(world)) == 1
        await asyncio.sleep(2.5)
        assert not await presence(world)


# --- the fake itself ------------------------------------------------------------------------------------------------


async def test_webhooks_created_by_rest_get_their_event_types() -> None:
    """Signed with their own secret; after three failures nothing more is sent."""
    async with watched() as world:
        url = str(world.daily._webhook)
        made = (
            await world.rest.post("/webhooks", json={"url": url, "eventTypes": ["dialout.answered"], "hmac": SECRET})
        ).json()
        await world.dial(NUMBER)
        await world.until(lambda: world.webhook_types().count("dialout.answered") == 2)
        hook = world.daily.hooks[made["uuid"]]
        assert hook["lastMomentPushed"]
        hook["hmac"] = "b3RoZXI="  # the receiver refuses what is signed with that
        for number in range(4):
            await world.dial(NUMBER)
            await world.until(lambda due=2 * (number + 2): world.webhook_types().count("dialout.answered") == due)  # type: ignore[misc]
        assert (hook["state"], hook["failedCount"]) == ("FAILED", 3)
        assert (await world.rest.delete(f"/webhooks/{made['uuid']}")).status_code == 200
        assert not world.daily.hooks


@pytest.mark.parametrize("number", [20, pytest.param(500, marks=pytest.mark.long)])
async def test_many_calls_at_once(number: int) -> None:
    """Every one is reported completely."""
    async with watched() as world:
        world.daily.host(ROOM, max_sip_pstn_sessions_per_room=2 * number)
        lost = {"participant.joined", "participant.left"}  # saves two requests a call
        world.daily.lines.default = PhoneLine(answers=0.2, talks=0.2, loses=lost)
        limit = asyncio.Semaphore(50)

        async def call(number: int) -> str:
            async with limit:
                return await world.dial(f"+1202555{number:04}")

        ids = await asyncio.gather(*(call(each) for each in range(number)))
        await world.until(lambda: not world.daily.live())
        causes = [session.cause if session else None for session in map(world.calls.session, ids)]
        assert causes == [Cause.COMPLETED] * number


async def test_answers_on_a_kept_alive_connection_are_sent_at_once() -> None:
    """Without TCP_NODELAY each takes 40 ms: the body waits for the client's delayed ACK of the head."""
    with FakeDaily() as daily:
        headers = {"Authorization": f"Bearer {daily.key}"}
        async with httpx.AsyncClient(base_url=daily.url, headers=headers, trust_env=False) as rest:
            await rest.get("/rooms")
            medians = [1.0]
            while medians[-1] >= 0.03 and len(medians) < 20:  # a busy machine may be slow for a while
                times = []
                for _ in range(10):
                    start = time.perf_counter()
                    await rest.get("/rooms")
                    times.append(time.perf_counter() - start)
                medians.append(statistics.median(times))
    assert medians[-1] < 0.03, medians


async def test_it_serves_other_processes_and_threads() -> None:
    """It runs in its own thread."""
    with FakeDaily() as daily:
        code = f"import urllib.request as r; print(r.urlopen(r.Request({daily.url + '/rooms'!r}, headers="
        code += f"{{'Authorization': 'Bearer {daily.key}'}})).read())"
        threads = [threading.Thread(target=daily.host, args=(f"r{number}",)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        run = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], capture_output=True, check=True)
        assert b'"total_count":20' in run.stdout


async def test_leaving_is_fast_and_leaves_no_thread() -> None:
    """With a request that hangs, a receiver that is down, and live calls."""
    before = threading.active_count()
    with FakeDaily("http://127.0.0.1:9/webhooks", pauses=[60]) as daily:
        daily.host(ROOM)
        daily.lines[NUMBER] = PhoneLine(answer_after=60)
        headers = {"Authorization": f"Bearer {daily.key}"}
        async with httpx.AsyncClient(base_url=daily.url, headers=headers, trust_env=False) as rest:
            daily.rules["/rooms"] = hang
            asking = [
                asyncio.create_task(rest.get("/rooms")),
                asyncio.create_task(rest.post(f"/rooms/{ROOM}/dialOut/start", json={"phoneNumber": NUMBER})),
            ]
            while len(daily.seen) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            with pytest.raises(TimeoutError, match=r"participant\.joined"):
                await asyncio.to_thread(daily.settled, 0.01)
            began = time.monotonic()
            daily.__exit__(None, None, None)
            assert time.monotonic() - began < 20
            await asyncio.gather(*asking, return_exceptions=True)
        daily.__exit__(None, None, None)
    assert threading.active_count() <= before + 1  # asyncio's own for to_thread
    with pytest.raises(NotRunning, match="inside its `with`"):
        daily.host(ROOM)
    assert len(daily.sessions) == 1
    with pytest.raises(NotRunning, match="entered once"):
        daily.__enter__()


async def test_its_own_errors_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a request, a timer and a delivery."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    daily = FakeDaily("http://127.0.0.1:port/").__enter__()
    daily.host(ROOM)
    headers = {"Authorization": f"Bearer {daily.key}"}
    async with httpx.AsyncClient(base_url=daily.url, headers=headers, trust_env=False) as rest:
        monkeypatch.setattr(daily._server.domain, "_answer", broken)
        await rest.post(f"/rooms/{ROOM}/dialOut/start", json={"phoneNumber": NUMBER})
        monkeypatch.delattr(daily._server.domain, "legs")
        assert (await rest.post(f"/rooms/{ROOM}/dialOut/start", json={"phoneNumber": NUMBER})).status_code == 500
        expected = {ZeroDivisionError, AttributeError, httpx.InvalidURL}
        await until(lambda: {type(error) for error in tuple(daily._server.errors)} >= expected)
    with pytest.raises(BaseExceptionGroup) as raised:
        daily.__exit__(None, None, None)
    assert {type(error) for error in raised.value.exceptions} == expected


async def test_pytest_fail_in_a_fault_is_raised() -> None:
    """It raises no Exception; uvicorn would only answer with 500."""

    async def fault(*_: object) -> None:
        pytest.fail("this must not be asked")

    daily = FakeDaily().__enter__()
    daily.faults.append(fault)
    async with httpx.AsyncClient(base_url=daily.url, trust_env=False) as rest:
        assert (await rest.get("/rooms")).status_code == 500
    with pytest.raises(BaseExceptionGroup) as raised:
        daily.__exit__(None, None, None)
    assert "this must not be asked" in str(raised.value.exceptions[0])


async def test_invalid_lines_raise() -> None:
    """Where they are written."""
    for wrong in (
        {"rings": 2.0},
        {"answers": -1.0},
        {"talks": float("nan")},
        {"warns": True},
        {"delays": {"dialout.stopped": -1.0}},
    ):
        with pytest.raises(ValueError, match=r"second|ring"):
            PhoneLine(**wrong)
    with pytest.raises(ValueError, match=r"'dialout-stopped' is not a type of webhook.*'dialout.stopped'"):
        PhoneLine(loses={"dialout-stopped"})
    with pytest.raises(TypeError, match="takes a Refusal"):
        PhoneLine(refuses="nope")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="set of types"):
        PhoneLine(loses="dialout.stopped")
    with pytest.raises(ValueError, match="status"):
        Refusal(200, "x")
    with pytest.raises(ValueError, match="base64"):
        FakeDaily(None, "ä")
    with pytest.raises(ValueError, match="joins="):
        FakeDaily(joins="never")  # type: ignore[arg-type]
    with FakeDaily() as daily, pytest.raises(ValueError, match="pinless=URL"):
        daily.call_in("+12025550150")


async def test_lines_and_rules_without_effect_raise() -> None:
    """A number that cannot be dialled, a path that does not exist, a fault that is not one."""
    with FakeDaily() as daily:
        for destination in ("12025550101", "+1 202 555 0101", "support", "", "sip:"):
            with pytest.raises(ValueError, match=r"E\.164"):
                daily.lines[destination] = PhoneLine()
        for nothing in ("busy", None, [], [PhoneLine(), "busy"], {"busy": True}):
            with pytest.raises(TypeError, match="a PhoneLine, or one for each dial"):
                daily.lines[NUMBER] = nothing  # type: ignore[assignment]
        for nowhere in ("/room/*", "/rooms/*/dialout/start", "/v1/rooms/r", "rooms", "/rooms/r/", ""):
            with pytest.raises(ValueError, match=r"matches no path.*/rooms/\*/dialOut/start"):
                daily.rules[nowhere] = hang
        with pytest.raises(ValueError, match="matches no path"):
            daily.rules.update({"/room/*": hang})
        with pytest.raises(ValueError, match=r"E\.164"):
            daily.lines.update({"support": PhoneLine()})
        with pytest.raises(ValueError, match=r"E\.164"):
            daily.lines |= {"support": PhoneLine()}
        with pytest.raises(TypeError, match=r"instead\(500\)"):
            daily.rules["*"] = 500  # type: ignore[assignment]
        somewhere = (
            "*",
            "/rooms/*t",
            "/rooms",
            "/rooms/*",
            "*/dialOut/*",
            "/rooms/r[12]/dialOut/sto?",
            "/rooms/support/eject",
        )
        for pattern in somewhere:
            daily.rules[pattern] = hang
        assert list(daily.rules) == list(somewhere)
        assert not daily.lines


async def test_a_caller_who_gives_up_on_hold() -> None:
    """Nothing reports it: a later forward fails, and then the caller is lost."""
    async with watched() as world:
        call_id = world.daily.call_in("+12025550150", waits=0.05)
        await world.settled()  # two callers are reported in any order
        patient = world.daily.call_in("+12025550150", "+12025550152", waits=30)
        await world.settled()
        await world.until(lambda: world.daily.waiting == [patient])
        body = {"callId": call_id, "callDomain": "d", "sipUri": ENDPOINT}
        assert (await world.rest.post("/dialin/pinlessCallUpdate", json=body)).status_code == 404
        assert [caller.call_id for caller in world.calls.waiting()] == [call_id, patient]


async def test_endpoints_in_several_rooms() -> None:
    """Each room's dial-in is known to have come by its own endpoint, from webhooks alone."""
    async with watched() as world:
        (other,) = world.daily.host("other-room")
        await world.settled()
        first, second = world.daily.dial_in(ENDPOINT), world.daily.dial_in(other)
        await world.settled()
        for session_id, uri in ((first, ENDPOINT), (second, other)):
            session = world.calls.session(session_id)
            assert session is not None
            assert session.sip_endpoint == uri
            endpoint = world.calls.endpoint(uri)
            assert endpoint is not None
            assert endpoint.session_id == session_id


async def test_faults_by_chance() -> None:
    """A share of the requests meets each; the rest is carried out."""
    with pytest.raises(ValueError, match="at most 1 together"):
        faults.sometimes([(0.7, cut), (0.7, hang)])
    with FakeDaily() as daily:
        headers = {"Authorization": f"Bearer {daily.key}"}
        async with httpx.AsyncClient(base_url=daily.url, headers=headers, trust_env=False) as rest:
            daily.rules["/rooms"] = faults.sometimes([(0.3, instead(503)), (0.2, instead(429))], seed=7)
            met = [(await rest.get("/rooms")).status_code for _ in range(40)]
            assert set(met) == {200, 429, 503}
            assert 10 < met.count(200) < 30
            daily.rules["/rooms"] = faults.sometimes([(0.3, instead(503)), (0.2, instead(429))], seed=7)
            assert [(await rest.get("/rooms")).status_code for _ in range(40)] == met
