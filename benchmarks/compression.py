"""What compression costs and saves for a message of 75 kB, and below which network it pays.

python -m benchmarks.compression
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
from google.protobuf.json_format import ParseDict
from rich import box
from rich.table import Table

from benchmarks import harness
from benchmarks.encoding import people
from benchmarks.harness import BenchmarkError
from benchmarks.streaming_server import SERVICE
from production.lessons.wire import Wire
from protobuf_demo.addressbook_pb2 import AddressBook

CALLS = 50
"""Of each kind in a round."""
KINDS = {
    "none": grpc.Compression.NoCompression,
    "deflate": grpc.Compression.Deflate,
    "gzip": grpc.Compression.Gzip,
}


class Cost(NamedTuple):
    sent: int
    """Bytes on the wire for one request."""
    ms: float
    """Milliseconds for one call, there and back."""


def sender(channel: grpc.Channel) -> Callable[[], None]:
    """Sends a thousand people, whom the server sends back as they are, not compressed."""
    book = ParseDict({"people": people()}, AddressBook())
    method: Any = channel.unary_unary(
        f"/{SERVICE}/Batch", AddressBook.SerializeToString, AddressBook.FromString
    )

    def send() -> None:
        if method(book, timeout=30) != book:
            raise BenchmarkError("what came back is not what was sent")

    return send


def measure(kind: str, address: str) -> Cost:
    """One round of a kind. Raises BenchmarkError, grpc.RpcError."""
    with (
        Wire(int(address.rpartition(":")[2])) as wire,
        grpc.insecure_channel(wire.address, compression=KINDS[kind]) as channel,
    ):
        send = sender(channel)
        send()
        before = wire.sent
        send()
        sent = wire.sent - before
    with grpc.insecure_channel(address, compression=KINDS[kind]) as channel:
        send = sender(channel)
        send()
        started = time.perf_counter()
        for _ in range(CALLS):
            send()
        return Cost(sent, (time.perf_counter() - started) / CALLS * 1000)


def pays_below(costs: dict[str, list[Cost]], kind: str) -> float:
    """Megabits per second of a network on which it is as fast to compress as not to.

    The median over the rounds; infinite where compression takes no time that can be seen.
    """
    each = [
        (without.sent - packed.sent) * 8 / 1000 / max(packed.ms - without.ms, 1e-9)
        for without, packed in zip(costs["none"], costs[kind], strict=True)
    ]
    return statistics.median(each)


def table(costs: dict[str, list[Cost]]) -> Table:
    result = Table(box=box.SIMPLE_HEAD)
    result.add_column("compression", no_wrap=True)
    for heading in ("bytes sent", "ms a call", "pays below Mbit/s"):
        result.add_column(heading, justify="right", no_wrap=True)
    for kind, each in costs.items():
        sent, taken = map(statistics.median, zip(*each, strict=True))
        below = "" if kind == "none" else f"{pays_below(costs, kind):,.0f}"
        result.add_row(kind, f"{sent:,.0f}", f"{taken:.2f}", below)
    return result


def verdict(costs: dict[str, list[Cost]]) -> str:
    """What holds of the claim."""
    best = max(pays_below(costs, kind) for kind in KINDS if kind != "none")
    return f'holds only below {best:,.0f} Mbit/s: "compression makes large messages faster"'


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure compression.")
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    with (
        harness.ending_clearly(grpc.RpcError),
        harness.server("benchmarks.streaming_server") as (_, address),
    ):
        costs = harness.compare(list(KINDS), args.rounds, lambda kind: measure(kind, address))
    harness.save(harness.RESULTS / "compression.json", costs)
    print(harness.text(table(costs), verdict(costs)))


if __name__ == "__main__":
    main()
