"""`parse`: every documented payload, every schema with and without its optional fields, and invalid payloads."""

from __future__ import annotations

import json
from collections import UserDict
from types import MappingProxyType
from typing import Any

import pydantic
import pytest

from telstate import (
    DialinConnected,
    DialinReady,
    DialinStopped,
    DialoutAnswered,
    DialoutConnected,
    DialoutError,
    DialoutRefused,
    DialoutStopped,
    DtmfReceived,
    Event,
    MeetingEnded,
    ParseError,
    ParticipantJoined,
    ParticipantLeft,
    PinlessDialin,
    StopRequested,
    TransferTriggered,
    UnknownEvent,
    event_types,
    parse,
)
from telstate.events import Dialect
from telstate.events._dialects.journal import wrap
from telstate.events._json import clean
from telstate.events._parse import parse_line
from tests.corpus import payloads, schema

VALUES: dict[str, Any] = {
    "string": "some text",
    "str": "some text",
    "number": -10.5,
    "dict": {"X-Header": "1"},
    "Record<string,any>": {"X-Header": "1"},
    "'start-failed'|null": None,
    "{sipEndpoint?: string}": {"sipEndpoint": "sip:a@b"},
    "{destination?: string; sipHeaders?: {[key: string]: string}}": {"destination": "+12025550100"},
}


def round_trip(event: Event) -> Event:
    """Write the event and read it again, as bytes and as the documented dump."""
    assert parse(event.model_dump(by_alias=True)) == event
    assert parse(event.model_dump_json(by_alias=True)) == event
    return parse(event.to_json())


@pytest.mark.parametrize(
    "row", payloads(), ids=lambda row: f"{row['dialect']}-{row['payload'].get('type') or row['payload']['action']}"
)
def test_every_documented_payload_parses_in_its_dialect(row: dict[str, Any]) -> None:
    """With the dialect given or detected, as bytes, text or mapping: the same event, no anomalies, and it can be read back."""
    payload = row["payload"]
    event = parse(payload, row["dialect"])
    name = payload.get("action") or payload["type"].replace(".", "-")
    assert event.name == name
    assert not event.anomalies
    raw = json.dumps(payload).encode()
    assert (
        event == parse(payload) == parse(raw.decode()) == parse(raw) == parse(bytearray(raw)) == parse(memoryview(raw))
    )
    assert round_trip(event) == event


def _daily_js_cases() -> list[dict[str, Any]]:
    cases = []
    for name, fields in schema("daily-js")["events"].items():
        required = {key: VALUES[kind] for key, kind in fields["required"].items()}
        optional = {key: VALUES[kind] for key, kind in fields["optional"].items()}
        full = {"action": name, "callClientId": "c", **required, **optional}
        cases += [full, {"action": name, "callClientId": "c", **required}]
        cases += [{key: value for key, value in full.items() if key != missing} for missing in optional]
    return cases


@pytest.mark.parametrize("payload", _daily_js_cases(), ids=lambda payload: f"{payload['action']}-{len(payload)}")
def test_daily_js_schema(payload: dict[str, Any]) -> None:
    """Each optional field can be missing, and each present one arrives under its snake_case name."""
    event = parse(payload)
    assert event.name == payload["action"]
    assert not event.model_extra
    assert json.loads(event.to_json()) == payload
    assert round_trip(event) == event


@pytest.mark.parametrize("name", [name for name in schema("daily-js")["events"] if name.startswith("dialout")])
def test_daily_js_before_0_90_had_few_fields(name: str) -> None:
    """No provider, no sipCallId and, for dial-outs, no sessionId."""
    event = parse({"action": name, "callClientId": "c", "errorMsg": "x"} if "error" in name else {"action": name})
    assert event.name == name
    assert event.session_id is None


