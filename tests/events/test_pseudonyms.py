"""Pseudonyms: stable, keyed, and with what correlates calls."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telstate.calls._address import plain_uri
from telstate.calls._caller_numbers import agree
from telstate.events._pseudonyms import Pseudonyms
from telstate.events._redaction import Redaction

SHOWN = Pseudonyms(b"key")
REDACTION = Redaction(SHOWN)
NUMBERS = st.from_regex(r"\A(\+|0{0,2})[1-9][0-9]{3,14}\Z")
"""No country code begins with a zero."""


def may_be_one(a: str, b: str) -> bool:
    """Return False for two numbers of which no numbering plan makes one the end of the other: a number with a `+` is whole."""
    whole = [one for one in (a, b) if one.startswith("+")]
    return (
        a == b
        or not whole
        or (len(whole) == 1 and len(whole[0].lstrip("+")) >= max(len(a.lstrip("+")), len(b.lstrip("+"))))
    )


@pytest.mark.long
@given(NUMBERS, NUMBERS)
def test_numbers_agree_as_before(one: str, other: str) -> None:
    """With or without the country's code."""
    for a, b in ((one, other), (one, one.lstrip("+")[2:])):
        if max(len(a.lstrip("+")), len(b.lstrip("+"))) <= 12:
            assert (SHOWN.number(a) == SHOWN.number(b)) is (a == b)
            if may_be_one(a, b):
                assert agree(SHOWN.number(a), SHOWN.number(b)) is agree(a, b)


@given(NUMBERS)
def test_a_number_becomes_another_one(number: str) -> None:
    """No digit but the zeros stays, and it is at most fifteen digits long."""
    shown = SHOWN.number(number)
    digits = number.lstrip("+")
    assert len(shown.lstrip("+0")) <= 15
    assert shown.startswith("+999") is number.startswith("+")
    if digits.strip("0"):
        assert not shown.endswith(digits[-12:])


ADDRESSES = (
    ("+12025550142", "sip:+12025550142@carrier.example", "tel:+1-202-555-0142", '"Ann" <sip:+12025550142@Carrier.example:5060;user=phone>'),
    ("sip:bob@pbx.example", "bob@PBX.example:5060", "<sip:bob@pbx.example>", "sip:bob@pbx.example?x-daily_display_name=Bob%20B"),
    ("sip:Bob@pbx.example",),
    ("1001",),
    ("sip:1001@pbx.example",),
    ("030 761863", "030-761863"),
    ("+4930761863", "+49 (30) 761863"),
    ("sip:room.0@example.sip.daily.co",),
    ("anonymous",),
)  # fmt: skip


def test_addresses_that_are_one_stay_one() -> None:
    """And others stay others, in the eyes of the engine."""
    shown = [[plain_uri(REDACTION.address(one)) for one in group] for group in ADDRESSES]
    assert [len(set(group)) for group in shown] == [len({plain_uri(one) for one in group}) for group in ADDRESSES]
    firsts = [group[0] for group in shown]
    assert len(set(firsts)) == len(firsts)


@pytest.mark.parametrize("kept", ["", "anonymous", "sip:anonymous@anonymous.invalid", "7d208e2a-520b-4a8d-a2c9-3a36dfa0d342", "sip:my-room.0@example.sip.daily.co"])  # fmt: skip
def test_nobodys_address_stays(kept: str) -> None:
    """Hidden callers, ids of purchased numbers, and the endpoints of rooms."""
    assert REDACTION.address(kept) == kept


def test_users_and_names() -> None:
    """Of each its own, in any case of letters."""
    assert SHOWN.user("bob") != SHOWN.user("Bob")
    assert SHOWN.user("bob") == SHOWN.user("Bob").lower()
    assert SHOWN.name("Ada  Lovelace") == SHOWN.name("ada lovelace")
    assert re.fullmatch(r"user-[a-z]{10}", SHOWN.user("bob"))
    assert re.fullmatch(r"Name-[a-z]{10}", SHOWN.name("Ada"))
    assert SHOWN.user("bob") != Pseudonyms(b"other").user("bob")


def test_a_text_keeps_what_is_not_private() -> None:
    """Times, ids, sizes and the words around."""
    text = "503 after 1790000000.25 s at 2026-10-01T14:30:00Z for 7d208e2a-520b-4a8d-a2c9-3a36dfa0d342 (4096 bytes)"
    assert REDACTION.text(text) == text
    assert re.fullmatch(r"no route to \+999\d{11}, nor to sip:user-\w+@x", REDACTION.text("no route to +12025550142, nor to sip:bob@x"))  # fmt: skip
