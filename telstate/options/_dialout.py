"""Dial-outs: which SIP address or phone number to call from a room, and how.

    SipDialout(sip_uri="sip:bob@example.com", video=True).body()  # {"sipUri": "sip:bob@example.com", "video": True}

Sources: docs.daily.co/reference/daily-js/instance-methods/start-dial-out;
docs.daily.co/reference/rest-api/rooms/dialout/start.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import AfterValidator, Field, JsonValue

from telstate.options._base import Conflict, Options
from telstate.options._codecs import Codecs
from telstate.options._fields import (
    CallerId,
    Extension,
    Flag,
    PhoneNumber,
    SipUri,
    Text,
    UserId,
    VideoBitrate,
    VideoFps,
    VideoHeight,
    VideoWidth,
    WaitSeconds,
    must_be,
)

__all__ = ["Dialout", "Permissions", "PhoneDialout", "SipDialout", "VideoSettings", "wait_without_extension"]


def _default_of_daily(value: int) -> Any:
    """What a field that is left out amounts to, for tools that read the JSON schema. It is not sent."""
    return Field(json_schema_extra={"default": value})


class VideoSettings(Options):
    """How to encode the video that is sent to the far end.

    Only Daily's REST API carries these: daily-python drops them (`NotSupported`). What is left out is Daily's default.

    Source: docs.daily.co/reference/rest-api/rooms/dialout/start, and the types of daily-js.
    """

    width: Annotated[VideoWidth | None, _default_of_daily(1280)] = None
    """Pixels, 1 to 1280. Daily's default is 1280."""
    height: Annotated[VideoHeight | None, _default_of_daily(720)] = None
    """Pixels, 1 to 720. Daily's default is 720."""
    fps: Annotated[VideoFps | None, _default_of_daily(15)] = None
    """Frames per second, 1 to 30. Daily's default is 15."""
    video_bitrate: Annotated[VideoBitrate | None, _default_of_daily(900)] = None
    """Kilobits per second, 1 to 1000. Daily's default is 900."""


def _check_json(value: dict[str, Any]) -> dict[str, Any]:
    """Refuse what JSON does not have: NaN, infinities and unpaired surrogates."""
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    return value


class Permissions(Options):
    """Whose media the participant that is called can receive.

    For daily-js and daily-python: the page of the REST API does not have it. daily-python reads `base`, `byUserId` and
    `byParticipantId` only.
    """

    can_receive: Annotated[
        dict[str, JsonValue],
        Field(strict=True),
        AfterValidator(_check_json),
        must_be("a JSON object", lambda _: 'pass a dict with strings as keys, for example {"base": False}'),
    ]
    """As in a participant's permissions: `base`, `byUserId`, `byParticipantId` and keys to come. It is sent unchanged."""


class SipDialout(Options):
    """Call a SIP address from a room. One of the two kinds of `Dialout`.

    Raises:
        pydantic.ValidationError: if Daily would refuse the request, or ignore a part of it.
    """

    _misplaced: ClassVar[Mapping[str, str]] = {
        "phone_number": "is for PhoneDialout: a call goes either to a sip_uri or to a phone_number, not to both",
        **dict.fromkeys(
            ("caller_id", "extension", "wait_before_extension_dial_sec"),
            "is for phone numbers only, Daily would ignore it for a sip_uri: remove it, or use PhoneDialout",
        ),
    }

    sip_uri: SipUri
    """The address to call, for example `sip:bob@example.com`. `telstate.options.sip_uri` adds headers: Daily sends what
    follows the `?` in the INVITE."""
    display_name: Text | None = None
    """The name of the called participant in the room. Daily's default is the user of the URI."""
    user_id: UserId | None = None
    """The participant's `user_id` in the room, of your choice; at most 36 characters. Daily sets none by default."""
    video: Flag = False
    """Whether to send and receive video."""
    video_settings: VideoSettings | None = None
    """Only with `video`, and only by Daily's REST API."""
    codecs: Codecs | None = None
    """Audio and video codecs."""
    permissions: Permissions | None = None
    """Whose media the participant can receive. Not by Daily's REST API."""
    provider: Text | None = None
    """The carrier: `daily` or `signalwire`, the default (docs.daily.co/docs/guides/features/dial-in-dial-out). The REST API has no such
    field, and daily-python takes `daily` only: anything else is `NotSupported` there."""

    @property
    def destination(self) -> str:
        """The URI to call, as it was given."""
        return self.sip_uri

    def _conflicts(self) -> Iterator[Conflict]:
        if self.video_settings is not None and not self.video:
            text = "video_settings are for a call with video only: set video to True, or remove them"
            yield Conflict(("video_settings",), self.video_settings, text)


class PhoneDialout(Options):
    """Call a phone number from a room. One of the two kinds of `Dialout`.

    Raises:
        pydantic.ValidationError: if Daily would refuse the request, or ignore a part of it.
    """

    _misplaced: ClassVar[Mapping[str, str]] = {
        "sip_uri": "is for SipDialout: a call goes either to a sip_uri or to a phone_number, not to both",
        **dict.fromkeys(
            ("video", "video_settings"),
            "is for SIP only, Daily would ignore it for a phone_number: remove it, or use SipDialout",
        ),
    }

    phone_number: PhoneNumber
    """The number to call, in E.164: `+12268077097`."""
    display_name: Text | None = None
    """The name of the called participant in the room. Daily's default is the number, visible to all."""
    user_id: UserId | None = None
    """The participant's `user_id` in the room, of your choice; at most 36 characters. Daily sets none by default."""
    caller_id: CallerId | None = None
    """The number that the called phone shows: one bought from Daily, in E.164, or its UUID. Daily's default is the
    oldest number of the domain."""
    extension: Extension | None = None
    """The extension to dial after the answer: 1 to 20 characters of ASCII. Daily does not say which ones it takes; they
    are sent unchanged."""
    wait_before_extension_dial_sec: WaitSeconds = 0
    """Seconds from the answer to dialling the extension, 0 to 60. Above 0 only with `extension`."""
    codecs: Codecs | None = None
    """Audio codecs only."""
    permissions: Permissions | None = None
    """Whose media the participant can receive. Not by Daily's REST API."""
    provider: Text | None = None
    """The carrier: `signalwire`, the default for phones (docs.daily.co/docs/guides/features/dial-in-dial-out). Only daily-js carries it:
    elsewhere it is `NotSupported`, so leave it out."""

    @property
    def destination(self) -> str:
        """The number to call."""
        return self.phone_number

    def _conflicts(self) -> Iterator[Conflict]:
        if self.codecs is not None and self.codecs.video is not None:
            text = "codecs.video is for SIP only, a phone call has no video: remove it"
            yield Conflict(("codecs", "video"), self.codecs.video, text)
        yield from wait_without_extension(self.extension, self.wait_before_extension_dial_sec)


def wait_without_extension(extension: str | None, wait: int) -> Iterator[Conflict]:
    """Find a wait before an extension that is not there."""
    if extension is None and wait:
        name = "wait_before_extension_dial_sec"
        text = f"{name} is the time before an extension is dialled, and there is none: give an extension, or remove it"
        yield Conflict((name,), wait, text)


Dialout: TypeAlias = SipDialout | PhoneDialout
"""A call to make from a room. Both kinds have `destination`, `user_id` and `body()`."""
