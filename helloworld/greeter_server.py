"""Serves the Greeter service with threads.

Run it, then call it from a second terminal:

    python -m helloworld.greeter_server --port 50051
    python -m helloworld.greeter_client --address localhost:50051
"""

import argparse
import logging
import signal
import socket
import sys
from concurrent import futures

import grpc

from helloworld import greeting
from helloworld.helloworld_pb2 import HelloReply, HelloRequest
from helloworld.helloworld_pb2_grpc import GreeterServicer, add_GreeterServicer_to_server

GRACE = 10
"""Seconds that calls in flight have to finish once the server stops."""
STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}
"""Ctrl-C, and what process managers and Kubernetes send."""

log = logging.getLogger(__name__)


class Greeter(GreeterServicer):
    """Translates between messages and greeting.py."""

    def SayHello(self, request: HelloRequest, context: grpc.ServicerContext) -> HelloReply:
        log.info("SayHello %.100r", request.name)  # A longer name is cut.
        try:
            message = greeting.greet(request.name)
        except ValueError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        # The client gets the text of any other exception: chapter 2, "A bug in your servicer".
        return HelloReply(message=message)


def start(address: str) -> tuple[grpc.Server, int]:
    """Starts a server on address ("127.0.0.1:0" takes any free port); returns it and its port.

    Raises RuntimeError if the port is taken.
    """
    server = grpc.server(
        # Ten calls run at a time; the others wait in a queue without limit (see chapter 4).
        futures.ThreadPoolExecutor(max_workers=10),
        # By default a second server could share the port unnoticed.
        options=[("grpc.so_reuseport", 0)],
    )
    add_GreeterServicer_to_server(Greeter(), server)
    port = server.add_insecure_port(address)
    server.start()
    return server, port


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the Greeter service.")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="0.0.0.0 listens on every network (default: %(default)s, this machine only)",
    )
    parser.add_argument(
        "--port", type=int, default=50051, help="0 takes any free port (default: %(default)s)"
    )
    args = parser.parse_args()
    # Also shows gRPC's log, where the traceback of a bug in the servicer appears.
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    # Block the signals before any thread starts, so that only sigwait, below, receives them.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        # Probe the port first: the socket's error says why it is unavailable, gRPC's does not.
        socket.create_server((args.host, args.port)).close()
        server, port = start(f"{args.host}:{args.port}")
    except (OSError, OverflowError, RuntimeError) as error:
        sys.exit(f"error: {error}")
    print(f"listening on {args.host}:{port}", flush=True)

    signal.sigwait(STOP_SIGNALS)
    # From here on, a second signal ends the process at once.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    print(
        f"stopping: calls in flight have {GRACE} s to finish; Ctrl-C again ends at once", flush=True
    )
    server.stop(GRACE).wait(GRACE + 1)  # Bounded, so that a broken client cannot keep us here.


if __name__ == "__main__":
    main()
