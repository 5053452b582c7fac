"""The engine: outcomes by their rules, causes by their evidence, and what a session keeps."""

from __future__ import annotations

import json
from typing import Any

import pytest

from telstate import (
    Cause,
    DialoutRefused,
    Direction,
    EndedBy,
    Engine,
    Event,
    OutcomeKind,
    Session,
    State,
    TelstateError,
    Unmatched,
    parse,
)
from tests.calls import SESSION, feed, joined, js, webhook

MOVED, NOTED, DUPLICATE, LATE, UNEXPECTED, UNMATCHED = OutcomeKind


def only(engine: Engine) -> Session:
    """Return the only session."""
    (session,) = engine.sessions()
    return session


def path(session: Session) -> list[str]:
    """Return the states that a session went through."""
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
    ("dial-out refused, and an error", [js("dialout-refused"), js("dialout-error")], State.ERROR, Cause.FAILED),
    ("dial-out answered, live", [js("dialout-connected"), js("dialout-answered")], State.ANSWERED, None),
    ("callee of a dial-out joins while it rings", [js("dialout-connected"), joined()], State.CONNECTED, None),
    ("only requested", [js("dialout-requested")], State.IDLE, None),
    ("only a warning", [js("dialin-warning")], State.IDLE, None),
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
        "transfer reported after the end",
        [js("dialin-connected"), js("dialin-stopped"), webhook("calltransfer.completed")],
        State.STOPPED,
        Cause.TRANSFERRED,
    ),
    (
        "transfer requested",
        [js("dialout-answered"), js("transfer-requested"), js("dialout-stopped")],
        State.STOPPED,
        Cause.TRANSFERRED,
    ),
]


@pytest.mark.parametrize(("payloads", "state", "cause"), [life[1:] for life in LIVES], ids=[life[0] for life in LIVES])
def test_lives_of_a_session(payloads: list[dict[str, Any]], state: State, cause: Cause | None) -> None:
    """State and cause are right, the session opens and ends once, and the counts add up."""
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


def test_rule_1_a_webhook_received_twice_is_a_duplicate() -> None:
    """By type and id, whatever else the second one says."""
    engine = Engine()
    assert feed(engine, webhook("dialout.connected")).kind is MOVED
    again = feed(engine, webhook("dialout.connected", destination="+12025550100"))
    assert (again.kind, again.session) == (DUPLICATE, only(engine))
    assert only(engine).duplicates == 1
    assert only(engine).destination is None


def test_rule_1_an_id_of_another_type_is_another_event() -> None:
    """Daily's own examples use one id for several types."""
    engine = Engine()
    feed(engine, webhook("dialout.connected", id="w"))
    assert feed(engine, webhook("dialout.answered", id="w")).kind is MOVED


def test_rule_1_readies_with_one_id_differ_by_endpoint() -> None:
    """The id has only the second."""
    engine = Engine()
    one = webhook("dialin.ready", None, id="w", sip_endpoint="sip:a@b", room="r")
    other = webhook("dialin.ready", None, id="w", sip_endpoint="sip:c@b", room="r")
    assert [feed(engine, payload).kind for payload in (one, other, one)] == [NOTED, NOTED, DUPLICATE]


