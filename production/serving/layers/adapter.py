"""Puts layers around the four kinds of call, and decodes requests inside them.

A layer is an async context manager around the call; the first layer is the outermost.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager
from typing import Any

import grpc
from google.protobuf import message

from production.serving.observability import metrics

Context = grpc.aio.ServicerContext[Any, Any]
Handler = Any
"""A grpc.RpcMethodHandler, whose type parameters exist for type checkers only."""
Layer = Callable[[str, Context], AbstractAsyncContextManager[None]]
"""Called with the method's full name and the call's context."""

MAX_UNARY_BYTES = 64 * 1024
"""Of a request that is not a stream's. Decoded it may take 50 times that; a stream is decoded one
message at a time."""
CUT_OFF_SECONDS = 0.1


class DecodeError(Exception):
    """The bytes of a request are not a message of the method's type."""


class TooLargeError(Exception):
    """A request is larger than `MAX_UNARY_BYTES`."""


class Interceptor(grpc.aio.ServerInterceptor):
    """Puts layers around every call."""

    def __init__(self, *layers: Layer, reading: Layer) -> None:
        """reading goes around the time in which the request of a unary call is read."""
        self._layers = layers
        self._reading = reading
        self._wrapped: dict[str, Handler] = {}

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
        if method not in self._wrapped:
            self._wrapped[method] = wrap_handler(handler, method, self._layers, self._reading)
        return self._wrapped[method]


def wrap_handler(handler: Handler, method: str, layers: Sequence[Layer], reading: Layer) -> Handler:
    """Returns the handler with layers around it.

    gRPC sees every request as a stream of bytes, so that it reads no message, and buffers little of
    it, before the layers have admitted the call.
    """
    call = _Call(handler, method, layers, reading)
    make = (
        grpc.stream_stream_rpc_method_handler
        if handler.response_streaming
        else grpc.stream_unary_rpc_method_handler
    )
    return make(call.answer, None, call.serialize)


class _Call:
    """Answers the calls of one method."""

    def __init__(
        self, handler: Handler, method: str, layers: Sequence[Layer], reading: Layer
    ) -> None:
        self._handler = handler
        self._behaviour = (
            handler.unary_unary
            or handler.unary_stream
            or handler.stream_unary
            or handler.stream_stream
        )
        self._method = method
        self._layers = layers
        self._reading = reading
        self._metrics = metrics.for_method(method)
        if handler.request_streaming or handler.response_streaming:
            metrics.STREAMING.labels(method).set(1)

    async def answer(self, stream: AsyncIterator[bytes], context: Context) -> Any:
        """Enters all layers, then calls the servicer."""
        try:
            return await self._enter(self._layers, stream, context)
        except grpc.aio.AbortError as error:
            # gRPC makes a reference cycle of this error and the call, which would keep the request
            # in memory until the garbage collector runs.
            error.__context__ = None
            raise error.with_traceback(None) from None

    async def _enter(
        self, layers: Sequence[Layer], stream: AsyncIterator[bytes], context: Context
    ) -> Any:
        # Not an AsyncExitStack: its error handling would keep the request in memory.
        if not layers:
            return await self._call_servicer(stream, context)
        async with layers[0](self._method, context):
            return await self._enter(layers[1:], stream, context)

    async def _call_servicer(self, stream: AsyncIterator[bytes], context: Context) -> Any:
        request: Any = (
            self._decode_all(stream)
            if self._handler.request_streaming
            else await self._read(context)
        )
        result = self._behaviour(request, context)
        if not isinstance(result, AsyncGenerator):
            return await result
        # Written here instead of yielded, so that a cancellation unwinds the layers at once.
        async with aclosing(result) as responses:
            async for response in responses:
                with caller_may_have_gone():
                    await context.write(response)
        return None

    async def _read(self, context: Context) -> Any:
        """Returns the request of a unary call. Raises TooLargeError, DecodeError."""
        async with self._reading(self._method, context):
            data = await read_request(context)
        if len(data) > MAX_UNARY_BYTES:
            raise TooLargeError
        return self._decode(data)

    def _decode(self, data: bytes) -> Any:
        """Decodes a message. Raises DecodeError."""
        self._metrics.received.observe(len(data))
        if not self._handler.request_deserializer:
            return data
        try:
            return self._handler.request_deserializer(data)
        except message.DecodeError:
            raise DecodeError from None

    async def _decode_all(self, stream: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        """Decodes the messages of a stream one by one, as the servicer reads them."""
        async for data in stream:
            yield self._decode(data)

    def serialize(self, response: Any) -> bytes:
        """Encodes a response."""
        data: bytes = self._handler.response_serializer(response)
        self._metrics.sent.observe(len(data))
        return data


async def read_request(context: Context) -> bytes:
    """Reads the one message of a unary request. Raises DecodeError when there is none."""
    data: Any = await context.read()
    if data is grpc.aio.EOF:
        # A broken connection looks the same, until its cancellation arrives a moment later.
        await asyncio.sleep(CUT_OFF_SECONDS)
        raise DecodeError
    return bytes(data)


@contextmanager
def caller_may_have_gone() -> Iterator[None]:
    """Turns an error of gRPC's core while sending into what caused it: a cancellation."""
    try:
        yield
    except grpc.aio.InternalError:
        raise asyncio.CancelledError from None
