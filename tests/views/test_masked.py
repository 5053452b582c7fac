"""Records are masked by their keys: ids stay, names become initials, numbers are hidden anywhere else."""

from __future__ import annotations

import pytest

from telstate.views._masked import mask_name, mask_record


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