@pytest.mark.parametrize("name", schema("webhook")["events"])
@pytest.mark.parametrize("timestamp", ["1728023426", 1728023426, 1728023426.25, 1])
def test_webhook_schema(name: str, timestamp: Any) -> None:
    """Every documented field arrives; times come as string, integer or float."""
    fields = [field.split("?")[0].split(" ")[0] for field in schema("webhook")["events"][name]]
    payload: dict[str, Any] = {field: f"a {field}" for field in fields}
    payload["timestamp"] = timestamp
    if "sip_headers" in payload:
        payload["sip_headers"] = {"X-A": "1"}
    if "is_sip_refer" in payload:
        payload["is_sip_refer"] = True
    event = parse({"version": "1.0.0", "type": name, "id": "an id", "payload": payload, "event_ts": 1728023427.5})
    assert event.name == name.replace(".", "-")
    assert event.occurred_at == float(timestamp)
    assert event.sent_at == 1728023427.5
    assert event.room == "a room"
    assert event.domain_id == "a domain_id"
    assert event.webhook_id == "an id"
    assert event.model_extra == {"version": "1.0.0"}
    assert not event.anomalies
    assert round_trip(event) == event


@pytest.mark.parametrize("name", schema("webhook")["events"])
def test_only_the_ids_of_a_webhook_are_required(name: str) -> None:
    """In daily-ruby's models every field is optional, also the envelope's id."""
    needed = {"dialin.ready": {"sip_endpoint": "sip:a@b"}}
    least = {"session_id": "s"} if name.startswith("calltransfer") else needed.get(name, {})
    assert parse({"type": name, "payload": least}).name == name.replace(".", "-")


def test_the_caller_id_of_a_webhook_is_not_a_number() -> None:
    """It is the UUID of a purchased number; daily-js's callerId is the number itself."""
    webhook = parse({"type": "dialout.answered", "payload": {"session_id": "s", "caller_id": "34b0eb2b"}})
    client = parse({"action": "dialout-answered", "sessionId": "s", "callerId": "+13977888822"})
    assert isinstance(webhook, DialoutAnswered)
    assert isinstance(client, DialoutAnswered)
    assert (webhook.caller_id, webhook.phone_number_id) == (None, "34b0eb2b")
    assert (client.caller_id, client.phone_number_id) == ("+13977888822", None)


@pytest.mark.parametrize("name", schema("daily-python")["events"])
def test_daily_python_schema(name: str) -> None:
    """A handler and its dict; `message` is errorMsg, and on_dialin_ready gets a plain string."""
    fields = schema("daily-python")["events"][name]
    handler = f"on_{name.replace('-', '_')}"
    if name == "dialin-ready":
        event = parse({"handler": handler, "data": "sip:room@sip.daily.co"})
        assert isinstance(event, DialinReady)
        assert event.sip_endpoint == "sip:room@sip.daily.co"
        return
    if name == "dtmf-event":
        event = parse({"handler": handler, "data": {"sessionId": "s", "tone": "5", "volume": 1, "method": "sip-info"}})
        assert isinstance(event, DtmfReceived)
        assert (event.session_id, event.tone, event.volume) == ("s", "5", 1.0)
        return
    data = {key: VALUES[kind] for part in ("required", "optional") for key, kind in fields[part].items()}
    event = parse({"handler": handler, "data": data})
    assert event.name == name
    assert event.session_id == "some text"
    assert not event.model_extra
    if "message" in data:
        assert getattr(event, "error_msg") == "some text"  # noqa: B009 - which class it is varies
    assert round_trip(event) == event
    assert parse({"handler": handler, "data": {"sessionId": "s"}}).session_id == "s"


def test_participants_in_three_dialects() -> None:
    """The participant's id is the session id, wherever the dialect has it."""
    client = parse(
        {
            "action": "participant-joined",
            "callClientId": "c",
            "participant": {"session_id": "s", "user_name": "A", "local": False},
        }
    )
    python = parse(
        {"handler": "on_participant_joined", "data": {"id": "s", "info": {"userName": "A", "isLocal": False}}}
    )
    webhook = parse(
        {
            "type": "participant.joined",
            "id": "w",
            "payload": {"session_id": "s", "user_name": "A", "room": "r", "joined_at": 10.5},
        }
    )
    for event in (client, python, webhook):
        assert isinstance(event, ParticipantJoined)
        assert (event.session_id, event.participant.user_name) == ("s", "A")
        assert round_trip(event) == event
    assert (webhook.room, webhook.occurred_at) == ("r", 10.5)
    both = parse({"handler": "on_participant_left", "data": [{"id": "s"}, "hidden"]})
    assert isinstance(both, ParticipantLeft)
    assert (both.session_id, both.reason) == ("s", "hidden")
    left = parse({"type": "participant.left", "payload": {"session_id": "s", "joined_at": 10.5, "duration": 5}})
    assert isinstance(left, ParticipantLeft)
    assert left.occurred_at == 15.5


