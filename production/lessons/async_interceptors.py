"""The asyncio twin of interceptors.py: what differs when everything is a coroutine.

python -m production.lessons.async_interceptors
"""

import argparse
import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import grpc
from google.rpc.code_pb2 import NOT_FOUND

from production.lessons import interceptors
from production.lessons.echo_server import CODES
from production.lessons.interceptors import MAKERS, tell
from protos.echo.v1.echo_pb2 import EchoRequest, EchoResponse, Failure
from protos.echo.v1.echo_pb2_grpc import (
    EchoServiceServicer,
    EchoServiceStub,
    add_EchoServiceServicer_to_server,
)

Handler = Any
Context = grpc.aio.ServicerContext[Any, Any]


class Echo(EchoServiceServicer):
    """Echoes, as short as it can be."""

    async def UnaryEcho(self, request: EchoRequest, context: Context) -> EchoResponse:
        return EchoResponse(message=request.message)

    async def ServerStreamingEcho(
        self, request: EchoRequest, context: Context
    ) -> AsyncIterator[EchoResponse]:
        for _ in range(request.response_count):
            yield EchoResponse(message=request.message)
            if request.failure.code:
                await context.abort(CODES[request.failure.code])

    async def ClientStreamingEcho(
        self, request_iterator: AsyncIterator[EchoRequest], context: Context
    ) -> EchoResponse:
        return EchoResponse(request_count=len([request async for request in request_iterator]))

    async def BidirectionalStreamingEcho(
        self, request_iterator: AsyncIterator[EchoRequest], context: Context
    ) -> AsyncIterator[EchoResponse]:
        async for request in request_iterator:
            yield EchoResponse(message=request.message)


class Log(grpc.aio.ServerInterceptor):
    """Prints one line for each call, when it has ended."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        handler = await continuation(handler_call_details)
        if handler is None:  # No such method.
            return None
        behaviour = (
            handler.unary_unary
            or handler.unary_stream
            or handler.stream_unary
            or handler.stream_stream
        )
        method = handler_call_details.method.rpartition("/")[2]

        async def once(request: Any, context: Context) -> Any:
            try:
                return await behaviour(request, context)
            finally:
                tell(method, context)

        async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
            try:
                async for response in behaviour(request, context):
                    yield response
            finally:
                tell(method, context)

        make = MAKERS[handler.request_streaming, handler.response_streaming]
        wrapped = stream if handler.response_streaming else once
        return make(wrapped, handler.request_deserializer, handler.response_serializer)


async def identify(_self: Any, continuation: Any, client_call_details: Any, request: Any) -> Any:
    """Adds who calls to the metadata of a call."""
    metadata = (*(client_call_details.metadata or ()), ("x-caller", "ada"))
    return await continuation(client_call_details._replace(metadata=metadata), request)


# One class for all four would be asked for unary-unary calls only.
IDENTIFY = [
    type(f"Identify{kind}", (getattr(grpc.aio, f"{kind}ClientInterceptor"),), {method: identify})()
    for kind, method in (
        ("UnaryUnary", "intercept_unary_unary"),
        ("UnaryStream", "intercept_unary_stream"),
        ("StreamUnary", "intercept_stream_unary"),
        ("StreamStream", "intercept_stream_stream"),
    )
]


async def call_all(port: int) -> None:
    """Makes a call of each kind, and one that fails."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", interceptors=IDENTIFY) as channel:
        stub = EchoServiceStub(channel)
        await stub.UnaryEcho(EchoRequest())
        [_ async for _ in stub.ServerStreamingEcho(EchoRequest(response_count=3))]
        await stub.ClientStreamingEcho(iter([EchoRequest(), EchoRequest()]))
        [_ async for _ in stub.BidirectionalStreamingEcho(iter([EchoRequest()]))]
        failing = EchoRequest(response_count=3, failure=Failure(code=NOT_FOUND))
        with suppress(grpc.aio.AioRpcError):
            [_ async for _ in stub.ServerStreamingEcho(failing)]


async def show() -> None:
    """The right interceptors, then a sync one on an asyncio server."""
    server = grpc.aio.server(interceptors=[Log()])
    add_EchoServiceServicer_to_server(Echo(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await call_all(port)
    await server.stop(None)
    try:
        grpc.aio.server(interceptors=[interceptors.Log()])  # type: ignore[list-item]
    except ValueError as error:
        print(f"ValueError: {error}")


def main() -> None:
    argparse.ArgumentParser(description="Show asyncio's interceptors at work.").parse_args()
    asyncio.run(show())


if __name__ == "__main__":
    main()
