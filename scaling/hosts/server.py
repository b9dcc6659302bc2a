"""EchoService, on an address that other hosts reach; prints when each call begins and ends.

Run it, as the programs of this folder do on their hosts:

    python -m scaling.hosts.server --address 127.0.0.1:50051
"""

import argparse
import os
import time
from collections.abc import Iterator
from functools import partial

import grpc

from production.calling import addresses
from production.development.echo_server import EchoServicer
from production.development.serving import serve_until_signal
from protos.echo.v1.echo_pb2 import EchoRequest, EchoResponse
from scaling import backend

GRACE = 1.0
PINGS = [
    # For the clients of cut_off.py. By default a client may ping once in five minutes.
    ("grpc.http2.min_ping_interval_without_data_ms", 500),
]
KEEPALIVE = [
    ("grpc.keepalive_time_ms", 2_000),
    ("grpc.http2.ping_timeout_ms", 2_000),
    ("grpc.http2.max_pings_without_data", 0),
]


class Servicer(EchoServicer):
    """Prints when calls begin, answer and end, as `begins MESSAGE SECONDS`."""

    def __init__(self, name: str) -> None:
        super().__init__(name, lambda _: None)

    def UnaryEcho(self, request: EchoRequest, context: grpc.ServicerContext) -> EchoResponse:
        follow(request, context)
        response = super().UnaryEcho(request, context)
        if request.message and context.is_active():
            report("answers", request.message)
        return response

    def ServerStreamingEcho(
        self, request: EchoRequest, context: grpc.ServicerContext
    ) -> Iterator[EchoResponse]:
        follow(request, context)
        return super().ServerStreamingEcho(request, context)


def follow(request: EchoRequest, context: grpc.ServicerContext) -> None:
    """Prints that a call begins and, once it does, that it ends. One without a message is quiet."""
    if request.message:
        report("begins", request.message)
        context.add_callback(partial(report, "ends", request.message))


def report(what: str, message: str) -> None:
    """Prints a line in one piece, from any thread."""
    os.write(1, f"{what} {message} {time.monotonic()}\n".encode())


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve EchoService to other hosts.")
    parser.add_argument("--address", type=addresses.address, default="127.0.0.1:50051")
    parser.add_argument("--name", default="echo", help="served_by (default: %(default)s)")
    parser.add_argument("--keepalive", action="store_true", help="ping a silent client after 2 s")
    args = parser.parse_args()
    options = [*PINGS, *(KEEPALIVE if args.keepalive else [])]
    servicer = Servicer(args.name)
    start = partial(backend.start, name=args.name, servicer=servicer, options=options)
    serve_until_signal(start, args.address, GRACE)


if __name__ == "__main__":
    main()
