"""The engine: outcomes by their rules, causes by their evidence, and what is kept of a session."""

from __future__ import annotations

from typing import Any

import pytest

from telstate import (
    Cause,
    DialoutRefused,
    Direction,
    EndedBy,
    Engine,
    OutcomeKind,
    Session,
    State,
    TelstateError,
    parse,
)
from tests.calls import SESSION, feed, joined, js, webhook

MOVED, NOTED, DUPLICATE, LATE, UNEXPECTED, UNMATCHED = OutcomeKind


def only(engine: Engine) -> Session:
    """The one session there is."""
    (session,) = engine.sessions()
    return session


def path(session: Session) -> list[str]:
    """The states it went through."""
    return [str(move.target) for move in session.transitions]


# --- lives of a session -------------------------------------------------------------------------------------------

LIVES: list[tuple[str, list[dict[str, Any]], State, Cause | None]] = [
    (
        "dial-out answered",
        [js("dialout-connected"), js("dialout-answered"), js("dialout-stopped")],
        State.STOPPED,
        Cause.COMPLETED,
    ),
    ("dial-out unanswered", [js("dialout-connected"), js("dialout-stopped")], State.STOPPED, Cause.UNANSWERED),
    ("dial-out busy at once", [js("dialout-stopped")], State.STOPPED, Cause.UNANSWERED),
    (
        "dial-out answered, connected lost",
        [js("dialout-answered"), js("dialout-stopped")],
        State.STOPPED,
        Cause.COMPLETED,
    ),
    ("dial-out failed", [js("dialout-connected"), js("dialout-error")], State.ERROR, Cause.FAILED),
    ("dial-out failed, then stopped", [js("dialout-error"), js("dialout-stopped")], State.ERROR, Cause.FAILED),
    ("dial-out stopped, then failed", [js("dialout-stopped"), js("dialout-error")], State.ERROR, Cause.FAILED),
    ("dial-out refused", [js("dialout-refused")], State.ERROR, Cause.REFUSED),
    ("refused, and an error beside", [js("dialout-refused"), js("dialout-error")], State.ERROR, Cause.FAILED),
    ("dial-out answered, alive", [js("dialout-connected"), js("dialout-answered")], State.ANSWERED, None),
    ("dial-out's party joins while it rings", [js("dialout-connected"), joined()], State.CONNECTED, None),
    ("only asked for", [js("dialout-requested")], State.IDLE, None),
    ("only warned of", [js("dialin-warning")], State.IDLE, None),
    ("dial-in", [js("dialin-connected"), joined(), js("dialin-stopped")], State.STOPPED, Cause.COMPLETED),
    ("dial-in without media", [js("dialin-connected"), js("dialin-stopped")], State.STOPPED, Cause.COMPLETED),
    ("dial-in whose connected was lost", [joined(), js("dialin-stopped")], State.STOPPED, Cause.COMPLETED),
    ("dial-in stopped at once", [js("dialin-stopped")], State.STOPPED, Cause.UNANSWERED),
    ("dial-in joined first", [joined(), js("dialin-connected")], State.ANSWERED, None),
    (
        "dial-in joined and left first",
        [joined(), joined(action="participant-left"), js("dialin-connected")],
        State.ANSWERED,
        None,
    ),
    ("dial-in failed", [js("dialin-connected"), js("dialin-error")], State.ERROR, Cause.FAILED),
    (
        "transferred",
        [js("dialin-connected"), webhook("calltransfer.triggered"), js("dialin-stopped")],
        State.STOPPED,
        Cause.TRANSFERRED,
    ),
    (
        "transfer told after the end",
        [js("dialin-connected"), js("dialin-stopped"), webhook("calltransfer.completed")],
        State.STOPPED,
        Cause.TRANSFERRED,
    ),
    (
        "we transferred it",
        [js("dialout-answered"), js("transfer-requested"), js("dialout-stopped")],
        State.STOPPED,
        Cause.TRANSFERRED,
    ),
]


@pytest.mark.parametrize(("payloads", "state", "cause"), [life[1:] for life in LIVES], ids=[life[0] for life in LIVES])
def test_lives(payloads: list[dict[str, Any]], state: State, cause: Cause | None) -> None:
    """Where they end, and why; an end is told once, and the counts add up."""
    engine = Engine()
    outcomes = [engine.receive(parse(payload)) for payload in payloads]
    session = only(engine)
    assert (session.state, session.cause) == (state, cause)
    assert (session.ended_by is None) == (cause is None)
    assert sum(outcome.ended for outcome in outcomes) == (cause is not None)
    assert sum(outcome.opened for outcome in outcomes) == 1
    assert sum(engine.counts.values()) == engine.received == len(payloads)
    assert session.events == len(payloads)