def test_rule_1_warnings_with_one_id_differ_by_time_and_text() -> None:
    """All warnings of a session share an id."""
    engine = Engine()
    one = webhook("dialin.warning", id="w", timestamp="10", error_msg="a")
    later = webhook("dialin.warning", id="w", timestamp="11", error_msg="a")
    other = webhook("dialin.warning", id="w", timestamp="10", error_msg="b")
    assert [feed(engine, payload).kind for payload in (one, later, other, one)] == [NOTED, NOTED, NOTED, DUPLICATE]
    assert only(engine).warnings == ("a", "b")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (webhook("dialin.connected", "a", id="w"), webhook("dialin.connected", "b", id="w")),
        (webhook("participant.left", "a", id="w", joined_at=5), webhook("participant.left", "b", id="w", joined_at=5)),
        (webhook("participant.left", "a", id="w", joined_at=5), webhook("participant.left", "a", id="w", joined_at=9)),
        (webhook("meeting.ended", None, id="w", room="r"), webhook("meeting.ended", None, id="w", room="s")),
        (
            webhook("meeting.ended", None, id="w", room="r"),
            webhook("meeting.ended", None, id="w", room="r", meeting_id="m"),
        ),
    ],
)
def test_rule_1_an_id_of_another_session_stay_or_meeting_is_another_event(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    """No redelivery differs in these."""
    engine = Engine()
    kinds = [feed(engine, payload).kind for payload in (one, other, one, other)]
    assert DUPLICATE not in kinds[:2]
    assert kinds[2:] == [DUPLICATE, DUPLICATE]


def test_rule_1_a_second_lifecycle_event_without_id_is_a_duplicate() -> None:
    """A client and a webhook report one session; what only the second one reports is kept."""
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
    """A key that is pressed twice counts twice."""
    engine = Engine()
    feed(engine, js("dialin-connected"))
    kinds = [feed(engine, payload).kind for payload in [js("dtmf-event", tone="1")] * 2 + [js("dialin-warning")] * 2]
    assert kinds == [NOTED] * 4
    assert only(engine).dtmf == 2


def test_rule_2_an_event_without_a_matching_session_is_unmatched() -> None:
    """It is about a session, but nothing says which."""
    engine = Engine()
    for payload in (js("dialout-error", None), js("dialin-stopped", None, sipCallId="c"), js("dtmf-event", None)):
        outcome = feed(engine, payload)
        assert (outcome.kind, outcome.session) == (UNMATCHED, None)
    assert len(engine.unmatched()) == 3


def test_rule_1_is_tried_before_rule_2() -> None:
    """An unmatched webhook that is received again is a duplicate."""
    engine = Engine()
    nameless = webhook("dialout.error", None, id="w", room="r")
    assert [feed(engine, nameless).kind, feed(engine, nameless).kind] == [UNMATCHED, DUPLICATE]
    assert len(engine.unmatched()) == 1


def test_rule_3_an_event_of_the_other_direction_is_unexpected() -> None:
    """It says nothing about the session and is an anomaly. A second one is a duplicate, by rule 1."""
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
    """From idle to answered, without entering connected."""
    outcome = feed(Engine(), js("dialout-answered"))
    assert [(move.source, move.target) for move in outcome.moves] == [(State.IDLE, State.ANSWERED)]


def test_rule_5_a_late_event_is_still_recorded() -> None:
    """A late connected never revives a call, but its time and its ids are kept."""
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
        js("stop-requested"),
        js("deadline-passed", deadline="ring", dueAt=1),
    ],
)
def test_rule_5_most_events_of_an_ended_session_are_late(payload: dict[str, Any]) -> None:
    """No handler should greet a caller who has hung up."""
    engine = Engine()
    feed(engine, js("dialin-stopped"))
    assert feed(engine, payload).kind is LATE


def test_rule_5_a_transfer_of_an_ended_session_is_noted() -> None:
    """Transfers are often reported after the leg ended."""
    engine = Engine()
    feed(engine, js("dialin-stopped"))
    assert feed(engine, webhook("calltransfer.answered")).kind is NOTED


def test_rule_6_an_event_of_no_session_is_noted() -> None:
    """Endpoints, rooms, callers on hold, sources, unknown types, and sessions not yet known."""
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


def test_a_participant_opens_no_session() -> None:
    """Its events are parked in case a session of its id opens."""
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
    """The stopped does not say it; the requests of this program do."""
    engine = Engine()
    feed(engine, *payloads)
    assert only(engine).ended_by is ended_by


def test_the_text_of_an_error_outweighs_those_of_a_stop_and_a_refusal() -> None:
    """In any order of arrival."""
    texts = [
        js("dialout-stopped", errorMsg="bye"),
        js("dialout-refused", errorMsg="no"),
        js("dialout-error", errorMsg="boom"),
    ]
    for order in (texts, texts[::-1]):
        engine = Engine()
        feed(engine, *order)
        assert only(engine).error_msg == "boom"


def test_a_refusal_made_by_this_program() -> None:
    """In Python no event reports it, so the id is made here."""
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
    """Setup lasts from the request to ringing, ring to the answer, talk to the end."""
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


