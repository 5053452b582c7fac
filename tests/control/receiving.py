"""A receiver of webhooks that keeps what it receives, and answers as a test wants."""

from __future__ import annotations

import json
import threading
import time
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

__all__ = ["SECRET", "Receiver"]

SECRET = b64encode(b"a secret of ours").decode()


class Receiver:
    """Listens on a port of this machine, in its own thread.

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

            def log_message(self, *arguments: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_port}/receiver"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
