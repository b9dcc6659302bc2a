"""What surrounds every call: identity of the request, log, errors, admission, deadline, decoding.

A layer is an async context manager around the call. `surround` fits layers to the four kinds of
call at once; the first layer is the outermost:

    request id and log → errors → authentication → admission → deadline → decode → servicer
"""

import asyncio
import math
import random
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    aclosing,
    asynccontextmanager,
    contextmanager,
)
from typing import Any

import grpc
import structlog
from google.protobuf import message
from grpc_status import rpc_status
from opentelemetry import trace

from production import metrics, tracing
from production.authorization import PUBLIC, SCOPES
from production.database import time_limited
from production.errors import (
    RETRY_DELAY_MS,
    DecodeError,
    DrainingError,
    OverloadedError,
    status_of,
)
from production.tokens import RefusedError

Context = grpc.aio.ServicerContext[Any, Any]
Handler = Any
"""A grpc.RpcMethodHandler, which has type parameters for type checkers only."""
Layer = Callable[[str, Context], AbstractAsyncContextManager[None]]
"""Called with the method's full name and the call's context."""

WATCHES = {"/production.v1.ContactService/WatchContacts", "/grpc.health.v1.Health/Watch"}
"""Calls that last until the caller leaves or the server stops."""
REQUEST_ID = "x-request-id"
CUT_OFF_SECONDS = 0.1
ROUNDED, EARLY_SECONDS = 0.02, 0.05
"""A caller's deadline passes, and ends the call, before ours: it began to count earlier, and the
time that it sends is rounded up, by a hundredth at most."""
FIRST_MESSAGE_SECONDS = 10
"""How long a call of any kind may take to send its first message."""
PUBLIC_SECONDS = 2
"""A deadline for calls that need no credentials."""
MAX_PUBLIC = 5_000
"""Such calls at a time, counted apart: strangers take nobody's place. Each client of ours has one,
to watch our health."""
HEALTH = "/grpc.health.v1.Health/"
"""Logged at the level of debug, and not traced: every client and balancer asks all the time."""

log = structlog.get_logger("access")


class Interceptor(grpc.aio.ServerInterceptor):
    """Puts layers around every call, and decodes its requests inside of them."""

    def __init__(self, *layers: Layer) -> None:
        self._layers = layers
        self._surrounded: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        handler = await continuation(handler_call_details)
        if handler is None:  # No such method; gRPC answers UNIMPLEMENTED.
            metrics.STARTED.labels(metrics.OTHER).inc()
            return handler
        method = handler_call_details.method
        if method not in self._surrounded:
            self._surrounded[method] = surround(handler, method, self._layers)
        return self._surrounded[method]


def surround(handler: Handler, method: str, layers: Sequence[Layer]) -> Handler:
    """The handler with layers around it.

    To gRPC every request is a stream of bytes: then no message is read, and hardly any of it
    buffered, before the layers have let the call in.
    """
    behaviour = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
    counted = metrics.of(method)

    def deserialize(data: bytes) -> Any:
        counted.received.observe(len(data))
        return handler.request_deserializer(data) if handler.request_deserializer else data

    def serialize(response: Any) -> bytes:
        data: bytes = handler.response_serializer(response)
        counted.sent.observe(len(data))
        return data

    async def call(stream: AsyncIterator[bytes], context: Context) -> Any:
        try:
            return await through(layers, stream, context)
        except grpc.aio.AbortError as error:
            # gRPC ties this error to the call in a cycle; what it refers to, such as the request,
            # would stay in memory until the garbage collector runs.
            error.__context__ = None
            raise error.with_traceback(None) from None

    async def through(
        layers: Sequence[Layer], stream: AsyncIterator[bytes], context: Context
    ) -> Any:
        if not layers:
            return await inside(stream, context)
        async with layers[0](method, context):
            return await through(layers[1:], stream, context)

    async def inside(stream: AsyncIterator[bytes], context: Context) -> Any:
        if handler.request_streaming:
            request: Any = decode_all(stream, deserialize)
        else:
            request = decode(await only(context), deserialize)
        result = behaviour(request, context)
        if not isinstance(result, AsyncGenerator):
            return await result
        # Written here, not yielded: a cancellation then unwinds the layers at once.
        async with aclosing(result) as responses:
            async for response in responses:
                with caller_may_have_gone():
                    await context.write(response)
        return None

    make = (
        grpc.stream_stream_rpc_method_handler
        if handler.response_streaming
        else grpc.stream_unary_rpc_method_handler
    )
    return make(call, None, serialize)


@contextmanager
def caller_may_have_gone() -> Iterator[None]:
    """When a caller has gone, sending may show it first, as an error of gRPC's core."""
    try:
        yield
    except grpc.aio.InternalError:
        raise asyncio.CancelledError from None


def decode(data: bytes, deserialize: Callable[[bytes], Any]) -> Any:
    """The message in data. Raises DecodeError."""
    try:
        return deserialize(data)
    except message.DecodeError:
        raise DecodeError from None


async def decode_all(
    stream: AsyncIterator[bytes], deserialize: Callable[[bytes], Any]
) -> AsyncIterator[Any]:
    """The messages in a stream, each decoded when it is asked for. Raises DecodeError."""
    async for data in stream:
        yield decode(data, deserialize)


