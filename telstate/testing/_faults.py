"""Network faults for `FakeDaily`: `daily.faults.append(faults.hang)` applies one to the next request.

A fault is an ASGI app around the fake's app: it may carry the request out or not, and answer or not.
"""

from __future__ import annotations

import re
from collections import UserDict
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from functools import lru_cache
from random import Random
from typing import Any, Self

import anyio

__all__ = [
    "App",
    "ConnectionBroken",
    "Fault",
    "FaultRules",
    "cut",
    "drip",
    "flood",
    "hang",
    "instead",
    "lost",
    "sometimes",
]

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]

App = Callable[[_Message, _Receive, _Send], Awaitable[None]]
"""An ASGI app."""
Fault = Callable[[App, _Message, _Receive, _Send], Awaitable[None]]
"""Gets the app, and the scope, receive and send of a request."""


class ConnectionBroken(ConnectionAbortedError):
    """Raised to make the server drop a connection: a simulated fault, not a bug in the fake."""


class FaultRules(UserDict[str, Fault]):
    """Faults by path, or by a pattern for paths (`*`, `?`, `[…]`); they apply to every matching request.

    Args:
        paths: the paths of the fake, with names in braces where they vary.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = sorted({re.sub(r"\{.*?\}", "{", path) for path in paths})
        super().__init__()

    def __ior__(self, others: Any) -> Self:  # type: ignore[override,misc]
        """Check each, as `update` does."""
        self.update(others)
        return self

    def __setitem__(self, pattern: str, fault: Fault) -> None:
        """Set the fault of a path.

        Raises:
            ValueError: if the pattern matches no path: a test with it would test nothing.
            TypeError: if it is not a fault.
        """
        if not callable(fault):
            raise TypeError(f"{fault!r} is not a fault: use one of telstate.testing.faults, such as instead(500)")
        if not any(_meet(re.sub(r"\?|\[.*?\]", "*", pattern), path) for path in self._paths):
            raise ValueError(f"{pattern!r} matches no path; the paths are {', '.join(self._paths).replace('{', '*')}")
        super().__setitem__(pattern, fault)


@lru_cache(maxsize=4096)
def _meet(pattern: str, path: str) -> bool:
    """Return True if a pattern, whose * is any text, can match a path, whose { is any text without a slash."""
    if not pattern:
        return path in ("", "{")
    if not path:
        return set(pattern) == {"*"}
    if pattern[0] == "*":
        return _meet(pattern[1:], path) or _meet(pattern, path[1:])
    if path[0] == "{":
        return _meet(pattern, path[1:]) or (pattern[0] != "/" and _meet(pattern[1:], path))
    return pattern[0] == path[0] and _meet(pattern[1:], path[1:])


def instead(status: int, body: bytes = b"", **headers: str) -> Fault:
    """Answer with this instead, as Daily or a gateway before it might; the request is not carried out.

    Args:
        status: the HTTP status.
        body: the body.
        headers: the headers, with underscores for dashes.
    """

    async def fault(app: App, scope: _Message, receive: _Receive, send: _Send) -> None:  # noqa: ARG001
        all_headers = {"content_length": str(len(body)), **headers}
        if status == 204:
            del all_headers["content_length"]
        lines = [(name.replace("_", "-").encode(), value.encode()) for name, value in all_headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": lines})
        await send({"type": "http.response.body", "body": body})

    return fault


async def cut(app: App, scope: _Message, receive: _Receive, send: _Send) -> None:  # noqa: ARG001
    """Break the connection in the middle of the answer; the request is not carried out."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})
    await send({"type": "http.response.body", "body": b'[{"uuid": ', "more_body": True})
    raise ConnectionBroken


async def lost(app: App, scope: _Message, receive: _Receive, send: _Send) -> None:
    """Carry the request out, but break the connection in the middle of the answer."""

    async def discard(message: _Message) -> None:
        """Send nothing."""

    await app(scope, receive, discard)
    await cut(app, scope, receive, send)


async def hang(app: App, scope: _Message, receive: _Receive, send: _Send) -> None:  # noqa: ARG001
    """Do not answer until the client disconnects; the request is not carried out."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def drip(app: App, scope: _Message, receive: _Receive, send: _Send) -> None:  # noqa: ARG001
    """Send an answer one space at a time, for four seconds."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(200):
        await send({"type": "http.response.body", "body": b" ", "more_body": True})
        await anyio.sleep(0.02)


async def flood(app: App, scope: _Message, receive: _Receive, send: _Send) -> None:
    """Send an answer that never ends, as fast as possible."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    async with anyio.create_task_group() as group:

        async def pour() -> None:
            while True:
                await send({"type": "http.response.body", "body": b" " * 1_000_000, "more_body": True})
                await anyio.lowlevel.checkpoint()

        group.start_soon(pour)
        await hang(app, scope, receive, send)
        group.cancel_scope.cancel()


def sometimes(shares: Sequence[tuple[float, Fault]], *, seed: int = 0) -> Fault:
    """Apply a fault to a share of the requests: `daily.rules["*"] = faults.sometimes([(0.05, faults.lost)])`.

    Args:
        shares: each fault with its share, from 0 to 1; together at most 1.
        seed: of the random numbers. Requests that come at once may meet them in another order.

    Raises:
        ValueError: if a share is below 0, or they are more than 1 together.
    """
    rng = Random(seed)  # noqa: S311 - a simulation
    if any(share < 0 for share, _ in shares) or sum(share for share, _ in shares) > 1:
        raise ValueError(f"shares are from 0 to 1, and at most 1 together, not {[share for share, _ in shares]}")

    async def fault(app: App, scope: _Message, receive: _Receive, send: _Send) -> None:
        drawn = rng.random()
        for share, one in shares:
            if drawn < share:
                return await one(app, scope, receive, send)
            drawn -= share
        return await app(scope, receive, send)

    return fault
