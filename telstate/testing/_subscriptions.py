"""The fake's `/webhooks` API. Source: docs.daily.co/reference/rest-api/webhooks and the pages below it; the text of the refusal is one
that users of Daily have published.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from telstate.control._tls import tls_for
from telstate.sources._signatures import Secret
from telstate.testing._domain import DOMAIN_ID
from telstate.testing._refusals import Refusal, RequestRefused
from telstate.testing._webhook_delivery import WebhookTarget

__all__ = ["Subscriptions"]

_TEST_TIMEOUT = 2.0
"""Seconds in which a receiver must answer the test request."""


class Subscriptions:
    """The webhooks of the domain, as REST creates and returns them."""

    def __init__(self) -> None:
        self.hooks: dict[str, dict[str, Any]] = {}
        self.new_secret_on_update = False

    def targets(self, kind: str) -> Iterator[WebhookTarget]:
        """Yield the webhooks that want events of a type."""
        for hook in list(self.hooks.values()):
            if kind in hook.get("eventTypes", ()):
                yield WebhookTarget(hook["url"], hook["hmac"], hook["retryType"], hook=hook)

    async def create(self, request: Request) -> Response:
        """`POST /webhooks`: created if the receiver answers the test request."""
        body = await request.json()
        _check(body)
        await _verify(body.get("url"))
        hook = {
            "uuid": str(uuid4()),
            "hmac": _new_secret(),
            "basicAuth": None,
            "retryType": "circuit-breaker",
            "state": "ACTIVE",
            "failedCount": 0,
            "lastMomentPushed": None,
            "domainId": DOMAIN_ID,
            **body,
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
        """`POST /webhooks/:uuid`: also reactivates one that FAILED."""
        hook, body = self._hook(request), await request.json()
        _check(body)
        await _verify(body.get("url", hook["url"]))
        hook.update(body, state="ACTIVE", failedCount=0)
        if self.new_secret_on_update:
            hook["hmac"] = _new_secret()
        return JSONResponse(hook)

    async def delete(self, request: Request) -> Response:
        """`DELETE /webhooks/:uuid`."""
        del self.hooks[self._hook(request)["uuid"]]
        return Response(status_code=200)

    def _hook(self, request: Request) -> dict[str, Any]:
        if (hook := self.hooks.get(request.path_params["uuid"])) is None:
            raise RequestRefused(Refusal(404, "not-found", "no such webhook"))
        return hook


def _check(body: Any) -> None:
    """Refuse a body or a secret that could not be used."""
    if not isinstance(body, dict):
        raise RequestRefused(Refusal(400, "invalid-request-error", "the body must be a JSON object"))
    try:
        Secret(body.get("hmac", "AA=="))
    except (ValueError, AttributeError):
        raise RequestRefused(Refusal(400, "invalid-request-error", "hmac must be base64")) from None


def _new_secret() -> str:
    return b64encode(uuid4().bytes).decode()


async def _verify(url: Any) -> None:
    try:
        tls = await tls_for(str(url))
        async with httpx.AsyncClient(timeout=_TEST_TIMEOUT, verify=tls, trust_env=False) as client:
            status: int | str = (await client.post(str(url), json={"test": "test"})).status_code
    except (httpx.HTTPError, httpx.InvalidURL):
        status = "undefined"
    if status != 200:
        info = f"non-200 status code returned from webhook endpoint, recvd {status}"
        raise RequestRefused(Refusal(400, "invalid-request-error", info))
