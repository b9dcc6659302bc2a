"""What encryption costs a client: to connect and call once, and to call when connected.

python -m benchmarks.tls
"""

import argparse
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import grpc
from rich import box
from rich.table import Table

from benchmarks import harness
from benchmarks.greetings import MESSAGE, NAME
from benchmarks.harness import BenchmarkError
from benchmarks.tls_server import KINDS
from helloworld.helloworld_pb2 import HelloRequest
from helloworld.helloworld_pb2_grpc import GreeterStub
from production import certificates

CONNECTIONS, CALLS = 20, 500
"""Of each kind in a round."""
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]


class Cost(NamedTuple):
    first_ms: float
    """To connect, and call once; the median of some connections."""
    rate: float
    """Calls per second, one after the other, when connected."""


def open_channel(kind: str, address: str, certs: Path) -> grpc.Channel:
    if kind == "plaintext":
        return grpc.insecure_channel(address, OWN_CONNECTION)
    pair: tuple[bytes | None, bytes | None] = (None, None)
    if kind == "mutual TLS":
        pair = (certs / "operator.key").read_bytes(), (certs / "operator.pem").read_bytes()
    credentials = grpc.ssl_channel_credentials((certs / "ca.pem").read_bytes(), *pair)
    return grpc.secure_channel(address, credentials, OWN_CONNECTION)


def call(channel: grpc.Channel) -> None:
    found = GreeterStub(channel).SayHello(HelloRequest(name=NAME), timeout=30).message
    if found != MESSAGE:
        raise BenchmarkError(f"wrong reply: {found!r}")


def measure(kind: str, address: str, certs: Path) -> Cost:
    """One round of a kind. Raises BenchmarkError, grpc.RpcError."""
    first = []
    for _ in range(CONNECTIONS):
        started = time.perf_counter()
        with open_channel(kind, address, certs) as channel:
            call(channel)
        first.append(time.perf_counter() - started)
    with open_channel(kind, address, certs) as channel:
        call(channel)
        started = time.perf_counter()
        for _ in range(CALLS):
            call(channel)
        return Cost(statistics.median(first) * 1000, CALLS / (time.perf_counter() - started))


def table(costs: dict[str, list[Cost]]) -> Table:
    result = Table(box=box.SIMPLE_HEAD)
    result.add_column("channel", no_wrap=True)
    for heading in ("connect, call once: ms", "then calls/s", "× plaintext", "range"):
        result.add_column(heading, justify="right", no_wrap=True)
    for kind, each in costs.items():
        first, rate = map(statistics.median, zip(*each, strict=True))
        ratio = harness.speed(costs, kind)
        spread = f"{ratio.lowest:.2f} to {ratio.highest:.2f}"
        result.add_row(kind, f"{first:.1f}", f"{rate:,.0f}", f"{ratio.median:.2f}", spread)
    return result


def verdict(costs: dict[str, list[Cost]]) -> str:
    """What holds of the claim."""
    ratio = harness.speed(costs, "TLS").median
    holds = "does not hold" if ratio > 0.9 else "holds"
    return f"{holds}: TLS is slow, when connected it gives {ratio:.2f} × the calls of plaintext"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what encryption costs.")
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    with (
        harness.ending_clearly(grpc.RpcError),
        tempfile.TemporaryDirectory() as folder,
        ExitStack() as stack,
    ):
        certs = Path(folder)
        certificates.make(certs)
        addresses = {}
        for kind in KINDS:
            server = harness.server("benchmarks.tls_server", kind, folder)
            _, address = stack.enter_context(server)
            addresses[kind] = address.replace("127.0.0.1", "localhost")
        costs = harness.compare(
            KINDS, args.rounds, lambda kind: measure(kind, addresses[kind], certs)
        )
    harness.save(harness.RESULTS / "tls.json", costs)
    print(harness.text(table(costs), verdict(costs)))


if __name__ == "__main__":
    main()
