"""Asks the Greeter service for one greeting, with asyncio.

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

from helloworld.helloworld_pb2 import HelloRequest
from helloworld.helloworld_pb2_grpc import GreeterStub

if TYPE_CHECKING:  # The stub has one class at run time, two for the type checker.
    from helloworld.helloworld_pb2_grpc import GreeterAsyncStub


async def greet(stub: "GreeterAsyncStub", name: str, timeout: float) -> str:
    """The server's greeting for name, waiting at most timeout seconds.

    Raises grpc.aio.AioRpcError: INVALID_ARGUMENT when the server refuses the name, UNAVAILABLE when
    it cannot be reached, DEADLINE_EXCEEDED when it takes too long.
    """
    reply = await stub.SayHello(HelloRequest(name=name), timeout=timeout)
    return reply.message


def address(value: str) -> str:
    """HOST:PORT. Checked here because gRPC takes port 70000 for 4464."""
    host, _, port = value.encode().decode().rpartition(":")
    if not host or not 1 <= int(port) <= 65535:
        raise ValueError
    return value


def text(value: str) -> str:
    """Text that protobuf can carry. Raises ValueError for bytes that are not UTF-8."""
    value.encode()
    return value


def seconds(value: str) -> float:
    """Seconds, above 0 and up to a day. Checked here because gRPC takes 1e300 for "at once"."""
    if not 0 < float(value) <= 86_400:
        raise ValueError
    return float(value)


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
        type=address,
        default="localhost:50051",
        help="HOST:PORT of the server (default: %(default)s)",
    )
    parser.add_argument(
        "--name", type=text, default="world", help="who is greeted (default: %(default)s)"
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=5,
        help="seconds to wait for the answer (default: %(default)s)",
    )
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends a client without a traceback.
    asyncio.run(run(args.address, args.name, args.timeout))


if __name__ == "__main__":
    main()