# --- the rules of outcomes, in their order ------------------------------------------------------------------------


def test_rule_1_a_webhook_told_twice() -> None:
    """By its type and id; whatever else the second one says."""
    engine = Engine()
    assert feed(engine, webhook("dialout.connected")).kind is MOVED
    again = feed(engine, webhook("dialout.connected", destination="+12025550100"))
    assert (again.kind, again.session) == (DUPLICATE, only(engine))
    assert only(engine).duplicates == 1
    assert only(engine).destination is None


def test_rule_1_the_same_id_of_another_type_is_another_event() -> None:
    """Daily's own examples reuse an id over types."""
    engine = Engine()
    feed(engine, webhook("dialout.connected", id="w"))
    assert feed(engine, webhook("dialout.answered", id="w")).kind is MOVED


def test_rule_1_readies_of_one_second_share_an_id() -> None:
    """They are told apart by the endpoint."""
    engine = Engine()
    one = webhook("dialin.ready", None, id="w", sip_endpoint="sip:a@b", room="r")
    other = webhook("dialin.ready", None, id="w", sip_endpoint="sip:c@b", room="r")
    assert [feed(engine, payload).kind for payload in (one, other, one)] == [NOTED, NOTED, DUPLICATE]


def test_rule_1_warnings_of_one_session_share_an_id() -> None:
    """They are told apart by time and text."""
    engine = Engine()
    one = webhook("dialin.warning", id="w", timestamp="10", error_msg="a")
    later = webhook("dialin.warning", id="w", timestamp="11", error_msg="a")
    other = webhook("dialin.warning", id="w", timestamp="10", error_msg="b")
    assert [feed(engine, payload).kind for payload in (one, later, other, one)] == [NOTED, NOTED, NOTED, DUPLICATE]
    assert only(engine).warnings == ("a", "b")


def test_rule_1_a_lifecycle_event_told_twice_without_ids() -> None:
    """Two clients, or a client and a webhook, tell of one session; what only the second knows is kept."""
    engine = Engine()
    feed(engine, webhook("dialin.connected", room="r", timestamp="100"))
    again = feed(engine, js("dialin-connected", sipCallId="c", sipEndpoint="sip:a@b"))
    assert again.kind is DUPLICATE
    assert (only(engine).room, only(engine).sip_call_id) == ("r", "c")
    assert engine.legs("c") == [only(engine)]
    endpoint = engine.endpoint("a@b")
    assert endpoint is not None
    assert endpoint.session_id == SESSION


def test_rule_1_warnings_and_keys_without_ids_are_never_duplicates() -> None:
    """Somebody who presses 1 twice presses it twice."""
    engine = Engine()
    feed(engine, js("dialin-connected"))
    kinds = [feed(engine, payload).kind for payload in [js("dtmf-event", tone="1")] * 2 + [js("dialin-warning")] * 2]
    assert kinds == [NOTED] * 4
    assert only(engine).dtmf == 2


def test_rule_2_no_session_can_be_named() -> None:
    """It speaks of one, but of which?"""
    engine = Engine()
    for payload in (js("dialout-error", None), js("dialin-stopped", None, sipCallId="c"), js("dtmf-event", None)):
        outcome = feed(engine, payload)
        assert (outcome.kind, outcome.session) == (UNMATCHED, None)
    assert len(engine.unmatched()) == 3


def test_rule_1_goes_before_rule_2() -> None:
    """An unmatched webhook told again is a duplicate."""
    engine = Engine()
    nameless = webhook("dialout.error", None, id="w", room="r")
    assert [feed(engine, nameless).kind, feed(engine, nameless).kind] == [UNMATCHED, DUPLICATE]
    assert len(engine.unmatched()) == 1


def test_rule_3_the_wrong_direction() -> None:
    """It says nothing of this session, and is odd; told twice it is a duplicate, by rule 1."""
    engine = Engine()
    feed(engine, js("dialin-connected"))
    outcome = feed(engine, js("dialout-answered", destination="+12025550100"))
    assert outcome.kind is UNEXPECTED
    assert outcome.anomalies == ("dialout-answered came for a dialin session",)
    assert feed(engine, js("dialout-answered")).kind is DUPLICATE
    assert feed(engine, js("dialout-warning")).kind is UNEXPECTED
    assert only(engine).state is State.CONNECTED
    assert only(engine).destination is None
    assert (only(engine).unexpected, only(engine).duplicates) == (2, 1)


