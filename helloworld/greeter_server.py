"""The Greeter service, answered by threads.

Run it, then call it from a second terminal:

    python -m helloworld.greeter_server --port 50051
    python -m helloworld.greeter_client --address localhost:50051
"""

import argparse
import signal
import socket
import sys
from concurrent import futures

import grpc

from helloworld import greeting
from helloworld.helloworld_pb2 import HelloReply, HelloRequest
from helloworld.helloworld_pb2_grpc import GreeterServicer, add_GreeterServicer_to_server

HOST = "127.0.0.1"
"""This machine only. A service for others listens on [::], with TLS (chapter 4)."""
GRACE = 10.0
"""Seconds that calls in flight have to finish once the server is told to stop."""
STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}
"""Ctrl-C, and what process managers and Kubernetes send."""


class Greeter(GreeterServicer):
    """Translates between messages and the domain; knows no greeting of its own."""

    def SayHello(self, request: HelloRequest, context: grpc.ServicerContext) -> HelloReply:
        try:
            message = greeting.greet(request.name)
        except ValueError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return HelloReply(message=message)


def start(address: str) -> tuple[grpc.Server, int]:
    """Starts a server on address ("127.0.0.1:0" takes any free port); returns it and its port.

    Raises RuntimeError when the port is taken.
    """
    server = grpc.server(
        # Ten calls at a time; more wait their turn, any number of them (chapter 4 bounds it).
        futures.ThreadPoolExecutor(max_workers=10),
        # By default a second server could share the port unnoticed.
        options=[("grpc.so_reuseport", 0)],
    )
    add_GreeterServicer_to_server(Greeter(), server)
    port = server.add_insecure_port(address)
    server.start()
    return server, port


def port_number(value: str) -> int:
    """A TCP port, 0 to 65535. Checked here because gRPC takes 70000 for 4464."""
    if not 0 <= int(value) <= 65535:
        raise ValueError
    return int(value)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the Greeter service.")
    parser.add_argument(
        "--port",
        type=port_number,
        default=50051,
        help="0 takes any free port (default: %(default)s)",
    )
    args = parser.parse_args()

    # Blocked before any thread starts, so that no thread but this one, in sigwait, gets them. A
    # servicer that starts processes must unblock them there: children inherit the mask.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        # Asked first because it says why a port cannot be had; gRPC does not.
        socket.create_server((HOST, args.port)).close()
        server, port = start(f"{HOST}:{args.port}")
    except (OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")
    print(f"listening on {HOST}:{port}", flush=True)

    signal.sigwait(STOP_SIGNALS)
    # From here a second signal ends the process at once.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    print("stopping: calls in flight may finish", flush=True)
    server.stop(GRACE).wait(GRACE + 1)  # Not for ever, whatever a broken client has left behind.


if __name__ == "__main__":
    main()
