"""`telstate serve`: receive Daily's webhooks, and keep them and run a program's handlers, or publish them to NATS."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import typer

from telstate._asgi import is_loopback
from telstate.cli._daily_api import ApiUrl
from telstate.cli._log_writer import LineWriter
from telstate.cli._nats import NATS_HELP, read_address
from telstate.cli._service import BACKLOG, MaxDeliveries, daily_api, load_router, log_writer, open_socket, served
from telstate.cli._terminal import VIEW_TOKEN, log_to_stderr, misuse, tidy_exit
from telstate.control._api import DAILY
from telstate.control._rest import RestControl
from telstate.errors import NotRunning
from telstate.journals import SqliteJournal
from telstate.routing._dispatcher import Dispatcher

if TYPE_CHECKING:
    from telstate.journals.nats import Publisher

__all__ = ["serve"]

_SECRET = "TELSTATE_WEBHOOK_SECRET"  # noqa: S105 - the variable's name, not its value
_PINLESS_SECRET = "TELSTATE_PINLESS_SECRET"  # noqa: S105
_TRUNK_SECRET = "TELSTATE_TRUNK_SECRET"  # noqa: S105
_USAGE = "give MODULE:ROUTER, as in `telstate serve app:router`"
_CONNECTIONS = 500
_READERS = 32
"""Of the live stream; at most a quarter of the connections."""
_FILES = 8_000
_FLUSH_WITHIN = 2.0
"""Seconds for the last lines of the log: a reader that has stopped must not keep the service from ending."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_NOT_WITH_NATS = {
    "program": "MODULE:ROUTER",
    "journal": "--journal",
    "keep": "--keep",
    "archive": "--archive",
    "calls_end_within": "--calls-end-within",
    "max_deliveries": "--max-deliveries",
    "view_token": "--view-token",
    "view_numbers": "--view-numbers",
}
"""What concerns handlers and a journal of its own, by parameter."""
_COLLECT_AFTER = 10_000
"""New objects after which the garbage collector runs. The requests in flight are more than the 700 of Python's default, and would be
looked at again and again: that takes a fifth of the time of a webhook."""


