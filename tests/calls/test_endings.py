"""Signs of an end: which end a session, when, how that is known, and what outweighs them."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import pytest

from telstate import (
    Cause,
    DialoutRequested,
    EndedBy,
    EndSign,
    EndSource,
    Engine,
    Outcome,
    OutcomeKind,
    Presence,
    PresenceChecked,
    Session,
    Settings,
    State,
    StopRequested,
    parse,
)
from tests.calls import joined, js, webhook

T = 1_790_000_000.0
HOUR = 3600.0
Record = tuple[float, Any]
"""Seconds after T at which a payload arrived, and the payload."""


def dialect_of(payload: Any) -> str:
    """Return the dialect of a payload."""
    return next(
        name
        for key, name in (("action", "daily-js"), ("type", "webhook"), ("handler", "daily-python"))
        if key in payload
    )


def run(*records: Record, engine: Engine | None = None) -> Engine:
    """Feed records to an engine, each with its own time of receipt."""
    engine = engine or Engine()
    for at, payload in records:
        give(engine, at, payload)
    return engine


def give(engine: Engine, at: float, payload: Any) -> Outcome:
    """Feed one record."""
    if isinstance(payload, dict):
        return engine.receive(parse(payload), T + at, dialect=dialect_of(payload))
    return engine.receive(payload, T + at)


def pass_time(engine: Engine, at: float) -> list[Outcome]:
    """Let time pass up to `at`, with all limits in between, as a dispatcher does."""
    outcomes = []
    while (due := engine.next_deadline()) is not None and due <= T + at:
        outcomes += [engine.receive(limit, max(due, engine.now or 0.0)) for limit in engine.passed(due)]
        engine.advance(due)
    engine.advance(T + at)
    return outcomes


def known(engine: Engine, session_id: str = "a") -> Session:
    """Return a session."""
    session = engine.session(session_id)
    assert session is not None
    return session


def end(session: Session) -> tuple[Any, ...]:
    """Return what is known of an end."""
    at = session.ended_at
    return (
        str(session.state),
        session.cause and str(session.cause),
        session.end_source and str(session.end_source),
        session.end_sign and str(session.end_sign),
        None if at is None else round(at - T, 3),
    )


# --- payloads -----------------------------------------------------------------------------------------------------


def hook(kind: str, at: float, session_id: str = "a", *, room: str = "r", **fields: Any) -> Record:
    """A webhook about a session, which arrives 0.4 s later."""
    payload = webhook(kind, session_id, id=f"{kind}-{session_id}-{at}", timestamp=str(int(T + at)), room=room, **fields)
    return at + 0.4, payload


def person(kind: str, session_id: str, since: float, stayed: float | None = None, *, room: str = "r") -> Record:
    """A participant webhook: joined, or left after a time."""
    fields: dict[str, Any] = {"joined_at": T + since, "room": room}
    if stayed is not None:
        fields["duration"] = stayed
    at = since + (stayed or 0.0) + 0.4
    return at, webhook(f"participant.{kind}", session_id, id=f"{kind}-{session_id}-{since}", **fields)


def called(name: str, session_id: str | None = None, **scope: Any) -> dict[str, Any]:
    """A callback of daily-python."""
    if name.startswith("participant"):
        data: Any = {"id": session_id, "info": {}}
    else:
        data = None if session_id is None else {"sessionId": session_id}
    return {"handler": f"on_{name}", "data": data, **scope}


def meeting(end_ts: float, *, room: str = "r", at: float | None = None, **fields: Any) -> Record:
    """A meeting's end."""
    payload = {"start_ts": T - 5, "end_ts": T + end_ts, "meeting_id": f"m{end_ts}", "room": room, **fields}
    return (end_ts + 0.4 if at is None else at), {"type": "meeting.ended", "id": f"m{end_ts}", "payload": payload}


DIALIN = (hook("dialin.connected", 0), person("joined", "a", 1))
DIALOUT = (hook("dialout.connected", 0), hook("dialout.answered", 10))
PYTHON = ((0.0, called("dialin_connected", "a")), (1.0, called("participant_joined", "a")))


