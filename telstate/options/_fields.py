"""The types of the option fields: limits as pydantic constraints, so that a JSON schema shows them, and clear errors."""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Annotated, Any, TypeAlias, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Field,
    PlainSerializer,
    SecretStr,
    SerializationInfo,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    WrapValidator,
)
from pydantic import ValidatorFunctionWrapHandler as Handler
from pydantic_core import ErrorDetails, PydanticCustomError

from telstate.errors import shorten
from telstate.options._uris import uri_problem

__all__ = [
    "E164",
    "NUMBER",
    "REVEAL",
    "Base64Secret",
    "CallerId",
    "CheckedUri",
    "Extension",
    "Flag",
    "IpRange",
    "Password",
    "PhoneNumber",
    "Positive",
    "SipUri",
    "Text",
    "UserId",
    "VideoBitrate",
    "VideoFps",
    "VideoHeight",
    "VideoWidth",
    "WaitSeconds",
    "WebUrl",
    "closest",
    "either",
    "explained",
    "likely_number",
    "must_be",
    "one_of",
    "whole_number",
]

_MAX_USER_ID = 36
"""Characters. Source: the page of startDialOut."""
_MAX_EXTENSION = 20
"""Characters. Source: the page of startDialOut."""
_MAX_WAIT_SEC = 60
"""Seconds from the answer to the extension. Source: the page of dialOut/start."""
_MAX_WIDTH, _MAX_HEIGHT, _MAX_FPS, _MAX_BITRATE = 1280, 720, 30, 1000
"""Pixels, pixels, frames per second, kbps. Source: the pages of startDialOut and dialOut/start, and daily-js's types."""

E164 = r"\+[1-9][0-9]{1,14}"
_UUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_CONTROL = r"\x00-\x1f\x7f-\x9f"
_VISIBLE = rf"^[^{_CONTROL}]*[^\s{_CONTROL}][^{_CONTROL}]*$"
"""Not blank, no control characters."""
NUMBER = "a plus sign, the country code and the number, 2 to 15 digits without spaces, for example +12268077097"

Explanation: TypeAlias = Callable[[str, ErrorDetails], str]
"""The message for a field's name and pydantic's error."""


def explained(explain: Explanation) -> WrapValidator:
    """Replace pydantic's message: ours says what came, what was expected and what to do."""

    def check(value: Any, handler: Handler, info: ValidationInfo) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            details = error.errors(include_url=False)[0]
        name = str(info.field_name)
        if details["type"] == "string_type" and not details["loc"]:
            text = f"{name} must be a string, got {shorten(value)}: put it in quotes or convert it"
        else:
            text = explain(name, details)
        raise PydanticCustomError("telstate_option", text)

    return WrapValidator(check)


def must_be(expected: str, advice: Callable[[Any], str | None]) -> WrapValidator:
    """Explain an error by what was expected, and by the advice for what came."""
    return explained(
        lambda name, error: f"{name} must be {expected}, got {shorten(error['input'])}: {advice(error['input'])}"
    )


def one_of(literal: Any) -> WrapValidator:
    """Explain the errors of a `Literal`."""
    allowed = get_args(literal)
    return must_be(either(allowed), lambda value: f"write {closest(value, allowed)}")


def either(allowed: tuple[str, ...]) -> str:
    """Join the allowed values: 'a', 'b' or 'c'."""
    *others, last = (repr(one) for one in allowed)
    return f"{', '.join(others)} or {last}" if others else last


def closest(value: Any, allowed: tuple[str, ...]) -> str:
    """Return the value that was probably meant, else all that are allowed."""
    near = get_close_matches(str(value)[:40].lower(), [one.lower() for one in allowed], 1)
    return next((repr(one) for one in allowed if one.lower() in near), either(allowed))


def likely_number(text: str) -> str | None:
    """Return the number in E.164 if `text` is one with spaces, dashes, dots or brackets in it."""
    plain = re.sub(r"[\s().\-/]", "", text[:40])
    return plain if len(text) <= 40 and re.fullmatch(E164, plain) else None


def whole_number(expected: str, advice: str) -> WrapValidator:
    return must_be(
        f"a whole number {expected}", lambda value: advice if type(value) is int else "give a number that is an int"
    )


def _explain_text(name: str, error: ErrorDetails) -> str:
    text = error["input"]
    if error["type"] == "string_too_long":
        return (
            f"{name} must have at most {_MAX_USER_ID} characters, got {shorten(text)} with {len(text)}:"
            " shorten it; a UUID fits"
        )
    if not text.strip():
        return f"{name} must not be empty, got {shorten(text)}: give one, or leave it out"
    return f"{name} must have no control characters, got {shorten(text)}: remove them"


def _explain_extension(name: str, error: ErrorDetails) -> str:
    text = error["input"]
    return (
        f"{name} must have 1 to {_MAX_EXTENSION} characters of plain ASCII without whitespace, got"
        f" {shorten(text)} with {len(text)}: write it as it is dialled, for example 1234"
    )


def _check_uri(uri: str) -> str:
    if uri_problem(uri):
        raise ValueError
    return uri


def _check_url(url: str) -> str:
    parts = urlsplit(url)  # a ValueError of its own for an odd host
    if not parts.hostname or parts.port == 0:
        raise ValueError
    return url


