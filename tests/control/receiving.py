"""A receiver of webhooks that keeps what it receives, and answers as a test wants; and a fake of Daily that sends them."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from tests.threaded_server import ThreadedServer

if TYPE_CHECKING:
    from telstate.testing import FakeDaily

__all__ = ["SECRET", "Receiver", "daily", "has_come", "receiver"]

SECRET = b64encode(b"a secret of ours").decode()


class Receiver(ThreadedServer):
    """Listens on a port of this machine, in threads of its own.

    Attributes:
        answers: the status of each answer.
        says: the body of each answer.
        delay: seconds before each answer.
        received: the bodies.
        headers: the headers of each, in lower case.
        raw: the bodies as they came.
    """

    def __init__(self) -> None:
        receiver = self
        self.answers = 200
        self.says = b""
        self.delay = 0.0
        self.received: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.raw: list[bytes] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.headers.append({name.lower(): value for name, value in self.headers.items()})
                receiver.raw.append(body)
                receiver.received.append(json.loads(body))
                time.sleep(receiver.delay)
                self.send_response(receiver.answers)
                self.send_header("Content-Length", str(len(receiver.says)))
                self.end_headers()
                self.wfile.write(receiver.says)

        super().__init__(Handler)
        self.url += "/receiver"


async def has_come(daily: FakeDaily, before: int, more: int = 1) -> bool:
    """Whether Daily has more requests than before. Else a client with a short timeout found no time to send them: the machine stood still."""
    with anyio.move_on_after(1):
        while len(daily.seen) < before + more:  # noqa: ASYNC110 - it lives in another thread
            await anyio.sleep(0.005)
        return True
    return False


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """One that listens."""
    with Receiver() as listening:
        yield listening


@pytest.fixture
def daily() -> Iterator[FakeDaily]:
    """A fake of Daily over HTTP."""
    from telstate.testing import FakeDaily  # most tests need none, and it takes a while to import

    with FakeDaily() as fake:
        yield fake
