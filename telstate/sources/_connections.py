"""Which connection gives way when there are as many as there may be.

Whoever has a secret proves it with their first signed request, which takes milliseconds. So a connection that has not proved anything
gives way first: one of the address with the most of them, the oldest. A stranger displaces themself, from one address or from many, and
behind a proxy, where all come from one address, the one that has proved nothing for longest. A new connection is never refused for its
address: a burst of Daily's, from one address, is as long as the limit.

If all have proved that they know a secret, one that waits for a request gives way, the one that waits for longest.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, Protocol

__all__ = ["Connection", "ConnectionLimit", "confirm_sender", "confirms_sender", "peer_of"]

_CONFIRMS = "telstate.confirms_sender"


class Connection(Protocol):
    """What the limit needs to know of a connection."""

    @property
    def is_answering(self) -> bool:
        """True from when a request is complete until its answer is sent."""
        ...

    def give_way(self) -> None:
        """Close at once."""
        ...


class ConnectionLimit:
    """The open connections of one server.

    Args:
        limit: how many there may be.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._unproved: dict[str, dict[Connection, None]] = {}
        """By address; each the oldest first."""
        self._proved: dict[Connection, None] = {}
        """The one that waits for longest first."""
        self._peers: dict[Connection, str] = {}

    def __len__(self) -> int:
        return len(self._peers)

    def add(self, connection: Connection, peer: str) -> bool:
        """Add a new connection; return True if another one gave way to it."""
        displaced = self._displaced() if len(self._peers) >= self._limit - 1 else None
        if displaced is not None:
            self.remove(displaced)
            displaced.give_way()
        self._peers[connection] = peer
        self._unproved.setdefault(peer, {})[connection] = None
        return displaced is not None

    def prove(self, connection: Connection) -> None:
        """Note that a connection has sent a verified request."""
        if connection in self._proved or connection not in self._peers:
            return
        self._forget_unproved(connection)
        self._proved[connection] = None

    def note_answer(self, connection: Connection) -> None:
        """Note that a connection was answered, and waits for its next request."""
        if connection in self._proved:
            del self._proved[connection]
            self._proved[connection] = None

    def remove(self, connection: Connection) -> None:
        """Forget a connection; it may be forgotten already."""
        if connection in self._peers:
            self._forget_unproved(connection)
            self._proved.pop(connection, None)
            del self._peers[connection]

    def _displaced(self) -> Connection | None:
        if self._unproved:
            most = max(self._unproved, key=lambda peer: len(self._unproved[peer]))
            return next(iter(self._unproved[most]))
        return next((connection for connection in self._proved if not connection.is_answering), None)

    def _forget_unproved(self, connection: Connection) -> None:
        peer = self._peers[connection]
        if (same := self._unproved.get(peer)) is not None and connection in same:
            del same[connection]
            if not same:
                del self._unproved[peer]


def peer_of(host: str) -> str:
    """Return what counts as one address: an IPv4 address, or an IPv6 network of 64 bits, which is what one machine gets."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or ip_network((address, 64), strict=False))
    return str(address)


def confirms_sender(confirm: Callable[[], None]) -> dict[str, Any]:
    """Return the `state` of ASGI scopes by which an app tells its server that a request of the connection is verified."""
    return {_CONFIRMS: confirm}


def confirm_sender(scope: Any) -> None:
    """Tell the server that this request is verified, if it wants to know."""
    confirm = scope.get("state", {}).get(_CONFIRMS)
    if confirm is not None:
        confirm()