# --- each sign ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("records", "sign", "at"),
    [
        ((*DIALIN, person("left", "a", 1, 88)), "participant-left", 89),
        ((*DIALOUT, person("joined", "a", 4), person("left", "a", 4, 86)), "participant-left", 90),
        ((*DIALIN, (90.0, joined("a", "participant-left"))), "participant-left", 90),
        ((*PYTHON, (90.0, called("participant_left", "a"))), "participant-left", 90),
        ((*DIALIN, meeting(90)), "meeting-ended", 90),
        ((*DIALOUT, meeting(90, at=990)), "meeting-ended", 90),
        ((*PYTHON, (90.0, called("left"))), "client-left", 90),
        ((*PYTHON, (90.0, {"handler": "on_call_state_updated", "data": "left"})), "client-left", 90),
        (
            (
                (0.0, js("dialout-answered", callClientId="k", session_id="a")),
                (90.0, {"action": "left-meeting", "callClientId": "k"}),
            ),
            "client-left",
            90,
        ),
    ],
)
def test_a_sign_ends_a_session_after_its_grace(records: tuple[Record, ...], sign: str, at: float) -> None:
    """It is uncertain until then, and its durations end at the time of the sign."""
    engine = run(*records)
    learned = records[-1][0]
    session = known(engine)
    assert (session.ended, session.uncertain) == (False, True)
    pass_time(engine, learned + 59.9)
    assert not session.ended
    (outcome,) = pass_time(engine, learned + 60)
    assert (outcome.kind, outcome.ended, outcome.moves[0].event) == (OutcomeKind.MOVED, True, "end-inferred")
    assert end(session) == ("stopped", "completed", "inferred", sign, at)
    assert session.ended_by == ("local" if sign == "client-left" else "unknown")
    assert (session.uncertain, session.amended, session.anomalies) == (False, False, ())
    assert session.talk_s == pytest.approx(at - (session.answered_at or 0.0) + T)
    pass_time(engine, 9 * HOUR)
    assert set(engine.sizes().values()) == {0}


def test_a_session_that_was_not_answered_is_unanswered() -> None:
    """As with an end that Daily reports. The ring ends with the sign, not with the grace."""
    engine = run(hook("dialout.connected", 0), meeting(30))
    pass_time(engine, 100)
    assert end(known(engine)) == ("stopped", "unanswered", "inferred", "meeting-ended", 30)
    assert (known(engine).ring_s, known(engine).talk_s) == (30, None)


@pytest.mark.parametrize("with_joined", [False, True])
@pytest.mark.parametrize("is_told", [False, True])
def test_a_participant_who_left_says_since_when_media_flowed(is_told: bool, with_joined: bool) -> None:
    """Nobody may have reported that they joined. In any order; what is known only after the end amends it."""
    records = [hook("dialin.connected", 1), person("left", "a", 2, 88)]
    records += [hook("dialin.stopped", 90)] if is_told else []
    records += [person("joined", "a", 2)] if with_joined else []
    for order in permutations(records):
        engine = run(*order)
        engine.infer_ends(None)
        (session,) = engine.sessions()
        assert (session.state, session.cause, session.was_answered) == (State.STOPPED, Cause.COMPLETED, True)
        assert (session.started_at, session.answered_at, session.talk_s) == (T + 1, T + 2, 88.0)
        assert session.end_source is (EndSource.TOLD if is_told else EndSource.INFERRED)


def test_the_stay_of_a_callee_is_no_answer() -> None:
    """They join while it rings. But a stay that is reported after the end amends a dial-in."""
    left = person("left", "a", 2, 20)
    (callee,) = run(hook("dialout.stopped", 22), left).sessions()
    assert (callee.cause, callee.answered_at, callee.started_at) == (Cause.UNANSWERED, None, T + 2)
    engine = run(hook("dialin.stopped", 22))
    (caller,) = engine.sessions()
    assert (caller.cause, caller.amended) == (Cause.UNANSWERED, False)
    assert give(engine, *left).changed == (caller,)
    assert (caller.cause, caller.talk_s, caller.amended) == (Cause.COMPLETED, 20.0, True)


def test_an_end_that_daily_reports_outweighs_a_sign_in_any_order() -> None:
    """And silence. The time is that of the report."""
    records = (*DIALIN, person("left", "a", 1, 70), meeting(80), hook("dialin.stopped", 75))
    for order in permutations(records):
        engine = run(*order)
        assert end(known(engine)) == ("stopped", "completed", "told", None, 75)
        assert (known(engine).talk_s, known(engine).uncertain) == (74, False)
        assert pass_time(engine, 3000) == []