def test_rule_4_a_jump_is_one_move() -> None:
    """Idle to answered enters the target only."""
    outcome = feed(Engine(), js("dialout-answered"))
    assert [(move.source, move.target) for move in outcome.moves] == [(State.IDLE, State.ANSWERED)]


def test_rule_5_what_comes_late_is_still_recorded() -> None:
    """A late connected never revives a call, but its time and its ids are worth keeping."""
    engine = Engine()
    feed(engine, webhook("dialout.stopped", timestamp="130"))
    late = feed(engine, webhook("dialout.answered", timestamp="110", destination="+12025550100"))
    feed(engine, webhook("dialout.connected", timestamp="100"))
    session = only(engine)
    assert late.kind is LATE
    assert not late.moves
    assert (session.state, session.cause, session.late, session.amended) == (State.STOPPED, Cause.COMPLETED, 2, True)
    assert (session.started_at, session.ended_at, session.ring_s, session.talk_s) == (100.0, 130.0, 10.0, 20.0)
    assert session.destination == "+12025550100"


@pytest.mark.parametrize(
    "payload",
    [
        js("dtmf-event", tone="1"),
        js("dialin-warning"),
        joined(),
        joined(action="participant-left"),
        js("stop-requested"),
        js("deadline-passed", deadline="ring", dueAt=1),
    ],
)
def test_rule_5_nearly_everything_on_an_ended_session_is_late(payload: dict[str, Any]) -> None:
    """Nobody greets a caller who has hung up."""
    engine = Engine()
    feed(engine, js("dialin-stopped"))
    assert feed(engine, payload).kind is LATE


def test_rule_5_but_not_transfers() -> None:
    """They are told after the leg ended."""
    engine = Engine()
    feed(engine, js("dialin-stopped"))
    assert feed(engine, webhook("calltransfer.answered")).kind is NOTED


def test_rule_6_events_of_no_session() -> None:
    """Endpoints, rooms, waiting callers, sources, types unknown."""
    engine = Engine()
    for payload in (
        {"action": "dialin-ready", "sipEndpoint": "sip:a@b"},
        {"type": "meeting.ended", "payload": {"room": "r"}},
        {"To": "+1", "From": "+2", "callId": "c", "callDomain": "d"},
        {"action": "source-gap"},
        {"action": "new-thing", "sessionId": SESSION},
        joined("nobody's"),
        js("dtmf-event", "nobody's", tone="1"),
        webhook("calltransfer.triggered", "nobody's"),
    ):
        outcome = feed(engine, payload)
        assert (outcome.kind, outcome.session) == (NOTED, None)
    assert not list(engine.sessions())


def test_most_participants_are_no_calls() -> None:
    """They open nothing, and wait in case a session of their id opens."""
    engine = Engine()
    feed(engine, joined("a"), joined("b"), joined("b", "participant-left"))
    assert not list(engine.sessions())
    assert engine.sizes()["early"] == 3
    opened = feed(engine, js("dialin-connected", "b"))
    assert [move.parked for move in opened.moves] == [False, True]
    assert engine.sizes()["early"] == 1


# --- why and by whom ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payloads", "ended_by"),
    [
        ([js("dialout-requested"), js("dialout-answered"), js("dialout-stopped")], EndedBy.REMOTE),
        ([js("dialout-requested"), js("stop-requested"), js("dialout-stopped")], EndedBy.LOCAL),
        ([js("dialout-requested"), js("dialout-stopped"), js("stop-requested")], EndedBy.LOCAL),
        ([js("dialin-connected"), js("stop-requested"), js("dialin-stopped")], EndedBy.LOCAL),
        ([js("dialin-connected"), js("dialin-stopped")], EndedBy.UNKNOWN),
        ([js("dialout-answered"), js("dialout-stopped")], EndedBy.UNKNOWN),
        ([js("dialout-refused")], EndedBy.REMOTE),
        ([js("dialin-connected"), js("transfer-requested"), js("dialin-stopped")], EndedBy.REMOTE),
    ],
)
def test_ended_by(payloads: list[dict[str, Any]], ended_by: EndedBy) -> None:
    """The stopped does not say; what we asked for does."""
    engine = Engine()
    feed(engine, *payloads)
    assert only(engine).ended_by is ended_by


