"""The options: their limits from both sides, their error messages, their JSON schemas, and the body that Daily gets."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, TypeAdapter, ValidationError

from telstate import options
from telstate.options import (
    Codecs,
    DialinConfig,
    Dialout,
    Dtmf,
    Permissions,
    PhoneDialout,
    PinDialin,
    Refer,
    RoomNumber,
    SipDialout,
    SipRoom,
    SipTrunk,
    SpokenMessage,
    Transfer,
    TrunkAccess,
    TrunkCredential,
    TrunkNotification,
    VideoSettings,
)
from telstate.options._fields import REVEAL

SIP: dict[str, Any] = {"sip_uri": "sip:bob@example.com"}
PHONE: dict[str, Any] = {"phone_number": "+12268077097"}
TO_SIP: dict[str, Any] = {"to_end_point": "sip:bob@example.com"}
TO_PHONE: dict[str, Any] = {"to_end_point": "+12268077097"}
ROOM: dict[str, Any] = {"display_name": "Lobby"}
UUID = "99ae8efd-d32c-4786-9bb4-77735a4e7d22"
EXTENDED = {**PHONE, "extension": "1"}

VIDEO_LIMITS = [
    ("width", 1280, "pixels"),
    ("height", 720, "pixels"),
    ("fps", 30, "frames per second"),
    ("video_bitrate", 1000, "kbps"),
]

Model: TypeAlias = Any
"""One of the option classes. The tests often pass values that the types forbid."""


@pytest.mark.parametrize(
    ("model", "base", "name", "value"),
    [
        *[(SipDialout, {}, "sip_uri", value) for value in ("sip:a@b", "sip:a@b.c?X-a=1&x-b=2", "sip:[::1]:5060;lr")],
        *[(PhoneDialout, {}, "phone_number", value) for value in ("+12", "+123456789012345")],
        *[
            (kind, base, "user_id", value)
            for kind, base in ((SipDialout, SIP), (PhoneDialout, PHONE))
            for value in ("u", "u" * 36)
        ],
        *[(SipDialout, SIP, "display_name", value) for value in ("B", "Zoë 電話 👩‍👩‍👧", "{0} {text}")],
        *[(SipDialout, SIP, "video", value) for value in (True, False)],
        *[(SipDialout, SIP, "provider", value) for value in ("daily", "signalwire", "other")],
        *[(PhoneDialout, PHONE, "caller_id", value) for value in ("+12", UUID, UUID.upper())],
        *[
            (kind, base, "extension", value)
            for kind, base in ((PhoneDialout, PHONE), (Transfer, TO_PHONE))
            for value in ("1", "12*#,w" + "0" * 14)
        ],
        *[(PhoneDialout, EXTENDED, "wait_before_extension_dial_sec", value) for value in (0, 60)],
        *[(Transfer, {**TO_PHONE, "extension": "1"}, "wait_before_extension_dial_sec", value) for value in (0, 60)],
        *[(Transfer, {}, "to_end_point", value) for value in ("+12", "sip:a@b")],
        (Transfer, TO_PHONE, "caller_id", UUID),
        *[(Dtmf, {}, "tones", value) for value in ("0", "0123456789*#ABCD1234")],
        *[(Dtmf, {"tones": "1"}, "method", value) for value in ("auto", "sip-info", "telephone-event")],
        *[(Dtmf, {"tones": "1"}, "digit_duration_ms", value) for value in (50, 500, 2000)],
        *[(SipRoom, ROOM, "num_endpoints", value) for value in (1, 6)],
        (SipRoom, ROOM, "sip_mode", "dial-in"),
        *[(VideoSettings, {}, name, value) for name, most, _ in VIDEO_LIMITS for value in (1, most)],
        (Codecs, {}, "audio", ["PCMA", "PCMU", "G722", "OPUS"]),
        (Codecs, {}, "video", ["VP8", "H264"]),
        (Permissions, {}, "can_receive", {"base": None, "byUserId": {"u": {"audio": True}}, "new": [1, 2.5]}),
    ],
)
def test_values_within_the_limits_are_accepted(model: Model, base: dict[str, Any], name: str, value: Any) -> None:
    """The body has the value unchanged and nothing that is not set, and it can be read back."""
    made = model(**base, **{name: value})
    body = made.body()
    is_default = value == model.model_fields[name].default
    assert set(body) - {"sip_mode"} == {alias_of(model, key) for key in (*base, *(() if is_default else (name,)))}
    assert is_default or body[alias_of(model, name)] == value
    assert json.loads(json.dumps(body)) == body
    assert model.model_validate(body) == made
    assert model.model_validate(body).body() == model.model_validate_json(json.dumps(body)).body() == body


def alias_of(model: Model, name: str) -> str:
    """Daily's spelling of a field."""
    return model.model_fields[name].alias or name


