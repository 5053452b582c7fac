"""SIP URIs: headers and names arrive unchanged, and what Daily would not dial is refused."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from telstate.errors import DefinitionError
from telstate.options import SipDialout, dialin_uri, sip_uri
from telstate.options._uris import encode_uri_component, has_control, uri_problem

NODE = shutil.which("node")
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SHOWABLE = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip)


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("", ""),
        ("my user name", "my%20user%20name"),
        ("AZaz09-_.!~*'()", "AZaz09-_.!~*'()"),
        ("a+b&c=d?e/f:g@h;i,j#k$l%m", "a%2Bb%26c%3Dd%3Fe%2Ff%3Ag%40h%3Bi%2Cj%23k%24l%25m"),
        ('"<>[]\\^`{|}', "%22%3C%3E%5B%5D%5C%5E%60%7B%7C%7D"),
        ("Zoë 電話 😀", "Zo%C3%AB%20%E9%9B%BB%E8%A9%B1%20%F0%9F%98%80"),
        ("\n\0", "%0A%00"),
    ],
)
def test_encoding_equals_javascript(text: str, encoded: str) -> None:
    """The expected values come from a JavaScript engine."""
    assert encode_uri_component(text) == encoded


@pytest.mark.long
@pytest.mark.skipif(NODE is None, reason="node is not installed: only the fixed cases were compared")
@settings(max_examples=15, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=80))
def test_encoding_equals_node(texts: list[str]) -> None:
    """Many texts for each start of node, which is slow."""
    program = "process.stdout.write(JSON.stringify(JSON.parse(require('fs').readFileSync(0)).map(encodeURIComponent)))"
    run = subprocess.run(
        [str(NODE), "-e", program], input=json.dumps(texts).encode(), capture_output=True, check=True, timeout=60
    )
    assert [encode_uri_component(text) for text in texts] == json.loads(run.stdout)


def test_an_unpaired_surrogate_cannot_be_encoded() -> None:
    """JavaScript throws a URIError."""
    for text in ("\ud83d", "a\ude00b"):
        with pytest.raises(DefinitionError, match="an unpaired surrogate"):
            encode_uri_component(text)


def test_headers_follow_the_address() -> None:
    """In the given order, as in Daily's documentation."""
    headers = {"X-header-1": "val-1", "X-header-2": "val-2"}
    expected = "sip:bob@example.com?X-header-1=val-1&X-header-2=val-2"
    for address in ("sip:bob@example.com", "bob@example.com", "SIP:bob@example.com"):
        assert sip_uri(address, headers) == expected
        assert sip_uri(address) == sip_uri(address, {}) == "sip:bob@example.com"
    assert sip_uri("sip:bob@example.com?X-header-1=val-1", {"X-header-2": "val-2"}) == expected
    assert sip_uri("b@e.com", {"x-Order": "no 7 & 8+1"}) == "sip:b@e.com?x-Order=no%207%20%26%208%2B1"
    assert sip_uri("b@e.com", {"X-a": ""}) == "sip:b@e.com?X-a="
    assert sip_uri("b@e.com", {"X-%`+": "1"}) == "sip:b@e.com?X-%25%60%2B=1"


@pytest.mark.parametrize("name", ["", "X-", "X", "Order", "XOrder", "X-a b", "X-a:b", "X-a\n", "X-é", " X-a"])
def test_header_names_that_daily_would_not_send(name: str) -> None:
    """They do not begin with X-, or are not a token of SIP."""
    with pytest.raises(DefinitionError, match="a name must begin with X- followed by letters, digits"):
        sip_uri("bob@example.com", {name: "1"})


