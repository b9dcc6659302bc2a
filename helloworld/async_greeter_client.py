"""Calls the Greeter service once, with asyncio, and prints the greeting.

Run it against a server in another terminal:

    python -m helloworld.greeter_server --port 50051
    python -m helloworld.async_greeter_client --address localhost:50051 --name 你好
"""

import argparse
import asyncio
import signal
import sys
from typing import TYPE_CHECKING

import grpc

from helloworld import command_line
from helloworld.helloworld_pb2 import HelloRequest
from helloworld.helloworld_pb2_grpc import GreeterStub

if TYPE_CHECKING:  # At run time both kinds of channel share one class of stub.
    from helloworld.helloworld_pb2_grpc import GreeterAsyncStub


async def greet(stub: "GreeterAsyncStub", name: str, timeout: float) -> str:
    """Returns the server's greeting for name.

    Raises grpc.RpcError: INVALID_ARGUMENT if the server refuses the name, UNAVAILABLE if it cannot
    be reached, DEADLINE_EXCEEDED if the call takes longer than timeout seconds.
    """
    reply = await stub.SayHello(HelloRequest(name=name), timeout=timeout)
    return reply.message


async def run(address: str, name: str, timeout: float) -> None:
    """Prints one greeting. The channel belongs to the event loop that runs this."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = GreeterStub(channel)
        try:
            print(await greet(stub, name, timeout))
        except grpc.aio.AioRpcError as error:
            sys.exit(f"error: {error.code().name}: {error.details()}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Ask the Greeter service for a greeting, with asyncio."
    )
    parser.add_argument(
        "--address",
        type=command_line.address,
        default="localhost:50051",
        help="HOST:PORT of the server (default: %(default)s)",
    )
    parser.add_argument(
        "--name",
        type=command_line.text,
        default="world",
        help="the name to greet (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout",
        type=command_line.seconds,
        default=5,
        help="seconds to wait for the answer (default: %(default)s)",
    )
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends a client without a traceback.
    asyncio.run(run(args.address, args.name, args.timeout))


if __name__ == "__main__":
    main()
