"""Serves GreeterService, and with --echo EchoService, behind the gateway.

Run it, then call it as any other server:

    python -m rest_gateway.greeter_server --port 50052
"""

import argparse
import itertools
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import grpc

from production.calling import addresses
from production.development.echo_server import EchoServicer
from production.development.serving import serve_until_signal
from protos.echo.v1.echo_pb2 import EchoRequest, EchoResponse
from protos.echo.v1.echo_pb2_grpc import add_EchoServiceServicer_to_server
from rest_gateway.v1.greeter_pb2 import (
    Language,
    SayHelloRequest,
    SayHelloResponse,
    SayHelloToAllRequest,
    SayHelloToAllResponse,
)
from rest_gateway.v1.greeter_pb2_grpc import (
    GreeterServiceServicer,
    GroupGreeterServiceServicer,
    add_GreeterServiceServicer_to_server,
    add_GroupGreeterServiceServicer_to_server,
)

HOST = "127.0.0.1"
GREETINGS = {
    Language.LANGUAGE_UNSPECIFIED: "Hello, {}!",
    Language.LANGUAGE_ENGLISH: "Hello, {}!",
    Language.LANGUAGE_CHINESE: "你好，{}！",
}
NICKNAMES = {"Augusta": "Ada"}
OPTIONS = [
    # By default a second server could share the port without an error.
    ("grpc.so_reuseport", 0),
    # The gateway pings every 20 s, to notice a dead connection. gRPC's default allows a ping every
    # 5 minutes, and answers more of them by closing the connection (too_many_pings).
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
]
GRACE = 5.0
"""Seconds that calls in flight have to finish once the server is to stop."""


class GreeterServicer(GreeterServiceServicer):
    """Greets, and counts."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def SayHello(self, request: SayHelloRequest, context: grpc.ServicerContext) -> SayHelloResponse:
        return SayHelloResponse(
            message=_greet(request.name, request.language, context),
            greeting_count=next(self._numbers),
            nickname=NICKNAMES.get(request.name),
            language=request.language,
        )


class GroupGreeterServicer(GroupGreeterServiceServicer):
    """Greets several people at once."""

    def SayHelloToAll(
        self, request: SayHelloToAllRequest, context: grpc.ServicerContext
    ) -> SayHelloToAllResponse:
        messages = [_greet(name, request.language, context) for name in request.names]
        return SayHelloToAllResponse(messages=messages)


class LocalEchoServicer(EchoServicer):
    """EchoService without `via`, which would let a caller make this server connect anywhere."""

    def UnaryEcho(self, request: EchoRequest, context: grpc.ServicerContext) -> EchoResponse:
        if request.via:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "via is not available here")
        return super().UnaryEcho(request, context)


def _greet(name: str, language: Language.ValueType, context: grpc.ServicerContext) -> str:
    if not name.strip():
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "name may not be empty")
    if language not in GREETINGS:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "language is unknown")
    return GREETINGS[language].format(name)


def start(address: str, *, echo: bool = False) -> tuple[grpc.Server, int]:
    """Starts a server on address, HOST:PORT (port 0 takes any); returns it and its port.

    If echo is set, it serves EchoService, too: whoever calls it can order delays, failures and
    large answers. Raises RuntimeError if the port is taken.
    """
    server = grpc.server(ThreadPoolExecutor(max_workers=32), options=OPTIONS)
    add_GreeterServiceServicer_to_server(GreeterServicer(), server)
    add_GroupGreeterServiceServicer_to_server(GroupGreeterServicer(), server)
    if echo:
        add_EchoServiceServicer_to_server(LocalEchoServicer("echo", _log), server)
    port = server.add_insecure_port(address)
    server.start()
    return server, port


def _log(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve GreeterService.")
    parser.add_argument("--port", type=addresses.port, default=50052, help="(default: %(default)s)")
    parser.add_argument("--echo", action="store_true", help="serve EchoService, too")
    args = parser.parse_args()
    serve_until_signal(partial(start, echo=args.echo), f"{HOST}:{args.port}", GRACE)


if __name__ == "__main__":
    main()
