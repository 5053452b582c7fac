"""Asks a receiver as Daily does before it creates a trunk: a signed `sip_trunk.test`, which must be answered with 2xx.

It carries no event. telstate's receiver judges a request by the headers that sign it, so the same test, signed as a webhook or as a pinless
dial-in, shows whether it knows those secrets.

Source: docs.daily.co/reference/rest-api/sip-trunk/notification. No page shows the body of the test; ours has the envelope of a call.
"""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

import anyio
from pydantic import SecretStr

from telstate.control._error_mapping import one_line
from telstate.control._tls import tls_for
from telstate.errors import DefinitionError

if TYPE_CHECKING:
    import httpx

__all__ = ["PROBE_TIMEOUT", "ProbeKind", "TrunkProbe", "probe"]

ProbeKind = Literal["webhook", "pinless", "siptrunk"]
"""Whose headers sign a test: `X-Webhook-Signature`, `X-Pinless-Signature` or `X-Siptrunk-Signature`."""

PROBE_TIMEOUT = 12.0
"""Seconds for which Daily keeps a caller in ringback."""
_NOT_ACCEPTED = "does not accept the trunk's signature"
_GIVE = "give it the trunk's secret"
_LONGEST_ANSWER = 4096
"""Bytes that are read of an answer."""


class TrunkProbe(NamedTuple):
    """What the receiver of a trunk's calls answered."""

    status: int | None
    """The HTTP status; None if there was no answer."""
    seconds: float
    """How long that took."""
    failure: str | None = None
    """Why there was no answer."""
    verified: bool | None = None
    """False if the receiver says that it did not accept the signature: telstate's does, which answers every test with 200, because
    Daily sends one before it tells the secret. None if it does not say."""

    @property
    def problem(self) -> str | None:
        """What is wrong, and what to do; None if the answer is 2xx."""
        if self.status is None:
            return f"did not answer: {self.failure}. Start the service, and check the URL"
        if 200 <= self.status < 300:
            return None if self.verified is not False else f"{_NOT_ACCEPTED}, so it would refuse every call: {_GIVE}"
        if self.status in (401, 403):
            return f"answers {self.status}: it {_NOT_ACCEPTED}; {_GIVE}"
        if 300 <= self.status < 400:
            return f"answers {self.status}, a redirect: set the URL to which it leads"
        return f"answers {self.status}, where Daily needs 2xx: check the path of the URL, and the log of the service"


async def probe(
    url: str,
    secret: SecretStr,
    trunk_name: str,
    timeout: float,  # noqa: ASYNC109
    *,
    kind: ProbeKind = "siptrunk",
) -> TrunkProbe:
    """Send the test. Nothing that the receiver does raises an error.

    Args:
        url: the trunk's `webhook_url`.
        secret: signs the test; base64.
        trunk_name: the trunk's name, for the body.
        timeout: seconds for the whole answer.
        kind: whose headers sign it.

    Raises:
        DefinitionError: if the secret is not base64.
    """
    import httpx  # noqa: PLC0415 - an extra

    body = json.dumps(
        {
            "version": "1.0.0",
            "type": "sip_trunk.test",
            "id": str(uuid4()),
            "payload": {"trunk": {"name": trunk_name}},
            "event_ts": round(time.time(), 3),
        }
    ).encode()
    tls = await tls_for(url)
    started, came = time.monotonic(), "nothing"
    try:
        _ = urlsplit(url).port  # httpx passes an impossible one on
        headers = {"Content-Type": "application/json", **_signature(secret, body, kind)}
        with anyio.fail_after(timeout):
            async with (
                httpx.AsyncClient(timeout=timeout, verify=tls) as client,
                client.stream("POST", url, content=body, headers=headers) as response,
            ):
                seconds, came = time.monotonic() - started, f"only the status {response.status_code}"
                return TrunkProbe(response.status_code, seconds, verified=await _verified(response))
    except TimeoutError:
        failure = f"{came} came within {timeout:g} seconds"
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        failure = one_line(str(error)).rstrip(".") or type(error).__name__
    return TrunkProbe(None, time.monotonic() - started, failure)


async def _verified(response: httpx.Response) -> bool | None:
    """Return what the answer says about the signature: `verified` of a JSON object."""
    text = bytearray()
    async for chunk in response.aiter_raw():
        text += chunk
        if len(text) > _LONGEST_ANSWER:
            return None
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return None
    verified = answer.get("verified") if isinstance(answer, dict) else None
    return verified if isinstance(verified, bool) else None


def _signature(secret: SecretStr, body: bytes, kind: ProbeKind) -> dict[str, str]:
    """Sign as Daily does. (`telstate.sources` verifies it; the parts at the edge do not know each other.)"""
    now = time.time()
    timestamp = f"{now:.3f}" if kind == "webhook" else str(int(now * 1000))
    try:
        key = base64.b64decode(secret.get_secret_value(), validate=True)
    except ValueError:
        key = b""
    if not key:
        raise DefinitionError("the secret that signs the test must be base64 and not empty: it is the trunk's `hmac`")
    digest = base64.b64encode(hmac.digest(key, timestamp.encode() + b"." + body, "sha256"))
    return {f"X-{kind}-Timestamp".title(): timestamp, f"X-{kind}-Signature".title(): digest.decode()}
