"""Asks the Greeter service for one greeting.

Run it against a server in another terminal:

    python -m helloworld.greeter_server --port 50051
    python -m helloworld.greeter_client --address localhost:50051 --name 你好
"""

import argparse
import signal
import sys

import grpc

from helloworld.helloworld_pb2 import HelloRequest
from helloworld.helloworld_pb2_grpc import GreeterStub


def greet(stub: GreeterStub, name: str, timeout: float) -> str:
    """The server's greeting for name, waiting at most timeout seconds.

    Raises grpc.RpcError: INVALID_ARGUMENT when the server refuses the name, UNAVAILABLE when it
    cannot be reached, DEADLINE_EXCEEDED when it takes too long.
    """
    reply = stub.SayHello(HelloRequest(name=name), timeout=timeout)
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


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask the Greeter service for a greeting.")
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

    # One channel serves a whole program, every thread of it: opening one is slow, a call is not.
    with grpc.insecure_channel(args.address) as channel:
        stub = GreeterStub(channel)
        try:
            print(greet(stub, args.name, args.timeout))
        except grpc.RpcError as error:
            sys.exit(f"error: {error.code().name}: {error.details()}")


if __name__ == "__main__":
    main()
