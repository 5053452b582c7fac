"""Which connection gives way when there are as many as there may be.

Whoever has a secret proves it with their first signed request, which takes milliseconds. So a connection that has not proved anything
gives way first: one of the address with the most of them, the oldest. A stranger displaces themself, from one address or from many, and
behind a proxy, where all come from one address, the one that has proved nothing for longest. Nothing has to be known about proxies, and a
burst of Daily's, from one address, is as long as the limit.

A new connection is refused only if it would displace one of its own address that is not three seconds old: an address that floods the
server is refused at accept, which costs little, and the others are served meanwhile.

If all have proved that they know a secret, one that waits for a request gives way, the one that waits for longest.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network
from time import monotonic
from typing import Protocol

__all__ = ["Connection", "ConnectionLimit", "peer_of"]

_FLOOD_AGE = 3.0
"""Seconds. An address floods the server if its connections would displace each other at a younger age."""


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
        clock: returns seconds that never fall.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._unproved: dict[str, dict[Connection, float]] = {}
        """By address; each the oldest first, with the time it was opened."""
        self._proved: dict[Connection, None] = {}
        """The one that waits for longest first."""
        self._peers: dict[Connection, str] = {}

    def __len__(self) -> int:
        return len(self._peers)

    @property
    def is_full(self) -> bool:
        """True if a new connection displaces another one."""
        return len(self._peers) >= self._limit

    def admit(self, connection: Connection, peer: str) -> bool:
        """Add a new connection, to which another one may give way. Return False if it is refused."""
        if self.is_full and (displaced := self._displaced()) is not None:
            if self._peers[displaced] == peer and self._is_new(displaced):
                return False
            self.remove(displaced)
            displaced.give_way()
        self._peers[connection] = peer
        self._unproved.setdefault(peer, {})[connection] = self._clock()
        return True

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

    def _is_new(self, connection: Connection) -> bool:
        opened = self._unproved.get(self._peers[connection], {}).get(connection)
        return opened is not None and self._clock() - opened < _FLOOD_AGE

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