def test_an_end_that_is_reported_after_the_inferred_one_amends_it() -> None:
    """Handlers of `on_end` were given the other."""
    engine = run(*DIALIN, meeting(80))
    pass_time(engine, 200)
    outcome = give(engine, *hook("dialin.stopped", 75))
    assert (outcome.kind, outcome.changed, known(engine).amended) == (OutcomeKind.LATE, (known(engine),), True)
    assert end(known(engine)) == ("stopped", "completed", "told", None, 75)
    engine = run(*DIALIN, meeting(80))
    pass_time(engine, 200)
    give(engine, *hook("dialin.error", 75, error_msg="x"))
    assert end(known(engine)) == ("error", "failed", "told", None, 75)


def test_a_sign_that_arrives_after_the_silence_limit_outweighs_it() -> None:
    """What was assumed is inferred then, and amended."""
    engine = run(*DIALIN)
    pass_time(engine, 25 * HOUR)
    assert end(known(engine)) == ("stopped", "expired", "assumed", None, 1)
    assert known(engine).ended_by is EndedBy.SYSTEM
    outcome = give(engine, *meeting(80, at=25 * HOUR + 1))
    assert end(known(engine)) == ("stopped", "completed", "inferred", "meeting-ended", 80)
    assert (outcome.changed, known(engine).amended, known(engine).talk_s) == ((known(engine),), True, 79)


def test_the_earliest_sign_that_holds_is_the_end() -> None:
    """In any order."""
    records = (*DIALIN, person("left", "a", 1, 70), meeting(80), meeting(90))
    for order in permutations(records):
        engine = run(*order)
        pass_time(engine, 500)
        assert end(known(engine)) == ("stopped", "completed", "inferred", "participant-left", 71)


# --- what refutes a sign --------------------------------------------------------------------------------------------


def test_a_participant_who_joins_again_has_not_left() -> None:
    """The later stay decides, also if it is reported first."""
    records = (*DIALIN, person("left", "a", 1, 29), person("joined", "a", 40))
    for order in permutations(records):
        engine = run(*order)
        assert (known(engine).uncertain, pass_time(engine, 12 * HOUR)) == (False, [])
        assert known(engine).state is State.ANSWERED
    engine = run(*records, person("left", "a", 40, 50))
    pass_time(engine, 500)
    assert end(known(engine)) == ("stopped", "completed", "inferred", "participant-left", 90)


def test_a_known_stay_is_not_refuted_by_other_life() -> None:
    """A key press is reported late, or by another clock."""
    records = (*DIALIN, person("left", "a", 1, 88), (96.0, js("dtmf-event", "a", tone="1")))
    for order in permutations(records):
        engine = run(*order)
        pass_time(engine, 500)
        assert end(known(engine)) == ("stopped", "completed", "inferred", "participant-left", 89)


@pytest.mark.parametrize(("life", "refutes"), [(94.9, False), (95.1, True)])
def test_life_by_another_clock_refutes_a_sign_only_after_five_seconds(life: float, refutes: bool) -> None:
    """Daily's clock and ours may differ. By one clock, any life after the sign counts."""
    for order in permutations((*DIALIN, meeting(90), (life, js("dtmf-event", "a", tone="1")))):
        engine = run(*order)
        pass_time(engine, 500)
        assert known(engine).ended is not refutes
    for order in permutations((*PYTHON, (90.0, called("participant_left", "a")), (90.1, js("dialin-warning", "a")))):
        engine = run(*order)
        pass_time(engine, 500)
        assert not known(engine).ended


@pytest.mark.parametrize(
    "no_life",
    [
        StopRequested(session_id="a"),
        {
            "type": "calltransfer.triggered",
            "id": "t",
            "payload": {"session_id": "a", "timestamp": str(int(T + 300)), "to_endpoint": "x"},
        },
        person("left", "b", 1, 300)[1],
    ],
)
def test_what_this_program_does_is_no_life(no_life: Any) -> None:
    """Nor is a step of a transfer, or another participant."""
    engine = run(*DIALIN, meeting(90), (120, no_life))
    pass_time(engine, 160)
    assert known(engine).end_sign == "meeting-ended"


def test_life_after_a_sign_stops_its_grace() -> None:
    """And the doubt."""
    engine = run(*DIALIN, meeting(90))
    outcome = give(engine, 120, js("dtmf-event", "a", tone="1"))
    assert (known(engine).uncertain, outcome.changed) == (False, (known(engine),))
    assert pass_time(engine, 12 * HOUR) == []


