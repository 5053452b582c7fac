"""What the commands share that run until a signal: loading a program, the log, the API, and an HTTP server."""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Annotated, Any

import anyio
import typer

from telstate.cli._log_writer import LineWriter
from telstate.cli._terminal import misuse
from telstate.control._api import DailyApi
from telstate.errors import DefinitionError
from telstate.routing._router import Router

__all__ = ["BACKLOG", "MaxDeliveries", "daily_api", "load_router", "log_writer", "open_socket", "served"]

BACKLOG = 1_024
MaxDeliveries = Annotated[
    int,
    typer.Option(
        min=2,
        metavar="N",
        help="So many times the process may end while an event's handlers run; then the event becomes a dead letter.",
    ),
]


@asynccontextmanager
async def served(server: Any, listening: socket.socket) -> AsyncIterator[asyncio.Future[None]]:
    """Serve inside the block."""
    serving = asyncio.ensure_future(server.serve(sockets=[listening]))
    try:
        yield serving
    finally:
        server.should_exit = True
        with anyio.CancelScope(shield=True):
            await serving


def log_writer() -> LineWriter:
    """Return what writes the log to standard error."""
    try:
        return LineWriter(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):  # closed, or replaced by a program that runs this one
        return LineWriter(os.open(os.devnull, os.O_WRONLY))


def daily_api(url: str) -> DailyApi | None:
    """Return Daily's API if its key is set; a service that only listens needs neither the key nor httpx."""
    key = os.environ.get("DAILY_API_KEY")
    return DailyApi(key, url=url) if key and find_spec("httpx") is not None else None


def load_router(program: str | None, usage: str) -> Router:
    """Import what `MODULE:ROUTER` names; the current folder is searched too. `usage` says how to name it."""
    if program is None:
        return Router()
    module, _, name = program.partition(":")
    if not all(part.isidentifier() for part in module.split(".")):
        misuse(f"{program!r} is not the name of a module: {usage}")
    sys.path.insert(0, os.getcwd())
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # a module that the program imports
        misuse(f"there is no module {module!r} here: {usage}")
    except DefinitionError as error:
        misuse(f"{module}: {error}")
    found = getattr(imported, name or "router", None)
    if found is None:
        misuse(f"{module} has no {name or 'router'!r}: {usage}")
    if not isinstance(found, Router):
        misuse(f"{program}: expected a telstate.Router, got {type(found).__name__}")
    return found


def open_socket(host: str, port: int) -> socket.socket:
    """Listen on an address."""
    try:
        from telstate.sources._listener import listen  # noqa: PLC0415 - an extra

        return listen(host, port, backlog=BACKLOG)
    except (OSError, TypeError, ValueError) as error:
        misuse(f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}")
