"""The thread of a `FakeDaily`: an event loop, an HTTP server on loopback, and the delivery of webhooks."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from random import Random
from typing import Any, Literal, NamedTuple, TypeVar

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from telstate.errors import NotRunning
from telstate.events import Dialect
from telstate.sources._listener import listen
from telstate.testing._bot_runner import BotRunner
from telstate.testing._dialin_numbers import DialinNumbers
from telstate.testing._domain import DomainEvent, SimulatedDomain
from telstate.testing._faults import ConnectionBroken, Fault, FaultRules
from telstate.testing._generator import Noise
from telstate.testing._happenings import event_line, request_line, undelivered_line
from telstate.testing._phone_lines import PhoneLines
from telstate.testing._pin_calls import PinCalls
from telstate.testing._routes import API, Routes
from telstate.testing._simulation import SIMULATION
from telstate.testing._spelling import spell
from telstate.testing._subscriptions import Subscriptions
from telstate.testing._trunk_calls import TrunkCalls
from telstate.testing._trunks import SimulatedTrunks
from telstate.testing._webhook_delivery import SentWebhook, WebhookDelivery, WebhookTarget

__all__ = ["FakeServer", "ReceivedRequest"]

_T = TypeVar("_T")
_CALL_TIMEOUT = 10.0
"""Seconds in which the loop must run what another thread asks for; it takes microseconds."""
_SHUTDOWN_TIMEOUT = 0.1
"""Seconds for answers in progress when the fake is left."""
_SILENT_LOGGER = logging.getLogger(__name__)
_SILENT_LOGGER.setLevel(logging.CRITICAL + 1)


class ReceivedRequest(NamedTuple):
    """A request that the fake received."""

    method: str
    path: str
    authorization: str
    body: Any
    """Decoded from JSON; None if there was none, bytes if it was not JSON."""
    at: float
    """By `time.monotonic`."""


class FakeServer:
    """Everything behind a `FakeDaily`, in a thread of its own.

    Args:
        lines: what numbers do.
        target: receives every event, besides the webhooks created through REST.
        bot: as in `BotRunner`.
        bot_joins: as in `BotRunner`.
        bot_in_new_rooms: a bot is started for each room that REST makes.
        watch: is called with a line about each thing that happens.
        key: the API key.
        host: the address to listen on.
        port: the port to listen on; 0 takes a free one.
        joins: as in `SimulatedDomain`.
        registers: as in `SimulatedDomain`.
        presence: as in `FakeDaily`.
        presence_lag: seconds by which presence is behind.
        pauses: seconds before each retry of a webhook.
        ringback: seconds for which a trunk's caller hears ringback.
        noise: what happens to webhooks on the way.
        seed: of the random numbers for that.
    """

    def __init__(
        self,
        lines: PhoneLines,
        target: WebhookTarget | None,
        *,
        bot: str | Sequence[str] | None,
        bot_joins: float,
        bot_in_new_rooms: bool,
        watch: Callable[[str], None] | None,
        key: str,
        host: str,
        port: int,
        joins: Literal["answer", "ring"],
        registers: float,
        presence: Literal["on", "none", "off"],
        presence_lag: float,
        pauses: Sequence[float],
        ringback: float,
        noise: Noise,
        seed: int,
    ) -> None:
        self.seen: list[ReceivedRequest] = []
        self.faults: deque[Fault] = deque()
        self.errors: list[BaseException] = []
        self.subscriptions = Subscriptions()
        self.domain = SimulatedDomain(lines, report=self._send, later=self._later, joins=joins, registers=registers)
        self._watch = watch or _ignore
        self._noise = noise
        self._random = Random(seed)  # noqa: S311 - a simulation
        self.delivery = WebhookDelivery(pauses, self.errors.append, self._delivered)
        self.numbers = DialinNumbers()
        self.pin_calls = PinCalls(self.domain)
        trunks = SimulatedTrunks()
        how = {"ringback": ringback, "registers": registers}
        self.trunk_calls = TrunkCalls(self.domain, trunks, self.delivery, self._later, **how)
        self._target = target
        self.bots = BotRunner(self.domain, bot, joins=bot_joins, key=key, watch=self._watch, fail=self.errors.append)
        answers: dict[str, Any] = {"key": key, "presence": presence, "presence_lag": presence_lag}
        answers["made"] = (lambda room: self.bots.start(room, {})) if bot_in_new_rooms else _ignore
        routes = Routes(self.domain, lines, self.subscriptions, trunks, self.numbers, **answers)
        paths = routes.all()
        self.rules = FaultRules(route.path.removeprefix(API) for route in paths)
        self._app = Starlette(routes=[*paths, *self.bots.routes()], exception_handlers={HTTPException: _not_found})
        self._socket = listen(host, port, backlog=1024)
        self.address: str = _address(self._socket)
        self.bots.api_url = f"{self.address}{API}"
        self._started: Future[asyncio.AbstractEventLoop] = Future()
        self._leaving: asyncio.Event
        self._loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=self._run, name="FakeDaily", daemon=True)

    def start(self, more: Iterable[Route] = ()) -> None:
        """Start the thread; requests are answered from now on.

        Args:
            more: routes beside Daily's, which no fault concerns.
        """
        self._app.routes.extend(more)
        self._thread.start()
        self._loop = self._started.result()

    def stop(self) -> None:
        """Stop the thread, and everything in it."""
        with suppress(RuntimeError):  # it has stopped by itself
            self._loop.call_soon_threadsafe(self._leaving.set)
        self._thread.join()

    def do(self, what: Callable[[], _T]) -> _T:
        """Call a function on the loop, from any thread, and return its result.

        Raises:
            NotRunning: if the fake was left.
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
            return done.result(_CALL_TIMEOUT)
        except RuntimeError as error:
            if self._loop.is_closed():
                raise NotRunning("a FakeDaily can only be used inside its `with`") from error
            raise

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self.errors.append(error)
            if not self._started.done():
                self._started.set_exception(error)

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_error)
        self._leaving = asyncio.Event()
        server = _LoopbackServer(
            uvicorn.Config(
                self._serve,
                interface="asgi3",
                http=_UnloggedProtocol,
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
        await self.bots.aclose()
        await self.delivery.aclose()
        server.should_exit = True
        await serving

    def _on_error(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception") or RuntimeError(context["message"])
        if not isinstance(error, ConnectionError):  # a client disconnected
            self.errors.append(error)

    def _later(self, seconds: float, do: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, do)

    def _send(self, happened: DomainEvent) -> None:
        event, line = happened.event, happened.line
        kind = event.name.replace("-", ".", 1)
        leg = self.domain.leg(event.facts.get("sessionId"))
        self._watch(event_line(happened, None if leg is None else leg.answered_by))
        if kind in line.loses:
            return
        targets = [*([self._target] if self._target is not None else []), *self.subscriptions.targets(kind)]
        payload = spell(event, happened.room, Dialect.WEBHOOK) if targets else None
        for target in targets:
            if payload is None:
                raise AssertionError(f"the fake has no webhook for {event.name}")
            if self._random.random() < self._noise.lost:
                continue
            times = 2 if kind in line.twice or self._random.random() < self._noise.repeated else 1
            delay = line.delays.get(kind, self._lateness())
            self.delivery.send(target, kind, payload, after=happened.after, delay=delay, times=times)

    def _lateness(self) -> float | None:
        """Return by how much the network delays a webhook; None: it keeps its place behind the earlier ones of its session."""
        if self._random.random() < self._noise.swapped:
            return self._random.uniform(0.5, 10)
        if self._random.random() < self._noise.delayed:
            return self._random.uniform(min(10, self._noise.delay), self._noise.delay)
        return None

    def _delivered(self, webhook: SentWebhook) -> None:
        if not webhook.delivered:
            self._watch(undelivered_line(webhook))

    # --- requests ---------------------------------------------------------------------------------------------------

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        answered: list[int] = []

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered.append(message["status"])
            await send(message)

        received = None
        try:
            received, receive = await self._record(scope, receive)
            if (fault := self._fault(scope["path"])) is not None:
                await fault(self._app, scope, receive, sending)
            else:
                await self._app(scope, receive, sending)
        except ConnectionBroken:
            answered.clear()
            raise
        except (ClientDisconnect, asyncio.CancelledError):
            raise
        except BaseException as error:  # pytest's failures are not an Exception
            self.errors.append(error)
            raise
        finally:
            if received is not None and not (received.method == "GET" and received.path.startswith(SIMULATION)):
                status = answered[0] if answered else None
                self._watch(request_line(received.method, received.path, received.body, status))

    def _fault(self, path: str) -> Fault | None:
        if not path.startswith(API):
            return None
        if self.faults:
            return self.faults.popleft()
        rules = list(self.rules.items())
        return next((fault for pattern, fault in rules if fnmatchcase(path.removeprefix(API), pattern)), None)

    async def _record(self, scope: Scope, receive: Receive) -> tuple[ReceivedRequest, Receive]:
        request = Request(scope, receive)
        body = await request.body()
        given = request.headers.get("Authorization", "")
        received = ReceivedRequest(request.method, request.url.path, given, _decoded(body), time.monotonic())
        self.seen.append(received)
        messages: deque[Message] = deque([{"type": "http.request", "body": body, "more_body": False}])

        async def again() -> MutableMapping[str, Any]:
            return messages.popleft() if messages else await receive()

        return received, again


class _LoopbackServer(uvicorn.Server):
    """A server that ignores signals, stops fast, and leaves nothing open."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing: signals are for the program."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish the answers that are being written, and cancel all other requests."""
        for server in self.servers:
            server.close()
        for listening in sockets or []:
            listening.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if tasks := list(self.server_state.tasks):
            await asyncio.wait(tasks, timeout=_SHUTDOWN_TIMEOUT)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for connection in list(self.server_state.connections):
            if (transport := getattr(connection, "transport", None)) is not None:
                transport.abort()
        for _ in range(3):
            await asyncio.sleep(0)  # transports close in the next iterations of the loop


class _UnloggedProtocol(H11Protocol):
    """Does not log broken connections: they are broken on purpose, and errors are raised at the end."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.logger = _SILENT_LOGGER


def _address(listening: socket.socket) -> str:
    """Return the URL by which this machine reaches a socket."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - it is replaced
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _ignore(_: object) -> None:
    """Do nothing."""


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body


async def _not_found(_: Request, error: Exception) -> Response:
    """Answer a path or a method that Daily does not have."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    return JSONResponse({"error": "not-found" if status == 404 else "invalid-request-error", "info": ""}, status)
