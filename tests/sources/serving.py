"""Serves an ASGI app on a port of this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import uvicorn

from telstate.sources._listener import listen

__all__ = ["serving"]


@asynccontextmanager
async def serving(app: Any, *, lifespan: str = "on") -> AsyncIterator[str]:
    """Run an ASGI app with uvicorn; yield its URL."""
    listening = listen("127.0.0.1", 0, backlog=100)
    config = uvicorn.Config(app, log_config=None, lifespan=lifespan, timeout_graceful_shutdown=5)  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:
        await asyncio.sleep(0.005)
        if task.done():
            task.result()
            raise RuntimeError("the server did not start")
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        with anyio.CancelScope(shield=True):  # a cancelled test must not leave a socket behind
            await task
