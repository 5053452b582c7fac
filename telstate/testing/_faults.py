"""What networks do to a request and its answer: `daily.faults.append(hang)` lets it befall the next one.

A fault is an ASGI app around the app: it may carry the request out or not, and answer or not. It needs no package of its own.
"""

from __future__ import annotations

import re
from collections import UserDict
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from functools import lru_cache
from typing import Any, Self

import anyio

__all__ = ["App", "Broken", "Fault", "Rules", "cut", "drip", "flood", "hang", "instead", "lost"]

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]

App = Callable[[_Message, _Receive, _Send], Awaitable[None]]
"""An ASGI app."""
Fault = Callable[[App, _Message, _Receive, _Send], Awaitable[None]]
"""Does something to a request that is for an app."""


class Broken(ConnectionAbortedError):
    """Raised to make the server drop a connection; a fault of the simulated network, no defect."""


class Rules(UserDict[str, Fault]):
    """What befalls every request to a path, or to all that fit a pattern (`*`, `?`, `[…]`).

    Args:
        paths: those that there are, with names in braces where they vary.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = sorted({re.sub(r"\{.*?\}", "{", path) for path in paths})
        super().__init__()

    def __ior__(self, others: Any) -> Self:  # type: ignore[override,misc]
        """As `update`, each checked."""
        self.update(others)
        return self

    def __setitem__(self, pattern: str, fault: Fault) -> None:
        """Say what befalls them.

        Raises:
            ValueError: if there are no such paths: a test with it would test nothing.
            TypeError: if it is no fault.
        """
        if not callable(fault):
            raise TypeError(f"{fault!r} is no fault: take one of telstate.testing._faults, as instead(500)")
        if not any(_meet(re.sub(r"\?|\[.*?\]", "*", pattern), path) for path in self._paths):
            raise ValueError(f"{pattern!r} fits no path, there are {', '.join(self._paths).replace('{', '*')}")
        super().__setitem__(pattern, fault)


@lru_cache(maxsize=4096)
def _meet(pattern: str, path: str) -> bool:
    """Whether a pattern, whose * is any text, can fit a path, whose { is any text without a slash."""
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
    """Another answer, of Daily's or of a gateway before it; the request is not carried out.

    Args:
        status: of HTTP.
        body: of the answer, as it is.
        headers: of the answer, with underscores for dashes.
    """

    async def fault(app: App, scope: _Message, receive: _Receive, send: _Send) -> None:  # noqa: ARG001
        told = {"content_length": str(len(body)), **headers}
        if status == 204:
            del told["content_length"]
        lines = [(name.replace("_", "-").encode(), value.encode()) for name, value in told.items()]
        await send({"type": "http.response.start", "status": status, "headers": lines})
        await send({"type": "http.response.body", "body": body})

    return fault


async def cut(app: App, scope: _Message, receive: _Receive, send: _Send) -> None:  # noqa: ARG001
    """The connection breaks in the middle of the answer, and the request is not carried out."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})
    await send({"type": "http.response.body", "body": b'[{"uuid": ', "more_body": True})
    raise Broken


async def lost(app: App, scope: _Message, receive: _Receive, send: _Send) -> None:
    """The request is carried out, but the answer breaks off."""

    async def nowhere(message: _Message) -> None:
        """Keep it."""

    await app(scope, receive, nowhere)
    await cut(app, scope, receive, send)


async def hang(app: App, scope: _Message, receive: _Receive, send: _Send) -> None:  # noqa: ARG001
    """No answer for as long as the caller is there; the request is not carried out."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def drip(app: App, scope: _Message, receive: _Receive, send: _Send) -> None:  # noqa: ARG001
    """An answer that does not end for four seconds, a blank at a time."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(200):
        await send({"type": "http.response.body", "body": b" ", "more_body": True})
        await anyio.sleep(0.02)


async def flood(app: App, scope: _Message, receive: _Receive, send: _Send) -> None:
    """An answer that never ends, as much at a time as goes through."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    async with anyio.create_task_group() as group:

        async def pour() -> None:
            while True:
                await send({"type": "http.response.body", "body": b" " * 1_000_000, "more_body": True})
                await anyio.lowlevel.checkpoint()

        group.start_soon(pour)
        await hang(app, scope, receive, send)
        group.cancel_scope.cancel()
