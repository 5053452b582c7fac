"""What may be asked of Daily about a call, checked before it is sent: dial-out, tones, transfers, a room's SIP dial-in.

    SipDialout(sip_uri="sip:bob@example.com", video=True).body()  # {"sipUri": "sip:bob@example.com", "video": True}

Each takes its fields by the names here or as Daily spells them, and refuses what Daily would refuse, or, worse, ignore. What
is wrong is told by pydantic's ValidationError, all of it at once. `body()` is what Daily takes: only what was set, as Daily
spells it; a field that may be None and is, is not set.

Sources: docs.daily.co/reference/daily-js/instance-methods/start-dial-out, .../send-dtmf, .../sip-call-transfer and
.../sip-refer; docs.daily.co/reference/rest-api/rooms/dialout/start;
docs.daily.co/docs/guides/features/dial-in-dial-out/sip for a room's SIP.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    JsonValue,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import InitErrorDetails, PydanticCustomError

from telstate.errors import shorten
from telstate.options._uris import has_control, wrong_with

__all__ = [
    "DIGIT_DURATION_MS",
    "MAX_DIGIT_DURATION_MS",
    "MAX_EXTENSION",
    "MAX_TONES",
    "MAX_USER_ID",
    "MAX_WAIT_SEC",
    "MIN_DIGIT_DURATION_MS",
    "PHONE_AUDIO",
    "SIP_AUDIO",
    "SIP_VIDEO",
    "AudioCodec",
    "Codecs",
    "Dialout",
    "Dtmf",
    "Permissions",
    "PhoneDialout",
    "Refer",
    "SipDialout",
    "SipRoom",
    "Transfer",
    "VideoCodec",
    "VideoSettings",
]

MAX_USER_ID = 36
"""Characters. Source: the page of startDialOut."""
MAX_EXTENSION = 20
"""Characters. Source: the page of startDialOut."""
MAX_WAIT_SEC = 60
"""Seconds from the answer to the extension. Source: the page of dialOut/start."""
MAX_TONES = 20
"""Source: the page of sendDTMF, as for all about tones."""
MIN_DIGIT_DURATION_MS = 50
MAX_DIGIT_DURATION_MS = 2000
DIGIT_DURATION_MS = 500
"""Milliseconds that Daily sounds each tone if nothing is said."""

AudioCodec: TypeAlias = Literal["OPUS", "G722", "PCMU", "PCMA"]
VideoCodec: TypeAlias = Literal["H264", "VP8"]
_AUDIO = ("OPUS", "G722", "PCMU", "PCMA")
_VIDEO = ("H264", "VP8")

SIP_AUDIO: tuple[AudioCodec, ...] = ("OPUS",)
SIP_VIDEO: tuple[VideoCodec, ...] = ("H264",)
PHONE_AUDIO: tuple[AudioCodec, ...] = ("PCMU", "PCMA")
"""What Daily takes if no codecs are given. Source: the page of startDialOut; the overview of dial-in and dial-out says otherwise
(PCMU/PCMA and VP8), so name what matters to you."""

_E164 = re.compile(r"\+[1-9][0-9]{1,14}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_TONES = "0123456789*#ABCD"
_NUMBER = "+ and the country code and the number, 2 to 15 digits with nothing between them, for example +12268077097"


class _Wrong(NamedTuple):
    """What no field can tell alone: where it is, what came there, and what to say about it."""

    where: tuple[str, ...]
    came: Any
    text: str


def _refused(text: str) -> PydanticCustomError:
    return PydanticCustomError("telstate_option", text)


def _string(value: Any, info: ValidationInfo) -> str:
    if not isinstance(value, str):
        raise _refused(f"{info.field_name} must be a string, got {shorten(value)}: put it in quotes or convert it")
    return value


def _shown(value: Any, info: ValidationInfo) -> str:
    """A text that people see, or that stands in a log."""
    text = _string(value, info)
    if not text.strip():
        raise _refused(f"{info.field_name} must not be empty, got {shorten(text)}: give one, or leave it out")
    if has_control(text):
        raise _refused(f"{info.field_name} must have no control characters, got {shorten(text)}: take them out")
    return text


def _user_id(value: Any, info: ValidationInfo) -> str:
    text = _shown(value, info)
    if len(text) > MAX_USER_ID:
        raise _refused(
            f"{info.field_name} must have at most {MAX_USER_ID} characters, got {shorten(text)}"
            f" with {len(text)}: shorten it; a UUID fits"
        )
    return text


def _sip(value: Any, info: ValidationInfo) -> str:
    text = _string(value, info)
    if wrong := wrong_with(text):
        raise _refused(f"{info.field_name} must be a SIP URI such as sip:bob@example.com, got {shorten(text)}: {wrong}")
    return text


def _phone(value: Any, info: ValidationInfo) -> str:
    text = _string(value, info)
    if not _E164.fullmatch(text):
        raise _refused(f"{info.field_name} must be in E.164, got {shorten(text)}: write {_likely(text) or _NUMBER}")
    return text


def _likely(text: str) -> str | None:
    """The number somebody wrote with spaces, dashes, dots or brackets in it."""
    plain = re.sub(r"[\s().\-/]", "", text[:40])
    return plain if len(text) <= 40 and _E164.fullmatch(plain) else None


def _caller_id(value: Any, info: ValidationInfo) -> str:
    text = _string(value, info)
    if not (_E164.fullmatch(text) or _UUID.fullmatch(text)):
        raise _refused(
            f"{info.field_name} must be a number you bought from Daily, or the UUID that Daily gave it, got"
            f" {shorten(text)}: write {_likely(text) or _NUMBER}, or take its id from the list of purchased numbers"
        )
    return text


def _extension(value: Any, info: ValidationInfo) -> str:
    text = _string(value, info)
    if not re.fullmatch(rf"[!-~]{{1,{MAX_EXTENSION}}}", text):
        raise _refused(
            f"{info.field_name} must have 1 to {MAX_EXTENSION} characters of plain ASCII without whitespace, got"
            f" {shorten(text)} with {len(text)}: write it as it is dialled, for example 1234"
        )
    return text


def _end_point(value: Any, info: ValidationInfo) -> str:
    text = _string(value, info)
    if _E164.fullmatch(text):
        return text
    if text[:4].lower() in ("sip:", "sips"):
        return _sip(text, info)
    likely = _likely(text)
    raise _refused(
        f"{info.field_name} must be a SIP URI or a phone number in E.164, got {shorten(text)}: write "
        + (likely or f"sip:<user>@<host>, or {_NUMBER}")
    )


def _refer_to(value: Any, info: ValidationInfo) -> str:
    text = _string(value, info)
    if _likely(text):
        raise _refused(
            f"{info.field_name} must be a SIP URI, got the phone number {shorten(text)}: nobody can be referred to a phone;"
            " use a transfer"
        )
    return _sip(text, info)


def _tones(value: Any, info: ValidationInfo) -> str:
    text = _string(value, info)
    odd = next((one for one in text if one.upper() not in _TONES or not one.isascii()), None)
    if odd is not None:
        raise _refused(
            f"{info.field_name} must be of 0-9, *, # and A-D only, got {odd!r} in {shorten(text)}:"
            " take it out; for a pause, send what comes after it later"
        )
    if not 1 <= len(text) <= MAX_TONES:
        raise _refused(
            f"{info.field_name} must be 1 to {MAX_TONES} tones, got {shorten(text)} with {len(text)}: "
            + ("send more of them one part after the other" if text else "name the keys to press")
        )
    return text.upper()


def _flag(value: Any, info: ValidationInfo) -> bool:
    if not isinstance(value, bool):
        raise _refused(f"{info.field_name} must be True or False, got {shorten(value)}: write one of the two")
    return value


def _whole(low: int, high: int | None = None, of: str = "") -> Callable[[Any, ValidationInfo], int]:
    """A check for whole numbers, which neither "5" nor 5.0 nor True is."""
    limits = f"of at least {low}" if high is None else f"from {low} to {high}"

    def check(value: Any, info: ValidationInfo) -> int:
        is_int = isinstance(value, int) and not isinstance(value, bool)
        if not is_int or value < low or (high is not None and value > high):
            what = f"give {low} or more" if high is None else "give one within these limits"
            what = what if is_int else "give a number that is an int"
            raise _refused(f"{info.field_name} must be a whole number {of}{limits}, got {shorten(value)}: {what}")
        return int(value)

    return check


def _one_of(*allowed: str) -> Callable[[Any, ValidationInfo], str]:
    def check(value: Any, info: ValidationInfo) -> str:
        if value not in allowed:
            raise _refused(
                f"{info.field_name} must be {_or(allowed)}, got {shorten(value)}: write {_near(value, allowed)}"
            )
        return str(value)

    return check


def _codecs(*allowed: str) -> Callable[[Any, ValidationInfo], tuple[str, ...]]:
    """A check for a flat list of codecs."""

    def check(value: Any, info: ValidationInfo) -> tuple[str, ...]:
        name, example = info.field_name, f'["{allowed[0]}"]'
        if not isinstance(value, (list, tuple)):
            raise _refused(f"{name} must be a list of codecs, got {shorten(value)}: write for example {example}")
        if not value:
            raise _refused(f"{name} must have at least one codec, got an empty list: name one, or leave it out")
        for one in value:
            if isinstance(one, (list, tuple)):
                raise _refused(f"{name} must be a flat list, got a list in a list: write for example {example}")
            if one not in allowed:
                raise _refused(
                    f"{name} may have {_or(allowed)}, got {shorten(one)}: write {_near(one, allowed)}; case matters"
                )
        if len(set(value)) < len(value):
            twice = next(one for one in value if list(value).count(one) > 1)
            raise _refused(f"{name} must name each codec once, got {twice!r} more than once: Daily uses the first")
        return tuple(value)

    return check


def _json_object(value: Any, info: ValidationInfo) -> Any:
    """What JSON gives back as it was; pydantic copies it, so that a later change of the original is none here."""
    try:
        # As UTF-8, because half of a surrogate pair in a key would be replaced without a word later.
        copy = json.loads(json.dumps(value, allow_nan=False, ensure_ascii=False).encode())
    except (TypeError, ValueError, RecursionError):
        copy = None
    if not isinstance(value, dict) or copy != value:
        raise _refused(
            f"{info.field_name} must be an object as JSON has them, got {shorten(value)}:"
            ' give a dict with strings for keys, for example {"base": False}'
        )
    return value


def _or(allowed: tuple[str, ...]) -> str:
    *others, last = (repr(one) for one in allowed)
    return f"{', '.join(others)} or {last}" if others else last


def _near(value: Any, allowed: tuple[str, ...]) -> str:
    """The one that was meant, if that can be told; else all."""
    near = get_close_matches(str(value)[:40].lower(), [one.lower() for one in allowed], 1)
    return next((repr(one) for one in allowed if one.lower() in near), _or(allowed))


_Shown = Annotated[str, BeforeValidator(_shown)]
_UserId = Annotated[str, BeforeValidator(_user_id)]
_Sip = Annotated[str, BeforeValidator(_sip)]
_Phone = Annotated[str, BeforeValidator(_phone)]
_CallerId = Annotated[str, BeforeValidator(_caller_id)]
_Extension = Annotated[str, BeforeValidator(_extension)]
_Wait = Annotated[int, BeforeValidator(_whole(0, MAX_WAIT_SEC, "of seconds "))]
_Flag = Annotated[bool, BeforeValidator(_flag)]
_Positive = Annotated[int, BeforeValidator(_whole(1))]


class _Options(BaseModel):
    """What all have in common: names of both spellings, errors that say what to do, and the body."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True, validate_by_alias=True
    )

    _foreign: ClassVar[Mapping[str, str]] = {}
    """Fields that Daily has, but not here, and what to say to them."""

    def body(self) -> dict[str, Any]:
        """What Daily takes, ready for JSON: its spelling, and only what was set, be it to a default."""
        body = self.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
        return {name: value for name, value in body.items() if value != {}}  # of which nothing was set

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other values, checked as the first was: pydantic's own would take anything."""
        if not update:
            return super().model_copy(deep=deep)
        kept = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self).model_validate(kept | {self._own(name): value for name, value in update.items()})

    def _wrong(self) -> Iterator[_Wrong]:
        """What contradicts what; the fields themselves are in order."""
        yield from ()

    @model_validator(mode="wrap")
    @classmethod
    def _clearly(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Tell each mistake in words of its own."""
        try:
            made = handler(data)
        except ValidationError as error:
            lines = [cls._line(line["type"], line["loc"], line["input"], line["msg"]) for line in error.errors()]
        else:
            lines = [_line("telstate_option", _spelt(one.where, data), one.came, one.text) for one in made._wrong()]
            if not lines:
                return made
        raise ValidationError.from_exception_data(cls.__name__, lines)

    @classmethod
    def _line(cls, kind: str, where: tuple[int | str, ...], came: Any, text: str) -> InitErrorDetails:
        if len(where) == 1:  # what is deeper has been told in its own words already
            name = str(where[0])
            if kind == "extra_forbidden":
                text = cls._unknown(name)
            elif kind == "missing":
                text = f"{cls._own(name)} is missing: {cls.__name__} needs it"
            elif kind == "model_type":
                text = f"{cls._own(name)} must be an object with named fields, got {shorten(came)}: give a dict, or the model"
        return _line(kind, where, came, text)

    @classmethod
    def _unknown(cls, name: str) -> str:
        """Say why there is no such field."""
        fields = cls.model_fields
        if name in fields:
            return f"{name} is given twice, by this name and as {to_camel(name)}: give it once"
        for foreign, text in cls._foreign.items():
            if name in (foreign, to_camel(foreign)):
                return f"{name} {text}"
        names = [*fields, *(field.alias for field in fields.values() if field.alias)]
        near = get_close_matches(name[:80], names, 1, 0.6)
        if near:
            meant = near[0] if name != name.lower() else cls._own(near[0])  # in the spelling that was tried
            return f"{shorten(name)} is no field of {cls.__name__}: write {meant}"
        return f"{shorten(name)} is no field of {cls.__name__}: take it out; there are {', '.join(fields)}"

    @classmethod
    def _own(cls, name: str) -> str:
        """A field's name here, whichever was given."""
        return next((own for own, field in cls.model_fields.items() if field.alias == name), name)


def _spelt(where: tuple[str, ...], data: Any) -> tuple[str, ...]:
    """The place in the spelling that was used, as pydantic tells it of all other mistakes."""
    own = not isinstance(data, Mapping) or where[0] in data
    first = where[0] if own else to_camel(where[0])
    return (first, *where[1:])


def _line(kind: str, where: tuple[int | str, ...], came: Any, text: str) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError(kind, text), loc=where, input=came)