@pytest.mark.parametrize(
    ("model", "base", "name", "value", "text"),
    [
        (
            SipDialout,
            {},
            "sip_uri",
            "bob@example.com",
            "sip_uri must be a SIP URI .*got 'bob@example.com': it must begin with sip:",
        ),
        (SipDialout, {}, "sip_uri", "sips:b@e.com", "Daily does not dial sips:"),
        (SipDialout, {}, "sip_uri", "sip:b@e.com?a=1", "a name must begin with X-"),
        (SipDialout, {}, "sip_uri", "sip:b@e .com", "whitespace"),
        (SipDialout, {}, "sip_uri", 7, "sip_uri must be a string, got 7"),
        (
            PhoneDialout,
            {},
            "phone_number",
            "+1",
            "phone_number must be in E.164, got '.1': write a plus sign, the country code",
        ),
        (PhoneDialout, {}, "phone_number", "+1234567890123456", "phone_number must be in E.164.*2 to 15 digits"),
        (PhoneDialout, {}, "phone_number", "+0234", "phone_number must be in E.164"),
        (PhoneDialout, {}, "phone_number", "12268077097", "phone_number must be in E.164"),
        (PhoneDialout, {}, "phone_number", "+١٢٣٤", "phone_number must be in E.164"),
        (PhoneDialout, {}, "phone_number", "+12268077097\n", r"write \+12268077097"),
        (PhoneDialout, {}, "phone_number", "+1 (226) 807-7097", r"write \+12268077097"),
        (PhoneDialout, {}, "phone_number", 12268077097, "phone_number must be a string, got 12268077097"),
        (SipDialout, SIP, "user_id", "", "user_id must not be empty"),
        (SipDialout, SIP, "user_id", "u" * 37, "user_id must have at most 36 characters, got 'u*' with 37: shorten it"),
        (PhoneDialout, PHONE, "user_id", "u" * 37, "at most 36 characters"),
        (SipDialout, SIP, "display_name", " ", "display_name must not be empty"),
        (SipDialout, SIP, "display_name", "a\nb", r"display_name must have no control characters, got 'a\\nb': remove"),
        (PhoneDialout, PHONE, "display_name", "a\x7f", "no control characters"),
        (PhoneDialout, PHONE, "display_name", "\ud83d", "no control characters"),
        (SipDialout, SIP, "provider", "", "provider must not be empty"),
        (SipDialout, SIP, "video", "yes", "video must be True or False, got 'yes'"),
        (SipDialout, SIP, "video", 1, "video must be True or False, got 1"),
        (SipDialout, SIP, "codecs", "OPUS", "codecs must be an object with named fields, got 'OPUS': pass a dict"),
        (PhoneDialout, PHONE, "caller_id", "Bob", "caller_id must be a number you bought from Daily, or the UUID"),
        (PhoneDialout, PHONE, "caller_id", UUID[:-1], "caller_id must be a number you bought"),
        (PhoneDialout, PHONE, "caller_id", "+1", "caller_id must be a number you bought"),
        (PhoneDialout, PHONE, "extension", "", "extension must have 1 to 20 characters"),
        (PhoneDialout, PHONE, "extension", "1" * 21, "extension must have 1 to 20 characters.* with 21: write it"),
        (PhoneDialout, PHONE, "extension", "1 2", "without whitespace"),
        (PhoneDialout, PHONE, "extension", "é", "plain ASCII"),
        (PhoneDialout, PHONE, "extension", 12, "extension must be a string, got 12"),
        *[
            (
                model,
                base,
                "wait_before_extension_dial_sec",
                value,
                f"must be a whole number of seconds from 0 to 60, got {value!r}: {what}",
            )
            for model, base in ((PhoneDialout, EXTENDED), (Transfer, {**TO_PHONE, "extension": "1"}))
            for value, what in (
                (-1, "give one"),
                (61, "give one"),
                (True, "give a number"),
                ("5", "give a number"),
                (5.0, "give a number"),
            )
        ],
        (Transfer, {}, "to_end_point", "bob@example.com", "to_end_point must be a SIP URI or a phone number in E.164"),
        (Transfer, {}, "to_end_point", "sips:a@b", "Daily does not dial sips:"),
        (Transfer, {}, "to_end_point", "+1", "to_end_point must be a SIP URI or a phone number"),
        (Transfer, {}, "to_end_point", "+1 226 807 7097", r"write \+12268077097"),
        (Transfer, TO_SIP, "caller_id", UUID, "caller_id is for a transfer to a phone number only: remove it"),
        (Transfer, TO_SIP, "extension", "1", "extension is for a transfer to a phone number only"),
        (Transfer, TO_SIP, "wait_before_extension_dial_sec", 1, "is for a transfer to a phone number only"),
        (Transfer, TO_PHONE, "wait_before_extension_dial_sec", 1, "there is none: give an extension"),
        (Transfer, TO_PHONE, "extension", "1" * 21, "extension must have 1 to 20"),
        (PhoneDialout, PHONE, "wait_before_extension_dial_sec", 5, "there is none: give an extension, or remove it"),
        (Refer, {}, "to_end_point", "+12268077097", "to_end_point must be a SIP URI"),
        (Dtmf, {}, "tones", "", "tones must be 1 to 20 tones, got '' with 0"),
        (Dtmf, {}, "tones", "1" * 21, "tones must be 1 to 20 tones, .* with 21: send the rest"),
        *[(Dtmf, {}, "tones", f"1{odd}", "tones must be of 0-9.* only, got") for odd in "eEw, ٣\n"],
        *[
            (Dtmf, {"tones": "1"}, "digit_duration_ms", value, f"of milliseconds from 50 to 2000, got {value!r}: ")
            for value in (49, 2001, True, "500", 500.0)
        ],
        (
            Dtmf,
            {"tones": "1"},
            "method",
            "info",
            "method must be 'auto', 'telephone-event' or 'sip-info', got 'info': write 'sip-info'",
        ),
        (
            SipRoom,
            ROOM,
            "num_endpoints",
            0,
            "num_endpoints must be a whole number of at least 1, got 0: give 1 or more",
        ),
        (SipRoom, ROOM, "sip_mode", "dial-out", "sip_mode must be 'dial-in', got 'dial-out': write 'dial-in'"),
        *[
            (VideoSettings, {}, name, value, f"{name} must be a whole number of {unit} from 1 to {most}, got {value}: ")
            for name, most, unit in VIDEO_LIMITS
            for value in (0, most + 1)
        ],
        (Codecs, {}, "audio", [], "audio must have at least one codec, got an empty list: add one, or leave audio out"),
        (
            Codecs,
            {},
            "audio",
            [["OPUS", "G722"]],
            r"audio must be a flat list, got a list in a list: write for example \[\"OPUS\"\]",
        ),
        (Codecs, {}, "audio", "OPUS", r"audio must be a list of codecs, got 'OPUS': write for example \[\"OPUS\"\]"),
        (Codecs, {}, "audio", ["opus"], "audio must have only .*, got 'opus': write 'OPUS'; case matters"),
        (Codecs, {}, "audio", ["OPUS", "PCMU", "OPUS"], "audio must have each codec once, got 'OPUS' more than once"),
        (Codecs, {}, "audio", ["H264"], "audio must have only 'OPUS', 'G722', 'PCMU' or 'PCMA', got 'H264'"),
        (Codecs, {}, "video", ["OPUS"], "video must have only 'H264' or 'VP8', got 'OPUS': write 'H264' or 'VP8'"),
        (Codecs, {}, "video", [{}], "video must have only 'H264' or 'VP8', got an empty object"),
        *[
            (Permissions, {}, "can_receive", value, "can_receive must be a JSON object, got")
            for value in (True, None, [1], {"a": {1}}, {1: 2}, {"a": float("inf")}, {"a": (1,)}, {"\ud800": 1})
        ],
    ],
)
def test_values_beyond_the_limits_are_refused(
    model: Model, base: dict[str, Any], name: str, value: Any, text: str
) -> None:
    """By either name there is one error, which names the field, what came and what to do."""
    for spelt in {name, alias_of(model, name)}:
        with pytest.raises(ValidationError, match=text) as raised:
            model(**base, **{spelt: value})
        (line,) = raised.value.errors()
        assert line["loc"] == (spelt,)
        assert name in line["msg"]
        assert len(line["msg"]) < 500