@pytest.mark.parametrize(
    ("handler", "argument"),
    [
        ("on_dialin_ready", "sip:a@b"),
        ("on_dialin_connected", {"sessionId": "s", "sipFrom": "sip:c@d"}),
        ("on_dialout_connected", {"participantId": "s"}),
        ("on_participant_joined", {"id": "s", "info": {"userName": "Ann"}}),
        ("on_dtmf_event", {"sessionId": "s", "tone": "1"}),
        ("on_network_connection_status_updated", {"connection": "signalling", "status": "interrupted"}),
    ],
)
def test_the_only_argument_of_a_handler_may_stand_in_a_list(handler: str, argument: Any) -> None:
    """A recorder of all handlers writes their arguments."""
    assert parse({"handler": handler, "data": [argument]}) == parse({"handler": handler, "data": argument})


def test_a_pinless_dialin_is_detected_by_its_keys() -> None:
    """The waiting caller's webhook has no envelope."""
    event = parse({"To": "+1", "From": "+2", "callId": "c", "callDomain": "d", "sipHeaders": {}})
    assert isinstance(event, PinlessDialin)
    assert (event.to, event.from_, event.call_id, event.call_domain) == ("+1", "+2", "c", "d")
    assert isinstance(parse({"callId": "c", "callDomain": "d"}), PinlessDialin)
    assert round_trip(event) == event


def test_a_call_id_alone_is_nobody_on_hold() -> None:
    """JSON of other vendors has one too. Other dialects outweigh even both keys."""
    bodies: list[dict[str, Any]] = [
        {"callId": "c", "From": "+1"},
        {"callId": "c", "callDomain": ""},
        {"callId": 5, "callDomain": "d"},
        {"event": "call.ended", "callId": "c", "callDomain": "d"},
        {"type": "dialin.connected", "callId": "c", "callDomain": "d"},
        {"type": "x", "To": "+1", "From": "+2"},
        {"event": None, "dialin_settings": {"call_id": "c", "call_domain": "d"}},
        {"dialin_settings": {"call_id": "c"}},
        {"dialin_settings": []},
    ]
    for foreign in bodies:
        for dialect in (None, Dialect.WEBHOOK):
            try:
                event = parse(foreign, dialect)
            except ParseError:
                continue
            assert not isinstance(event, PinlessDialin)
            assert event.session_id is None
    assert isinstance(parse({"handler": "on_dialin_stopped", "data": {"sessionId": "s"}, "callId": "c"}), DialinStopped)


def test_a_daily_js_event_can_have_keys_of_other_dialects() -> None:
    """`v` and `done` must not turn a hang-up into a journal's mark."""
    assert isinstance(
        parse({"action": "dialout-stopped", "sessionId": "s", "provider": 5, "v": 1, "done": 1}), DialoutStopped
    )
    event = parse({"type": "foo.bar", "payload": {"v": 1, "done": 2}})
    assert round_trip(event) == event


def test_nested_mappings_of_other_kinds() -> None:
    """For example a framework's multi-dict."""
    payload = MappingProxyType({"session_id": "s"})
    assert parse({"type": "dialout.stopped", "payload": payload}).session_id == "s"
    assert parse({"handler": "on_dialout_stopped", "data": UserDict(sessionId="s")}).session_id == "s"


