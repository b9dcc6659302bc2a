"""Serves the Greeter service with asyncio: one event loop instead of threads.

Run it, then call it from a second terminal:

    python -m helloworld.async_greeter_server --port 50051
    python -m helloworld.greeter_client --address localhost:50051
"""

import argparse
import asyncio
import logging
import signal
import socket
import sys

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

    async def SayHello(
        self, request: HelloRequest, context: grpc.aio.ServicerContext[HelloRequest, HelloReply]
    ) -> HelloReply:
        log.info("SayHello %.100r", request.name)  # A longer name is cut.
        try:
            message = greeting.greet(request.name)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        # The client gets the text of any other exception: chapter 2, "A bug in your servicer".
        return HelloReply(message=message)


async def start(address: str) -> tuple[grpc.aio.Server, int]:
    """Starts a server on address ("127.0.0.1:0" takes any free port); returns it and its port.

    The server belongs to the running event loop. Raises RuntimeError if the port is taken.
    """
    # By default a second server could share the port unnoticed.
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    add_GreeterServicer_to_server(Greeter(), server)
    port = server.add_insecure_port(address)
    await server.start()
    return server, port


async def serve(host: str, port: int) -> None:
    """Serves until SIGINT or SIGTERM, then lets calls in flight finish."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    try:
        # Probe the port first: the socket's error says why it is unavailable, gRPC's does not.
        socket.create_server((host, port)).close()
        server, port = await start(f"{host}:{port}")
    except (OSError, OverflowError, RuntimeError) as error:
        sys.exit(f"error: {error}")
    print(f"listening on {host}:{port}", flush=True)

    await stop.wait()
    # From here on, a second signal ends the process at once.
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    print(
        f"stopping: calls in flight have {GRACE} s to finish; Ctrl-C again ends at once", flush=True
    )
    await server.stop(GRACE)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the Greeter service with asyncio.")
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
    asyncio.run(serve(args.host, args.port))


if __name__ == "__main__":
    main()
