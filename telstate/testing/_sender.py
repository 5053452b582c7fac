"""A sender of webhooks that does what Daily's does: it signs, and it tries again. It simulates Daily; nothing here reaches it.

    async with WebhookSender("http://127.0.0.1:8080/webhooks", secret) as sender:
        await sender.deliver(sent.payload)

Source of the retries: Daily's webhook documentation. `exponential`: at most five tries of each message. `circuit-breaker`:
one try; three failures in a row switch the webhook off, and what comes then is lost.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import anyio
import httpx

from telstate.sources._signatures import PINLESS, WEBHOOK, Headers, Secret, sign

__all__ = ["RETRIES", "WebhookSender"]

RETRIES = (15.0, 60.0, 300.0, 900.0)
"""Seconds before the second to the fifth try. Daily tells only that the pauses grow, to 15 minutes at most."""
_BREAKS_AT = 3


class WebhookSender:
    """Posts events to a receiver, with valid signatures, and repeats what was not answered with 200.

    Args:
        url: where to; a path that ends in `/pinless` is signed as pinless dial-in.
        secret: with which to sign, in base64; None to sign nothing.
        retry: Daily's `retryType`.
        pauses: seconds before each further try, for `exponential`; small numbers make tests fast.
        clock: Unix seconds, for the timestamps of signatures.
        timeout: seconds to wait for an answer.
        headers: in which the signature goes, where the path does not tell.
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
        headers: Headers | None = None,
    ) -> None:
        self._url = url
        self._headers = headers or (PINLESS if urlsplit(url).path.rstrip("/").endswith("/pinless") else WEBHOOK)
        self._secret = Secret(secret) if isinstance(secret, str) else secret
        self._pauses = tuple(pauses) if retry == "exponential" else ()
        self._breaks = retry == "circuit-breaker"
        self._clock = clock
        self._client = httpx.AsyncClient(
            timeout=timeout, verify=_trusted(), trust_env=False
        )  # it is for receivers at hand
        self.failed_count = 0
        """Failures in a row."""
        self.tries = 0
        """Requests that were sent."""

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, traceback)

    @property
    def state(self) -> Literal["ACTIVE", "FAILED"]:
        """As Daily would tell it of the webhook."""
        return "FAILED" if self._breaks and self.failed_count >= _BREAKS_AT else "ACTIVE"

    def reactivate(self) -> None:
        """Send again, after the webhook was switched off."""
        self.failed_count = 0

    async def deliver(self, payload: Mapping[str, Any] | bytes) -> bool:
        """Send an event until it is answered with 200; False if it was given up, or the webhook is switched off.

        Each try is signed anew.
        """
        if self.state == "FAILED":
            return False
        body = payload if isinstance(payload, bytes) else body_of(payload)
        for pause in (*self._pauses, None):
            if await self._try(body):
                self.failed_count = 0
                return True
            self.failed_count += 1
            if pause is not None:
                await anyio.sleep(pause)
        return False

    async def _try(self, body: bytes) -> bool:
        try:
            return (await self.post(body)).status_code == 200
        except httpx.HTTPError:
            return False

    async def post(self, body: bytes, **headers: str) -> httpx.Response:
        """Send once, whatever comes of it. `headers` are sent as they are, with dashes for underscores; a signature among them
        takes the place of the right one.

        Raises:
            httpx.HTTPError: if no answer came.
        """
        now = self._clock()
        timestamp = str(int(now * 1000)) if self._headers is PINLESS else f"{now:.3f}"
        signed = sign(self._secret, timestamp, body, self._headers) if self._secret is not None else {}
        given = {name.replace("_", "-").lower(): value for name, value in headers.items()}
        self.tries += 1
        return await self._client.post(
            self._url, content=body, headers={"content-type": "application/json", **signed, **given}
        )


@cache
def _trusted() -> ssl.SSLContext:
    """Made once: it takes longer than to deliver."""
    return httpx.create_ssl_context(trust_env=False)


def body_of(payload: Mapping[str, Any]) -> bytes:
    """The bytes that JavaScript's `JSON.stringify` would write."""
    return json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()
