"""Histories of callers on hold, drawn by Hypothesis, with what really happened in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from tests.calls import webhook

__all__ = [
    "START",
    "TRUNK_CALLS",
    "Happening",
    "HeldWorld",
    "any_history",
    "connection",
    "readies",
    "ringing",
    "rooms",
    "trunk_worlds",
    "uri",
    "worlds",
]

START = 1_790_000_000.0
NUMBERS = ["+12025550141", "+12025550142"]

TRUNK_CALLS = ["t", "u", "r"]
"""The ids of calls on a trunk; the last is that of one without an id, in the room of that name."""

Happening = tuple[float, dict[str, Any]]
"""A payload with the time of its record."""


def rooms() -> st.SearchStrategy[dict[str, int]]:
    """Draw rooms with their numbers of endpoints."""
    return st.fixed_dictionaries({"r": st.integers(1, 2), "s": st.integers(1, 3)})


def uri(room: str, number: int) -> str:
    """Return the address of an endpoint."""
    return f"sip:{room}.{number}@x.example"


def readies(of: dict[str, int]) -> list[Happening]:
    """Return the webhooks of all endpoints."""
    return [
        (START, webhook("dialin.ready", None, id=f"{room} {n}", sip_endpoint=uri(room, n), room=room))
        for room, endpoints in of.items()
        for n in range(endpoints)
    ]


def connection(dialect: str, session_id: str, endpoint: str, number: str | None, at: float) -> dict[str, Any]:
    """Make the event of a dial-in as a dialect has it: webhooks have room and time, daily-js has the endpoint."""
    room = endpoint[4]
    sip_from = None if number is None else f"sip:{number}@carrier.example"
    if dialect == "webhook":
        return webhook("dialin.connected", session_id, sip_from=sip_from, room=room, timestamp=str(int(at)))
    facts = {"sessionId": session_id, "sipFrom": sip_from, "room": room}
    if dialect == "daily-js":
        return {"action": "dialin-connected", "sipEndpoint": endpoint, **facts}
    return {
        "handler": "on_dialin_connected",
        "data": {key: facts[key] for key in ("sessionId", "sipFrom")},
        "room": room,
    }


def ringing(call_id: str | None, room: str, number: str | None, at: float | None) -> dict[str, Any]:
    """Make the webhook of a call on a trunk, with Daily's time or without."""
    told = {} if at is None else {"timestamp": str(int(at))}
    fields = {"room": {"url": f"https://x.daily.co/{room}"}, "from": number, "to": "+12025550100", "call_id": call_id}
    return webhook("sip_trunk.incoming", None, id=f"{call_id} {room}", **fields, **told)


DIALECTS = st.sampled_from(["webhook", "daily-js", "daily-python"])


@st.composite
def any_history(draw: st.DrawFn, of: dict[str, int]) -> list[Happening]:
    """Draw events about callers and dial-ins as they come, whether they fit or not: times and numbers collide."""
    history: list[Happening] = []
    times = st.integers(0, 90).map(lambda seconds: START + seconds) | st.integers(0, 900).map(lambda s: START + s)
    endpoints = st.sampled_from([uri(room, n) for room, count in of.items() for n in range(count)])
    for call_id in draw(st.lists(st.sampled_from("pqo"), min_size=1, max_size=3, unique=True)):
        number = draw(st.sampled_from([*NUMBERS, None]))
        if draw(st.integers(0, 5)):
            held = {"To": "+12025550100", "From": number, "callId": call_id, "callDomain": "d"}
            history.append((draw(times), held))
        actions = draw(st.lists(st.sampled_from(["pinless-forwarded", "forward-refused"]), max_size=2))
        history += [(draw(times), {"action": a, "callId": call_id, "sipEndpoint": draw(endpoints)}) for a in actions]
    for call_id in draw(st.lists(st.sampled_from(TRUNK_CALLS), max_size=2, unique=True)):
        at, number = draw(times), draw(st.sampled_from([*NUMBERS, None]))
        own, room = (None, call_id) if call_id in of else (call_id, draw(st.sampled_from(sorted(of))))
        history.append(
            (at + draw(st.sampled_from([0, 0, 20])), ringing(own, room, number, draw(st.sampled_from([at, None]))))
        )
    for session_id in draw(st.lists(st.sampled_from("abc"), max_size=3, unique=True)):
        room, at, number = (
            draw(st.sampled_from(sorted(of))),
            draw(times),
            draw(st.sampled_from([*NUMBERS, None, "pbx"])),
        )
        endpoint = uri(room, draw(st.integers(0, of[room] - 1)))
        dialects = draw(st.lists(DIALECTS, min_size=1, max_size=2))
        history += [(at, connection(dialect, session_id, endpoint, number, at)) for dialect in dialects]
        if draw(st.booleans()):
            history.append((at + 1, webhook("participant.joined", session_id, room=room, joined_at=at + 1)))
        if draw(st.booleans()):
            after = at + draw(st.integers(1, 200))
            history.append((after, webhook("dialin.stopped", session_id, room=room, timestamp=str(int(after)))))
    return history


