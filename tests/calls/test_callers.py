"""Callers on hold: which session they become, when they are lost, and what is known of them then."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import pytest

from telstate import (
    Caller,
    CallerState,
    DeadlinePassed,
    Engine,
    ForwardRefused,
    Outcome,
    OutcomeKind,
    PinlessForwarded,
    Session,
    Settings,
    parse,
)
from tests.calls import feed, joined, js, webhook

FROM, TO = "+12025550142", "+12025550100"
URI, OTHER = "sip:r.0@x.example", "sip:r.1@x.example"


def hold(call_id: str = "p", number: str | None = FROM, to: str | None = TO) -> dict[str, Any]:
    """Make the request that Daily sends for a caller on hold."""
    return {"To": to, "From": number, "callId": call_id, "callDomain": "d"}


def forwarded(call_id: str = "p", uri: str = URI) -> dict[str, Any]:
    """Make the event of a forward that Daily accepted."""
    return {"action": "pinless-forwarded", "callId": call_id, "sipEndpoint": uri}


def refused(call_id: str = "p", uri: str = URI) -> dict[str, Any]:
    """Make the event of a forward that Daily refused."""
    return {"action": "forward-refused", "callId": call_id, "sipEndpoint": uri, "error": "Call Forwarding Failed"}


def ready(uri: str = URI, room: str = "r", **more: Any) -> dict[str, Any]:
    """Make the webhook of an endpoint that can be dialled."""
    return webhook("dialin.ready", None, id=f"ready {uri} {room}", sip_endpoint=uri, room=room, **more)


def connected(session_id: str = "a", number: str | None = FROM, room: str | None = "r", **more: Any) -> dict[str, Any]:
    """Make the webhook of a dial-in: it names the room, never the endpoint."""
    sip_from = {} if number is None else {"sip_from": f"sip:{number}@carrier.example"}
    return webhook("dialin.connected", session_id, **sip_from, **({} if room is None else {"room": room}), **more)


def stopped(session_id: str = "a", room: str = "r") -> dict[str, Any]:
    """Make the webhook of a dial-in's end."""
    return webhook("dialin.stopped", session_id, room=room)


def at(engine: Engine, *steps: tuple[float, dict[str, Any]]) -> Outcome:
    """Feed payloads with their times; return the last outcome."""
    outcomes = [engine.receive(parse(payload), time) for time, payload in steps]
    return outcomes[-1]


def caller(engine: Engine, call_id: str = "p") -> Caller:
    """Return a known caller."""
    found = engine.caller(call_id)
    assert found is not None
    return found


def session(engine: Engine, session_id: str = "a") -> Session:
    """Return a known session."""
    found = engine.session(session_id)
    assert found is not None
    return found


def pass_time(engine: Engine, now: float) -> list[Outcome]:
    """Apply the limits that are due."""
    return [engine.receive(limit, now) for limit in engine.passed(now)]


# --- from hold to session -----------------------------------------------------------------------------------------


def test_a_caller_becomes_a_session_from_webhooks_alone() -> None:
    """The room has one endpoint, so the dial-in came by that one, to which the caller was forwarded."""
    engine = Engine()
    at(engine, (0, hold()))
    assert [str(one) for one in engine.waiting()] == ["<Caller p waiting>"]
    at(engine, (5, ready()), (5.5, forwarded()))
    assert (caller(engine).state, caller(engine).forwarded_to) == ("forwarded", URI)
    assert engine.waiting() == [caller(engine)]
    at(engine, (6, connected()), (7, joined("a")))
    endpoint = engine.endpoint(URI)
    assert endpoint is not None
    assert endpoint.session_id == "a"
    a = session(engine)
    assert (a.caller, a.called, a.pinless_call_id, a.sip_endpoint, a.held_s) == (FROM, TO, "p", URI, 6.0)
    assert {key: a.to_dict()[key] for key in ("called", "held_s")} == {"called": TO, "held_s": 6.0}
    assert (caller(engine).state, caller(engine).session_id, caller(engine).held_s) == ("connected", "a", 6.0)
    assert engine.waiting() == engine.unconnected() == []
    at(engine, (60, stopped()))
    assert not endpoint.busy
    assert not a.anomalies


