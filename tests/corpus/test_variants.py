"""Variants of the situations in `logs/`: in other dialects, without times, with neighbours, delivered twice, and in any order.

The right answers follow from the rules of `telstate/calls/README.md`. Seconds count from START.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from telstate import Replay

START = 1_790_000_000
FROM, NUMBER = "sip:+12025550142@carrier.example", "+12025550142"
DESK, OTHER = "+12025550190", "+12025550191"
URI, SECOND = "sip:support.0@example.sip.daily.co", "sip:support.1@example.sip.daily.co"
EXPERTS = "sip:experts.0@example.sip.daily.co"
Line = dict[str, Any]


def line(at: float, dialect: str, payload: dict[str, Any]) -> Line:
    """Make a record with the time of its receipt."""
    return {"v": 1, "seq": 1, "at": START + at, "dialect": dialect, "event": None, "payload": payload}


def hook(kind: str, at: float, session: str | None = "a", room: str = "support", **fields: Any) -> Line:
    """Make the record of a webhook with Daily's time, received a moment later. `late`: so many seconds later."""
    late, own_id = fields.pop("late", 0.2), fields.pop("id", None)
    sent = {"event_ts": fields.pop("event_ts")} if "event_ts" in fields else {}
    payload = {"domain_id": "d", "room": room, "session_id": session}
    if "end_ts" not in fields and "joined_at" not in fields:
        payload["timestamp"] = str(START + int(at))
    payload.update(fields)
    if session is None:
        del payload["session_id"]
    webhook_id = own_id or f"{kind}-{session}-{at}-{room}-{sorted(fields.items())}"[:200]
    envelope = {"type": kind, "id": webhook_id, "payload": payload, **sent}
    return line(at + late, "webhook", envelope)


def js(action: str, at: float, session: str | None = "a", **fields: Any) -> Line:
    """Make the record of a daily-js event."""
    of = {} if session is None else {"sessionId": session}
    return line(at, "daily-js", {"action": action, "callClientId": "k", **of, **fields})


def py(handler: str, at: float, data: Any, **scope: Any) -> Line:
    """Make the record of a callback of daily-python."""
    return line(at, "daily-python", {"handler": f"on_{handler}", "data": data, **scope})


def came(at: float, session: str = "a", room: str = "support", **fields: Any) -> Line:
    """A dial-in connects."""
    return hook("dialin.connected", at, session, room, **{"sip_from": FROM, **fields})


def joined(at: float, session: str = "a", room: str = "support") -> Line:
    """Their media flows."""
    return hook("participant.joined", at, session, room, joined_at=START + at)


def left(since: float, at: float, session: str = "a", room: str = "support") -> Line:
    """They left the room."""
    return hook("participant.left", at, session, room, joined_at=START + since, duration=at - since)


def over(at: float, session: str = "a", room: str = "support") -> Line:
    """Daily reports the end."""
    return hook("dialin.stopped", at, session, room)


def ready(uri: str = URI, room: str = "support") -> Line:
    """An endpoint of a room can be dialled."""
    return hook("dialin.ready", 0, None, room, sip_endpoint=uri)


def moved(step: str, at: float, to: str = DESK, room: str = "support") -> Line:
    """A step of a transfer."""
    return hook(f"calltransfer.{step}", at, "a", room, to_endpoint=to)


def held(at: float = 0, call: str = "p", number: str = NUMBER) -> Line:
    """Somebody waits."""
    return line(at, "webhook", {"To": "+12025550100", "From": number, "callId": call, "callDomain": "d"})


def forwarded(at: float, uri: str = URI, call: str = "p") -> Line:
    """Daily accepted to connect them."""
    return js("pinless-forwarded", at, None, callId=call, sipEndpoint=uri)


def untimed(*lines: Line) -> list[Line]:
    """Take the receipts and Daily's times away: a plain log of daily-js or daily-python."""
    return [one["payload"] for one in lines]


@dataclass
class Variant:
    """What happened, and what is known then: of each session and caller on hold only what matters."""

    lines: list[Line]
    expected: dict[str, dict[str, Any]]
    first: tuple[Line, ...] = ()
    """The readies of the room, which come first in any order."""