class Codecs(_Options):
    """Which codecs to use, the best first: Daily takes the first, and transcodes if the far end has it not, which is charged."""

    audio: Annotated[tuple[AudioCodec, ...], BeforeValidator(_codecs(*_AUDIO))] | None = None
    """Daily's defaults are `SIP_AUDIO` and `PHONE_AUDIO`."""
    video: Annotated[tuple[VideoCodec, ...], BeforeValidator(_codecs(*_VIDEO))] | None = None
    """For SIP only. Daily's default is `SIP_VIDEO`."""


class VideoSettings(_Options):
    """How to encode the video that is sent to the far end. Daily states no limits, no defaults and no unit.

    Its example is 1280, 720, 15 and 900 (docs.daily.co/reference/rest-api/rooms/dialout/start).
    """

    width: _Positive | None = None
    height: _Positive | None = None
    fps: _Positive | None = None
    video_bitrate: _Positive | None = None


class Permissions(_Options):
    """Whose media the one who is called may receive. For daily-js and daily-python: the REST API's page does not have it."""

    can_receive: Annotated[dict[str, JsonValue], BeforeValidator(_json_object)]
    """As in a participant's permissions: `base`, `byUserId`, `byParticipantId` and what Daily may add. It goes as it is."""


class SipDialout(_Options):
    """Call a SIP address from a room. One of the two kinds of `Dialout`.

    Raises:
        pydantic.ValidationError: if Daily would refuse it, or ignore a part of it.
    """

    _foreign = {
        "phone_number": "is for PhoneDialout: a call goes either to a sip_uri or to a phone_number, not to both",
        **dict.fromkeys(
            ("caller_id", "extension", "wait_before_extension_dial_sec"),
            "is for phone numbers only, Daily would ignore it for a sip_uri: take it out, or use PhoneDialout",
        ),
    }

    sip_uri: _Sip
    """Whom to call, for example `sip:bob@example.com`. `telstate.control.sip_uri` adds headers to it: what stands behind a ?
    is sent in the INVITE."""
    display_name: _Shown | None = None
    """As whom the called one appears in the room. Daily's default is the user of the URI."""
    user_id: _UserId | None = None
    """The participant's `user_id` in the room, of your choice; at most 36 characters. Daily's default is none."""
    video: _Flag = False
    """Whether to send and receive video."""
    video_settings: VideoSettings | None = None
    """Only with `video`."""
    codecs: Codecs | None = None
    permissions: Permissions | None = None
    provider: _Shown | None = None
    """Who carries the call: `daily` or `signalwire`, the default (docs.daily.co/docs/guides/features/dial-in-dial-out). Any
    other goes to Daily as it is."""

    @property
    def destination(self) -> str:
        """Who is called: the URI as it was given."""
        return self.sip_uri

    def _wrong(self) -> Iterator[_Wrong]:
        if self.video_settings is not None and not self.video:
            text = "video_settings are for a call with video only: set video to True, or take them out"
            yield _Wrong(("video_settings",), self.video_settings, text)