HISTORY = [(0.0, hold()), (5.0, ready()), (5.5, forwarded()), (6.0, connected()), (7.0, joined("a")), (60.0, stopped())]


@pytest.mark.parametrize("number", [FROM, None])
def test_the_order_of_arrival_does_not_matter(number: str | None) -> None:
    """All permutations of hold, forward and dial-in, after the ready; the ready at any place too."""
    history = [*HISTORY[:3], (6.0, connected(number=number)), *HISTORY[4:]]
    for order in permutations(history):
        engine = Engine()
        at(engine, *order)
        a = session(engine)
        assert (a.caller, a.called, a.pinless_call_id, a.sip_endpoint, a.held_s) == (FROM, TO, "p", URI, 6.0)
        assert engine.unconnected() == []


def test_callers_who_follow_each_other_on_one_endpoint() -> None:
    """Each session is the caller who was forwarded last before it."""
    engine = Engine()
    at(engine, (0, ready()), (1, hold("p", None)), (2, hold("q", None)), (3, forwarded("p")), (4, connected("a", None)))
    at(engine, (9, stopped("a")), (10, forwarded("q")), (11, connected("b", None)), (20, stopped("b")))
    at(engine, (30, connected("c", None)))
    assert [one.pinless_call_id for one in engine.sessions()] == ["p", "q", None]


def test_one_whose_forward_came_to_nothing_is_not_the_next_session() -> None:
    """They hung up while they were forwarded."""
    engine = Engine()
    at(engine, (0, ready()), (1, hold("p")), (2, hold("q", "+12025550199")), (3, forwarded("p")), (60, forwarded("q")))
    at(engine, (61, connected("a", "+12025550199")))
    assert session(engine).pinless_call_id == "q"
    assert caller(engine).state == "forwarded"


def test_the_answer_to_the_forward_may_be_slower_than_the_connection() -> None:
    """It is still that caller, and not one who calls later."""
    engine = Engine()
    at(engine, (0, ready()), (1, hold("p", None)), (5, connected("a", None)), (9, forwarded("p")))
    assert session(engine).pinless_call_id == "p"
    at(engine, (20, hold("q", None)), (21, forwarded("q")))
    assert session(engine).pinless_call_id == "p"
    assert caller(engine, "q").state == "forwarded"


@pytest.mark.parametrize("number", [None, "anonymous", FROM])
def test_an_answer_just_after_the_connection_outweighs_a_forward_of_long_before(number: str | None) -> None:
    """Whoever was forwarded first has hung up, whether their numbers are unknown or the same."""
    steps = [(1.0, hold("p", number)), (5.0, forwarded("p")), (40.0, hold("q", number)), (45.5, forwarded("q"))]
    steps.append((45.7, connected("a", number, timestamp="45")))
    for order in permutations(steps):
        engine = Engine()
        at(engine, (0, ready()), *order)
        assert (session(engine).pinless_call_id, caller(engine).state) == ("q", "forwarded")


@pytest.mark.parametrize("known", ["number", "forward"])
@pytest.mark.parametrize(("ahead", "links"), [(4.9, True), (5.1, False)])
def test_the_local_clock_may_be_ahead_of_daily_s(known: str, ahead: float, links: bool) -> None:
    """By five seconds, as everywhere: a caller on hold has only the time of the receipt. Daily-js has no other clock."""
    steps = [(10.0 + ahead, hold())] + [(10.5 + ahead, forwarded())] * (known == "forward")
    for order in permutations([*steps, (11.0 + ahead, connected(timestamp="10"))]):
        engine = Engine()
        at(engine, (0, ready()), *order)
        assert (session(engine).pinless_call_id, session(engine).held_s) == (("p", 0.0) if links else (None, None))
    engine = Engine()
    at(engine, (12, hold()), (10, js("dialin-connected", "a", sipFrom=FROM)))
    assert session(engine).pinless_call_id is None


def test_what_is_known_of_a_caller_may_come_late() -> None:
    """The forward is known before the request that it answers."""
    engine = Engine()
    at(engine, (0, ready()), (5, forwarded()), (6, connected(number=None)))
    assert (session(engine).pinless_call_id, session(engine).caller) == ("p", None)
    at(engine, (1, hold()))
    assert (session(engine).caller, session(engine).called, session(engine).held_s) == (FROM, TO, 5.0)


