"""`make up TRACE=1`: takes the spans that the processes send (OTLP over HTTP), and draws one job's trace as a tree.

A worked example, and what the tests look at traces with. Wherever there is a collector already, set
`OTEL_EXPORTER_OTLP_ENDPOINT` to it instead.
"""

import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_SEND_AFTER_MS = "200"


@dataclass(frozen=True, slots=True)
class Span:
    """A span as it was sent; times are in nanoseconds."""

    id: str
    parent: str
    service: str
    name: str
    start: int
    end: int


class Traces:
    """The spans that have come, by the ids of their traces."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._spans: dict[str, list[Span]] = {}

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process has to be told to send its spans here."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": _SEND_AFTER_MS}

    def of(self, trace: str) -> list[Span]:
        return list(self._spans.get(trace, ()))

    @property
    def ids(self) -> set[str]:
        return set(self._spans)

    def take(self, content: bytes) -> None:
        """An `ExportTraceServiceRequest`, in protobuf."""
        for resource in ExportTraceServiceRequest.FromString(content).resource_spans:
            named = [each.value.string_value for each in resource.resource.attributes if each.key == "service.name"]
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                found = Span(
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    named[0] if named else "",
                    span.name,
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                )
                self._spans.setdefault(span.trace_id.hex(), []).append(found)

    def tree(self, trace: str) -> list[str]:
        """The trace's spans as lines, each under its parent: service, name, and milliseconds."""
        spans = sorted(self.of(trace), key=lambda span: span.start)
        known = {span.id for span in spans}
        first = spans[0].start if spans else 0

        def lines(parents: set[str], depth: int) -> Iterator[str]:
            for span in spans:
                if span.parent in parents or (depth == 0 and span.parent not in known):
                    begun, took = (span.start - first) / 1e6, (span.end - span.start) / 1e6
                    label = f"{'  ' * depth}{span.service.removeprefix('gristmill-')}: {span.name}"
                    yield f"{label:<60} {begun:9.1f} ms  +{took:.1f} ms"
                    yield from lines({span.id}, depth + 1)

        return list(lines(set(), 0))


def new_trace() -> tuple[str, str]:
    """A trace of our own: its id, and the `traceparent` that requests of it carry."""
    trace = secrets.token_hex(16)
    return trace, f"00-{trace}-{secrets.token_hex(8)}-01"


@contextmanager
def receiving() -> Iterator[Traces]:
    """Takes spans at a port of loopback, in a thread of its own, until the end of the `with`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            traces.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nobody wants to hear of each."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        traces = Traces(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
        thread.start()
        try:
            yield traces
        finally:
            server.shutdown()
            thread.join()
