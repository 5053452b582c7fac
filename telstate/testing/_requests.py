"""What all routes of the fake share: the key, reading a body, and refusing a request as invalid."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from telstate.testing._refusals import Refusal, RequestRefused

__all__ = ["Handler", "answering", "invalid", "json_object"]

Handler = Callable[[Request], Awaitable[Response]]


def answering(handler: Handler, key: str | None = None) -> Handler:
    """Return a handler that checks the API key, if one is given, and turns refusals into answers."""

    async def answer(request: Request) -> Response:
        given = request.headers.get("Authorization")
        if key is not None and given is None:
            return _answer_of(Refusal(400, "authorization-header-error", "bad Authorization header format"))
        if key is not None and given != f"Bearer {key}":
            return _answer_of(Refusal(401, "authentication-error"))
        try:
            return await handler(request)
        except RequestRefused as refused:
            return _answer_of(refused.refusal)

    return answer


def _answer_of(refusal: Refusal) -> Response:
    return JSONResponse({"error": refusal.error, "info": refusal.info}, refusal.status)


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
