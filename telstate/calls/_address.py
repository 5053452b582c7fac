"""Comparison of SIP addresses."""

from __future__ import annotations

from functools import lru_cache

__all__ = ["plain_uri"]


@lru_cache(maxsize=1024)  # every event of a dial-in asks for its endpoint
def plain_uri(uri: str) -> str:
    """Reduce a SIP URI to what is compared: no scheme, no query, the host in lower case (RFC 3261, 19.1.4)."""
    scheme, colon, rest = uri.partition(":")
    if colon and scheme.lower() in ("sip", "sips"):
        uri = rest
    user, at, host = uri.partition("?")[0].rpartition("@")
    return f"{user}{at}{host.lower()}"
