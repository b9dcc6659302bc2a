"""Spans of incoming calls; production/calling/tracing.py sets up their export."""

from collections.abc import Mapping
from typing import Any

from opentelemetry import context, trace
from opentelemetry.trace import Span, SpanKind

from production.calling import tracing

FAULTS = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
"""Status codes that are failures of the server. NOT_FOUND, for example, is not."""


def serve(method: str, metadata: Mapping[str, Any]) -> Span:
    """Begins the span of an incoming call, as the parent of further spans in its context."""
    has_parent = "traceparent" in metadata
    parent = tracing.propagator.extract(metadata) if has_parent else context.Context()
    span = tracing.begin(method, SpanKind.SERVER, parent)
    # Never detached: each call has a context of its own.
    context.attach(trace.set_span_in_context(span))
    return span


def end(span: Span, status: str) -> None:
    """Ends the span of a call with its status code."""
    tracing.end(span, status, FAULTS)


def ids(span: Span) -> tuple[str, str] | None:
    """Returns the ids of a span's trace and of the span, None if it has none."""
    ours = span.get_span_context()
    if not ours.is_valid:
        return None
    return trace.format_trace_id(ours.trace_id), trace.format_span_id(ours.span_id)