def test_the_callee_of_a_dial_out_joins_while_it_rings() -> None:
    """That is no answer: ring and talk count from the answered."""
    engine = Engine()
    for at, payload in (
        (100.0, js("dialout-connected")),
        (101.0, joined()),
        (120.0, js("dialout-answered")),
        (130.0, js("dialout-stopped")),
    ):
        feed(engine, payload, at=at)
    assert (only(engine).ring_s, only(engine).talk_s) == (20.0, 10.0)


def test_a_stop_request_after_the_end_amends_the_session() -> None:
    """Only then is it known who ended it."""
    engine = Engine()
    feed(engine, js("dialout-stopped"), js("stop-requested"))
    assert (only(engine).ended_by, only(engine).amended) == (EndedBy.LOCAL, True)


def test_durations_of_an_unanswered_dial_out() -> None:
    """It rang until it was given up."""
    engine = Engine()
    feed(engine, js("dialout-connected"), at=100.0)
    feed(engine, js("dialout-stopped"), at=130.0)
    assert (only(engine).setup_s, only(engine).ring_s, only(engine).talk_s) == (None, 30.0, None)


def test_durations_of_a_dial_in() -> None:
    """Setup lasts from connected to media. It does not ring."""
    engine = Engine()
    feed(engine, js("dialin-connected"), at=100.0)
    feed(engine, joined(), at=102.0)
    feed(engine, js("dialin-stopped"), at=110.0)
    assert (only(engine).setup_s, only(engine).ring_s, only(engine).talk_s) == (2.0, None, 8.0)


def test_times_are_unknown_in_a_log_without_times() -> None:
    """For example in a log of daily-js."""
    engine = Engine()
    feed(engine, js("dialout-connected"), js("dialout-answered"), js("dialout-stopped"))
    session = only(engine)
    assert (session.started_at, session.ended_at, session.setup_s, session.ring_s, session.talk_s) == (None,) * 5


def test_the_time_of_an_event_outweighs_the_time_of_its_receipt() -> None:
    """A webhook that arrives an hour late says when it happened."""
    engine = Engine()
    feed(engine, webhook("dialout.answered", timestamp="100"), at=100.5)
    feed(engine, webhook("dialout.stopped", timestamp="160"), at=3700.0)
    assert only(engine).talk_s == 60.0


@pytest.mark.parametrize("later_first", [True, False])
def test_the_earlier_time_of_two_observers_counts(*, later_first: bool) -> None:
    """So the order of their reports does not matter."""
    reports = [webhook("dialin.connected", timestamp="100"), js("dialin-connected")]
    engine = Engine()
    for payload in reports[::-1] if later_first else reports:
        feed(engine, payload, at=102.5)
    feed(engine, joined(), at=104.0)
    assert (only(engine).started_at, only(engine).setup_s) == (100.0, 4.0)


def test_durations_are_never_negative() -> None:
    """Webhooks round to whole seconds, clients do not."""
    engine = Engine()
    feed(engine, js("dialout-answered"), at=100.9)
    feed(engine, webhook("dialout.stopped", timestamp="100"), at=101.0)
    assert only(engine).talk_s == 0.0


# --- facts --------------------------------------------------------------------------------------------------------


def test_the_first_value_wins_and_another_is_an_anomaly() -> None:
    """Two SIP Call-IDs, another destination."""
    engine = Engine()
    feed(engine, js("dialout-connected", sipCallId="a", destination="+12025550100", displayName="x"))
    outcome = feed(engine, js("dialout-answered", sipCallId="b", destination="+12025550199"))
    session = only(engine)
    assert (session.sip_call_id, session.destination) == ("a", "+12025550100")
    assert len(outcome.anomalies) == 2
    assert session.anomalies == outcome.anomalies
    assert engine.legs("b") == []


def test_two_spellings_of_one_address_agree() -> None:
    """With or without `sip:` and query."""
    engine = Engine()
    feed(
        engine, js("dialin-connected", sipEndpoint="sip:room.0@SIP.daily.co?x-daily_display_name=a", callClientId="one")
    )
    feed(engine, js("dialin-stopped", sipEndpoint="room.0@sip.daily.co", callClientId="two"))
    assert only(engine).anomalies == ()


