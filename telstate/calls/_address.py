"""SIP addresses, as people mean them."""

from __future__ import annotations

from functools import lru_cache

__all__ = ["plain_uri"]


@lru_cache(maxsize=1024)  # an endpoint's is asked for with each step of the calls on it
def plain_uri(uri: str) -> str:
    """Strip a SIP URI for comparing: no scheme, no query, the host in lower case (RFC 3261, 19.1.4)."""
    scheme, colon, rest = uri.partition(":")
    if colon and scheme.lower() in ("sip", "sips"):
        uri = rest
    user, at, host = uri.partition("?")[0].rpartition("@")
    return f"{user}{at}{host.lower()}"
