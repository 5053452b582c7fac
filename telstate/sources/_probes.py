"""`GET /health` and `GET /ready`, of every service: whether the process lives, and whether new calls may come here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from telstate.routing._ports import EventSink

__all__ = ["probe_routes", "why_not_ready"]


@runtime_checkable
class _SaysWhy(Protocol):
    """A sink that says why it is not ready, as a dispatcher does."""

    @property
    def not_ready(self) -> str | None:
        """The reason, in words; None if it is ready."""


def probe_routes(not_ready: Callable[[], str | None], facts: Callable[[], dict[str, Any]] = dict) -> list[Route]:
    """Make the routes.

    Args:
        not_ready: returns why no new calls should come, in words; None if they may.
        facts: what `/health` says besides.
    """

    async def health(_: Request) -> Response:
        """The process lives. If it does not answer, restart it; no restart helps where only `/ready` fails."""
        return JSONResponse({"ok": True, **facts()})

    async def ready(_: Request) -> Response:
        reason = not_ready()
        return JSONResponse({"ok": True} if reason is None else {"ok": False, "error": reason}, 503 if reason else 200)

    return [Route("/ready", ready, methods=["GET"]), Route("/health", health, methods=["GET"])]


def why_not_ready(calls: EventSink) -> str | None:
    """Return why no new calls should come, in words; None if they may. A sink other than a dispatcher need only say if it is open."""
    if isinstance(calls, _SaysWhy):
        return calls.not_ready
    return None if calls.is_open else "events are not accepted: it has not started, or is stopping"
