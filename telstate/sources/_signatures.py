"""Daily's signatures: HMAC-SHA256 over the timestamp, a dot and the raw body; key and digest in base64.

Source: Daily's webhook and pinless dial-in documentation, and public receivers that verify against the bytes as they came. Webhooks
and pinless dial-in sign alike, in headers of their own. Nothing here reads a clock or the network.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable, Mapping

__all__ = ["PINLESS", "TOLERANCE", "WEBHOOK", "BadSignature", "Headers", "Secret", "sign", "verify"]

TOLERANCE = 2 * 3600.0
"""Seconds for which a signature holds. Daily tells none; it may sign a retry with its first timestamp, and retries for up to an
hour. For so long telstate remembers every webhook's id, so what is sent once more is a duplicate."""
_AHEAD = 300.0
"""Seconds of these that lie ahead: the sender's clock may be before ours."""
_MILLISECONDS_FROM = 1e11
"""From here on a timestamp is in milliseconds, as pinless dial-in sends them: seconds are this large in the year 5138."""


class BadSignature(Exception):
    """Raised when a request is not signed with one of the secrets, or not within the time that is allowed. Tells why, to us
    alone: the sender is told nothing."""


class Headers:
    """The two headers of one kind of request."""

    def __init__(self, kind: str) -> None:
        self.signature = f"x-{kind}-signature"
        self.timestamp = f"x-{kind}-timestamp"


WEBHOOK = Headers("webhook")
PINLESS = Headers("pinless")


class Secret:
    """A secret as Daily gives it (`hmac`), in base64. It does not show in any representation.

    Raises:
        ValueError: if it is no base64, or empty.
    """

    __slots__ = ("_key",)

    def __init__(self, text: str) -> None:
        try:
            key = base64.b64decode(text.strip(), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not key:
            raise ValueError("a webhook's secret is base64, as Daily shows it in `hmac` when the webhook is created")
        self._key = key

    def __repr__(self) -> str:
        return "Secret(…)"

    def digest(self, timestamp: str, body: bytes) -> bytes:
        """What the signature must be, as base64."""
        return base64.b64encode(hmac.digest(self._key, timestamp.encode() + b"." + body, "sha256"))


def sign(secret: Secret, timestamp: str, body: bytes, headers: Headers = WEBHOOK) -> dict[str, str]:
    """The headers with which Daily would send a body."""
    return {headers.timestamp: timestamp, headers.signature: secret.digest(timestamp, body).decode()}


def verify(
    secrets: Iterable[Secret],
    headers: Headers,
    given: Mapping[str, str],
    body: bytes,
    now: float,
    *,
    tolerance: float = TOLERANCE,
) -> None:
    """Check that a request was signed with one of the secrets, and not too long ago.

    Args:
        secrets: those that hold; several while one takes another's place.
        headers: the kind of request.
        given: the request's headers, by names in lower case.
        body: the request's body, as it came.
        now: Unix seconds.
        tolerance: seconds for which a signature holds, five minutes of them ahead.

    Raises:
        BadSignature: if not.
    """
    signature, timestamp = given.get(headers.signature), given.get(headers.timestamp)
    if not signature or not timestamp:
        raise BadSignature(f"the request has no {headers.signature} or no {headers.timestamp}")
    told = signature.strip().encode("utf-8", "replace")
    # All are compared: how long it takes tells nobody which of them is near.
    matches = [hmac.compare_digest(secret.digest(timestamp, body), told) for secret in secrets]
    if not any(matches):
        raise BadSignature("the signature is of another secret, or of another body")
    age = now - _seconds(timestamp)
    ahead = min(_AHEAD, tolerance)
    if not -ahead <= age <= tolerance - ahead:
        raise BadSignature(f"the signature is {age:.0f} seconds old, and {tolerance - ahead:.0f} are allowed")


def _seconds(timestamp: str) -> float:
    try:
        value = float(timestamp)
    except ValueError:
        raise BadSignature("the timestamp is no number") from None
    return value / 1000 if value >= _MILLISECONDS_FROM else value
