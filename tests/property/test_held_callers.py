"""Promise 1 for callers on hold and links by room, and that no link is a guess."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from telstate import Engine, parse
from tests.property.held_callers import (
    TRUNK_CALLS,
    Happening,
    HeldWorld,
    any_history,
    readies,
    rooms,
    trunk_worlds,
    worlds,
)

LIMIT = 600.0


def run(history: list[Happening]) -> Engine:
    """Feed a history to a new engine."""
    engine = Engine()
    for at, payload in history:
        engine.receive(parse(payload), at)
    return engine


def answers(engine: Engine) -> dict[str, Any]:
    """Return what is known of sessions and callers, without what depends on the order: counts and texts of anomalies."""
    facts = ("state", "caller", "called", "pinless_call_id", "held_s", "sip_endpoint", "connected_at")
    sessions = {one.session_id: {key: one.to_dict()[key] for key in facts} for one in engine.sessions()}
    callers = {
        call_id: one.to_dict() for call_id in (*"pqo", *TRUNK_CALLS) if (one := engine.caller(call_id)) is not None
    }
    return {**sessions, **callers}


@given(st.data())
def test_any_order_and_repetition_gives_the_same_links(data: st.DataObject) -> None:
    """After the readies. Whether the events fit together or not."""
    of = data.draw(rooms())
    history = data.draw(any_history(of))
    expected = answers(run([*readies(of), *history]))
    more = data.draw(st.lists(st.sampled_from(history), max_size=4)) if history else []
    mixed = data.draw(st.permutations([*history, *more]))
    assert answers(run([*readies(of), *mixed])) == expected


@given(st.data())
def test_a_limit_that_passes_comes_to_the_same_in_any_order(data: st.DataObject) -> None:
    """After the last event, as in a journal."""
    of = data.draw(rooms())
    history = data.draw(any_history(of))
    found = []
    for order in (history, data.draw(st.permutations(history))):
        engine = run([*readies(of), *order])
        for limit in engine.passed(1_790_010_000.0):
            engine.receive(limit, 1_790_001_900.0)
        found.append(answers(engine))
    assert found[0] == found[1]
    assert not [row for row in found[0].values() if row["state"] in ("waiting", "forwarded")]


@given(st.data())
def test_a_snapshot_goes_on_alike(data: st.DataObject) -> None:
    """Taken at any place."""
    of = data.draw(rooms())
    history = [*readies(of), *data.draw(any_history(of))]
    cut = data.draw(st.integers(0, len(history)))
    engine = run(history[:cut])
    copy = Engine.restore(json.loads(json.dumps(engine.snapshot())))
    for one in (engine, copy):
        for at, payload in history[cut:]:
            one.receive(parse(payload), at)
    assert json.dumps(copy.snapshot()) == json.dumps(engine.snapshot())
    assert answers(copy) == answers(engine)


def endpoint_that_can_be_known(world: HeldWorld, session_id: str) -> str | None:
    """Say by which endpoint a dial-in came as far as the events say it: a model of the rule, from the design."""
    endpoint = world.endpoints[session_id]
    room = endpoint[4]
    return endpoint if session_id in world.told or world.rooms[room] == 1 else None


@given(worlds(), st.data())
def test_what_is_linked_is_true_and_what_can_be_known_is_linked(world: HeldWorld, data: st.DataObject) -> None:
    """In any order. Nobody who was connected is lost."""
    mixed = data.draw(st.permutations(world.history))
    engine = run([*readies(world.rooms), *mixed])
    truth = {session_id: call_id for call_id, session_id in world.callers.items()}
    for session in engine.sessions():
        assert session.sip_endpoint == endpoint_that_can_be_known(world, session.session_id)
        assert session.pinless_call_id in (None, truth[session.session_id])
        call_id = truth[session.session_id]
        by_forward = call_id in world.forwarded and session.sip_endpoint is not None
        if by_forward or world.numbers[call_id] is not None:
            assert session.pinless_call_id == call_id
            assert session.caller == world.numbers[call_id]
    outcomes = [engine.receive(limit, 1_790_003_000.0) for limit in engine.passed(2e9)]
    lost = [outcome.lost_caller for outcome in outcomes]
    gone = {caller.call_id for caller in lost if caller is not None}
    assert gone.isdisjoint(world.callers)
    for call_id, session_id in world.callers.items():
        known = engine.caller(call_id)
        assert known is not None
        assert (known.state, known.session_id) in (("connected", session_id), ("unknown", None))


@given(trunk_worlds(), st.data())
def test_a_call_on_a_trunk_is_the_dialin_of_its_room(world: HeldWorld, data: st.DataObject) -> None:
    """In any order, with any repetition. Who hung up is lost, once, and nobody else is."""
    more = data.draw(st.lists(st.sampled_from(world.history), max_size=3))
    engine = run(data.draw(st.permutations([*world.history, *more])))
    for call_id, session_id in world.callers.items():
        session = engine.session(session_id)
        assert session is not None
        assert (session.pinless_call_id, session.caller) == (call_id, world.numbers[call_id])
    outcomes = [engine.receive(limit, 1_790_006_000.0) for limit in engine.passed(2e9)]
    lost = sorted(caller.call_id for outcome in outcomes if (caller := outcome.lost_caller) is not None)
    assert lost == sorted(world.numbers.keys() - world.callers.keys())
