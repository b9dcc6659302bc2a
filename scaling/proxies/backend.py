"""EchoService with health, told to drain by SIGTERM; it prints each call as it begins.

    python -m scaling.proxies.backend --name b1 --port 50051

The lessons on proxies start three of them.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2_grpc

from production.lessons.echo_server import EchoServicer
from protos.echo.v1.echo_pb2 import EchoRequest, EchoResponse
from protos.echo.v1.echo_pb2_grpc import add_EchoServiceServicer_to_server

HOST = "127.0.0.1"
STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}


class Telling(EchoServicer):
    """Prints the message of each unary call as it begins: so what runs twice can be counted."""

    def UnaryEcho(self, request: EchoRequest, context: grpc.ServicerContext) -> EchoResponse:
        os.write(1, f"begins {request.message}\n".encode())  # In one piece; print would write two.
        return super().UnaryEcho(request, context)


def start(
    name: str, port: int, options: Sequence[tuple[str, int]] = ()
) -> tuple[grpc.Server, health.HealthServicer, int]:
    """Starts a server; returns it, its health and its port. Raises RuntimeError."""
    server = grpc.server(ThreadPoolExecutor(64), options=[*options, ("grpc.so_reuseport", 0)])
    add_EchoServiceServicer_to_server(Telling(name, lambda _: None), server)
    healthy = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    bound = server.add_insecure_port(f"{HOST}:{port}")
    server.start()
    return server, healthy, bound


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve EchoService behind a proxy.")
    parser.add_argument("--name", default="echo", help="who answers (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="0 takes any (default)")
    parser.add_argument(
        "--pause", type=float, default=1, help="seconds of NOT_SERVING (default: 1)"
    )
    parser.add_argument("--grace", type=float, default=10, help="seconds for calls (default: 10)")
    parser.add_argument("--max-connection-age-ms", type=int, help="close connections of that age")
    args = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    age = args.max_connection_age_ms
    options = [("grpc.max_connection_age_ms", age)] if age else []
    try:
        server, healthy, port = start(args.name, args.port, options)
    except RuntimeError as error:
        sys.exit(f"error: {error}")
    print(f"listening on {HOST}:{port}", flush=True)
    signal.sigwait(STOP_SIGNALS)
    healthy.enter_graceful_shutdown()  # Balancers that ask see NOT_SERVING, and send no more.
    time.sleep(args.pause)
    server.stop(args.grace).wait()


if __name__ == "__main__":
    main()