@pytest.mark.parametrize(
    ("model", "base", "names", "text"),
    [
        (
            SipDialout,
            SIP,
            ("extension",),
            "is for phone numbers only, Daily would ignore it for a sip_uri: remove it",
        ),
        (SipDialout, SIP, ("caller_id", "callerId"), "is for phone numbers only, Daily would ignore it"),
        (
            SipDialout,
            SIP,
            ("wait_before_extension_dial_sec", "waitBeforeExtensionDialSec"),
            "is for phone numbers only",
        ),
        (SipDialout, SIP, ("phone_number", "phoneNumber"), "either to a sip_uri or to a phone_number, not to both"),
        (PhoneDialout, PHONE, ("sip_uri", "sipUri"), "either to a sip_uri or to a phone_number, not to both"),
        (PhoneDialout, PHONE, ("video",), "is for SIP only, Daily would ignore it for a phone_number: remove it"),
        (PhoneDialout, PHONE, ("video_settings", "videoSettings"), "is for SIP only, Daily would ignore it"),
        (SipDialout, SIP, ("usrId", "userID"), "is not a field of SipDialout: write userId"),
        (SipDialout, SIP, ("user_idd",), "'user_idd' is not a field of SipDialout: write user_id"),
        (
            PhoneDialout,
            PHONE,
            ("foo",),
            "'foo' is not a field of PhoneDialout: remove it; the fields are phone_number, ",
        ),
        (SipRoom, ROOM, ("displayName",), "is not a field of SipRoom: write display_name"),
        (Refer, TO_SIP, ("toEndpoint",), "is not a field of Refer: write toEndPoint"),
        (SipDialout, SIP, ("x" * 9999,), "'x+'… .9999 long. is not a field"),
    ],
)
def test_unknown_fields_are_refused(model: Model, base: dict[str, Any], names: tuple[str, ...], text: str) -> None:
    """Daily ignores the fields of the other kind. The error says so, or names the field that was probably meant."""
    for name in names:
        with pytest.raises(ValidationError, match=text) as raised:
            model(**base, **{name: "1"})
        assert [line["loc"] for line in raised.value.errors()] == [(name,)]


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (SipDialout, "sip_uri"),
        (PhoneDialout, "phone_number"),
        (Dtmf, "tones"),
        (Transfer, "to_end_point"),
        (Refer, "to_end_point"),
        (SipRoom, "display_name"),
    ],
)
def test_required_fields(model: Model, name: str) -> None:
    """They are required, and refused in two spellings at once."""
    with pytest.raises(ValidationError, match=f"{name} is missing: {model.__name__} needs it"):
        model()
    if model is not SipRoom and alias_of(model, name) != name:
        with pytest.raises(
            ValidationError, match=f"{name} is given twice, by this name and as {alias_of(model, name)}"
        ):
            model.model_validate({name: "+123", alias_of(model, name): "+123"})


