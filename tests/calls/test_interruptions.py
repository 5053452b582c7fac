"""Signalling that is interrupted and comes back: which sessions are uncertain, and since when."""

from __future__ import annotations

import json
from typing import Any

import pytest

from telstate import ConnectionChanged, Engine, Outcome, Settings, parse
from telstate.calls._replay import Replay
from tests.calls import js

T = 1_790_000_000.0
INTERRUPTED, CONNECTED = "interrupted", "connected"

DIALECTS: dict[str, Any] = {
    "daily-js": lambda status, **named: js(
        "network-connection", None, type="signaling", event=status, **{"callClientId": "k", **named}
    ),
    "daily-python": lambda status, **named: {
        "handler": "on_network_connection_status_updated",
        "data": {"connection": "signalling", "event": status},
        "callClientId": "k",
        **named,
    },
    "its status alone": lambda status, **named: {
        "handler": "on_network_connection_status_updated",
        "data": status,
        "callClientId": "k",
        **named,
    },
}
every_dialect = pytest.mark.parametrize("dialect", DIALECTS)


def give(engine: Engine, *payloads: Any) -> Outcome:
    """Feed payloads to an engine, and return the last outcome."""
    for payload in payloads:
        dialect = "daily-python" if "handler" in payload else "webhook" if "type" in payload else "daily-js"
        dialect = "daily-js" if "action" in payload else dialect
        outcome = engine.receive(parse(payload), (engine.now or T) + 1, dialect=dialect)
    return outcome


def engine_of(*ids: str, **named: Any) -> Engine:
    """An engine with sessions that live."""
    engine = Engine()
    for session_id in ids:
        give(engine, js("dialout-answered", session_id, **{"callClientId": "k", **named}))
    return engine


def uncertain(engine: Engine) -> list[str]:
    """Return the sessions that are uncertain."""
    return [session.session_id for session in engine.live() if session.uncertain]


@every_dialect
def test_interrupted_and_back_are_both_a_reason_for_doubt(dialect: str) -> None:
    """What was heard of in between, by a webhook or by asking, may have ended since."""
    change, engine = DIALECTS[dialect], engine_of("a", "b")
    outcome = give(engine, change(INTERRUPTED))
    assert uncertain(engine) == ["a", "b"]
    assert [session.session_id for session in outcome.doubtful] == ["a", "b"]
    give(engine, js("dtmf-event", "a", tone="1"))
    assert uncertain(engine) == ["b"]
    outcome = give(engine, change(CONNECTED))
    assert uncertain(engine) == ["a", "b"]
    assert [session.session_id for session in outcome.doubtful] == ["a", "b"]
    assert [session.session_id for session in outcome.changed] == ["a"]


@every_dialect
def test_a_first_connect_is_no_gap_and_neither_is_a_second_one(dialect: str) -> None:
    """A client reports it when it joins, and once more after each interruption; also if it is reported twice."""
    change, engine = DIALECTS[dialect], engine_of("a")
    assert give(engine, change(CONNECTED)).doubtful == ()
    assert uncertain(engine) == []
    give(engine, change(INTERRUPTED), change(INTERRUPTED), change(CONNECTED), js("dtmf-event", "a", tone="1"))
    assert uncertain(engine) == []
    give(engine, change(CONNECTED), change(CONNECTED))
    assert uncertain(engine) == []
    give(engine, change(INTERRUPTED))
    assert uncertain(engine) == ["a"]


@pytest.mark.parametrize(
    "payload",
    [
        js("network-connection", None, type="sfu", event=INTERRUPTED),
        {"action": "network-connection", "type": "peer-to-peer", "event": INTERRUPTED, "session_id": "a"},
        js("network-connection", None, type="signaling", event="something new"),
        {
            "handler": "on_network_connection_status_updated",
            "data": {"connection": "sendTransport", "event": INTERRUPTED},
        },
        {
            "handler": "on_network_connection_status_updated",
            "data": {"connection": "recvTransport", "event": INTERRUPTED},
        },
    ],
    ids=["sfu", "peer-to-peer", "another status", "send", "receive"],
)
def test_connections_of_media_say_nothing_about_events(payload: dict[str, Any]) -> None:
    """They are kept, without an effect; when signalling is there afterwards, that is a first connect."""
    engine = engine_of("a")
    assert give(engine, payload).kind == "noted"
    assert type(parse(payload)) is ConnectionChanged
    assert uncertain(engine) == []
    give(engine, DIALECTS["daily-js"](CONNECTED, callClientId=None))
    assert uncertain(engine) == []
    give(engine, {**payload, "event": CONNECTED} if "action" in payload else payload)
    assert uncertain(engine) == []