@pytest.mark.parametrize("hidden", ["", None, "anonymous", "sip:anonymous@anonymous.invalid"])
def test_what_is_hidden_of_a_caller_yields_to_what_is_known(hidden: str | None) -> None:
    """In any order, also where they have become a session."""
    history = [(0.0, hold("p", hidden)), (0.5, hold("p")), (1.0, forwarded()), (5.0, connected("a", None))]
    for order in permutations(history):
        engine = Engine()
        at(engine, (0, ready()), *order)
        assert (caller(engine).from_, session(engine).caller) == (FROM, FROM)


def test_a_repeated_request_changes_nothing() -> None:
    """Daily retries a webhook that is not answered; other dialects have no id to find that by."""
    engine = Engine()
    again = parse(hold()).to_json()
    for payload in (hold(), hold(), json.loads(again)):
        feed(engine, payload, at=3.0)
    assert len(engine.waiting()) == 1


# --- without a known forward --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sip_from",
    [
        f"sip:{FROM}@carrier.example",
        FROM,
        f"<{FROM}>",
        "sip:12025550142@x",
        "tel:+1-202-555-0142",
        '"Bob" <sip:+12025550142@x>',
    ],
)
def test_a_dialin_is_the_one_waiting_caller_with_its_number(sip_from: str) -> None:
    """pipecat's transport forwards by itself, and no event says so."""
    engine = Engine()
    at(engine, (0, hold()), (1, hold("q", "+12025550143")))
    at(engine, (6, {"handler": "on_dialin_connected", "data": {"sessionId": "a", "sipFrom": sip_from}}))
    assert (session(engine).pinless_call_id, session(engine).held_s) == ("p", 6.0)
    assert engine.waiting() == [caller(engine, "q")]


@pytest.mark.parametrize("dialins", [["a"], ["a", "b"]])
def test_of_several_callers_with_one_number_none_is_linked(dialins: list[str]) -> None:
    """They call from one office. When the limit has passed, nobody says that one of them gave up."""
    engine = Engine()
    at(engine, (0, hold("p")), (1, hold("q")))
    at(engine, *((5.0 + n, connected(name)) for n, name in enumerate(dialins)))
    outcomes = pass_time(engine, 2000)
    assert [one.state for one in engine.unconnected()] == ["unknown", "unknown"]
    assert all(one.ended_at is one.held_s is None for one in engine.unconnected())
    assert all(getattr(outcome, "lost_caller", None) is None for outcome in outcomes)
    assert all(one.caller is None for one in engine.sessions())


def test_of_several_new_dialins_with_the_number_none_is_linked() -> None:
    """Which of them is the caller is not known, in any order."""
    for order in ("ab", "ba"):
        engine = Engine()
        at(engine, (0, hold()), *((5.0 + "ab".index(name), connected(name)) for name in order))
        assert [one.caller for one in engine.sessions()] == [None, None]
        pass_time(engine, 2000)
        assert caller(engine).state == "unknown"


def test_one_who_calls_again_is_two_callers() -> None:
    """Each dial-in can only be one of them."""
    history = [(0.0, hold("p")), (5.0, connected("a")), (20.0, stopped("a")), (30.0, hold("q")), (35.0, connected("b"))]
    for order in permutations(history):
        engine = Engine()
        at(engine, *order)
        assert (session(engine).pinless_call_id, session(engine, "b").pinless_call_id) == ("p", "q")


def test_a_dialin_long_before_or_after_is_not_the_caller() -> None:
    """Nor one with another number: that caller gave up."""
    engine = Engine()
    at(
        engine,
        (0, connected("early")),
        (10, hold()),
        (20, connected("other", "+12025550143")),
        (700, connected("late")),
    )
    assert [one.caller for one in engine.sessions()] == [None, None, None]
    pass_time(engine, 2000)
    assert caller(engine).state == "gave-up"


@pytest.mark.parametrize("number", [None, "anonymous"])
def test_a_dialin_without_number_may_have_been_the_caller(number: str | None) -> None:
    """So nobody says that the caller gave up."""
    engine = Engine()
    at(engine, (0, hold()), (5, connected("a", number)))
    assert session(engine).caller is None
    assert all(getattr(outcome, "lost_caller", None) is None for outcome in pass_time(engine, 700))
    assert caller(engine).state == "unknown"


