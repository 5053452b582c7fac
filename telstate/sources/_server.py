"""An HTTP server for the webhook receiver: uvicorn, with limits that hold against strangers.

    async with Dispatcher(router) as calls, serve_webhooks(calls, secrets=[SECRET], port=8080):
        ...

Needs the extra `telstate[serve]`, and asyncio.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import anyio
import uvicorn

from telstate.routing._log import Log
from telstate.routing._ports import EventSink
from telstate.sources._descriptors import affordable_connections
from telstate.sources._direct_protocol import DirectGuard, DirectProtocol
from telstate.sources._listener import listen, send_at_once
from telstate.sources._protocol import MAX_HEAD, GuardedProtocol, ServerGuard
from telstate.sources._signatures import Secret
from telstate.sources._webhooks import webhook_app

__all__ = ["connection_limit", "make_server", "serve_webhooks"]

_CONNECTIONS = 500
_BACKLOG = 1024
_ACCEPTED_AT_ONCE = 64
"""asyncio accepts as many as its backlog says before anything else runs. With more, every answer waits for them, and more descriptors
are needed; with fewer, strangers who make the loop busy keep new connections waiting."""
_CLOSING = 2 * _ACCEPTED_AT_ONCE
"""Connections, and tasks of connections, that gave way and are not gone yet."""
_ACCEPT_FAILED = "socket.accept() out of system resource"
"""asyncio's message. It writes it, with a traceback, for each of `_ACCEPTED_AT_ONCE` connections every second."""


def connection_limit(wanted: int) -> int:
    """Return how many connections a server may have open: as many as wanted, or as the process may open files."""
    return affordable_connections(wanted, closing=_CLOSING)


def make_server(app: Any, *, connections: int, backlog: int) -> uvicorn.Server:
    """Make a server that does not run the app's lifespan.

    Args:
        app: a Starlette app; that of `webhook_app` has a direct way for what Daily sends.
        connections: how many may be open at a time; fewer if the process may not open as many files. Then one that has sent no
            verified request gives way to a new one. If all have sent one and are being answered, further requests get 503.
        backlog: how many may wait to be accepted.
    """
    limit = connection_limit(connections)
    if limit < connections:
        hint = "the limit of open files is low: raise `ulimit -n`"
        Log().warning("webhooks.few_connections", wanted=connections, possible=limit, hint=hint)
    route = getattr(app.state, "direct_route", None)
    protocol: Any = partial(GuardedProtocol, ServerGuard(limit))
    if route is not None:
        protocol = partial(DirectProtocol, DirectGuard(limit, route))
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",  # with a library for them installed, an upgrade would leave our protocol and its limits
        log_config=None,
        access_log=False,
        lifespan="off",  # the dispatcher is entered before: a journal's error is then one plain line
        limit_concurrency=limit + _CLOSING,
        backlog=_ACCEPTED_AT_ONCE,
        h11_max_incomplete_event_size=MAX_HEAD,
        timeout_graceful_shutdown=15,
    )
    return _WebhookServer(config, backlog)


@asynccontextmanager
async def serve_webhooks(
    calls: EventSink,
    *,
    secrets: Iterable[str | Secret] = (),
    pinless_secrets: Iterable[str | Secret] = (),
    trunk_secrets: Iterable[str | Secret] = (),
    host: str = "127.0.0.1",
    port: int = 8080,
    listening: socket.socket | None = None,
) -> AsyncIterator[str]:
    """Receive webhooks inside a program of yours. Enter it after the dispatcher; it yields the base URL.

    On leaving, requests in progress are answered first.

    Args:
        calls: the dispatcher or publisher, inside its `async with`.
        secrets: as for `webhook_app`; without any secret, only this machine may send.
        pinless_secrets: as for `webhook_app`.
        trunk_secrets: as for `webhook_app`.
        host: the address to listen on; by default only this machine can reach it.
        port: the port to listen on; 0 takes a free one.
        listening: a socket that listens already, instead of `host` and `port`.

    Raises:
        OSError: if the port is in use.
        ValueError: if a secret is not base64.
        RuntimeError: outside asyncio, which uvicorn needs.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "serve_webhooks needs asyncio, because uvicorn does: run this with asyncio, not trio"
        ) from None
    app = webhook_app(calls, secrets=secrets, pinless_secrets=pinless_secrets, trunk_secrets=trunk_secrets)
    sock = send_at_once(listening) if listening is not None else listen(host, port, backlog=_BACKLOG)
    server = make_server(app, connections=_CONNECTIONS, backlog=_BACKLOG)

    async def serve() -> None:
        with anyio.CancelScope(shield=True):
            await server.serve(sockets=[sock])
            for one in server.servers:  # uvicorn 0.30 leaves them open if it is asked to exit before it has started
                one.close()
            sock.close()

    own: BaseException | None = None
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(serve)
            try:
                address, number = sock.getsockname()[:2]
                yield f"http://[{address}]:{number}" if ":" in address else f"http://{address}:{number}"
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as error:
                own = error
            finally:
                server.should_exit = True
    finally:
        if own is not None:
            raise own  # the block's own exception, in no group, even if more failed


class _WebhookServer(uvicorn.Server):
    """A server that leaves signals to the program, and does not fill the log if descriptors run out.

    Args:
        config: uvicorn's.
        backlog: how many connections may wait to be accepted.
    """

    def __init__(self, config: uvicorn.Config, backlog: int) -> None:
        super().__init__(config)
        self._backlog = backlog
        self._log = Log(burst=1, every=60.0)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing: uvicorn would raise the signals again at its end, while handlers still need to finish."""
        yield

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until asked to exit."""
        loop = asyncio.get_running_loop()
        before = loop.get_exception_handler()

        def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            if context.get("message") == _ACCEPT_FAILED:
                self._note_failed_accept(context.get("exception"))
            elif before is not None:
                before(loop, context)
            else:
                loop.default_exception_handler(context)

        loop.set_exception_handler(handle)
        try:
            await super().serve(sockets)
        finally:
            if loop.get_exception_handler() is handle:
                loop.set_exception_handler(before)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and let more connections wait than are accepted at once: asyncio has one number for both."""
        await super().startup(sockets)
        for one in sockets or ():
            one.listen(self._backlog)

    def _note_failed_accept(self, error: object) -> None:
        hint = "the program has too many files open: raise `ulimit -n`"
        self._log.error("webhooks.accept_failed", error=str(error), hint=hint)
