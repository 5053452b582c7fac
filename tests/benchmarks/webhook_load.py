"""`python -m tests.benchmarks.webhook_load PORT --connections N --seconds S`: sends signed webhooks, and prints a JSON object.

A closed loop: each of N kept-alive connections sends its next webhook when the last one is answered. The requests are made before
it begins, and one thread waits with epoll for all connections, so that it takes a tenth of what a service takes for a request.
"""

from __future__ import annotations

import argparse
import gc
import json
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from telstate.sources import Secret, sign
from telstate.testing import simulate

__all__ = ["SECRET", "Load", "requests"]

SECRET = "d2hhdCBEYWlseSBzaG93cyBhcyBobWFj"
_WARM_UP = 0.5
"""Seconds before it is measured."""
_SPAN = 600.0
"""Seconds over which the calls begin."""
_MOST = 12_000
"""Requests per second for which there is enough to send."""


class Load(NamedTuple):
    """What the sender saw."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    busy: float
    """The part of a core that the sender itself took."""
    sent: int
    """Requests in all, with those before it was measured."""

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


def requests(seed: int, count: int) -> list[bytes]:
    """Return signed webhooks of simulated calls as whole requests, with the headers that Daily sends."""
    now = time.time()
    calls = simulate(seed, calls=count // 3, start=now - _SPAN, span=_SPAN, dialects=["webhook"])
    bodies = (sent.line().rstrip() for sent in calls if "type" in sent.payload)  # the others are signed in another way
    secret, stamp = Secret(SECRET), f"{now:.3f}"
    return [_request(body, secret, stamp) for body in islice(bodies, count)]


def _request(body: bytes, secret: Secret, stamp: str) -> bytes:
    headers = {
        "Host": "calls.example",
        "User-Agent": "node-fetch/1.0 (+https://github.com/bitinn/node-fetch)",
        "Accept": "*/*",
        "Accept-Encoding": "gzip,deflate",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        **sign(secret, stamp, body),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /webhooks HTTP/1.1\r\n{lines}\r\n".encode() + body


class _Connection:
    """A connection, and when it sent the request that is not answered yet."""

    __slots__ = ("read", "sent", "sock")

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent = 0.0
        self.read = b""

    def send(self, request: bytes) -> None:
        self.sent = time.perf_counter()
        self.sock.sendall(request)

    def is_answered(self) -> bool:
        """Read; return True if the answer is complete.

        Raises:
            RuntimeError: if it is another one than 200.
        """
        self.read += self.sock.recv(4096)
        head, found, body = self.read.partition(b"\r\n\r\n")
        if not found:
            if not self.read:
                raise RuntimeError("the service closed a connection")
            return False
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the service answered {self.read[:500]!r}")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if len(body) < int(length):
            return False
        self.read = b""
        return True


def load(port: int, seed: int, connections: int, seconds: float) -> Load:
    """Send for so many seconds. Another seed makes other calls."""
    rest = iter(requests(seed, int((seconds + _WARM_UP) * _MOST)))
    opened = [_Connection(port) for _ in range(connections)]
    waiting = selectors.EpollSelector()
    for connection in opened:
        waiting.register(connection.sock, selectors.EVENT_READ, connection)
    gc.collect()
    gc.freeze()
    for connection in opened:
        connection.send(next(rest))
    before = _answer(waiting, rest, until=time.perf_counter() + _WARM_UP)
    cpu, started = time.process_time(), time.perf_counter()
    times = _answer(waiting, rest, until=started + seconds)
    spent, busy = time.perf_counter() - started, time.process_time() - cpu
    for connection in opened:
        connection.sock.close()
    times.sort()
    p50, p99 = (1000 * times[int(len(times) * part)] for part in (0.5, 0.99))
    return Load(len(times), spent, p50, p99, busy / spent, len(before) + len(times))


def _answer(waiting: selectors.EpollSelector, rest: Iterator[bytes], until: float) -> list[float]:
    """Send the next request on each connection that is answered; return the seconds that each answer took."""
    times: list[float] = []
    now = time.perf_counter()
    while now < until:
        for key, _ in waiting.select(1.0):
            connection: _Connection = key.data
            if connection.is_answered():
                now = time.perf_counter()
                times.append(now - connection.sent)
                connection.send(next(rest))
        now = time.perf_counter()
    return times


def main() -> None:
    """Send and report."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.webhook_load", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    sys.stdout.write(
        json.dumps(load(options.port, options.seed, options.connections, options.seconds)._asdict()) + "\n"
    )


if __name__ == "__main__":
    main()