@pytest.mark.parametrize("begins", [True, False])
def test_a_dialin_whose_beginning_is_lost_may_have_been_the_caller(begins: bool) -> None:
    """Its end was long after the limit, and nothing says when it connected."""
    end = webhook("dialin.stopped", "a", room="r", sip_from=f"sip:{FROM}@carrier.example", timestamp="900")
    steps = [(0.0, hold()), (900.0, end)] + [(800.0, connected(timestamp="800"))] * begins
    for order in permutations(steps):
        engine = Engine()
        at(engine, *order)
        engine.infer_ends(None)
        assert caller(engine).state == ("gave-up" if begins else "unknown")


def test_a_forward_outweighs_the_number() -> None:
    """A forward that is reported late moves a link that followed from the number."""
    engine = Engine()
    at(engine, (0, hold("p")), (1, hold("q", None)), (1, ready()), (5, connected("a")))
    assert session(engine).pinless_call_id == "p"
    at(engine, (5.2, forwarded("q")))
    assert session(engine).pinless_call_id == "q"
    assert [one.state for one in engine.waiting()] == ["waiting"]
    assert engine.next_deadline() is not None


def test_a_dialin_with_the_number_of_another_caller_is_not_the_forwarded_one() -> None:
    """Whom a transport connected to that endpoint. In any order."""
    other = "+12025550199"
    history = [(0.0, hold("p")), (1.0, hold("q", other)), (3.0, forwarded("q")), (5.0, connected("a"))]
    for order in permutations(history):
        engine = Engine()
        at(engine, (0, ready()), *order)
        assert (session(engine).pinless_call_id, caller(engine, "q").state) == ("p", "forwarded")


def test_a_forward_to_a_room_with_two_endpoints_is_found_by_the_number() -> None:
    """By which endpoint the dial-in came is not known, but who calls is."""
    engine = Engine()
    at(engine, (0, ready()), (0, ready(OTHER)), (1, hold()), (2, forwarded("p", OTHER)), (3, connected("a")))
    assert (session(engine).sip_endpoint, session(engine).pinless_call_id) == (None, "p")


# --- callers who are lost -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [[], [(5.0, ready())], [(5.0, ready()), (6.0, forwarded())]])
def test_a_caller_who_never_got_to_a_session_gave_up(steps: list[tuple[float, dict[str, Any]]]) -> None:
    """When the limit has passed, once. When they hung up is not known."""
    engine = Engine()
    at(engine, (0, hold()), *steps)
    assert pass_time(engine, 599) == []
    (outcome,) = pass_time(engine, 606)
    assert outcome.kind is OutcomeKind.NOTED
    assert isinstance(outcome.event, DeadlinePassed)
    assert (outcome.event.deadline, outcome.event.call_id, outcome.event.session_id) == ("hold-limit", "p", None)
    assert outcome.lost_caller is caller(engine)
    assert caller(engine).to_dict() == {
        "call_id": "p",
        "from": FROM,
        "to": TO,
        "state": "gave-up",
        "started_at": 0.0,
        "ended_at": None,
        "held_s": None,
    }
    assert engine.waiting() == []
    assert engine.receive(outcome.event, 607).kind is OutcomeKind.LATE
    assert pass_time(engine, 5000) == []


def test_a_forward_begins_the_limit_anew() -> None:
    """Who is forwarded after nine minutes needs some seconds to connect."""
    engine = Engine()
    at(engine, (0, hold()), (590, forwarded()))
    assert pass_time(engine, 601) == []
    assert len(pass_time(engine, 1190)) == 1


def test_a_refused_forward_is_the_end_of_a_caller() -> None:
    """Daily says that they are not there any more, or that the endpoint cannot be used."""
    engine = Engine()
    outcome = at(engine, (0, hold()), (4, refused()))
    assert outcome.lost_caller is caller(engine)
    assert (caller(engine).state, caller(engine).ended_at, caller(engine).held_s) == ("failed", 4.0, 4.0)
    assert caller(engine).error == "Call Forwarding Failed"
    assert at(engine, (5, refused())).lost_caller is None
    assert pass_time(engine, 2000) == []