def test_all_mistakes_are_reported_at_once() -> None:
    """Nested ones too, with their path."""
    with pytest.raises(ValidationError) as raised:
        PhoneDialout.model_validate({"phoneNumber": "1", "video": True, "codecs": {"audio": [], "vidio": 1}})
    assert [line["loc"] for line in raised.value.errors()] == [
        ("phoneNumber",),
        ("codecs", "audio"),
        ("codecs", "vidio"),
        ("video",),
    ]
    assert "write video" in str(raised.value)
    assert raised.value.title == "PhoneDialout"


def test_video_settings_need_video() -> None:
    """Daily applies them to a call with video only."""
    settings = {"width": 1280, "videoBitrate": 900}
    extras: list[dict[str, Any]] = [{}, {"video": False}]
    for extra in extras:
        with pytest.raises(ValidationError, match="video_settings are for a call with video only: set video to True"):
            SipDialout(**SIP, video_settings=VideoSettings(width=1), **extra)
    body = {"sipUri": "sip:bob@example.com", "video": True, "videoSettings": settings}
    assert SipDialout.model_validate(body).body() == body


def test_video_codecs_need_video() -> None:
    """A phone call never has video, a room only if `video` is set."""
    codecs = Codecs(audio=("PCMU",), video=("VP8",))
    with pytest.raises(ValidationError, match=r"codecs\.video\n +codecs\.video is for SIP only.*remove it"):
        PhoneDialout(**PHONE, codecs=codecs)
    with pytest.raises(ValidationError, match=r"codecs\.video is for a room with video only: set video to True"):
        SipRoom(**ROOM, codecs=codecs)
    expected = {"audio": ["PCMU"], "video": ["VP8"]}
    assert SipDialout(**SIP, codecs=codecs).body()["codecs"] == expected
    assert SipRoom(**ROOM, codecs=codecs, video=True).body()["codecs"] == expected
    assert PhoneDialout(**PHONE, codecs=Codecs(audio=("PCMA",))).body()["codecs"] == {"audio": ["PCMA"]}