def test_invalid_header_values() -> None:
    """A line break would end the header at the far end and begin another."""
    for value in ("a\r\nX-Admin: yes", "\0", "a\x7f", "\ud83d"):
        with pytest.raises(DefinitionError, match="X-a has control characters in its value"):
            sip_uri("bob@example.com", {"X-a": value})
    number: dict[str, str] = {"X-a": 7}  # type: ignore[dict-item]
    with pytest.raises(DefinitionError, match=r"must be strings: convert them with str\(\)"):
        sip_uri("bob@example.com", number)
    for address, headers in [("b@e.com?X-A=1", {"x-a": "2"}), ("b@e.com", {"X-a": "1", "x-A": "2"})]:
        with pytest.raises(DefinitionError, match="is given twice: give it once"):
            sip_uri(address, headers)
    with pytest.raises(ValidationError, match="its header 'X-a' is given twice"):
        SipDialout(sip_uri="sip:bob@example.com?X-A=1&X-a=2")
    for nothing in (None, 5):
        with pytest.raises(DefinitionError, match="is not a SIP address: give a string"):
            dialin_uri(nothing, "x")  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="must be strings"):
        dialin_uri("a@b.example", 5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "uri",
    [
        "sip:bob@example.com",
        "sip:example.com",
        "sip:a@b",
        "sip:room.0@domain.sip-us.daily.co",
        "sip:+15551234567@example.com;transport=tcp;lr",
        "sip:bob:secret@192.168.0.1:5060",
        "sip:bob@[2001:db8::1]:65535",
        "sip:bob@[::1]",
        "sip:b%40b&=+$,;/@example.com.:1",
        "sip:bob@example.com;a=b?X-a=1&x-b=%20[/?:+$]",
    ],
)
def test_valid_uris_stay_unchanged(uri: str) -> None:
    """With and without user, port, parameters and headers."""
    assert uri_problem(uri) is None
    assert sip_uri(uri) == sip_uri(uri[4:]) == uri


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("", "must begin with sip:"),
        ("bob@example.com", "must begin with sip:"),
        ("SIP:bob@example.com", "sip: in lower case"),
        ("sips:bob@example.com", "Daily does not dial sips:"),
        ("sip:", "its host '' is invalid: write sip:<user>@<host>"),
        ("sip:bob@", "its host '' is invalid"),
        ("sip:@example.com", "its user '' is empty"),
        ("sip:a@b@c", "its user 'a@b' .* percent-encoded"),
        ("sip:zoë@example.com", "its user 'zoë' .* percent-encoded"),
        ("sip:a%4@example.com", "its user 'a%4'"),
        ("sip:#31#5@example.com", "its user '#31#5'"),
        ("sip:+15551234567", "its host"),
        ("sip:bob@-a.com", "its host"),
        ("sip:bob@a-.com", "its host"),
        ("sip:bob@a..com", "its host"),
        ("sip:bob@a_b.com", "its host"),
        ("sip:bob@example.com:", "its host"),
        ("sip:bob@example.com:0", "its host"),
        ("sip:bob@example.com:65536", "its host"),
        ("sip:bob@example.com:٣", "its host"),
        ("sip:bob@[::1", "its host"),
        ("sip:bob@::1]", "its host"),
        ("sip:bob@[::g]", "its host"),
        ("sip:bob@[::1]5060", "its host"),
        ('sip:bob@[fe80::1%"<>]', "its host"),
        ("sip:bob@example.com;", "its parameter '' is invalid: write ;<name>=<value>"),
        ("sip:bob@example.com;a=b=c", "its parameter 'a=b=c'"),
        ("sip:bob@exa mple.com", "whitespace or control characters"),
        ("sip:bob@example.com\n", "whitespace or control characters"),
        ("sip:bob@example.com?X-a=1\0", "whitespace or control characters"),
        ("sip:bob@example.com?", "its header '' would not be sent"),
        ("sip:bob@example.com?a=1", "its header 'a' would not be sent: a name must begin with X-"),
        ("sip:bob@example.com?X-a=1&Subject=2", "its header 'Subject' would not be sent"),
        ("sip:bob@example.com?X-a", "has no value: write X-a=<value>"),
        ("sip:bob@example.com?X-a=b@c", "value of its header 'X-a' must be percent-encoded"),
        ("sip:bob@example.com?X-a=b=c", "must be percent-encoded"),
        ("sip:bob@example.com?X-a=é", "must be percent-encoded"),
        ("sip:bob@example.com?X-a=1%0d%0aTo:2", "has control characters: remove them"),
    ],
)
def test_invalid_uris(uri: str, problem: str) -> None:
    """The message says what is wrong and what to do."""
    assert re.search(problem, uri_problem(uri) or "")


def test_invalid_addresses_are_refused() -> None:
    """Both functions refuse what the check refuses; the message is short."""
    for wrong in ("", "sips:bob@example.com", "bob@exa mple.com", "bob@", "x" * 10_000 + "@", "+15551234567"):
        with pytest.raises(DefinitionError, match=r"is not a SIP address that Daily takes: it") as raised:
            sip_uri(wrong)
        assert len(str(raised.value)) < 500
        with pytest.raises(DefinitionError, match="is not a SIP address that Daily takes"):
            dialin_uri(wrong, "me")


def test_a_dialin_uri_with_a_display_name() -> None:
    """Daily gives endpoints with and without `sip:`."""
    expected = "sip:123456780@example.sip.daily.co?x-daily_display_name=my%20user%20name"
    for endpoint in ("123456780@example.sip.daily.co", "sip:123456780@example.sip.daily.co"):
        assert dialin_uri(endpoint, "my user name") == expected
        assert dialin_uri(endpoint) == "sip:123456780@example.sip.daily.co"
    assert dialin_uri("1@e.co?X-a=1", "Zoë+") == "sip:1@e.co?X-a=1&x-daily_display_name=Zo%C3%AB%2B"
    for name in ("", "  "):
        with pytest.raises(DefinitionError, match="display name is empty: give one, or None"):
            dialin_uri("1@e.co", name)
    with pytest.raises(DefinitionError, match="x-daily_display_name has control characters"):
        dialin_uri("1@e.co", "a\nb")
    with pytest.raises(DefinitionError, match="'x-daily_display_name' is given twice"):
        dialin_uri(expected, "me")


@given(SHOWABLE, st.dictionaries(st.from_regex(r"[xX]-[a-z0-9_.!%~*+'`-]{1,9}", fullmatch=True), SHOWABLE, max_size=4))
def test_names_and_headers_can_be_decoded(name: str, headers: dict[str, str]) -> None:
    """The far end gets any text unchanged, and a space is never a plus."""
    for uri, given_ in [
        (sip_uri("bob@example.com", {key.lower(): value for key, value in headers.items()}), headers),
        (dialin_uri("bob@example.com", name), {"x-daily_display_name": name}),
    ]:
        query = uri.partition("?")[2]
        pairs = [part.split("=") for part in query.split("&")] if query else []
        assert {unquote(key): unquote(value) for key, value in pairs} == {
            key.lower(): value for key, value in given_.items()
        }
        assert "+" not in query
        assert uri_problem(uri) is None


@given(st.text())
def test_the_check_accepts_any_text(text: str) -> None:
    """It never raises, and a valid URI has nothing that could break a line."""
    for uri in (text, f"sip:{text}", f"sip:a@b?X-a={text}", f"sip:a@b;{text}"):
        if uri_problem(uri) is None:
            assert uri.isascii()
            assert not has_control(unquote(uri.partition("?")[2]))
