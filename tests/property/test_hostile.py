"""Promise 8: any input is a ParseError or an outcome, nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telstate import Dialect, ParseError, Replay, SipTrunkIncoming, event_types, parse
from tests.corpus import payloads

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("x" * 2000),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        "action",
        "type",
        "payload",
        "handler",
        "data",
        "v",
        "dialect",
        "done",
        "journal",
        "settings",
        "at",
        "seq",
        "event",
        "id",
        "event_ts",
        "sessionId",
        "session_id",
        "sipCallId",
        "sipEndpoint",
        "sip_endpoint",
        "participant",
        "room",
        "timestamp",
        "To",
        "From",
        "callId",
        "callDomain",
        "notes",
        "reason",
        "event",
        "dialin_settings",
        "daily_api_key",
        "participantId",
        "details",
        "sipHeaders",
        "dueAt",
        "deadline",
        "from",
        "to",
        "call_id",
        "room_url",
        "roomUrl",
        "url",
        "name",
        "trunk",
    ]
)
NAMES = st.sampled_from(
    [
        *event_types(),
        *(name.replace("-", ".", 1) for name in event_types()),
        *(f"on_{name.replace('-', '_')}" for name in event_types()),
        *Dialect,
        "sip_trunk.incoming",
        "https://x.daily.co/r",
    ]
)
OBJECTS = st.dictionaries(
    KEYS | st.text(max_size=5), JSON | NAMES | st.dictionaries(KEYS, JSON | NAMES, max_size=6), max_size=8
)


def check_survives(raw: bytes | dict[str, Any], dialect: Dialect | None = None) -> None:
    """Check that it parses and survives a round trip, or is a ParseError. Either way a replay goes on."""
    replay = Replay()
    data = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
    try:
        replay.feed(data)
    except ParseError as error:
        message = str(error)
    else:
        message = ""
    assert len(message) < 1000
    try:
        event = parse(raw, dialect)
    except ParseError:
        return
    assert parse(event.to_json()) == event
    outcome = replay.engine.receive(event, 5.0)
    assert outcome.event is event
    for session in replay.engine.sessions():
        assert sum(len(text) for text in session.anomalies) < 10_000
    json.dumps(replay.engine.snapshot())


@pytest.mark.long
@given(OBJECTS, st.none() | st.sampled_from(list(Dialect)))
def test_objects_with_known_keys_and_any_values(payload: dict[str, Any], dialect: Dialect | None) -> None:
    """Wrong types everywhere, known names in wrong places, keys of one dialect in another."""
    check_survives(payload, dialect)


@given(OBJECTS, OBJECTS | JSON)
def test_a_trunks_webhook_with_any_fields(fields: dict[str, Any], payload: Any) -> None:
    """Only its type is needed: whatever else comes is never a ParseError."""
    body = {key: value for key, value in fields.items() if key not in ("action", "v", "dialect", "journal")}
    body = {**body, "type": "sip_trunk.incoming", "payload": payload}
    check_survives(body)
    assert isinstance(parse(body), SipTrunkIncoming)


@given(st.data())
def test_documented_payloads_with_one_thing_changed(data: st.DataObject) -> None:
    """The nearest neighbours of valid payloads."""
    payload = json.loads(json.dumps(data.draw(st.sampled_from(payloads()))["payload"]))
    holder = payload["payload"] if "payload" in payload and data.draw(st.booleans()) else payload
    key = data.draw(st.sampled_from(sorted(holder)))
    if data.draw(st.booleans()):
        holder[key] = data.draw(JSON)
    else:
        del holder[key]
    check_survives(payload)


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes(raw: bytes) -> None:
    """Random bytes and texts."""
    check_survives(raw)


@given(st.data())
def test_broken_bytes_of_real_payloads(data: st.DataObject) -> None:
    """Cut off, and with bytes replaced."""
    raw = bytearray(json.dumps(data.draw(st.sampled_from(payloads()))["payload"]).encode())
    for _ in range(data.draw(st.integers(0, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    check_survives(bytes(raw[: data.draw(st.integers(0, len(raw)))]))


@pytest.mark.parametrize(
    "raw",
    [
        b'{"action":' * 100_000,
        b'{"action":"dialin-stopped","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"action":"dialin-stopped","x":' + b'{"x":' * 150 + b"1" + b"}" * 150 + b"}",
        b'{"action":"dialin-stopped","sessionId":"' + b"x" * 10_000_000 + b'"}',
        b'{"action":"' + b"x" * 10_000_000 + b'"}',
        b'{"' + b"x" * 10_000_000 + b'":1}',
        b'{"action":"dialin-stopped","sessionId":"s","x":' + b"9" * 100_000 + b"}",
        b'{"action":"dialin-stopped","sessionId":"s","occurredAt":' + b"9" * 400 + b"}",
        b'{"action":"dialin-stopped","sessionId":"\x00\xff"}',
        b'{"action":"dialin-stopped","sessionId":"\\u0000"}',
        b'{"action":"dialin-stopped","sessionId":"\\ud800"}',
        b'{"action":"dialin-stopped","action":"dialout-answered","sessionId":"s"}',
        b'{"v":1,"journal":"x","settings":{"retention":-1}}',
        b'{"v":1,"journal":"x","settings":{"retention":1e400}}',
        b'{"v":1,"journal":"x","settings":5}',
        b'{"v":1,"journal":{},"settings":{}}',
        b'{"v":1,"at":1e400,"dialect":"daily-js","payload":{"action":"dialin-stopped"}}',
        b'{"v":1,"at":true,"dialect":"daily-js","payload":{"action":"dialin-stopped"}}',
        b"\xef\xbb\xbf{}",
        b"\xff\xfe{\x00}\x00",
    ],
    ids=range(20),
)
def test_input_of_attackers(raw: bytes) -> None:
    """Nesting, size, numbers, odd characters, repeated keys, invalid journals."""
    check_survives(raw)


def test_mappings_with_keys_of_any_type() -> None:
    """The dict of a backend need not come from JSON."""
    for payload in (
        {1: 2, "action": "dialin-stopped"},
        {None: None},
        {(1, 2): 3},
        {b"action": b"x"},
        {"action": b"\xff"},
    ):
        try:
            parse(payload)  # type: ignore[arg-type]
        except ParseError:
            continue
