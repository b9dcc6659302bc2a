"""Measures what encryption costs a client: to connect and call once, then to call again.

Run it:

    python -m benchmarks tls
"""

import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import grpc

from benchmarks import harness, tables
from benchmarks.harness import BenchmarkError
from benchmarks.loads.greetings import MESSAGE, NAME
from benchmarks.registry import Claim, Settings
from benchmarks.servers.tls_server import KINDS
from helloworld.helloworld_pb2 import HelloRequest
from helloworld.helloworld_pb2_grpc import GreeterStub
from production.development import certificates

CONNECTIONS, CALLS = 20, 500
"""Each kind of channel makes this many in a round."""
SLOW = 1.1
"""A call takes this many times as long where TLS is slow."""
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]


class ChannelRun(NamedTuple):
    first_ms: float
    """Milliseconds to connect and call once; the median of all connections."""
    rate: float
    """Calls per second, one after the other, once connected."""


def open_channel(kind: str, address: str, certs: Path) -> grpc.Channel:
    if kind == "plaintext":
        return grpc.insecure_channel(address, OWN_CONNECTION)
    pair: tuple[bytes | None, bytes | None] = (None, None)
    if kind == "mutual TLS":
        pair = (certs / "operator.key").read_bytes(), (certs / "operator.pem").read_bytes()
    credentials = grpc.ssl_channel_credentials((certs / "ca.pem").read_bytes(), *pair)
    return grpc.secure_channel(address, credentials, OWN_CONNECTION)


def call(channel: grpc.Channel) -> None:
    reply = GreeterStub(channel).SayHello(HelloRequest(name=NAME), timeout=30).message
    if reply != MESSAGE:
        raise BenchmarkError(f"wrong reply: {reply!r}")


def measure_kind(kind: str, address: str, certs: Path) -> ChannelRun:
    """Measures one round. Raises BenchmarkError, grpc.RpcError."""
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
        return ChannelRun(statistics.median(first) * 1000, CALLS / (time.perf_counter() - started))


def measure(settings: Settings) -> dict[str, list[ChannelRun]]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        certs = Path(folder)
        certificates.make(certs)
        addresses = {}
        for kind in KINDS:
            server = harness.server("benchmarks.servers.tls_server", kind, folder)
            _, address = stack.enter_context(server)
            addresses[kind] = address.replace("127.0.0.1", "localhost")
        return harness.compare(
            KINDS, settings.rounds, lambda kind: measure_kind(kind, addresses[kind], certs)
        )


def table(runs: dict[str, list[ChannelRun]]) -> str:
    rows = []
    for kind, each in runs.items():
        first_ms, rate = harness.medians(each)
        rows.append((kind, f"{first_ms:.1f}", f"{rate:,.0f}", *harness.speed(runs, kind).cells()))
    headings = "channel", "connect, call once: ms", "then calls/s", "× plaintext", "range"
    return tables.table(headings, rows)


def verdict(runs: dict[str, list[ChannelRun]]) -> str:
    """Judges the claim."""
    ratio = harness.speed(runs, "TLS").median
    finding = f"TLS is slow, when connected it gives {ratio:.2f} × the calls of plaintext"
    return f"{tables.judge(1 / ratio, SLOW)}: {finding}"


CLAIM = Claim(
    "Encryption", ChannelRun, measure, table, verdict, Settings(rounds=10),
    errors=(grpc.RpcError,),
)  # fmt: skip
