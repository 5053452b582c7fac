"""The live stream: an ASGI app that sends the outcome of every event as it happens, as server-sent events.

    app.mount("/calls", live_app(calls, token=os.environ["TELSTATE_VIEW_TOKEN"]))     # GET /calls/live

The stream begins with `hello`. A `session` follows for each live session and a `caller` for each caller on hold, then `live`; from there on an `outcome`
for each event, with the session's record as the event left it. `end` says why it ends. Everything is JSON on one line.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import Route

from telstate.routing._dispatcher import Dispatcher
from telstate.views._live_access import LiveAccess
from telstate.views._live_stream import LiveStreams

__all__ = ["live_app"]


def live_app(
    calls: Dispatcher,
    *,
    token: str | None = None,
    allow_local: bool = False,
    numbers: bool = False,
    max_readers: int = 32,
) -> Starlette:
    """Make the app, which serves `GET /live`. Mount it next to `webhook_app`.

    Enter `async with calls` before: until then it answers 503. A stream ends when the dispatcher is left, or when its server stops. uvicorn waits
    for open streams at its end: give it `--timeout-graceful-shutdown`. `telstate serve` ends them at once.

    Args:
        calls: the dispatcher.
        token: what a reader sends as `Authorization: Bearer …`, at least 16 characters. With it, every reader needs it, on this machine
            too: a proxy on this machine makes strangers look local.
        allow_local: without a token, accept requests from this machine, addressed to it by a loopback name. A proxy on it that hides itself and
            the name is not detected: use a token where there is one.
        numbers: send phone numbers, SIP users and names in full.
        max_readers: how many streams may be open at a time. Each takes a connection; all share one history.

    Raises:
        ValueError: if the token is too short, or has characters that a header cannot have.
    """
    access = LiveAccess(token, numbers=numbers, allow_local=allow_local)
    streams = LiveStreams(calls, access, max_readers=max_readers)
    return Starlette(routes=[Route("/live", streams.endpoint())])
