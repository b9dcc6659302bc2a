"""Makes calls over lines that are slow, narrow or lossy: nothing fails, everything takes longer.

Run it:

    GRPC_VERBOSITY=NONE python -m scaling.hosts.lossy_line
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

import grpc

from production.development import child
from protos.echo.v1.echo_pb2 import EchoRequest
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub
from scaling.hosts.network import Host, enter, host

CALLS = 50
LARGE_BYTES = 1 << 20
DEADLINE_S = 60.0
PORT = 50051


class Line(NamedTuple):
    """A kind of line."""

    title: str
    delay_ms: int = 0
    """In each direction."""
    kbit: int = 0
    """The rate in kilobits a second, 0 for no limit."""
    loss: float = 0


LINES = [
    Line("as it is"),
    Line("10 ms each way", 10),
    Line("10 ms, 5 % lost", 10, loss=0.05),
    Line("10 ms, 8 Mbit/s", 10, 8_000),
    Line("10 ms, 8 Mbit/s, 5 % lost", 10, 8_000, 0.05),
]


def seconds(call: Callable[[], object]) -> float:
    """Returns how long a call took. Raises grpc.RpcError."""
    started = time.monotonic()
    call()
    return time.monotonic() - started


def measure(line: Line, to: Host) -> str:
    """Makes small calls, then a large one; returns the row of the table."""
    small, large = EchoRequest(), EchoRequest(payload_bytes=LARGE_BYTES)
    options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
    command = to.python("scaling.hosts.server", f"--address={to.address}:{PORT}")
    with (
        child.server(command) as (_, address),
        grpc.insecure_channel(address, options) as channel,
    ):
        stub = EchoServiceStub(channel)
        stub.UnaryEcho(small, timeout=DEADLINE_S)  # Connects.
        if line.kbit:
            to.limit(line.kbit)
        to.lose(line.loss)
        times = [
            seconds(lambda: stub.UnaryEcho(small, timeout=DEADLINE_S)) * 1000 for _ in range(CALLS)
        ]
        took = seconds(lambda: stub.UnaryEcho(large, timeout=DEADLINE_S))
        to.heal()
    return f"{statistics.median(times):6.0f} ms{max(times):9.0f} ms{took:9.1f} s"


def main() -> None:
    argparse.ArgumentParser(description="Call over bad lines.").parse_args()
    enter("scaling.hosts.lossy_line")
    print(f"{'the line':28}{'median of 50':>12}{'slowest':>9}{'1 MiB':>11}")
    for number, line in enumerate(LINES):
        with ExitStack() as stack:
            to = stack.enter_context(host(f"host-{number}", delay_ms=line.delay_ms))
            print(f"{line.title:28}{measure(line, to)}", flush=True)


if __name__ == "__main__":
    main()
