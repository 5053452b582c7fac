"""A receiver for Daily's webhooks: an ASGI app that runs alone or is mounted into FastAPI or Starlette.

    app = FastAPI(lifespan=…)                                          # enters `async with calls`
    app.mount("/daily", webhook_app(calls, secrets=[os.environ["TELSTATE_WEBHOOK_SECRET"]]))

It serves `POST /webhooks`, `POST /pinless` and `GET /health`. The answers follow from what Daily does with them: after three
failures in a row Daily switches a webhook off, and later events are lost. So a validly signed request is refused only while its
event cannot be kept; a body that cannot be read becomes a dead letter and is answered with 200. The event is in the journal before
the answer is sent, and handlers run after it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
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
from telstate.routing._log import Log
from telstate.routing._ports import EventSink
from telstate.sources._signatures import PINLESS, TOLERANCE, WEBHOOK, BadSignature, Secret, SignatureHeaders, verify

__all__ = ["MAX_BODY", "is_loopback", "webhook_app"]

MAX_BODY = 1024 * 1024
"""The longest body, in bytes: Daily's are a few kilobytes."""
_READ_TIMEOUT = 10.0
"""Seconds in which a body must arrive."""
_RECEIVE_TIMEOUT = 10.0
"""Seconds a request waits while events cannot be taken in; then Daily is asked to retry."""
_STATUS_HEADERS = {
    503: {"Retry-After": "5"},
    401: {"Connection": "close"},  # do not wait for the rest of the body
    408: {"Connection": "close"},
    413: {"Connection": "close"},
}
_MAX_UNSIGNED = 200
"""How many bytes of an unsigned request are read: enough for Daily's tests, which need no signature."""
_FOREIGN_HEADERS = ("forwarded", "x-forwarded", "via", "x-real-ip", "cf-", "true-client-ip", "origin", "referer")
"""Prefixes of headers that proxies and browsers add."""


