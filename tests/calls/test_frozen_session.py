"""A snapshot has the sessions as columns. What comes back is the same, to the type of each value."""

from __future__ import annotations

import json

from telstate import Engine, Session, Settings
from telstate.calls._frozen_session import freeze_all, thaw_all
from telstate.testing import Noise, simulate
from tests.calls import feed, joined, js


def values_of(session: Session) -> dict[str, object]:
    """Return all values of a session, each with its type: 1 is equal to True."""
    values = {**vars(session), "direction": session.direction, "state": session.state}
    return {name: (type(value), value) for name, value in values.items()}


def round_trip(sessions: list[Session]) -> list[Session]:
    """Return the sessions that come back from JSON."""
    return thaw_all(json.loads(json.dumps(freeze_all(sessions))))


def test_no_value_changes_and_none_changes_its_type() -> None:
    """Of calls with everything that can happen to them, from all observers."""
    engine, observers = Engine(Settings(retention=86_400.0)), ["daily-js", "webhook", "daily-python"]
    for sent in simulate(7, calls=100, dialects=observers, twice=0.3, noise=Noise.of_a_bad_day()):
        feed(engine, sent.payload, at=sent.at)
    feed(engine, js("dialin-connected", "odd", sipFrom="sip:1@x", sipHeaders={"X-Tenant": "1"}))
    feed(engine, js("dialin-connected", "odd", sipFrom="sip:2@x"), js("dialin-warning", "odd", errorMsg="poor"))
    feed(engine, joined("odd", "participant-left"))
    sessions = list(engine.sessions())
    for name in ("warnings", "anomalies", "_signs", "_rare", "sip_headers"):
        assert any(vars(session)[name] for session in sessions), name
    for before, after in zip(sessions, round_trip(sessions), strict=True):
        assert values_of(after) == values_of(before)


def test_what_no_session_has_takes_no_place() -> None:
    """A value that one of them has is there for all; that one comes back, and so do the others."""
    engine = Engine()
    for session_id in ("a", "b"):
        feed(engine, js("dialin-connected", session_id))
    assert "dtmf" not in freeze_all(engine.sessions())["columns"]
    feed(engine, js("dialin-warning", "b", errorMsg="poor"))
    columns = freeze_all(engine.sessions())["columns"]
    assert columns["warnings"] == [(), ("poor",)]
    assert [session.warnings for session in round_trip(list(engine.sessions()))] == [(), ("poor",)]


def test_a_path_that_many_went_is_there_once() -> None:
    """Each session has its place."""
    engine = Engine()
    for session_id in ("a", "b", "c"):
        feed(engine, js("dialin-connected", session_id))
    feed(engine, js("dialin-stopped", "b"))
    frozen = freeze_all(engine.sessions())
    assert (len(frozen["paths"]), frozen["columns"]["transitions"]) == (2, [0, 1, 0])
    assert [len(session.transitions) for session in round_trip(list(engine.sessions()))] == [1, 2, 1]


def test_no_sessions_are_no_columns() -> None:
    """There is nothing to read then."""
    assert round_trip([]) == []