def test_a_second_sign_has_a_grace_of_its_own() -> None:
    """If life refutes the first one, the minute counts from when the second was learned."""
    engine = run(
        *DIALIN,
        (50.0, joined("a", "participant-left")),
        (80.0, meeting(70)[1]),
        (95.0, js("dtmf-event", "b", tone="1")),
    )
    give(engine, 100, webhook("dialin.warning", "a", timestamp=str(int(T + 60)), room="r", error_msg="x"))
    assert known(engine).uncertain
    assert pass_time(engine, 139.9) == []
    assert len(pass_time(engine, 140)) == 1
    assert end(known(engine))[3:] == ("meeting-ended", 70)


def test_the_grace_is_a_setting() -> None:
    """Changed for running ones too."""
    engine = run(*DIALIN, meeting(90), engine=Engine(Settings(end_grace=5)))
    pass_time(engine, 95.4)
    assert known(engine).ended


# --- rooms and clients ----------------------------------------------------------------------------------------------


def test_a_meeting_ends_the_calls_that_were_in_it() -> None:
    """Of its room and domain, and not those that began after it."""
    sessions = (
        hook("dialin.connected", 0, "in it", domain_id="d"),
        hook("dialin.connected", 0, "of unknown domain"),
        hook("dialin.connected", 0, "of another domain", domain_id="e"),
        hook("dialin.connected", 0, "in another room", room="s", domain_id="d"),
        hook("dialin.connected", 95, "of the next meeting", domain_id="d"),
    )
    ended = meeting(90, at=300, domain_id="d")
    requested = (91.0, DialoutRequested(session_id="requested later", room="r", domain_id="d"))
    for place in range(len(sessions) + 1):
        engine = run(*sessions[:place], ended, *sessions[place:], requested)
        pass_time(engine, 380)
        found = {session.session_id for session in engine.sessions() if session.ended}
        assert found == {"in it", "of unknown domain"}


def test_a_domain_that_becomes_known_later_decides() -> None:
    """In any order: a room of another domain has the same name."""
    for domain, ends in (("d", True), ("e", False)):
        records = (
            (0.0, js("dialin-connected", "a", room="r")),
            meeting(90, domain_id="d"),
            hook("dialin.connected", 0, domain_id=domain),
        )
        for order in permutations(records):
            engine = run(*order)
            assert known(engine).uncertain is ends
            pass_time(engine, 400)
            assert known(engine).ended is ends


def test_a_session_whose_room_becomes_known_later_gets_the_sign_then() -> None:
    """Within retention."""
    engine = run((0.0, js("dialin-connected", "a")), meeting(90))
    assert not known(engine).uncertain
    give(engine, *hook("dialin.connected", 0))
    assert known(engine).uncertain
    again = Engine.restore(json.loads(json.dumps(run(meeting(90)).snapshot())))
    run(*DIALIN, engine=again)
    pass_time(again, 200)
    assert end(known(again))[3:] == ("meeting-ended", 90)


@pytest.mark.parametrize(
    ("others", "ends"),
    [
        ((), True),
        ((hook("dialin.connected", 0),), False),
        (((2.0, js("dialin-warning", "a")),), False),
        (((2.0, called("dialin_warning", "a", callClientId="other")),), False),
        (((2.0, StopRequested(session_id="a")),), True),
    ],
)
def test_a_client_that_left_ends_only_what_nobody_else_reports(others: tuple[Record, ...], ends: bool) -> None:
    """Others would report the end. In any order."""
    for order in permutations((*PYTHON, *others, (90.0, called("left")))):
        engine = run(*order)
        assert known(engine).uncertain is ends
        pass_time(engine, 200)
        assert known(engine).ended is ends


def test_a_client_with_an_id_or_a_room_left_only_its_own_sessions() -> None:
    """Several bots in one process."""
    for scope, other in (
        ({"callClientId": "k"}, {"callClientId": "l"}),
        ({"room": "r"}, {"room": "s"}),
        ({"callClientId": "k", "room": "r"}, {"callClientId": "l", "room": "r"}),
    ):
        sessions = [(0.0, called("dialin_connected", "a", **scope)), (0.0, called("dialin_connected", "b", **other))]
        engine = run(*sessions, (90.0, called("left", **scope)))
        pass_time(engine, 151)
        assert (known(engine).ended, known(engine, "b").ended) == (True, False)
        assert known(engine).ended_by is EndedBy.LOCAL


def test_a_dialout_that_was_only_requested_ends_with_its_client() -> None:
    """No event of it may ever come."""
    engine = run((0.0, DialoutRequested(session_id="a", call_client_id="k")), (5.0, called("left", callClientId="k")))
    pass_time(engine, 70)
    assert end(known(engine)) == ("stopped", "unanswered", "inferred", "client-left", 5)


