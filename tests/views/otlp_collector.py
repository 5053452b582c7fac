"""A collector for traces: it takes OTLP over HTTP, as any backend does, and keeps the spans as the wire had them."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from tests.threaded_server import ThreadedServer

__all__ = ["ReceivedSpan", "TraceCollector", "collecting"]


class ReceivedSpan(NamedTuple):
    """A span as it was received."""

    name: str
    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    """Empty for a root."""
    begin: float
    """Unix seconds."""
    end: float
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    links: list[bytes]
    """The span ids."""
    is_error: bool
    message: str
    """Of its status."""


class TraceCollector:
    """What was received."""

    def __init__(self, provider: TracerProvider) -> None:
        self.provider = provider
        self.bodies: list[bytes] = []
        """As they came, decompressed."""

    def spans(self) -> list[ReceivedSpan]:
        """Flush, and return every span, in order of their ends."""
        self.provider.force_flush()
        found = []
        for body in self.bodies:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    found += [_read(span) for span in scope.spans]
        return sorted(found, key=lambda span: span.end)

    def one(self, name: str) -> ReceivedSpan:
        """Return the only span of a name."""
        (found,) = [span for span in self.spans() if span.name == name]
        return found


@contextmanager
def collecting() -> Iterator[TraceCollector]:
    """Run a collector, and a tracer provider that exports to it."""
    provider = TracerProvider()
    collector = TraceCollector(provider)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert self.path == "/v1/traces"
            collector.bodies.append(gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

    with ThreadedServer(Handler) as server:
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{server.url}/v1/traces")))
        try:
            yield collector
        finally:
            provider.shutdown()


def _read(span: Any) -> ReceivedSpan:
    return ReceivedSpan(
        span.name,
        span.trace_id,
        span.span_id,
        span.parent_span_id,
        span.start_time_unix_nano / 1e9,
        span.end_time_unix_nano / 1e9,
        _attributes(span.attributes),
        [(event.name, _attributes(event.attributes)) for event in span.events],
        [link.span_id for link in span.links],
        span.status.code == 2,
        span.status.message,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_value(one) for one in value.array_value.values] if kind == "array_value" else getattr(value, kind)
