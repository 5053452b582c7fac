"""The fake's numbers: the domain's `pinless_dialin` list, and the `/domain-dialin-config` API.

Source: docs.daily.co/reference/rest-api/domain/set-domain-config and docs.daily.co/reference/rest-api/dial-in, the pages of the configs.
SIMULATED: the SIP addresses, and the texts of the refusals. No test request is sent to a new `room_creation_api`: Daily ignores the answer.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from telstate.sources._signatures import Secret
from telstate.testing._domain import DOMAIN_ID
from telstate.testing._refusals import Refusal, RequestRefused
from telstate.testing._requests import invalid, json_object

__all__ = ["DialinNumbers"]


class DialinNumbers:
    """The numbers of the domain, as REST sets and returns them."""

    def __init__(self) -> None:
        self.pinless: list[dict[str, Any]] = []
        self.configs: dict[str, dict[str, Any]] = {}

    def receiver_of(self, number: str) -> tuple[str, str] | None:
        """Return the URL that learns of a pinless number's callers, and its secret."""
        configs = [one["config"] for one in self.configs.values() if one["type"] == "pinless_dialin"]
        entry = next((one for one in (*self.pinless, *configs) if one.get("phone_number") == number), None)
        return None if entry is None else (entry["room_creation_api"], entry["hmac"])

    # --- the domain's list ------------------------------------------------------------------------------------------

    async def domain(self, request: Request) -> Response:  # noqa: ARG002
        """`GET /`."""
        return self._domain()

    async def set_domain(self, request: Request) -> Response:
        """`POST /`: replaces the whole list; an entry without an `hmac` gets a new one."""
        properties = (await json_object(request)).get("properties")
        listed = properties.get("pinless_dialin") if isinstance(properties, dict) else None
        if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
            raise invalid("properties.pinless_dialin must be a list of objects")
        numbers = [entry["phone_number"] for entry in listed if entry.get("phone_number")]
        taken = {one["config"].get("phone_number") for one in self.configs.values()}
        if len(set(numbers)) < len(numbers) or taken & set(numbers):
            raise invalid("a phone_number can be in one config only")
        self.pinless = [_pinless(entry) for entry in listed]
        return self._domain()

    def _domain(self) -> Response:
        config = {"pinless_dialin": self.pinless}
        return JSONResponse({"domain_name": "example", "domain_id": DOMAIN_ID, "config": config})

    # --- /domain-dialin-config --------------------------------------------------------------------------------------

    async def create(self, request: Request) -> Response:
        """`POST /domain-dialin-config`."""
        body = await json_object(request)
        kind = body.pop("type", None)
        if kind not in ("pinless_dialin", "pin_dialin"):
            raise invalid("type must be pinless_dialin or pin_dialin")
        self._check_number(body)
        made = {"id": str(uuid4()), "type": kind, "config": _pinless(body) if kind == "pinless_dialin" else body}
        self.configs[str(made["id"])] = made
        return JSONResponse(made)

    async def list(self, request: Request) -> Response:
        """`GET /domain-dialin-config`, with `limit`, `starting_after` and `type`."""
        query = request.query_params
        found = [one for one in self.configs.values() if query.get("type") in (None, one["type"])]
        ids = [one["id"] for one in found]
        start = ids.index(query["starting_after"]) + 1 if query.get("starting_after") in ids else 0
        page = found[start:][: int(query.get("limit", "50"))]
        return JSONResponse({"total_count": len(found), "data": page})

    async def get(self, request: Request) -> Response:
        """`GET /domain-dialin-config/:id`."""
        return JSONResponse(self._config(request))

    async def update(self, request: Request) -> Response:
        """`PUT /domain-dialin-config/:id`."""
        config, body = self._config(request), await json_object(request)
        self._check_number(body, besides=config["id"])
        changed = {**config["config"], **body}
        config["config"] = _pinless(changed) if config["type"] == "pinless_dialin" else changed
        return JSONResponse(config)

    async def delete(self, request: Request) -> Response:
        """`DELETE /domain-dialin-config/:id`."""
        del self.configs[self._config(request)["id"]]
        return Response(status_code=200)

    def _config(self, request: Request) -> dict[str, Any]:
        if (config := self.configs.get(request.path_params["id"])) is None:
            raise RequestRefused(Refusal(404, "not-found", "no such config"))
        return config

    def _check_number(self, body: dict[str, Any], besides: str | None = None) -> None:
        others = [one["config"] for one in self.configs.values() if one["id"] != besides]
        number = body.get("phone_number")
        if number is not None and number in [one.get("phone_number") for one in (*others, *self.pinless)]:
            raise invalid(f"phone_number {number} is used by another config")


def _pinless(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a pinless entry with a secret and a SIP address."""
    if not isinstance(entry.get("room_creation_api"), str):
        raise invalid("room_creation_api is missing")
    whole = {
        "sip_uri": f"user--{uuid4().hex[:12]}@example-pinless-sip.dapp.signalwire.com",
        "hmac": b64encode(uuid4().bytes).decode(),
        **entry,
    }
    try:
        Secret(whole["hmac"])
    except (ValueError, AttributeError):
        raise invalid("hmac must be base64") from None
    return whole