def test_a_value_equal_to_the_default_is_as_if_unset() -> None:
    """It is accepted where only the default makes sense, and not sent."""
    assert SipDialout(**SIP, video=False, user_id=None, codecs=None).body() == {"sipUri": "sip:bob@example.com"}
    assert Dtmf(tones="1", method="auto", digit_duration_ms=500).body() == {"tones": "1"}
    for base in (PHONE, EXTENDED):
        waited = PhoneDialout(**base, wait_before_extension_dial_sec=0)
        assert waited == PhoneDialout(**base)
        assert waited.body() == PhoneDialout(**base).body()
        assert waited.model_fields_set == set(base)
    for target in (TO_SIP, TO_PHONE):
        assert Transfer(**target, wait_before_extension_dial_sec=0).body() == Transfer(**target).body()


def test_a_room_always_has_its_mode_and_snake_case_keys() -> None:
    """As Daily's page on SIP shows it."""
    room = SipRoom(display_name="SIP Participant", num_endpoints=2)
    assert room.body() == {"sip_mode": "dial-in", "display_name": "SIP Participant", "num_endpoints": 2}
    assert SipRoom.model_validate(room.body()).body() == room.body()


def test_tones_become_upper_case() -> None:
    """Daily documents A to D only."""
    assert Dtmf(tones="1a#d").body() == {"tones": "1A#D"}


def test_permissions_are_a_copy() -> None:
    """Changing the original later changes nothing, and nulls are sent."""
    mine: dict[str, Any] = {"base": None, "byUserId": {"u": True}}
    permissions = Permissions(can_receive=mine)
    mine["byUserId"]["u"] = False
    expected = {"canReceive": {"base": None, "byUserId": {"u": True}}}
    assert permissions.body() == expected
    assert PhoneDialout(**PHONE, permissions=permissions).body()["permissions"] == expected


def test_both_kinds_of_dialout_have_a_destination() -> None:
    """The SIP URI or the number, as it was given."""
    assert SipDialout(sip_uri="sip:Bob@Example.com?X-a=1").destination == "sip:Bob@Example.com?X-a=1"
    assert PhoneDialout(**PHONE).destination == "+12268077097"
    either: TypeAdapter[Dialout] = TypeAdapter(Dialout)
    assert either.validate_python({"phoneNumber": "+123"}) == PhoneDialout(phone_number="+123")
    assert either.validate_json('{"sipUri": "sip:a@b"}') == SipDialout(sip_uri="sip:a@b")


