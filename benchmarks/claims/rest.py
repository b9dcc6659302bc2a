"""Compares gateways in front of a gRPC service, as a REST client sees them, with FastAPI.

Run it:

    python -m benchmarks rest
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import psutil

from benchmarks import harness, tables
from benchmarks.harness import ServerRun, ServerRuns
from benchmarks.registry import ROOT, Claim, Settings
from rest_gateway import demo


class Way(NamedTuple):
    """A server, and the gateway in front of it."""

    server: str
    front: str | None = None


WAYS = {
    "FastAPI": Way("fastapi"),
    "grpc-gateway → grpcio": Way("grpcio", "gateway"),
    "Envoy → grpcio": Way("grpcio", "envoy"),
    "Envoy → pygrpc-native": Way("native", "envoy"),
}
GOALS = {"Envoy → pygrpc-native": 1.0, "Envoy → grpcio": 0.5}
"""Each should give this many times FastAPI's calls per second."""
LAST = -1
"""The core of the load and of the gateway."""


@contextmanager
def started(way: Way) -> Iterator[tuple[psutil.Process, list[psutil.Process], str]]:
    """Starts a way; yields the server, the processes in front of it, and the address to call."""
    with harness.server("benchmarks.servers.rest_server", way.server) as (server, address):
        if not way.front:
            yield server, [], address
            return
        flags = ["--address=127.0.0.1:0", f"--contacts={address}", "--plaintext"]
        program = demo.command(way.front)
        with harness.server("", *flags, core=LAST, program=program) as (front, front_address):
            yield server, [front], front_address


def measure_way(way: Way, settings: Settings) -> ServerRun:
    """Measures one run, after a short one that does not count."""
    with started(way) as (server, fronts, address):
        load = ["benchmarks.loads.http_load", address, f"--in-flight={settings.in_flight}"]
        harness.measure(server, [*load, f"--seconds={settings.seconds / 10}"])
        return harness.measure(server, [*load, f"--seconds={settings.seconds}"], fronts)


def measure(settings: Settings) -> ServerRuns:
    return harness.compare(
        list(WAYS), settings.rounds, lambda title: measure_way(WAYS[title], settings)
    )


def table(runs: ServerRuns) -> str:
    rows = []
    for title, each in runs.items():
        run = harness.medians(each)
        latency = f"{run.p50_ms:.1f}", f"{run.p99_ms:.1f}"
        cost = f"{run.cpu_ms:.3f}", f"{run.front_ms:.3f}"
        against = harness.speed(runs, title).cells()
        rows.append((title, harness.rate_cell(each), *latency, *cost, *against))
    headings = "way", "calls/s", "p50 ms", "p99 ms", "server ms", "front ms", "× FastAPI", "range"
    caption = "ms: of CPU time a call. * the front or the load was the limit, not the server"
    return tables.table(headings, rows, caption)


def verdict(runs: ServerRuns) -> str:
    """Judges the claims, a line each."""
    lines = []
    for title, goal in GOALS.items():
        median = harness.speed(runs, title).median
        finding = f"{title} gives {median:.2f} × FastAPI's calls per second"
        lines.append(tables.verdict(median, finding, goal))
    return "\n".join(lines)


CLAIM = Claim(
    "Speed", ServerRun, measure, table, verdict, Settings(rounds=5, seconds=3),
    page=ROOT / "rest_gateway" / "README.md",
)  # fmt: skip