def _check_range(text: str) -> str:
    if ipaddress.ip_network(text).prefixlen == 0:
        raise ValueError
    return text


def _range_advice(text: Any) -> str:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return "write one as your carrier's documentation has it"
    if network.prefixlen == 0:
        return "that is everybody: name your carrier's addresses, or say is_open=True if that is what you want"
    return f"write {network}, or the single address"


REVEAL: dict[str, bool] = {"reveal": True}
"""The serialization context in which secrets are written out: only a request's body is."""


def _reveal(secret: SecretStr, info: SerializationInfo) -> str:
    return secret.get_secret_value() if info.context == REVEAL else str(secret)


def _hidden(expected: str) -> WrapValidator:
    """Say what was expected of a secret, and nothing about what came."""

    def check(value: Any, handler: Handler, info: ValidationInfo) -> Any:
        try:
            return handler(value)
        except ValidationError:
            pass
        raise PydanticCustomError("telstate_option", f"{info.field_name} must be {expected}")

    return WrapValidator(check)


def _check_password(secret: SecretStr) -> SecretStr:
    if not re.fullmatch(_VISIBLE, secret.get_secret_value()):
        raise ValueError
    return secret


def _check_base64(secret: SecretStr) -> SecretStr:
    if not base64.b64decode(secret.get_secret_value(), validate=True):
        raise ValueError
    return secret


_REVEALABLE = PlainSerializer(_reveal, return_type=str, when_used="json")
Password = Annotated[
    SecretStr, AfterValidator(_check_password), _hidden("a text without control characters, and not empty"), _REVEALABLE
]
"""Not shown by any representation or error, nor by `model_dump`."""
Base64Secret = Annotated[
    SecretStr,
    AfterValidator(_check_base64),
    _hidden("base64 and not empty: `openssl rand -base64 32` makes one"),
    _REVEALABLE,
]
"""A signing secret; as hidden as a `Password`."""
WebUrl = Annotated[
    str,
    StringConstraints(strict=True, pattern=r"^https?://\S+$"),
    AfterValidator(_check_url),
    must_be(
        "a URL that Daily can reach, such as https://example.com/hook", lambda _: "begin with https:// and the host"
    ),
]
IpRange = Annotated[
    str,
    StringConstraints(strict=True),
    AfterValidator(_check_range),
    must_be("an IP address, or a range such as 203.0.113.0/24", _range_advice),
]
Text = Annotated[str, StringConstraints(strict=True, pattern=_VISIBLE), explained(_explain_text)]
"""A text that people see, or that is logged: not blank, no control characters."""
UserId = Annotated[
    str,
    StringConstraints(strict=True, max_length=_MAX_USER_ID, pattern=_VISIBLE),
    explained(_explain_text),
]
CheckedUri = Annotated[str, StringConstraints(strict=True, pattern=r"^sip:\S+$"), AfterValidator(_check_uri)]
"""A SIP URI whose errors are not explained yet."""
SipUri = Annotated[CheckedUri, must_be("a SIP URI such as sip:bob@example.com", uri_problem)]
PhoneNumber = Annotated[
    str,
    StringConstraints(strict=True, pattern=f"^{E164}$"),
    must_be("in E.164", lambda text: f"write {likely_number(text) or NUMBER}"),
]
CallerId = Annotated[
    str,
    StringConstraints(strict=True, pattern=f"^({E164}|{_UUID})$"),
    must_be(
        "a number you bought from Daily, or the UUID that Daily gave it",
        lambda text: f"write {likely_number(text) or NUMBER}, or take its id from the list of purchased numbers",
    ),
]
Extension = Annotated[
    str,
    StringConstraints(strict=True, min_length=1, max_length=_MAX_EXTENSION, pattern="^[!-~]*$"),
    explained(_explain_extension),
]
WaitSeconds = Annotated[
    int,
    Field(strict=True, ge=0, le=_MAX_WAIT_SEC),
    whole_number(f"of seconds from 0 to {_MAX_WAIT_SEC}", "give one within these limits"),
]
Positive = Annotated[int, Field(strict=True, ge=1), whole_number("of at least 1", "give 1 or more")]
VideoWidth = Annotated[
    int,
    Field(strict=True, ge=1, le=_MAX_WIDTH),
    whole_number(f"of pixels from 1 to {_MAX_WIDTH}", "give one within these limits"),
]
VideoHeight = Annotated[
    int,
    Field(strict=True, ge=1, le=_MAX_HEIGHT),
    whole_number(f"of pixels from 1 to {_MAX_HEIGHT}", "give one within these limits"),
]
VideoFps = Annotated[
    int,
    Field(strict=True, ge=1, le=_MAX_FPS),
    whole_number(f"of frames per second from 1 to {_MAX_FPS}", "give one within these limits"),
]
VideoBitrate = Annotated[
    int,
    Field(strict=True, ge=1, le=_MAX_BITRATE),
    whole_number(f"of kbps from 1 to {_MAX_BITRATE}", "give one within these limits; the unit is kbps, not bps"),
]
Flag = Annotated[bool, Field(strict=True), must_be("True or False", lambda _: "write one of the two")]