def test_model_copy_validates() -> None:
    """Unlike pydantic's own. Fields that are not set stay unset."""
    one = PhoneDialout(**PHONE, extension="12", wait_before_extension_dial_sec=3, codecs=Codecs(audio=("PCMU",)))
    other = one.model_copy(update={"phone_number": "+12025550102", "user_id": "u"})
    assert other.body() == one.body() | {"phoneNumber": "+12025550102", "userId": "u"}
    assert other.model_copy(update={"userId": "v"}).user_id == "v"
    assert (one.model_copy(), one.model_copy(update={}), one.model_copy(deep=True)) == (one, one, one)
    assert type(PhoneDialout(**PHONE).model_copy(update={"extension": "1"})) is PhoneDialout
    for update, text in (
        ({"extension": "x" * 21}, "extension must have 1 to 20"),
        ({"extension": None}, "and there is none"),
        ({"sip_uri": "sip:a@b.example"}, "sip_uri is for SipDialout"),
    ):
        with pytest.raises(ValidationError, match=text):
            one.model_copy(update=update)


def test_a_nested_object_with_nothing_set_is_not_sent() -> None:
    """Just like a field that is not set."""
    assert SipDialout(**SIP, codecs=Codecs(), video=True, video_settings=VideoSettings()).body() == {
        "sipUri": SIP["sip_uri"],
        "video": True,
    }
    assert SipDialout(**SIP, codecs=Codecs(audio=None)).body() == {"sipUri": SIP["sip_uri"]}
    assert SipDialout(**SIP, permissions=Permissions(can_receive={})).body()["permissions"] == {"canReceive": {}}


def test_the_suggested_field_has_the_spelling_of_the_attempt() -> None:
    """And the advice for a SIP URI fits what came."""
    for wrong, text in (
        ({"number": "+12025550101"}, "write phone_number$"),
        ({"phoneNumbr": "+12025550101"}, "write phoneNumber$"),
    ):
        with pytest.raises(ValidationError) as raised:
            PhoneDialout.model_validate(wrong)
        assert any(re.search(text, line["msg"]) for line in raised.value.errors())
    with pytest.raises(
        ValidationError, match=r"got '\+12025550101': a REFER cannot go to a phone number, use a Transfer"
    ):
        Refer(to_end_point="+12025550101")
    for no_uri in ("bob@example.com", "tel:+12025550101", ""):
        with pytest.raises(ValidationError, match=r"it must begin with sip: \["):
            Refer(to_end_point=no_uri)
    with pytest.raises(ValidationError, match="'' with 0: name the keys to press"):
        Dtmf(tones="")


def test_options_are_frozen() -> None:
    """Validated values cannot change."""
    with pytest.raises(ValidationError, match="frozen"):
        Dtmf(tones="1").tones = "2"


@given(st.text(), st.integers(), st.integers(), st.text("0123456789*#ABCD,w ", max_size=25))
def test_any_input_is_accepted_or_refused(text: str, seconds: int, duration: int, keys: str) -> None:
    """Accepted values survive the body; anything else raises a ValidationError and nothing else."""
    tries: list[tuple[Model, dict[str, Any]]] = [
        (SipDialout, {"sip_uri": f"sip:{text}", "user_id": text}),
        (SipDialout, {**SIP, "display_name": text}),
        (PhoneDialout, {"phone_number": f"+{abs(duration)}"}),
        (PhoneDialout, {**PHONE, "extension": keys, "wait_before_extension_dial_sec": seconds}),
        (Dtmf, {"tones": keys, "digit_duration_ms": duration}),
        (Transfer, {"to_end_point": text}),
        (SipRoom, {"display_name": text, "num_endpoints": seconds}),
        (Codecs, {"audio": [text]}),
        (SipDialout, {**SIP, text: 1}),
    ]
    for model, fields in tries:
        try:
            body = model.model_validate(fields).body()
        except ValidationError:
            continue
        else:
            assert model.model_validate(body).body() == json.loads(json.dumps(body)) == body


