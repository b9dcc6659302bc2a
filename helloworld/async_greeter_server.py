"""The Greeter service, answered by one event loop instead of threads.

Run it, then call it from a second terminal:

    python -m helloworld.async_greeter_server --port 50051
    python -m helloworld.greeter_client --address localhost:50051
"""

import argparse
import asyncio
import signal
import socket
import sys

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

    async def SayHello(
        self, request: HelloRequest, context: grpc.aio.ServicerContext[HelloRequest, HelloReply]
    ) -> HelloReply:
        try:
            message = greeting.greet(request.name)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return HelloReply(message=message)


async def start(address: str) -> tuple[grpc.aio.Server, int]:
    """Starts a server on address ("127.0.0.1:0" takes any free port); returns it and its port.

    The server belongs to the running event loop. Raises RuntimeError when the port is taken.
    """
    # By default a second server could share the port unnoticed.
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    add_GreeterServicer_to_server(Greeter(), server)
    port = server.add_insecure_port(address)
    await server.start()
    return server, port


async def serve(wanted_port: int) -> None:
    """Serves until SIGINT or SIGTERM, then lets calls in flight finish."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    try:
        # Asked first because it says why a port cannot be had; gRPC does not.
        socket.create_server((HOST, wanted_port)).close()
        server, port = await start(f"{HOST}:{wanted_port}")
    except (OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")
    print(f"listening on {HOST}:{port}", flush=True)

    await stop.wait()
    # From here a second signal ends the process at once.
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    print("stopping: calls in flight may finish", flush=True)
    await server.stop(GRACE)


def port_number(value: str) -> int:
    """A TCP port, 0 to 65535. Checked here because gRPC takes 70000 for 4464."""
    if not 0 <= int(value) <= 65535:
        raise ValueError
    return int(value)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the Greeter service with asyncio.")
    parser.add_argument(
        "--port", type=port_number, default=50051, help="0: any free port (default: %(default)s)"
    )
    args = parser.parse_args()
    asyncio.run(serve(args.port))


if __name__ == "__main__":
    main()
