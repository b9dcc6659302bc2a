"""Compression: what goes over the wire with it and without, and what it costs.

Run it:

    python -m production.lessons.compression
"""

import argparse
import os
import statistics
import time

import grpc

from production.development import echo_server
from production.development.relay import Relay
from protos.echo.v1.echo_pb2 import EchoRequest
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub

CALLS = 30
GUESTS = b"".join(b"guest %d <%d@example.com>, " % (n, n * n) for n in range(3_100))
PAYLOADS = {
    "guests, 100 kB": GUESTS[:100_000],
    "random, 100 kB": os.urandom(100_000),
    "guests, 60 B": GUESTS[:60],
}
NONE, DEFLATE, GZIP = (
    grpc.Compression.NoCompression,
    grpc.Compression.Deflate,
    grpc.Compression.Gzip,
)


def measured(port: int, payload: bytes, compression: grpc.Compression) -> tuple[float, float]:
    """Bytes on the wire and ms of CPU, of client and server, for one request: medians."""
    sizes, times = [], []
    with (
        Relay(port) as wire,
        grpc.insecure_channel(wire.address, compression=compression) as channel,
    ):
        stub = EchoServiceStub(channel)
        stub.UnaryEcho(EchoRequest(), timeout=30)
        for _ in range(CALLS):
            before, started = wire.sent, time.process_time()
            stub.UnaryEcho(EchoRequest(payload=payload), timeout=30)
            sizes.append(wire.sent - before)
            times.append((time.process_time() - started) * 1000)
    return statistics.median(sizes), statistics.median(times)


def show() -> None:
    """Prints bytes and time for each payload, each way."""
    server, port = echo_server.start("127.0.0.1:0", report=lambda _: None)
    print(f"{'':17}{'none':>18}{'deflate':>18}{'gzip':>18}")
    for title, payload in PAYLOADS.items():
        cells = [measured(port, payload, way) for way in (NONE, DEFLATE, GZIP)]
        columns = "".join(f"{size:8,.0f} B {ms:4.1f} ms" for size, ms in cells)
        print(f"{title:17}{columns}")
    server.stop(None).wait()


def main() -> None:
    argparse.ArgumentParser(description="Show what compression saves and costs.").parse_args()
    show()


if __name__ == "__main__":
    main()
