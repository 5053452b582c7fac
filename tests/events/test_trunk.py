"""The webhook of a SIP trunk, in every form that it may have: Daily's page about its fields is known only in part."""

from __future__ import annotations

import json
from typing import Any

import pytest

from telstate import DialinConnected, ParseError, SipTrunkIncoming, UnknownEvent, parse
from telstate.events import Dialect

FROM, TO = "+12025550142", "+12025550100"
URL = "https://example.daily.co/support-7"
FIELDS: dict[str, Any] = {
    "timestamp": "1790000000",
    "domain_id": "d1",
    "from": FROM,
    "to": TO,
    "call_id": "c1",
    "room": {"name": "support-7", "url": URL},
    "trunk": {"name": "main", "description": "the office"},
}
ENVELOPE = {"version": "1.0.0", "type": "sip_trunk.incoming", "id": "e1", "event_ts": 1790000000.25}


def incoming(**fields: Any) -> SipTrunkIncoming:
    """Parse a trunk's webhook of these fields, and check that it can be written and read again."""
    return read({**ENVELOPE, "payload": fields})


def read(body: dict[str, Any]) -> SipTrunkIncoming:
    """Parse a body, and check that it can be written and read again."""
    event = parse(json.dumps(body))
    assert isinstance(event, SipTrunkIncoming)
    assert parse(event.to_json()) == event
    assert parse(body, Dialect.WEBHOOK) == event
    return event


@pytest.mark.parametrize("body", [{**ENVELOPE, "payload": FIELDS}, {**ENVELOPE, **FIELDS}], ids=["envelope", "flat"])
def test_all_that_is_known_is_read(body: dict[str, Any]) -> None:
    """In an envelope, and at the top level."""
    event = read(body)
    assert (event.name, event.from_, event.to, event.call_id) == ("sip-trunk-incoming", FROM, TO, "c1")
    assert (event.room, event.room_url, event.domain_id) == ("support-7", URL, "d1")
    assert (event.occurred_at, event.sent_at, event.webhook_id) == (1790000000.0, 1790000000.25, "e1")
    assert event.trunk == {"name": "main", "description": "the office"}
    assert (event.session_id, event.sip_call_id, event.anomalies) == (None, None, ())
    assert event.model_extra == {"version": "1.0.0"}


@pytest.mark.parametrize(
    "spelled",
    [
        {"From": FROM, "To": TO, "callId": "c1", "callDomain": "x", "sipHeaders": {"X-A": "1"}},
        {"from": FROM, "to": TO, "call_id": "c1", "call_domain": "x", "sip_headers": {"X-A": "1"}},
        {"From": "", "from": FROM, "To": None, "to": TO, "callId": "c1", "callDomain": "x", "sipHeaders": {"X-A": "1"}},
    ],
)
def test_numbers_and_ids_are_read_in_each_spelling(spelled: dict[str, Any]) -> None:
    """Those of Daily's pinless webhook, and those of its other webhooks. What is empty gives way."""
    event = incoming(**spelled)
    assert (event.from_, event.to, event.call_id, event.call_domain) == (FROM, TO, "c1", "x")
    assert event.sip_headers == {"X-A": "1"}


@pytest.mark.parametrize(
    ("room", "name", "url"),
    [
        ({"url": URL}, "support-7", URL),
        ({"url": f"{URL}/?t=1#x"}, "support-7", f"{URL}/?t=1#x"),
        ({"name": "", "url": URL}, "support-7", URL),
        ({"name": "other", "url": URL}, "other", URL),
        ({"name": "only"}, "only", None),
        ("plain", "plain", None),
        (URL, "support-7", URL),
        ({"url": "https://example.daily.co"}, None, "https://example.daily.co"),
        ({"url": "https://[broken"}, None, "https://[broken"),
        ({}, None, None),
        (None, None, None),
    ],
)
def test_the_name_of_the_room_follows_from_its_address(room: Any, name: str | None, url: str | None) -> None:
    """Where Daily names only the address."""
    event = incoming(room=room)
    assert (event.room, event.room_url, event.anomalies) == (name, url, ())


def test_every_field_but_the_type_is_optional() -> None:
    """And empty ones are unknown."""
    for body in ({"type": "sip_trunk.incoming"}, {"type": "sip_trunk.incoming", "payload": {}}):
        assert read(body).model_dump(exclude_none=True) == {"action": "sip-trunk-incoming"}
    empty = incoming(
        **{"from": "", "To": " ", "callId": "", "room": {"name": "", "url": ""}, "trunk": {}, "sipHeaders": {}}
    )
    assert empty.model_dump(exclude_none=True, exclude={"action", "sent_at", "webhook_id", "version"}) == {}
    assert empty.anomalies == ()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("from", 12025550142),
        ("call_id", {"a": 1}),
        ("room", 7),
        ("room", {"url": 7}),
        ("trunk", "main"),
        ("timestamp", "x"),
    ],
)
def test_an_odd_field_is_an_anomaly(field: str, value: Any) -> None:
    """It costs nobody the call."""
    event = incoming(**{**FIELDS, field: value})
    assert len(event.anomalies) == 1
    assert event.to == TO


def test_unknown_fields_are_kept() -> None:
    """Also those of the room."""
    event = read({**ENVELOPE, "more": 1, "payload": {"room": {"url": URL, "privacy": "private", "name": 5}, "x": [1]}})
    assert event.model_extra == {
        "version": "1.0.0",
        "more": 1,
        "x": [1],
        "roomDetails": {"privacy": "private", "name": 5},
    }
    assert (event.room, event.anomalies) == ("support-7", ())
    assert read({"type": "sip_trunk.incoming", "payload": [1]}).model_extra == {"payload": [1]}


def test_the_payload_outweighs_what_stands_beside_it() -> None:
    """Unless it is empty there."""
    event = read({**ENVELOPE, "from": "+1", "to": TO, "payload": {"from": FROM, "to": ""}})
    assert (event.from_, event.to) == (FROM, TO)


@pytest.mark.parametrize(
    ("fields", "own"),
    [
        ({"call_id": "c1"}, "c1"),
        ({"room": {"url": URL}, "timestamp": "1790000000"}, "support-7 1790000000"),
        ({"room": {"url": URL}}, None),
        ({}, None),
    ],
)
def test_a_redelivery_is_known_without_an_id(fields: dict[str, Any], own: str | None) -> None:
    """By the call, else by its room and time."""
    assert read({"type": "sip_trunk.incoming", **fields}).webhook_id == own


@pytest.mark.parametrize("kind", [None, 5, "", "sip_trunk"])
def test_a_type_is_needed(kind: Any) -> None:
    """Without one, or with another one, it is no trunk's webhook."""
    body = {**ENVELOPE, "type": kind, "payload": FIELDS}
    if kind == "sip_trunk":
        assert isinstance(parse(body), UnknownEvent)
    else:
        with pytest.raises(ParseError, match="type"):
            parse(body)


def test_others_are_not_taken_for_it() -> None:
    """Daily's test, other webhooks with its fields, and bodies that only have the fields."""
    assert isinstance(parse({"type": "sip_trunk.test"}), UnknownEvent)
    connected = parse({"type": "dialin.connected", "id": "1", "payload": {**FIELDS, "room": "r", "session_id": "s"}})
    assert isinstance(connected, DialinConnected)
    with pytest.raises(ParseError):
        parse({"room": {"url": URL}, "trunk": {"description": "x"}})


def test_secrets_are_left_out() -> None:
    """Whoever sent them."""
    event = incoming(**FIELDS, daily_api_key="secret", room_config={"daily_api_key": "secret"})
    assert b"secret" not in event.to_json()