@pytest.mark.parametrize(("after", "ended_by"), [(0, "local"), (4, "local"), (6, "unknown"), (-1, "unknown")])
def test_an_end_that_follows_our_leaving_is_ours(after: float, ended_by: str) -> None:
    """Within five seconds. In any order, and the sign itself is not needed then."""
    stopped = (90.0 + after, called("dialin_stopped", "a"))
    for order in permutations((*PYTHON, stopped, (90.0, called("left")))):
        engine = run(*order)
        assert (known(engine).end_source, known(engine).ended_by) == (EndSource.TOLD, ended_by)


def test_a_doubtful_call_that_is_confirmed_after_our_leaving_lives() -> None:
    """Somebody asked Daily: the caller talks to a person now."""
    engine = run(*PYTHON, (90.0, called("left")), (91.0, PresenceChecked(session_id="a", presence=Presence.ALIVE)))
    assert (known(engine).uncertain, pass_time(engine, 9 * HOUR)) == (False, [])


# --- the next caller on the endpoint --------------------------------------------------------------------------------

URI = "sip:r.0@example.sip.daily.co"
READY = (
    0.0,
    {"type": "dialin.ready", "id": "y", "payload": {"room": "r", "sip_endpoint": URI, "timestamp": str(int(T))}},
)
CALLERS = tuple(hook("dialin.connected", at, name) for name, at in (("a", 1), ("b", 40), ("c", 70)))


def test_the_next_caller_on_an_endpoint_displaces_the_one_before() -> None:
    """By their times, in any order; the last one stays."""
    for order in permutations((*CALLERS, person("joined", "a", 2), person("joined", "b", 41))):
        engine = run(READY, *order)
        pass_time(engine, 500)
        assert end(known(engine)) == ("stopped", "completed", "inferred", "next-caller", 40)
        assert end(known(engine, "b"))[3:] == ("next-caller", 70)
        assert (known(engine, "c").ended, known(engine, "c").uncertain) == (False, False)
        assert not any(session.anomalies for session in engine.sessions())


def test_callers_at_one_time_displace_nobody() -> None:
    """Both displace the one before, and the next displaces both."""
    records = [hook("dialin.connected", at, name) for name, at in (("a", 1), ("b", 40), ("c", 40), ("d", 90))]
    for order in permutations(records):
        engine = run(READY, *order)
        pass_time(engine, 300)
        found = {session.session_id: end(session)[3:] for session in engine.sessions()}
        assert found == {
            "a": ("next-caller", 40),
            "b": ("next-caller", 90),
            "c": ("next-caller", 90),
            "d": (None, None),
        }


def test_a_next_caller_who_comes_late_says_little_about_the_end_before() -> None:
    """After ten minutes without life, the last sign of life counts."""
    for at, ended_at in ((600, 600), (602, 1)):
        engine = run(READY, *DIALIN, hook("dialin.connected", at, "b"))
        pass_time(engine, 700)
        assert end(known(engine)) == ("stopped", "completed", "inferred", "next-caller", ended_at)


LEFT = person("left", "a", 1, 499)
GONE: list[Record] = [
    (520.0, {"action": "presence-checked", "sessionId": "a", "presence": one}) for one in ("unknown", "gone")
]


@pytest.mark.parametrize(
    ("vague", "kind"),
    [
        ([hook("dialin.connected", 1200, "b")], "next-caller"),
        ([meeting(1300, start_ts=T + 1200)], "meeting-ended"),
        (GONE, "gone"),
    ],
)
def test_a_sign_that_says_only_by_when_a_call_had_ended_leaves_a_better_one(vague: list[Record], kind: str) -> None:
    """Alone, the last sign of life counts. A participant who left before is the end, whichever of the two is known first."""
    engine = run(READY, *DIALIN, *vague)
    pass_time(engine, 2000)
    assert end(known(engine)) == ("stopped", "completed", "inferred", kind, 1)
    for order in ([LEFT, *vague], [*vague, LEFT]):
        engine = run(READY, *DIALIN, *order)
        pass_time(engine, 2000)
        assert end(known(engine)) == ("stopped", "completed", "inferred", "participant-left", 500)