@dataclass
class HeldWorld:
    """What really happened: who became which session, and by which endpoint each came."""

    rooms: dict[str, int]
    history: list[Happening] = field(default_factory=list)
    callers: dict[str, str] = field(default_factory=dict)
    """The session of each caller who was connected."""
    endpoints: dict[str, str] = field(default_factory=dict)
    """The endpoint of each session."""
    told: set[str] = field(default_factory=set)
    """The sessions of which an event names the endpoint."""
    forwarded: set[str] = field(default_factory=set)
    """The callers of whose forward an event tells."""
    numbers: dict[str, str | None] = field(default_factory=dict)


@st.composite
def worlds(draw: st.DrawFn) -> HeldWorld:
    """Draw callers who are forwarded, by the program or by a transport, and of whom some hang up before.

    An endpoint takes one caller at a time, and each caller is one telephone. Who hangs up while they are forwarded leaves their
    endpoint unused for the hold limit: the program does not forward others to it until it knows. Either a daily-js client observes
    all of it, and reports the endpoint of each dial-in, or none does.
    """
    world, is_told = HeldWorld(draw(rooms())), draw(st.booleans())
    free_at = {uri(room, n): START for room, count in world.rooms.items() for n in range(count)}
    for n in range(draw(st.integers(1, 5))):
        call_id, session_id = f"call-{n}", f"session-{n}"
        endpoint = draw(st.sampled_from(sorted(free_at)))
        room = endpoint[4]
        at = max(free_at[endpoint], START + draw(st.integers(0, 300))) + 5
        number = draw(st.sampled_from([f"+1202555010{n}", None]))
        world.numbers[call_id] = number
        held = {"To": "+12025550100", "From": number, "callId": call_id, "callDomain": "d"}
        world.history.append((at, held))
        at += draw(st.integers(2, 60))
        if draw(st.booleans()):
            world.forwarded.add(call_id)
            forwarded = {"action": "pinless-forwarded", "callId": call_id, "sipEndpoint": endpoint}
            world.history.append((at + draw(st.sampled_from([-1.5, 0.5])), forwarded))
        elif draw(st.integers(0, 3)) == 0:
            continue  # they hang up on hold, and nobody says so
        if draw(st.integers(0, 5)) == 0 and call_id in world.forwarded:
            free_at[endpoint] = at + 700
            continue
        world.callers[call_id], world.endpoints[session_id] = session_id, endpoint
        dialect = "daily-js" if is_told else draw(st.sampled_from(["webhook", "daily-python"]))
        if is_told:
            world.told.add(session_id)
        world.history.append((at, connection(dialect, session_id, endpoint, number, at)))
        ended = at + draw(st.integers(5, 60))
        world.history.append((ended, webhook("dialin.stopped", session_id, room=room, timestamp=str(int(ended)))))
        free_at[endpoint] = ended + 5
    return world


@st.composite
def trunk_worlds(draw: st.DrawFn) -> HeldWorld:
    """Draw callers on a trunk, each in a room of their own or in one that is used again, and dial-ins of nobody who called on it.

    Every number is one telephone. In a room that is used again, a caller calls when the one before has left. Some hang up in ringback.
    """
    world = HeldWorld({})
    free_at = dict.fromkeys("rst", START)
    for n in range(draw(st.integers(1, 5))):
        call_id, session_id, room = f"call-{n}", f"session-{n}", draw(st.sampled_from(sorted(free_at)))
        at = free_at[room] + draw(st.integers(5, 300))
        number = draw(st.sampled_from([f"+1202555010{n}", None]))
        world.numbers[call_id] = number
        world.history.append((at, ringing(call_id, room, number, at)))
        at += draw(st.integers(0, 11))
        free_at[room] = at + 700  # the next dial-in of the room may not be one who hung up
        if draw(st.integers(0, 3)) == 0:
            continue
        world.callers[call_id], world.endpoints[session_id] = session_id, f"sip:{room}.0@x.example"
        shown = draw(st.sampled_from([number, None]))
        world.history.append((at, connection("webhook", session_id, f"sip:{room}.0@x.example", shown, at)))
        ended = at + draw(st.integers(5, 60))
        world.history.append((ended, webhook("dialin.stopped", session_id, room=room, timestamp=str(int(ended)))))
        free_at[room] = ended
    return world
