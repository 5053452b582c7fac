"""Requests as Daily sends them, read in one step; every other request is read by h11.

A plain request is one POST with a short head and a whole body, and nothing else: no chunks, no upgrade, no second request behind it,
no header twice, no byte that is not printable ASCII. Where anything is different, `plain_request` returns None, and h11 judges. So
what is refused, and how, is decided in one place only. Nothing here reads the network.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["PlainRequest", "plain_request"]

_NAME = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_VALUE = rb"[\t\x20-\x7e]*+"
_HEAD = re.compile(rb"POST (/[A-Za-z0-9/_.~-]*+) HTTP/1\.1\r\n((?:" + _NAME + rb":" + _VALUE + rb"\r\n)++)\r\n")
"""Possessive throughout: it looks at each byte once, whatever is sent."""
_LONGEST_LENGTH = 7
"""Digits of a length that is read; what is longer does not come in one read anyway."""
_OTHERWISE = ("transfer-encoding", "expect", "upgrade", "connection", "te", "trailer")
"""Headers that change how a request is read or answered."""


class PlainRequest(NamedTuple):
    """A whole request."""

    path: str
    headers: dict[str, str]
    """By their names in lower case."""
    body: bytes


def plain_request(data: bytes) -> PlainRequest | None:
    """Return the request that these bytes are; None if they are not exactly one plain request."""
    head = _HEAD.match(data)
    if head is None:
        return None
    lines = head[2].decode("ascii").split("\r\n")
    lines.pop()  # behind the last line break
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip(" \t")
    length = headers.get("content-length", "")
    if len(headers) != len(lines) or "host" not in headers or not _is_whole(length, len(data) - head.end()):
        return None
    if any(name in headers for name in _OTHERWISE) and not _is_kept_alive(headers):
        return None
    return PlainRequest(head[1].decode("ascii"), headers, data[head.end() :])


def _is_whole(length: str, size: int) -> bool:
    return length.isdecimal() and len(length) <= _LONGEST_LENGTH and int(length) == size


def _is_kept_alive(headers: dict[str, str]) -> bool:
    """Return True if all that is special is `Connection: keep-alive`, which says nothing in HTTP/1.1."""
    return headers.get("connection", "").lower() == "keep-alive" and not any(
        name in headers for name in _OTHERWISE if name != "connection"
    )