CLASSES: list[Model] = [
    *[Codecs, Dtmf, Permissions, PhoneDialout, Refer, SipDialout, SipRoom, Transfer, VideoSettings],
    *[DialinConfig, PinDialin, RoomNumber, SipTrunk, SpokenMessage, TrunkAccess, TrunkCredential, TrunkNotification],
]
"""All option classes."""
CODECS = st.builds(
    Codecs,
    audio=st.none() | st.lists(st.sampled_from(["OPUS", "G722", "PCMU", "PCMA"]), min_size=1, unique=True),
    video=st.none() | st.lists(st.sampled_from(["H264", "VP8"]), min_size=1, unique=True),
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "sip_uri": st.just("sip:bob@example.com"),
    "phone_number": st.from_regex(r"\+[1-9][0-9]{1,14}", fullmatch=True),
    "to_end_point": st.just("sip:bob@example.com"),
    "display_name": st.from_regex(r"\w+( \w+)*", fullmatch=True),
    "user_id": st.just("u" * 36),
    "caller_id": st.just(UUID),
    "extension": st.from_regex(r"[!-~]{1,20}", fullmatch=True),
    "wait_before_extension_dial_sec": st.integers(0, 60),
    "provider": st.just("daily"),
    "video": st.booleans(),
    "video_settings": st.builds(VideoSettings, width=st.none() | st.just(1280)),
    "codecs": CODECS,
    "permissions": st.just(Permissions(can_receive={"base": None})),
    "can_receive": st.just({"base": False}),
    "tones": st.from_regex(r"[0-9*#A-D]{1,20}", fullmatch=True),
    "method": st.sampled_from(["auto", "telephone-event", "sip-info"]),
    "digit_duration_ms": st.integers(50, 2000),
    "sip_mode": st.just("dial-in"),
    "num_endpoints": st.integers(1, 10**9),
    **{name: st.integers(1, most) for name, most, _ in VIDEO_LIMITS},
    "audio": st.lists(st.sampled_from(["OPUS", "G722", "PCMU", "PCMA"]), min_size=1, unique=True),
    **dict.fromkeys(
        ("trunk_name", "description", "username", "password", "name_prefix", "message"), st.just("support")
    ),
    **dict.fromkeys(("webhook_url", "room_creation_api", "hold_music_url"), st.just("https://example.com/hook")),
    **dict.fromkeys(("is_open", "enabled", "wait_for_meeting_start"), st.booleans()),
    "notification": st.just(TrunkNotification(webhook_url="https://example.com/sip-trunk")),
    "trunk_config": st.just(TrunkAccess(allowed_ips=("203.0.113.7",))),
    "room_template": st.just({"enable_recording": "cloud"}),
    "hmac": st.just("c2VjcmV0"),
    "allowed_ips": st.lists(st.sampled_from(["203.0.113.0/24", "2001:db8::1", "203.0.113.7"])),
    "credential": st.just(TrunkCredential(username="u", password=SecretStr("p"))),
    "exp_offset": st.integers(1, 10**6),
    "type": st.sampled_from(["pinless_dialin", "pin_dialin"]),
    **dict.fromkeys(("timeout_config", "ivr_greeting"), st.just(SpokenMessage(message="Nobody is free."))),
    "room_numbers": st.just((RoomNumber(phone_number="+12025550100"),)),
}
"""Valid values of each field, by its name."""


def test_every_class_and_field_is_drawn() -> None:
    """A new class or field needs values here."""
    assert {cls.__name__ for cls in CLASSES} == {name for name in options.__all__ if name[0].isupper()} - {"Dialout"}
    assert {name for cls in CLASSES for name in cls.model_fields} <= set(VALUES)


