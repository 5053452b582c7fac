"""The live stream: an ASGI app that sends the outcome of every event as it happens, as server-sent events.

    app.mount("/calls", live_app(calls, token=os.environ["TELSTATE_VIEW_TOKEN"]))     # GET /calls/live

The stream begins with `hello`. A `session` follows for each live session and a `caller` for each caller on hold, then `live`; from there on an `outcome`
for each event, with the session's record as the event left it. `end` says why it ends. Everything is JSON on one line.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from telstate._asgi import PROXY_HEADERS, begin_stream, confirm_sender, header_of, is_local
from telstate.errors import NotRunning
from telstate.routing._dispatcher import Dispatcher
from telstate.routing._log import Log
from telstate.views._live_history import LiveHistory

__all__ = ["live_app"]

_SHORTEST_TOKEN = 16
_SITES = ("same-origin", "none")
"""What a browser says of a request that no page of another site has caused."""
_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would keep events back
    "X-Content-Type-Options": "nosniff",
    "Connection": "close",  # the stream is the last answer of its connection
}
_HOW_TO_OPEN = (
    "the live view has no token: start the service with one, as TELSTATE_VIEW_TOKEN (at least 16 characters; `openssl rand -hex 24` makes"
    " one), and send it as `Authorization: Bearer …`"
)
_NOT_LOCAL = (
    f"{_HOW_TO_OPEN}. Without one, it answers only on this machine, to a loopback address, and through no proxy"
)


def live_app(
    calls: Dispatcher,
    *,
    token: str | None = None,
    allow_local: bool = False,
    numbers: bool = False,
    max_readers: int = 32,
) -> Starlette:
    """Make the app, which serves `GET /live`. Mount it next to `webhook_app`.

    Enter `async with calls` before: until then it answers 503. A stream ends when the dispatcher is left, or when its server stops. uvicorn waits
    for open streams at its end: give it `--timeout-graceful-shutdown`. `telstate serve` ends them at once.

    Args:
        calls: the dispatcher.
        token: what a reader sends as `Authorization: Bearer …`, at least 16 characters. With it, every reader needs it, on this machine
            too: a proxy on this machine makes strangers look local.
        allow_local: without a token, accept requests from this machine, addressed to it by a loopback name. A proxy on it that hides itself and
            the name is not detected: use a token where there is one.
        numbers: send phone numbers, SIP users and names in full.
        max_readers: how many streams may be open at a time. Each takes a connection; all share one history.

    Raises:
        ValueError: if the token is too short, or has characters that a header cannot have.
    """
    if token is not None and (
        len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token
    ):
        raise ValueError(
            f"a view token has at least {_SHORTEST_TOKEN} printable ASCII characters and no spaces: `openssl rand -hex 24` makes one"
        )
    if max_readers < 1:
        raise ValueError(f"max_readers= takes a number from 1 on, not {max_readers!r}")
    stream = _LiveStream(calls, _Access(token, allow_local=allow_local), numbers=numbers, max_readers=max_readers)
    return Starlette(routes=[Route("/live", stream)])


class _Access:
    """Who may read.

    Args:
        token: what readers must send.
        allow_local: without a token, whether requests of this machine are accepted.
    """

    def __init__(self, token: str | None, *, allow_local: bool) -> None:
        self._token = None if token is None else f"Bearer {token}".encode()
        self._allow_local = allow_local

    @property
    def needs_token(self) -> bool:
        """True if there is a token: then who is admitted has proved that they know it."""
        return self._token is not None

    def refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a request that is refused; None if it is admitted."""
        if self._token is not None:
            given = (header_of(scope, b"authorization") or "").encode("latin-1")
            if hmac.compare_digest(given, self._token):
                return None
            error = (
                "the token is missing or wrong: send `Authorization: Bearer …` with the service's TELSTATE_VIEW_TOKEN"
            )
            return JSONResponse({"error": error}, 401, {"WWW-Authenticate": "Bearer"})
        if self._allow_local and is_local(scope, PROXY_HEADERS) and _is_of_this_site(scope):
            return None
        return JSONResponse({"error": _NOT_LOCAL if self._allow_local else _HOW_TO_OPEN}, 403)


class _LiveStream:
    """The endpoint."""

    def __init__(self, calls: Dispatcher, access: _Access, *, numbers: bool, max_readers: int) -> None:
        self._calls = calls
        self._access = access
        self._numbers = numbers
        self._max_readers = max_readers
        self._readers = 0
        self._history: LiveHistory | None = None
        self._log = Log(burst=1, every=60.0)  # anybody can cause these lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        answer = self._refusal(scope)
        if answer is None:
            try:
                history = self._current_history()
            except NotRunning:
                answer = _unavailable(self._calls.not_ready or "it is not running", 2)
            else:
                await self._stream(history, scope, receive, send)
                return
        await answer(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        if scope["method"] != "GET":
            return JSONResponse({"error": "only GET"}, 405, {"Allow": "GET"})
        refusal = self._access.refusal(scope)
        if refusal is not None:
            client = scope.get("client")
            self._log.warning("live.refused", client=client and client[0], status=refusal.status_code)
            return refusal
        if self._readers >= self._max_readers:
            hint = f"it has as many readers as it may have ({self._max_readers})"
            self._log.warning("live.full", hint=hint)
            return _unavailable(hint, 10)
        return None

    def _current_history(self) -> LiveHistory:
        if self._history is None or self._history.is_over:
            self._history = LiveHistory(self._calls, numbers=self._numbers)
        return self._history

    async def _stream(self, history: LiveHistory, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the reader leaves, or something ends it."""
        if self._access.needs_token:
            confirm_sender(scope)
        self._readers += 1
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_watch_for_disconnect, receive, group.cancel_scope.cancel)
                await self._send_all(history, scope, send)
                group.cancel_scope.cancel()
        finally:
            self._readers -= 1

    async def _send_all(self, history: LiveHistory, scope: Scope, send: Send) -> None:
        ended = False

        def end() -> None:
            nonlocal ended
            ended = True
            history.wake()

        report_progress = begin_stream(scope, end)
        headers = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async with aclosing(history.read(header_of(scope, b"last-event-id"), lambda: ended)) as messages:
            async for part in messages:
                await send({"type": "http.response.body", "body": part, "more_body": True})
                report_progress()
                await anyio.lowlevel.checkpoint()  # a server need not pause: a thousand messages must hold up nobody
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _watch_for_disconnect(receive: Receive, cancel: Callable[[], Any]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    cancel()


def _unavailable(reason: str, seconds: int) -> Response:
    return JSONResponse({"error": reason}, 503, {"Retry-After": str(seconds)})


def _is_of_this_site(scope: Scope) -> bool:
    """Return False if a browser says that a page of another site has caused the request."""
    origin, site = header_of(scope, b"origin"), header_of(scope, b"sec-fetch-site")
    return (origin is None or origin == f"{scope['scheme']}://{header_of(scope, b'host')}") and (
        site is None or site in _SITES
    )
