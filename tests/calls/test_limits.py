"""Deadlines and silence limits: when they pass, what they do, and what wins at the same instant."""

from __future__ import annotations

import json

import pytest

from telstate import Cause, EndedBy, EndSource, Engine, OutcomeKind, Settings, SettingsChanged, State, parse
from tests.calls import feed, joined, js, webhook

HOUR = 3600.0


def passing(engine: Engine, now: float) -> list[tuple[str, str | None, OutcomeKind]]:
    """Receive the limits that passed at `now`, as a dispatcher does."""
    return [(limit.deadline, limit.session_id, engine.receive(limit, now).kind) for limit in engine.passed(now)]


@pytest.mark.parametrize(
    ("payloads", "limit"),
    [
        ([js("dialout-requested", "a")], 600),
        ([js("dialin-warning", "a")], 600),
        ([js("dialout-connected", "a")], 600),
        ([js("dialout-connected", "a"), joined("a")], 600),
        ([js("dialin-connected", "a")], 600),
        ([js("dialin-connected", "a"), joined("a")], 24 * HOUR),
        ([js("dialout-answered", "a")], 24 * HOUR),
    ],
)
def test_silence_ends_a_session(payloads: list[dict[str, object]], limit: float) -> None:
    """After ten minutes before the answer or the media, or a day in a call, and not earlier. It adds nothing to the call."""
    engine = Engine()
    feed(engine, *payloads, at=1000.0)
    assert engine.next_deadline() is not None
    assert passing(engine, 1000.0 + limit - 0.001) == []
    assert passing(engine, 1000.0 + limit) == [("silence", "a", OutcomeKind.MOVED)]
    (session,) = engine.sessions()
    assert (session.state, session.cause, session.ended_by) == (State.STOPPED, Cause.EXPIRED, EndedBy.SYSTEM)
    assert (session.end_source, session.ended_at) == (EndSource.ASSUMED, 1000.0)
    assert session.transitions[-1].event == "silence-passed"
    assert engine.sizes()["limits"] == 0


def test_every_event_of_dailys_restarts_the_silence_limit() -> None:
    """Warnings too. Requests of this program do not."""
    engine = Engine()
    feed(engine, js("dialout-connected", "a"), at=0.0)
    feed(engine, js("dialout-warning", "a"), at=500.0)
    feed(engine, js("stop-requested", "a"), at=900.0)
    assert passing(engine, 1099.0) == []
    assert passing(engine, 1100.0) == [("silence", "a", OutcomeKind.MOVED)]


def test_a_call_of_23_hours_is_not_ended() -> None:
    """There is no limit on the age of a call."""
    engine = Engine()
    feed(engine, js("dialout-answered", "a"), at=0.0)
    assert passing(engine, 23 * HOUR) == []
    feed(engine, js("dtmf-event", "a", tone="1"), at=23 * HOUR)
    assert passing(engine, 46 * HOUR) == []


def test_a_stopped_after_the_silence_limit_outweighs_it() -> None:
    """The stopped was only late: now the cause is known."""
    engine = Engine()
    feed(engine, js("dialout-connected", "a"), at=0.0)
    passing(engine, 600.0)
    outcome = feed(engine, js("dialout-stopped", "a"), at=700.0)
    (session,) = engine.sessions()
    assert outcome.kind is OutcomeKind.LATE
    assert (session.cause, session.ended_by, session.amended) == (Cause.UNANSWERED, EndedBy.UNKNOWN, True)


def test_an_event_received_before_a_limit_wins_at_the_same_instant() -> None:
    """The limit is then late and does nothing."""
    engine = Engine()
    feed(engine, js("dialout-connected", "a"), at=0.0)
    (limit,) = engine.passed(600.0)
    feed(engine, js("dialout-answered", "a"), at=600.0)
    assert engine.receive(limit, 600.0).kind is OutcomeKind.LATE
    assert next(engine.sessions()).state is State.ANSWERED


def test_deadlines_notify_and_do_not_move() -> None:
    """Each once, in its state. The handlers decide."""
    engine = Engine(Settings(setup_deadline=5, ring_deadline=30, media_deadline=10))
    feed(engine, js("dialout-requested", "o"), js("dialin-warning", "i"), at=0.0)
    assert passing(engine, 4.9) == []
    assert passing(engine, 5.0) == [("setup", "i", OutcomeKind.NOTED), ("setup", "o", OutcomeKind.NOTED)]
    assert passing(engine, 6.0) == []
    feed(engine, js("dialout-connected", "o"), js("dialin-connected", "i"), at=10.0)
    assert engine.next_deadline() == 20.0
    assert passing(engine, 39.0) == [("media", "i", OutcomeKind.NOTED)]
    assert passing(engine, 40.0) == [("ring", "o", OutcomeKind.NOTED)]
    assert [session.state for session in engine.sessions()] == [State.CONNECTED] * 2


def test_a_deadline_that_was_met_does_not_pass() -> None:
    """And one that is received after the answer is late."""
    engine = Engine(Settings(ring_deadline=30))
    feed(engine, js("dialout-connected", "a"), at=0.0)
    (limit,) = engine.passed(30.0)
    feed(engine, js("dialout-answered", "a"), at=30.0)
    assert engine.passed(31.0) == []
    assert engine.receive(limit, 31.0).kind is OutcomeKind.LATE


def test_a_session_has_a_minute_to_report_its_end_after_the_meeting_ended() -> None:
    """Daily ends all SIP connections with the meeting, so a stopped that does not arrive was lost."""
    engine = Engine()
    feed(
        engine, js("dialin-connected", "a", room="r"), joined("a"), js("dialin-connected", "b", room="other"), at=100.0
    )
    feed(engine, {"type": "meeting.ended", "payload": {"room": "r", "end_ts": 200}}, at=201.0)
    assert passing(engine, 260.0) == []
    assert passing(engine, 261.0) == [("end", "a", OutcomeKind.MOVED)]
    assert [session.cause for session in engine.sessions()] == [Cause.COMPLETED, None]


