"""Serves GreeterService and EchoService, behind the gateway.

Run it, then call it as any other server:

    python -m rest_gateway.greeter_server --port 50052
"""

import argparse
import itertools
from concurrent.futures import ThreadPoolExecutor

import grpc

from production.calling import addresses
from production.development.echo_server import EchoServicer
from production.development.serving import serve_until_signal
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
    """Greets many at once."""

    def SayHelloToAll(
        self, request: SayHelloToAllRequest, context: grpc.ServicerContext
    ) -> SayHelloToAllResponse:
        messages = [_greet(name, request.language, context) for name in request.names]
        return SayHelloToAllResponse(messages=messages)


def _greet(name: str, language: Language.ValueType, context: grpc.ServicerContext) -> str:
    if not name.strip():
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "name may not be empty")
    if language not in GREETINGS:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "language is none that we know")
    return GREETINGS[language].format(name)


def start(address: str) -> tuple[grpc.Server, int]:
    """Starts a server on address, HOST:PORT (port 0 takes any); returns it and its port.

    Raises RuntimeError if the port is taken.
    """
    server = grpc.server(
        ThreadPoolExecutor(max_workers=32),
        # By default a second server could share the port unnoticed.
        options=[("grpc.so_reuseport", 0)],
    )
    add_GreeterServiceServicer_to_server(GreeterServicer(), server)
    add_GroupGreeterServiceServicer_to_server(GroupGreeterServicer(), server)
    add_EchoServiceServicer_to_server(EchoServicer("echo", _log), server)
    port = server.add_insecure_port(address)
    server.start()
    return server, port


def _log(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve GreeterService and EchoService.")
    parser.add_argument("--port", type=addresses.port, default=50052, help="(default: %(default)s)")
    args = parser.parse_args()
    serve_until_signal(start, f"{HOST}:{args.port}", GRACE)


if __name__ == "__main__":
    main()
