"""A receiver for Daily's webhooks: an ASGI app that runs alone or is mounted into FastAPI or Starlette.

    app = FastAPI(lifespan=…)                                          # enters `async with calls`
    app.mount("/daily", webhook_app(calls, secrets=[os.environ["TELSTATE_WEBHOOK_SECRET"]]))

It serves `POST /webhooks`, `POST /pinless`, `POST /sip-trunk`, `GET /ready` and `GET /health`. Whatever is validly signed is taken on each of the
three. The answers follow from what Daily does with them: after three failures in a row Daily switches a webhook off, and later events
are lost. So a validly signed request is refused only while its event cannot be kept; a body that cannot be read becomes a dead letter
and is answered with 200. The event is in the journal before the answer is sent, and handlers run after it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, suppress
from functools import partial
from time import time
from typing import Any, NamedTuple

import anyio
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from telstate._asgi import PROXY_HEADERS, confirm_sender, is_local
from telstate.calls._outcome import OutcomeKind
from telstate.errors import EventTooLarge, JournalError, NotRunning, ParseError
from telstate.events import Dialect
from telstate.events._address_tests import LONGEST_UNSIGNED, is_trunk_test, is_unsigned_test
from telstate.events._masking import mask
from telstate.routing._clock import SystemClock
from telstate.routing._log import Log, text_of
from telstate.routing._ports import EventSink
from telstate.sources._bodies import UnverifiedBodies
from telstate.sources._plain_requests import PlainRequest
from telstate.sources._probes import probe_routes, why_not_ready
from telstate.sources._request_kinds import KnownSecrets, is_signed, what_is_missing
from telstate.sources._signatures import (
    PINLESS,
    TOLERANCE,
    TRUNK,
    BadSignature,
    Secret,
    SignatureHeaders,
    headers_of_url,
)
from telstate.sources._time_limits import TimeLimits

__all__ = ["MAX_BODY", "DirectRoute", "ReceiverAnswer", "webhook_app"]

MAX_BODY = 64 * 1024
"""The longest body, in bytes: Daily's are a few kilobytes."""
_UNVERIFIED = 16 * 1024 * 1024
"""Bytes that all bodies may have together while they are not verified."""
_READ_TIMEOUT = 10.0
"""Seconds in which a body must arrive."""
_RECEIVE_TIMEOUT = 10.0
"""Seconds a request waits while events cannot be taken in; then Daily is asked to retry."""
_TRUNK_TIMEOUT = 3.0
"""The same of a call on a SIP trunk. The caller hears ringback for 12 seconds in all, and Daily retries only while that lasts."""
_TRUNK_TIMEOUT_IN_TROUBLE = 1.0
"""The same while it is known that events cannot be kept."""
_CLOCKS_AGREE = 1.0
"""Seconds by which the wall clock may differ from the monotonic one without having been set."""
_STATUS_HEADERS = {
    503: {"Retry-After": "5", "Connection": "close"},  # do not wait for the rest of the body
    401: {"Connection": "close"},
    408: {"Connection": "close"},
    413: {"Connection": "close"},
}
_PATHS = tuple(f"{path}{end}" for path in ("/webhooks", "/pinless", "/sip-trunk") for end in ("", "/"))
"""With a trailing slash too: Daily counts a redirect as a failure."""
_FOREIGN_HEADERS = (*PROXY_HEADERS, "origin", "referer")
"""Prefixes of headers that proxies and browsers add."""


