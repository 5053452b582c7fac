"""What can be done with a call that is connected: send tones, transfer it, hand it over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import ErrorDetails

from telstate.errors import shorten
from telstate.options._base import Conflict, Options
from telstate.options._dialout import wait_without_extension
from telstate.options._fields import (
    E164,
    NUMBER,
    CallerId,
    CheckedUri,
    Extension,
    WaitSeconds,
    explained,
    likely_number,
    must_be,
    one_of,
    whole_number,
)
from telstate.options._uris import uri_problem

__all__ = ["Dtmf", "Refer", "Transfer"]

_MAX_TONES = 20
_MIN_DURATION_MS, _MAX_DURATION_MS = 50, 2000
_Method: TypeAlias = Literal["auto", "telephone-event", "sip-info"]


def _explain_tones(name: str, error: ErrorDetails) -> str:
    text = error["input"]
    if error["type"] in ("string_too_short", "string_too_long"):
        advice = "send the rest in another Dtmf" if text else "name the keys to press"
        return f"{name} must be 1 to {_MAX_TONES} tones, got {shorten(text)} with {len(text)}: {advice}"
    odd = next(one for one in text if one not in "0123456789*#ABCDabcd")
    return (
        f"{name} must be of 0-9, *, # and A-D only, got {odd!r} in {shorten(text)}:"
        " remove it; for a pause, send the tones after it later"
    )


class Dtmf(Options):
    """Tones to send into a call, like key presses. Source: docs.daily.co/reference/daily-js/instance-methods/send-dtmf.

    Raises:
        pydantic.ValidationError: if Daily would refuse the request.
    """

    tones: Annotated[
        str,
        StringConstraints(strict=True, min_length=1, max_length=_MAX_TONES, pattern="^[0-9*#A-Da-d]*$", to_upper=True),
        explained(_explain_tones),
    ]
    """1 to 20 of 0-9, *, # and A-D. Lower case becomes upper case."""
    method: Annotated[_Method, one_of(_Method)] = "auto"
    """`telephone-event` is sent with the media (RFC 4733), which most systems understand; `sip-info` with the signalling
    (RFC 6086), with a fixed pause of 100 ms between two tones; `auto` leaves the choice to Daily. The page of the REST API does not
    have this field."""
    digit_duration_ms: Annotated[
        int,
        Field(strict=True, ge=_MIN_DURATION_MS, le=_MAX_DURATION_MS),
        whole_number(f"of milliseconds from {_MIN_DURATION_MS} to {_MAX_DURATION_MS}", "give one within these limits"),
    ] = 500
    """Milliseconds for each tone, 50 to 2000."""


def _check_end_point(text: str) -> str:
    if text.startswith("sip:") and uri_problem(text):
        raise ValueError
    return text


def _advise_end_point(text: str) -> str | None:
    if text[:4].lower() in ("sip:", "sips"):
        return uri_problem(text)
    return f"write {likely_number(text) or f'sip:<user>@<host>, or {NUMBER}'}"


class Transfer(Options):
    """Transfer a call to another room, a SIP address or a phone. Daily stays on the path of the media.

    Source: docs.daily.co/reference/daily-js/instance-methods/sip-call-transfer.

    Raises:
        pydantic.ValidationError: if Daily would refuse the request, or ignore a part of it.
    """

    to_end_point: Annotated[
        str,
        StringConstraints(strict=True, pattern=rf"^(sip:\S+|{E164})$"),
        AfterValidator(_check_end_point),
        must_be("a SIP URI or a phone number in E.164", _advise_end_point),
    ]
    """The target: `sip:someone@example.com` or a number in E.164."""
    caller_id: CallerId | None = None
    """The number that the called phone shows, as in `PhoneDialout`. Only for a phone number."""
    extension: Extension | None = None
    """The extension to dial after the answer, 1 to 20 characters of ASCII. Only for a phone number, and only by Daily's REST API:
    daily-python drops it (`NotSupported`)."""
    wait_before_extension_dial_sec: WaitSeconds = 0
    """Seconds from the answer to dialling the extension, 0 to 60. Above 0 only with `extension`."""

    def _conflicts(self) -> Iterator[Conflict]:
        if self.to_end_point.startswith("+"):
            yield from wait_without_extension(self.extension, self.wait_before_extension_dial_sec)
            return
        for name in ("caller_id", "extension", "wait_before_extension_dial_sec"):
            if value := getattr(self, name):
                text = f"{name} is for a transfer to a phone number only: remove it, or give a number as to_end_point"
                yield Conflict((name,), value, text)


def _advise_refer(text: str) -> str | None:
    return "a REFER cannot go to a phone number, use a Transfer" if likely_number(text) else uri_problem(text)


class Refer(Options):
    """Hand a call over to a SIP address with SIP REFER. Daily leaves the call.

    Source: docs.daily.co/reference/daily-js/instance-methods/sip-refer.

    Raises:
        pydantic.ValidationError: if the target is not a SIP URI.
    """

    to_end_point: Annotated[CheckedUri, must_be("a SIP URI such as sip:bob@example.com", _advise_refer)]
    """The target: `sip:someone@example.com`. For a phone number, use a `Transfer`."""
