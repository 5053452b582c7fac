"""The receiver of Daily's webhooks: an ASGI app that runs alone or is mounted into FastAPI or Starlette.

    app = FastAPI(lifespan=…)                                          # enters `async with calls`
    app.mount("/daily", webhook_app(calls, secrets=[os.environ["TELSTATE_WEBHOOK_SECRET"]]))

It has `POST /webhooks`, `POST /pinless` and `GET /health`. What it answers is chosen for what Daily makes of it: three failures in
a row make Daily switch a webhook off, and lose what comes then. So a validly signed request is refused only while its event
cannot be kept; whatever cannot be read becomes a dead letter, and the answer is 200. The journal has an event before the answer
goes out, and handlers run after it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv6Address, ip_address
from time import time
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from telstate.errors import JournalError, NotRunning, ParseError
from telstate.events import Dialect
from telstate.routing._dispatcher import Dispatcher
from telstate.routing._log import Log
from telstate.sources._signatures import PINLESS, TOLERANCE, WEBHOOK, BadSignature, Headers, Secret, verify

__all__ = ["MAX_BODY", "is_loopback", "webhook_app"]

MAX_BODY = 1024 * 1024
"""Bytes of a request's body at most: Daily's are a few kilobytes."""
_READ_WITHIN = 10.0
"""Seconds in which a body must have come."""
_HELD = 10.0
"""Seconds a request is held while events cannot be taken in, before Daily is told to come again."""
_MORE = {
    503: {"Retry-After": "5"},
    401: {"Connection": "close"},  # the rest of the body is not waited for
    408: {"Connection": "close"},
    413: {"Connection": "close"},
}
"""What an answer says beside its status."""
_UNSIGNED = 200
"""Bytes that are read of a request without a signature: as long as Daily's tests may be, which need none."""
_BY_OTHERS = ("forwarded", "x-forwarded", "via", "x-real-ip", "cf-", "true-client-ip", "origin", "referer")
"""How headers begin that proxies add, and browsers."""


def webhook_app(
    calls: Dispatcher,
    *,
    secrets: Iterable[str | Secret] = (),
    tolerance: float = TOLERANCE,
    max_body: int = MAX_BODY,
    held: float = _HELD,
    clock: Callable[[], float] = time,
) -> Starlette:
    """Make the app.

    Run alone it enters `calls` itself, when the server starts, and drains it when the server stops. Mounted into another
    app it does not (Starlette starts no mounted app): enter `async with calls` in that app's own lifespan.

    Args:
        calls: takes the events in. Give it a journal: without one, what was acknowledged is lost with the process.
        secrets: the webhook's `hmac` in base64, as Daily shows it; several while one takes another's place. Without any, only
            requests from this very machine and to it by name are taken, none of a browser or a proxy. A proxy that hides
            itself and the name is not seen: give a secret wherever others can reach the address.
        tolerance: seconds for which a signature holds. Beyond two hours, duplicates might not be known as such any more.
        max_body: bytes of a body at most.
        held: seconds a request waits while events cannot be taken in.
        clock: Unix seconds; for tests.

    Raises:
        ValueError: if a secret is no base64, or a number makes no sense.
        TypeError: if `secrets` is no list of secrets.
    """
    if not tolerance > 0 or max_body < 1 or not held > 0:
        raise ValueError("tolerance=, max_body= and held= are above 0")
    if isinstance(secrets, (str, Secret)):
        raise TypeError("secrets= takes a list of secrets, so that one can take another's place: secrets=[…]")
    known = [secret if isinstance(secret, Secret) else Secret(secret) for secret in secrets]
    if not known:
        hint = "requests of this machine alone are taken, unsigned: pass secrets=[…]"
        Log().warning("webhooks.without_secret", hint=hint)
    desk = _Desk(calls, known, tolerance=tolerance, max_body=max_body, held=held, clock=clock)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with calls:
            yield

    return Starlette(
        routes=[
            # With a slash at the end too: a redirection is a failure to Daily.
            *(Route(f"/webhooks{end}", desk.webhook, methods=["POST"]) for end in ("", "/")),
            *(Route(f"/pinless{end}", desk.pinless, methods=["POST"]) for end in ("", "/")),
            Route("/health", desk.health, methods=["GET"]),
        ],
        lifespan=lifespan,
    )


class _Refused(Exception):
    """A request that is not taken: with which status, and what to say."""

    def __init__(self, status: int, error: str) -> None:
        self.status = status
        self.error = error


