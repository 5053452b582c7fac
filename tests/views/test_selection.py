"""Which calls are shown."""

from __future__ import annotations

import pytest

from telstate import Engine
from telstate.views import FIELDS, Condition, Selection
from telstate.views._selection import same_number
from tests.calls import feed, js

CALL = {
    "session_id": "7d208e2a-1",
    "sip_call_id": "c@daily",
    "pinless_call_id": "hold-1",
    "room": "lobby",
    "state": "stopped",
    "cause": "completed",
    "direction": "dialout",
    "destination": "+4930761863",
    "transfers": [["sip:ann@pbx.example", "reached"]],
    "legs": ["other"],
    "started_at": 100.0,
    "ended_at": 200.0,
    "anomalies": [],
    "talk_s": 60.0,
}


@pytest.mark.parametrize(
    "spelling",
    [
        "+4930761863",
        "+49 30 761863",
        "0049 (0)30/761863",
        "+49 (0) 30-761863",
        "030 761863",
        "030/761863",
        "tel:+49-30-761863",
        "sip:+4930761863@carrier.example;user=phone",
        '"Ann" <sip:+4930761863@carrier.example:5060>',
        "011 49 30 761863",
        "761863",
        "\u202d+49 30 761863\u202c",
        "+49\u00a030\u2011761\u2013863",
        "\uff0b\uff14\uff19 \u0663\u0660 761863",
    ],
)
def test_a_number_is_found_in_any_spelling(spelling: str) -> None:
    """As people type it, and as it stands in a log."""
    assert same_number(spelling, "+4930761863")
    assert same_number("030761863", spelling)
    assert Selection(numbers=(spelling,)).admits(CALL)


@pytest.mark.parametrize("other", ["+4930761864", "61863", "1863", "", "+", "7d208e2a", "sip:1863@pbx.example", "bob"])
def test_another_number_is_not(other: str) -> None:
    """Nor is the end of one that is too short."""
    assert not same_number(other, "+4930761863")
    assert not Selection(numbers=(other,)).admits(CALL)


def test_a_sip_address_is_found() -> None:
    """In whatever field it stands, also without its host."""
    assert Selection(numbers=("ann@PBX.example",)).admits(CALL)
    assert Selection(numbers=("ann",)).admits(CALL)
    assert not Selection(numbers=("an",)).admits(CALL)
    assert not same_number("1001", "sip:10011001@pbx.example")
    assert same_number("1001", "sip:1001@pbx.example")


@pytest.mark.parametrize(
    ("selection", "admits"),
    [
        (Selection(), True),
        (Selection(rooms=("hall", "lobby")), True),
        (Selection(rooms=("hall",)), False),
        (Selection(sessions=("7d208",)), True),
        (Selection(sessions=("d208",)), False),
        (Selection(calls=("c@daily",)), True),
        (Selection(calls=("other",)), True),
        (Selection(calls=("hold-1",)), True),
        (Selection(calls=("hold",)), False),
        (Selection(states=("stopped",), causes=("completed",), directions=("dialout",)), True),
        (Selection(states=("stopped",), causes=("unanswered",)), False),
        (Selection(since=150.0), True),
        (Selection(since=201.0), False),
        (Selection(until=99.0), False),
        (Selection(since=120.0, until=130.0), True),
        (Selection(anomalies=True), False),
        (Selection(where=Condition("talk_s > 59", FIELDS)), True),
        (Selection(where=Condition("talk_s > 60", FIELDS)), False),
    ],
)
def test_all_that_is_asked_must_hold(selection: Selection, admits: bool) -> None:
    """Of one field, any of the values."""
    assert selection.admits(CALL) is admits


def test_a_call_without_times_lies_in_no_time() -> None:
    """One that goes on has no end."""
    assert not Selection(since=0.0).admits({**CALL, "started_at": None, "ended_at": None})
    assert Selection(since=1e9).admits({**CALL, "ended_at": None})


def test_the_fields_are_those_of_the_record() -> None:
    """In the same order."""
    session = feed(Engine(), js("dialout-connected", "s")).session
    assert session is not None
    assert tuple(session.to_dict()) == FIELDS
