"""Daily's signatures: HMAC-SHA256 over the timestamp, a dot and the raw body; key and digest in base64.

Source: Daily's documentation of webhooks, pinless dial-in and SIP trunks, and public receivers that verify the raw bytes. All three
sign in the same way, each in its own headers. Nothing here reads a clock or the network.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

__all__ = [
    "AHEAD",
    "PINLESS",
    "TOLERANCE",
    "TRUNK",
    "WEBHOOK",
    "BadSignature",
    "Secret",
    "SignatureHeaders",
    "WrongSignature",
    "headers_of_url",
    "sign",
    "verify",
]

TOLERANCE = 2 * 3600.0
"""Seconds for which a signature is valid. Daily documents no limit; it may sign a retry with its first timestamp, and retries for
up to an hour. telstate remembers the id of every webhook for this long, so a replayed request is a duplicate."""
AHEAD = 300.0
"""How many of these seconds may lie in the future: the sender's clock may be ahead of ours."""
_MILLISECONDS_FROM = 1e11
"""A timestamp this large is in milliseconds, as pinless dial-in and trunks send it: in seconds it would be the year 5138."""


class BadSignature(Exception):
    """Raised when a request is not signed with one of the secrets, or is too old. The message says why: log it, do not send it."""


class WrongSignature(BadSignature):
    """The signature was made with another secret, or of another body."""


class SignatureHeaders:
    """The two headers that sign one kind of request.

    Args:
        kind: `webhook`, `pinless` or `siptrunk`.
        in_milliseconds: True if the timestamp is in Unix milliseconds, not in seconds.
    """

    def __init__(self, kind: str, *, in_milliseconds: bool = False) -> None:
        self.signature: str = f"x-{kind}-signature"
        self.timestamp: str = f"x-{kind}-timestamp"
        self._in_milliseconds = in_milliseconds

    def stamp(self, now: float) -> str:
        """Write Unix seconds as the timestamp of this kind."""
        return str(int(now * 1000)) if self._in_milliseconds else f"{now:.3f}"


WEBHOOK = SignatureHeaders("webhook")
"""`X-Webhook-Signature` and `X-Webhook-Timestamp`."""
PINLESS = SignatureHeaders("pinless", in_milliseconds=True)
"""`X-Pinless-Signature` and `X-Pinless-Timestamp` (in milliseconds), of a pinless dial-in."""
TRUNK = SignatureHeaders("siptrunk", in_milliseconds=True)
"""`X-Siptrunk-Signature` and `X-Siptrunk-Timestamp` (in milliseconds), of a call on a SIP trunk."""

_BY_PATH = {"pinless": PINLESS, "sip-trunk": TRUNK}
"""The last part of the paths at which `webhook_app` expects a kind."""


def headers_of_url(url: str) -> SignatureHeaders:
    """Return the headers of the requests that Daily sends to one of `webhook_app`'s URLs."""
    return _BY_PATH.get(urlsplit(url).path.rstrip("/").rpartition("/")[2], WEBHOOK)


class Secret:
    """A signing secret (Daily's `hmac`). No representation shows it.

    Args:
        text: base64, as Daily returns it.

    Raises:
        ValueError: if it is not base64, or empty.
    """

    __slots__ = ("_key",)

    def __init__(self, text: str) -> None:
        try:
            key = base64.b64decode(text.strip(), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not key:
            raise ValueError(
                "a secret is base64, as Daily shows it in `hmac`: of a webhook, a pinless number or a SIP trunk. `openssl rand -base64 32` makes one"
            )
        self._key = key

    def __repr__(self) -> str:
        return "Secret(…)"

    def digest(self, timestamp: str, body: bytes) -> bytes:
        """Return the signature of a body, as base64."""
        return base64.b64encode(hmac.digest(self._key, timestamp.encode() + b"." + body, "sha256"))


def sign(secret: Secret, timestamp: str, body: bytes, headers: SignatureHeaders = WEBHOOK) -> dict[str, str]:
    """Return the headers with which Daily would send a body."""
    return {headers.timestamp: timestamp, headers.signature: secret.digest(timestamp, body).decode()}


def verify(
    secrets: Iterable[Secret],
    headers: SignatureHeaders,
    given: Mapping[str, str],
    body: bytes,
    now: float,
    *,
    tolerance: float = TOLERANCE,
) -> None:
    """Check that a request was signed with one of the secrets, and recently. `webhook_app` does this for you.

    Args:
        secrets: the valid secrets; several while you rotate them.
        headers: the kind of request: `WEBHOOK`, `PINLESS` or `TRUNK`.
        given: the request's headers, with names in lower case.
        body: the request's body, byte for byte.
        now: Unix seconds.
        tolerance: seconds for which a signature is valid; up to five minutes of them lie in the future.

    Raises:
        BadSignature: if the request is not signed, or too old.
    """
    signature, timestamp = given.get(headers.signature), given.get(headers.timestamp)
    if not signature or not timestamp:
        raise BadSignature(f"the request has no {headers.signature} or no {headers.timestamp}")
    received = signature.strip().encode("utf-8", "replace")
    # Compare with all of them: the time this takes must not show which secret is close.
    matches = [hmac.compare_digest(secret.digest(timestamp, body), received) for secret in secrets]
    if not any(matches):
        raise WrongSignature("the signature does not match: another secret, or another body")
    age = now - _seconds(timestamp)
    ahead = min(AHEAD, tolerance)
    if age > tolerance - ahead:
        raise BadSignature(
            f"the signature is {age:.0f} seconds old; the limit is {tolerance - ahead:.0f}. Is this machine's clock right?"
        )
    if not age >= -ahead:
        raise BadSignature(
            f"the signature lies {-age:.0f} seconds in the future; the limit is {ahead:.0f}. Is this machine's clock right?"
        )


def _seconds(timestamp: str) -> float:
    try:
        value = float(timestamp)
    except ValueError:
        raise BadSignature("the timestamp is not a number") from None
    return value / 1000 if value >= _MILLISECONDS_FROM else value