def webhook_app(
    calls: EventSink,
    *,
    secrets: Iterable[str | Secret] = (),
    pinless_secrets: Iterable[str | Secret] = (),
    trunk_secrets: Iterable[str | Secret] = (),
    tolerance: float = TOLERANCE,
    max_body: int = MAX_BODY,
    receive_timeout: float = _RECEIVE_TIMEOUT,
    clock: Callable[[], float] = time,
) -> Starlette:
    """Make the app.

    Run alone, it enters `calls` when the server starts and leaves it when the server stops. Mounted into another app it does not,
    because Starlette starts no mounted app: enter `async with calls` in the lifespan of that app.

    Args:
        calls: the dispatcher, or a publisher to a stream (`telstate.journals.nats`). Give a dispatcher a journal: without one,
            acknowledged events are lost with the process.
        secrets: the webhook's `hmac` in base64, as Daily shows it; several while you rotate them. They are valid for pinless
            dial-in and SIP trunks too. Without any secret, only requests from this machine, addressed to it by a loopback
            name, are accepted, and none from a browser or a proxy. A proxy that hides itself and the name is not
            detected: set a secret if others can reach the address.
        pinless_secrets: the `hmac` of pinless dial-in, where that has another one.
        trunk_secrets: the `hmac` of each SIP trunk, where those have others.
        tolerance: seconds for which a signature is valid. Beyond two hours, a replayed request may not be recognised as a
            duplicate any more.
        max_body: the longest body, in bytes. All that are not verified yet may have 16 MiB together, or four such bodies.
        receive_timeout: seconds a request waits while events cannot be taken in; of a call on a SIP trunk 3 at most.
        clock: returns Unix seconds; for tests.

    Raises:
        ValueError: if a secret is not base64, or a number is not positive.
        TypeError: if secrets are not a list, or `calls` takes in no events.
    """
    if not hasattr(calls, "receive"):
        raise TypeError(f"expected a Dispatcher (or a publisher to a stream) that takes in the events, got {calls!r}")
    if not tolerance > 0 or max_body < 1 or not receive_timeout > 0:
        raise ValueError("tolerance=, max_body= and receive_timeout= must be above 0")
    known = KnownSecrets(secrets, pinless_secrets, trunk_secrets)
    if not known:
        hint = "only unsigned requests from this machine are accepted: pass secrets=[…] (telstate serve: TELSTATE_WEBHOOK_SECRET)"
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

    app = Starlette(
        routes=[
            *(Route(path, receiver.post, methods=["POST"]) for path in _PATHS),
            *probe_routes(partial(why_not_ready, calls)),
        ],
        lifespan=lifespan,
    )
    app.state.direct_route = DirectRoute(receiver)
    app.state.answers = receiver.answers  # for `telstate.views.PrometheusMetrics`
    return app


class ReceiverAnswer(NamedTuple):
    """What a request is answered with."""

    status: int
    body: bytes
    """JSON."""
    headers: Mapping[str, str] = {}


class _Head(NamedTuple):
    """What the receiver needs to know of a request besides its body."""

    headers: Mapping[str, str]
    """By their names in lower case."""
    path: str
    client: str | None
    """The sender's address."""
    confirm: Callable[[], None]
    """Tells the server that the request is verified."""
    is_local: Callable[[], bool]
    """Returns whether the request comes from this machine, and was addressed to it."""
    limit: Callable[[float], AbstractContextManager[object]]
    """Makes a block that raises `TimeoutError` after so many seconds."""


