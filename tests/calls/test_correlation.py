"""Correlation: SIP Call-IDs, destinations, endpoints, callers on hold, transfers, links; and what is forgotten."""

from __future__ import annotations

import json
from time import process_time
from typing import Any

import pytest

from telstate import Caller, Engine, OutcomeKind, Session, Settings, State, Unmatched
from tests.calls import feed, joined, js, webhook

UNMATCHED = OutcomeKind.UNMATCHED


def state_of(engine: Engine, session_id: str) -> State:
    """Return the state of a session."""
    session = engine.session(session_id)
    assert session is not None
    return session.state


def ids(sessions: list[Session]) -> list[str]:
    """Return the ids of sessions."""
    return [session.session_id for session in sessions]


# --- by SIP Call-ID -----------------------------------------------------------------------------------------------


def test_an_event_is_matched_by_its_sip_call_id() -> None:
    """If it names no session."""
    engine = Engine()
    feed(engine, js("dialin-connected", "a", sipCallId="c"))
    outcome = feed(engine, js("dialin-stopped", None, sipCallId="c"))
    assert outcome.kind is OutcomeKind.MOVED
    assert state_of(engine, "a") is State.STOPPED


def test_an_event_that_could_mean_several_legs_is_unmatched() -> None:
    """Unless only one of them has the event's direction."""
    engine = Engine()
    feed(engine, js("dialin-connected", "a", sipCallId="c"), js("dialin-connected", "b", sipCallId="c"))
    feed(engine, js("dialout-connected", "d", sipCallId="c"))
    assert feed(engine, js("dialin-stopped", None, sipCallId="c")).kind is UNMATCHED
    assert feed(engine, js("dialout-stopped", None, sipCallId="c")).kind is OutcomeKind.MOVED
    assert ids(engine.legs("c")) == ids(engine.legs("b")) == ["a", "b", "d"]


def test_a_sip_call_id_that_says_nothing_costs_nothing() -> None:
    """If every event has the same one, the cost of a session does not grow with their number, and nothing is left behind."""
    times = {}
    for count in (500, 4_000):
        engine = Engine(Settings(retention=60, key_ttl=60))
        began = process_time()
        for number in range(count):
            feed(engine, js("dialin-connected", f"s{number}", sipCallId="unknown"), at=1e9)
            feed(engine, js("dialin-stopped", f"s{number}", sipCallId="unknown"), at=1e9 + 1)
        assert len(engine.legs("unknown")) == count
        gone = [session for session in engine.advance(1e9 + 100) if isinstance(session, Session)]
        assert len(gone) == count
        assert engine.sizes()["sip_call_ids"] == 0
        times[count] = (process_time() - began) / count
        assert max(len(session.to_dict()["legs"]) for session in gone) <= 100
    assert times[4_000] < 4 * times[500]


def test_a_sip_call_id_matches_a_session_of_the_other_direction() -> None:
    """The event is then unexpected."""
    engine = Engine()
    feed(engine, js("dialout-connected", "a", sipCallId="c"))
    outcome = feed(engine, js("dialin-stopped", None, sipCallId="c"))
    assert (outcome.kind, outcome.session) == (OutcomeKind.UNEXPECTED, engine.session("a"))


def test_many_parked_events_do_not_slow_down_a_session() -> None:
    """Parked events that no session can release are not looked at with each event."""
    engine = Engine()
    feed(engine, *(js("dialin-connected", session_id, sipCallId="c") for session_id in "ab"))
    feed(engine, *(js("dialin-warning", None, sipCallId="c") for _ in range(5000)))
    started = process_time()
    feed(engine, *(js("dialin-warning", "a") for _ in range(200)))
    assert process_time() - started < 1.0


def test_anomalies_of_a_parked_event_become_anomalies_of_its_session() -> None:
    """When the event is released."""
    engine = Engine()
    odd = {"action": "participant-joined", "participant": {"session_id": "a", "user_name": 5}}
    assert feed(engine, odd).anomalies == ("user_name came as 5",)
    feed(engine, js("dialin-stopped", None, sipCallId="c", sipFrom=5), js("dialin-connected", "a", sipCallId="c"))
    assert next(engine.sessions()).anomalies == (
        "participant-joined: user_name came as 5",
        "dialin-stopped: sipFrom came as 5",
    )


