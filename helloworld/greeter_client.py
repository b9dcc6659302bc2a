"""Calls the Greeter service once and prints the greeting.

Run it against a server in another terminal:

    python -m helloworld.greeter_server --port 50051
    python -m helloworld.greeter_client --address localhost:50051 --name 你好
"""

import argparse
import signal
import sys

import grpc

from helloworld import command_line
from helloworld.helloworld_pb2 import HelloRequest
from helloworld.helloworld_pb2_grpc import GreeterStub


def greet(stub: GreeterStub, name: str, timeout: float) -> str:
    """Returns the server's greeting for name.

    Raises grpc.RpcError: INVALID_ARGUMENT if the server refuses the name, UNAVAILABLE if it cannot
    be reached, DEADLINE_EXCEEDED if the call takes longer than timeout seconds.
    """
    reply = stub.SayHello(HelloRequest(name=name), timeout=timeout)
    return reply.message


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask the Greeter service for a greeting.")
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

    # One channel serves a whole program and all its threads: opening one is slow, a call is not.
    with grpc.insecure_channel(args.address) as channel:
        stub = GreeterStub(channel)
        try:
            print(greet(stub, args.name, args.timeout))
        except grpc.RpcError as error:
            sys.exit(f"error: {error.code().name}: {error.details()}")


if __name__ == "__main__":
    main()