def test_odd_fields_are_anomalies_of_the_session() -> None:
    """They do not keep the event from being applied."""
    engine = Engine()
    outcome = feed(engine, js("dialout-connected", destination=5))
    assert outcome.kind is MOVED
    assert only(engine).anomalies == ("dialout-connected: destination came as 5",)


def test_the_destination_of_an_error_is_in_its_details() -> None:
    """It has no field for it."""
    engine = Engine()
    feed(engine, js("dialout-error", details={"destination": "+12025550100"}))
    assert only(engine).destination == "+12025550100"


def test_anomalies_and_warnings_are_bounded() -> None:
    """A thousand warnings are counted; only a few are kept."""
    engine = Engine()
    for n in range(1000):
        feed(engine, js("dialout-warning", errorMsg=f"w{n}", destination=f"+1202555{n:04}"))
    session = only(engine)
    assert session.events == 1000
    assert len(session.warnings) == 5
    assert len(session.anomalies) == 20


def test_the_values_of_a_session_are_bounded() -> None:
    """Ten megabytes in a field do not stay in memory for hours."""
    engine = Engine()
    feed(
        engine, js("dialin-connected", sipFrom="x" * 10_000_000, sipHeaders={f"X-{n}": "v" * 9999 for n in range(999)})
    )
    session = only(engine)
    assert session.sip_from is not None
    assert len(session.sip_from) < 1100
    assert len(str(session.sip_headers)) < 100_000


# --- misuse -------------------------------------------------------------------------------------------------------


def test_a_payload_instead_of_an_event_is_refused() -> None:
    """The message says what to do."""
    engine = Engine()
    with pytest.raises(TypeError, match=r"use telstate\.parse\(payload\)"):
        engine.receive(js("dialout-connected"))  # type: ignore[arg-type]
    assert engine.received == 0
    with pytest.raises(TypeError, match=r"telstate\.Settings"):
        Engine({"ring_deadline": 5})  # type: ignore[arg-type]


def test_numbers_are_those_of_the_journal() -> None:
    """They may have gaps, and must rise. A number that does not is refused, and nothing has changed then."""
    engine = Engine()
    engine.receive(parse(js("dialin-connected", "a")), 5.0, 7)
    engine.receive(parse(js("dialin-connected", "b")))
    engine.receive(parse(js("dialin-connected", "c")), None, 20)
    assert [session.opened for session in engine.sessions()] == [7, 8, 20]
    for number in (20, 3):
        with pytest.raises(ValueError, match=f"number: expected more than 20, .* got {number}"):
            engine.receive(parse(js("dialin-connected", "d")), 9.0, number)
    assert (engine.received, engine.now) == (3, 5.0)
    again = Engine.restore(json.loads(json.dumps(engine.snapshot())))
    with pytest.raises(ValueError, match="number"):
        again.receive(parse(js("dialin-connected", "d")), None, 20)


def test_a_parked_event_is_neither_encoded_nor_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the same object when it is released or given up; only a snapshot encodes it."""
    monkeypatch.setattr(Event, "to_json", lambda _: pytest.fail("an event was encoded"))
    engine = Engine()
    for session_id in ("a", "b"):
        feed(engine, joined(session_id), js("dialin-stopped", None, sipCallId=session_id), at=1.0)
    assert [move.parked for move in feed(engine, js("dialin-connected", "a", sipCallId="a"), at=2.0).moves] == [
        False,
        True,
        True,
    ]
    (parked,) = engine.unmatched()
    (gone,) = (gone for gone in engine.advance(7300.0) if isinstance(gone, Unmatched))
    assert gone.event is parked.event


def test_an_invalid_snapshot_is_refused() -> None:
    """Damaged, of another version, or not a snapshot at all."""
    engine = Engine()
    feed(engine, js("dialout-connected"))
    good = engine.snapshot()
    bad: list[Any] = [{}, None, [], {"version": 2}]
    bad += [{**good, key: value} for key, value in (("version", 1), ("registry", {}), ("settings", {"x": 1}))]
    for snapshot in bad:
        with pytest.raises(TelstateError, match="snapshot"):
            Engine.restore(snapshot)
