"""A receiver of notifications for tests, which verifies them with the Standard Webhooks library, and answers as a test wants."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import anyio
from standardwebhooks import Webhook
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.sources.serving import serving

__all__ = ["OTHER_SECRET", "SECRET", "Received", "Receiver", "receiver"]

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


class Received(NamedTuple):
    """One request whose signature was valid."""

    id: str
    type: str
    data: dict[str, Any]
    body: bytes

    @property
    def key(self) -> str:
        """What it is about."""
        record = next(iter(self.data.values()))
        return str(record.get("session_id") or record.get("call_id"))


Answering = Callable[["Receiver", Received], Awaitable[Response | None]]


class Receiver:
    """What came, in order, also what was refused."""

    def __init__(self, answer: Answering | None, secret: str) -> None:
        self.url = ""
        self.received: list[Received] = []
        self.accepted: list[Received] = []
        self._answer = answer
        self._webhook = Webhook(secret)

    async def receive(self, request: Request) -> Response:
        """Verify a request, and answer it."""
        body = await request.body()
        message = self._webhook.verify(body, dict(request.headers))
        got = Received(request.headers["webhook-id"], message["type"], message["data"], body)
        assert message.keys() == {"type", "timestamp", "data"}
        self.received.append(got)
        answer = (await self._answer(self, got) if self._answer is not None else None) or Response(status_code=204)
        if 200 <= answer.status_code < 300:
            self.accepted.append(got)
        return answer

    def kinds(self) -> list[tuple[str, str]]:
        """What was accepted: the ids of the calls, and the kinds."""
        return [(one.key, one.type) for one in self.accepted]

    async def has(self, count: int) -> None:
        """Wait until so many were accepted."""
        with anyio.fail_after(20):
            while len(self.accepted) < count:  # noqa: ASYNC110 - the requests are another task's
                await anyio.sleep(0.005)


@asynccontextmanager
async def receiver(answer: Answering | None = None, secret: str = SECRET) -> AsyncIterator[Receiver]:
    """Serve a receiver on a port of this machine."""
    made = Receiver(answer, secret)
    app = Starlette(routes=[Route("/hook/{rest:path}", made.receive, methods=["POST"])])
    async with serving(app) as url:
        made.url = f"{url}/hook/calls"
        yield made


def status(code: int, **headers: str) -> Response:
    """Make an answer."""
    body = None if code == 204 else json.dumps({"answer": code})
    return Response(body, code, {name.replace("_", "-"): value for name, value in headers.items()})