@every_dialect
def test_clients_do_not_concern_each_other(dialect: str) -> None:
    """One is interrupted while another connects for the first time."""
    change, engine = DIALECTS[dialect], engine_of("a")
    give(engine, js("dialout-answered", "b", callClientId="other"), js("dialout-answered", "c", callClientId="third"))
    give(engine, change(INTERRUPTED), change(CONNECTED, callClientId="other"))
    assert uncertain(engine) == ["a"]
    give(engine, change(INTERRUPTED, callClientId="other"), change(CONNECTED))
    assert uncertain(engine) == ["a", "b"]
    give(engine, js("dtmf-event", "a", tone="1"), js("dtmf-event", "b", tone="1"))
    assert uncertain(engine) == []
    give(engine, change(CONNECTED))
    assert uncertain(engine) == []
    give(engine, change(CONNECTED, callClientId="other"))
    assert uncertain(engine) == ["b"]


def test_a_client_without_an_id_is_known_by_its_room() -> None:
    """Without a room either, it concerns all sessions."""
    change, engine = DIALECTS["daily-python"], Engine()
    for session_id, room in (("a", "r1"), ("b", "r2"), ("c", None)):
        give(engine, {"handler": "on_dialout_answered", "data": {"sessionId": session_id}, "room": room})
    named: dict[str, Any] = {"callClientId": None, "room": "r1"}
    give(engine, change(INTERRUPTED, **named))
    assert uncertain(engine) == ["a"]
    give(engine, change(CONNECTED, callClientId=None, room="r2"))
    assert uncertain(engine) == ["a"]
    give(engine, js("dtmf-event", "a", tone="1"), change(CONNECTED, **named))
    assert uncertain(engine) == ["a"]
    give(engine, change(INTERRUPTED, callClientId=None))
    assert uncertain(engine) == ["a", "b", "c"]


def test_a_session_whose_room_is_not_known_is_its_client_s_all_the_same() -> None:
    """daily-js names no room; an adapter may add one to what its client says."""
    engine = engine_of("a")
    give(engine, DIALECTS["daily-python"](INTERRUPTED, room="r1"))
    assert uncertain(engine) == ["a"]


@every_dialect
def test_who_leaves_and_joins_anew_connects_for_the_first_time(dialect: str) -> None:
    """Its leaving says more than the interruption before it."""
    change, engine = DIALECTS[dialect], engine_of("a")
    give(engine, change(INTERRUPTED), js("left-meeting", None, callClientId="k"))
    give(engine, js("dialout-answered", "b", callClientId="k"))
    give(engine, change(CONNECTED))
    assert "b" not in uncertain(engine)


def test_a_session_that_ended_or_begins_in_between_is_right_too() -> None:
    """Ended ones stay as they are. A new one of the client may have missed events as well."""
    change, engine = DIALECTS["daily-js"], engine_of("a")
    give(engine, change(INTERRUPTED), js("dialout-stopped", "a", callClientId="k"))
    give(engine, js("dialout-connected", "b", callClientId="k"), change(CONNECTED))
    assert uncertain(engine) == ["b"]
    ended = engine.session("a")
    assert ended is not None
    assert not ended.uncertain


def test_a_snapshot_keeps_the_interruption_and_an_old_snapshot_has_none() -> None:
    """The program may restart in between."""
    change, engine = DIALECTS["daily-js"], engine_of("a")
    give(engine, change(INTERRUPTED), js("dtmf-event", "a", tone="1"))
    snapshot = json.loads(json.dumps(engine.snapshot()))
    restored = Engine.restore(snapshot)
    give(restored, change(CONNECTED))
    assert uncertain(restored) == ["a"]
    del snapshot["interruptions"]
    give(older := Engine.restore(snapshot), change(CONNECTED))
    assert uncertain(older) == []


def test_nothing_is_left_of_an_interruption_after_retention_and_they_are_bounded() -> None:
    """Anybody may name any client."""
    engine = Engine(Settings(max_parked=10))
    for number in range(50):
        give(engine, DIALECTS["daily-js"](INTERRUPTED, callClientId=f"k{number}"))
    assert engine.sizes()["interruptions"] == 10
    engine.advance(T + 60 + 2 * 3600)
    assert engine.sizes()["interruptions"] == 0


@pytest.mark.parametrize("timed", [True, False])
def test_a_replayed_log_says_the_same(timed: bool) -> None:
    """With times and without."""
    change = DIALECTS["daily-python"]
    log = [
        {"handler": "on_dialout_answered", "data": {"sessionId": "a"}, "callClientId": "k"},
        change(INTERRUPTED),
        {"handler": "on_dtmf_event", "data": {"sessionId": "a", "tone": "1"}, "callClientId": "k"},
        change(CONNECTED),
    ]
    replay = Replay()
    for number, payload in enumerate(log):
        record = {"v": 1, "seq": number, "at": T + number, "dialect": "daily-python", "event": None, "payload": payload}
        replay.feed(json.dumps(record if timed else payload).encode())
    (session,) = replay.engine.live()
    assert session.uncertain
