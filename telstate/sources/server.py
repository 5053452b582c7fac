"""The HTTP server in front of the receiver, where it runs alone: uvicorn, bounded in connections and in patience."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["make_server"]

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