class _Desk:
    """Where requests come in."""

    def __init__(
        self,
        calls: Dispatcher,
        secrets: Sequence[Secret],
        *,
        tolerance: float,
        max_body: int,
        held: float,
        clock: Callable[[], float],
    ) -> None:
        self._calls = calls
        self._secrets = secrets
        self._tolerance = tolerance
        self._max_body = max_body
        self._held = held
        self._clock = clock
        self._log = Log()

    async def webhook(self, request: Request) -> Response:
        """`POST /webhooks`."""
        return await self._answer(request, WEBHOOK)

    async def pinless(self, request: Request) -> Response:
        """`POST /pinless`: a caller is on hold, and waits for a room (Daily's `room_creation_api`)."""
        return await self._answer(request, PINLESS)

    async def health(self, _: Request) -> Response:
        """`GET /health`: whether events are taken in."""
        return JSONResponse({"ok": self._calls.is_open}, 200 if self._calls.is_open else 503)

    async def _answer(self, request: Request, headers: Headers) -> Response:
        try:
            body = await self._read(request, headers)
            if _is_test(body):
                return JSONResponse({"ok": True})
            self._check(request, headers, body)
            return await self._take(body)
        except _Refused as refused:
            facts = {"path": request.url.path, "status": refused.status, "error": refused.error}
            self._log.warning("webhook.refused", client=request.client and request.client.host, **facts)
            more = _MORE.get(refused.status, {})
            # Why a signature was refused is for the log alone.
            told = "not signed with a known secret, or too long ago" if refused.status == 401 else refused.error
            return JSONResponse({"error": told}, refused.status, more)

    async def _read(self, request: Request, headers: Headers) -> bytes:
        """The body, as long as it is neither too long nor too slow: whoever sends it has shown nothing yet. Of what bears no
        signature, and so can be nothing but a test, next to nothing is read."""
        chunks, size = [], 0
        is_signed = headers.signature in request.headers and headers.timestamp in request.headers
        try:
            with anyio.fail_after(_READ_WITHIN):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > self._max_body:
                        raise _Refused(413, f"the body is longer than {self._max_body} bytes")
                    if size > _UNSIGNED and self._secrets and not is_signed:
                        raise _Refused(401, f"the request has no {headers.signature} or no {headers.timestamp}")
                    chunks.append(chunk)
        except TimeoutError:
            raise _Refused(408, f"the body did not come within {_READ_WITHIN:.0f} seconds") from None
        except ClientDisconnect:
            raise _Refused(400, "the body was cut off") from None
        return b"".join(chunks)

    def _check(self, request: Request, headers: Headers, body: bytes) -> None:
        if not self._secrets:
            if _is_from_here(request):
                return
            raise _Refused(401, "without a secret only requests from this machine are taken: pass secrets=[…]")
        try:
            verify(self._secrets, headers, request.headers, body, self._clock(), tolerance=self._tolerance)
        except BadSignature as error:
            raise _Refused(401, str(error)) from None

    async def _take(self, body: bytes) -> Response:
        """Keep the event, or what is none, and say so."""
        try:
            with anyio.fail_after(self._held):
                try:
                    outcome = await self._calls.receive(body, Dialect.WEBHOOK)
                except ParseError as error:
                    await self._calls.add_dead_letter(body, error, Dialect.WEBHOOK)
                    return JSONResponse({"ok": True, "outcome": "dead letter"})
        except TimeoutError:
            raise _Refused(503, f"no event could be taken in for {self._held:.0f} seconds") from None
        except (JournalError, NotRunning) as error:
            raise _Refused(503, f"no event can be kept: {type(error).__name__}") from error
        return JSONResponse({"ok": True, "outcome": str(outcome.kind)})


def _is_test(body: bytes) -> bool:
    """Tell the requests with which Daily tries an address, when a webhook or a pinless dial-in is set up. They say nothing, so
    they need no signature: `{"test": "test"}` in several spellings, and, for pinless dial-in, a `To` alone."""
    if len(body) > _UNSIGNED:
        return False
    try:
        told: Any = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(told, dict) and len(told) == 1 and next(iter(told)).lower() in ("test", "to")


def _is_from_here(request: Request) -> bool:
    """Tell whether a request comes from this machine and is meant for it, and not through a proxy or a browser on it."""
    if request.client is None or any(name.startswith(_BY_OTHERS) for name in request.headers):
        return False
    return is_loopback(request.client.host) and is_loopback(request.url.hostname or "")


def is_loopback(host: str) -> bool:
    """Tell a name or an address of this machine that no other can reach."""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost"
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address.is_loopback or (mapped is not None and mapped.is_loopback)