def serve(
    context: typer.Context,
    program: Annotated[
        str | None,
        typer.Argument(
            metavar="MODULE:ROUTER", help="The router with the handlers to run; without it, events are only stored."
        ),
    ] = None,
    *,
    journal: Annotated[
        str, typer.Option(metavar="FILE", help="The SQLite database that stores events; created if missing.")
    ] = "calls.db",
    keep: Annotated[
        str,
        typer.Option(
            metavar="DAYS",
            help="Days for which the journal keeps events of calls that are over; `all` keeps everything.",
        ),
    ] = "30",
    archive: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Move older events there, as JSON Lines, in place of deleting them; compressed if the name ends in .gz.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="PORT", help="Port to listen on; 0 takes a free one.")
    ] = 8080,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SECRET",
            help=f"The webhook's hmac, in base64; may be repeated. Better in {_SECRET} (several with commas between them):"
            f" every user of this machine can read arguments. Pinless dial-in and SIP trunks may have others: {_PINLESS_SECRET},"
            f" {_TRUNK_SECRET}.",
        ),
    ] = None,
    calls_end_within: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Seconds for which live calls may go on after SIGTERM, before it stops to listen.",
        ),
    ] = 0.0,
    max_deliveries: MaxDeliveries = 5,
    tolerance: Annotated[
        float, typer.Option(metavar="SECONDS", help="Seconds for which a signature is accepted.")
    ] = 7200.0,
    view_token: Annotated[
        str | None,
        typer.Option(
            metavar="TOKEN",
            help=f"What `telstate tail URL` and other readers of /live must send. Better in {VIEW_TOKEN}: every user of this machine can"
            " read arguments.",
        ),
    ] = None,
    view_numbers: Annotated[
        bool, typer.Option("--view-numbers", help="Show readers of /live phone numbers, SIP users and names in full.")
    ] = False,
    nats: Annotated[
        str | None,
        typer.Option(
            envvar="TELSTATE_NATS",
            metavar="URL",
            help=f"Publish events to NATS instead, nats://HOST:4222, where `telstate work` runs the handlers. {NATS_HELP}",
        ),
    ] = None,
    app: Annotated[
        str | None, typer.Option("--app", metavar="NAME", help="With --nats: the app, whose streams have its name.")
    ] = None,
    stage: Annotated[
        str | None,
        typer.Option("--environment", metavar="NAME", help="With --nats: the environment, which is in the names too."),
    ] = None,
    api_url: ApiUrl = DAILY,
) -> None:
    """Receive Daily's webhooks, store them, and run handlers.

    It listens for POST on /webhooks, /pinless and /sip-trunk, and answers once an event is verified and stored; handlers run
    after that.

    GET /live sends what happens to calls as it happens, to `telstate tail URL`. It needs a token; without a secret and a token it is open to
    this machine.

    With DAILY_API_KEY in the environment, handlers can act on calls (`calls.stop(session)` and so on) through Daily's REST API.

    On SIGTERM it accepts no more requests, and handlers have 30 seconds to finish; unfinished ones run again at the next
    start. With --calls-end-within live calls go on first. The log goes to standard error, unless the program configures logging or structlog. Not on Windows.

    With --nats it keeps nothing and runs nothing: it answers once the stream has the event. Start as many of them as you like.

    Examples: telstate serve app:router, or: telstate serve --nats nats://one:4222,two:4222 --environment production
    """
    if find_spec("fcntl") is None:
        misuse(
            "serve needs Unix file locks and signals, which Windows does not have: run it on Linux, in WSL or in a container."
            " replay, tail, diagram and webhook run here"
        )
    try:
        from telstate.sources._server import connection_limit, make_server  # noqa: PLC0415 - an extra
        from telstate.sources._webhooks import webhook_app  # noqa: PLC0415
        from telstate.views._live import live_app  # noqa: PLC0415
    except ModuleNotFoundError as error:
        misuse(f"serve needs {error.name}: pip install 'telstate[serve]'")
    with tidy_exit():
        _check_options(context, nats, app, stage)
        router = load_router(program, _USAGE)
        writer = log_writer()
        log_to_stderr(writer)
        api = daily_api(api_url) if nats is None else None
        calls: Dispatcher | Publisher
        if nats is not None:
            calls, where = _publisher(nats, app, stage)
        else:
            control = RestControl(api) if api is not None else None
            limits: dict[str, Any] = {"max_deliveries": max_deliveries, "calls_end_within": calls_end_within}
            calls = Dispatcher(router, journal=_journal(journal, keep, archive), control=control, **limits)
            where = f"journal {journal}"
        secrets, pinless, trunk = [*(secret or []), *_listed(_SECRET)], _listed(_PINLESS_SECRET), _listed(_TRUNK_SECRET)
        is_secured = bool(secrets or pinless or trunk)
        _allow_many_connections()
        # Where Daily sends, strangers do too, and a proxy may make them look local.
        view: dict[str, Any] = {
            "token": view_token or os.environ.get(VIEW_TOKEN) or None,
            "allow_local": not is_secured,
        }
        view["max_readers"] = max(1, min(_READERS, connection_limit(_CONNECTIONS) // 4))
        try:
            webhooks = webhook_app(
                calls, secrets=secrets, pinless_secrets=pinless, trunk_secrets=trunk, tolerance=tolerance
            )
            if isinstance(calls, Dispatcher):
                webhooks.routes.extend(live_app(calls, **view, numbers=view_numbers).routes)
        except ValueError as error:
            misuse(str(error))
        if not is_secured and not is_loopback(host):
            misuse(f"without a secret it listens only on this machine: give --secret or {_SECRET}, or leave out --host")
        server = make_server(webhooks, connections=_CONNECTIONS, backlog=BACKLOG)
        with open_socket(host, port) as listening:
            try:
                how: dict[str, Any] = {"where": where, "writer": writer, "calls_go_on": calls_end_within > 0}
                _collect_less_often()
                asyncio.run(_serve(calls, api or nullcontext(), server, listening, **how))
            finally:
                writer.flush(_FLUSH_WITHIN)


async def _serve(
    calls: Dispatcher | Publisher,
    api: AbstractAsyncContextManager[Any],
    server: Any,
    listening: socket.socket,
    *,
    where: str,
    writer: LineWriter,
    calls_go_on: bool,
) -> None:
    """Serve until a signal, then let handlers finish. While the journal is read, `/health` answers, and events wait."""
    stop = _Stop(server, calls, calls_go_on=calls_go_on)
    stop.listen()
    try:
        async with api, served(server, listening) as serving, calls:
            host, port = listening.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            writer.write(f"telstate: listening on http://{shown}:{port}, {where}")
            await _until_stopped(server, serving)
    except NotRunning:
        if not stop.signals:  # else one came while it started
            raise
    finally:
        # Only a handler's thread can still run now, and nothing can stop that: the next signal ends the process.
        for number in _SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)


async def _until_stopped(server: Any, serving: asyncio.Future[None]) -> None:
    """Wait. When the dispatcher is left by itself, as after a handler's KeyboardInterrupt, answer first what was asked."""
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        with anyio.CancelScope(shield=True):
            await serving
        raise


class _Stop:
    """What SIGTERM and Ctrl-C do.

    The first signal: take in nothing more, and let handlers finish; while the journal is still read, end at once. Where live calls may
    go on first, one signal more ends that. The next one cancels the handlers, as the journal has their events. The one after it has the
    system's default effect.

    A publisher has no handlers and no journal: it answers what was asked, and ends.

    Args:
        server: stops to listen when the dispatcher's block ends.
        calls: the dispatcher, or a publisher.
        calls_go_on: live calls may go on first.
    """

    def __init__(self, server: Any, calls: Dispatcher | Publisher, *, calls_go_on: bool) -> None:
        self._server = server
        self._calls = calls
        self._patience = 2 if calls_go_on else 1
        self.signals = 0

    def listen(self) -> None:
        """Handle signals from now on."""
        for number in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._handle)

    def _handle(self) -> None:
        self.signals += 1
        self._calls.shut_down()
        if not isinstance(self._calls, Dispatcher):
            self._server.should_exit = True
        if self.signals > self._patience:
            self._server.force_exit = True
            self._calls.shut_down()  # ends the draining
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)