def test_one_who_connects_later_becomes_the_session() -> None:
    """A record that was given out is amended."""
    engine = Engine()
    at(engine, (0, hold()), (1, ready()), (4, refused()))
    at(engine, (9, forwarded()))
    assert (caller(engine).state, caller(engine).amended, caller(engine).ended_at) == ("forwarded", True, None)
    at(engine, (10, connected()))
    assert (session(engine).caller, session(engine).held_s) == (FROM, 10.0)
    engine = Engine()
    at(engine, (0, hold()), (1, ready()), (590, forwarded()))
    pass_time(engine, 1200)
    assert caller(engine).state is CallerState.GAVE_UP
    at(engine, (1201, connected(timestamp="1190")))
    assert (caller(engine).state, caller(engine).amended) == ("connected", True)
    assert engine.unconnected() == []


ROOMS = {"forward": [(0.0, ready()), (1.0, forwarded())], "number": [(0.0, ready()), (0.0, ready(OTHER))]}
"""What is known of the room: the endpoint that the caller was forwarded to, or only that it has two."""


@pytest.mark.parametrize("known", ROOMS)
@pytest.mark.parametrize("seconds", [600.9, 605.0, 650.0])
def test_whatever_the_journal_has_first_wins(known: str, seconds: float) -> None:
    """The limit was due, but not appended: the times of the events do not say that it was first."""
    engine = Engine()
    at(engine, (0, hold()), *ROOMS[known], (seconds, connected(timestamp=str(int(seconds)))))
    assert (caller(engine).state, session(engine).pinless_call_id) == ("connected", "p")
    assert pass_time(engine, 1000) == []


@pytest.mark.parametrize("known", ROOMS)
@pytest.mark.parametrize("seconds", [40.0, 95.0, 599.0])
def test_one_who_connects_after_a_short_limit_becomes_the_session(known: str, seconds: float) -> None:
    """They were reported as lost: the record is amended. How soon the program wants to know does not say how long they wait."""
    engine = Engine(Settings(hold_limit=30))
    at(engine, (0, hold()), *ROOMS[known])
    (outcome,) = pass_time(engine, 31)
    assert outcome.lost_caller is caller(engine)
    at(engine, (seconds, connected(timestamp=str(int(seconds)))))
    assert (caller(engine).state, caller(engine).amended, session(engine).held_s) == ("connected", True, seconds)


def test_one_who_calls_again_after_a_short_limit_is_the_second_caller() -> None:
    """The first one gave up, in any order."""
    history = [(0.0, hold("p")), (100.0, hold("q")), (105.0, connected(timestamp="105"))]
    for order in permutations(history):
        engine = Engine(Settings(hold_limit=30))
        at(engine, (0, ready()), *order)
        pass_time(engine, 700)
        assert (session(engine).pinless_call_id, caller(engine).state) == ("q", "gave-up")


def test_who_waits_comes_before_one_whose_limit_passed() -> None:
    """They call again: the dial-in is their second call."""
    for order in permutations([(0.0, hold("p")), (610.0, hold("q")), (615.0, connected(timestamp="615"))]):
        engine = Engine()
        at(engine, (0, ready()), *order)
        assert (session(engine).pinless_call_id, caller(engine).state) == ("q", "waiting")


def test_a_log_without_timers_goes_on_past_the_limit() -> None:
    """At its end, by the times of its events, whatever their order. A journal has the limit itself."""
    for order in permutations(
        [(0.0, hold()), (5.0, hold("q")), (6.0, connected("b", "+12025550143")), (603.0, ready())]
    ):
        engine = Engine()
        at(engine, *order)
        assert engine.infer_ends(None) == []
        assert [one.state for one in engine.unconnected() if one.call_id == "p"] == ["gave-up"]
        assert [one.state for one in engine.unconnected() if one.call_id == "q"] == ["waiting"]


def test_a_caller_who_leaves_memory_in_a_log_without_timers_gave_up() -> None:
    """Their limit is shorter than the retention."""
    engine = Engine()
    outcome = at(engine, (0, hold()), (700, ready()), (10_000, ready(OTHER)))
    (gone,) = outcome.departed
    assert isinstance(gone, Caller)
    assert gone.state == "gave-up"


