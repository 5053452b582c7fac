"""The line of one event: what it shows, and what it must not show."""

from __future__ import annotations

import json
from typing import Any

import pytest

from telstate import Engine, parse
from telstate.views import outcome_as_dict, outcome_as_json, outcome_as_text
from tests.calls import SESSION, feed, joined, js

AT = 1730000000.5


@pytest.mark.parametrize(
    ("payloads", "expected"),
    [
        ([js("dialout-connected")], f"moved       {SESSION}  out  idle > connected"),
        ([js("dialout-connected")] * 2, f"duplicate   {SESSION}  out  dialout-connected"),
        ([js("dialin-stopped")], f"moved       {SESSION}  in   idle > stopped (unanswered)"),
        ([joined(), js("dialin-connected")], f"moved       {SESSION}  in   idle > connected > answered*"),
        ([js("dialout-stopped"), js("dialout-connected")], f"late        {SESSION}  out  dialout-connected"),
        ([js("dialout-error", None)], f"unmatched   {'':36}       dialout-error"),
        ([{"action": "x" * 50}], f"noted       {'':36}       {'x' * 39}…"),
        (
            [js("dialout-answered", destination=5)],
            f"moved       {SESSION}  out  idle > answered ! dialout-answered: destination came as 5",
        ),
    ],
)
def test_text_has_columns(payloads: list[dict[str, Any]], expected: str) -> None:
    """Without a time, the first column is empty."""
    outcome = feed(Engine(), *payloads)
    assert outcome_as_text(outcome, AT) == f"2024-10-27 03:33:20  {expected}"
    assert outcome_as_text(outcome) == f"{'':19}  {expected}"


def test_json_has_all_facts_under_one_key() -> None:
    """State and cause are those after the event."""
    outcome = feed(Engine(), js("dialout-answered"), js("dialout-stopped"))
    assert json.loads(outcome_as_json(outcome, AT)) == {
        "outcome": {
            "at": AT,
            "outcome": "moved",
            "event": "dialout-stopped",
            "session_id": SESSION,
            "direction": "dialout",
            "moves": [["answered", "stopped", "dialout-stopped"]],
            "state": "stopped",
            "cause": "completed",
            "anomalies": [],
        }
    }
    nobody = outcome_as_dict(feed(Engine(), js("dialout-error", None)))
    assert {key: nobody[key] for key in ("at", "session_id", "direction", "state", "cause", "moves")} == {
        "at": None,
        "session_id": None,
        "direction": None,
        "state": None,
        "cause": None,
        "moves": [],
    }


def test_numbers_are_masked_unless_asked_for() -> None:
    """Anywhere in the line; what could move the cursor is replaced in any case."""
    engine = Engine()
    engine.receive(parse(js("dialout-connected", destination="+12025550100")))
    odd = engine.receive(parse(js("dialout-answered", destination="+12025550199")))
    unknown = engine.receive(parse({"action": "call +12025550100 \x1b[31m"}))
    for outcome in (odd, unknown):
        for show in (outcome_as_text, outcome_as_json):
            assert "+120255501" not in show(outcome)
            assert "+120255501" in show(outcome, numbers=True)
            assert "\x1b" not in show(outcome, numbers=True)
            assert show(outcome).isprintable()
