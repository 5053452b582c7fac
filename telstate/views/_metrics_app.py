"""`GET /metrics`: the metrics of a dispatcher, worker or publisher as an ASGI app.

calls = Dispatcher(router, journal=…)
app.mount("/", metrics_app(calls))
"""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from telstate.routing._ports import Measured
from telstate.views._metrics import PrometheusMetrics

__all__ = ["metrics_app"]


def metrics_app(calls: Measured, *, webhooks: Any = None) -> Starlette:
    """Make an ASGI app that serves `GET /metrics`: the metrics of a dispatcher, worker or publisher, and those of the process.

    It asks for no secret, because no metric has personal data. Do not let a proxy show it to everybody all the same: it says how many calls
    there are.

    Args:
        calls: as for `PrometheusMetrics`. Make the app before its `async with`.
        webhooks: as for `PrometheusMetrics`.

    Raises:
        DefinitionError: inside the `async with` of `calls`.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(PrometheusMetrics(calls, webhooks=webhooks))
    ProcessCollector(registry=registry)

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": content_type, "Cache-Control": "no-store"})

    return Starlette(routes=[Route("/metrics", metrics, methods=["GET"])])