def _check_options(context: typer.Context, nats: str | None, app: str | None, stage: str | None) -> None:
    """Refuse what would have no effect, and looks as if it had."""
    if nats is None:
        if app is not None or stage is not None:
            misuse("--app and --environment name streams in NATS: give --nats URL with them")
        return
    for name, shown in _NOT_WITH_NATS.items():
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            misuse(
                f"with --nats (or TELSTATE_NATS) it only publishes, so {shown} has no effect: leave it out, and run handlers"
                " with `telstate work`"
            )


def _publisher(nats: str, app: str | None, stage: str | None) -> tuple[Publisher, str]:
    """Make a publisher; return what to call its stream, too."""
    address = read_address(nats, app=app, environment=stage)
    if address.partition is not None:
        misuse(f"{address}: a receiver publishes to all partitions: leave the last part of the address out")
    connection = address.connection("telstate receiver")
    from telstate.journals.nats import Publisher  # noqa: PLC0415 - an extra

    return Publisher(connection, address.names), f"stream {address.names.events} of {connection.where}"


def _listed(variable: str) -> list[str]:
    """Return the secrets in an environment variable."""
    return os.environ.get(variable, "").replace(",", " ").split()


def _journal(path: str, keep: str, archive: str | None) -> SqliteJournal:
    if not path:
        misuse("--journal needs the name of a file")
    if path.endswith(".jsonl"):
        misuse(f"--journal is a SQLite database, so not {path}: use `telstate export` to get JSON Lines")
    if archive is not None and keep == "all":
        misuse("--archive is for events that are older than --keep, and `all` keeps everything: leave one of them out")
    return SqliteJournal(path, _days(keep), archive=archive)


def _days(keep: str) -> timedelta | None:
    """Read `--keep`."""
    if keep == "all":
        return None
    try:
        days = timedelta(days=float(keep))
    except (ValueError, OverflowError):
        days = timedelta(-1)
    if days < timedelta():
        misuse(f"--keep takes a number of days, or `all`, not {keep!r}")
    return days


def _collect_less_often() -> None:
    """Let the garbage collector leave alone what was imported, and wait for more objects, unless the program has set it up."""
    if gc.isenabled() and gc.get_threshold()[0] < _COLLECT_AFTER:
        gc.collect()
        gc.freeze()
        gc.set_threshold(_COLLECT_AFTER, *gc.get_threshold()[1:])


def _allow_many_connections() -> None:
    """Each connection takes a file descriptor, and systems allow about a thousand by default."""
    import resource  # noqa: PLC0415 - not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _FILES:
        wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
        with suppress(OSError, ValueError):  # some systems allow less than they say
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
