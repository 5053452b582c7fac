"""What all routes of the fake share: reading a body, and refusing a request as invalid."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from telstate.testing._refusals import Refusal, RequestRefused

__all__ = ["invalid", "json_object"]


async def json_object(request: Request) -> dict[str, Any]:
    """Return the body.

    Raises:
        RequestRefused: if it is not a JSON object.
    """
    try:
        body = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise invalid("the body must be a JSON object")
    return body


def invalid(info: str) -> RequestRefused:
    """Return the refusal of a request that is not valid."""
    return RequestRefused(Refusal(400, "invalid-request-error", info))
