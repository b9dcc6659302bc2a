"""Serves chapter 2's Greeter in plaintext, by TLS, or by mutual TLS.

Run it:

    python -m benchmarks.servers.tls_server 'mutual TLS' build/certs
"""

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from benchmarks.servers.serving import ADDRESS, serve_threads
from helloworld.greeter_server import Greeter
from helloworld.helloworld_pb2_grpc import add_GreeterServicer_to_server

KINDS = ("plaintext", "TLS", "mutual TLS")


def add_port(server: grpc.Server, kind: str, certs: Path) -> int:
    """Listens for one kind of connection, and returns the port."""
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
    server = grpc.server(ThreadPoolExecutor(10))
    add_GreeterServicer_to_server(Greeter(), server)
    serve_threads(server, add_port(server, args.kind, args.certs))


if __name__ == "__main__":
    main()
