"""What our ASGI apps and our HTTP server tell each other about a request, and which requests come from this machine.

An app works in any server. One that knows these keys of the scope's `state` learns which requests are verified, and which answers go on for as
long as their peer reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv6Address, ip_address
from typing import Any
from urllib.parse import urlsplit

__all__ = [
    "PROXY_HEADERS",
    "begin_stream",
    "begins_streams",
    "confirm_sender",
    "confirms_sender",
    "header_of",
    "is_local",
    "is_loopback",
]

_CONFIRMS = "telstate.confirms_sender"
_STREAMS = "telstate.begins_streams"

BeginStream = Callable[[Callable[[], None]], Callable[[], None]]
"""Takes a function that ends the stream, and returns one that reports its progress."""

PROXY_HEADERS = ("forwarded", "x-forwarded", "via", "x-real-ip", "cf-", "true-client-ip")
"""Prefixes of headers that proxies add."""


def confirms_sender(confirm: Callable[[], None]) -> dict[str, Any]:
    """Return the `state` of ASGI scopes by which an app tells its server that a request of the connection is verified."""
    return {_CONFIRMS: confirm}


def confirm_sender(scope: Any) -> None:
    """Tell the server that this request is verified, if it wants to know."""
    confirm = scope.get("state", {}).get(_CONFIRMS)
    if confirm is not None:
        confirm()


def begins_streams(begin: BeginStream) -> dict[str, Any]:
    """Return the `state` of ASGI scopes by which an app tells its server that an answer is a stream, which ends when the server does."""
    return {_STREAMS: begin}


def begin_stream(scope: Any, end: Callable[[], None]) -> Callable[[], None]:
    """Tell the server that the answer to this request is a stream.

    Args:
        scope: of the request.
        end: ends the stream; called when the server stops.

    Returns:
        A function to call after each part that was sent: the deadline of an answer then begins anew.
    """
    begin: BeginStream | None = scope.get("state", {}).get(_STREAMS)
    return _do_nothing if begin is None else begin(end)


def header_of(scope: Any, name: bytes) -> str | None:
    """Return a header of a request; None if it has none of that name, or several."""
    found = [value for key, value in scope["headers"] if key == name]
    return found[0].decode("latin-1") if len(found) == 1 else None


def is_local(scope: Any, foreign: Iterable[str]) -> bool:
    """Return True if a request comes from this machine, is addressed to it by a loopback name, and has no header of a proxy.

    The name matters because a page of another site can have a name that leads here (DNS rebinding). A proxy on this machine that hides
    itself and the name is not detected.

    Args:
        scope: of the request.
        foreign: how the names of headers begin that such a request does not have.
    """
    prefixes = tuple(prefix.encode() for prefix in foreign)
    client = scope.get("client")
    if client is None or any(name.startswith(prefixes) for name, _ in scope["headers"]):
        return False
    return is_loopback(client[0]) and is_loopback(_host_of(scope))


def is_loopback(host: str) -> bool:
    """Return True for a name or an address of this machine that no other machine can reach."""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost"
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address.is_loopback or (mapped is not None and mapped.is_loopback)


def _host_of(scope: Any) -> str:
    """Return the name that a request is addressed to; empty if it is not clear."""
    names = [value for key, value in scope["headers"] if key == b"host"]
    if not names:  # HTTP/1.0
        server = scope.get("server")
        return server[0] if server else ""
    try:
        return (urlsplit(f"//{names[0].decode('latin-1')}").hostname or "") if len(names) == 1 else ""
    except ValueError:
        return ""


def _do_nothing() -> None:
    """Report progress to nobody."""
