"""A fake of Daily's cloud, served by uvicorn on loopback: /webhooks as its pages describe it, and all that can go wrong on the way.

Nothing here was recorded; the text of the refusal is the one that users of Daily have published.
"""

from __future__ import annotations

import socket
import threading
import time
from base64 import b64encode
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Self
from uuid import uuid4

import anyio
import anyio.lowlevel
import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

__all__ = ["KEY", "SECRET", "FakeDaily", "Fault", "cut", "drip", "flood", "hang", "instead", "lost"]

KEY = "0123456789abcdef-the-key-of-the-domain"
SECRET = b64encode(b"a secret of ours").decode()

App = Callable[[Scope, Receive, Send], Awaitable[None]]
Fault = Callable[[App, Scope, Receive, Send], Awaitable[None]]


class Seen(NamedTuple):
    """A request that came."""

    method: str
    path: str
    authorization: str
    body: Any


class FakeDaily:
    """One domain. `faults` befall the next requests, one each; `receiver` is a URL that events can be sent to."""

    def __init__(self, port: int = 0) -> None:
        self.hooks: dict[str, dict[str, Any]] = {}
        self.faults: deque[Fault] = deque()
        self.seen: list[Seen] = []
        self.received: list[Any] = []
        self.receiver_says = 200
        self.receiver_takes = 0.0
        self.new_secret_on_update = False
        self._socket = socket.create_server(("127.0.0.1", port))
        self._base = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.url = f"{self._base}/v1"
        self.receiver = f"{self._base}/receiver"
        self._app = Starlette(
            routes=[
                Route("/receiver", self._receive, methods=["POST"]),
                Route("/v1/webhooks", self._create, methods=["POST"]),
                Route("/v1/webhooks", self._list, methods=["GET"]),
                Route("/v1/webhooks/{uuid}", self._update, methods=["POST"]),
                Route("/v1/webhooks/{uuid}", self._get, methods=["GET"]),
            ]
        )

    def close(self) -> None:
        """Without ever having served: nobody is there then."""
        self._socket.close()

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Serve it in a thread."""
        config = uvicorn.Config(
            self._serve, interface="asgi3", log_level="critical", lifespan="off", ws="none", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [self._socket]})
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.002)
        try:
            yield self
        finally:
            server.should_exit = True
            thread.join()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/v1"):
            receive = await self._note(scope, receive)
            if self.faults:
                await self.faults.popleft()(self._app, scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _note(self, scope: Scope, receive: Receive) -> Receive:
        request = Request(scope, receive)
        body = await request.body()
        given = request.headers.get("Authorization", "")
        self.seen.append(Seen(request.method, request.url.path, given, await request.json() if body else None))
        messages: deque[Message] = deque([{"type": "http.request", "body": body, "more_body": False}])

        async def again() -> Message:
            return messages.popleft() if messages else await receive()

        return again

    async def _receive(self, request: Request) -> Response:
        self.received.append(await request.json())
        await anyio.sleep(self.receiver_takes)
        return Response(status_code=self.receiver_says)

    async def _create(self, request: Request) -> Response:
        asked = await request.json()
        if (refused := _stranger(request) or await self._unverified(asked.get("url"))) is not None:
            return refused
        hook = {
            "uuid": str(uuid4()),
            "hmac": b64encode(uuid4().bytes).decode(),
            "basicAuth": None,
            "retryType": "circuit-breaker",
            "state": "ACTIVE",
            "failedCount": 0,
            "lastMomentPushed": None,
            "domainId": "d",
            **asked,
        }
        self.hooks[str(hook["uuid"])] = hook
        return JSONResponse(hook)

    async def _list(self, request: Request) -> Response:
        return _stranger(request) or JSONResponse(list(self.hooks.values()))

    async def _get(self, request: Request) -> Response:
        hook = self.hooks.get(request.path_params["uuid"])
        return _stranger(request) or (JSONResponse(hook) if hook else _refusal(404, "not-found", "no such webhook"))

    async def _update(self, request: Request) -> Response:
        hook = self.hooks.get(request.path_params["uuid"])
        asked = await request.json()
        if (refused := _stranger(request)) is not None or hook is None:
            return refused or _refusal(404, "not-found", "no such webhook")
        if (refused := await self._unverified(asked.get("url", hook["url"]))) is not None:
            return refused
        hook.update(asked, state="ACTIVE", failedCount=0)
        if self.new_secret_on_update:
            hook["hmac"] = SECRET
        return JSONResponse(hook)

    async def _unverified(self, url: str) -> Response | None:
        try:
            async with httpx.AsyncClient(timeout=2) as client:
                status: int | str = (await client.post(url, json={"test": "test"})).status_code
        except httpx.HTTPError:
            status = "undefined"
        if status == 200:
            return None
        return _refusal(
            400, "invalid-request-error", f"non-200 status code returned from webhook endpoint, recvd {status}"
        )


def _refusal(status: int, error: str, info: str) -> Response:
    return JSONResponse({"error": error, "info": info}, status)


def _stranger(request: Request) -> Response | None:
    given = request.headers.get("Authorization")
    if given is None:
        return _refusal(400, "authorization-header-error", "bad Authorization header format")
    return None if given == f"Bearer {KEY}" else _refusal(401, "authentication-error", "")


def instead(status: int, body: bytes = b"", **headers: str) -> Fault:
    """Another answer, of Daily's or of a gateway before it; the request is not carried out."""

    async def fault(app: App, scope: Scope, receive: Receive, send: Send) -> None:
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        await Response(body, status, told)(scope, receive, send)

    return fault


async def cut(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """The connection breaks in the middle of the answer."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})
    await send({"type": "http.response.body", "body": b'[{"uuid": ', "more_body": True})
    raise ConnectionAbortedError


async def lost(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """The request is carried out, but the answer breaks off."""

    async def nowhere(message: Message) -> None:
        """Keep it."""

    await app(scope, receive, nowhere)
    await cut(app, scope, receive, send)


async def hang(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """No answer for as long as the caller is there."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def drip(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """An answer that never ends, a blank at a time."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(200):
        await send({"type": "http.response.body", "body": b" ", "more_body": True})
        await anyio.sleep(0.02)


async def flood(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """An answer that never ends, as much at a time as goes through."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    async with anyio.create_task_group() as group:

        async def pour() -> None:
            while True:
                await send({"type": "http.response.body", "body": b" " * 1_000_000, "more_body": True})
                await anyio.lowlevel.checkpoint()

        group.start_soon(pour)
        await hang(app, scope, receive, send)
        group.cancel_scope.cancel()
