"""Callers on a SIP trunk: their room is known from the start, and which dial-in of it they become."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import pytest

from telstate import Caller, Engine, OutcomeKind, Session, Settings
from telstate.calls._caller_links import CallerLinks
from tests.calls import js, webhook
from tests.calls.test_callers import (
    FROM,
    TO,
    at,
    caller,
    connected,
    forwarded,
    hold,
    pass_time,
    ready,
    session,
    stopped,
)

OTHER = "+12025550199"


def incoming(
    call_id: str | None = "p", number: str | None = FROM, room: str | None = "r", **more: Any
) -> dict[str, Any]:
    """Make a trunk's webhook. Its `id` follows from the call id, unless given."""
    fields = {"from": number, "to": TO, "call_id": call_id, "room": {"url": f"https://x.daily.co/{room or ''}"}}
    return webhook("sip_trunk.incoming", None, id=more.pop("id", f"trunk {call_id} {room}"), **fields, **more)


def told(payload: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Give a webhook Daily's time."""
    return {**payload, "payload": {**payload["payload"], "timestamp": str(int(seconds))}}


HISTORY = [
    (0.0, told(incoming(), 0)),
    (2.0, told(connected(), 2)),
    (3.0, webhook("participant.joined", "a", room="r", joined_at=3)),
    (60.0, told(stopped(), 60)),
]


def test_a_caller_becomes_the_dialin_of_their_room() -> None:
    """Without a forward, and without an endpoint."""
    engine = Engine()
    at(engine, HISTORY[0])
    (waiting,) = engine.waiting()
    assert (waiting.call_id, waiting.room, waiting.via_trunk, waiting.state) == ("p", "r", True, "waiting")
    at(engine, *HISTORY[1:3])
    assert engine.waiting() == engine.unconnected() == []
    a = session(engine)
    assert (a.state, a.caller, a.called, a.pinless_call_id, a.held_s) == ("answered", FROM, TO, "p", 2.0)
    assert (caller(engine).state, caller(engine).session_id, caller(engine).held_s) == ("connected", "a", 2.0)
    at(engine, HISTORY[3])
    assert not a.anomalies


@pytest.mark.parametrize("numbers", [(FROM, FROM), (None, FROM), ("anonymous", None)])
@pytest.mark.parametrize("call_id", ["p", None])
@pytest.mark.parametrize("has_times", [True, False])
def test_the_order_of_arrival_does_not_matter(
    numbers: tuple[str | None, str | None], call_id: str | None, *, has_times: bool
) -> None:
    """Whatever is known of the numbers, with Daily's times and without, and again late."""
    waits, connects = incoming(call_id, numbers[0]), connected("a", numbers[1])
    if has_times:
        waits, connects = told(waits, 0), told(connects, 2)
    again = (70.0 if has_times or call_id else 12.0, {**waits, "id": "another"})
    history = [(0.0, waits), (2.0, connects), *HISTORY[2:], again]
    for order in permutations(history):
        if not has_times and order.index(again) < order.index(history[0]):
            continue  # only the receipt says when they called
        engine = Engine()
        at(engine, *order)
        a = session(engine)
        assert (a.caller, a.called, a.pinless_call_id, a.held_s) == (numbers[0], TO, call_id or "r", 2.0)
        assert engine.unconnected() == []


@pytest.mark.parametrize("now", [None, 30.0])
def test_a_webhook_without_time_may_be_received_after_the_session(now: float | None) -> None:
    """Of that room there was no other caller."""
    engine = Engine()
    at(engine, (2.0 if now else None, connected()), (now, incoming()))  # type: ignore[arg-type]
    assert session(engine).pinless_call_id == "p"


def test_a_session_of_the_room_that_was_there_before_is_not_the_caller() -> None:
    """By Daily's times, or by those of the receipts where that is certain."""
    for give_time in (told, lambda payload, _: payload):
        engine = Engine()
        at(engine, (0, give_time(connected("before", None), 0)), (100, give_time(incoming(), 100)))
        assert session(engine, "before").caller is None
        at(engine, (103, give_time(connected("a", None), 103)))
        assert (session(engine, "before").caller, session(engine).caller) == (None, FROM)


def test_a_dialin_of_another_room_or_domain_is_not_the_caller() -> None:
    """Though it comes from their number."""
    engine = Engine()
    at(engine, (0, incoming(domain_id="d1")), (2, connected("a", room="s")), (3, connected("b", domain_id="d2")))
    assert [one.caller for one in engine.sessions()] == [None, None]
    at(engine, (4, connected("c", domain_id="d1")))
    assert session(engine, "c").caller == FROM


def test_a_dialin_of_an_unknown_room_is_found_by_its_number() -> None:
    """daily-js names no room. When the room is known, that counts."""
    engine = Engine()
    at(engine, (0, incoming()), (2, js("dialin-connected", "a", sipFrom=FROM)))
    assert session(engine).pinless_call_id == "p"
    at(engine, (3, connected("a", room="s")))
    assert session(engine).pinless_call_id is None
    assert caller(engine).state == "waiting"


def test_a_carrier_may_show_a_number_and_a_name() -> None:
    """In the room that Daily made for a caller only another number says that it is somebody else."""
    engine = Engine()
    at(engine, (0, incoming("p")), (2, webhook("dialin.connected", "a", sip_from="sip:pbx@10.0.0.1", room="r")))
    assert session(engine).pinless_call_id == "p"
    engine = Engine()
    at(engine, (0, incoming("p")), (2, connected("a", OTHER)))
    assert session(engine).pinless_call_id is None
    engine = Engine()
    at(engine, (0, incoming("p")), (1, incoming("q", OTHER)))
    at(engine, (2, webhook("dialin.connected", "a", sip_from="sip:pbx@10.0.0.1", room="r")))
    assert all(getattr(outcome, "lost_caller", None) is None for outcome in pass_time(engine, 700))
    assert [one.state for one in engine.unconnected()] == ["unknown", "unknown"]


def test_rooms_of_one_name_in_two_domains() -> None:
    """Are two rooms, also where calls have no ids."""
    engine = Engine()
    at(engine, (0, incoming(None, None, domain_id="d1", id="1")), (1, incoming(None, OTHER, domain_id="d2", id="2")))
    at(engine, (3, connected("b", None, domain_id="d2")), (4, connected("a", None, domain_id="d1")))
    assert (session(engine).caller, session(engine, "b").caller) == (None, OTHER)
    assert engine.unconnected() == []


def test_two_callers_of_one_room() -> None:
    """Each is the dial-in with their number, in any order; without numbers nobody can say who is who."""
    history = [(0.0, incoming("p")), (1.0, incoming("q", OTHER)), (5.0, connected("a", OTHER)), (6.0, connected("b"))]
    for order in permutations(history):
        engine = Engine()
        at(engine, *order)
        assert [session(engine, one).pinless_call_id for one in "ab"] == ["q", "p"]
    engine = Engine()
    at(engine, (0, incoming("p", None)), (1, incoming("q", None)), (5, connected("a", None)), (6, connected("b", None)))
    assert [one.caller for one in engine.sessions()] == [None, None]
    assert all(getattr(outcome, "lost_caller", None) is None for outcome in pass_time(engine, 700))
    assert [one.state for one in engine.unconnected()] == ["unknown", "unknown"]


@pytest.mark.parametrize("call_ids", [("p", "q"), (None, None)])
def test_a_room_that_is_used_again(call_ids: tuple[str | None, str | None]) -> None:
    """The second caller is another one, also where only the times of the webhooks tell them apart."""
    first, again = told(incoming(call_ids[0], id="1"), 0), told(incoming(call_ids[1], OTHER, id="2"), 300)
    history = [(0.0, first), (2.0, told(connected("a", None), 2)), (60.0, told(stopped("a"), 60)), (300.0, again)]
    for order in permutations([*history, (303.0, told(connected("b", None), 303))]):
        engine = Engine()
        at(engine, *order)
        assert [session(engine, one).caller for one in "ab"] == [FROM, OTHER]
        assert engine.unconnected() == []
    assert len({session(engine, one).pinless_call_id for one in "ab"}) == 2


def test_who_waits_in_a_room_that_is_used_again_is_not_the_one_before() -> None:
    """Nor are they lost in the other's place."""
    engine = Engine()
    at(engine, (0, incoming(None, id="1")), (2, connected("a")), (60, stopped()), (300, incoming(None, id="2")))
    assert [(one.call_id, one.room, one.state) for one in engine.waiting()] == [("r 300", "r", "waiting")]
    (outcome,) = pass_time(engine, 901)
    assert outcome.lost_caller is caller(engine, "r 300")


def test_a_redelivery_is_a_duplicate() -> None:
    """With the same id, with another one, and without any; what it adds is known."""
    engine = Engine()
    assert at(engine, (0, incoming("p", None))).kind is OutcomeKind.NOTED
    assert at(engine, (1, incoming("p", None))).kind is OutcomeKind.DUPLICATE
    assert at(engine, (2, incoming("p", FROM, id="another"))).kind is OutcomeKind.DUPLICATE
    assert caller(engine).from_ == FROM
    without = {"type": "sip_trunk.incoming", "room": {"url": "https://x.daily.co/s"}}
    assert [at(engine, (n, without)).kind for n in (3, 9, 600)] == ["noted", "duplicate", "noted"]
    assert len(engine.waiting()) == 3
    assert engine.received == 6


def test_a_caller_without_call_id_and_room_is_only_noted() -> None:
    """Nothing says who they are."""
    engine = Engine()
    assert at(engine, (0, incoming(None, FROM, None))).kind is OutcomeKind.NOTED
    assert engine.waiting() == []


def test_a_very_long_name_of_a_room_stands_in_for_a_call_id() -> None:
    """Ids are bounded, and limits name the caller by it."""
    engine = Engine()
    room = "r" * 1024
    at(engine, (0, incoming(None, FROM, room, id="1")), (300, incoming(None, FROM, room, id="2")))
    assert len(engine.waiting()) == 2
    assert [outcome.kind for outcome in pass_time(engine, 5000)] == ["noted", "noted"]
    assert [one.state for one in engine.unconnected()] == ["gave-up", "gave-up"]


def test_a_caller_who_hangs_up_in_ringback_is_lost() -> None:
    """Once, when the limit has passed, with a row of their own. One who connects later after all becomes the session."""
    engine = Engine(Settings(hold_limit=60, hold_deadline=10))
    at(engine, (0, incoming()))
    (deadline,) = pass_time(engine, 11)
    assert getattr(deadline.event, "deadline", None) == "hold"
    (outcome,) = pass_time(engine, 61)
    assert outcome.lost_caller is caller(engine)
    row = {
        "call_id": "p",
        "from": FROM,
        "to": TO,
        "state": "gave-up",
        "started_at": 0.0,
        "ended_at": None,
        "held_s": None,
    }
    assert caller(engine).to_dict() == row
    at(engine, (70, connected(timestamp="50")))
    assert (caller(engine).state, caller(engine).amended) == ("connected", True)


@pytest.mark.parametrize("has_time", [True, False])
def test_daily_s_whole_seconds_do_not_shorten_the_limit(*, has_time: bool) -> None:
    """Daily says that they called at 10, which is 10.9 here: at 611 the limit is due, and not appended. They connect a moment before."""
    engine = Engine()
    first, last = (incoming(), connected()) if not has_time else (told(incoming(), 10.9), told(connected(), 611.7))
    at(engine, (10.95, first), (611.8, last))
    assert (caller(engine).state, session(engine).pinless_call_id) == ("connected", "p")
    assert not [outcome for outcome in pass_time(engine, 1000) if outcome.lost_caller]


def test_a_forward_to_the_room_outweighs_it() -> None:
    """A caller on hold was forwarded to the room's endpoint: the dial-in there is them, in any order, and the trunk's is the next."""
    history = [
        *((0.0, incoming("p", None)), (1.0, hold("q", OTHER)), (2.0, forwarded("q"))),
        *((3.0, connected("a", None)), (9.0, connected("b", None))),
    ]
    for order in permutations(history):
        engine = Engine()
        at(engine, (0, ready()), *order)
        assert [session(engine, one).pinless_call_id for one in "ab"] == ["q", "p"]


def test_the_room_outweighs_the_number() -> None:
    """Somebody with that number is on hold too."""
    history = [(0.0, hold("q")), (1.0, incoming("p")), (3.0, connected("a")), (4.0, connected("b", room="elsewhere"))]
    for order in permutations(history):
        engine = Engine()
        at(engine, *order)
        assert [session(engine, one).pinless_call_id for one in "ab"] == ["p", "q"]


def test_trunk_callers_leave_memory_after_retention() -> None:
    """With all that was indexed for them."""
    engine = Engine()
    at(engine, (0, incoming()), (1, incoming("q", OTHER, "s")), (2, connected()), (3, stopped()))
    pass_time(engine, 700)
    assert [one.call_id for one in engine.advance(7201.5) if isinstance(one, Caller)] == ["q"]
    engine.advance(7205)
    assert set(engine.sizes().values()) == {0}
    links = engine._state.callers.links
    assert [links._rooms, links._by_room, links._waiting, [*links._dialins.all()]] == [{}, {}, {}, []]


def test_a_snapshot_has_trunk_callers() -> None:
    """And an engine made from it goes on alike, at every step. Snapshots from before there were trunks are read."""
    steps = [(0.0, incoming()), (1.0, incoming("q", None, "s")), *HISTORY[1:], (61.0, connected("b", None, "s"))]
    for cut in range(len(steps) + 1):
        engine = Engine()
        at(engine, *steps[:cut]) if cut else None
        copy = Engine.restore(json.loads(json.dumps(engine.snapshot())))
        for one in (engine, copy):
            at(one, *steps[cut:]) if cut < len(steps) else None
            pass_time(one, 700)
        assert json.dumps(copy.snapshot()) == json.dumps(engine.snapshot())
        assert (session(copy).caller, session(copy, "b").pinless_call_id) == (FROM, "q")
    old = json.loads(json.dumps(Engine().snapshot()))
    at(engine := Engine(), (0, hold()))
    old["callers"] = json.loads(json.dumps(engine.snapshot()["callers"]))
    del old["callers"]["by_room"]
    old["callers"]["known"][0][2] = old["callers"]["known"][0][2][:-4]
    assert caller(Engine.restore(old)).from_ == FROM


def test_a_busy_room_costs_each_event_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dial-in is compared with those around it, not with all of the room within retention."""
    engine, compared = Engine(), 0
    fits = CallerLinks._fits

    def counted(callers: CallerLinks, caller: Caller, session: Session, earlier: float, later: float) -> bool:
        nonlocal compared
        compared += 1
        return fits(callers, caller, session, earlier, later)

    monkeypatch.setattr(CallerLinks, "_fits", counted)
    for n in range(60):
        before, began = compared, 70.0 * n
        at(
            engine,
            (began, told(incoming(f"c{n}", None), began)),
            (began + 2, told(connected(f"s{n}", None), began + 2)),
        )
        assert compared - before <= 6 * n + 6
    assert [one.pinless_call_id for one in engine.sessions()] == [f"c{n}" for n in range(60)]
