"""Interceptors around every kind of call: of a client, to add to it; of a server, to watch it.

python -m production.lessons.interceptors
"""

import argparse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import grpc
from google.rpc.code_pb2 import NOT_FOUND

from production.lessons.echo_server import EchoServicer
from protos.echo.v1.echo_pb2 import EchoRequest, Failure
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub, add_EchoServiceServicer_to_server

Handler = Any
MAKERS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


class Log(grpc.ServerInterceptor):
    """Prints one line for each call, when it has ended."""

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        handler = continuation(handler_call_details)
        if handler is None:  # No such method.
            return None
        # What is returned here only says how the call will be handled: nothing has run yet.
        behaviour = (
            handler.unary_unary
            or handler.unary_stream
            or handler.stream_unary
            or handler.stream_stream
        )
        method = handler_call_details.method.rpartition("/")[2]

        def once(request: Any, context: grpc.ServicerContext) -> Any:
            try:
                return behaviour(request, context)
            finally:
                tell(method, context)

        def stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            try:  # A generator ends when its last response has been taken, not when it is made.
                yield from behaviour(request, context)
            finally:
                tell(method, context)

        make = MAKERS[handler.request_streaming, handler.response_streaming]
        wrapped = stream if handler.response_streaming else once
        return make(wrapped, handler.request_deserializer, handler.response_serializer)


def tell(method: str, context: Any) -> None:
    """Prints how a call has ended, and who had called."""
    code = context.code() or grpc.StatusCode.OK  # None while all is well.
    caller = dict(context.invocation_metadata()).get("x-caller")
    print(f"{method:28}{code.name:12}{caller}")


class Identify(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Adds who calls to the metadata of every call."""

    def _continue(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        metadata = (*(client_call_details.metadata or ()), ("x-caller", "ada"))
        return continuation(client_call_details._replace(metadata=metadata), request)

    intercept_unary_unary = intercept_unary_stream = _continue
    # Only the name of a parameter differs.
    intercept_stream_unary = intercept_stream_stream = _continue  # type: ignore[assignment]


def main() -> None:
    argparse.ArgumentParser(description="Show interceptors at work.").parse_args()
    server = grpc.server(ThreadPoolExecutor(4), interceptors=[Log()])
    add_EchoServiceServicer_to_server(EchoServicer("", lambda _: None), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = EchoServiceStub(grpc.intercept_channel(channel, Identify()))
        stub.UnaryEcho(EchoRequest())
        list(stub.ServerStreamingEcho(EchoRequest(response_count=3)))
        stub.ClientStreamingEcho(iter([EchoRequest(), EchoRequest()]))
        list(stub.BidirectionalStreamingEcho(iter([EchoRequest()])))
        failure = Failure(code=NOT_FOUND, after_responses=1)
        with suppress(grpc.RpcError):
            list(stub.ServerStreamingEcho(EchoRequest(response_count=3, failure=failure)))
    server.stop(None).wait()


if __name__ == "__main__":
    main()
