"""An interceptor of a threaded server, and what it sees of each kind of call.

Run it:

    python -m production.lessons.interceptors

The asyncio twin is async_interceptors.py; the client's side is client_interceptors.py.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from queue import SimpleQueue
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from production.development.echo_server import EchoServicer
from protos.echo.v1.echo_pb2 import EchoRequest, Failure
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub, add_EchoServiceServicer_to_server

ECHO = EchoRequest(delay=Duration(nanos=200_000_000))
FAILS = EchoRequest(delay=ECHO.delay, failure=Failure(code=5, after_responses=1))
MANY = EchoRequest(delay=ECHO.delay, response_count=1000)
WHO = (("x-caller", "lesson"),)
CALLER = ContextVar("CALLER", default="(not set)")
"""Who calls: set by an interceptor, read by the handler."""
Seen = tuple[str, str]
"""How a call has ended, and whether its 0.2 s had passed."""
Tell = Callable[[Seen], object]
CALLS = ("unary", "client streaming", "server streaming", "bidirectional", "fails", "is cancelled")
ROW = "{:18}{:11}{:9}{}"


def kind_of(handler: Any) -> str:
    """The kind of a handler's calls, as gRPC names it: unary_unary, unary_stream, ..."""
    is_streams = handler.request_streaming, handler.response_streaming
    return "_".join("stream" if is_stream else "unary" for is_stream in is_streams)


class Observe(grpc.ServerInterceptor):
    """Tells how calls end, and how long they take; wraps_streams=False shows how not to."""

    def __init__(self, tell: Tell, wraps_streams: bool) -> None:
        self._tell, self._wraps_streams = tell, wraps_streams

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        CALLER.set(dict(handler_call_details.invocation_metadata).get("x-caller", "(nobody)"))
        handler = continuation(handler_call_details)
        if handler is None:  # No such method: gRPC answers UNIMPLEMENTED.
            return None
        kind = kind_of(handler)

        def unary(request: Any, context: Any) -> Any:
            with self._observed(context):
                return getattr(handler, kind)(request, context)

        def stream(request: Any, context: Any) -> Iterator[Any]:
            with self._observed(context):
                yield from getattr(handler, kind)(request, context)

        return getattr(grpc, f"{kind}_rpc_method_handler")(
            stream if handler.response_streaming and self._wraps_streams else unary,
            handler.request_deserializer,
            handler.response_serializer,
        )

    @contextmanager
    def _observed(self, context: Any) -> Iterator[None]:
        started, status = time.monotonic(), "OK"
        try:
            yield
        except Exception:
            status = "UNKNOWN"  # What gRPC answers, unless the handler has called abort.
            raise
        finally:
            if code := context.code():
                status = code.name
            elif not context.is_active():
                status = "(none)"  # Deadline or cancellation: the context does not tell which.
            has_passed = time.monotonic() - started > 0.18
            self._tell((status, "yes" if has_passed else "no"))


def count(responses: Any) -> int:
    """How many responses come; after two the call is cancelled."""
    counted = 0
    with suppress(grpc.RpcError):
        for _ in itertools.islice(responses, 2):
            counted += 1
    responses.cancel()
    return counted


def call(port: int, seen: SimpleQueue[Seen]) -> Iterator[tuple[str, str, int]]:
    """Makes the calls of CALLS; yields what was seen of each, and how many responses it brought."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = EchoServiceStub(channel)
        stub.UnaryEcho(ECHO, 10, WHO)
        yield *seen.get(timeout=30), 1
        stub.ClientStreamingEcho(iter([ECHO]), 10, WHO)
        yield *seen.get(timeout=30), 1
        responses = count(stub.ServerStreamingEcho(ECHO, 10, WHO))
        yield *seen.get(timeout=30), responses
        responses = count(stub.BidirectionalStreamingEcho(iter([ECHO]), 10, WHO))
        yield *seen.get(timeout=30), responses
        for request in (FAILS, MANY):
            responses = count(stub.ServerStreamingEcho(request, 10, WHO))
            yield *seen.get(timeout=30), responses


def show(wraps_streams: bool) -> None:
    """Prints what an interceptor has seen of each call, and how much has reached the client."""
    seen: SimpleQueue[Seen] = SimpleQueue()
    callers: list[tuple[str, str]] = []

    def note(_line: str) -> None:  # Called by the handler.
        callers.append((CALLER.get(), pool.submit(CALLER.get).result()))

    with ThreadPoolExecutor(4) as pool:  # At its end all handlers have ended.
        server = grpc.server(pool, interceptors=[Observe(seen.put, wraps_streams)])
        add_EchoServiceServicer_to_server(EchoServicer("echo", note), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        rows = list(call(port, seen))
        server.stop(None).wait()
    print(ROW.format("wrapped" if wraps_streams else "not wrapped", "status", "0.2 s", "responses"))
    for name, row in zip(CALLS, rows, strict=True):
        print(ROW.format(name, *row))
    if wraps_streams:
        print("x-caller, in the handler: {}; in a thread it starts: {}\n".format(*callers[0]))


def main() -> None:
    argparse.ArgumentParser(description="Show what interceptors see, with threads.").parse_args()
    for wraps_streams in (True, False):
        show(wraps_streams)


if __name__ == "__main__":
    main()