def webhook_app(
    calls: EventSink,
    *,
    secrets: Iterable[str | Secret] = (),
    tolerance: float = TOLERANCE,
    max_body: int = MAX_BODY,
    receive_timeout: float = _RECEIVE_TIMEOUT,
    clock: Callable[[], float] = time,
) -> Starlette:
    """Make the app.

    Run alone, it enters `calls` when the server starts and leaves it when the server stops. Mounted into another app it does not,
    because Starlette starts no mounted app: enter `async with calls` in the lifespan of that app.

    Args:
        calls: the dispatcher. Give it a journal: without one, acknowledged events are lost with the process.
        secrets: the webhook's `hmac` in base64, as Daily shows it; several while you rotate them. Without any, only requests from
            this machine, addressed to it by a loopback name, are accepted, and none from a browser or a proxy. A proxy that
            hides itself and the name is not detected: set a secret if others can reach the address.
        tolerance: seconds for which a signature is valid. Beyond two hours, a replayed request may not be recognised as a
            duplicate any more.
        max_body: the longest body, in bytes.
        receive_timeout: seconds a request waits while events cannot be taken in.
        clock: returns Unix seconds; for tests.

    Raises:
        ValueError: if a secret is not base64, or a number is not positive.
        TypeError: if `secrets` is not a list.
    """
    if not tolerance > 0 or max_body < 1 or not receive_timeout > 0:
        raise ValueError("tolerance=, max_body= and receive_timeout= must be above 0")
    if isinstance(secrets, (str, Secret)):
        raise TypeError("secrets= takes a list of secrets, so that you can rotate them: secrets=[…]")
    known = [secret if isinstance(secret, Secret) else Secret(secret) for secret in secrets]
    if not known:
        hint = "only unsigned requests from this machine are accepted: pass secrets=[…]"
        Log().warning("webhooks.without_secret", hint=hint)
    receiver = _Receiver(
        calls, known, tolerance=tolerance, max_body=max_body, receive_timeout=receive_timeout, clock=clock
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        if isinstance(calls, AbstractAsyncContextManager):
            async with calls:
                yield
        else:
            yield

    return Starlette(
        routes=[
            # With a trailing slash too: Daily counts a redirect as a failure.
            *(Route(f"/webhooks{end}", receiver.webhook, methods=["POST"]) for end in ("", "/")),
            *(Route(f"/pinless{end}", receiver.pinless, methods=["POST"]) for end in ("", "/")),
            Route("/health", receiver.health, methods=["GET"]),
        ],
        lifespan=lifespan,
    )


class _Rejected(Exception):
    """A request that is refused: the status, and why."""

    def __init__(self, status: int, error: str) -> None:
        self.status = status
        self.error = error


class _Receiver:
    """The endpoints."""

    def __init__(
        self,
        calls: EventSink,
        secrets: Sequence[Secret],
        *,
        tolerance: float,
        max_body: int,
        receive_timeout: float,
        clock: Callable[[], float],
    ) -> None:
        self._calls = calls
        self._secrets = secrets
        self._tolerance = tolerance
        self._max_body = max_body
        self._receive_timeout = receive_timeout
        self._clock = clock
        self._log = Log()

    async def webhook(self, request: Request) -> Response:
        """`POST /webhooks`."""
        return await self._answer(request, WEBHOOK)

    async def pinless(self, request: Request) -> Response:
        """`POST /pinless`: a caller is on hold and waits for a room (Daily's `room_creation_api`)."""
        return await self._answer(request, PINLESS)

    async def health(self, _: Request) -> Response:
        """`GET /health`: whether events are accepted."""
        return JSONResponse({"ok": self._calls.is_open}, 200 if self._calls.is_open else 503)

    async def _answer(self, request: Request, headers: SignatureHeaders) -> Response:
        try:
            body = await self._read(request, headers)
            if _is_test(body):
                return JSONResponse({"ok": True})
            self._check(request, headers, body)
            return await self._receive(body)
        except _Rejected as rejected:
            facts = {"path": request.url.path, "status": rejected.status, "error": rejected.error}
            self._log.warning("webhook.refused", client=request.client and request.client.host, **facts)
            # Only the log says what is wrong with a signature.
            error = "not signed with a known secret, or too old" if rejected.status == 401 else rejected.error
            return JSONResponse({"error": error}, rejected.status, _STATUS_HEADERS.get(rejected.status, {}))

    async def _read(self, request: Request, headers: SignatureHeaders) -> bytes:
        """Read the body, within limits of size and time: the sender has not proved anything yet. An unsigned request can only be one
        of Daily's tests, so almost nothing of it is read."""
        chunks, size = [], 0
        is_signed = headers.signature in request.headers and headers.timestamp in request.headers
        try:
            with anyio.fail_after(_READ_TIMEOUT):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > self._max_body:
                        raise _Rejected(413, f"the body is longer than {self._max_body} bytes")
                    if size > _MAX_UNSIGNED and self._secrets and not is_signed:
                        raise _Rejected(401, f"the request has no {headers.signature} or no {headers.timestamp}")
                    chunks.append(chunk)
        except TimeoutError:
            raise _Rejected(408, f"the body did not arrive within {_READ_TIMEOUT:.0f} seconds") from None
        except ClientDisconnect:
            raise _Rejected(400, "the connection broke before the body was complete") from None
        return b"".join(chunks)

    def _check(self, request: Request, headers: SignatureHeaders, body: bytes) -> None:
        if not self._secrets:
            if _is_local(request):
                return
            raise _Rejected(401, "without a secret only requests from this machine are accepted: pass secrets=[…]")
        try:
            verify(self._secrets, headers, request.headers, body, self._clock(), tolerance=self._tolerance)
        except BadSignature as error:
            raise _Rejected(401, str(error)) from None

    async def _receive(self, body: bytes) -> Response:
        """Keep the event, or the unreadable body as a dead letter, and answer."""
        try:
            with anyio.fail_after(self._receive_timeout):
                try:
                    outcome = await self._calls.receive(body, Dialect.WEBHOOK)
                except ParseError as error:
                    await self._calls.add_dead_letter(body, error, Dialect.WEBHOOK)
                    return JSONResponse({"ok": True, "outcome": "dead letter"})
        except TimeoutError:
            raise _Rejected(503, f"events could not be taken in for {self._receive_timeout:.0f} seconds") from None
        except (JournalError, NotRunning) as error:
            raise _Rejected(503, f"events cannot be kept: {error}") from error
        return JSONResponse({"ok": True, "outcome": str(outcome.kind)})


def _is_test(body: bytes) -> bool:
    """Return True for the requests with which Daily tests an address, when a webhook or a pinless dial-in is set up. They carry no
    event, so they need no signature: `{"test": "test"}` in several spellings and, for pinless dial-in, only a `To`."""
    if len(body) > _MAX_UNSIGNED:
        return False
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and len(value) == 1 and next(iter(value)).lower() in ("test", "to")


def _is_local(request: Request) -> bool:
    """Return True if a request comes from this machine, is addressed to it, and came through no proxy or browser on it."""
    if request.client is None or any(name.startswith(_FOREIGN_HEADERS) for name in request.headers):
        return False
    return is_loopback(request.client.host) and is_loopback(request.url.hostname or "")


def is_loopback(host: str) -> bool:
    """Return True for a name or an address of this machine that no other machine can reach."""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost"
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address.is_loopback or (mapped is not None and mapped.is_loopback)
