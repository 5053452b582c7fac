"""`telstate work`: run a program's handlers for a share of the events that receivers publish to NATS."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from telstate.cli._config import WORK
from telstate.cli._config_flags import configured
from telstate.cli._log_writer import LineWriter
from telstate.cli._nats import read_address
from telstate.cli._notify import refuse_notify
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
    url_of,
)
from telstate.cli._stop_signals import StopSignals
from telstate.cli._systemd import ServiceManager
from telstate.cli._terminal import log_to_stderr, misuse, tidy_exit

if TYPE_CHECKING:
    from telstate.cli._config_sources import Loaded
    from telstate.journals.nats import Worker

__all__ = ["work"]

_USAGE = "give MODULE:ROUTER, as in `telstate work app:router --nats nats://localhost:4222`"
_CONNECTIONS = 50


@configured(WORK)
def work(loaded: Loaded) -> None:
    """Run handlers for a share of the events that `telstate serve --nats` publishes. Start as many workers as you like.

    Each room belongs to one worker at a time, so the events of a session are handled in order. A worker that joins gets a fair share;
    what a worker has that crashed goes to the others after --ttl.

    The first one declares the streams. All later ones take them as they are.

    With DAILY_API_KEY in the environment, handlers can act on calls (`calls.stop(session)` and so on) through Daily's REST API, and
    Daily is asked whether a session is still in its room before silence ends it.

    On SIGTERM it hands its partitions over at once, except that handlers which run have --drain seconds to finish. Live calls
    need not end first: another worker goes on with them. A second signal cuts the handlers off; they run again elsewhere.

    GET /health says that it lives, and how far each partition is behind; /ready whether this worker does its share; /metrics has metrics for
    Prometheus, if telstate[metrics] is installed.

    Example: telstate work app:router --nats nats://one:4222,two:4222 --environment production --port 8081
    """
    config = loaded.config
    with tidy_exit():
        if config.nats is None:
            misuse("it needs the servers: give --nats URL, or set TELSTATE_NATS")
        if config.program is None:
            misuse(f"it needs a program with handlers: {_USAGE}")
        address = read_address(config.nats, app=config.app, environment=config.environment)
        if address.partition is not None:
            misuse("a worker takes its share of all partitions: leave the number out of the address")
        refuse_notify(config)
        router = load_router(config.program, _USAGE)
        writer = log_writer()
        log_to_stderr(writer)
        connection = address.connection("telstate work", config)
        from telstate.journals.nats import StreamSettings, Worker  # noqa: PLC0415 - an extra

        days = config.stream_keep
        keep = None if days is None else timedelta(days=days)
        api = daily_api(config)
        worker = Worker(
            router,
            connection,
            names=address.names,
            streams=StreamSettings(config.stream_partitions, config.stream_replicas, config.stream_max_bytes, keep),
            ttl=config.lease_ttl,
            **acting_on_calls(config, api),
            **config.limits(),
        )
        port = config.health_port
        server = None if port is None else _server(worker)
        listening = None if port is None else open_socket(config.listen_host, port)
        try:
            asyncio.run(_work(worker, api or nullcontext(), server, listening, where=str(address), writer=writer))
        finally:
            writer.flush(FLUSH_WITHIN)


async def _work(
    worker: Worker,
    api: AbstractAsyncContextManager[Any],
    server: Any,
    listening: socket.socket | None,
    *,
    where: str,
    writer: LineWriter,
) -> None:
    """Work until a signal: the first one hands over, the second one cuts handlers off, the third one has the system's default effect."""
    manager = ServiceManager(os.environ)
    with StopSignals(lambda _: worker.shut_down(), patience=1, manager=manager, writer=writer):
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(api)
            shown = ""
            if listening is not None:
                await stack.enter_async_context(served(server, stack.enter_context(listening)))
                shown = f", health on {url_of(listening)}"
            # A server that is away is no reason for a restart, so the event loop's turning is all that counts.
            await stack.enter_async_context(manager.informed(lambda: worker.not_ready, lambda: True))
            writer.write(f"telstate: working for {where}{shown}")
            await worker.run()
        writer.write("telstate: stopped in order")


def _server(worker: Worker) -> Any:
    """Make the server that says how the worker is."""
    if find_spec("uvicorn") is None or find_spec("starlette") is None:
        misuse("--port needs a server: pip install 'telstate[serve]'")
    from starlette.applications import Starlette  # noqa: PLC0415 - an extra

    from telstate.sources._probes import probe_routes  # noqa: PLC0415
    from telstate.sources._server import make_server  # noqa: PLC0415

    probes = probe_routes(lambda: worker.not_ready, lambda: _health(worker))
    return make_server(Starlette(routes=[*probes, *metrics_routes(worker)]), connections=_CONNECTIONS, backlog=BACKLOG)


def _health(worker: Worker) -> dict[str, Any]:
    """How far the worker is, and each of its partitions."""
    each = worker.partitions()
    return {
        "owned": len(each),
        "open": sum(one.is_open for one in each),
        "behind": sum(one.behind or 0 for one in each),
        "seconds_behind": max((round(one.seconds_behind, 1) for one in each), default=0.0),
        "pending": sum(one.pending for one in each),
        "partitions": [one._asdict() for one in each],
    }
