"""What a client of httpx checks certificates with. It reads all root certificates, which takes 20 ms or more: an event loop must not wait for that."""

from __future__ import annotations

import ssl

import anyio.to_thread

__all__ = ["NO_TLS", "is_secure", "tls_context", "tls_for"]

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For http. It trusts nobody."""


def tls_context() -> ssl.SSLContext:
    """Return what checks certificates. Making one takes a while: not in an event loop."""
    import httpx  # noqa: PLC0415 - an extra

    return httpx.create_ssl_context()


async def tls_for(url: str) -> ssl.SSLContext:
    """Return what a client of one URL needs. It is made in a thread."""
    return await anyio.to_thread.run_sync(tls_context) if is_secure(url) else NO_TLS


def is_secure(url: str) -> bool:
    """Return whether a URL is one of https."""
    return url[:6].lower() == "https:"