class PhoneDialout(_Options):
    """Call a phone number from a room. One of the two kinds of `Dialout`.

    Raises:
        pydantic.ValidationError: if Daily would refuse it, or ignore a part of it.
    """

    _foreign = {
        "sip_uri": "is for SipDialout: a call goes either to a sip_uri or to a phone_number, not to both",
        **dict.fromkeys(
            ("video", "video_settings"),
            "is for SIP only, Daily would ignore it for a phone_number: take it out, or use SipDialout",
        ),
    }

    phone_number: _Phone
    """Whom to call, in E.164: `+12268077097`."""
    display_name: _Shown | None = None
    """As whom the called one appears in the room. Daily's default is the number, for all to see."""
    user_id: _UserId | None = None
    """The participant's `user_id` in the room, of your choice; at most 36 characters. Daily's default is none."""
    caller_id: _CallerId | None = None
    """What the called phone shows: a number bought from Daily, in E.164, or its UUID. Daily's default is the domain's oldest."""
    extension: _Extension | None = None
    """What to dial once it is answered, 1 to 20 characters. Daily does not say which; they go as they are."""
    wait_before_extension_dial_sec: _Wait = 0
    """Seconds to wait before the extension is dialled, 0 to 60, from when the call is connected."""
    codecs: Codecs | None = None
    """Audio only."""
    permissions: Permissions | None = None
    provider: _Shown | None = None
    """Who carries the call. By docs.daily.co/docs/guides/features/dial-in-dial-out it is `signalwire`, the default, for phones."""

    @property
    def destination(self) -> str:
        """Who is called: the number."""
        return self.phone_number

    def _wrong(self) -> Iterator[_Wrong]:
        if self.codecs is not None and self.codecs.video is not None:
            text = "codecs.video is for SIP only, a phone call has no video: take it out"
            yield _Wrong(("codecs", "video"), self.codecs.video, text)
        yield from _wait_alone(self)


