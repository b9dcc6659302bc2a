"""An interceptor of an asyncio server, and what it sees of each kind of call.

Run it:

    python -m production.lessons.async_interceptors

The twin of interceptors.py.
"""

import argparse
import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import grpc

from production.lessons import interceptors
from production.lessons.interceptors import CALLER, CALLS, ROW, Seen, Tell, kind_of
from protos.echo.v1.echo_pb2 import EchoRequest, EchoResponse
from protos.echo.v1.echo_pb2_grpc import (
    EchoServiceServicer,
    add_EchoServiceServicer_to_server,
)

Requests = AsyncIterator[EchoRequest]
Responses = AsyncIterator[EchoResponse]


class Observe(grpc.aio.ServerInterceptor):
    """Tells how calls end, and how long they take; wraps_streams=False shows how not to."""

    def __init__(self, tell: Tell, wraps_streams: bool) -> None:
        self._tell, self._wraps_streams = tell, wraps_streams

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        CALLER.set(dict(handler_call_details.invocation_metadata).get("x-caller", "(nobody)"))
        handler = await continuation(handler_call_details)
        if handler is None:  # No such method: gRPC answers UNIMPLEMENTED.
            return None
        behaviour = getattr(handler, kind_of(handler))
        # A stream may also come from a coroutine, which writes it by context.write.
        is_generator = inspect.isasyncgenfunction(behaviour)

        async def coroutine(request: Any, context: Any) -> Any:
            with self._observed(context):
                result = behaviour(request, context)
                return result if is_generator else await result

        async def generator(request: Any, context: Any) -> AsyncIterator[Any]:
            with self._observed(context):
                async for response in behaviour(request, context):
                    yield response

        return getattr(grpc, f"{kind_of(handler)}_rpc_method_handler")(
            generator if is_generator and self._wraps_streams else coroutine,
            handler.request_deserializer,
            handler.response_serializer,
        )

    @contextmanager
    def _observed(self, context: Any) -> Iterator[None]:
        started, status = time.monotonic(), "OK"
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            status = "(none)"  # Deadline or cancellation: the context does not tell which.
            raise
        except Exception:
            status = "UNKNOWN"  # What gRPC answers, unless the handler has called abort.
            raise
        finally:
            status = code.name if (code := context.code()) else status
            has_passed = time.monotonic() - started > 0.18
            self._tell((status, "yes" if has_passed else "no"))


class AsyncEcho(EchoServiceServicer):
    """Answers each request after 0.2 s, as often as ordered, and then fails if that is ordered."""

    async def UnaryEcho(self, _request: EchoRequest, _context: Any) -> EchoResponse:
        in_thread = await asyncio.to_thread(CALLER.get)
        self.saw = f"in the handler: {CALLER.get()}; in to_thread: {in_thread}"
        await asyncio.sleep(0.2)
        return EchoResponse()

    async def ServerStreamingEcho(self, request: EchoRequest, context: Any) -> Responses:
        for _ in range(request.response_count or 1):
            await asyncio.sleep(0.2)
            yield EchoResponse()
        if request.failure.code:
            await context.abort(grpc.StatusCode.NOT_FOUND)

    async def ClientStreamingEcho(self, requests: Requests, _context: Any) -> EchoResponse:
        async for _ in requests:
            await asyncio.sleep(0.2)
        return EchoResponse()

    async def BidirectionalStreamingEcho(self, requests: Requests, _context: Any) -> Responses:
        async for _ in requests:
            await asyncio.sleep(0.2)
            yield EchoResponse()


async def show(wraps_streams: bool) -> None:
    """Prints what an interceptor has seen of each call, and how much has reached the client."""
    seen: SimpleQueue[Seen] = SimpleQueue()
    server = grpc.aio.server(interceptors=[Observe(seen.put, wraps_streams)])
    echo = AsyncEcho()
    add_EchoServiceServicer_to_server(echo, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        rows = await asyncio.to_thread(lambda: list(interceptors.call(port, seen)))
    finally:  # On Ctrl-C, too: a server whose event loop has gone may crash Python.
        await server.stop(None)
    print(ROW.format("wrapped" if wraps_streams else "not wrapped", "status", "0.2 s", "responses"))
    for name, row in zip(CALLS, rows, strict=True):
        print(ROW.format(name, *row))
    if wraps_streams:
        print(f"x-caller, {echo.saw}\n")


async def use_the_other_world() -> None:
    """Gives an asyncio server a sync interceptor."""
    try:
        grpc.aio.server(interceptors=[interceptors.Observe(print, True)])  # type: ignore[list-item]
    except ValueError as error:
        print(f"\na sync interceptor: ValueError: {error}")


async def run() -> None:
    """Shows all."""
    for wraps_streams in (True, False):
        await show(wraps_streams)
    await use_the_other_world()


def main() -> None:
    argparse.ArgumentParser(description="Show what interceptors see, with asyncio.").parse_args()
    asyncio.run(run())


if __name__ == "__main__":
    main()