def test_a_limit_can_pass_though_the_program_was_down_for_longer_than_the_retention() -> None:
    """It is the first to know of the limit, and tells who is lost. Then the caller leaves memory."""
    engine = Engine()
    outcome = at(engine, (0, hold()), (10_000, ready()))
    assert outcome.departed == ()
    (limit,) = engine.passed(10_000)
    outcome = engine.receive(limit, 10_000)
    assert outcome.lost_caller is not None
    assert outcome.lost_caller.state == "gave-up"
    assert engine.advance(10_000 + 7200) == (outcome.lost_caller,)
    assert engine.unconnected() == []


@pytest.mark.parametrize(
    ("number", "became", "state"),
    [(FROM, "a", "connected"), (None, None, "unknown"), ("+12025550199", "b", "connected")],
)
def test_whoever_may_have_been_transferred_is_not_a_caller_on_hold(
    number: str | None, became: str | None, state: str
) -> None:
    """The far leg of a transfer comes from the number of one who has called before. If that is withheld, nobody is linked to it."""
    transfer = webhook("calltransfer.triggered", "a", to_endpoint=OTHER)
    events = [(0, hold()), (1, connected(number=number)), (20, transfer), (22, connected("b", room="s"))]
    for order in permutations(events):
        engine = Engine()
        at(engine, (0, ready(OTHER, "s")))
        for time, payload in order:
            engine.receive(parse(payload), float(time))
        pass_time(engine, 700.0)
        assert [one.session_id for one in engine.sessions() if one.pinless_call_id == "p"] == (
            [became] if became else []
        )
        assert (caller(engine).session_id, caller(engine).state) == (became, state)


def test_a_caller_of_another_partition_is_found_in_any_order() -> None:
    """Also if what that partition knew of them comes after they were forwarded again, and after they connected."""
    came = {"from": FROM, "to": TO, "startedAt": 0.0}
    taken_over = PinlessForwarded(call_id="p", sip_endpoint=OTHER, held=came, occurred_at=2.0)
    again = PinlessForwarded(call_id="p", sip_endpoint=URI, occurred_at=4.0)
    for order in permutations([taken_over, again, parse(connected(room=None, timestamp=6))]):
        engine = Engine()
        for event in order:
            engine.receive(event, 6.0)
        assert (caller(engine).session_id, caller(engine).state) == ("a", "connected")


@pytest.mark.parametrize(("theirs", "shown"), [(None, None), (None, FROM), (FROM, None)])
def test_nobody_gave_up_who_may_be_a_dialin_that_is_reported_late(theirs: str | None, shown: str | None) -> None:
    """A withheld number links nobody. It connected before the limit passed, and Daily reports that before it or after."""
    for is_late in (False, True):
        engine = Engine()
        at(engine, (0, hold(number=theirs)), (0, hold("q", "+12025550199")))
        event = parse(connected(number=shown, timestamp=300))
        if not is_late:
            engine.receive(event, 300.0)
        pass_time(engine, 700.0)
        if is_late:
            engine.receive(event, 800.0)
        states = [caller(engine, call_id).state for call_id in "pq"]
        assert states == ["unknown", "unknown" if shown is None else "gave-up"]
        assert caller(engine).amended is is_late


def test_a_participant_who_left_says_when_a_dialin_was_the_caller() -> None:
    """Nobody reported that it connected, and its end is reported long after the limit."""
    stopped_late = js("dialin-stopped", "a", sipFrom=f"sip:{FROM}@carrier.example")
    left = webhook("participant.left", "a", joined_at=1_790_000_005, duration=60)
    for order in permutations([hold(), stopped_late, left]):
        engine = Engine()
        for payload in order:
            engine.receive(parse(payload), 1_790_000_000.0 if "callId" in payload else 1_790_002_000.0)
        assert (caller(engine).session_id, caller(engine).held_s) == ("a", 5.0)


@pytest.mark.parametrize("restarted_before", range(5))
def test_a_number_that_becomes_known_says_that_a_far_leg_is_the_caller(restarted_before: int) -> None:
    """Until then the transferred caller may be the same as the one on hold. In any order, and after a restart at any place."""
    number = js("dialin-connected", "a", sipFrom="sip:+12025550199@carrier.example")
    transfer = webhook("calltransfer.triggered", "a", to_endpoint=OTHER)
    events = [
        *((0, hold()), (1, connected(number=None)), (20, transfer)),
        *((22, connected("b", room="s")), (30, number)),
    ]
    for order in permutations(events):
        engine = Engine()
        at(engine, (0, ready(OTHER, "s")))
        for place, (time, payload) in enumerate(order):
            if place == restarted_before:
                engine = Engine.restore(json.loads(json.dumps(engine.snapshot())))
            engine.receive(parse(payload), float(time))
        assert (caller(engine).session_id, caller(engine).state) == ("b", "connected")


