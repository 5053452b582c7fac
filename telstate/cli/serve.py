"""`telstate serve`: receive Daily's webhooks, keep them, and run a program's handlers."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from ipaddress import ip_address
from typing import Annotated, Any

import structlog
import typer

from telstate.cli.logs import open_journal
from telstate.cli.terminal import misuse, tidy_exit
from telstate.errors import DefinitionError
from telstate.journals import JsonlJournal, SqliteJournal
from telstate.routing.dispatcher import Dispatcher
from telstate.routing.router import Router

__all__ = ["serve"]

_ENVIRONMENT = "TELSTATE_WEBHOOK_SECRET"
_CONNECTIONS = 2_000
"""Requests at the same time; more are answered with 503 at once."""
_BACKLOG = 2048


def serve(
    program: Annotated[
        str | None,
        typer.Argument(metavar="[MODULE:ROUTER]", help="Whose handlers run; without it events are only kept."),
    ] = None,
    *,
    journal: Annotated[
        str, typer.Option(help="Where events are kept; a name in .jsonl is a file of lines.")
    ] = "calls.db",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8080,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            help=f"The webhook's hmac, in base64; again for a second one. Better in {_ENVIRONMENT}, several with a comma between, "
            "as arguments can be seen in the list of processes."
        ),
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Seconds a signature may be old.")] = 7200.0,
) -> None:
    """Receive Daily's webhooks on POST /webhooks and /pinless: verify, keep, answer, then run handlers.

    SIGTERM: nothing more is taken in, handlers get half a minute to finish, and what they leave is done at the next start.
    """
    try:
        from telstate.sources.webhooks import receiver  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        misuse(f"serve needs {error.name}: pip install 'telstate[serve]'")
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    with tidy_exit():
        calls = Dispatcher(_load(program), journal=_journal(journal))
        secrets = [*(secret or []), *os.environ.get(_ENVIRONMENT, "").replace(",", " ").split()]
        try:
            app = receiver(calls, secrets=secrets, tolerance=tolerance)
        except ValueError as error:
            misuse(str(error))
        if not secrets and not _is_loopback(host):
            misuse(
                f"without a secret it listens only on this machine: give --secret or {_ENVIRONMENT}, or leave --host"
            )
        asyncio.run(_serve(calls, app, _listen(host, port), journal))


async def _serve(calls: Dispatcher, app: Any, listening: socket.socket, journal: str) -> None:
    """Know again what the journal knows, serve until a signal, then let handlers finish."""
    import uvicorn  # noqa: PLC0415 - an extra

    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",  # the dispatcher is entered here: what is wrong with a journal is said in one line
            limit_concurrency=_CONNECTIONS,
            backlog=_BACKLOG,
            timeout_graceful_shutdown=15,
        )
    )
    async with calls:
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        sys.stderr.write(f"telstate: listening on http://{shown}:{port}, journal {journal}\n")
        sys.stderr.flush()
        # The server stops at a signal, and raises it once more when it has: then there is still something to finish.
        _at_signals(lambda *_: None)
        await server.serve(sockets=[listening])
        _at_signals(lambda *_: calls.stop())


def _at_signals(handler: Callable[..., None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)


def _load(program: str | None) -> Router:
    """Import what `MODULE:ROUTER` names, from the present folder too."""
    if program is None:
        return Router()
    module, _, name = program.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), name or "router")
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        misuse(f"there is no module {module!r} here: give MODULE:ROUTER, as in `telstate serve app:router`")
    except AttributeError:
        misuse(f"{module} has no {name or 'router'!r}: give MODULE:ROUTER, as in `telstate serve app:router`")
    except DefinitionError as error:
        misuse(f"{module}: {error}")
    if not isinstance(found, Router):
        misuse(f"{program} is no telstate.Router, but {type(found).__name__}")
    return found


def _journal(path: str) -> JsonlJournal | SqliteJournal:
    """What is there decides; a new one is SQLite, unless its name says otherwise."""
    if os.path.exists(path):
        return open_journal(path)
    return JsonlJournal(path) if path.endswith(".jsonl") else SqliteJournal(path)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        misuse(f"cannot listen on {host}:{port}: {error.strerror or error}")