@pytest.mark.parametrize("read", [json.dumps, dict])
def test_times_of_a_participant_may_be_texts(read: Any) -> None:
    """As all times of webhooks."""
    payload = {"session_id": "s", "joined_at": "1790000002", "duration": "88"}
    left = parse(
        read({"version": "1", "type": "participant.left", "id": "i", "event_ts": 1790000200.0, "payload": payload})
    )
    assert isinstance(left, ParticipantLeft)
    assert (left.joined_at, left.occurred_at) == (1_790_000_002.0, 1_790_000_090.0)
    assert round_trip(left) == left


@pytest.mark.parametrize(
    ("joined_at", "duration"),
    [("1" + "0" * 400, "1.5"), ("1.7e308", "1.7e308"), ("true", "1"), ('"x"', "1"), ("5", "NaN")],
)
def test_invalid_times_of_a_participant(joined_at: str, duration: str) -> None:
    """They stay with the participant as they came."""
    payload = f'{{"session_id":"s","joined_at":{joined_at},"duration":{duration}}}'
    event = parse(f'{{"type":"participant.left","payload":{payload}}}')
    assert event.session_id == "s"
    assert event.occurred_at in (None, 5.0)
    assert round_trip(event) == event


def test_nan_inside_a_participant() -> None:
    """It becomes text, as everywhere."""
    event = parse(b'{"action":"participant-joined","participant":{"session_id":"s","x":[NaN]}}')
    assert isinstance(event, ParticipantJoined)
    assert event.participant.model_extra == {"x": ["NaN"]}


def test_keys_of_unknown_handlers_keep_their_names() -> None:
    """`message` is errorMsg only for known handlers."""
    assert parse({"handler": "on_app_message", "data": {"message": "hi"}}).model_extra == {"message": "hi"}


def test_meeting_ended() -> None:
    """Its time is `end_ts`."""
    event = parse({"type": "meeting.ended", "payload": {"start_ts": 5, "end_ts": 9, "meeting_id": "m", "room": "r"}})
    assert isinstance(event, MeetingEnded)
    assert (event.room, event.meeting_id, event.occurred_at) == ("r", "m", 9.0)


@pytest.mark.parametrize(
    ("payload", "dialect", "event"),
    [
        ({"action": "dialin-stopped", "sessionId": "s"}, "daily-js", None),
        ({"type": "dialin.stopped", "payload": {"session_id": "s"}}, "webhook", None),
        ({"handler": "on_dialin_stopped", "data": {"sessionId": "s"}}, "daily-python", None),
        ({"sessionId": "s"}, "daily-python", "on_dialin_stopped"),
    ],
)
def test_the_journal_wraps_every_dialect(payload: Any, dialect: str, event: str | None) -> None:
    """A record unwraps to the same event; `event` names the handler if the payload does not."""
    record = {"v": 1, "seq": 7, "at": 1730000000.123, "dialect": dialect, "event": event, "payload": payload}
    assert isinstance(parse(record), DialinStopped)
    assert parse(record).session_id == "s"


def test_records_as_telstate_writes_them() -> None:
    """The payload is read without decoding the record; only if it is not JSON by itself, the whole record is decoded."""
    record = wrap(7, 1730000000.5, "daily-js", b'{"action":"dialin-stopped","sessionId":"s"}')
    expected = (DialinStopped(session_id="s"), 1730000000.5, Dialect.DAILY_JS, None, None, True)
    assert parse_line(record) == parse_line(record, "journal") == expected
    assert parse_line(record[:-1] + b',"added":[{}]}') == expected
    for payload, field in ((b'{"action":"dialin-stopped","sessionId":5}', "sessionId"), (b"[1]", "payload")):
        with pytest.raises(ParseError) as caught:
            parse_line(wrap(7, 1730000000.5, "daily-js", payload))
        assert caught.value.field == field


def test_an_unknown_type_is_an_unknown_event() -> None:
    """A new event of Daily breaks nothing and loses no key."""
    for payload in (
        {"action": "dialin-sang", "sessionId": 5, "more": {"a": [1, None]}},
        {"type": "dialin.sang", "id": "i", "payload": {"session_id": "s"}},
        {"handler": "on_dialin_sang", "data": {"sessionId": "s"}},
        {"handler": "on_call_state_updated", "data": "joined"},
    ):
        event = parse(payload)
        assert isinstance(event, UnknownEvent)
        assert event.action in payload.values()
        assert round_trip(event) == event