async def only(context: Context) -> bytes:
    """The one message of a unary call. Raises DecodeError when there is none."""
    async with asyncio.timeout(FIRST_MESSAGE_SECONDS):
        data: Any = await context.read()
    if data is grpc.aio.EOF:
        # A call that is cut off ends so, too, just before its cancellation arrives: wait for it.
        await asyncio.sleep(CUT_OFF_SECONDS)
        raise DecodeError
    return bytes(data)


@asynccontextmanager
async def observe(method: str, context: Context) -> AsyncIterator[None]:
    """Gives the request an id, and counts and logs it when it ends. Nothing personal is logged."""
    metadata = dict(context.invocation_metadata() or ())
    request_id = str(metadata.get(REQUEST_ID, ""))
    if not re.fullmatch(r"[\w-]{1,64}", request_id, re.ASCII):
        request_id = f"{random.getrandbits(128):032x}"
    started = time.monotonic()
    code = grpc.StatusCode.OK
    limit = context.time_remaining() or 0
    # No need to unbind: each call has a context of its own.
    structlog.contextvars.bind_contextvars(request_id=request_id)
    tell = log.debug if method.startswith(HEALTH) else log.info
    span = trace.INVALID_SPAN if method.startswith(HEALTH) else tracing.serve(method, metadata)
    if trace_id := tracing.trace_id(span):
        structlog.contextvars.bind_contextvars(trace_id=trace_id)
    # As a trailer: initial metadata sent from here would cost an extra write, 0.1 ms.
    context.set_trailing_metadata(((REQUEST_ID, request_id),))
    counted = metrics.of(method)
    counted.started.inc()
    counted.in_flight.inc()
    try:
        yield
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
        counted.duration(name).observe(seconds)
        tell("call", method=method, code=name, ms=round(seconds * 1000, 1))
        tracing.end(span, name)


@asynccontextmanager
async def errors(_method: str, context: Context) -> AsyncIterator[None]:
    """Turns every exception into a status."""
    try:
        yield
    except grpc.aio.AbortError:
        raise
    except Exception as error:  # noqa: BLE001 - the one place that must let nothing through.
        status = rpc_status.to_status(status_of(error))
        if isinstance(error, RefusedError):  # Whoever keeps strangers out must know of them.
            structlog.contextvars.bind_contextvars(refused=error.reason, peer=context.peer())
        error.__traceback__ = None  # It holds the request, and is in a cycle with its own frames.
        trailers = (*context.trailing_metadata(), *status.trailing_metadata)
        if isinstance(error, OverloadedError):
            # C-core's retries obey this, and do not read RetryInfo (gRFC A6).
            trailers = (*trailers, ("grpc-retry-pushback-ms", str(RETRY_DELAY_MS)))
        with caller_may_have_gone():
            await context.abort(status.code, status.details, trailers)


class Admission:
    """Lets so many calls in at once, watches counted apart, and refuses others at once."""

    def __init__(self, max_calls: int, max_watches: int) -> None:
        self._room = {"call": max_calls, "watch": max_watches, "public": MAX_PUBLIC}

    @asynccontextmanager
    async def __call__(self, method: str, context: Context) -> AsyncIterator[None]:
        kind = "watch" if method in WATCHES else "call"
        if SCOPES.get(method) == PUBLIC:
            kind = "public"
        if self._room[kind] == 0:
            metrics.REFUSED.inc()
            raise OverloadedError
        self._room[kind] -= 1

        def leave(_: Context) -> None:
            self._room[kind] += 1

        # Not when the handler ends: a caller that does not read keeps its answer in our memory.
        context.add_done_callback(leave)  # type: ignore[arg-type]  # Its stub lacks "Protocol".
        yield


class Deadline:
    """Ends calls: at the caller's deadline, at the server's own, or when the server stops."""

    def __init__(self, default: float, maximum: float) -> None:
        """default and maximum are seconds; watches are exempt until `end_watches`."""
        self._default = default
        self._maximum = maximum
        self._watches: set[asyncio.Timeout] = set()
        self._draining = False

    def end_watches(self) -> None:
        """Ends all watches, and refuses new ones."""
        self._draining = True
        for watch in self._watches:
            watch.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def __call__(self, method: str, context: Context) -> AsyncIterator[None]:
        if method in WATCHES:
            if self._draining:
                raise DrainingError
            async with self._watch():
                yield
            return
        remaining = context.time_remaining()
        wanted = self._default if remaining is None else remaining
        seconds = min(wanted, self._maximum)
        if SCOPES.get(method) == PUBLIC:
            seconds = min(seconds, PUBLIC_SECONDS)
        with time_limited(seconds):
            async with asyncio.timeout(seconds):
                yield

    @asynccontextmanager
    async def _watch(self) -> AsyncIterator[None]:
        watch = asyncio.timeout(None)
        try:
            async with watch:
                self._watches.add(watch)
                try:
                    with time_limited(math.inf):
                        yield
                finally:
                    self._watches.discard(watch)
        except TimeoutError:
            raise DrainingError from None
