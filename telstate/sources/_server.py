"""The HTTP server in front of the receiver, where it runs alone: uvicorn, bounded in connections and in patience.

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

from telstate.routing._dispatcher import Dispatcher
from telstate.sources._listener import listen, send_at_once
from telstate.sources._signatures import Secret
from telstate.sources._webhooks import webhook_app

__all__ = ["make_server", "serve_webhooks"]

_CONNECTIONS = 1000

_SILENT = 10.0
"""Seconds in which a connection must have brought the head of a request; uvicorn itself would wait for ever."""


def make_server(app: Any, *, connections: int, backlog: int) -> uvicorn.Server:
    """A server of an ASGI app, whose own lifespan it leaves alone.

    Args:
        app: the app.
        connections: how many may be open at the same time; requests on further ones are answered with 503 at once.
        backlog: how many may wait to be accepted.
    """
    return _Server(
        uvicorn.Config(
            app,
            http=_Impatient,
            log_config=None,
            access_log=False,
            lifespan="off",  # the dispatcher is entered before: what is wrong with a journal is said in one line
            limit_concurrency=connections,
            backlog=backlog,
            timeout_graceful_shutdown=15,
        )
    )


@asynccontextmanager
async def serve_webhooks(
    calls: Dispatcher,
    *,
    secrets: Iterable[str | Secret] = (),
    host: str = "127.0.0.1",
    port: int = 8080,
    listening: socket.socket | None = None,
) -> AsyncIterator[str]:
    """Take webhooks in, beside whatever else a program does; enter it after the dispatcher. Gives the address.

    Requests that are under way when it is left are answered first.

    Args:
        calls: takes the events in, inside its `async with`.
        secrets: as for `webhook_app`; without any, only this machine may send.
        host: where to listen; by default for this machine only.
        port: likewise; 0 takes a free one.
        listening: a socket that listens already, instead of both.

    Raises:
        OSError: if the port is taken.
        ValueError: if a secret is no base64.
        RuntimeError: if asyncio does not run it, as uvicorn needs.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError("receiving needs asyncio, because uvicorn does: run this by asyncio, not by trio") from None
    app = webhook_app(calls, secrets=secrets)
    sock = send_at_once(listening) if listening is not None else listen(host, port, backlog=_CONNECTIONS)
    server = make_server(app, connections=_CONNECTIONS, backlog=_CONNECTIONS)

    async def serve() -> None:
        with anyio.CancelScope(shield=True):
            await server.serve(sockets=[sock])
            for one in server.servers:  # uvicorn 0.30 leaves them open if it is to exit before it has begun
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
            raise own  # the block's own exception goes on as it is, in no group, whatever else befell


class _Server(uvicorn.Server):
    """A server that leaves signals to whoever runs it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's own way raises them once more at its end, when there are handlers to let finish."""
        yield


class _Impatient(H11Protocol):
    """Closes a connection on which nobody asks for anything."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody connects."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(_SILENT, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Somebody is gone."""
        self._timer.cancel()
        super().connection_lost(exc)

    def _give_up(self) -> None:
        if self.cycle is None:  # it has one from the first request on; then uvicorn's keep-alive holds
            self.transport.close()
