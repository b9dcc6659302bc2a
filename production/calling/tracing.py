"""Traces: where one call spends its time, from the client to the database, by OpenTelemetry.

Off unless OTEL_EXPORTER_OTLP_ENDPOINT names a collector. OTEL_EXPORTER_OTLP_PROTOCOL is grpc, the
default, or http/protobuf. OpenTelemetry has more settings:
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/. Names follow its
semantic conventions for RPC and for databases.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
"""The first that is set counts."""
DEFAULTS = {
    # Keep one trace in ten, whole; if the caller has already decided, follow its decision.
    "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
    "OTEL_TRACES_SAMPLER_ARG": "0.1",
    # Seconds for an export with its retries, which also delay the exit if no collector listens.
    "OTEL_EXPORTER_OTLP_TIMEOUT": "2",
}
tracer = trace.get_tracer("production")
propagator = TraceContextTextMapPropagator()


def set_up(service: str) -> Callable[[], None]:
    """Sends spans to the collector of the environment, if it names one.

    Returns a function that sends the remaining spans and shuts down. Raises ValueError if a
    variable has a value that is not supported.
    """
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return lambda: None
    # Imported here because they are slow to import and rarely needed.
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    for name, value in {"OTEL_SERVICE_NAME": service, **DEFAULTS}.items():
        os.environ.setdefault(name, value)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_exporter()))
    trace.set_tracer_provider(provider)
    return provider.shutdown


def _exporter() -> "SpanExporter":
    name = next(filter(os.environ.get, PROTOCOLS), "")
    match os.environ.get(name, "grpc"):
        case "grpc":
            from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as by_grpc

            return by_grpc.OTLPSpanExporter()
        case "http/protobuf":
            from opentelemetry.exporter.otlp.proto.http import trace_exporter as by_http

            return by_http.OTLPSpanExporter()
        case other:
            raise ValueError(f"{name}: must be grpc or http/protobuf, not {other!r}")


def call(method: str) -> tuple[Span, tuple[tuple[str, str], ...]]:
    """Begins the span of an outgoing call; returns it, and the metadata that propagate it."""
    span = begin(method, SpanKind.CLIENT, None)
    metadata: dict[str, str] = {}
    propagator.inject(metadata, trace.set_span_in_context(span))
    return span, tuple(metadata.items())


def end(span: Span, status: str, faults: frozenset[str]) -> None:
    """Ends the span of a call with its status code, which is an error if it is in faults."""
    span.set_attribute("rpc.response.status_code", status)
    if status in faults:
        fail(span, status)
    span.end()


def begin(method: str, kind: SpanKind, parent: Context | None) -> Span:
    """Begins the span of a call."""
    name = method.removeprefix("/")
    attributes = {"rpc.system.name": "grpc", "rpc.method": name}
    return tracer.start_span(name, parent, kind, attributes)


def fail(span: Span, error_type: str) -> None:
    """Marks a span as failed."""
    span.set_status(StatusCode.ERROR)
    span.set_attribute("error.type", error_type)