Dialout: TypeAlias = SipDialout | PhoneDialout
"""A call to be made from a room; both kinds have `destination`, `user_id` and `body()`."""


class Dtmf(_Options):
    """Tones to send into a call, as if keys were pressed. Source: docs.daily.co/reference/daily-js/instance-methods/send-dtmf.

    Raises:
        pydantic.ValidationError: if Daily would refuse it.
    """

    tones: Annotated[str, BeforeValidator(_tones)]
    """1 to 20 of 0-9, *, # and A-D; small letters are made capital."""
    method: Annotated[
        Literal["auto", "telephone-event", "sip-info"], BeforeValidator(_one_of("auto", "telephone-event", "sip-info"))
    ] = "auto"
    """`telephone-event` goes with the media (RFC 4733) and is understood by most, `sip-info` with the signalling (RFC 6086),
    `auto` leaves it to Daily. The REST API's page does not have it."""
    digit_duration_ms: Annotated[
        int, BeforeValidator(_whole(MIN_DIGIT_DURATION_MS, MAX_DIGIT_DURATION_MS, "of milliseconds "))
    ] = DIGIT_DURATION_MS
    """Milliseconds for each tone, 50 to 2000."""


class Transfer(_Options):
    """Where to send a call on, with Daily staying on its way: another room, a SIP address or a phone.

    Source: docs.daily.co/reference/daily-js/instance-methods/sip-call-transfer.

    Raises:
        pydantic.ValidationError: if Daily would refuse it, or ignore a part of it.
    """

    to_end_point: Annotated[str, BeforeValidator(_end_point)]
    """`sip:someone@example.com` or a number in E.164."""
    caller_id: _CallerId | None = None
    """What the phone shows, as in `PhoneDialout`; only for a number."""
    extension: _Extension | None = None
    """What to dial once it is answered, 1 to 20 characters; only for a number."""
    wait_before_extension_dial_sec: _Wait = 0
    """Seconds to wait before that, 0 to 60."""

    def _wrong(self) -> Iterator[_Wrong]:
        if self.to_end_point.startswith("+"):
            yield from _wait_alone(self)
            return
        for name in ("caller_id", "extension", "wait_before_extension_dial_sec"):
            if name in self.model_fields_set and (came := getattr(self, name)) is not None:
                text = f"{name} is for a transfer to a phone number only: take it out, or give a number as to_end_point"
                yield _Wrong((name,), came, text)


