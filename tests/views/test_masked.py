"""Records are masked by their keys: ids stay, names become initials, numbers are hidden anywhere else."""

from __future__ import annotations

import pytest

from telstate import Direction, Engine, parse
from telstate.calls._session import Session
from telstate.testing import simulate
from telstate.views._masked import _FROM_TELSTATE, mask_name, mask_record, mask_session


def test_a_record_is_masked_by_its_keys() -> None:
    """However deep, in the spelling of telstate and of daily-js."""
    record = {
        "session_id": "1234567890",
        "sipCallId": "ab12@10.0.0.1",
        "room": "12345678",
        "legs": ["1234567890"],
        "display_name": "Ada Lovelace",
        "participant": {"userName": "Ada"},
        "destination": "+12025550100",
        "transfers": [["sip:alice.smith@host", "reached"]],
        "sip_headers": {"X-Number": "+12025550100"},
        "started_at": 1730000000.5,
        "events": 12345678,
        "error": None,
    }
    assert mask_record(record) == {
        **record,
        "display_name": "A••• L•••",
        "participant": {"userName": "A•••"},
        "destination": "+12•••••••00",
        "transfers": [["sip:ali••••••th@host", "reached"]],
        "sip_headers": {"X-Number": "+12•••••••00"},
    }


@pytest.mark.parametrize(
    ("name", "masked"),
    [
        ("Ada Lovelace", "A••• L•••"),
        ("Jean-Luc O'Neil", "J••• O•••"),
        ("+12025550100", "+12•••••••00"),
        ("Ada +12025550100", "A••• +12•••••••00"),
        ("Åsa", "Å•••"),
        ("", ""),
    ],
)
def test_a_name_becomes_initials(name: str, masked: str) -> None:
    """A number in it is masked as everywhere, and masking again changes nothing."""
    assert mask_name(name) == masked
    assert mask_name(masked) == masked


def test_what_is_private_is_masked_by_what_its_key_says() -> None:
    """An address however short, a number of any type, names in headers and in texts about them, keys, and an id that is none."""
    record = {
        "display_name": "Ada Lovelace",
        "destination": 12025550100,
        "called": "110",
        "transfers": [["4711", "not-reached"]],
        "sip_headers": {"X-Caller-Name": "Grace Hopper", "X-Campaign": "spring", "X-Customer-Id": "c-1"},
        "error": "lovelace and Hopper hung up",
        "session_id": ["+12025550100"],
        "notes": {"+12025550100": "called", "count": 12025550100},
    }
    assert mask_record(record) == {
        "display_name": "A••• L•••",
        "destination": "120••••••00",
        "called": "1•••",
        "transfers": [["4•••", "not-reached"]],
        "sip_headers": {"X-Caller-Name": "G••• H•••", "X-Campaign": "spring", "X-Customer-Id": "c-1"},
        "error": "l••• and H••• hung up",
        "session_id": ["+12•••••••00"],
        "notes": {"+12•••••••00": "called", "count": 12025550100},
    }


def test_what_telstate_says_of_a_session_stays_whatever_the_caller_is_called() -> None:
    """A program reads it. The name is masked in all that others wrote."""
    record = {
        **Session("c2ce6f44", Direction.DIALIN).to_dict(),
        "state": "stopped",
        "display_name": "Stopped Ada",
        "error": "Ada stopped it",
        "events": 12025550100,
        "transitions": [["connected", "stopped", "dialin-stopped"]],
    }
    assert mask_session(record) == {**record, "display_name": "S••• A•••", "error": "A••• s••• it"}


def test_a_session_is_masked_as_any_other_record() -> None:
    """Only quicker."""
    assert Session("c2ce6f44", Direction.DIALIN).to_dict().keys() >= _FROM_TELSTATE
    engine = Engine()
    for one in simulate(1, calls=200, dialects=["webhook"]):
        engine.receive(parse(one.line()))
    records = [session.to_dict(legs=()) for session in engine.sessions()]
    assert any(record["display_name"] for record in records)
    assert [mask_session(record) for record in records] == [mask_record(record) for record in records]


def test_a_name_that_is_known_is_masked_where_it_is_a_key() -> None:
    """Of a SIP header or a note: others have chosen those. telstate's own keys stay, also if somebody has their name."""
    masked = mask_record(
        {
            "error": "Ann Miller hung up",
            "display_name": "Error",
            "sip_headers": {"X-Name": "Ann Miller", "X-Ann Miller": "1", "X-Customer-Id": "7"},
            "notes": {"name": "Ann Miller", "Ann Miller": {"Ann Miller": 2}, "asked by": ["Ann Miller"]},
        }
    )
    assert "Ann" not in str(masked)
    assert "Miller" not in str(masked)
    assert masked["sip_headers"]["X-Customer-Id"] == "7"
    assert list(masked) == ["error", "display_name", "sip_headers", "notes"]
    assert list(masked["notes"]) == ["name", "A••• M•••", "asked by"]