def test_a_late_meeting_ended_does_not_end_new_calls() -> None:
    """The room has callers again, with later signs of life."""
    engine = Engine()
    feed(engine, js("dialin-connected", "a", room="r"), at=300.0)
    feed(engine, {"type": "meeting.ended", "payload": {"room": "r", "end_ts": 200}}, at=880.0)
    assert passing(engine, 899.0) == []


def test_an_event_after_the_meeting_ended_keeps_the_session_alive() -> None:
    """A sign of life outweighs the end of the meeting."""
    engine = Engine()
    feed(engine, js("dialin-connected", "a", room="r"), at=100.0)
    feed(engine, {"type": "meeting.ended", "payload": {"room": "r", "end_ts": 200}}, at=201.0)
    feed(engine, js("dialin-warning", "a"), at=230.0)
    assert passing(engine, 829.0) == []


@pytest.mark.parametrize("domain", [{}, {"domain_id": "d"}])
def test_a_meeting_ended_without_domain_arrives_with_the_last_participant_left(domain: dict[str, str]) -> None:
    """As Daily's webhooks do. A participant-left is not a sign of life."""
    engine = Engine()
    feed(engine, webhook("dialin.connected", "a", room="r", timestamp="100", **domain), at=100.0)
    left = {"session_id": "a", "room": "r", "joined_at": 101.0, "duration": 98.9, **domain}
    feed(engine, {"type": "participant.left", "id": "l1", "payload": left}, at=200.5)
    feed(engine, {"type": "meeting.ended", "payload": {"room": "r", "start_ts": 90, "end_ts": 200}}, at=200.6)
    feed(engine, {"type": "participant.left", "id": "l2", "payload": left}, at=201.0)
    assert passing(engine, 260.5) == [("end", "a", OutcomeKind.MOVED)]


def test_a_limit_with_another_time_does_not_cancel_the_running_one() -> None:
    """It is late."""
    engine = Engine(Settings(ring_deadline=5))
    feed(engine, js("dialout-connected", "a"), at=1.0)
    assert feed(engine, js("deadline-passed", "a", deadline="ring", dueAt=3.0), at=3.0).kind is OutcomeKind.LATE
    assert passing(engine, 6.0) == [("ring", "a", OutcomeKind.NOTED)]


@pytest.mark.parametrize(
    "told", [js("deadline-passed", "a", deadline="ring", dueAt=30.0), js("presence-checked", "a", presence="gone")]
)
def test_what_is_told_of_a_session_that_has_left_memory_is_late(told: dict[str, object]) -> None:
    """A worker that was frozen may tell it a second time: no handler of deadlines may run for that."""
    engine = Engine(Settings(ring_deadline=30, retention=60, key_ttl=60, parked_ttl=60))
    feed(engine, js("dialout-connected", "a"), at=0.0)
    assert passing(engine, 30.0) == [("ring", "a", OutcomeKind.NOTED)]
    feed(engine, js("dialout-stopped", "a"), at=31.0)
    outcome = feed(engine, told, at=100.0)
    assert (outcome.kind, outcome.session) == (OutcomeKind.LATE, None)


def test_nothing_passes_before_a_time_is_known() -> None:
    """Limits count from the first time that is given."""
    engine = Engine(Settings(ring_deadline=5))
    feed(engine, js("dialout-connected", "a"))
    assert engine.next_deadline() is None
    assert engine.passed(1_700_000_000.0) == []
    engine.advance(1_700_000_000.0)
    assert engine.next_deadline() == 1_700_000_005.0


def test_a_gap_makes_live_sessions_uncertain_until_their_next_event() -> None:
    """In its room, or in all rooms."""
    engine = Engine()
    feed(
        engine, js("dialin-connected", "a", room="r"), js("dialin-connected", "b", room="s"), js("dialin-stopped", "c")
    )
    feed(engine, {"action": "source-gap", "room": "r"})
    assert [session.uncertain for session in engine.sessions()] == [True, False, False]
    feed(engine, {"action": "source-gap"}, joined("a"))
    assert [session.uncertain for session in engine.sessions()] == [False, True, False]


def test_settings_that_contradict_themselves_are_refused() -> None:
    """A key that outlives its session would hide the events of a new call."""
    with pytest.raises(ValueError, match="retention must not be less than key_ttl"):
        Settings(retention=60)
    with pytest.raises(ValueError, match="greater than 0"):
        Settings(max_keys=0)
    with pytest.raises(ValueError, match="Extra inputs"):
        Settings(retention_s=5)  # type: ignore[call-arg]


def test_deadlines_added_by_new_settings_survive_a_snapshot() -> None:
    """In any order."""
    engine = Engine(Settings(ring_deadline=5))
    engine.receive(parse({"action": "dialout-connected", "sessionId": "s"}), 1000.0)
    engine.receive(SettingsChanged(settings=Settings(ring_deadline=7, setup_deadline=3).model_dump()), 1001.0)
    again = Engine.restore(json.loads(json.dumps(engine.snapshot())))
    assert [(limit.deadline, limit.due_at) for limit in again.passed(1010.0)] == [("ring", 1007.0)]
    engine.receive(SettingsChanged(settings=Settings().model_dump()), 1002.0)
    assert engine.passed(1010.0) == []
    outcome = engine.receive(SettingsChanged(settings={"retention": -1, "x": 2}), 1003.0)
    assert outcome.anomalies
    assert engine.settings == Settings()