def test_the_error_text_is_kept_whatever_came_first() -> None:
    """An error's text outweighs a stop's and a refusal's."""
    texts = [
        js("dialout-stopped", errorMsg="bye"),
        js("dialout-refused", errorMsg="no"),
        js("dialout-error", errorMsg="boom"),
    ]
    for order in (texts, texts[::-1]):
        engine = Engine()
        feed(engine, *order)
        assert only(engine).error_msg == "boom"


def test_a_refusal_made_here() -> None:
    """In Python no event says so; the id is ours."""
    engine = Engine()
    refusal = DialoutRefused.new("dial-out not enabled for room", destination="+12025550100")
    assert engine.receive(refusal).ended
    session = only(engine)
    assert (session.cause, session.error_msg, session.direction) == (
        Cause.REFUSED,
        refusal.error_msg,
        Direction.DIALOUT,
    )


def test_durations_of_a_dial_out() -> None:
    """Setup from our request to ringing, ring to the answer, talk to the end."""
    engine = Engine()
    for at, payload in (
        (100.0, js("dialout-requested")),
        (101.5, js("dialout-connected")),
        (109.0, js("dialout-answered")),
        (130.25, js("dialout-stopped")),
    ):
        feed(engine, payload, at=at)
    session = only(engine)
    assert (session.started_at, session.ended_at) == (100.0, 130.25)
    assert (session.setup_s, session.ring_s, session.talk_s) == (1.5, 7.5, 21.25)


def test_a_dial_outs_party_joins_while_it_rings() -> None:
    """That is no answer: ring and talk are counted from the answered."""
    engine = Engine()
    for at, payload in (
        (100.0, js("dialout-connected")),
        (101.0, joined()),
        (120.0, js("dialout-answered")),
        (130.0, js("dialout-stopped")),
    ):
        feed(engine, payload, at=at)
    assert (only(engine).ring_s, only(engine).talk_s) == (20.0, 10.0)


def test_a_stop_we_asked_for_told_after_the_end_amends_it() -> None:
    """By whom is known only now."""
    engine = Engine()
    feed(engine, js("dialout-stopped"), js("stop-requested"))
    assert (only(engine).ended_by, only(engine).amended) == (EndedBy.LOCAL, True)


def test_durations_of_a_dial_out_nobody_answered() -> None:
    """It rang until it was given up."""
    engine = Engine()
    feed(engine, js("dialout-connected"), at=100.0)
    feed(engine, js("dialout-stopped"), at=130.0)
    assert (only(engine).setup_s, only(engine).ring_s, only(engine).talk_s) == (None, 30.0, None)


def test_durations_of_a_dial_in() -> None:
    """Setup from connected to media; it does not ring."""
    engine = Engine()
    feed(engine, js("dialin-connected"), at=100.0)
    feed(engine, joined(), at=102.0)
    feed(engine, js("dialin-stopped"), at=110.0)
    assert (only(engine).setup_s, only(engine).ring_s, only(engine).talk_s) == (2.0, None, 8.0)


def test_times_are_unknown_where_nobody_tells_them() -> None:
    """A log of daily-js has none."""
    engine = Engine()
    feed(engine, js("dialout-connected"), js("dialout-answered"), js("dialout-stopped"))
    session = only(engine)
    assert (session.started_at, session.ended_at, session.setup_s, session.ring_s, session.talk_s) == (None,) * 5


def test_the_time_told_goes_before_the_time_received() -> None:
    """A webhook that comes an hour late tells when it happened."""
    engine = Engine()
    feed(engine, webhook("dialout.answered", timestamp="100"), at=100.5)
    feed(engine, webhook("dialout.stopped", timestamp="160"), at=3700.0)
    assert only(engine).talk_s == 60.0


@pytest.mark.parametrize("later_first", [True, False])
def test_of_two_observers_times_the_earlier_counts(*, later_first: bool) -> None:
    """So the order in which they tell does not matter."""
    told = [(100.0, webhook("dialin.connected", timestamp="100")), (102.5, js("dialin-connected"))]
    engine = Engine()
    for _, payload in told[::-1] if later_first else told:
        feed(engine, payload, at=102.5)
    feed(engine, joined(), at=104.0)
    assert (only(engine).started_at, only(engine).setup_s) == (100.0, 4.0)


