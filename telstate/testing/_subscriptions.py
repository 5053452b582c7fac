"""The fake's /webhooks: who asked for which events. Source: docs.daily.co/reference/rest-api/webhooks and the pages below it.

The text of the refusal is the one that users of Daily have published.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from telstate.sources._signatures import Secret
from telstate.testing._domain import DOMAIN_ID
from telstate.testing._phone_lines import Refusal, Refused
from telstate.testing._webhook_delivery import Sink

__all__ = ["Subscriptions"]

_VERIFIED = 2.0
"""Seconds in which a receiver must answer the test."""


class Subscriptions:
    """The webhooks of the domain, as REST makes and tells them."""

    def __init__(self) -> None:
        self.hooks: dict[str, dict[str, Any]] = {}
        self.new_secret_on_update = False

    def sinks(self, kind: str) -> Iterator[Sink]:
        """Who wants events of that type."""
        for hook in list(self.hooks.values()):
            if kind in hook.get("eventTypes", ()):
                yield Sink(hook["url"], hook["hmac"], hook["retryType"], hook=hook)

    async def create(self, request: Request) -> Response:
        """`POST /webhooks`: made if the receiver answers the test."""
        asked = await request.json()
        _check(asked)
        await _verify(asked.get("url"))
        hook = {
            "uuid": str(uuid4()),
            "hmac": _new_secret(),
            "basicAuth": None,
            "retryType": "circuit-breaker",
            "state": "ACTIVE",
            "failedCount": 0,
            "lastMomentPushed": None,
            "domainId": DOMAIN_ID,
            **asked,
        }
        self.hooks[str(hook["uuid"])] = hook
        return JSONResponse(hook)

    async def list(self, request: Request) -> Response:  # noqa: ARG002
        """`GET /webhooks`."""
        return JSONResponse(list(self.hooks.values()))

    async def get(self, request: Request) -> Response:
        """`GET /webhooks/:uuid`."""
        return JSONResponse(self._hook(request))

    async def update(self, request: Request) -> Response:
        """`POST /webhooks/:uuid`: also brings one back that FAILED."""
        hook, asked = self._hook(request), await request.json()
        _check(asked)
        await _verify(asked.get("url", hook["url"]))
        hook.update(asked, state="ACTIVE", failedCount=0)
        if self.new_secret_on_update:
            hook["hmac"] = _new_secret()
        return JSONResponse(hook)

    async def delete(self, request: Request) -> Response:
        """`DELETE /webhooks/:uuid`."""
        del self.hooks[self._hook(request)["uuid"]]
        return Response(status_code=200)

    def _hook(self, request: Request) -> dict[str, Any]:
        if (hook := self.hooks.get(request.path_params["uuid"])) is None:
            raise Refused(Refusal(404, "not-found", "no such webhook"))
        return hook


def _check(asked: Any) -> None:
    """Refuse what could not be sent with."""
    if not isinstance(asked, dict):
        raise Refused(Refusal(400, "invalid-request-error", "the body must be a JSON object"))
    try:
        Secret(asked.get("hmac", "AA=="))
    except (ValueError, AttributeError):
        raise Refused(Refusal(400, "invalid-request-error", "hmac must be base64")) from None


def _new_secret() -> str:
    return b64encode(uuid4().bytes).decode()


async def _verify(url: Any) -> None:
    try:
        async with httpx.AsyncClient(timeout=_VERIFIED, trust_env=False) as client:
            status: int | str = (await client.post(str(url), json={"test": "test"})).status_code
    except (httpx.HTTPError, httpx.InvalidURL):
        status = "undefined"
    if status != 200:
        info = f"non-200 status code returned from webhook endpoint, recvd {status}"
        raise Refused(Refusal(400, "invalid-request-error", info))
