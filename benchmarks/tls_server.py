"""Chapter 2's Greeter in plaintext, by TLS, or by mutual TLS.

python -m benchmarks.tls_server mtls build/certs
"""

import argparse
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from helloworld.greeter_server import Greeter
from helloworld.helloworld_pb2_grpc import add_GreeterServicer_to_server

ADDRESS = "127.0.0.1:0"
KINDS = ("plaintext", "TLS", "mutual TLS")


def add_port(server: grpc.Server, kind: str, certs: Path) -> int:
    """Listens in one of the ways; returns the port."""
    if kind == "plaintext":
        return server.add_insecure_port(ADDRESS)
    pair = (certs / "server.key").read_bytes(), (certs / "server.pem").read_bytes()
    authority = (certs / "ca.pem").read_bytes() if kind == "mutual TLS" else None
    credentials = grpc.ssl_server_credentials([pair], authority, authority is not None)
    return server.add_secure_port(ADDRESS, credentials)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve a greeting, encrypted or not.")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("certs", type=Path)
    args = parser.parse_args()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    server = grpc.server(ThreadPoolExecutor(10))
    add_GreeterServicer_to_server(Greeter(), server)
    port = add_port(server, args.kind, args.certs)
    server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    stop.wait()
    server.stop(None).wait()


if __name__ == "__main__":
    main()
