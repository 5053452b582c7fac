"""The fake's thread: an event loop of its own, an HTTP server on loopback, and what goes out from it."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple, TypeVar

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from telstate.errors import NotRunning
from telstate.events import Dialect
from telstate.sources._listener import listen
from telstate.testing._domain import SimulatedDomain, Told
from telstate.testing._faults import Broken, Fault, Rules
from telstate.testing._phone_lines import PhoneLines
from telstate.testing._routes import Routes
from telstate.testing._spelling import spell
from telstate.testing._subscriptions import Subscriptions
from telstate.testing._webhook_delivery import Sink, WebhookDelivery

__all__ = ["Seen", "Server"]

_T = TypeVar("_T")
_HANDED_OVER = 10.0
"""Seconds in which the loop must have done what another thread asks for; it takes microseconds."""
_LAST_ANSWERS = 0.1
"""Seconds for answers that are under way when the fake is left."""
_NOWHERE = logging.getLogger(__name__)
_NOWHERE.setLevel(logging.CRITICAL + 1)


class Seen(NamedTuple):
    """A request that came."""

    method: str
    path: str
    authorization: str
    body: Any
    """Decoded from JSON; None if there was none, bytes if it was no JSON."""
    at: float
    """By `time.monotonic`."""


class Server:
    """Everything behind a `FakeDaily`, in a thread of its own.

    Args:
        lines: what numbers do.
        sink: gets every event, besides the webhooks made through REST.
        key: who may ask.
        port: to listen on; 0 takes a free one.
        joins: as in `SimulatedDomain`, and so `registers`.
        registers: seconds.
        presence_lag: seconds.
        pauses: seconds before each further try of a webhook.
    """

    def __init__(
        self,
        lines: PhoneLines,
        sink: Sink | None,
        *,
        key: str,
        port: int,
        joins: Literal["answer", "ring"],
        registers: float,
        presence_lag: float,
        pauses: Sequence[float],
    ) -> None:
        self.seen: list[Seen] = []
        self.faults: deque[Fault] = deque()
        self.defects: list[BaseException] = []
        self.hooks = Subscriptions()
        self.cloud = SimulatedDomain(lines, tell=self._tell, later=self._later, joins=joins, registers=registers)
        self.courier = WebhookDelivery(pauses, self.defects.append)
        self._sink = sink
        routes = Routes(self.cloud, lines, self.hooks, key=key, presence_lag=presence_lag)
        paths = routes.all()
        self.rules = Rules(route.path.removeprefix("/v1") for route in paths)
        self._app = Starlette(routes=paths, exception_handlers={HTTPException: _unknown})
        self._socket = listen("127.0.0.1", port, backlog=1024)
        self.port: int = self._socket.getsockname()[1]
        self._started: Future[asyncio.AbstractEventLoop] = Future()
        self._leaving: asyncio.Event
        self._loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=self._run, name="FakeDaily", daemon=True)

    def start(self) -> None:
        """Start the thread; requests are answered from here on."""
        self._thread.start()
        self._loop = self._started.result()

    def stop(self) -> None:
        """End the thread, and everything in it."""
        with suppress(RuntimeError):  # it has ended by itself
            self._loop.call_soon_threadsafe(self._leaving.set)
        self._thread.join()

    def do(self, what: Callable[[], _T]) -> _T:
        """Let the loop call a function, from whichever thread, and return what it returns.

        Raises:
            NotRunning: if the fake is not running any more.
        """
        if threading.get_ident() == self._thread.ident:
            return what()
        done: Future[_T] = Future()

        def call() -> None:
            try:
                done.set_result(what())
            except BaseException as error:
                done.set_exception(error)

        try:
            self._loop.call_soon_threadsafe(call)
            return done.result(_HANDED_OVER)
        except RuntimeError as error:
            if self._loop.is_closed():
                raise NotRunning("a FakeDaily can be used in its `with` only") from error
            raise

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self.defects.append(error)
            if not self._started.done():
                self._started.set_exception(error)

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_defect)
        self._leaving = asyncio.Event()
        server = _Server(
            uvicorn.Config(
                self._serve,
                interface="asgi3",
                http=_Silent,
                log_config=None,  # the program may have a uvicorn of its own, and all share their loggers
                access_log=False,
                lifespan="off",
                ws="none",
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[self._socket]))
        while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.001)
        self._started.set_result(loop)
        await self._leaving.wait()
        await self.courier.aclose()
        server.should_exit = True
        await serving

    def _on_defect(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception") or RuntimeError(context["message"])
        if not isinstance(error, ConnectionError):  # somebody hung up
            self.defects.append(error)

    def _later(self, seconds: float, do: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, do)

    def _tell(self, told: Told) -> None:
        kind = told.happening.name.replace("-", ".", 1)
        if kind in told.line.loses:
            return
        sinks = [*([self._sink] if self._sink is not None else []), *self.hooks.sinks(kind)]
        payload = spell(told.happening, told.room, Dialect.WEBHOOK) if sinks else None
        for sink in sinks:
            if payload is None:
                raise AssertionError(f"nobody knows how Daily spells {told.happening.name}")
            times, delay = 2 if kind in told.line.twice else 1, told.line.delays.get(kind)
            self.courier.send(sink, kind, payload, after=told.after, delay=delay, times=times)

    # --- requests ---------------------------------------------------------------------------------------------------

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            receive = await self._note(scope, receive)
            if (fault := self._fault(scope["path"])) is not None:
                await fault(self._app, scope, receive, send)
            else:
                await self._app(scope, receive, send)
        except (Broken, ClientDisconnect, asyncio.CancelledError):
            raise
        except BaseException as error:  # pytest's own failures are no Exception
            self.defects.append(error)
            raise

    def _fault(self, path: str) -> Fault | None:
        if self.faults:
            return self.faults.popleft()
        rules = list(self.rules.items())
        return next((fault for pattern, fault in rules if fnmatchcase(path.removeprefix("/v1"), pattern)), None)

    async def _note(self, scope: Scope, receive: Receive) -> Receive:
        request = Request(scope, receive)
        body = await request.body()
        given = request.headers.get("Authorization", "")
        self.seen.append(Seen(request.method, request.url.path, given, _decoded(body), time.monotonic()))
        messages: deque[Message] = deque([{"type": "http.request", "body": body, "more_body": False}])

        async def again() -> MutableMapping[str, Any]:
            return messages.popleft() if messages else await receive()

        return again


class _Server(uvicorn.Server):
    """One that leaves signals alone, is quick to end, and then leaves nothing open."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """They are the program's."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let answers that are being written get out, and cancel what else is under way."""
        for server in self.servers:
            server.close()
        for listening in sockets or []:
            listening.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if tasks := list(self.server_state.tasks):
            await asyncio.wait(tasks, timeout=_LAST_ANSWERS)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for connection in list(self.server_state.connections):
            if (transport := getattr(connection, "transport", None)) is not None:
                transport.abort()
        for _ in range(3):
            await asyncio.sleep(0)  # transports close in the loop's next turns


class _Silent(H11Protocol):
    """One whose broken connections are not in the log: they are broken on purpose, and defects are raised."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.logger = _NOWHERE


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body


async def _unknown(_: Request, error: Exception) -> Response:
    """A path or a method that Daily does not have."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    return JSONResponse({"error": "not-found" if status == 404 else "invalid-request-error", "info": ""}, status)
