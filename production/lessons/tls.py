"""Server certificates, good and bad, and a client's error for each of them.

Run it with certificates for development:

    make certs
    GRPC_VERBOSITY=NONE python -m production.lessons.tls
"""

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

CERTIFICATES = [
    "server",
    "server-expired",
    "server-not-yet-valid",
    "server-wrong-host",
    "foreign-server",
]
REASONS = [
    "certificate has expired",
    "certificate is not yet valid",
    "Hostname Verification Check failed",
    "unable to get local issuer certificate",
]


def start(folder: Path, name: str) -> tuple[grpc.Server, int]:
    """A server that shows the named certificate, and its port."""
    pair = (folder / f"{name}.key").read_bytes(), (folder / f"{name}.pem").read_bytes()
    server = grpc.server(ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    server.start()
    return server, port


def say(folder: Path, port: int) -> str:
    """What a client that trusts our authority, and nobody else, says to the server."""
    trusted = grpc.ssl_channel_credentials((folder / "ca.pem").read_bytes())
    with grpc.secure_channel(f"localhost:{port}", trusted) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
        except grpc.RpcError as error:
            return f"{error.code().name}: {why(error.details() or '')}"
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def why(details: str) -> str:
    """The part of gRPC's message that tells certificates apart."""
    return next((reason for reason in REASONS if reason in details), details)


def main() -> None:
    parser = argparse.ArgumentParser(description="Show how TLS refuses a server.")
    parser.add_argument("--certs", type=Path, default="build/certs", help="made by make certs")
    args = parser.parse_args()
    try:
        for name in CERTIFICATES:
            server, port = start(args.certs, name)
            print(f"{name:22}{say(args.certs, port)}")
            server.stop(None).wait()
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}")


if __name__ == "__main__":
    main()
