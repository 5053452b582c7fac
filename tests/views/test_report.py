"""The reports of a replay, line by line."""

from __future__ import annotations

import json

import pytest

from telstate import Engine, parse
from telstate.views import JsonReport, TextReport
from tests.calls import SESSION, feed, joined, js, webhook

NUMBER = "+12025550100"


def test_json_lines_are_whole_records_on_request() -> None:
    """With numbers a session's line is its record."""
    session = feed(Engine(), js("dialout-connected", destination=NUMBER)).session
    assert session is not None
    assert json.loads(JsonReport(numbers=True).session(session)) == {"session": session.to_dict()}
    assert JsonReport().head() is None


def test_a_session_on_one_line_or_on_two() -> None:
    """By the width of the terminal; its id is never cut."""
    session = feed(
        Engine(),
        webhook("dialin.connected", timestamp="1730000000", room="lobby"),
        webhook("dialin.stopped", timestamp="1730000075", room="lobby"),
    ).session
    assert session is not None
    for width, lines in ((None, 1), (170, 1), (169, 2)):
        text = TextReport(width).session(session)
        assert text.count("\n") == lines - 1
        assert SESSION in text
        assert "completed" in text
        assert "connected > stopped" in text


@pytest.mark.parametrize(
    ("payloads", "note"),
    [
        ([js("dialout-connected")] * 2, "2 events, of which 1 repeated"),
        ([js("dialout-stopped"), js("dialout-connected")], "2 events, of which 1 late"),
        ([js("dialout-error", errorMsg="no route")], "error: no route"),
        ([js("dialout-warning", errorMsg="slow")], "warning: slow"),
        (
            [webhook("dialout.connected", timestamp="1730000000")],
            "no end was reported; last sign of life at 2024-10-27",
        ),
        ([js("dialout-answered", destination=5)], "! dialout-answered: destination came as 5"),
    ],
)
def test_what_deserves_attention_stands_below(payloads: list[dict[str, object]], note: str) -> None:
    """One line each."""
    session = feed(Engine(), *payloads).session
    assert session is not None
    assert note in TextReport().session(session)


def test_states_that_came_late_or_were_parked_are_marked() -> None:
    """Late ones behind the path; parked ones with a star that the summary explains."""
    engine, report = Engine(), TextReport()
    late = feed(engine, js("dialout-stopped"), js("dialout-connected")).session
    assert late is not None
    assert "stopped (late: connected)" in report.session(late)
    assert "*" not in report.summary(engine, 0)
    parked = feed(Engine(), joined(), js("dialin-connected")).session
    assert parked is not None
    assert "connected > answered*" in report.session(parked)
    assert "* from an event that arrived before its session was known" in report.summary(engine, 0)


def test_an_unmatched_event_shows_what_it_says() -> None:
    """Masked, unless asked otherwise."""
    engine = Engine()
    engine.receive(parse(js("dialout-error", None, destination=NUMBER)))
    (unmatched,) = engine.unmatched()
    assert "? dialout-error: matches no session (" in TextReport().unmatched(unmatched)
    for report, shown in ((TextReport(), False), (TextReport(numbers=True), True)):
        assert (NUMBER in report.unmatched(unmatched)) is shown
    for other, shown in ((JsonReport(), False), (JsonReport(numbers=True), True)):
        assert (NUMBER in other.unmatched(unmatched)) is shown


def test_the_summary_counts_outcomes_and_bad_lines() -> None:
    """If no line could be read, it says what may be wrong."""
    engine = Engine()
    feed(engine, js("dialout-connected"), js("dialout-connected"))
    assert TextReport().summary(engine, 1).splitlines()[-2:] == [
        "2 events: 1 moved, 1 duplicate",
        "1 line could not be read",
    ]
    assert "No line could be read" in TextReport().summary(Engine(), 2)
    assert json.loads(JsonReport().summary(engine, 1)) == {
        "summary": {
            "received": 2,
            "moved": 1,
            "noted": 0,
            "duplicate": 1,
            "late": 0,
            "unexpected": 0,
            "unmatched": 0,
            "invalid": 1,
        }
    }


def test_a_caller_without_a_session_has_a_line() -> None:
    """With what they wait for, and the room if Daily has made one."""
    engine = Engine()
    trunk = webhook("sip_trunk.incoming", None, call_id="t", room={"name": "lobby"}, timestamp="1730000000")
    feed(engine, {"From": NUMBER, "callId": "p", "callDomain": "d"}, trunk)
    held, rings = map(TextReport().caller, engine.unconnected())
    assert "on hold" in held
    assert ("lobby" in rings, rings.endswith("in ringback")) == (True, True)
    assert NUMBER not in held