def test_a_meeting_that_began_later_was_not_that_of_the_call() -> None:
    """Its own meeting's end is lost. It had ended when the next one began, or, after ten minutes without life, with the last of that."""
    for start, ended_at in ((0, 900), (61, 900), (62, 62), (601, 601), (602, 1)):
        engine = run(*DIALIN, meeting(900, start_ts=T + start))
        pass_time(engine, 1000)
        assert end(known(engine)) == ("stopped", "completed", "inferred", "meeting-ended", ended_at)


def test_an_earlier_end_amends_one_that_followed_from_a_later_meeting() -> None:
    """In every order, also over a snapshot."""
    records = [meeting(1500, start_ts=T + 1200), meeting(500)]
    for order in permutations(records):
        engine = run(*DIALIN, order[0])
        pass_time(engine, 1600)
        engine = run(order[1], engine=Engine.restore(json.loads(json.dumps(engine.snapshot()))))
        assert end(known(engine)) == ("stopped", "completed", "inferred", "meeting-ended", 500)


def test_life_after_the_next_caller_keeps_a_session() -> None:
    """Then the endpoint takes two, whatever Daily says."""
    for order in permutations((*CALLERS[:2], hook("dialin.warning", 50))):
        engine = run(READY, *order)
        pass_time(engine, 300)
        assert not known(engine).ended


def test_a_second_endpoint_of_the_room_withdraws_the_sign() -> None:
    """It is not known any more that both came by one."""
    second = {
        "type": "dialin.ready",
        "id": "z",
        "payload": {"room": "r", "sip_endpoint": f"x{URI}", "timestamp": str(int(T))},
    }
    engine = run(READY, *CALLERS)
    assert known(engine).uncertain
    outcome = give(engine, 80, second)
    assert set(outcome.changed) == {known(engine), known(engine, "b")}
    assert not known(engine).uncertain
    assert pass_time(engine, 300) == []


def test_an_endpoint_that_an_event_names_replaces_the_derived_one() -> None:
    """The session then stands with the callers of that one."""
    named = (80.0, js("dialin-connected", "b", sipEndpoint="sip:other@example.sip.daily.co"))
    engine = run(READY, *CALLERS[:2])
    assert known(engine).uncertain
    give(engine, *named)
    assert not known(engine).uncertain
    pass_time(engine, 300)
    assert not known(engine).ended


# --- gone, and without times ----------------------------------------------------------------------------------------


def test_a_session_that_daily_does_not_know_ended_with_its_last_sign_of_life() -> None:
    """At once: it was silent before anybody was asked."""
    asked = (100.0, PresenceChecked(session_id="a", presence=Presence.UNKNOWN))
    gone = (101.0, PresenceChecked(session_id="a", presence=Presence.GONE))
    engine = run(*DIALIN, asked, gone)
    assert end(known(engine)) == ("stopped", "completed", "inferred", "gone", 1)
    assert known(engine).talk_s == 0
    engine = run(*DIALIN, asked, (100.5, js("dialin-warning", "a")), gone)
    assert not known(engine).ended


def test_without_times_a_sign_holds() -> None:
    """Nothing says that the life was later. State and cause agree in every order."""
    payloads = (
        js("dialin-connected", "a"),
        joined("a"),
        js("dtmf-event", "a", tone="1"),
        joined("a", "participant-left"),
    )
    for order in permutations(payloads):
        engine = Engine()
        for payload in order:
            engine.receive(parse(payload))
        assert known(engine).uncertain
        assert [outcome.ended for outcome in engine.infer_ends(None)] == [True]
        assert (known(engine).state, known(engine).cause, known(engine).ended_at) == (
            State.STOPPED,
            Cause.COMPLETED,
            None,
        )


# --- durations ------------------------------------------------------------------------------------------------------


def test_durations_never_count_silence() -> None:
    """A lost hang-up adds nothing to a bill, whatever the limit."""
    for limit in (600.0, 24 * HOUR):
        engine = run(*DIALIN, (300.0, js("dtmf-event", "a", tone="1")), engine=Engine(Settings(silence_in_call=limit)))
        pass_time(engine, 300 + limit)
        assert end(known(engine)) == ("stopped", "expired", "assumed", None, 300)
        assert known(engine).talk_s == 299


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_dailys_time_outweighs_a_time_of_receipt(order: tuple[int, ...]) -> None:
    """In any order; of several times of Daily's the earliest counts."""
    records = [(9.0, js("dialout-answered", "a")), hook("dialout.answered", 12), hook("dialout.answered", 11)]
    engine = run(*(records[place] for place in order))
    assert known(engine).answered_at == T + 11


