"""POST requests to one URL whose host somebody else chose: only to public addresses, and bounded in time and size.

The address is checked when the connection is made, and the connection goes to the address that was checked. So a name that points to
a private address later (DNS rebinding) gains nothing. Redirects are not followed, and proxies of the environment are not used.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from time import time
from typing import NamedTuple

import anyio
import anyio.to_thread
import httpcore
import httpx

__all__ = ["NotPosted", "PostAnswer", "Poster", "is_public"]

_LONGEST_BODY, _LONGEST_READ = 64 * 1024, 1.0
"""Bytes and seconds for which the body of an answer is read, so that its connection can be used again. The rest is not read."""
_LOOKUPS = 2
"""Threads that may wait for the names of one receiver: a name server that hangs must not take those of others."""
_NAT64 = IPv6Network("64:ff9b::/96")
"""Where a network has only IPv6: the last four bytes are the IPv4 address that is meant."""
_TUNNELS = (IPv6Network("2002::/16"), IPv6Network("2001::/32"))
"""6to4 and Teredo, which lead to an IPv4 address too, and are out of use."""


class NotPosted(Exception):
    """No answer came; the text says why."""


class PostAnswer(NamedTuple):
    """What a receiver answered."""

    status: int
    retry_after: float | None
    """The seconds that it asks to wait; None if it does not."""


class Poster:
    """Sends to one URL.

    Args:
        url: http or https.
        any_address: connect to private, loopback and link-local addresses too.
        timeout: seconds for everything: the look-up, the connection, the request and the status of the answer.
        connections: how many may be open at once.
        tls: for https; from `_tls.py`.
    """

    def __init__(
        self, url: str, *, any_address: bool, timeout: float, connections: int, tls: ssl.SSLContext | None
    ) -> None:
        parsed = httpx.URL(url)
        self._url = httpcore.URL(
            scheme=parsed.raw_scheme, host=parsed.raw_host, port=parsed.port, target=parsed.raw_path
        )
        self._host = parsed.netloc
        self._timeout = timeout
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=20.0,
            network_backend=_CheckingBackend(any_address=any_address),
        )

    async def post(self, body: bytes, headers: Mapping[str, str]) -> PostAnswer:
        """Send a body; return what was answered.

        Raises:
            NotPosted: if no answer came in time.
        """
        return await self._ask("POST", body, {**headers, "content-length": str(len(body))})

    async def reach(self) -> PostAnswer:
        """Ask without sending anything (HEAD); return what was answered. It shows that somebody is there, not that a POST is accepted.

        Raises:
            NotPosted: if no answer came in time.
        """
        return await self._ask("HEAD", b"", {})

    async def _ask(self, method: str, body: bytes, headers: Mapping[str, str]) -> PostAnswer:
        given = [(b"host", self._host), *((name.encode(), value.encode()) for name, value in headers.items())]
        answer: PostAnswer | None = None
        problem = f"no answer within {self._timeout:g} seconds"
        try:
            with anyio.move_on_after(self._timeout):
                async with self._pool.stream(method, self._url, headers=given, content=body) as response:
                    answer = PostAnswer(response.status, _retry_after(response.headers))
                    await _read_some(response)
        except httpcore.ProtocolError as error:  # its text repeats what came, perhaps our request with the records
            problem = f"{type(error).__name__}: the connection was closed before an answer, or that is not HTTP/1.1"
        except (httpcore.NetworkError, httpcore.TimeoutException, OSError) as error:
            problem = f"{type(error).__name__}: {error}"
        if answer is None:  # the status decides, whatever becomes of the body
            raise NotPosted(problem)
        return answer

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pool.aclose()


class _CheckingBackend(httpcore.AsyncNetworkBackend):
    """Makes the connections of httpcore, to addresses that were checked."""

    def __init__(self, *, any_address: bool) -> None:
        self._any_address = any_address
        self._backend = httpcore.AnyIOBackend()
        self._lookups = anyio.CapacityLimiter(_LOOKUPS)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Look a name up, and connect to the first of its addresses that may be used and answers."""
        found = await self._look_up(host, port)
        usable = [one for one in found if self._any_address or is_public(one)]
        if not usable:
            raise httpcore.ConnectError(
                f"{host} is at {', '.join(found)}, which is not a public address: allow the host by name if that is meant"
            )
        for place, address in enumerate(usable, 1):
            try:
                return await self._backend.connect_tcp(address, port, timeout, local_address, socket_options)
            except httpcore.ConnectError:
                if place == len(usable):
                    raise
        raise AssertionError  # unreachable: the last one returns or raises

    async def _look_up(self, host: str, port: int) -> list[str]:
        def look_up() -> list[str]:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            return list(dict.fromkeys(str(address[0]) for *_, address in found))

        try:
            return await anyio.to_thread.run_sync(look_up, abandon_on_cancel=True, limiter=self._lookups)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"no address of {host} is known: {error}") from None


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the public internet, also where it is inside another one."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv6Address):
        if ip.is_site_local or any(ip in tunnel for tunnel in _TUNNELS):
            return False
        if ip.ipv4_mapped is not None or ip in _NAT64:
            ip = IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


async def _read_some(response: httpcore.Response) -> None:
    size = 0
    with anyio.move_on_after(_LONGEST_READ):
        async for chunk in response.aiter_stream():
            size += len(chunk)
            if size > _LONGEST_BODY:
                return


def _retry_after(headers: Iterable[tuple[bytes, bytes]]) -> float | None:
    """Read `Retry-After`: seconds, or a date."""
    text = next((value.decode("latin-1").strip() for name, value in headers if name.lower() == b"retry-after"), "")
    if text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time()) if text else None
    except (ValueError, OverflowError):
        return None