def test_an_unmatched_event_is_applied_when_its_sip_call_id_is_known() -> None:
    """It moves the session then, as a parked event; its outcome stays unmatched."""
    engine = Engine()
    assert feed(engine, js("dialout-stopped", None, sipCallId="c", errorMsg="bye")).kind is UNMATCHED
    outcome = feed(engine, js("dialout-connected", "a", sipCallId="c"))
    assert [(move.target, move.event, move.parked) for move in outcome.moves] == [
        (State.CONNECTED, "dialout-connected", False),
        (State.STOPPED, "dialout-stopped", True),
    ]
    assert outcome.ended
    assert engine.unmatched() == []
    assert engine.counts[UNMATCHED] == 1
    session = engine.session("a")
    assert session is not None
    assert (session.events, session.error_msg) == (2, "bye")


def test_a_known_session_learns_its_sip_call_id_later() -> None:
    """A webhook opened it, a client reports the Call-ID."""
    engine = Engine()
    feed(engine, webhook("dialout.connected", "a"), js("dialout-answered", None, sipCallId="c"))
    assert state_of(engine, "a") is State.CONNECTED
    outcome = feed(engine, js("dialout-connected", "a", sipCallId="c"))
    assert outcome.kind is OutcomeKind.DUPLICATE
    assert state_of(engine, "a") is State.ANSWERED


def test_what_was_parked_amends_no_session_that_it_opens_with() -> None:
    """Its handlers are called after all of it. What comes later amends it."""
    engine = Engine()
    feed(engine, joined("a"), js("dialin-stopped", "a"), at=1.0)
    session = engine.session("a")
    assert session is not None
    assert (session.cause, session.amended) == ("completed", False)
    feed(engine, js("dialin-error", "a", errorMsg="x"), at=2.0)
    assert (session.cause, session.amended) == ("failed", True)


def test_parked_events_are_applied_in_order_of_arrival() -> None:
    """Whether they waited for the session id or for the SIP Call-ID."""
    engine = Engine()
    feed(engine, joined("a"), js("dialin-stopped", None, sipCallId="c"))
    outcome = feed(engine, js("dialin-connected", "a", sipCallId="c"))
    assert [str(move.target) for move in outcome.moves] == ["connected", "answered", "stopped"]


# --- by destination -----------------------------------------------------------------------------------------------

REQUESTED = js("dialout-requested", "a", destination="+12025550100", room="r")
NAMELESS = js("dialout-error", None, details={"destination": "+12025550100"}, room="r")


def test_an_error_without_id_belongs_to_the_one_request_to_its_destination() -> None:
    """daily-js reports a failed start without a session id."""
    engine = Engine()
    outcome = feed(engine, REQUESTED, NAMELESS)
    assert outcome.session is engine.session("a")
    assert state_of(engine, "a") is State.ERROR


@pytest.mark.parametrize(
    ("before", "nameless"),
    [
        ([REQUESTED], {**NAMELESS, "room": "another"}),
        ([{**REQUESTED, "domainId": "d"}], {**NAMELESS, "domainId": "e"}),
        ([REQUESTED], {**NAMELESS, "details": {"destination": "+12025550199"}}),
        ([REQUESTED], {**NAMELESS, "details": {}}),
        ([REQUESTED], {**NAMELESS, "details": {"destination": ["+12025550100"]}}),
        ([REQUESTED], {"action": "dialout-error", "details": {"destination": "+12025550100"}, "callClientId": "k"}),
        ([REQUESTED, js("dialout-connected", "a")], NAMELESS),
        ([REQUESTED, js("dialout-requested", "b", destination="+12025550100", room="r")], NAMELESS),
        ([js("dialout-warning", "a", destination="+12025550100", room="r")], NAMELESS),
        ([REQUESTED], js("dialin-stopped", None, room="r")),
    ],
    ids=[
        "room",
        "domain",
        "destination",
        "no destination",
        "odd destination",
        "client",
        "not idle",
        "two",
        "not requested",
        "dial-in",
    ],
)
def test_an_event_without_id_that_matches_no_single_request_is_unmatched(
    before: list[dict[str, Any]], nameless: dict[str, Any]
) -> None:
    """Another room, another number, a session past idle, or two requests."""
    engine = Engine()
    feed(engine, *before)
    assert feed(engine, nameless).kind is UNMATCHED