# --- around it ------------------------------------------------------------------------------------------------------


def test_a_snapshot_has_the_signs() -> None:
    """It answers as the engine does, at every point."""
    records = (
        READY,
        *CALLERS,
        person("joined", "b", 41),
        person("left", "b", 41, 20),
        *PYTHON,
        (75.0, called("left")),
        meeting(80),
    )
    for place in range(len(records) + 1):
        engine = run(*records[:place])
        again = Engine.restore(json.loads(json.dumps(engine.snapshot())))
        assert json.dumps(again.snapshot()) == json.dumps(engine.snapshot())
        for one in (engine, again):
            run(*records[place:], engine=one)
            pass_time(one, 500)
        assert [s.to_dict() for s in again.sessions()] == [s.to_dict() for s in engine.sessions()]


def test_signs_do_not_accumulate() -> None:
    """A client that comes and goes, a participant too: eight are kept, the latest."""
    engine = run(*PYTHON)
    for at in range(10, 1000):
        give(engine, at, called("left"))
        give(engine, at + 0.5, called("participant_left", "a"))
        give(engine, at + 0.9, called("dtmf_event", "a"))
    assert len(known(engine)._signs) == 8
    assert not known(engine).uncertain
    give(engine, 2000, called("left"))
    pass_time(engine, 2100)
    assert end(known(engine))[3:] == ("client-left", 2000)


def test_a_journal_of_before_is_read_as_it_was_written() -> None:
    """Its limit after a meeting had another name, and a connected dial-in had a day."""
    old = Settings.model_validate({"silence_after_meeting": 30.0, "silence_in_call": 7200.0})
    assert (old.end_grace, old.silence_before_media, old.silence_in_call) == (30.0, 7200.0, 7200.0)
    engine = run(hook("dialin.connected", 0), meeting(90), engine=Engine(old))
    limit = {"action": "deadline-passed", "sessionId": "a", "deadline": "meeting", "dueAt": T + 120.4}
    assert give(engine, 120.5, limit).kind is OutcomeKind.MOVED
    assert end(known(engine))[3:] == (EndSign.MEETING_ENDED, 90)


# --- what attacks found ---------------------------------------------------------------------------------------------


def test_later_signs_never_push_out_the_one_that_counts() -> None:
    """A room has many meetings in two hours, and a client leaves many rooms: the end stays, and so do the durations."""
    engine = run(*DIALIN, meeting(90))
    pass_time(engine, 200)
    for number in range(2, 12):
        give(engine, *meeting(600 * number))
        assert (end(known(engine))[3:], known(engine).amended) == (("meeting-ended", 90), False)
    live = run(*DIALIN, *(meeting(600 + number) for number in range(20)))
    pass_time(live, 1000)
    assert end(known(live))[3:] == ("meeting-ended", 600)


def test_a_client_that_leaves_many_rooms_does_not_forget_the_first() -> None:
    """Its leavings are kept by room, so a session that becomes known later finds its own."""
    session = [(0.0, called("dialin_connected", "a", room="r1")), (1.0, called("participant_joined", "a", room="r1"))]
    left = [(90.0 + number, called("left", room=f"r{number + 1}")) for number in range(9)]
    for order in (session + left, left + session):
        engine = run(*order)
        pass_time(engine, 500)
        assert end(known(engine))[3:] == ("client-left", 90)


def test_a_nameless_client_in_a_room_has_left_no_session_of_another_place() -> None:
    """It reports its room with each event; a session without one was reported by another client. In any order."""
    for order in permutations((*PYTHON, (90.0, called("left", room="r")))):
        engine = run(*order)
        assert (known(engine).uncertain, engine.ends_due(None)) == (False, [])


def test_a_named_client_has_left_its_sessions_whatever_is_known_of_their_room() -> None:
    """Its name is enough."""
    mine = [
        (0.0, called("dialin_connected", "a", callClientId="k")),
        (90.0, called("left", callClientId="k", room="r")),
    ]
    for order in permutations(mine):
        engine = run(*order)
        pass_time(engine, 200)
        assert end(known(engine))[3:] == ("client-left", 90)


def test_our_leaving_may_be_reported_long_after_the_end() -> None:
    """Times decide who ended it, never arrival."""
    told = (*PYTHON, (91.0, called("dialin_stopped", "a")))
    later = (500.0, called("dialin_connected", "b"))
    for order in permutations((told, ((90.2, called("left")),), (later,))):
        engine = run(*(record for records in order for record in records))
        assert (known(engine).end_source, known(engine).ended_by) == ("told", "local")


