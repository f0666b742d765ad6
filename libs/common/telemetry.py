"""Traces, where the standard variables of OpenTelemetry ask for them; else nothing here does or imports anything.

A job is one trace, from its POST to its outputs. Its `traceparent` (W3C Trace Context) goes along in calls between
services, and is kept with the job and with its run, so that whoever works on it later, after a crash too, goes on with
the same trace.

`OTEL_EXPORTER_OTLP_ENDPOINT` (or `…_TRACES_ENDPOINT`) turns it on; `OTEL_SDK_DISABLED=true` or
`OTEL_TRACES_EXPORTER=none` keeps it off. All else of the SDK's variables works as OpenTelemetry says.
"""

import os
from collections.abc import Mapping, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from structlog.typing import EventDict

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

TRACEPARENT = "traceparent"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_tracer: "Tracer | None" = None


def is_wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment asks for traces."""
    off = (
        environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get("OTEL_TRACES_EXPORTER") == "none"
    )
    return not off and any(environment.get(name) for name in _ENDPOINTS)


def start(service: str) -> None:
    """Send this process's spans, as those of `service`, to the endpoint; nothing when none is wanted."""
    global _tracer
    if not is_wanted():
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    own = {} if "OTEL_SERVICE_NAME" in os.environ else {SERVICE_NAME: f"gristmill-{service}"}
    provider = TracerProvider(resource=Resource.create(own))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = provider.get_tracer("gristmill")


def is_on() -> bool:
    return _tracer is not None


def span(name: str, *, kind: str = "INTERNAL", parent: str | None = None) -> "AbstractContextManager[Span | None]":
    """A piece of work, within the one around it, or within `parent`, the traceparent of another process."""
    if _tracer is None:
        return nullcontext()
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = TraceContextTextMapPropagator().extract({TRACEPARENT: parent}) if parent else None
    return _tracer.start_as_current_span(name, context, SpanKind[kind])


def server_span(scope: MutableMapping[str, Any]) -> "AbstractContextManager[Span | None]":
    """The response to a request; `answered` gives it its name."""
    parent = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"), None)
    return span(scope["method"], kind="SERVER", parent=parent)


def answered(span: "Span | None", method: str, route: str, status: int) -> None:
    if span is None:
        return
    span.update_name(f"{method} {route}".strip())
    span.set_attributes({"http.request.method": method, "http.route": route, "http.response.status_code": status})
    if status >= 500:
        from opentelemetry.trace import StatusCode

        span.set_status(StatusCode.ERROR)


def traceparent() -> str | None:
    """That of the current span; None where there is none."""
    if _tracer is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get(TRACEPARENT)


def headers() -> dict[str, str]:
    """The headers of a call to another service that carry the trace."""
    parent = traceparent()
    return {} if parent is None else {TRACEPARENT: parent}


def name_trace(_logger: object, _method: str, event: EventDict) -> EventDict:
    """A processor of structlog's: which trace an entry belongs to."""
    if (parent := traceparent()) is not None:
        event["trace"] = parent.split("-")[1]
    return event
