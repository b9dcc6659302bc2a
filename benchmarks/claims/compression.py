"""Measures what compression costs and saves, and on which networks it pays.

Run it:

    python -m benchmarks compression
"""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
from google.protobuf.json_format import ParseDict

from benchmarks import harness, tables
from benchmarks.claims.encoding import people
from benchmarks.harness import BenchmarkError
from benchmarks.registry import Claim, Settings
from benchmarks.servers.streaming_server import SERVICE
from production.development.relay import Relay
from protobuf_demo.addressbook_pb2 import AddressBook

CALLS = 50
"""Each kind makes this many in a round."""
KINDS = {
    "none": grpc.Compression.NoCompression,
    "deflate": grpc.Compression.Deflate,
    "gzip": grpc.Compression.Gzip,
}


class Transfer(NamedTuple):
    sent: int
    """Bytes on the wire for one request."""
    ms: float
    """Milliseconds for one call, request and reply."""


def sender(channel: grpc.Channel) -> Callable[[], None]:
    """Returns a function that sends a thousand people; the server sends them back uncompressed."""
    book = ParseDict({"people": people()}, AddressBook())
    method: Any = channel.unary_unary(
        f"/{SERVICE}/Batch", AddressBook.SerializeToString, AddressBook.FromString
    )

    def send() -> None:
        if method(book, timeout=30) != book:
            raise BenchmarkError("what came back is not what was sent")

    return send


def measure_kind(kind: str, address: str) -> Transfer:
    """Measures one round. Raises BenchmarkError, grpc.RpcError."""
    with (
        Relay(int(address.rpartition(":")[2])) as wire,
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
        return Transfer(sent, (time.perf_counter() - started) / CALLS * 1000)


def pays_below(runs: dict[str, list[Transfer]], kind: str) -> float:
    """Returns the megabits per second below which a network gains from compression.

    It is the median over the rounds, and huge if compression takes no measurable time.
    """
    each = [
        (without.sent - packed.sent) * 8 / 1000 / max(packed.ms - without.ms, 1e-9)
        for without, packed in zip(runs["none"], runs[kind], strict=True)
    ]
    return statistics.median(each)


def measure(settings: Settings) -> dict[str, list[Transfer]]:
    with harness.server("benchmarks.servers.streaming_server") as (_, address):
        return harness.compare(
            list(KINDS), settings.rounds, lambda kind: measure_kind(kind, address)
        )


def table(runs: dict[str, list[Transfer]]) -> str:
    rows = []
    for kind, each in runs.items():
        sent, ms = harness.medians(each)
        below = "" if kind == "none" else f"{pays_below(runs, kind):,.0f}"
        rows.append((kind, f"{sent:,.0f}", f"{ms:.2f}", below))
    return tables.table(("compression", "bytes sent", "ms a call", "pays below Mbit/s"), rows)


def verdict(runs: dict[str, list[Transfer]]) -> str:
    """Names the networks on which the claim holds."""
    best = max(pays_below(runs, kind) for kind in KINDS if kind != "none")
    return f'holds only below {best:,.0f} Mbit/s: "compression makes large messages faster"'


CLAIM = Claim(
    "Compression", Transfer, measure, table, verdict, Settings(rounds=10),
    errors=(grpc.RpcError,),
)  # fmt: skip