def test_a_request_is_matched_by_its_call_client() -> None:
    """daily-js reports no room."""
    engine = Engine()
    feed(engine, js("dialout-requested", "a", destination="+12025550100", callClientId="k", room="r"))
    feed(engine, js("dialout-answered", None, destination="+12025550100", callClientId="k"))
    assert state_of(engine, "a") is State.ANSWERED
    assert engine.sizes()["requested"] == 0


def test_a_request_is_matched_by_a_room_that_is_learned_later() -> None:
    """For example from the warning of a webhook."""
    engine = Engine()
    feed(engine, js("dialout-requested", "a", destination="+12025550100", callClientId="k"))
    feed(engine, webhook("dialout.warning", "a", room="r", destination="+12025550100"))
    assert feed(engine, NAMELESS).kind is OutcomeKind.MOVED


@pytest.mark.parametrize("kind", ["connected", "answered", "stopped", "warning"])
def test_details_of_an_event_without_that_field_are_ignored(kind: str) -> None:
    """An extra key of that name is not a destination."""
    engine = Engine()
    assert feed(engine, js(f"dialout-{kind}", None, details="busy")).kind is UNMATCHED
    assert sum(engine.counts.values()) == engine.received


def test_an_empty_id_is_no_id() -> None:
    """Of a room or an endpoint."""
    engine = Engine()
    feed(
        engine,
        js("dialin-connected", "a", sipEndpoint="", room=""),
        js("dialin-connected", "b", sipEndpoint="", room=""),
    )
    feed(engine, js("dialin-stopped", "a", room="r"))
    assert [session.room for session in engine.sessions()] == ["r", None]
    assert not any(session.anomalies for session in engine.sessions())


def test_two_dial_outs_in_one_room_do_not_mix() -> None:
    """pipecat keeps one slot per direction; here each session has its own state."""
    engine = Engine()
    for session_id in ("a", "b"):
        feed(engine, js("dialout-connected", session_id, room="r"))
    feed(engine, js("dialout-answered", "b"), js("dialout-error", "a"), js("dialout-stopped", "b"))
    assert [(s.session_id, s.cause) for s in engine.sessions()] == [("a", "failed"), ("b", "completed")]


# --- endpoints ----------------------------------------------------------------------------------------------------

READY = {"action": "dialin-ready", "sipEndpoint": "sip:room.0@sip.daily.co", "callClientId": "k"}
URI = "sip:room.0@sip.daily.co"


def test_endpoints_are_ready_then_busy_then_free() -> None:
    """They are found with or without `sip:` and query."""
    engine = Engine()
    feed(engine, READY)
    endpoint = engine.endpoint("room.0@sip.daily.co?x=1")
    assert endpoint is not None
    assert (endpoint.ready, endpoint.busy) == (True, False)
    feed(engine, js("dialin-connected", "a", sipEndpoint=URI, callClientId="k"))
    assert endpoint.session_id == "a"
    feed(engine, js("dialin-stopped", "a"))
    assert not endpoint.busy
    assert engine.endpoint("sip:nobody@x") is None


def test_a_second_caller_on_a_busy_endpoint_is_nothing_odd_about_them() -> None:
    """Daily allows one at a time, so the first one's end was lost. The endpoint is the second one's."""
    engine = Engine()
    feed(engine, READY, js("dialin-connected", "a", sipEndpoint=URI, callClientId="k"))
    outcome = feed(engine, js("dialin-connected", "b", sipEndpoint=URI, callClientId="k"))
    assert outcome.anomalies == ()
    feed(engine, js("dialin-stopped", "a"))
    endpoint = engine.endpoint(URI)
    assert endpoint is not None
    assert endpoint.session_id == "b"


def test_the_same_endpoint_can_be_dialled_again() -> None:
    """After a disconnect."""
    engine = Engine()
    for session_id in ("a", "b"):
        feed(engine, js("dialin-connected", session_id, sipEndpoint=URI), js("dialin-stopped", session_id))
    assert all(not session.anomalies for session in engine.sessions())