def test_dialects_of_daily_have_no_local_events() -> None:
    """No webhook can pretend that this program requested a stop."""
    assert isinstance(parse({"action": "stop-requested", "sessionId": "s"}), StopRequested)
    assert isinstance(parse({"type": "stop.requested", "payload": {"session_id": "s"}}), UnknownEvent)
    assert isinstance(parse({"handler": "on_stop_requested", "data": {"sessionId": "s"}}), UnknownEvent)


def test_a_refused_dialout_gets_a_local_id() -> None:
    """Daily gave none, and two refusals are two attempts."""
    one, other = DialoutRefused.new("not allowed", destination="+1"), DialoutRefused.new("not allowed")
    assert one.session_id.startswith("local-")
    assert one.session_id != other.session_id
    assert parse(one.to_json()) == one


def test_every_event_with_all_its_fields_can_be_read_back() -> None:
    """An event that is built in Python is the same after the journal."""
    texts = {"deadline": "ring", "type": "start-failed", "presence": "gone"}
    for cls in event_types().values():
        values: dict[str, Any] = {"extra_key": "kept"}
        for name, field in cls.model_fields.items():
            kind = str(field.annotation)
            if name == "action":
                continue
            if name == "participant":
                values[name] = {"session_id": "s", "user_name": "A", "extra": 1}
            elif "dict" in kind:
                values[name] = {"X-A": [1, "b", None]}
            elif "float" in kind:
                values[name] = 12.5
            elif "bool" in kind:
                values[name] = True
            else:
                values[name] = texts.get(name, f"a {name}")
        event = cls(**values)
        assert round_trip(event) == event
        assert event.model_extra == {"extra_key": "kept"}


# --- invalid payloads, and payloads that only look invalid ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({}, "action"),
        ({"action": None}, "action"),
        ({"action": 5}, "action"),
        ({"action": ""}, "action"),
        ({"action": ["dialin-ready"]}, "action"),
        ({"type": 5, "payload": {}}, "type"),
        ({"type": None, "payload": {}}, "type"),
        ({"handler": {}, "data": {}}, "handler"),
        ({"action": "dialin-ready"}, "sipEndpoint"),
        ({"action": "dialin-ready", "sipEndpoint": ""}, "sipEndpoint"),
        ({"action": "dialin-ready", "sipEndpoint": 5}, "sipEndpoint"),
        ({"action": "dialin-stopped", "sessionId": 5}, "sessionId"),
        ({"action": "dialin-stopped", "sessionId": {"a": 1}}, "sessionId"),
        ({"action": "dialin-stopped", "sessionId": "x" * 1025}, "sessionId"),
        ({"action": "participant-joined"}, "participant"),
        ({"action": "participant-joined", "participant": "s"}, "participant"),
        ({"action": "participant-joined", "participant": {}}, "session_id"),
        ({"action": "participant-left", "participant": {"session_id": ""}}, "session_id"),
        ({"type": "calltransfer.triggered", "payload": {}}, "session_id"),
        ({"type": "stop-requested", "payload": {"session_id": "s"}}, "type"),
        ({"handler": "deadline-passed", "data": {"sessionId": "s"}}, "handler"),
        ({"action": "stop-requested"}, "sessionId"),
        ({"action": "dialout-refused"}, "sessionId"),
        ({"v": 2, "dialect": "daily-js", "payload": {}}, "v"),
        ({"v": True, "dialect": "daily-js", "payload": {}}, "v"),
        ({"v": 1, "dialect": "morse", "payload": {}}, "dialect"),
        ({"v": 1, "dialect": "journal", "payload": {}}, "dialect"),
        ({"v": 1, "dialect": 5, "payload": {}}, "dialect"),
        ({"v": 1, "dialect": "daily-js"}, "payload"),
        ({"v": 1, "dialect": "daily-js", "payload": [1]}, "payload"),
        ({"v": 1, "done": 7}, "payload"),
    ],
)
def test_a_missing_or_invalid_type_or_id_is_an_error(payload: dict[str, Any], field: str) -> None:
    """The error names the field, what was expected and what came."""
    with pytest.raises(ParseError) as caught:
        parse(payload)
    assert caught.value.field == field
    assert caught.value.expected
    assert caught.value.expected in str(caught.value)
    assert caught.value.got in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "raw", [b"", b"  ", b"nope", b"[1]", b"5", b"null", b'"dialin-ready"', b'{"action":', b"\x00", b"{" * 5000]
)
def test_anything_but_a_json_object_is_a_parse_error(raw: bytes) -> None:
    """Never another exception."""
    with pytest.raises(ParseError):
        parse(raw)


