"""The outermost layer: gives each call an id and a span, counts it, and logs it when it ends."""

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import structlog
from opentelemetry import trace

from production.serving.layers.adapter import Context
from production.serving.layers.deadline import drained
from production.serving.observability import metrics, tracing

REQUEST_ID = "x-request-id"
ROUNDED, EARLY_SECONDS = 0.02, 0.05
"""The client's deadline fires slightly before ours: it started counting earlier, and gRPC rounds
the timeout it sends up by at most 1 %."""
HEALTH = "/grpc.health.v1.Health/"
"""Logged at debug level and not traced, because clients and load balancers call it all the time."""

log = structlog.get_logger("access")


@asynccontextmanager
async def observe(method: str, context: Context) -> AsyncIterator[None]:
    """Gives a call an id and a span, counts it, and logs it when it ends, without personal data."""
    metadata = dict(context.invocation_metadata() or ())
    request_id = str(metadata.get(REQUEST_ID, ""))
    if not re.fullmatch(r"[\w-]{1,64}", request_id, re.ASCII):
        request_id = f"{random.getrandbits(128):032x}"
    started = time.monotonic()
    code = grpc.StatusCode.OK
    limit = context.time_remaining() or 0
    # No need to unbind: each call has a context of its own.
    structlog.contextvars.bind_contextvars(request_id=request_id)
    is_health_check = method.startswith(HEALTH)
    span = trace.INVALID_SPAN if is_health_check else tracing.serve(method, metadata)
    if ids := tracing.ids(span):
        trace_id, span_id = ids
        structlog.contextvars.bind_contextvars(trace_id=trace_id, span_id=span_id)
    # In the trailers: sending initial metadata from here would cost an extra write, 0.1 ms.
    context.set_trailing_metadata(((REQUEST_ID, request_id),))
    counted = metrics.for_method(method)
    counted.started.inc()
    counted.in_flight.inc()
    try:
        yield
        code = context.code() or code  # A servicer may have set it.
    except asyncio.CancelledError:
        remaining = context.time_remaining()
        passed = remaining is not None and remaining <= limit * ROUNDED + EARLY_SECONDS
        code = grpc.StatusCode.DEADLINE_EXCEEDED if passed else grpc.StatusCode.CANCELLED
        raise
    except grpc.aio.AbortError:
        code = context.code()
        raise
    finally:
        seconds = time.monotonic() - started
        name = getattr(code, "name", str(code))
        counted.in_flight.dec()
        counted.duration(metrics.DRAINED if drained.get() else name).observe(seconds)
        log_call = log.debug if is_health_check else log.info
        log_call("call", method=method, code=name, ms=round(seconds * 1000, 1))
        tracing.end(span, name)