def test_endpoints_belong_to_their_domain_and_room() -> None:
    """Two domains may have rooms of the same name."""
    engine = Engine()
    for domain in ("d1", "d2"):
        feed(engine, webhook("dialin.ready", None, id=domain, sip_endpoint=URI, room="r", domain_id=domain))
    assert engine.sizes()["endpoints"] == 2
    feed(engine, {"type": "meeting.ended", "payload": {"room": "r", "domain_id": "d1", "end_ts": 5}})
    assert engine.sizes()["endpoints"] == 1


@pytest.mark.parametrize("first", ["a", "b"])
def test_an_endpoint_is_busy_until_both_of_two_callers_have_left(first: str) -> None:
    """In any order, and however long after."""
    engine = Engine()
    for session_id in ("a", "b"):
        feed(engine, js("dialin-connected", session_id, sipEndpoint=URI), at=1.0)
    second = "b" if first == "a" else "a"
    feed(engine, js("dialin-stopped", first), at=2.0)
    engine.advance(8000.0)
    endpoint = engine.endpoint(URI)
    assert endpoint is not None
    assert endpoint.session_id == second
    feed(engine, js("dialin-stopped", second), at=8001.0)
    assert not endpoint.busy
    engine.advance(20_000.0)
    assert engine.sizes()["endpoints"] == 0


def test_a_late_connected_does_not_occupy_the_endpoint() -> None:
    """The caller has left already."""
    engine = Engine()
    feed(engine, js("dialin-stopped", "a"), js("dialin-connected", "a", sipEndpoint=URI))
    endpoint = engine.endpoint(URI)
    assert endpoint is None or not endpoint.busy


# --- callers on hold, transfers, links ----------------------------------------------------------------------------

PINLESS = {"To": "+12025550100", "From": "+12025550155", "callId": "p", "callDomain": "d"}


def test_a_forwarded_caller_becomes_the_session_on_that_endpoint() -> None:
    """And on no other: the webhook names no session."""
    engine = Engine()
    feed(engine, PINLESS, {"action": "pinless-forwarded", "callId": "p", "sipEndpoint": URI})
    feed(engine, js("dialin-connected", "other", sipEndpoint="sip:other@sip.daily.co"))
    feed(engine, js("dialin-connected", "a", sipEndpoint=f"{URI}?x=1"))
    other, session = engine.sessions()
    assert (other.caller, session.caller, session.pinless_call_id) == (None, "+12025550155", "p")
    assert engine.sizes()["callers"] == 0


def test_a_caller_may_connect_before_the_answer_to_the_forwarding_arrives() -> None:
    """A session that was on the endpoint before the caller was on hold is another one."""
    forwarded = {"action": "pinless-forwarded", "callId": "p", "sipEndpoint": URI}
    engine = Engine()
    feed(engine, js("dialin-connected", "stale", sipEndpoint=URI), PINLESS, forwarded)
    assert engine.session("stale").caller is None  # type: ignore[union-attr]
    engine = Engine()
    feed(engine, PINLESS, js("dialin-connected", "a", sipEndpoint=URI), forwarded)
    (session,) = engine.sessions()
    assert (session.caller, session.pinless_call_id) == ("+12025550155", "p")
    assert engine.sizes()["callers"] == 0
    feed(engine, js("dialin-stopped", "a"), js("dialin-connected", "b", sipEndpoint=URI))
    assert engine.session("b").caller is None  # type: ignore[union-attr]


def test_a_caller_who_was_not_forwarded_is_linked_to_no_session() -> None:
    """Even if the times would fit."""
    engine = Engine()
    feed(engine, PINLESS, js("dialin-connected", "a", sipEndpoint=URI))
    assert next(engine.sessions()).caller is None


@pytest.mark.parametrize("order", ["abl", "alb", "lab", "lba"])
def test_sessions_can_be_linked_before_they_are_known(order: str) -> None:
    """The program knows its legs before their events arrive."""
    payloads = {
        "a": js("dialin-connected", "a"),
        "b": js("dialout-connected", "b"),
        "l": js("sessions-linked", "a", otherSessionId="b"),
    }
    engine = Engine()
    feed(engine, *(payloads[key] for key in order))
    assert set(ids(engine.legs("b"))) == {"a", "b"}
    assert engine.sizes()["early"] == 0


