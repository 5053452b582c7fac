"""`telstate work`: run a program's handlers for a share of the events that receivers publish to NATS."""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import typer

from telstate.cli._daily_api import ApiUrl
from telstate.cli._log_writer import LineWriter
from telstate.cli._nats import NATS_HELP, read_address
from telstate.cli._service import BACKLOG, MaxDeliveries, daily_api, load_router, log_writer, open_socket, served
from telstate.cli._terminal import log_to_stderr, misuse, tidy_exit
from telstate.control._api import DAILY
from telstate.control._rest import RestControl

if TYPE_CHECKING:
    from telstate.journals.nats import Worker

__all__ = ["work"]

_USAGE = "give MODULE:ROUTER, as in `telstate work app:router --nats nats://localhost:4222`"
_CONNECTIONS = 50
_FLUSH_WITHIN = 2.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def work(
    program: Annotated[str, typer.Argument(metavar="MODULE:ROUTER", help="The router with the handlers to run.")],
    *,
    nats: Annotated[
        str,
        typer.Option(envvar="TELSTATE_NATS", metavar="URL", help=f"The servers, nats://HOST:4222. {NATS_HELP}"),
    ],
    app: Annotated[
        str | None, typer.Option("--app", metavar="NAME", help="The app, whose streams have its name.")
    ] = None,
    stage: Annotated[
        str | None, typer.Option("--environment", metavar="NAME", help="The environment, which is in the names too.")
    ] = None,
    partitions: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="How many units of work can move between workers, 256 by default. For the first start: it cannot be changed.",
        ),
    ] = None,
    replicas: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="How many servers of a cluster keep each stream, for the first start: 1, 3 or 5."
        ),
    ] = None,
    max_bytes: Annotated[
        int | None,
        typer.Option(
            metavar="BYTES", help="How large the stream of events may be, for the first start; 2 GiB by default."
        ),
    ] = None,
    keep: Annotated[
        float | None,
        typer.Option(metavar="DAYS", help="How long events are kept, for the first start; 7 days by default."),
    ] = None,
    ttl: Annotated[
        float,
        typer.Option(
            min=1, metavar="SECONDS", help="Others take its partitions over so long after it crashed, and no sooner."
        ),
    ] = 10.0,
    drain: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="Seconds that handlers have to finish after SIGTERM."),
    ] = 30.0,
    max_deliveries: MaxDeliveries = 5,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="With --port: the address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, metavar="PORT", help="Answer GET /health and /ready there; 0 takes a free port."
        ),
    ] = None,
    api_url: ApiUrl = DAILY,
) -> None:
    """Run handlers for a share of the events that `telstate serve --nats` publishes. Start as many workers as you like.

    Each room belongs to one worker at a time, so the events of a session are handled in order. A worker that joins gets a fair share;
    what a worker has that crashed goes to the others after --ttl.

    The first one declares the streams. All later ones take them as they are.

    With DAILY_API_KEY in the environment, handlers can act on calls (`calls.stop(session)` and so on) through Daily's REST API.

    On SIGTERM it hands its partitions over at once, except that handlers which run have --drain seconds to finish. Live calls
    need not end first: another worker goes on with them. A second signal cuts the handlers off; they run again elsewhere.

    GET /health says how far each partition is behind, /ready whether this worker does its share.

    Example: telstate work app:router --nats nats://one:4222,two:4222 --environment production --port 8081
    """
    with tidy_exit():
        address = read_address(nats, app=app, environment=stage)
        if address.partition is not None:
            misuse("a worker takes its share of all partitions: leave the number out of the address")
        router = load_router(program, _USAGE)
        writer = log_writer()
        log_to_stderr(writer)
        connection = address.connection("telstate work")
        from telstate.journals.nats import StreamSettings, Worker  # noqa: PLC0415 - an extra

        api = daily_api(api_url)
        worker = Worker(
            router,
            connection,
            names=address.names,
            streams=StreamSettings(partitions, replicas, max_bytes, None if keep is None else timedelta(days=keep)),
            ttl=ttl,
            drain=drain,
            control=None if api is None else RestControl(api),
            max_deliveries=max_deliveries,
        )
        server = None if port is None else _server(worker)
        listening = None if port is None else open_socket(host, port)
        try:
            asyncio.run(_work(worker, api or nullcontext(), server, listening, where=str(address), writer=writer))
        finally:
            writer.flush(_FLUSH_WITHIN)


async def _work(
    worker: Worker,
    api: AbstractAsyncContextManager[Any],
    server: Any,
    listening: socket.socket | None,
    *,
    where: str,
    writer: LineWriter,
) -> None:
    """Work until a signal."""
    _listen_to_signals(worker)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(api)
        shown = ""
        if listening is not None:
            await stack.enter_async_context(served(server, stack.enter_context(listening)))
            address, number = listening.getsockname()[:2]
            shown = f", health on http://{f'[{address}]' if ':' in address else address}:{number}"
        writer.write(f"telstate: working for {where}{shown}")
        await worker.run()


def _listen_to_signals(worker: Worker) -> None:
    """Hand over at the first signal, cut handlers off at the second; the third one has the system's default effect."""
    signals = 0

    def handle() -> None:
        nonlocal signals
        signals += 1
        worker.shut_down()
        if signals > 1:
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)

    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, handle)


def _server(worker: Worker) -> Any:
    """Make the server that says how the worker is."""
    if find_spec("uvicorn") is None or find_spec("starlette") is None:
        misuse("--port needs a server: pip install 'telstate[serve]'")
    from starlette.applications import Starlette  # noqa: PLC0415 - an extra
    from starlette.requests import Request  # noqa: PLC0415
    from starlette.responses import JSONResponse, Response  # noqa: PLC0415
    from starlette.routing import Route  # noqa: PLC0415

    from telstate.sources._server import make_server  # noqa: PLC0415

    async def health(_: Request) -> Response:
        return JSONResponse(_health(worker))

    async def ready(_: Request) -> Response:
        reason = worker.not_ready
        return JSONResponse({"ok": True} if reason is None else {"ok": False, "error": reason}, 503 if reason else 200)

    app = Starlette(routes=[Route("/health", health), Route("/ready", ready)])
    return make_server(app, connections=_CONNECTIONS, backlog=BACKLOG)


def _health(worker: Worker) -> dict[str, Any]:
    """How far the worker is, and each of its partitions."""
    each = worker.partitions()
    return {
        "ok": True,
        "owned": len(each),
        "open": sum(one.is_open for one in each),
        "behind": sum(one.behind or 0 for one in each),
        "seconds_behind": max((round(one.seconds_behind, 1) for one in each), default=0.0),
        "pending": sum(one.pending for one in each),
        "partitions": [one._asdict() for one in each],
    }
