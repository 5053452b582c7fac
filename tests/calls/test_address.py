"""Spellings of one address agree, and different addresses do not; empty and anonymous values yield to real ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telstate import Engine
from telstate.calls._address import is_anonymous, plain_uri
from tests.calls import SESSION, feed, js

ENDPOINT = (
    "sip:support.0@example.sip.daily.co",
    "support.0@Example.sip.daily.co:5060",
    "SIPS:support.0@example.sip.daily.co:5061;transport=tls",
    '"Ann <x>" <sip:support.0@example.sip.daily.co;user=phone>;tag=5',
    "Ann <support.0@example.sip.daily.co?X-a=b>",
    " sip:support%2E0@example.sip.daily.co ",
)
NUMBER = (
    "+12025550142",
    "tel:+1-202-555-0142",
    "TEL:+1(202)555.0142;phone-context=x",
    "+1 (202) 555-0142",
    "sip:+12025550142@carrier.example;user=phone",
    "sip:%2B12025550142;npdi@other.example:5060",
    "<tel:+12025550142>",
)
DIFFERENT = (
    ENDPOINT[0],
    NUMBER[0],
    "sip:support.1@example.sip.daily.co",
    "sip:Support.0@example.sip.daily.co",
    "sip:support.0@example.sip.daily.co:5070",
    "tel:+12025550142;ext=7",
    "tel:0142;phone-context=+1202555",
    "2025550142",
    "sip:2025550142@carrier.example",
    "anonymous",
)


@pytest.mark.parametrize("spellings", [ENDPOINT, NUMBER], ids=["endpoint", "number"])
def test_spellings_of_one_address_agree(spellings: tuple[str, ...]) -> None:
    """Whatever does not say who it is."""
    assert len({plain_uri(uri) for uri in spellings}) == 1
    assert plain_uri(plain_uri(spellings[0])) == plain_uri(spellings[0])


def test_different_addresses_differ() -> None:
    """Another user, host, port or extension."""
    assert len({plain_uri(uri) for uri in DIFFERENT}) == len(DIFFERENT)


@given(st.text(max_size=60) | st.text(alphabet='<>";:@%+5 sip', max_size=60))
def test_any_text_has_a_plain_form(text: str) -> None:
    """No text raises; upper case in the scheme changes nothing."""
    assert isinstance(plain_uri(text), str)
    assert isinstance(is_anonymous(text), bool)


@pytest.mark.parametrize("spelling", ENDPOINT)
def test_an_endpoint_is_found_by_every_spelling(spelling: str) -> None:
    """On both sides of the comparison."""
    for known in ENDPOINT:
        engine = Engine()
        feed(engine, js("dialin-ready", None, sipEndpoint=known), js("dialin-connected", sipEndpoint=spelling))
        found = engine.endpoint(ENDPOINT[0])
        assert found is not None
        assert (found.ready, found.session_id) == (True, SESSION)


@given(st.permutations(["", "  ", "anonymous", "sip:anonymous@anonymous.invalid", "sip:+12025550142@a", None, {}, []]))
def test_a_real_value_wins_in_any_order(values: list[object]) -> None:
    """Without an anomaly: empty is unknown, and anonymous yields."""
    engine = Engine()
    for value in values:
        feed(engine, js("dialin-warning", sipFrom=value, displayName=value, sipHeaders=value if value == {} else None))
    session = engine.session(SESSION)
    assert session is not None
    assert session.sip_from == session.display_name == "sip:+12025550142@a"
    assert session.sip_headers is None
    assert session.anomalies == ()


def test_anonymous_is_shown() -> None:
    """As long as nothing better is known."""
    engine = Engine()
    feed(engine, js("dialin-connected", sipFrom="sip:anonymous@anonymous.invalid"))
    feed(engine, js("dialin-stopped", sipFrom=" "))
    session = engine.session(SESSION)
    assert session is not None
    assert session.sip_from == "sip:anonymous@anonymous.invalid"


def test_a_room_may_be_named_anonymous() -> None:
    """Only what a caller can hide yields: sessions are found by the other facts, which never change."""
    engine = Engine()
    feed(engine, js("dialout-connected", room="anonymous"), js("dialout-answered", room="x"))
    (session,) = engine.sessions()
    assert (session.room, session.anomalies) == ("anonymous", ("room: was anonymous, then x",))
