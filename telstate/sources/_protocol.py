"""One HTTP connection: uvicorn's, with a deadline for whatever it waits for, and bounded reads.

uvicorn has a timeout only for the pause between two requests, and the first byte of the next one ends it: a head or a body that never
ends, and an answer that is never read, would hold the connection for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from telstate._asgi import begins_streams, confirms_sender
from telstate.routing._log import Log, traceback_of
from telstate.sources._connections import ConnectionLimit, peer_of

__all__ = ["MAX_HEAD", "GuardedProtocol", "Phase", "ServerGuard"]

MAX_HEAD = 16 * 1024
"""The longest head of a request, in bytes: Daily's have less than one kilobyte. Also the most that is read from a connection at once."""

_CLOSE = (b"connection", b"close")


class Phase(Enum):
    """What a connection waits for."""

    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    ANSWER = "answer"
    CLOSING = "closing"


_TIMEOUTS = {
    Phase.IDLE: 5.0,  # then it is closed in order, as uvicorn does it
    Phase.CLOSING: 5.0,  # then it is cut off: the peer does not read
    Phase.HEAD: 10.0,
    Phase.BODY: 12.0,  # the receiver answers a slow body with 408 after 10 s
    Phase.ANSWER: 30.0,  # the receiver answers within 10 s; the rest is for the peer to read it. Of a stream each part has so long
}
"""Seconds."""
_LAST_WORDS = 1.0
"""Seconds for the end of a stream, when the server stops."""


class _Forward(logging.Handler):
    """Forwards the lines of uvicorn to our log, which limits them: uvicorn writes one for each request that is not HTTP.

    Args:
        log: where they go.
    """

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        error = record.exc_info[1] if record.exc_info else None
        write = self._log.error if record.levelno >= logging.ERROR else self._log.warning
        write("webhooks.server", error=record.getMessage(), exception=None if error is None else traceback_of(error))


class ServerGuard:
    """What the connections of one server share.

    Args:
        limit: how many connections there may be.
    """

    def __init__(self, limit: int) -> None:
        self.connections = ConnectionLimit(limit)
        self.buffer = bytearray(MAX_HEAD)
        """Each read goes through it: reads of one loop do not overlap."""
        self.log = Log(burst=1, every=60.0)
        """Anybody can cause its lines."""
        self.logger = logging.Logger("uvicorn.error", logging.INFO)  # noqa: LOG001 - for the connections of this server alone
        self.logger.addHandler(_Forward(self.log))

    def note_full(self) -> None:
        """Log that there are as many connections as there may be."""
        hint = "connections without a verified request are closed, the oldest first"
        self.log.warning("webhooks.connections_full", open=len(self.connections), hint=hint)


class GuardedProtocol(H11Protocol, asyncio.BufferedProtocol):
    """A connection that is closed once it is late, and gives way to others.

    Args:
        guard: of its server.
        given: as uvicorn passes it.
    """

    def __init__(self, guard: ServerGuard, **given: Any) -> None:
        super().__init__(**given)
        self._guard = guard
        self._phase = Phase.HEAD
        self._has_proved = False
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.logger = guard.logger
        self._end_stream: Callable[[], None] | None = None
        self.app_state = {**self.app_state, **confirms_sender(self._prove), **begins_streams(self._begin_stream)}

    @property
    def is_answering(self) -> bool:
        """True from when a request is complete until its answer is sent."""
        return self._phase is Phase.ANSWER

    def give_way(self) -> None:
        """Close at once. uvicorn must not count it any more, though asyncio tells it only later."""
        self.connections.discard(self)
        self.transport.abort()

    # --- what asyncio calls -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, and start its first deadline."""
        address = transport.get_extra_info("peername")
        if self._guard.connections.is_full:
            self._guard.note_full()
        if self._guard.connections.admit(self, peer_of(str(address[0]) if isinstance(address, tuple) else "")):
            super().connection_made(transport)
            self._set_deadline()
            self._start_timer()
        else:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the deadline."""
        self._end_stream = None
        if self._timer is not None:  # else it was refused
            self._timer.cancel()
            self._guard.connections.remove(self)
            super().connection_lost(exc)

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - asyncio's interface
        """Return where the next bytes go: few at once, because h11 bounds a head only when it is incomplete."""
        return self._guard.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take in the bytes that were read."""
        self.data_received(bytes(memoryview(self._guard.buffer)[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Start the deadline of a head with its first byte."""
        if self._phase is Phase.IDLE:
            self._enter(Phase.HEAD)
        super().data_received(data)

    # --- what uvicorn calls -------------------------------------------------------------------------------------------

    def handle_events(self) -> None:
        """Follow how much of the request is there. Only who has proved a secret may send another one after it."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before and not self._has_proved:
            self.cycle.default_headers = [*self.cycle.default_headers, _CLOSE]
        if self.conn.their_state is h11.SEND_BODY:
            self._enter(Phase.BODY)
        elif self.conn.their_state is not h11.IDLE:
            self._enter(Phase.ANSWER)

    def on_response_complete(self) -> None:
        """Wait for the next request, which may be there already."""
        self._end_stream = None
        self._enter(Phase.IDLE)
        self._guard.connections.note_answer(self)
        super().on_response_complete()

    def shutdown(self) -> None:
        """End a stream, which would go on otherwise. A peer that does not read must not keep the server from ending."""
        if self._end_stream is not None:
            self._end_stream()
            self.loop.call_later(_LAST_WORDS, self.transport.abort)
        super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, in the middle of a request too: uvicorn and the app would raise, and write a traceback each time."""
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        with suppress(h11.LocalProtocolError):  # an answer was sent already
            super().send_400_response(msg)
        self.transport.close()

    # --- deadlines ----------------------------------------------------------------------------------------------------

    def _prove(self) -> None:
        if not self._has_proved:
            self._has_proved = True
            if self.cycle is not None:
                self.cycle.default_headers = [header for header in self.cycle.default_headers if header != _CLOSE]
        self._guard.connections.prove(self)

    def _begin_stream(self, end: Callable[[], None]) -> Callable[[], None]:
        """An answer becomes a stream. uvicorn takes the next part once the peer has read most of those before: then the deadline begins anew."""
        self._end_stream = end
        return self._continue_stream

    def _continue_stream(self) -> None:
        if self._end_stream is not None:
            self._set_deadline()

    def _enter(self, phase: Phase) -> None:
        if phase is not self._phase:
            self._phase = phase
            self._set_deadline()

    def _set_deadline(self) -> None:
        """The timer goes on: it looks at the deadline at least as often as the shortest one could pass."""
        self._deadline = self.loop.time() + _TIMEOUTS[self._phase]

    def _start_timer(self) -> None:
        left = self._deadline - self.loop.time()
        self._timer = self.loop.call_later(min(left, *_TIMEOUTS.values()), self._look_at_deadline)

    def _look_at_deadline(self) -> None:
        if self.loop.time() < self._deadline:
            self._start_timer()
        elif self._phase is Phase.IDLE:
            self._enter(Phase.CLOSING)
            self.timeout_keep_alive_handler()
            self._start_timer()
        else:
            self.transport.abort()  # not `close`, which waits until the peer has read everything
