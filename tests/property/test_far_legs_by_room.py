"""Promise 1 for transfers to rooms of ours: which session is the far leg, where only the room tells by which endpoint it came."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import event as note
from hypothesis import given
from hypothesis import strategies as st

from telstate import Engine, parse
from tests.calls import webhook
from tests.property.histories import shuffled

START = 1_790_000_000
ENDPOINTS = ("sip:experts.0@x.example", "sip:experts.1@x.example")
SECONDS = st.integers(0, 200)
Record = tuple[float, dict[str, Any]]


def hook(kind: str, session_id: str | None, second: int, **fields: Any) -> Record:
    """Make a webhook with the time at which it happened."""
    key = f"{kind} {session_id} {fields.get('sip_endpoint')}"
    return float(START + second), webhook(kind, session_id, id=key, timestamp=str(START + second), **fields)


@st.composite
def histories(draw: st.DrawFn) -> list[Record]:
    """Draw a caller who is transferred to an endpoint of another room, and up to three dial-ins of that room."""
    target = draw(st.sampled_from(ENDPOINTS))
    records = [hook("dialin.connected", "a", 0, room="front")]
    records += [
        hook(f"calltransfer.{step}", "a", draw(SECONDS), room="front", to_endpoint=target)
        for step in draw(st.lists(st.sampled_from(["triggered", "initiated"]), min_size=1, unique=True))
    ]
    for uri in draw(st.lists(st.sampled_from(ENDPOINTS), min_size=1, unique=True)):
        records.append(hook("dialin.ready", None, draw(SECONDS), room="experts", sip_endpoint=uri))
    for far in "bcd"[: draw(st.integers(1, 3))]:
        begin = draw(SECONDS)
        records.append(hook("dialin.connected", far, begin, room="experts"))
        if draw(st.booleans()):
            named = {"action": "dialin-connected", "sessionId": far, "sipEndpoint": draw(st.sampled_from(ENDPOINTS))}
            records.append((float(START + begin), named))
        if draw(st.booleans()):
            records.append(hook("dialin.stopped", far, begin + draw(SECONDS), room="experts"))
    if draw(st.booleans()):
        records.append(hook("dialin.stopped", "a", draw(SECONDS), room="front"))
    return records


def run(records: list[Record], restart: int = -1) -> Engine:
    """Feed a history to an engine, with a restart from a snapshot before one of the records."""
    engine = Engine()
    for place, (at, payload) in enumerate(records):
        if place == restart:
            engine = Engine.restore(json.loads(json.dumps(engine.snapshot())))
        engine.receive(parse(payload), at)
    return engine


def answers(engine: Engine) -> dict[str, Any]:
    """Return what is known of each session's endpoint, transfers and legs."""
    return {
        one.session_id: (
            *(one.state, one.cause, one.sip_endpoint, one.transferred_to, one.transfers),
            {leg.session_id for leg in engine.legs(one.session_id)},
        )
        for one in engine.sessions()
    }


@given(st.data())
def test_any_order_and_repetition_gives_the_same_far_leg(data: st.DataObject) -> None:
    """The readies too may come at any time: a second endpoint of the room withdraws far legs that followed from the first."""
    history = data.draw(histories())
    expected = answers(run(history))
    note(f"{len(expected['a'][-1])} legs")
    records = data.draw(shuffled(history))
    assert answers(run(records, data.draw(st.integers(0, len(records))))) == expected


@given(histories())
def test_a_far_leg_came_by_the_target(history: list[Record]) -> None:
    """No link is a guess; and when all have left memory, nothing is left behind."""
    engine = run(history)
    (target,) = {
        payload["payload"]["to_endpoint"] for _, payload in history if "calltransfer" in payload.get("type", "")
    }
    for leg in engine.legs("a"):
        assert leg.session_id == "a" or leg.sip_endpoint == target
    for session in engine.live():
        engine.receive(parse({"action": "dialin-stopped", "sessionId": session.session_id}), START + 400)
    engine.advance(START + 400 + 7200)
    assert set(engine.sizes().values()) == {0}
