"""Listening sockets for our HTTP servers; small answers are sent at once."""

from __future__ import annotations

import socket

__all__ = ["listen", "send_at_once"]


def listen(host: str, port: int, *, backlog: int) -> socket.socket:
    """Open a TCP socket that listens on an address; port 0 takes a free one.

    Raises:
        OSError: if the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return send_at_once(socket.create_server((host, port), family=family, backlog=backlog))


def send_at_once(listening: socket.socket) -> socket.socket:
    """Turn on TCP_NODELAY for a listening socket; accepted connections inherit it.

    asyncio does so only for sockets that it made itself. Without it, the body of an answer on a kept-alive connection waits 40 ms
    for the client's delayed acknowledgement of the head.
    """
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