def ended(sign: str, at: float, by: str = "unknown", **more: Any) -> dict[str, Any]:
    """What is known of a call that took place and whose end is inferred."""
    return {
        "state": "stopped",
        "cause": "completed",
        "ended_by": by,
        "end_source": "inferred",
        "end_sign": sign,
        "ended_at": at,
        **more,
    }


def told(cause: str = "completed", **more: Any) -> dict[str, Any]:
    """What is known of a call whose end Daily reported."""
    return {"state": "stopped", "cause": cause, "end_source": "told", "end_sign": None, "anomalies": [], **more}


def not_reached(*targets: str) -> list[list[str]]:
    """No target was reached."""
    return [[target, "not-reached"] for target in targets]


VARIANTS = {
    # 01 to 03, 16: transfers
    "nobody answers, and daily-python sees the caller press keys": Variant(
        [
            py("dialin_connected", 0, {"sessionId": "a", "sipFrom": FROM}),
            py("participant_joined", 1, {"id": "a"}),
            js("transfer-requested", 60, toEndpoint=DESK),
            py("dtmf_event", 70, {"sessionId": "a", "tone": "1"}),
            py("dialin_stopped", 90, {"sessionId": "a"}),
        ],
        {"a": told(transferred_to=None, transfers=not_reached(DESK), talk_s=89.0)},
    ),
    "the program ends the call while the target rings": Variant(
        [came(0), joined(1), moved("triggered", 60), js("stop-requested", 65), over(66)],
        {"a": told(transferred_to=None, transfers=not_reached(DESK), ended_by="local")},
    ),
    "a refer: the leg ends at once, and nobody says more": Variant(
        [came(0), joined(1), moved("triggered", 60), over(62), left(1, 62)],
        {"a": told("transferred", transferred_to=DESK, transfers=[[DESK, "handed-over"]])},
    ),
    "a refer whose end is inferred": Variant(
        [came(0), joined(1), moved("triggered", 60), left(1, 62)],
        {"a": ended("participant-left", 62, cause="transferred", transfers=[[DESK, "handed-over"]])},
    ),
    "the far leg is a dial-out that nobody answers": Variant(
        [
            *(came(0), joined(1), moved("triggered", 60), over(100)),
            *(
                hook(f"dialout.{step}", at, "b", destination=f"tel:{DESK}")
                for step, at in (("connected", 61), ("stopped", 80))
            ),
        ],
        {
            "a": told(transfers=not_reached(DESK), legs=["b"]),
            "b": told("unanswered", ring_s=19.0, talk_s=None, legs=["a"]),
        },
    ),
    "the program says that the transfer failed, then the second target picks up": Variant(
        [
            *(came(0), joined(1), moved("triggered", 60), js("transfer-failed", 75, toEndpoint=DESK)),
            *(moved("triggered", 80, OTHER), moved("answered", 85, OTHER), over(86)),
        ],
        {"a": told("transferred", transferred_to=OTHER, transfers=[[DESK, "not-reached"], [OTHER, "reached"]])},
    ),
    "a transfer to an endpoint of ours without any answered": Variant(
        [
            came(1),
            joined(2),
            moved("triggered", 60, EXPERTS),
            over(64),
            came(62, "b", "experts"),
            over(200, "b", "experts"),
        ],
        {
            "a": told("transferred", transfers=[[EXPERTS, "reached"]], legs=["b"]),
            "b": told(sip_endpoint=EXPERTS, legs=["a"]),
        },
        (ready(EXPERTS, "experts"),),
    ),
    "a transfer into a room with two endpoints: nobody knows which": Variant(
        [came(1), moved("triggered", 60, EXPERTS), over(64), came(62, "b", "experts"), over(200, "b", "experts")],
        {
            "a": told("transferred", transfers=[[EXPERTS, "handed-over"]], legs=[]),
            "b": told(sip_endpoint=None, legs=[]),
        },
        (ready(EXPERTS, "experts"), ready("sip:experts.1@example.sip.daily.co", "experts")),
    ),
    "everything is delivered twice": Variant(
        [came(0), moved("triggered", 60), moved("answered", 65), over(66)] * 2,
        {"a": told("transferred", transfers=[[DESK, "reached"]])},
    ),
    "a transfer without any time": Variant(
        untimed(
            js("dialin-connected", 0, sipCallId="c"),
            js("transfer-requested", 1, toEndpoint=DESK),
            js("dialin-stopped", 2),
        ),
        {"a": told("transferred", transfers=[[DESK, "handed-over"]], talk_s=None)},
    ),
    # 04: our client leaves
    "a browser's bot leaves": Variant(
        [js("dialin-connected", 0, sipCallId="c"), js("left-meeting", 90, None)],
        {"a": ended("client-left", 90, "local")},
    ),
    "a bot leaves, and webhooks report the call too": Variant(
        [py("dialin_connected", 0, {"sessionId": "a"}), came(0), py("left", 90, None)],
        {"a": {"state": "connected", "uncertain": False}},
    ),
    "a bot leaves, and Daily reports the end a moment later": Variant(
        [py("dialin_connected", 0, {"sessionId": "a"}), came(0), py("left", 90.3, None), over(92)],
        {"a": told(ended_by="local")},
    ),
    "a bot leaves without any time": Variant(
        untimed(py("dialin_connected", 0, {"sessionId": "a"}), py("left", 1, None)),
        {"a": ended("client-left", None, "local")},  # type: ignore[arg-type]
    ),
    "a bot leaves one of two rooms": Variant(
        [
            *(
                py("dialin_connected", 0, {"sessionId": "a"}, room="r"),
                py("dialin_connected", 0, {"sessionId": "b"}, room="s"),
            ),
            py("left", 90, None, room="r"),
        ],
        {"a": ended("client-left", 90, "local"), "b": {"state": "connected", "uncertain": False}},
    ),
    # 05, 06: the next caller
    "two callers one after the other, in daily-python with the room": Variant(
        [
            *(
                py("dialin_connected", 1, {"sessionId": "a"}, room="r"),
                py("participant_joined", 2, {"id": "a"}, room="r"),
            ),
            *(
                py("dialin_connected", 40, {"sessionId": "b"}, room="r"),
                py("dialin_stopped", 200, {"sessionId": "b"}, room="r"),
            ),
        ],
        {"a": ended("next-caller", 40, talk_s=38.0), "b": told()},
        (py("dialin_ready", 0, "sip:r.0@x.example", room="r"),),
    ),
    "two callers in a room with two endpoints": Variant(
        [came(1), joined(2), came(40, "b"), over(200, "b")],
        {"a": {"state": "answered", "uncertain": False}, "b": told()},
        (ready(), ready(SECOND)),
    ),
    "the next caller comes an hour later": Variant(
        [came(1), joined(2), came(3600, "b"), over(3700, "b")],
        {"a": ended("next-caller", 2, talk_s=0.0), "b": told()},
        (ready(),),
    ),
    "two callers of one second displace nobody": Variant(
        [came(1), came(1, "b")], {"a": {"state": "connected"}, "b": {"state": "connected"}}, (ready(),)
    ),
    # 07, 08: callers on hold
    "nobody is forwarded, and the log goes on": Variant(
        [held(), came(700, "z", "elsewhere", sip_from="sip:+12025550177@carrier.example")],
        {"p": {"state": "gave-up", "held_s": None}, "z": {"caller": None}},
    ),
    "a transport forwards by itself to a room with two endpoints": Variant(
        [held(), came(6), joined(7), over(60)],
        {"a": told(caller=NUMBER, called="+12025550100", pinless_call_id="p", held_s=6.0, sip_endpoint=None)},
        (ready(), ready(SECOND)),
    ),
    "on hold, and transferred to another room within a minute": Variant(
        [
            *(held(), came(6), joined(7), moved("triggered", 50, EXPERTS), came(55, "b", "experts")),
            *(over(57), over(200, "b", "experts")),
        ],
        {
            "a": told("transferred", caller=NUMBER, pinless_call_id="p", held_s=6.0, legs=["b"]),
            "b": told(caller=None, legs=["a"]),
        },
        (ready(), ready(EXPERTS, "experts")),
    ),
    "the same in daily-python": Variant(
        [
            held(),
            py("dialin_connected", 6, {"sessionId": "a", "sipFrom": FROM}, room="support"),
            js("transfer-requested", 50, toEndpoint=EXPERTS),
            py("dialin_connected", 55, {"sessionId": "b", "sipFrom": FROM}, room="experts"),
            py("dialin_stopped", 57, {"sessionId": "a"}, room="support"),
            py("dialin_stopped", 200, {"sessionId": "b"}, room="experts"),
        ],
        {
            "a": told("transferred", caller=NUMBER, pinless_call_id="p", held_s=6.0, legs=["b"]),
            "b": told(caller=None, legs=["a"]),
        },
        (ready(EXPERTS, "experts"),),
    ),
    "a caller is transferred while another one of their number waits and gives up": Variant(
        [
            *(held(), forwarded(5.5), came(6), moved("triggered", 50, EXPERTS), held(40, "q")),
            *(came(55, "b", "experts"), over(57), over(700, "b", "experts")),
        ],
        {
            "a": told("transferred", pinless_call_id="p", legs=["b"]),
            "b": told(caller=None, legs=["a"]),
            "q": {"state": "gave-up"},
        },
        (ready(), ready(EXPERTS, "experts")),
    ),
    "one who gave up is called back and transferred": Variant(
        [
            *(
                held(),
                hook("dialout.connected", 60, destination=NUMBER),
                hook("dialout.answered", 65, destination=NUMBER),
            ),
            *(
                moved("triggered", 90, EXPERTS),
                came(95, "b", "experts"),
                hook("dialout.stopped", 97),
                over(200, "b", "experts"),
            ),
        ],
        {
            "a": told("transferred", transfers=[[EXPERTS, "reached"]], legs=["b"]),
            "b": told(caller=None, legs=["a"]),
            "p": {"state": "waiting"},
        },
        (ready(EXPERTS, "experts"),),
    ),
    "two callers of one number, and one dial-in: nobody knows who": Variant(
        [held(), held(1, "q"), came(6), over(60)],
        {"a": told(caller=None), "p": {"state": "waiting"}, "q": {"state": "waiting"}},
        (ready(),),
    ),
    "forwarded by the program, connected without a number": Variant(
        [held(), held(), forwarded(5.5), came(6, sip_from=""), over(60)],
        {"a": told(caller=NUMBER, pinless_call_id="p", held_s=6.0, sip_endpoint=URI)},
        (ready(),),
    ),
    "a forward that Daily refuses": Variant(
        [held(), js("forward-refused", 6, None, callId="p", sipEndpoint=URI)],
        {"p": {"state": "failed", "ended_at": 6, "held_s": 6.0}},
    ),
    # 11, 12: empty is unknown
    "nothing, blanks and anonymous in three dialects": Variant(
        [
            came(1, sip_from=" ", display_name="", sip_headers=[]),
            js("dialin-connected", 1.1, sipFrom="anonymous", sipCallId="", sipHeaders={}),
            py("dialin_connected", 1.2, {"sessionId": "a", "sipFrom": FROM, "sipHeaders": {"X-A": "1"}}),
        ],
        {
            "a": {
                "sip_from": FROM,
                "sip_call_id": None,
                "sip_headers": {"X-A": "1"},
                "display_name": None,
                "anomalies": [],
            }
        },
    ),
    "headers without values": Variant(
        [
            came(1, sip_headers={"X-Caller-Id": "", "X-Campaign": None}),
            js("dialin-connected", 1.1, sipHeaders={"X-Caller-Id": NUMBER, "X-Tenant": " "}),
            hook("dialin.stopped", 9, sip_headers={"X-Campaign": "spring"}),
        ],
        {"a": {"sip_headers": {"X-Caller-Id": NUMBER, "X-Campaign": "spring"}, "anomalies": []}},
    ),
    "one address in four spellings": Variant(
        [
            *(came(1), js("dialin-connected", 1.1, sipFrom=f'"Ann" <sip:{NUMBER}@CARRIER.example:5060;user=phone>')),
            py("dialin_connected", 1.2, {"sessionId": "a", "sipFrom": "tel:+1-202-555-0142"}),
        ],
        {"a": {"state": "connected", "anomalies": []}},
    ),
    # 13 to 15: the meeting and the participant
    "a meeting ended before the next call in its room": Variant(
        [
            came(1),
            joined(2),
            hook("meeting.ended", 90, None, end_ts=START + 90, late=900),
            came(100, "b"),
            joined(101, "b"),
        ],
        {"a": ended("meeting-ended", 90, talk_s=88.0), "b": {"state": "answered", "uncertain": False}},
    ),
    "the participant left, joined again, and left": Variant(
        [came(1), joined(2), left(2, 30), joined(40), left(40, 90)], {"a": ended("participant-left", 90, talk_s=88.0)}
    ),
    "who joins again has the same id, and so have the webhooks": Variant(
        [
            came(1),
            *(hook("participant.joined", at, joined_at=START + at, id="joined-a") for at in (2, 40)),
            *(
                hook("participant.left", at, joined_at=START + since, duration=at - since, id="left-a")
                for since, at in ((2, 30), (40, 90))
            ),
        ],
        {"a": ended("participant-left", 90, talk_s=88.0)},
    ),
    "nothing says when they left but the webhook's time, which is delivered again much later": Variant(
        [came(1), joined(2), hook("participant.left", 90, joined_at=START + 2, event_ts=START + 90.5, late=900)],
        {"a": ended("participant-left", 90.5, talk_s=88.5)},
    ),
    "a meeting whose end has two times, and one with none but the webhook's": Variant(
        [
            *(came(1), came(1, "b", "desk"), came(1, "c", "lobby")),
            hook("meeting.ended", 95, None, end_ts=START + 90, timestamp=str(START + 95)),
            hook("meeting.ended", 95, None, "desk", timestamp=str(START + 95), end_ts=START + 90),
            hook("meeting.ended", 90, None, "lobby", end_ts=(START + 90) * 1000, event_ts=START + 90.5, late=900),
        ],
        {
            "a": ended("meeting-ended", 90),
            "b": ended("meeting-ended", 90),
            "c": ended("meeting-ended", 90.5),
        },
    ),
    "the participant left, and is back": Variant(
        [came(1), joined(2), left(2, 30), joined(40)], {"a": {"state": "answered", "uncertain": False}}
    ),
    "a dial-out's participant left": Variant(
        [hook("dialout.connected", 1), hook("dialout.answered", 5), left(6, 60)],
        {"a": ended("participant-left", 60, talk_s=55.0, ring_s=4.0)},
    ),
    "somebody else left": Variant(
        [came(1), joined(2), left(2, 30, "bot")], {"a": {"state": "answered", "uncertain": False}}
    ),
    "Daily reports the end after all": Variant([came(1), joined(2), left(2, 90), over(91)], {"a": told(talk_s=89.0)}),
}


def known(lines: list[Line], expected: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Replay lines, with no limit before their end, and return what is asked for."""
    replay = Replay({"end_grace": 1_000_000})
    for one in lines:
        replay.feed(json.dumps(one).encode())
    replay.finish()
    engine = replay.engine
    found = {session.session_id: engine.record(session) for session in engine.sessions()}
    found |= {caller.call_id: caller.to_dict() for caller in engine.unconnected()}
    assert found.keys() == expected.keys()
    for record in found.values():
        if record["ended_at"] is not None:
            record["ended_at"] -= START
    return {name: {fact: found[name][fact] for fact in facts} for name, facts in expected.items()}


@pytest.mark.parametrize("name", VARIANTS)
def test_variant(name: str) -> None:
    """As it was recorded, and shuffled."""
    variant = VARIANTS[name]
    assert known([*variant.first, *variant.lines], variant.expected) == variant.expected
    rng, mixed = Random(name), list(variant.lines)
    for _ in range(0 if "at" not in mixed[0] else 20):
        rng.shuffle(mixed)
        assert known([*variant.first, *mixed], variant.expected) == variant.expected
