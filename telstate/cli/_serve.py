"""`telstate serve`: receive Daily's webhooks, keep them, and run a program's handlers."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import socket
import sys
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from importlib.util import find_spec
from typing import Annotated, Any

import structlog
import typer

from telstate.cli._terminal import misuse, tidy_exit
from telstate.control._api import DAILY, DailyApi
from telstate.control._rest import RestControl
from telstate.errors import DefinitionError
from telstate.journals import SqliteJournal
from telstate.routing._dispatcher import Dispatcher
from telstate.routing._router import Router

__all__ = ["serve"]

_ENVIRONMENT = "TELSTATE_WEBHOOK_SECRET"
_CONNECTIONS = 2_000
_BACKLOG = 2_048
_FILES = 4 * _CONNECTIONS
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def serve(
    program: Annotated[
        str | None,
        typer.Argument(metavar="[MODULE:ROUTER]", help="Whose handlers run; without it events are only kept."),
    ] = None,
    *,
    journal: Annotated[str, typer.Option(help="Where events are kept: a SQLite database.")] = "calls.db",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8080,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            help=f"The webhook's hmac, in base64; again for a second one. Better in {_ENVIRONMENT}, several with a comma between, "
            "as arguments can be seen in the list of processes."
        ),
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Seconds for which a signature holds.")] = 7200.0,
    api_url: Annotated[str, typer.Option("--api-url", envvar="TELSTATE_DAILY_API_URL", hidden=True)] = DAILY,
) -> None:
    """Receive Daily's webhooks on POST /webhooks and /pinless: verify, keep, answer, then run handlers.

    With DAILY_API_KEY in the environment handlers can act on calls (`calls.stop(session)` and so on), by Daily's REST API.

    SIGTERM: nothing more is taken in, handlers get half a minute to finish, and what they leave is done at the next start.
    """
    try:
        from telstate.sources._server import make_server  # noqa: PLC0415 - an extra
        from telstate.sources._webhooks import is_loopback, webhook_app  # noqa: PLC0415
    except ModuleNotFoundError as error:
        misuse(f"serve needs {error.name}: pip install 'telstate[serve]'")
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    with tidy_exit():
        api = _api(api_url)
        control = RestControl(api) if api is not None else None
        calls = Dispatcher(_load(program), journal=_journal(journal), control=control)
        secrets = [*(secret or []), *os.environ.get(_ENVIRONMENT, "").replace(",", " ").split()]
        try:
            app = webhook_app(calls, secrets=secrets, tolerance=tolerance)
        except ValueError as error:
            misuse(str(error))
        if not secrets and not is_loopback(host):
            misuse(
                f"without a secret it listens only on this machine: give --secret or {_ENVIRONMENT}, or leave --host"
            )
        _allow_many_connections()
        server = make_server(app, connections=_CONNECTIONS, backlog=_BACKLOG)
        asyncio.run(_serve(calls, api or nullcontext(), server, _listen(host, port), journal))


async def _serve(
    calls: Dispatcher,
    api: AbstractAsyncContextManager[Any],
    server: Any,
    listening: socket.socket,
    journal: str,
) -> None:
    """Know again what the journal knows, serve until a signal, then let handlers finish."""
    _heed_signals(server, calls)
    try:
        async with api, calls:
            host, port = listening.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            sys.stderr.write(f"telstate: listening on http://{shown}:{port}, journal {journal}\n")
            sys.stderr.flush()
            await server.serve(sockets=[listening])
    finally:
        # What still runs now is a thread of a handler, which nothing can stop: the next signal ends the process.
        for number in _SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)


def _heed_signals(server: Any, calls: Dispatcher) -> None:
    """The first signal: take in nothing more and let handlers finish. The second: drop what runs, the journal has it. A third
    one is the system's."""
    count = 0

    def heed() -> None:
        nonlocal count
        count += 1
        server.should_exit = True
        if count == 2:
            server.force_exit = True
            calls.shut_down()
            calls.shut_down()
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)

    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, heed)


def _api(url: str) -> DailyApi | None:
    """Daily's API, if its key is there; who only listens needs neither the key nor httpx."""
    key = os.environ.get("DAILY_API_KEY")
    return DailyApi(key, url=url) if key and find_spec("httpx") is not None else None


def _load(program: str | None) -> Router:
    """Import what `MODULE:ROUTER` names, from the present folder too."""
    if program is None:
        return Router()
    module, _, name = program.partition(":")
    if not all(part.isidentifier() for part in module.split(".")):
        misuse(f"{program!r} names no module: give MODULE:ROUTER, as in `telstate serve app:router`")
    sys.path.insert(0, os.getcwd())
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        misuse(f"there is no module {module!r} here: give MODULE:ROUTER, as in `telstate serve app:router`")
    except DefinitionError as error:
        misuse(f"{module}: {error}")
    found = getattr(imported, name or "router", None)
    if found is None:
        misuse(f"{module} has no {name or 'router'!r}: give MODULE:ROUTER, as in `telstate serve app:router`")
    if not isinstance(found, Router):
        misuse(f"{program} is no telstate.Router, but {type(found).__name__}")
    return found


def _journal(path: str) -> SqliteJournal:
    if not path:
        misuse("--journal takes the name of a file")
    if path.endswith(".jsonl"):
        misuse(f"--journal is a SQLite database, so not {path}: use `telstate export` to get JSON Lines")
    return SqliteJournal(path)


def _listen(host: str, port: int) -> socket.socket:
    try:
        from telstate.sources._listener import listen  # noqa: PLC0415 - an extra

        return listen(host, port, backlog=_BACKLOG)
    except (OSError, TypeError, ValueError) as error:
        misuse(f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}")


def _allow_many_connections() -> None:
    """Each takes a file, and systems allow a thousand unless they are asked."""
    try:
        import resource  # noqa: PLC0415 - Windows has none, and no such limit
    except ModuleNotFoundError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _FILES:
        wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
        with suppress(OSError, ValueError):  # some systems allow less than they say
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