@pytest.mark.parametrize("raw", [5, None, ["dialin-ready"], object()])
def test_a_payload_must_be_bytes_text_or_a_mapping(raw: Any) -> None:
    """Anything else is a parse error, too."""
    with pytest.raises(ParseError):
        parse(raw)


def test_an_unknown_dialect_is_refused() -> None:
    """A misspelled dialect is not guessed."""
    with pytest.raises(ParseError, match="one of daily-js, webhook, daily-python, journal"):
        parse({"action": "dialin-ready", "sipEndpoint": "s"}, "dailyjs")


def test_a_given_dialect_is_not_second_guessed() -> None:
    """A daily-js payload is not a webhook."""
    with pytest.raises(ParseError):
        parse({"action": "dialin-stopped", "sessionId": "s"}, "webhook")


@pytest.mark.parametrize("odd", [5, True, [{}], {"x": {}}, 1.5])
@pytest.mark.parametrize(
    "key", ["destination", "origin", "callerId", "provider", "userId", "sipCallId", "callClientId", "actionTraceId"]
)
def test_an_invalid_optional_field_loses_no_event(key: str, odd: Any) -> None:
    """The value is kept among the extras, the field is None, and there is an anomaly."""
    event = parse({"action": "dialout-stopped", "sessionId": "s", "later": 1, key: odd})
    assert isinstance(event, DialoutStopped)
    assert event.session_id == "s"
    assert event.model_extra == {key: odd, "later": 1}
    assert len(event.anomalies) == 1
    assert event.anomalies[0].startswith(key)
    assert round_trip(event) == event


def test_several_invalid_fields_of_a_webhook() -> None:
    """Also times, headers and ids."""
    payload = {"session_id": "s", "timestamp": "soon", "sip_headers": "X", "sip_from": 5, "room": None}
    event = parse({"type": "dialin.connected", "id": 17, "payload": payload, "event_ts": 1728023426552})
    assert isinstance(event, DialinConnected)
    assert (event.occurred_at, event.sent_at, event.sip_headers, event.sip_from, event.webhook_id) == (None,) * 5
    assert len(event.anomalies) == 5
    assert round_trip(event) == event


def test_an_invalid_field_inside_a_participant() -> None:
    """It is kept there, and nothing else is lost."""
    event = parse({"action": "participant-joined", "participant": {"session_id": "s", "user_name": 5, "x": 1}})
    assert isinstance(event, ParticipantJoined)
    assert event.participant.model_extra == {"user_name": 5, "x": 1}
    assert event.anomalies == ("user_name came as 5",)
    assert round_trip(event) == event


