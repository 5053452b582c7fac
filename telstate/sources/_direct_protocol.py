"""One HTTP connection on which what Daily sends takes a direct way to the receiver: without h11, ASGI, and the objects they take.

Only a plain request to the receiver, and only while h11 rests between two requests. Any other bytes are h11's, from the first one on,
so that what is valid, and how the rest is refused, is decided in one place. The deadlines and limits of `GuardedProtocol` hold for both.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES

from telstate.routing._log import traceback_of
from telstate.sources._plain_requests import PlainRequest, plain_request
from telstate.sources._protocol import GuardedProtocol, Phase, ServerGuard
from telstate.sources._webhooks import DirectRoute, ReceiverAnswer

__all__ = ["DirectGuard", "DirectProtocol"]

_FAILED = ReceiverAnswer(500, b'{"error":"internal error"}', {"Connection": "close"})
_NOTHING_READ = (b"", False)


class DirectGuard(ServerGuard):
    """What the connections of one server share.

    Args:
        limit: how many connections there may be.
        route: of the app.
    """

    def __init__(self, limit: int, route: DirectRoute) -> None:
        super().__init__(limit)
        self.route = route
        self._default: list[tuple[bytes, bytes]] = []
        self._written = b""

    def written(self, default: list[tuple[bytes, bytes]]) -> bytes:
        """Write the headers that the server adds to each answer. It replaces the list once a second."""
        if default is not self._default:
            self._default, self._written = default, b"".join(b"%s: %s\r\n" % header for header in default)
        return self._written


class DirectProtocol(GuardedProtocol):
    """A guarded connection with a direct way.

    Args:
        guard: of its server.
        given: as uvicorn passes it.
    """

    def __init__(self, guard: DirectGuard, **given: Any) -> None:
        super().__init__(guard, **given)
        self._shared = guard
        self._answering: asyncio.Task[None] | None = None
        self._early = b""
        """What came before the answer was sent."""
        self._ends = False
        """True if the connection is to be closed after the answer."""
        self._h11_rests = True
        """True if h11 has nothing to do with what comes next. False if that is to be found out."""

    def data_received(self, data: bytes) -> None:
        """Answer a plain request directly, and pass anything else to h11."""
        if self._answering is not None:
            self._early += data
            self.flow.pause_reading()  # so it is one read at most
        elif (
            self._may_be_direct() and (request := plain_request(data)) is not None and self._shared.route.takes(request)
        ):
            self._enter(Phase.ANSWER)
            self._unset_keepalive_if_required()
            self._answering = task = self.loop.create_task(self._answer(request))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        else:
            self._h11_rests = False
            super().data_received(data)

    def shutdown(self) -> None:
        """Close, after the answer if there is one under way."""
        if self._answering is not None:
            self._ends = True
        else:
            super().shutdown()

    def _may_be_direct(self) -> bool:
        """Return True between two requests. Where the peer does not read its answers, or the server is full, uvicorn knows what to do."""
        self._h11_rests = self._h11_rests or (
            self.conn.states == {h11.CLIENT: h11.IDLE, h11.SERVER: h11.IDLE}
            and self.conn.trailing_data == _NOTHING_READ
        )
        is_full = self.limit_concurrency is not None and len(self.tasks) >= self.limit_concurrency
        return self._h11_rests and not is_full and not self.flow.write_paused and not self.transport.is_closing()

    async def _answer(self, request: PlainRequest) -> None:
        try:
            client = self.client[0] if self.client is not None else None
            answer = await self._shared.route.answer(request, client, self._prove)
        except Exception as error:
            self._shared.log.error("webhooks.failed", exception=traceback_of(error))  # noqa: TRY400 - masked
            answer = _FAILED
        finally:
            self._answering = None
        if not self.transport.is_closing():
            self._send(answer)

    def _send(self, answer: ReceiverAnswer) -> None:
        ends = self._ends or not self._has_proved or answer.headers.get("Connection") == "close"
        headers = {**answer.headers, "Connection": "close"} if ends else answer.headers
        self.transport.write(
            b"HTTP/1.1 %d %s\r\n%scontent-type: application/json\r\ncontent-length: %d\r\n%s\r\n%s"
            % (
                answer.status,
                STATUS_PHRASES[answer.status],
                self._shared.written(self.server_state.default_headers),
                len(answer.body),
                b"".join(f"{name.lower()}: {value}\r\n".encode() for name, value in headers.items()),
                answer.body,
            )
        )
        self.server_state.total_requests += 1
        self._enter(Phase.IDLE)
        self._guard.connections.note_answer(self)
        if ends:
            self.transport.close()
        elif self._early:
            early, self._early = self._early, b""
            self.flow.resume_reading()
            self.data_received(early)
