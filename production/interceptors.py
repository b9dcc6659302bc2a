"""What surrounds every call: identity of the request, log, errors, admission, deadline, decoding.

A layer is an async context manager around the call. `surround` fits layers to the four kinds of
call at once; the first layer is the outermost:

    request id and log → errors → admission → deadline → decode → servicer
"""

import asyncio
import re
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import grpc
import structlog
from google.protobuf import message
from grpc_status import rpc_status

from production.errors import (
    RETRY_DELAY_MS,
    DecodeError,
    DrainingError,
    OverloadedError,
    status_of,
)

Context = grpc.aio.ServicerContext[Any, Any]
Handler = Any
"""A grpc.RpcMethodHandler, which has type parameters for type checkers only."""
Layer = Callable[[str, Context], AbstractAsyncContextManager[None]]
"""Called with the method's full name and the call's context."""

WATCHES = {"/production.v1.ContactService/WatchContacts", "/grpc.health.v1.Health/Watch"}
"""Calls that last until the caller leaves or the server stops."""
HANDLERS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
REQUEST_ID = "x-request-id"
HEALTH = "/grpc.health.v1.Health/"
"""Not logged: every client and balancer watches it all the time."""

log = structlog.get_logger("access")


class Interceptor(grpc.aio.ServerInterceptor):
    """Puts layers around every call, and decodes its requests inside of them."""

    def __init__(self, *layers: Layer) -> None:
        self._layers = layers

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        handler = await continuation(handler_call_details)
        if handler is None:  # No such method; gRPC answers UNIMPLEMENTED.
            return handler
        return surround(handler, handler_call_details.method, self._layers)


def surround(handler: Handler, method: str, layers: Sequence[Layer]) -> Handler:
    """The handler with layers around it. It gets requests as bytes and decodes them itself."""
    behaviour = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
    deserialize = handler.request_deserializer or bytes

    async def call(request: Any, context: Context) -> Any:
        async with AsyncExitStack() as stack:
            for layer in layers:
                await stack.enter_async_context(layer(method, context))
            decoding: Any = decode_stream if handler.request_streaming else decode
            result = behaviour(decoding(request, deserialize), context)
            if not isinstance(result, AsyncGenerator):
                return await result
            # Written here, not yielded: a cancellation then unwinds the layers at once.
            async with aclosing(result) as responses:
                async for response in responses:
                    await write(response, context)
            return None

    make = HANDLERS[handler.request_streaming, handler.response_streaming]
    return make(call, None, handler.response_serializer)


async def write(response: Any, context: Context) -> None:
    """Sends a response. A caller that has gone shows here first, as an error of gRPC's core."""
    try:
        await context.write(response)
    except grpc.aio.InternalError:
        raise asyncio.CancelledError from None


def decode(data: bytes, deserialize: Callable[[bytes], Any]) -> Any:
    """The message in data. Raises DecodeError."""
    try:
        return deserialize(data)
    except message.DecodeError:
        raise DecodeError from None


async def decode_stream(
    requests: AsyncIterator[bytes], deserialize: Callable[[bytes], Any]
) -> AsyncIterator[Any]:
    """The messages in a stream, each decoded when it is asked for."""
    async for data in requests:
        yield decode(data, deserialize)


@asynccontextmanager
async def request_log(method: str, context: Context) -> AsyncIterator[None]:
    """Gives the request an id and logs one line when it ends. No personal data is logged."""
    metadata = dict(context.invocation_metadata() or ())
    request_id = str(metadata.get(REQUEST_ID, ""))
    if not re.fullmatch(r"[\w-]{1,64}", request_id, re.ASCII):
        request_id = uuid.uuid4().hex
    started = time.monotonic()
    code = grpc.StatusCode.OK
    with structlog.contextvars.bound_contextvars(request_id=request_id):
        await context.send_initial_metadata(((REQUEST_ID, request_id),))
        try:
            yield
        except asyncio.CancelledError:
            remaining = context.time_remaining()
            passed = remaining is not None and remaining <= 0
            code = grpc.StatusCode.DEADLINE_EXCEEDED if passed else grpc.StatusCode.CANCELLED
            raise
        except grpc.aio.AbortError:
            code = context.code()
            raise
        finally:
            milliseconds = round((time.monotonic() - started) * 1000, 1)
            if not method.startswith(HEALTH):
                name = getattr(code, "name", str(code))
                log.info("call", method=method, code=name, ms=milliseconds)


@asynccontextmanager
async def errors(_method: str, context: Context) -> AsyncIterator[None]:
    """Turns every exception into a status."""
    try:
        yield
    except grpc.aio.AbortError:
        raise
    except Exception as error:  # noqa: BLE001 - the one place that must let nothing through.
        status = rpc_status.to_status(status_of(error))
        trailers = status.trailing_metadata
        if isinstance(error, OverloadedError):
            # C-core's retries obey this, and do not read RetryInfo (gRFC A6).
            trailers = (*trailers, ("grpc-retry-pushback-ms", str(RETRY_DELAY_MS)))
        await context.abort(status.code, status.details, trailers)


class Admission:
    """Lets so many calls in at once, watches counted apart, and refuses others at once."""

    def __init__(self, max_calls: int, max_watches: int) -> None:
        self._room = {False: max_calls, True: max_watches}

    @asynccontextmanager
    async def __call__(self, method: str, _context: Context) -> AsyncIterator[None]:
        is_watch = method in WATCHES
        if self._room[is_watch] == 0:
            raise OverloadedError
        self._room[is_watch] -= 1
        try:
            yield
        finally:
            self._room[is_watch] += 1


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
        async with asyncio.timeout(min(wanted, self._maximum)):
            yield

    @asynccontextmanager
    async def _watch(self) -> AsyncIterator[None]:
        watch = asyncio.timeout(None)
        try:
            async with watch:
                self._watches.add(watch)
                try:
                    yield
                finally:
                    self._watches.discard(watch)
        except TimeoutError:
            raise DrainingError from None