class Refer(_Options):
    """Where to hand a call over to, with Daily leaving it (SIP REFER).

    Source: docs.daily.co/reference/daily-js/instance-methods/sip-refer.

    Raises:
        pydantic.ValidationError: if it is no SIP URI.
    """

    to_end_point: Annotated[str, BeforeValidator(_refer_to)]
    """`sip:someone@example.com`; a phone number needs a `Transfer`."""


class SipRoom(_Options):
    """A room's property `sip`: that it can be dialled by SIP. Daily has no camelCase here, and nor has this.

    How many can be in at once, to SIP and phones in both directions, is the room's `max_sip_pstn_sessions_per_room`: 5, or
    more where Daily has agreed to it. Source: docs.daily.co/docs/guides/features/dial-in-dial-out/sip.

    Raises:
        pydantic.ValidationError: if Daily would refuse it, or ignore a part of it.
    """

    model_config = ConfigDict(alias_generator=None)

    display_name: _Shown
    """As whom those who dial in appear, unless the URI they dial names another: see `telstate.control.dialin_uri`."""
    sip_mode: Annotated[Literal["dial-in"], BeforeValidator(_one_of("dial-in"))] = "dial-in"
    """The only one there is."""
    num_endpoints: _Positive | None = None
    """How many addresses to make: one takes one call at a time. Daily's default is one."""
    video: _Flag = False
    codecs: Codecs | None = None
    """`video` in it only if the room's SIP has `video`."""
    provider: _Shown | None = None
    """As in `SipDialout`; it decides what the address looks like."""

    def body(self) -> dict[str, Any]:
        """What Daily takes as `properties.sip` of a room. `sip_mode` is always there: Daily asks for it."""
        return {"sip_mode": self.sip_mode, **super().body()}

    def _wrong(self) -> Iterator[_Wrong]:
        if self.codecs is not None and self.codecs.video is not None and not self.video:
            text = "codecs.video is for a room with video only: set video to True, or take it out"
            yield _Wrong(("codecs", "video"), self.codecs.video, text)


def _wait_alone(options: PhoneDialout | Transfer) -> Iterator[_Wrong]:
    name = "wait_before_extension_dial_sec"
    if options.extension is None and name in options.model_fields_set:
        text = (
            f"{name} is the time before an extension is dialled, and there is none: give an extension, or take it out"
        )
        yield _Wrong((name,), options.wait_before_extension_dial_sec, text)