@pytest.mark.parametrize("number", [None, "+12025550142"])
def test_a_dialin_that_left_memory_may_still_have_been_the_caller(number: str | None) -> None:
    """A withheld number links nobody. The limit is seen only after the session was forgotten, as in a log without timers."""
    engine = Engine()
    at(engine, (0, hold(number=None)), (5, connected(number=number)), (6, stopped()), (900, hold(number=None)))
    copy = Engine.restore(json.loads(json.dumps(engine.snapshot())))
    for one in (engine, copy):
        at(one, (7300, ready(OTHER, "s")))
        assert one.session("a") is None
        assert [limit.kind for limit in pass_time(one, 7300.0)] == ["noted"]
        assert caller(one).state == "unknown"
        at(one, (7400, hold("q", None)))
        assert caller(one).state == "unknown"


def test_a_dialin_that_was_another_caller_leaves_nobody_in_doubt() -> None:
    """Neither does one that came long before, or that is in the room of another."""
    engine = Engine()
    at(engine, (0, connected("b", None, "s")), (1, stopped("b", "s")))
    at(engine, (500, ready()), (500, hold(number=None)), (501, hold("q")), (502, forwarded("q")))
    at(engine, (503, connected("a")), (504, stopped("a")))
    outcome = at(engine, (2000, ready(OTHER, "t")), (20_000, ready(OTHER, "s")))
    assert [(one.call_id, one.state) for one in outcome.departed if isinstance(one, Caller)] == [("p", "gave-up")]


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_an_accepted_forward_outweighs_a_refused_one(order: list[int]) -> None:
    """A handler that runs again after a crash forwards one who is not on hold any more."""
    engine = Engine()
    at(engine, (0, hold()), (1, ready()))
    steps = [(3.0, forwarded()), (9.0, refused())]
    at(engine, *(steps[n] for n in order))
    assert caller(engine).state == "forwarded"
    at(engine, (4, connected()))
    assert caller(engine).state == "connected"


def test_a_connected_caller_is_not_lost_by_a_refusal() -> None:
    """The program ended between Daily's answer and the journal. The dial-in comes from their number."""
    engine = Engine()
    outcome = at(engine, (0, hold()), (1, ready()), (5, connected()), (9, refused()))
    assert outcome.lost_caller is None
    assert caller(engine).state == "connected"


def test_a_deadline_only_notifies() -> None:
    """For one who was not forwarded in time."""
    engine = Engine(Settings(hold_deadline=30))
    at(engine, (0, hold("p")), (10, hold("q")), (20, forwarded("q")))
    (outcome,) = pass_time(engine, 50)
    assert isinstance(outcome.event, DeadlinePassed)
    assert (outcome.kind, outcome.event.deadline, outcome.event.call_id) == ("noted", "hold", "p")
    assert outcome.lost_caller is None
    assert [one.state for one in engine.waiting()] == ["waiting", "forwarded"]


def test_new_settings_hold_for_callers_who_wait() -> None:
    """As for sessions; a new deadline is for later ones."""
    engine = Engine(Settings(hold_deadline=30))
    at(engine, (0, hold("p")))
    for settings, due in ((Settings(hold_limit=60, hold_deadline=40), 40.0), (Settings(hold_limit=90), 90.0)):
        at(engine, (1, {"action": "settings-changed", "settings": settings.model_dump()}))
        assert min(limit.due_at for limit in engine.passed(5000)) == due
    at(engine, (2, {"action": "settings-changed", "settings": Settings(hold_deadline=5).model_dump()}))
    assert [limit.deadline for limit in engine.passed(5000)] == ["hold-limit"]


# --- forgetting ---------------------------------------------------------------------------------------------------