def test_legs_are_found_across_sip_call_ids_and_links() -> None:
    """Legs of legs are legs."""
    engine = Engine()
    feed(engine, js("dialin-connected", "a", sipCallId="x"), js("dialout-connected", "b", sipCallId="x"))
    feed(engine, js("dialout-connected", "c"), js("sessions-linked", "b", otherSessionId="c"))
    assert ids(engine.legs("a")) == ["a", "b", "c"]
    assert engine.legs("nothing") == []


def test_each_link_is_parked_separately() -> None:
    """Two links of one session that is not known yet."""
    engine = Engine()
    feed(engine, js("sessions-linked", "a", otherSessionId="b"), js("sessions-linked", "a", otherSessionId="c"))
    feed(engine, *(js("dialin-connected", session_id) for session_id in "abc"))
    assert ids(engine.legs("a")) == ["a", "b", "c"]
    assert engine.sizes()["early"] == 0


def test_a_repeated_connected_takes_no_second_caller() -> None:
    """The next caller belongs to the next session that connects."""
    engine = Engine()
    for call_id in ("p", "q"):
        feed(engine, {**PINLESS, "callId": call_id, "From": f"from {call_id}"})
        feed(engine, {"action": "pinless-forwarded", "callId": call_id, "sipEndpoint": URI})
        feed(engine, js("dialin-connected", "a", sipEndpoint=URI))
    feed(engine, webhook("dialin.connected", "a", room="r"))
    feed(engine, js("dialin-stopped", "a"), js("dialin-connected", "b", sipEndpoint=URI))
    assert [session.caller for session in engine.sessions()] == ["from p", "from q"]


def test_a_call_of_thousands_of_legs() -> None:
    """A conference bridge shares one SIP Call-ID. Finding its legs is not quadratic."""
    engine = Engine()
    feed(engine, *(js("dialin-connected", f"s{n}", sipCallId="c") for n in range(3000)))
    assert len(engine.legs("c")) == 3000


# --- forgetting ---------------------------------------------------------------------------------------------------


def test_everything_returns_to_zero() -> None:
    """When all calls have ended and retention has passed. Unmatched events are returned."""
    engine = Engine()
    for n in range(50):
        feed(
            engine,
            webhook("dialin.ready", None, id=f"r{n}", sip_endpoint=f"sip:{n}@x", room="r"),
            {**PINLESS, "callId": f"p{n}"},
            {"action": "pinless-forwarded", "callId": f"p{n}", "sipEndpoint": f"sip:{n}@x"},
            joined(f"nobody{n}"),
            js("dialout-requested", f"o{n}", destination=f"+1202555{n:04}", room="r"),
            js("dialin-connected", f"i{n}", sipCallId=f"c{n}", sipEndpoint=f"sip:{n}@x", room="r"),
            webhook("dialout.connected", f"o{n}", room="r"),
            js("sessions-linked", f"i{n}", otherSessionId=f"o{n}"),
            webhook("calltransfer.initiated", f"i{n}", to_endpoint=f"sip:to{n}@x"),
            js("dialout-error", None, sipCallId=f"never{n}"),
            at=1000.0 + n,
        )
    feed(engine, *(js("dialin-stopped", f"i{n}") for n in range(50)), at=2000.0)
    feed(engine, *(js("dialout-stopped", f"o{n}") for n in range(50)), at=2001.0)
    assert min(engine.sizes().values()) == 0
    assert sum(engine.sizes().values()) > 500
    departed = engine.advance(2001.0 + 7200)
    assert set(engine.sizes().values()) == {0}
    assert sum(isinstance(gone, Session) for gone in departed) == 100
    assert sum(isinstance(gone, Unmatched) for gone in departed) == 50
    assert engine.next_deadline() is None


def test_everything_is_bounded_in_number() -> None:
    """The oldest entries are forgotten first."""
    settings = Settings(max_keys=100, max_ended=10, max_parked=20)
    engine = Engine(settings)
    for n in range(1000):
        feed(
            engine,
            webhook("dialout.stopped", f"s{n}"),
            joined(f"p{n}"),
            js("dialout-error", None, sipCallId=f"c{n}"),
            at=5.0,
        )
        feed(engine, {"action": "dialin-ready", "sipEndpoint": f"sip:{n}@x"}, {**PINLESS, "callId": f"p{n}"}, at=5.0)
    sizes = engine.sizes()
    assert (
        sizes["keys"],
        sizes["ended"],
        sizes["early"],
        sizes["unmatched"],
        sizes["endpoints"],
        sizes["callers"],
    ) == (
        100,
        10,
        20,
        20,
        20,
        20,
    )
    assert [session.session_id for session in engine.sessions()] == [f"s{n}" for n in range(990, 1000)]