def test_an_empty_id_is_absent() -> None:
    """It is no anomaly."""
    event = parse({"action": "dialout-connected", "sessionId": "", "sipCallId": ""})
    assert (event.session_id, event.sip_call_id) == (None, None)
    assert not event.anomalies
    assert not event.model_extra


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        (rb'{"action":"dialout-stopped","sessionId":"s","note":"\ud83d"}', "\ufffd"),
        (rb'{"action":"dialout-stopped","sessionId":"s","note":"a\udc00b"}', "a\ufffdb"),
        (rb'{"action":"dialout-stopped","sessionId":"s","note":"\ud83d\ude00\ud83d"}', "\U0001f600\ufffd"),
        (rb'{"action":"dialout-stopped","sessionId":"s","note":"\\ud83d\ud83d"}', "\\ud83d\ufffd"),
        (b'{"action":"dialout-stopped","sessionId":"s","note":"\xff\xfe"}', "\ufffd\ufffd"),
        (b'{"action":"dialout-stopped","sessionId":"s","note":NaN}', "NaN"),
        (b'{"action":"dialout-stopped","sessionId":"s","note":-Infinity}', "-Infinity"),
        (b'{"action":"dialout-stopped","sessionId":"s","note":[1e999]}', ["Infinity"]),
        (b'{"action":"dialout-stopped","sessionId":"s","note":1,"note":2}', 2),
        (b'{"action":"dialout-stopped","sessionId":"s","note":"\\u0000"}', "\x00"),
        (
            b'{"action":"dialout-stopped","sessionId":"s","note":123456789012345678901234567890}',
            123456789012345678901234567890,
        ),
    ],
)
def test_invalid_characters_and_numbers_in_json(raw: bytes, kept: Any) -> None:
    """JavaScript cuts emojis in half and writes NaN; a hang-up must arrive nevertheless."""
    event = parse(raw)
    assert isinstance(event, DialoutStopped)
    assert event.session_id == "s"
    assert event.model_extra == {"note": kept}
    assert round_trip(event) == event


def test_mappings_with_values_that_json_does_not_have() -> None:
    """They become text; only a circular reference is an error."""
    event = parse(
        {"action": "dialout-error", "sessionId": "s", "what": ValueError("x"), "half": "\ud83d", "nan": float("nan")}
    )
    assert isinstance(event, DialoutError)
    assert event.session_id == "s"
    loop: dict[str, Any] = {"action": "dialout-error"}
    loop["loop"] = loop
    with pytest.raises(ParseError, match="Circular"):
        parse(loop)


def test_huge_payloads() -> None:
    """A field of ten megabytes is accepted, and an error about it is short."""
    assert parse({"action": "dialout-connected", "sessionId": "s", "destination": "x" * 10_000_000}).session_id == "s"
    with pytest.raises(ParseError) as caught:
        parse({"action": "dialout-connected", "sessionId": ["x" * 10_000_000]})
    assert len(str(caught.value)) < 300


def test_events_are_frozen_and_equal_by_value() -> None:
    """An event cannot be changed."""
    event = DialoutConnected(session_id="s")
    with pytest.raises(ValueError, match="frozen"):
        event.session_id = "t"
    assert event == parse({"action": "dialout-connected", "sessionId": "s"})


def test_snake_case_keys_of_daily_js_are_not_fields() -> None:
    """daily-js writes camelCase; anything else is an extra key. Before pydantic 2.14.2, one with a field's name is lost."""
    event = parse({"action": "dialout-connected", "sessionId": "a", "session_id": "b"})
    assert event.session_id == "a"
    keeps = tuple(map(int, pydantic.VERSION.split(".")[:3])) >= (2, 14, 2)
    assert event.model_extra == ({"session_id": "b"} if keeps else {})


def test_fields_of_a_transfer() -> None:
    """Both endpoints, and whether it is a SIP REFER."""
    row = next(row for row in payloads() if row["payload"].get("type") == "calltransfer.triggered")
    event = parse(row["payload"])
    assert isinstance(event, TransferTriggered)
    assert event.to_endpoint == "sip:user-b@user-a.my-domain.com"
    assert event.is_sip_refer is False


EMPTY: list[Any] = ["", "  ", "\t\n", "\u3000", {}, []]


@pytest.mark.parametrize("empty", EMPTY, ids=repr)
@pytest.mark.parametrize("name", sorted(event_types()))
def test_empty_is_unknown_in_every_optional_field(name: str, empty: Any) -> None:
    """Whatever its type is: the field is None, and there is no anomaly. The order of the keys does not matter."""
    cls = event_types()[name]
    needed = {"participant": {"session_id": "s"}, "notes": {"a": 1}, "settings": {"a": 1}, "presence": "alive"}
    required, optional = {}, {}
    for field_name, field in cls.model_fields.items():
        key = field.alias or field_name
        if field_name == "action":
            continue
        if field.is_required():
            required[key] = needed.get(field_name, 5.0 if field_name in ("due_at", "expires_at") else "x")
        else:
            optional[key] = empty
    in_order = {"action": name, **required, **optional}
    for payload in (in_order, {**optional, **required, "action": name}, json.dumps(in_order).encode()):
        event = parse(payload)
        assert {getattr(event, field) for field, info in cls.model_fields.items() if not info.is_required()} <= {
            None,
            name,
        }
        assert event.anomalies == ()
        assert not event.model_extra
        assert round_trip(event) == event