class _Rejected(Exception):
    """A request that is refused: the status, why, and the seconds after which Daily may retry, if not the usual ones."""

    def __init__(self, status: int, error: str) -> None:
        self.status = status
        self.error = error
        self.retry_after: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer."""
        headers = _STATUS_HEADERS.get(self.status, {})
        return headers if self.retry_after is None else {**headers, "Retry-After": str(self.retry_after)}


class _Receiver:
    """The endpoints."""

    def __init__(
        self,
        calls: EventSink,
        secrets: KnownSecrets,
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
        self._steady = SystemClock()
        """The time by the wall clock at the start and a monotonic clock since: a wall clock that is wrong for a while refuses nobody."""
        self.answers: Counter[int] = Counter({200: 0, 401: 0, 503: 0})
        """How many requests were answered, by status."""
        self._bodies = UnverifiedBodies(max(_UNVERIFIED, 4 * max_body))
        self._log = Log(burst=1, every=60.0)  # anybody can cause these lines

    async def post(self, request: Request) -> Response:
        """`POST /webhooks`, `/pinless` (Daily's `room_creation_api`) and `/sip-trunk`: its headers say what a request is, not its path."""
        client = request.client and request.client.host
        confirm, is_here = partial(confirm_sender, request.scope), partial(is_local, request.scope, _FOREIGN_HEADERS)
        head = _Head(request.headers, request.url.path, client, confirm, is_here, anyio.fail_after)
        try:
            body = await self._read(request)
        except _Rejected as rejected:
            answer = self.refuse(head, rejected)
        else:
            answer = await self.answer(head, body)
        return Response(answer.body, answer.status, answer.headers, "application/json")

    async def answer(self, head: _Head, body: bytes) -> ReceiverAnswer:
        """Answer a request that has been read."""
        try:
            if is_unsigned_test(body):
                answer = _OK
            elif is_trunk_test(body):
                answer = self._answer_trunk_test(head, body)
            else:
                kind = self._check(head, body)
                head.confirm()
                self._refuse_new_callers(kind)
                answer = await self._receive(head, body, is_trunk=kind is TRUNK)
        except _Rejected as rejected:
            return self.refuse(head, rejected)
        self.answers[answer.status] += 1
        return answer

    def check_size(self, headers: Mapping[str, str], size: int) -> None:
        """Refuse a body that is longer than any of this sender's can be. An unsigned request can only be one of Daily's tests."""
        if size > self._max_body:
            raise _Rejected(413, f"the body is longer than {self._max_body} bytes")
        if size > LONGEST_UNSIGNED and self._secrets and not is_signed(headers):
            raise _Rejected(401, what_is_missing(headers))

    @property
    def knows_secrets(self) -> bool:
        """True if requests must be signed."""
        return bool(self._secrets)

    def _answer_trunk_test(self, head: _Head, body: bytes) -> ReceiverAnswer:
        """Answer the test of a new trunk. It carries no event, and Daily tells a secret that it makes itself only afterwards."""
        try:
            self._check(head, body)
        except _Rejected as rejected:
            hint = "the trunk's calls will be refused until its `hmac` is among the secrets; `telstate doctor` sends such a test, too"
            self._log.warning("trunk.test_not_verified", path=head.path[:200], error=rejected.error, hint=hint)
            return _answer(ok=True, verified=False)  # `telstate trunk check` reads it
        head.confirm()
        return _answer(ok=True, verified=True)

    def refuse(self, head: _Head, rejected: _Rejected) -> ReceiverAnswer:
        """Log why a request is refused, and answer it."""
        self.answers[rejected.status] += 1
        facts = {"path": head.path[:200], "status": rejected.status, "error": rejected.error}
        self._log.warning("webhook.refused", client=head.client, **facts)
        # Only the log says what is wrong with a signature.
        error = "not signed with a known secret, or too old" if rejected.status == 401 else rejected.error
        return ReceiverAnswer(rejected.status, _json({"error": error}), rejected.headers)

    async def _read(self, request: Request) -> bytes:
        """Read the body, within limits of size and time: the sender has not proved anything yet. Of an unsigned request almost nothing
        is read."""
        stated = request.headers.get("content-length", "")
        try:
            if stated.isdecimal() and len(stated) < 20:
                self.check_size(request.headers, int(stated))
            with self._bodies.reading(_READ_TIMEOUT) as body:
                async for chunk in request.stream():
                    self.check_size(request.headers, body.size + len(chunk))
                    self._bodies.add(body, chunk)
        except ClientDisconnect:
            raise _Rejected(400, "the connection broke before the body was complete") from None
        if body.is_displaced:
            raise _Rejected(503, "too many requests that are not verified arrive at once")
        if body.scope.cancelled_caught:
            raise _Rejected(408, f"the body did not arrive within {_READ_TIMEOUT:.0f} seconds")
        return bytes(body.data)

    def _check(self, head: _Head, body: bytes) -> SignatureHeaders:
        """Check who sent a request; return of which kind it is."""
        if not self._secrets:
            if head.is_local():
                return headers_of_url(head.path)
            raise _Rejected(
                401,
                "without a secret only requests from this machine are accepted: pass secrets=[…] (telstate serve: TELSTATE_WEBHOOK_SECRET)",
            )
        now, steady = self._clock(), self._steady.now()
        try:
            return self._secrets.verify(head.headers, body, now, tolerance=self._tolerance)
        except BadSignature as error:
            if self._clock is time and abs(now - steady) > _CLOCKS_AGREE:
                with suppress(BadSignature):
                    return self._secrets.verify(head.headers, body, steady, tolerance=self._tolerance)
            raise _Rejected(401, str(error)) from None

    def _refuse_new_callers(self, kind: SignatureHeaders) -> None:
        """While the service stops, let Daily's retry find one that stays. Of the calls that go on here webhooks tell."""
        if kind in (PINLESS, TRUNK) and getattr(self._calls, "is_stopping", False):  # a sink need not have it
            raise _Rejected(503, why_not_ready(self._calls) or "it is stopping")

    async def _receive(self, head: _Head, body: bytes, *, is_trunk: bool) -> ReceiverAnswer:
        """Keep what came, and answer. Of a call on a trunk soon enough for Daily to retry while the caller hears ringback."""
        if not is_trunk:
            return await self._keep(head, body, self._receive_timeout)
        is_in_trouble = why_not_ready(self._calls) is not None
        try:
            within = _TRUNK_TIMEOUT_IN_TROUBLE if is_in_trouble else _TRUNK_TIMEOUT
            return await self._keep(head, body, min(within, self._receive_timeout))
        except _Rejected as rejected:
            rejected.retry_after = 1
            raise

    async def _keep(self, head: _Head, body: bytes, within: float) -> ReceiverAnswer:
        """Keep the event, or the unreadable body as a dead letter, and answer."""
        try:
            with head.limit(within):
                try:
                    receipt = await self._calls.receive(body, Dialect.WEBHOOK)
                except ParseError as error:
                    await self._calls.add_dead_letter(body, error, Dialect.WEBHOOK)
                    return _answer(ok=True, outcome="dead letter")
        except TimeoutError:
            reason = why_not_ready(self._calls)
            text = f"events could not be taken in for {within:g} seconds"
            raise _Rejected(503, text if reason is None else f"{text}: {reason}") from None
        except NotRunning as error:
            raise _Rejected(503, f"events cannot be kept: {why_not_ready(self._calls) or text_of(error)}") from error
        except EventTooLarge as error:
            raise _Rejected(413, f"an event of this size cannot be kept: {mask(_reason_of(error))}") from error
        except JournalError as error:
            raise _Rejected(503, f"events cannot be kept: {mask(_reason_of(error))}") from error
        return _KEPT.get(receipt.kind) or _answer(ok=True, outcome=str(receipt.kind))


class DirectRoute:
    """The way of a plain request from a connection of our server to the receiver: past ASGI, and the objects that it takes.

    What comes this way is judged as any other request is.

    Args:
        receiver: of the app.
    """

    def __init__(self, receiver: _Receiver) -> None:
        self._receiver = receiver
        self._limits = TimeLimits()

    def takes(self, request: PlainRequest) -> bool:
        """Return True if the request may come this way. Without a secret, where it comes from matters: the app finds that out."""
        return request.path in _PATHS and self._receiver.knows_secrets

    async def answer(self, request: PlainRequest, client: str | None, confirm: Callable[[], None]) -> ReceiverAnswer:
        """Answer it.

        Args:
            request: the request.
            client: the sender's address.
            confirm: called once the request is verified.
        """
        head = _Head(request.headers, request.path, client, confirm, _never, self._limits.within)
        try:
            self._receiver.check_size(request.headers, len(request.body))
        except _Rejected as rejected:
            return self._receiver.refuse(head, rejected)
        return await self._receiver.answer(head, request.body)


def _never() -> bool:
    return False


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def _answer(**content: Any) -> ReceiverAnswer:
    return ReceiverAnswer(200, _json(content))


_OK = _answer(ok=True)
_KEPT: dict[str, ReceiverAnswer] = {kind: _answer(ok=True, outcome=str(kind)) for kind in OutcomeKind}


def _reason_of(error: Exception) -> str:
    """Return why an event cannot be kept, as the journal says it."""
    cause = error.__cause__
    return text_of(cause if isinstance(cause, Exception) else error)
