"""The endpoint of the live stream: who may read, how many, and what ends a stream."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import anyio
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from telstate._asgi import begin_stream, confirm_sender, header_of
from telstate.errors import NotRunning
from telstate.routing._dispatcher import Dispatcher
from telstate.routing._log import Log
from telstate.views._live_access import LiveAccess
from telstate.views._live_history import Companion, LiveHistory

__all__ = ["LiveStreams", "unavailable"]

_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would keep events back
    "X-Content-Type-Options": "nosniff",
    "Connection": "close",  # the stream is the last answer of its connection
}


class LiveStreams:
    """All streams of one dispatcher. Those that show numbers in full share one history, all others another.

    Args:
        calls: the dispatcher.
        access: who may read.
        max_readers: how many streams may be open at a time.

    Raises:
        ValueError: if nobody may read.
    """

    def __init__(self, calls: Dispatcher, access: LiveAccess, *, max_readers: int) -> None:
        if max_readers < 1:
            raise ValueError(f"max_readers= takes a number from 1 on, not {max_readers!r}")
        self._calls = calls
        self.access = access
        self._max_readers = max_readers
        self._readers = 0
        self._histories: dict[bool, LiveHistory] = {}
        self.log = Log(burst=1, every=60.0)
        """Anybody can cause its lines."""

    def endpoint(self, companion: Callable[[bool], Companion] | None = None) -> ASGIApp:
        """Return an endpoint that sends the stream.

        Args:
            companion: makes what adds its own messages to the stream of a reader, for those who see numbers or not. Then a browser that
                signed in may read, too.
        """
        return _Endpoint(self, companion)

    def refuse(self, scope: Scope, refusal: Response) -> Response:
        """Log that a request is refused."""
        client = scope.get("client")
        self.log.warning("live.refused", client=client and client[0], status=refusal.status_code)
        return refusal

    def answer_instead(self, scope: Scope, *, signed_in: bool) -> tuple[Response | None, bool]:
        """Return the answer to a request that gets no stream, or None; and whether the reader sees numbers."""
        if scope["method"] != "GET":
            return JSONResponse({"error": "only GET"}, 405, {"Allow": "GET"}), False
        refusal, numbers = self.access.admit(scope, signed_in=signed_in)
        if refusal is not None:
            return self.refuse(scope, refusal), False
        if self._readers >= self._max_readers:
            hint = f"it has as many readers as it may have ({self._max_readers})"
            self.log.warning("live.full", hint=hint)
            return unavailable(hint, 10), False
        return None, numbers

    async def stream(
        self, scope: Scope, receive: Receive, send: Send, *, numbers: bool, companion: Companion | None
    ) -> Response | None:
        """Send until the reader leaves, or something ends it. Returns an answer if there can be no stream now."""
        try:
            history = self._history(numbers=numbers)
        except NotRunning:
            return unavailable(self._calls.not_ready or "it is not running", 2)
        if self.access.needs_token:
            confirm_sender(scope)
        self._readers += 1
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_watch_for_disconnect, receive, group.cancel_scope.cancel)
                await _send_all(history, companion, scope, send)
                group.cancel_scope.cancel()
        finally:
            self._readers -= 1
        return None

    def _history(self, *, numbers: bool) -> LiveHistory:
        history = self._histories.get(numbers)
        if history is None or history.is_over:
            history = self._histories[numbers] = LiveHistory(self._calls, numbers=numbers)
        return history


class _Endpoint:
    """What a route calls."""

    def __init__(self, streams: LiveStreams, companion: Callable[[bool], Companion] | None) -> None:
        self._streams = streams
        self._companion = companion

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        answer, numbers = self._streams.answer_instead(scope, signed_in=self._companion is not None)
        if answer is None:
            companion = None if self._companion is None else self._companion(numbers)
            answer = await self._streams.stream(scope, receive, send, numbers=numbers, companion=companion)
        if answer is not None:
            await answer(scope, receive, send)


async def _send_all(history: LiveHistory, companion: Companion | None, scope: Scope, send: Send) -> None:
    ended = False

    def end() -> None:
        nonlocal ended
        ended = True
        history.wake()

    report_progress = begin_stream(scope, end)
    headers = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    last = header_of(scope, b"last-event-id")
    async with aclosing(history.read(last, lambda: ended, companion)) as messages:
        async for part in messages:
            await send({"type": "http.response.body", "body": part, "more_body": True})
            report_progress()
            await anyio.lowlevel.checkpoint()  # a server need not pause: a thousand messages must hold up nobody
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _watch_for_disconnect(receive: Receive, cancel: Callable[[], Any]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    cancel()


def unavailable(reason: str, seconds: int) -> Response:
    """Return the answer for now, and when to ask again."""
    return JSONResponse({"error": reason}, 503, {"Retry-After": str(seconds)})
