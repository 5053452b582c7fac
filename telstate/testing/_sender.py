"""Sends webhooks as Daily does: signed, and retried. It simulates Daily; nothing here reaches it.

    async with WebhookSender("http://127.0.0.1:8080/webhooks", secret) as sender:
        await sender.deliver(sent.payload)

Source of the retries: Daily's webhook documentation. `exponential`: at most five attempts for each message. `circuit-breaker`: one
attempt; three failures in a row switch the webhook off, and later messages are lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import TracebackType
from typing import Any, Literal, Self

import anyio
import httpx

from telstate.control._tls import NO_TLS, is_secure, tls_context
from telstate.sources._signatures import Secret, SignatureHeaders, headers_of_url, sign
from telstate.testing._spelling import body_of

__all__ = ["RETRIES", "WebhookSender", "body_of"]

RETRIES = (15.0, 60.0, 300.0, 900.0)
"""Seconds before the second to the fifth attempt. Daily documents only that the pauses grow, to 15 minutes at most."""
_BREAKS_AT = 3


class WebhookSender:
    """Posts events to a receiver, with valid signatures, and retries what is not answered with 200.

    Args:
        url: the receiver; a path that ends in `/pinless` is signed as pinless dial-in, and `/sip-trunk` as a SIP trunk.
        secret: the signing secret, in base64; None to send no signature.
        retry: Daily's `retryType`.
        pauses: seconds before each retry, for `exponential`; small numbers make tests fast.
        clock: returns Unix seconds, for the timestamps of signatures.
        timeout: seconds to wait for an answer to begin; the whole may take twice as long.
        headers: the signature headers, if the path does not decide.
    """

    def __init__(
        self,
        url: str,
        secret: str | Secret | None = None,
        *,
        retry: Literal["exponential", "circuit-breaker"] = "exponential",
        pauses: Sequence[float] = RETRIES,
        clock: Callable[[], float] = time.time,
        timeout: float = 10.0,
        headers: SignatureHeaders | None = None,
    ) -> None:
        self._url = url
        self._headers = headers or headers_of_url(url)
        self._secret = Secret(secret) if isinstance(secret, str) else secret
        self._pauses = tuple(pauses) if retry == "exponential" else ()
        self._breaks = retry == "circuit-breaker"
        self._clock = clock
        self._timeout = timeout
        tls = _tls_context() if is_secure(url) else NO_TLS
        # Without proxies of the environment: the receiver is a local one.
        self._client = httpx.AsyncClient(timeout=timeout, verify=tls, trust_env=False)
        self.failed_count: int = 0
        """How many attempts in a row failed."""
        self.tries: int = 0
        """How many requests were sent."""

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, traceback)

    @property
    def state(self) -> Literal["ACTIVE", "FAILED"]:
        """The `state` that Daily would show for the webhook."""
        return "FAILED" if self._breaks and self.failed_count >= _BREAKS_AT else "ACTIVE"

    def reactivate(self) -> None:
        """Send again, after the webhook was switched off."""
        self.failed_count = 0

    async def deliver(self, payload: Mapping[str, Any] | bytes) -> bool:
        """Send an event until it is answered with 200. Each attempt is signed anew.

        Returns:
            False if it was given up, or the webhook is switched off.
        """
        if self.state == "FAILED":
            return False
        for pause in (*self._pauses, None):
            if await self._try(payload):
                self.failed_count = 0
                return True
            self.failed_count += 1
            if pause is not None:
                await anyio.sleep(pause)
        return False

    async def _try(self, payload: Mapping[str, Any] | bytes) -> bool:
        try:
            return (await self.post(payload)).status_code == 200
        except httpx.HTTPError:
            return False

    async def post(self, payload: Mapping[str, Any] | bytes, **headers: str) -> httpx.Response:
        """Send once, and return the answer.

        Args:
            payload: an event, or a raw body.
            headers: more headers, with underscores for dashes; a signature among them replaces the valid one.

        Raises:
            httpx.HTTPError: if no answer came.
        """
        body = payload if isinstance(payload, bytes) else body_of(payload)
        timestamp = self._headers.stamp(self._clock())
        signed = sign(self._secret, timestamp, body, self._headers) if self._secret is not None else {}
        given = {name.replace("_", "-").lower(): value for name, value in headers.items()}
        self.tries += 1
        with anyio.move_on_after(
            2 * self._timeout
        ):  # httpx waits as long for each part of an answer, which may never end
            return await self._client.post(
                self._url, content=body, headers={"content-type": "application/json", **signed, **given}
            )
        raise httpx.ReadTimeout(f"no complete answer within {2 * self._timeout:g} seconds")


_tls_context = cache(tls_context)
"""Making one takes longer than a delivery."""
