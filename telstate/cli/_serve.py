"""`telstate serve`: receive Daily's webhooks, and keep them and run a program's handlers, or publish them to NATS."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import anyio
from pydantic import SecretStr

from telstate._asgi import is_loopback
from telstate.cli._collector import collect_less_often
from telstate.cli._config import COMMAND_LINE, RECEIVE, SERVE, ServiceConfig, all_uses, days_of, variable_of
from telstate.cli._config_flags import configured
from telstate.cli._log_writer import LineWriter
from telstate.cli._nats import read_address, refuse_names_alone
from telstate.cli._notify import notifier_of, refuse_notify
from telstate.cli._service import (
    BACKLOG,
    FLUSH_WITHIN,
    acting_on_calls,
    daily_api,
    load_router,
    log_writer,
    metrics_routes,
    open_socket,
    served,
    shown,
    url_of,
)
from telstate.cli._stop_signals import StopSignals
from telstate.cli._systemd import ServiceManager
from telstate.cli._terminal import log_to_stderr, misuse, tidy_exit
from telstate.errors import NotRunning
from telstate.journals import SqliteJournal
from telstate.routing._dispatcher import Dispatcher

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from telstate.cli._config_sources import Loaded
    from telstate.journals.nats import Publisher

__all__ = ["run_service", "serve"]

_USAGE = "give MODULE:ROUTER, as in `telstate serve app:router`"
_CONNECTIONS = 500
_READERS = 32
"""Of the live stream; at most a quarter of the connections."""
_FILES = 8_000


@configured(SERVE)
def serve(loaded: Loaded) -> None:
    """Receive Daily's webhooks, store them, and run handlers.

    It listens for POST on /webhooks, /pinless and /sip-trunk, and answers once an event is verified and stored; handlers run
    after that.

    GET /metrics has metrics for Prometheus, if telstate[metrics] is installed; /health says that the process lives, /ready whether new calls may
    come here. They need no secret, so let no proxy show them to strangers.

    A browser that opens /board sees what all calls do now, what needs attention first, and each call step by step. GET /live sends what happens
    as it happens, to `telstate tail URL`. Both ask for a token; without a secret and a token they are open to this machine.

    With DAILY_API_KEY in the environment, handlers can act on calls (`calls.stop(session)` and so on) through Daily's REST API.

    After a restart it asks Daily, with that key, whether sessions are still in their rooms: events of the time between may be missing.

    On SIGTERM it accepts no more requests, and handlers have --drain seconds to finish; unfinished ones run again at the next
    start. With --calls-end-within live calls go on first. systemd is told when it is ready and, with WatchdogSec=, that it lives. The
    log goes to standard error, unless the program configures logging or structlog. Not on Windows.

    With --nats it keeps nothing and runs nothing: it answers once the stream has the event. Start as many of them as you like.

    Examples: telstate serve app:router, or: telstate serve --nats nats://one:4222,two:4222 --environment production
    """
    run_service(loaded)


def run_service(loaded: Loaded, work: Callable[[Dispatcher], Awaitable[None]] | None = None) -> None:
    """Run a service: until a signal, or as long as a command's work in it takes.

    Args:
        loaded: the settings.
        work: what a command does in it; its end is that of the service. A signal cancels it.
    """
    if find_spec("fcntl") is None:
        misuse(
            "serve needs Unix file locks and signals, which Windows does not have: run it on Linux, in WSL or in a container."
            " replay, tail, diagram and webhook run here"
        )
    try:
        from telstate.sources._server import connection_limit, make_server  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        misuse(f"serve needs {error.name}: pip install 'telstate[serve]'")
    config = loaded.config
    with tidy_exit():
        _check(loaded)
        _check_secrets(loaded)
        router = load_router(config.program if config.nats is None else None, _USAGE)
        writer = log_writer()
        log_to_stderr(writer)
        api = daily_api(config) if config.nats is None else None
        calls: Dispatcher | Publisher
        if config.nats is not None:
            calls, where = _publisher(config)
        else:
            calls = Dispatcher(
                router,
                journal=_journal(config.journal, config.keep, config.archive),
                notify=notifier_of(config),
                calls_end_within=config.calls_end_within,
                **acting_on_calls(config, api),
                **config.limits(),
            )
            where = f"journal {config.journal}, board at /board"
        _allow_many_connections()
        webhooks = _app(calls, config, readers=max(1, min(_READERS, connection_limit(_CONNECTIONS) // 4)))
        server = make_server(webhooks, connections=_CONNECTIONS, backlog=BACKLOG)
        with open_socket(config.listen_host, config.listen_port) as listening:
            try:
                how: dict[str, Any] = {"where": where, "writer": writer, "calls_go_on": config.calls_end_within > 0}
                if work is not None and isinstance(calls, Dispatcher):
                    how["work"] = partial(work, calls)
                gc.collect()
                collect_less_often()
                asyncio.run(_serve(calls, api or nullcontext(), server, listening, **how))
            finally:
                writer.flush(FLUSH_WITHIN)


async def _serve(
    calls: Dispatcher | Publisher,
    api: AbstractAsyncContextManager[Any],
    server: Any,
    listening: socket.socket,
    *,
    where: str,
    writer: LineWriter,
    calls_go_on: bool,
    work: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Serve until a signal, then let handlers finish. While the journal is read, `/health` answers, and events wait."""
    manager = ServiceManager(os.environ)
    stop = _Stop(server, calls, calls_go_on=calls_go_on)
    informed = manager.informed(lambda: calls.not_ready, lambda: _is_alive(calls, manager.watchdog_s))
    with StopSignals(stop, patience=stop.patience, manager=manager, writer=writer) as signals:
        try:
            async with api, served(server, listening) as serving, informed, calls:
                writer.write(f"telstate: listening on {url_of(listening)}, {where}")
                await (_until_stopped(server, serving) if work is None else work())
        except NotRunning:
            if not signals.count:  # else one came while it started
                raise
        else:
            if signals.count:
                writer.write("telstate: stopped in order")


