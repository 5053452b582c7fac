"""Ports of this machine that nobody uses now, and that nobody gets until a test listens there.

They are below those that systems give to connections: else a connection of another test could take one that is chosen, or whose server is
down for a moment, and a client that tries again and again could even connect to itself.

A port belongs to the process that has chosen it, until that ends: a test of the wheel runs tests in processes of its own, whose workers have
the names of these.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["free_port", "free_ports"]

_FIRST, _END = 20_000, 32_000
_WORKERS = 16
"""Each worker of pytest-xdist has ports of its own."""
_owned = (Path(tempfile.gettempdir()) / f"telstate-test-ports-{os.getuid()}").open("ab")
"""Whoever has chosen a port has a lock on the byte at that place."""


def _candidates() -> Iterator[int]:
    """The ports of this process, each once before any comes again."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", f"gw{_WORKERS - 1}").removeprefix("gw")) % _WORKERS
    ports = list(range(_FIRST + worker, _END, _WORKERS))
    random.Random(os.getpid()).shuffle(ports)
    while True:
        yield from ports


_ports = _candidates()


def free_ports(count: int) -> list[int]:
    """So many loopback ports, for TCP."""
    found = list[int]()
    while len(found) < count:
        port = next(_ports)
        if _is_free(port):
            found.append(port)
    return found


def free_port() -> int:
    """One of them."""
    return free_ports(1)[0]


def _is_free(port: int) -> bool:
    try:
        fcntl.lockf(_owned, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False
