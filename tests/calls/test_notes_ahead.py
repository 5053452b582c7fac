"""Notes about a call that is about to be started: its session has them from its first event on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from telstate import Engine, Event, SessionAnnotated, Settings, parse
from telstate.events import DialinConnected, DialoutConnected, DialoutRefused, DialoutRequested, DialoutStopped

NOTES = {"plan": "gold"}
AHEAD = SessionAnnotated(user_id="u", room="r", notes=NOTES)


def told(engine: Engine, *events: Event, at: float = 10.0) -> list[dict[str, Any]]:
    """The records of an engine's sessions after events, as a journal has those."""
    for event in events:
        engine.receive(parse(event.to_json()), at)
    return [session.to_dict() for session in engine.sessions()]


@pytest.mark.parametrize(
    "first",
    [
        DialoutRequested(session_id="s", user_id="u"),
        DialoutRefused(session_id="s", user_id="u"),
        DialoutConnected(session_id="s", user_id="u"),
        DialoutStopped(session_id="s", user_id="u"),
    ],
)
def test_the_first_event_with_its_user_id_brings_them(first: Event) -> None:
    """Whichever that is; nothing is amended by it, and nothing remains."""
    engine = Engine()
    told(engine, AHEAD)
    outcome = engine.receive(first, 10.0)
    assert outcome.session is not None
    assert (outcome.session.notes, outcome.session.amended, outcome.opened) == (NOTES, False, True)
    assert engine.sizes()["notes"] == 0


def test_a_session_may_be_known_before_its_user_id() -> None:
    """Then what the program wrote about it meanwhile counts more."""
    later = SessionAnnotated(session_id="s", notes={"plan": "silver", "tenant": "acme"})
    connected, requested = DialoutConnected(session_id="s"), DialoutRequested(session_id="s", user_id="u")
    (record,) = told(Engine(), AHEAD, connected, later, requested)
    assert record["notes"] == {"plan": "silver", "tenant": "acme"}
    (record,) = told(Engine(), AHEAD, connected, requested)
    assert record["notes"] == NOTES


def test_only_one_dial_out_gets_them() -> None:
    """Neither a caller with that user id, nor a second session."""
    records = told(
        Engine(),
        AHEAD,
        DialinConnected(session_id="in", user_id="u"),
        DialoutConnected(session_id="a", user_id="u"),
        DialoutConnected(session_id="b", user_id="u"),
    )
    assert [record["notes"] for record in records] == [{}, NOTES, {}]


def test_they_are_in_a_snapshot() -> None:
    """Also after JSON; one of an older telstate has none."""
    engine = Engine()
    told(engine, AHEAD)
    snapshot = json.loads(json.dumps(engine.snapshot()))
    (record,) = told(Engine.restore(snapshot), DialoutConnected(session_id="s", user_id="u"))
    assert record["notes"] == NOTES
    del snapshot["notes_ahead"]
    (record,) = told(Engine.restore(snapshot), DialoutConnected(session_id="s", user_id="u"))
    assert record["notes"] == {}


def test_they_are_bounded() -> None:
    """In number, in size and in time."""
    engine = Engine(Settings(max_parked=2, key_ttl=5, retention=5))
    told(engine, *(SessionAnnotated(user_id=f"u{number}", notes=NOTES) for number in range(4)))
    assert engine.sizes()["notes"] == 2
    outcome = engine.receive(SessionAnnotated(user_id="u3", notes={"x": "x" * 5000}), 10.0)
    assert (str(outcome.kind), len(outcome.anomalies)) == ("noted", 1)
    engine.advance(16.0)
    assert engine.sizes()["notes"] == 0