def test_parked_events_and_keys_are_bounded_in_size() -> None:
    """A few huge events do not take gigabytes."""
    engine = Engine()
    for n in range(60):
        huge = "x" * 1_000_000
        feed(
            engine, {"action": "participant-joined", "participant": {"session_id": f"p{n}", "user_name": huge}}, at=1.0
        )
        feed(engine, js("dialout-error", None, errorMsg=huge), at=1.0)
        feed(engine, webhook("dialin.warning", "a", id="w", error_msg=f"{huge}{n}"), at=1.0)
    assert len(json.dumps(engine.snapshot())) < 40_000_000
    assert 5 < engine.sizes()["early"] < 20


def test_an_event_without_time_retires_no_session_that_has_a_time() -> None:
    """Once a time is known, retention is two hours."""
    engine = Engine(Settings(retain_untimed=1))
    feed(engine, *(js("dialout-stopped", f"s{n}") for n in range(4)), at=10.0)
    assert feed(engine, js("dialout-stopped", "t")).departed == ()
    assert len(list(engine.sessions())) == 5


def test_without_any_time_sessions_retire_by_number() -> None:
    """When `retain_untimed` later sessions have ended."""
    engine = Engine(Settings(retain_untimed=3))
    departed: list[Session | Unmatched | Caller] = []
    for n in range(10):
        departed += feed(engine, js("dialout-stopped", f"s{n}")).departed
    assert [gone.session_id for gone in departed if isinstance(gone, Session)] == [f"s{n}" for n in range(7)]
    assert engine.next_deadline() is None


def test_what_came_before_any_time_counts_from_the_first_time() -> None:
    """A clock may start late."""
    engine = Engine()
    feed(engine, js("dialout-stopped", "a"))
    feed(engine, js("dialout-connected", "b"), at=1_700_000_000.0)
    assert engine.session("a") is not None
    feed(engine, js("dialout-answered", "b"), at=1_700_007_200.0)
    assert engine.session("a") is None


def test_retention_is_kept_to_the_second_for_each() -> None:
    """For each session, not only for the first."""
    engine = Engine()
    for n in range(5):
        feed(engine, js("dialout-stopped", f"s{n}"), at=100.0 * n)
    for n in range(5):
        assert engine.advance(100.0 * n + 7199.9) == ()
        assert [gone.session_id for gone in engine.advance(100.0 * n + 7200) if isinstance(gone, Session)] == [f"s{n}"]


def test_after_retention_an_id_is_new() -> None:
    """Some systems reuse ids."""
    engine = Engine()
    feed(engine, webhook("dialout.stopped", "a"), at=0.0)
    outcome = feed(engine, webhook("dialout.stopped", "a"), at=7200.0)
    assert (outcome.kind, outcome.opened) == (OutcomeKind.MOVED, True)
    assert [gone.session_id for gone in outcome.departed if isinstance(gone, Session)] == ["a"]


def test_time_never_falls() -> None:
    """A clock that jumps back is ignored."""
    engine = Engine()
    feed(engine, js("dialout-connected", "a"), at=1000.0)
    feed(engine, js("dialout-stopped", "a"), at=10.0)
    assert engine.now == 1000.0
    assert engine.advance(8199.0) == ()
    assert len(engine.advance(8200.0)) == 1


@pytest.mark.parametrize("now", [float("nan"), float("inf"), -1.0, 1_730_000_000_000.0])
def test_an_invalid_time_is_refused(now: float) -> None:
    """With milliseconds everything would be due forever. Nothing has changed then."""
    engine = Engine()
    for _ in range(2):
        with pytest.raises(ValueError, match="Unix seconds"):
            feed(engine, js("dialin-connected", "a"), at=now)
        assert engine.received == 0
        engine.advance(5.0)
