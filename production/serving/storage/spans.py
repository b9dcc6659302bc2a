"""Spans of transactions, after OpenTelemetry's semantic conventions for databases."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import SpanKind
from sqlalchemy.exc import SQLAlchemyError

from production.calling.tracing import fail, tracer


@contextmanager
def transaction(kind: str, system: str) -> Iterator[None]:
    """Puts a span around a transaction that is part of a traced call."""
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
            fail(span, type(error).__name__)
            raise
