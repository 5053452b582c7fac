"""Masking: phone numbers of any country and SIP users are masked, nothing else is."""

from __future__ import annotations

import pytest

from telstate.events._masking import mask


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("+12098888888", "+12•••••••88"),
        ("+4930123456", "+49••••••56"),
        ("+8613912345678", "+86•••••••••78"),
        ("(209) 888-8888", "(209••••••••88"),
        ("call +12098888888 now", "call +12•••••••88 now"),
        ("sip:caller@example.com", "sip:c•••@example.com"),
        ("sips:+12098888888@example.com", "sips:+12•••••••88@example.com"),
        ("caller@example.com", "c•••@example.com"),
        ("sip:myroom.0@daily-2358023-app.dapp.signalwire.com", "sip:myr•••.0@daily-2358023-app.dapp.signalwire.com"),
        ("7d208e2a-520b-4a8d-a2c9-123456789012", "7d208e2a-520b-4a8d-a2c9-123456789012"),
        ("room-12", "room-12"),
        ("2026-09-21 14:14:34 +12098888888", "2026-09-21 14:14:34 +12•••••••88"),
        ("2024-01-01 INFO", "2024-01-01 INFO"),
        ("404", "404"),
        ("", ""),
    ],
)
def test_mask(text: str, masked: str) -> None:
    """Enough stays to recognise a known number."""
    assert mask(text) == masked
