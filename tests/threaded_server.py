"""A plain HTTP server in threads of its own, for what a test wants answered byte by byte."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

__all__ = ["ThreadedServer"]


class ThreadedServer:
    """Listens on a free port of this machine while its block runs.

    Args:
        handler: answers the requests. It logs nothing.
        host: the address to listen on.

    Attributes:
        port: its port.
        url: its address.
    """

    def __init__(self, handler: type[BaseHTTPRequestHandler], host: str = "127.0.0.1") -> None:
        quiet = type("Quiet", (handler,), {"log_message": lambda *_: None})
        self._server = ThreadingHTTPServer((host, 0), quiet)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.port: int = self._server.server_port
        self.url = f"http://{host}:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