@pytest.mark.parametrize("empty", EMPTY, ids=repr)
def test_empty_is_unknown_in_every_dialect(empty: Any) -> None:
    """Unknown keys keep what they have."""
    webhook = {"type": "dialout.answered", "id": empty, "payload": {"session_id": "s", "room": empty, "user_id": empty}}
    python = {"handler": "on_dialin_connected", "data": {"sessionId": "s", "displayName": empty, "new": empty}}
    joined = {"action": "participant-joined", "participant": {"session_id": "s", "user_name": empty, "user_id": empty}}
    for payload in (webhook, python, joined):
        event = parse(payload)
        assert event.session_id == "s"
        assert event.anomalies == ()
        assert [getattr(event, name, None) for name in ("webhook_id", "room", "user_id", "display_name")] == [None] * 4
        if isinstance(event, ParticipantJoined):
            assert (event.participant.user_name, event.participant.user_id) == (None, None)
    assert parse(python).model_extra == {"new": empty}


def test_old_daily_python_says_participant_id() -> None:
    """Before 0.14. A session id outweighs it."""
    for data, expected in (
        ({"participantId": "p"}, "p"),
        ({"participantId": "p", "sessionId": ""}, "p"),
        ({"participantId": "p", "sessionId": "s"}, "s"),
    ):
        for name in ("dialout-stopped", "dialin-error", "dialin-warning"):
            event = parse({"handler": f"on_{name.replace('-', '_')}", "data": data})
            assert (event.name, event.session_id) == (name, expected)


SECRET = {"daily_api_key": "0f1e2d", "daily_api_url": "https://api.example"}


@pytest.mark.parametrize(
    "payload",
    [
        {"dialin_settings": {"call_id": "c", "call_domain": "d"}, **SECRET},
        {"action": "dialin-stopped", "sessionId": "s", **SECRET},
        {"action": "dialin-stopped", "sessionId": "s", "sipHeaders": {"a": SECRET}},
        {"action": "participant-left", "participant": {"session_id": "s", "x": SECRET}},
        {"action": "unheard-of", "body": json.dumps(SECRET)},
        {"type": "dialin.stopped", "id": "w", "payload": {"session_id": "s", "x": [SECRET]}},
        {"handler": "on_dialin_stopped", "data": {"sessionId": "s", **SECRET}},
        {"v": 1, "dialect": "webhook", "payload": {"type": "x.y", "payload": SECRET}},
    ],
    ids=range(8),
)
def test_secrets_are_not_in_an_event(payload: dict[str, Any]) -> None:
    """Nor in what is kept of its line."""
    raw = json.dumps(payload).encode()
    event, *_, kept, _ = parse_line(raw)
    assert event is not None
    assert b"0f1e2d" not in event.to_json()
    if "body" not in payload:
        assert kept is not None
        assert b"0f1e2d" not in kept
        assert parse(kept) == event == parse(payload)
    wrapped = parse_line(wrap(7, 5.0, "daily-js", raw))[4] if "action" in payload and kept else b""
    assert b"0f1e2d" not in (wrapped or b"")


@pytest.mark.parametrize("cut", range(20, 110, 3))
def test_secrets_are_not_in_an_error(cut: int) -> None:
    """Nor in a dead letter: of broken JSON, of JSON in JSON, of a Python dict."""
    body = {"action": 5, **SECRET, "x": 1}
    for raw in (json.dumps(body)[:cut], json.dumps(json.dumps(body)), str(body)[:cut]):
        with pytest.raises(ParseError) as caught:
            parse(raw)
        assert "0f1e2d" not in str(caught.value)
        assert b"0f1e2d" not in clean(raw.encode())
