"""The fake's `/sip-trunk` API. Source: docs.daily.co/reference/rest-api/sip-trunk and the pages below it.

SIMULATED: the form of the answers beyond `sip_uri` and `hmac`, the texts of the refusals, and that an update replaces each object it names.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any
from uuid import uuid4

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from telstate.sources._signatures import TRUNK, Secret
from telstate.testing._refusals import Refusal, RequestRefused
from telstate.testing._requests import invalid, json_object
from telstate.testing._sender import WebhookSender

__all__ = ["SimulatedTrunks"]

_TEST_TIMEOUT = 2.0
"""Seconds in which a receiver must answer the test request."""
_FIELDS = {
    "trunk_name": str,
    "room_template": dict,
    "notification": dict,
    "description": str,
    "trunk_config": dict,
    "enabled": bool,
}


class SimulatedTrunks:
    """The SIP trunks of the domain, as REST creates and returns them."""

    def __init__(self) -> None:
        self.trunks: dict[str, dict[str, Any]] = {}

    def named(self, name: str | None) -> dict[str, Any] | None:
        """Return the trunk of a name; without a name, the only one."""
        named = [one for one in self.trunks.values() if name in (None, one["trunk_name"])]
        return named[0] if len(named) == 1 else None

    async def create(self, request: Request) -> Response:
        """`POST /sip-trunk`: created if the receiver answers the signed test."""
        body = await _body(request)
        name = body.get("trunk_name")
        if not name:
            raise invalid("trunk_name is missing")
        if self.named(str(name)) is not None:
            raise invalid(f"a trunk named {name} already exists")
        notification = {**body.get("notification", {})}
        secret = notification.pop("hmac", None) or b64encode(uuid4().bytes).decode()
        _check_access(body.get("trunk_config", {}))
        await _test(notification.get("webhook_url"), secret, str(name))
        trunk = {
            "id": str(uuid4()),
            "description": "",
            "room_template": {},
            "enabled": True,
            **body,
            "notification": notification,
            "trunk_config": {"exp_offset": 3600, "is_open": False, **body.get("trunk_config", {})},
            "sip_uri": f"sip:example-{name}.siptrunk.sip-us.daily.co",
            "hmac": secret,
        }
        self.trunks[trunk["id"]] = trunk
        return JSONResponse(trunk)

    async def list(self, request: Request) -> Response:  # noqa: ARG002
        """`GET /sip-trunk`."""
        return JSONResponse({"total_count": len(self.trunks), "data": list(self.trunks.values())})

    async def get(self, request: Request) -> Response:
        """`GET /sip-trunk/:id`."""
        return JSONResponse(self._trunk(request))

    async def update(self, request: Request) -> Response:
        """`PUT /sip-trunk/:id`: another `notification` is tested like that of a new trunk."""
        trunk, body = self._trunk(request), await _body(request)
        if "trunk_name" in body:
            raise invalid("trunk_name cannot be changed")
        if "trunk_config" in body:
            _check_access(body["trunk_config"])
        if "notification" in body:
            secret = body["notification"].pop("hmac", trunk["hmac"])
            await _test(body["notification"].get("webhook_url"), secret, trunk["trunk_name"])
            trunk["hmac"] = secret
        trunk.update(body)
        return JSONResponse(trunk)

    async def delete(self, request: Request) -> Response:
        """`DELETE /sip-trunk/:id`."""
        del self.trunks[self._trunk(request)["id"]]
        return Response(status_code=200)

    def _trunk(self, request: Request) -> dict[str, Any]:
        if (trunk := self.trunks.get(request.path_params["id"])) is None:
            raise RequestRefused(Refusal(404, "not-found", "no such trunk"))
        return trunk


async def _body(request: Request) -> dict[str, Any]:
    body = await json_object(request)
    for name, value in body.items():
        if name not in _FIELDS or not isinstance(value, _FIELDS[name]):
            raise invalid(f"{name} is not a field of a trunk, or has the wrong type")
    return body


def _check_access(access: dict[str, Any]) -> None:
    if not (access.get("allowed_ips") or access.get("credential") or access.get("is_open") is True):
        raise invalid("trunk_config must have allowed_ips or credential, or is_open must be true")


async def _test(url: Any, secret: Any, name: str) -> None:
    """Send the signed `sip_trunk.test`. No page shows its body."""
    if not isinstance(url, str):
        raise invalid("notification.webhook_url is required")
    try:
        signing = Secret(secret)
    except (ValueError, AttributeError):
        raise invalid("hmac must be base64") from None
    body = {"version": "1.0.0", "type": "sip_trunk.test", "id": str(uuid4()), "payload": {"trunk": {"name": name}}}
    try:
        async with WebhookSender(url, signing, headers=TRUNK, timeout=_TEST_TIMEOUT) as sender:
            status: int | str = (await sender.post(body)).status_code
    except (httpx.HTTPError, httpx.InvalidURL):
        status = "undefined"
    if isinstance(status, str) or not 200 <= status < 300:
        raise invalid(f"sip_trunk.test to notification.webhook_url must return 2xx, recvd {status}")
