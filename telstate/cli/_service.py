"""What the commands share that run until a signal: loading a program, the log, the API, and an HTTP server."""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
import sys
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
from pydantic import SecretStr

from telstate.cli._config import ServiceConfig
from telstate.cli._log_writer import LineWriter
from telstate.cli._terminal import cannot_listen, misuse, say
from telstate.control._api import DAILY, DailyApi
from telstate.control._rest import RestControl
from telstate.errors import DefinitionError
from telstate.events._masking import mask
from telstate.routing._log import text_of
from telstate.routing._router import Router

__all__ = [
    "BACKLOG",
    "FLUSH_WITHIN",
    "acting_on_calls",
    "daily_api",
    "load_named",
    "load_router",
    "log_writer",
    "metrics_routes",
    "open_socket",
    "served",
    "shown",
    "url_of",
]

BACKLOG = 1_024
FLUSH_WITHIN = 2.0
"""Seconds for the last lines of the log: a reader that has stopped must not keep the service from ending."""


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


def url_of(listening: socket.socket) -> str:
    """Return where it listens."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def metrics_routes(calls: Any, webhooks: Any = None) -> list[Any]:
    """Return the route of `/metrics`. Without its extra, that says what is missing."""
    try:
        from telstate.views import metrics_app  # noqa: PLC0415 - an extra

        return list(metrics_app(calls, webhooks=webhooks).routes)
    except ModuleNotFoundError as error:
        from starlette.requests import Request  # noqa: PLC0415
        from starlette.responses import PlainTextResponse, Response  # noqa: PLC0415
        from starlette.routing import Route  # noqa: PLC0415

        text = f"/metrics needs {error.name}: pip install 'telstate[metrics]'\n"

        async def missing(_: Request) -> Response:
            return PlainTextResponse(text, 501)

        return [Route("/metrics", missing, methods=["GET"])]


def log_writer() -> LineWriter:
    """Return what writes the log to standard error."""
    try:
        return LineWriter(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):  # closed, or replaced by a program that runs this one
        return LineWriter(os.open(os.devnull, os.O_WRONLY))


def daily_api(config: ServiceConfig) -> DailyApi | None:
    """Return Daily's API if its key is set; a service that only listens needs neither the key nor httpx."""
    key = shown(config.daily_api_key)
    if key is not None and find_spec("httpx") is not None:
        return DailyApi(key, url=config.daily_api_url or DAILY)
    missing = "httpx is not installed: pip install 'telstate[rest]'" if key else "there is no DAILY_API_KEY"
    if config.reconcile:
        misuse(f"--reconcile asks Daily about calls, and {missing}")
    if key is not None:
        say(f"DAILY_API_KEY is set and has no effect, as {missing}")
    return None


def acting_on_calls(config: ServiceConfig, api: DailyApi | None) -> dict[str, Any]:
    """Return the arguments of a dispatcher or a worker that say how it acts on calls and asks about them."""
    if api is None:
        return {}
    control = RestControl(api)
    return {"control": control, "reconcile": control.reconcile if config.asks_daily else None}


def shown(secret: SecretStr | None) -> str | None:
    """Return a secret's text."""
    return None if secret is None else secret.get_secret_value()


def load_router(program: str | None, usage: str) -> Router:
    """Import what `MODULE:ROUTER` names; the current folder is searched too. `usage` says how to name it."""
    if program is None:
        return Router()
    found = load_named(program, usage, "router")
    if not isinstance(found, Router):
        misuse(f"{program}: expected a telstate.Router, got {type(found).__name__}")
    return found


def load_named(program: str, usage: str, default: str) -> Any:
    """Import what `MODULE:NAME` names; the current folder is searched too.

    Args:
        program: the name.
        usage: says how to name it.
        default: is in place of NAME if there is none.
    """
    module, _, name = program.partition(":")
    if not all(part.isidentifier() for part in module.split(".")):
        misuse(f"{program!r} is not the name of a module: {usage}")
    sys.path.insert(0, os.getcwd())
    try:
        imported = importlib.import_module(module)
    except DefinitionError as error:
        misuse(f"{module}: {error}")
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            misuse(f"there is no module {module!r} here: {usage}")
        misuse(
            f"{module} cannot be imported: {type(error).__name__}: {mask(text_of(error))}{_where(error)}. For the whole traceback:"
            f" python -c 'import {module}'"
        )
    found = getattr(imported, name or default, None)
    if found is None:
        misuse(f"{module} has no {name or default!r}: {usage}")
    return found


def _where(error: BaseException) -> str:
    """Return the last place in which an import failed, in words: in a file of the program, not of Python or telstate."""
    if isinstance(error, SyntaxError):  # its text has the place
        return ""
    frames = [one for one in traceback.extract_tb(error.__traceback__) if not one.filename.startswith("<frozen")]
    own = [one for one in frames if Path(one.filename).resolve().is_relative_to(Path.cwd())]
    last = next(reversed(own or frames), None)
    return "" if last is None or last.filename == __file__ else f" ({Path(last.filename).name}, line {last.lineno})"


def open_socket(host: str, port: int) -> socket.socket:
    """Listen on an address."""
    try:
        from telstate.sources._listener import listen  # noqa: PLC0415 - an extra

        return listen(host, port, backlog=BACKLOG)
    except (OSError, TypeError, ValueError) as error:
        cannot_listen(host, port, error)