def _is_alive(calls: Dispatcher | Publisher, watchdog_s: float | None) -> bool:
    """Return False where only a restart can help: the journal answers nothing. One that refuses events, as on a full disk, goes on by itself."""
    if watchdog_s is None or not isinstance(calls, Dispatcher):
        return True
    return calls.vitals().appending_s < watchdog_s


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
        self.patience: int = 2 if calls_go_on else 1
        """How many signals there are before the one that cancels the handlers."""

    def __call__(self, count: int) -> None:
        """Take one more."""
        self._calls.shut_down()
        if not isinstance(self._calls, Dispatcher):
            self._server.should_exit = True
        if count > self.patience:
            self._server.force_exit = True
            self._calls.shut_down()  # ends the draining


def _check(loaded: Loaded) -> None:
    """Refuse flags that would have no effect. Settings from elsewhere may be there for other processes."""
    given = {name for name, origin in loaded.origins.items() if origin.kind == COMMAND_LINE}
    refuse_names_alone(loaded.config, given)
    if loaded.config.nats is None:
        return
    for name, _, use in all_uses():
        if name in given and RECEIVE not in use.by:
            misuse(
                f"with --nats (or TELSTATE_NATS) it only publishes, so {use.flag or use.metavar} has no effect: leave it out, and run"
                " handlers with `telstate work`"
            )
    refuse_notify(loaded.config)


def _check_secrets(loaded: Loaded) -> None:
    """Refuse secrets and tokens that cannot be right, with the place where each stands."""
    from telstate.sources._signatures import Secret  # noqa: PLC0415 - an extra
    from telstate.views._live_access import checked_token  # noqa: PLC0415

    checks: dict[str, Callable[[str], object]] = {
        **dict.fromkeys(("webhook_secret", "pinless_secret", "trunk_secret"), Secret),
        **({} if loaded.config.nats else dict.fromkeys(("view_token", "view_numbers_token"), checked_token)),
    }
    for name, check in checks.items():
        given: Sequence[SecretStr] | SecretStr | None = getattr(loaded.config, name)
        for one in (given,) if isinstance(given, SecretStr) else given or ():
            try:
                check(one.get_secret_value())
            except ValueError as error:
                misuse(f"{loaded.place(name)}: {error}")


def _publisher(config: ServiceConfig) -> tuple[Publisher, str]:
    """Make a publisher; return what to call its stream, too."""
    address = read_address(config.nats or "", app=config.app, environment=config.environment)
    if address.partition is not None:
        misuse(f"{address}: a receiver publishes to all partitions: leave the last part of the address out")
    connection = address.connection("telstate receiver", config)
    from telstate.journals.nats import Publisher  # noqa: PLC0415 - an extra

    return Publisher(connection, address.names), f"stream {address.names.events} of {connection.where}"


def _app(calls: Dispatcher | Publisher, config: ServiceConfig, readers: int) -> Starlette:
    """Make the app with all its addresses.

    Args:
        calls: gets the events.
        config: the settings.
        readers: how many may read the live stream.
    """
    from telstate.sources._webhooks import webhook_app  # noqa: PLC0415 - an extra
    from telstate.views import board_app  # noqa: PLC0415

    kinds = (config.webhook_secret, config.pinless_secret, config.trunk_secret)
    secrets, pinless, trunk = ([one.get_secret_value() for one in kind] for kind in kinds)
    is_secured = any(kinds)
    # Where Daily sends, strangers do too, and a proxy may make them look local.
    view: dict[str, Any] = {
        "token": shown(config.view_token),
        "numbers_token": shown(config.view_numbers_token),
        "allow_local": not is_secured,
        "max_readers": readers,
    }
    limits: dict[str, Any] = {
        "tolerance": config.signature_tolerance,
        "max_body": config.max_body,
        "receive_timeout": config.receive_timeout,
    }
    try:
        webhooks = webhook_app(calls, secrets=secrets, pinless_secrets=pinless, trunk_secrets=trunk, **limits)
        webhooks.routes.extend(metrics_routes(calls, webhooks))
        if isinstance(calls, Dispatcher):
            webhooks.routes.extend(board_app(calls, **view, numbers=config.view_numbers).routes)
    except ValueError as error:
        misuse(str(error))
    if not is_secured and not is_loopback(config.listen_host):
        misuse(
            f"without a secret it listens only on this machine: give --secret or {variable_of('webhook_secret')}, or leave out --host"
        )
    return webhooks


def _journal(path: str, keep: str, archive: str | None) -> SqliteJournal:
    if not path:
        misuse("--journal needs the name of a file")
    if path.endswith(".jsonl"):
        misuse(f"--journal is a SQLite database, so not {path}: use `telstate export` to get JSON Lines")
    if archive is not None and keep == "all":
        misuse("--archive is for events that are older than --keep, and `all` keeps everything: leave one of them out")
    return SqliteJournal(path, days_of(keep), archive=archive)


def _allow_many_connections() -> None:
    """Each connection takes a file descriptor, and systems allow about a thousand by default."""
    import resource  # noqa: PLC0415 - not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _FILES:
        wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
        with suppress(OSError, ValueError):  # some systems allow less than they say
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