def test_many_bots_that_leave_cost_each_only_its_own_sessions() -> None:
    """Ended sessions are not looked at again for a later sign. A count, as times are noisy."""
    engine = Engine()
    for number in range(300):
        room = f"r{number}"
        for at, payload in (
            (0.0, called("dialin_connected", f"s{number}", room=room)),
            (0.5, called("left", room=room)),
        ):
            give(engine, number + at, payload)
        pass_time(engine, number + 0.9)
    assert sum(len(session._signs) for session in engine.sessions()) == 300


def test_a_time_that_changes_loses_no_place_on_an_endpoint() -> None:
    """Daily's time replaces that of a receipt; another event names another endpoint; the next caller still displaces the first."""
    a = (1.25, js("dialin-connected", "a", sipEndpoint=URI))
    b, told = hook("dialin.connected", 40, "b"), (40.25, js("dialin-connected", "b", sipEndpoint=f"other{URI[4:]}"))
    again = (60.0, hook("dialin.connected", 1, "a")[1])
    c = (70.25, js("dialin-connected", "c", sipEndpoint=URI))
    for order in permutations((a, b, told, again, c)):
        engine = run(READY, *order)
        pass_time(engine, 200)
        assert end(known(engine))[3:] == ("next-caller", 70.25)


def test_the_clock_of_the_next_caller_may_become_known_later() -> None:
    """At the same time: Daily's then, so life by our clock has five seconds."""
    records = (
        hook("dialin.connected", 1),
        (40.0, js("dialin-connected", "b", room="r")),
        hook("dialin.connected", 40, "b"),
        (43.0, js("dtmf-event", "a", tone="1")),
    )
    for order in permutations(records):
        engine = run(READY, *order)
        pass_time(engine, 300)
        assert end(known(engine))[3:] == ("next-caller", 40)


def test_an_alive_counts_at_its_own_time() -> None:
    """Not at that of an event that was received before it."""
    alive = (50.0, PresenceChecked(session_id="a", presence=Presence.ALIVE))
    records = (*PYTHON, alive, (90.0, called("left")), (100.0, called("dialin_connected", "z", callClientId="q")))
    for order in permutations(records):
        engine = run(*order)
        pass_time(engine, 500)
        assert end(known(engine))[3:] == ("client-left", 90)


def test_a_client_that_left_before_has_not_left_a_later_request() -> None:
    """A call object that joins again keeps its id."""
    for place in (0, 1):
        records = [(100.0, DialoutRequested(session_id="a", call_client_id="k"))]
        records.insert(place, (50.0, called("left", callClientId="k")))  # type: ignore[arg-type]
        engine = run(*records)
        pass_time(engine, 170)
        assert (known(engine).ended, known(engine).uncertain) == (False, False)


def test_a_next_caller_who_left_memory_is_not_forgotten() -> None:
    """A late event of the first one, after two hours, still finds it ended then, or alive since."""
    engine = run(READY, *CALLERS[:1], person("joined", "a", 2), CALLERS[1], hook("dialin.stopped", 41, "b"))
    pass_time(engine, 7241.4)
    assert engine.session("b") is None
    pass_time(engine, 7242)
    session = engine.session("a")
    if session is not None:
        engine.receive(parse(hook("dialin.connected", 1)[1] | {"id": "again"}), T + 7242, dialect="webhook")
        assert end(session)[3:] == ("next-caller", 40)


def test_an_end_that_webhooks_report_may_follow_our_leaving_too() -> None:
    """The sign itself does not count, as webhooks report the session, but it says who ended it."""
    for order in permutations(
        (*PYTHON, hook("dialin.connected", 0), hook("dialin.stopped", 91), (90.2, called("left")))
    ):
        engine = run(*order)
        assert (known(engine).end_source, known(engine).ended_by) == ("told", "local")


def test_an_old_limit_after_a_meeting_counts_where_the_participant_left_before() -> None:
    """It was due a minute after the meeting, not after the first sign."""
    engine = run(hook("dialin.connected", 0), person("left", "a", 1, 79), meeting(81))
    limit = {"action": "deadline-passed", "sessionId": "a", "deadline": "meeting", "dueAt": T + 141.4}
    assert give(engine, 141.4, limit).kind is OutcomeKind.MOVED
    assert end(known(engine)) == ("stopped", "completed", "inferred", "participant-left", 80)