def test_durations_are_never_negative() -> None:
    """Webhooks round to seconds, clients do not."""
    engine = Engine()
    feed(engine, js("dialout-answered"), at=100.9)
    feed(engine, webhook("dialout.stopped", timestamp="100"), at=101.0)
    assert only(engine).talk_s == 0.0


# --- facts --------------------------------------------------------------------------------------------------------


def test_the_first_value_wins_and_a_disagreement_is_odd() -> None:
    """Two SIP Call-IDs, another destination."""
    engine = Engine()
    feed(engine, js("dialout-connected", sipCallId="a", destination="+12025550100", displayName="x"))
    outcome = feed(engine, js("dialout-answered", sipCallId="b", destination="+12025550199"))
    session = only(engine)
    assert (session.sip_call_id, session.destination) == ("a", "+12025550100")
    assert len(outcome.anomalies) == 2
    assert session.anomalies == outcome.anomalies
    assert engine.legs("b") == []


def test_addresses_are_compared_as_people_mean_them() -> None:
    """With or without `sip:`, whatever the query."""
    engine = Engine()
    feed(
        engine, js("dialin-connected", sipEndpoint="sip:room.0@SIP.daily.co?x-daily_display_name=a", callClientId="one")
    )
    feed(engine, js("dialin-stopped", sipEndpoint="room.0@sip.daily.co", callClientId="two"))
    assert only(engine).anomalies == ()


def test_odd_fields_are_anomalies_of_the_session() -> None:
    """They cost nothing, and are not forgotten."""
    engine = Engine()
    outcome = feed(engine, js("dialout-connected", destination=5))
    assert outcome.kind is MOVED
    assert only(engine).anomalies == ("dialout-connected: destination came as 5",)


def test_an_error_names_the_destination_in_its_details() -> None:
    """It has no field of its own for it."""
    engine = Engine()
    feed(engine, js("dialout-error", details={"destination": "+12025550100"}))
    assert only(engine).destination == "+12025550100"


def test_anomalies_and_warnings_are_bounded() -> None:
    """A warning storm is counted, not hoarded."""
    engine = Engine()
    for n in range(1000):
        feed(engine, js("dialout-warning", errorMsg=f"w{n}", destination=f"+1202555{n:04}"))
    session = only(engine)
    assert session.events == 1000
    assert len(session.warnings) == 5
    assert len(session.anomalies) == 20


def test_what_is_kept_is_bounded() -> None:
    """Ten megabytes in a field do not stay for hours."""
    engine = Engine()
    feed(
        engine, js("dialin-connected", sipFrom="x" * 10_000_000, sipHeaders={f"X-{n}": "v" * 9999 for n in range(999)})
    )
    session = only(engine)
    assert session.sip_from is not None
    assert len(session.sip_from) < 1100
    assert len(str(session.sip_headers)) < 100_000


def test_context_is_the_programs_own() -> None:
    """A dict, made when asked for."""
    engine = Engine()
    feed(engine, js("dialin-connected"))
    only(engine).context["bot"] = 1
    assert only(engine).context == {"bot": 1}
    assert "connected" in repr(only(engine))


# --- misuse -------------------------------------------------------------------------------------------------------


def test_a_payload_is_no_event() -> None:
    """The commonest slip, and what to do."""
    engine = Engine()
    with pytest.raises(TypeError, match=r"use telstate\.parse\(payload\)"):
        engine.receive(js("dialout-connected"))  # type: ignore[arg-type]
    assert engine.received == 0
    with pytest.raises(TypeError, match=r"telstate\.Settings"):
        Engine({"ring_deadline": 5})  # type: ignore[arg-type]


def test_what_is_no_snapshot_is_refused() -> None:
    """Damaged, of another version, or nothing at all."""
    engine = Engine()
    feed(engine, js("dialout-connected"))
    good = engine.snapshot()
    bad: list[Any] = [{}, None, [], {"version": 2}]
    bad += [{**good, key: value} for key, value in (("version", 1), ("registry", {}), ("settings", {"x": 1}))]
    for snapshot in bad:
        with pytest.raises(TelstateError, match="snapshot"):
            Engine.restore(snapshot)


def test_where_it_is_transferred_to_is_kept() -> None:
    """The first target told."""
    engine = Engine()
    feed(engine, js("dialin-connected"), webhook("calltransfer.triggered", to_endpoint="sip:desk@pbx.example"))
    assert only(engine).transferred_to == "sip:desk@pbx.example"
