"""Keepalive: a dead connection is noticed, and a client that pings too often is disconnected.

Run it:

    python -m production.lessons.keepalive
"""

import argparse
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf.duration_pb2 import Duration

from production.development import echo_server
from production.development.relay import Relay
from protos.echo.v1.echo_pb2 import EchoRequest
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub

Options = list[tuple[str, int]]
CALL_S = 7
PINGS: Options = [
    ("grpc.keepalive_time_ms", 1_000),
    ("grpc.http2.max_pings_without_data", 0),  # Else gRPC sends two, then one a minute.
]
OLD_TIMEOUT, TIMEOUT = ("grpc.keepalive_timeout_ms", 1_000), ("grpc.http2.ping_timeout_ms", 1_000)
ALLOWED: Options = [("grpc.http2.min_ping_interval_without_data_ms", 500)]
"""By default a server allows one ping in five minutes."""


def ended(server_options: Options, client_options: Options, cut: bool) -> str:
    """How a call of seven seconds ends, and when."""
    server, port = echo_server.start("127.0.0.1:0", report=lambda _: None, options=server_options)
    request = EchoRequest(delay=Duration(seconds=CALL_S))
    with Relay(port) as wire, grpc.insecure_channel(wire.address, client_options) as channel:
        stub = EchoServiceStub(channel)
        stub.UnaryEcho(EchoRequest(), timeout=10)  # Connected.
        wire.is_cut = cut
        started = time.monotonic()
        try:
            stub.UnaryEcho(request, timeout=CALL_S + 2)
            seen = "OK"
        except grpc.RpcError as error:
            seen = f"{error.code().name}: {error.details()}"
        seconds = time.monotonic() - started
    server.stop(None).wait()
    return f"{seconds:.0f} s, {seen}"


def show() -> None:
    """Calls over good and over dead connections, each at the same time as the others."""
    cases = {
        "a ping a second, not allowed": ([], PINGS, False),
        "a ping a second, allowed": (ALLOWED, PINGS, False),
        "line cut, no pings": (ALLOWED, [], True),
        "line cut, keepalive_timeout_ms": (ALLOWED, [*PINGS, OLD_TIMEOUT], True),
        "line cut, ping_timeout_ms": (ALLOWED, [*PINGS, TIMEOUT], True),
    }
    with ThreadPoolExecutor(len(cases)) as threads:
        for title, seen in zip(
            cases, threads.map(lambda case: ended(*case), cases.values()), strict=True
        ):
            print(f"{title:32}{seen}")


def main() -> None:
    argparse.ArgumentParser(description="Show what keepalive is for.").parse_args()
    show()


if __name__ == "__main__":
    main()