def test_callers_leave_memory_after_retention() -> None:
    """Those that got to no session are returned, as the final word; the others are in their session's record."""
    engine = Engine()
    at(engine, (0, ready()), (1, hold("p")), (2, hold("q", "+12025550199")), (3, forwarded("p")), (4, connected()))
    at(engine, (5, stopped()))
    assert engine.sizes()["callers"] == engine.sizes()["connected_callers"] == 1
    pass_time(engine, 700)
    departed = engine.advance(7202)
    assert [one.call_id for one in departed if isinstance(one, Caller)] == ["q"]
    assert session(engine).caller == FROM
    engine.advance(7205)
    assert set(engine.sizes().values()) == {0}
    assert engine.next_deadline() is None


def test_what_a_forgotten_caller_became_stays() -> None:
    """A call longer than the retention; another caller on its endpoint is not taken for it."""
    engine = Engine()
    at(engine, (0, ready()), (1, hold("p")), (3, forwarded("p")), (4, connected()))
    for n in range(1, 4):
        at(engine, (4 + 3600.0 * n, js("dialin-warning", "a")))
    assert engine.caller("p") is None
    at(engine, (20_000, hold("q")), (20_001, forwarded("q")), (20_002, js("dialin-warning", "a")))
    assert session(engine).pinless_call_id == "p"
    assert caller(engine, "q").state == "forwarded"


def test_lost_callers_are_retired_at_the_end_of_a_log() -> None:
    """Those who still wait are not."""
    engine = Engine()
    at(engine, (0, hold("p")), (1, hold("q")), (2, refused("p")))
    (gone,) = engine.retire()
    assert isinstance(gone, Caller)
    assert gone.call_id == "p"
    assert [one.call_id for one in engine.waiting()] == ["q"]


def test_callers_are_bounded_in_number() -> None:
    """The oldest leave first, and are returned."""
    engine = Engine(Settings(max_parked=3))
    departed: list[Any] = []
    for n in range(10):
        departed += at(engine, (float(n), hold(f"p{n}"))).departed
    assert [one.call_id for one in departed] == [f"p{n}" for n in range(7)]
    assert engine.sizes()["hold_limits"] == 3


def test_a_snapshot_has_the_callers() -> None:
    """And an engine made from it goes on alike, at every step."""
    steps = [
        (0.0, hold("p")),
        (0.5, hold("q", None)),
        (5.0, ready()),
        (5.5, forwarded("p")),
        (6.0, connected()),
        (8.0, refused("q")),
    ]
    for cut in range(len(steps) + 1):
        engine = Engine(Settings(hold_deadline=30))
        at(engine, *steps[:cut]) if cut else None
        copy = Engine.restore(json.loads(json.dumps(engine.snapshot())))
        for one in (engine, copy):
            at(one, *steps[cut:]) if cut < len(steps) else None
            pass_time(one, 700)
        assert json.dumps(copy.snapshot()) == json.dumps(engine.snapshot())
        assert session(copy).caller == FROM


def test_a_caller_is_read_only() -> None:
    """For a program: only the engine changes one."""
    engine = Engine()
    at(engine, (0, hold()))
    with pytest.raises(AttributeError, match="a caller is read-only"):
        caller(engine).to = "x"
    with pytest.raises(AttributeError, match="a caller is read-only"):
        del caller(engine).to


def test_nothing_is_counted_twice() -> None:
    """All events of callers are noted, and their counts add up."""
    engine = Engine()
    at(engine, (0, hold()), (1, hold()), (2, forwarded()), (3, refused()))
    feed(
        engine,
        js("pinless-dialin", None, From="x"),
        js("deadline-passed", None, deadline="hold", dueAt=5, callId="nobody"),
    )
    assert engine.counts[OutcomeKind.NOTED] == 4
    assert engine.counts[OutcomeKind.DUPLICATE] == engine.counts[OutcomeKind.LATE] == 1
    assert engine.received == 6


def test_the_events_are_written_and_read_as_others() -> None:
    """In telstate's own spelling of daily-js."""
    event = parse(refused())
    assert isinstance(event, ForwardRefused)
    assert parse(event.to_json()) == event
    assert isinstance(parse(forwarded()), PinlessForwarded)
    limit = DeadlinePassed(call_id="p", deadline="hold", due_at=5.0)
    assert parse(limit.to_json()) == limit
