"""An HTTP server for the webhook receiver: uvicorn, with limits on connections and silence.

    async with Dispatcher(router) as calls, serve_webhooks(calls, secrets=[SECRET], port=8080):
        ...

Needs the extra `telstate[serve]`, and asyncio.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from telstate.routing._ports import EventSink
from telstate.sources._listener import listen, send_at_once
from telstate.sources._signatures import Secret
from telstate.sources._webhooks import webhook_app

__all__ = ["make_server", "serve_webhooks"]

_CONNECTIONS = 1000

_FIRST_REQUEST_TIMEOUT = 10.0
"""Seconds in which a new connection must send the head of a request; uvicorn would wait forever."""


def make_server(app: Any, *, connections: int, backlog: int) -> uvicorn.Server:
    """Make a server that does not run the app's lifespan.

    Args:
        app: an ASGI app.
        connections: how many may be open at a time; requests on further ones are answered with 503 at once.
        backlog: how many may wait to be accepted.
    """
    return _WebhookServer(
        uvicorn.Config(
            app,
            http=_ClosesSilentConnections,
            log_config=None,
            access_log=False,
            lifespan="off",  # the dispatcher is entered before: a journal's error is then one plain line
            limit_concurrency=connections,
            backlog=backlog,
            timeout_graceful_shutdown=15,
        )
    )


@asynccontextmanager
async def serve_webhooks(
    calls: EventSink,
    *,
    secrets: Iterable[str | Secret] = (),
    host: str = "127.0.0.1",
    port: int = 8080,
    listening: socket.socket | None = None,
) -> AsyncIterator[str]:
    """Receive webhooks inside a program of yours. Enter it after the dispatcher; it yields the base URL.

    On leaving, requests in progress are answered first.

    Args:
        calls: the dispatcher, inside its `async with`.
        secrets: as for `webhook_app`; without any, only this machine may send.
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
    app = webhook_app(calls, secrets=secrets)
    sock = send_at_once(listening) if listening is not None else listen(host, port, backlog=_CONNECTIONS)
    server = make_server(app, connections=_CONNECTIONS, backlog=_CONNECTIONS)

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
    """A server that leaves signals to the program."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing: uvicorn would raise the signals again at its end, while handlers still need to finish."""
        yield


class _ClosesSilentConnections(H11Protocol):
    """Closes a connection that sends no request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timeout."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(_FIRST_REQUEST_TIMEOUT, self._close_if_silent)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timeout."""
        self._timer.cancel()
        super().connection_lost(exc)

    def _close_if_silent(self) -> None:
        if self.cycle is None:  # after the first request uvicorn's keep-alive timeout applies
            self.transport.close()