@given(st.data())
def test_every_option_survives_its_dump(data: st.DataObject) -> None:
    """In Python and in JSON, in both spellings; what the dump adds are defaults, which count as unset."""
    model: Model = data.draw(st.sampled_from(CLASSES))
    required = {name: VALUES[name] for name, field in model.model_fields.items() if field.is_required()}
    optional = {name: values for name, values in VALUES.items() if name in model.model_fields and name not in required}
    if model is Codecs:
        optional["video"] = st.just(["VP8"])
    try:
        made = model(**data.draw(st.fixed_dictionaries(required, optional=optional)))
    except ValidationError:
        return  # fields that contradict each other
    for by_alias in (False, True):
        for again in (
            model.model_validate(made.model_dump(by_alias=by_alias)),
            model.model_validate(made.model_dump(by_alias=by_alias, mode="json", context=REVEAL)),
            model.model_validate_json(made.model_dump_json(by_alias=by_alias, context=REVEAL)),
        ):
            assert again == made
            assert again.body() == made.body()
            assert again.model_fields_set == made.model_fields_set


def limits_of(model: Model) -> dict[str, Any]:
    """The limits in the JSON schema of each field, without the null of optional fields."""
    found = {}
    for name, schema in model.model_json_schema(by_alias=False)["properties"].items():
        kind = next((one for one in schema.get("anyOf", ()) if one.get("type") != "null"), schema)
        kept = {"minimum", "maximum", "minLength", "maxLength", "pattern", "enum", "const", "minItems", "uniqueItems"}
        found[name] = {key: value for key, value in kind.items() if key in kept}
    return found


def test_the_json_schema_has_the_limits() -> None:
    """Tools that fill in options can read them."""
    phone, dtmf, transfer = limits_of(PhoneDialout), limits_of(Dtmf), limits_of(Transfer)
    assert phone["phone_number"] == {"pattern": r"^\+[1-9][0-9]{1,14}$"}
    assert phone["user_id"]["maxLength"] == 36
    assert re.search(phone["display_name"]["pattern"], "Zoë 電話")
    assert phone["extension"] == transfer["extension"] == {"minLength": 1, "maxLength": 20, "pattern": "^[!-~]*$"}
    assert phone["wait_before_extension_dial_sec"] == {"minimum": 0, "maximum": 60}
    assert re.search(phone["caller_id"]["pattern"], UUID)
    assert limits_of(SipDialout)["sip_uri"] == limits_of(Refer)["to_end_point"] == {"pattern": r"^sip:\S+$"}
    assert re.search(transfer["to_end_point"]["pattern"], "sip:a@b")
    assert re.search(transfer["to_end_point"]["pattern"], "+12268077097")
    assert dtmf["tones"] == {"minLength": 1, "maxLength": 20, "pattern": "^[0-9*#A-Da-d]*$"}
    assert dtmf["method"] == {"enum": ["auto", "telephone-event", "sip-info"]}
    assert dtmf["digit_duration_ms"] == {"minimum": 50, "maximum": 2000}
    assert limits_of(SipRoom)["sip_mode"] == {"const": "dial-in"}
    assert limits_of(SipRoom)["num_endpoints"] == {"minimum": 1}
    assert limits_of(VideoSettings) == {name: {"minimum": 1, "maximum": most} for name, most, _ in VIDEO_LIMITS}
    video = VideoSettings.model_json_schema(by_alias=False)["properties"]
    assert [video[name]["default"] for name, *_ in VIDEO_LIMITS] == [1280, 720, 15, 900]
    assert VideoSettings(width=1280, height=720, fps=15, video_bitrate=900).body()["videoBitrate"] == 900
    assert limits_of(Codecs)["video"] == {"minItems": 1, "uniqueItems": True}
    assert PhoneDialout.model_json_schema()["required"] == ["phoneNumber"]


@pytest.mark.parametrize("model", CLASSES)
def test_help_describes_every_field(model: Model) -> None:
    """In the docstring, and in the schema too, whose own description stays short."""
    schema = model.model_json_schema(by_alias=False)
    for name, field in model.model_fields.items():
        assert f"    {name}: {' '.join(field.description.split())}" in model.__doc__
        assert schema["properties"][name]["description"] == field.description
    assert list(inspect.signature(model).parameters) == list(model.model_fields)
    assert "\n\n" not in schema["description"]
