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
        ("sip:myroom.0@daily-2358023-app.dapp.signalwire.com", "sip:myroom.0@daily-2358023-app.dapp.signalwire.com"),
        ("sip:support.0@example.sip.daily.co;x=1", "sip:support.0@example.sip.daily.co;x=1"),
        ("at room-12.0@domain.sip-us.daily.co.", "at room-12.0@domain.sip-us.daily.co."),
        ("room-name@sip.daily.co", "room-name@sip.daily.co"),
        ("123456780@example.sip.daily.co", "123••••80@example.sip.daily.co"),
        ("sip:+12098888888@example.sip.daily.co", "sip:+12•••••••88@example.sip.daily.co"),
        ("sip:call-1-209-888-8888.0@example.sip.daily.co", "sip:cal••••••••••••••••.0@example.sip.daily.co"),
        ("support@example-main.siptrunk.sip-us.daily.co", "sup••rt@example-main.siptrunk.sip-us.daily.co"),
        ("support@sip.daily.co.example.com", "sup••rt@sip.daily.co.example.com"),
        ("support@notsip.daily.co", "sup••rt@notsip.daily.co"),
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
