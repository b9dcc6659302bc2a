"""Traces: where one call spends its time, from the client to the database, by OpenTelemetry.

Off unless OTEL_EXPORTER_OTLP_ENDPOINT names a collector; OpenTelemetry has more settings:
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/. Names are after
its semantic conventions for RPC and for databases.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import context, trace
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from sqlalchemy.exc import SQLAlchemyError

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
DEFAULTS = {
    # One trace in ten is kept, from its first span to its last; who calls us may have decided.
    "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
    "OTEL_TRACES_SAMPLER_ARG": "0.1",
    # Seconds for an export, with its retries: a program ends so much later when nobody collects.
    "OTEL_EXPORTER_OTLP_TIMEOUT": "2",
}
SERVER_FAULTS = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
"""Statuses that are the server's failures. NOT_FOUND, say, is an answer."""

tracer = trace.get_tracer("production")
propagator = TraceContextTextMapPropagator()


def set_up(service: str) -> Callable[[], None]:
    """Sends spans to the collector of the environment, if it names one.

    Returns what sends those that wait, and ends it.
    """
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return lambda: None
    # Here, for they take a while to import, and few need them.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    for name, value in {"OTEL_SERVICE_NAME": service, **DEFAULTS}.items():
        os.environ.setdefault(name, value)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider.shutdown


def serve(method: str, metadata: Mapping[str, Any]) -> Span:
    """Begins the span of a call that has come in; what follows in its context belongs to it."""
    parent = propagator.extract(metadata) if "traceparent" in metadata else context.Context()
    span = _begin(method, SpanKind.SERVER, parent)
    # Never detached: each call has a context of its own.
    context.attach(trace.set_span_in_context(span))
    return span


def call(method: str) -> tuple[Span, tuple[tuple[str, str], ...]]:
    """Begins the span of a call that goes out; gives it, and metadata that carry it on."""
    span = _begin(method, SpanKind.CLIENT, None)
    metadata: dict[str, str] = {}
    propagator.inject(metadata, trace.set_span_in_context(span))
    return span, tuple(metadata.items())


def end(span: Span, status: str, faults: frozenset[str] = SERVER_FAULTS) -> None:
    """Ends the span of a call with its status code; faults are those that count as errors."""
    span.set_attribute("rpc.response.status_code", status)
    if status in faults:
        _fail(span, status)
    span.end()


@contextmanager
def transaction(kind: str, system: str) -> Iterator[None]:
    """A span around a transaction of a database, if it is part of a call."""
    if not trace.get_current_span().get_span_context().is_valid:
        yield
        return
    with tracer.start_as_current_span(
        f"{kind} transaction",
        kind=SpanKind.CLIENT,
        attributes={"db.system.name": system},
        # Their messages may hold personal data.
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield
        except (SQLAlchemyError, TimeoutError) as error:
            _fail(span, type(error).__name__)
            raise


def trace_id(span: Span) -> str | None:
    """The id of the trace that a span belongs to, if it belongs to any."""
    found = span.get_span_context()
    return trace.format_trace_id(found.trace_id) if found.is_valid else None


def _begin(method: str, kind: SpanKind, parent: context.Context | None) -> Span:
    name = method.removeprefix("/")
    attributes = {"rpc.system.name": "grpc", "rpc.method": name}
    return tracer.start_span(name, parent, kind, attributes)


def _fail(span: Span, error_type: str) -> None:
    span.set_status(StatusCode.ERROR)
    span.set_attribute("error.type", error_type)
