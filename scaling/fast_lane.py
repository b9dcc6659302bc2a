"""Chapter 2's Greeter, unchanged, on an HTTP/2 server in Rust.

Run it, then call it from a second terminal:

    python -m scaling.fast_lane --port 50051
    python -m helloworld.greeter_client --address localhost:50051
"""

import argparse
from concurrent import futures

import grpc
import pygrpc_native

from helloworld.greeter_server import Greeter
from helloworld.helloworld_pb2_grpc import add_GreeterServicer_to_server
from production.calling import addresses
from production.development.serving import serve_until_signal

HOST = "127.0.0.1"
GRACE = 10.0
"""Seconds that calls in flight have to finish when the server stops."""


def start(address: str) -> tuple[grpc.Server, int]:
    """Starts a server on address, HOST:PORT (port 0 takes any); returns it and its port.

    Raises RuntimeError or OSError if the port is taken.
    """
    server = pygrpc_native.server(futures.ThreadPoolExecutor(max_workers=10))
    add_GreeterServicer_to_server(Greeter(), server)
    port = server.add_insecure_port(address)
    server.start()
    return server, port


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the Greeter service, fast.")
    parser.add_argument("--port", type=addresses.port, default=50051, help="(default: %(default)s)")
    args = parser.parse_args()
    serve_until_signal(start, f"{HOST}:{args.port}", GRACE)


if __name__ == "__main__":
    main()
