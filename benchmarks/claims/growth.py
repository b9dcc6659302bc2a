"""Measures how the rate of calls changes with calls in flight, and with the size of messages.

Run it:

    python -m benchmarks growth
"""

from collections.abc import Callable
from typing import NamedTuple

from benchmarks import harness, tables
from benchmarks.claims import unary
from benchmarks.harness import ServerRun, ServerRuns
from benchmarks.loads import greetings, h2load
from benchmarks.registry import Claim, Settings

SERVERS = ("grpc.aio", "grpcio, 10 threads", "pygrpc-native, asyncio", "connectrpc", "FastAPI")
IN_FLIGHT_FOR_SIZES = 8


def with_in_flight(server: str, in_flight: int, seconds: float) -> ServerRun:
    return unary.measure_server(server, seconds, in_flight)


def with_bytes(server: str, size: int, seconds: float) -> ServerRun:
    """Measures replies whose text has size bytes."""
    name_length = size - greetings.OVERHEAD
    return unary.measure_server(server, seconds, IN_FLIGHT_FOR_SIZES, name_length)


class Sweep(NamedTuple):
    """A quantity that grows: its values, and the measurement of a server at one of them."""

    points: tuple[int, ...]
    measure: Callable[[str, int, float], ServerRun]


SWEEPS = {
    "calls in flight": Sweep((1, 4, 16, 64, 256), with_in_flight),
    # gRPC's limit is 4 MiB unless a server and its clients raise it.
    "bytes": Sweep((10, 1_000, 16_000, 256_000, 4_000_000), with_bytes),
}


class Case(NamedTuple):
    """A server at a point of a sweep."""

    sweep: str
    server: str
    point: int

    @property
    def name(self) -> str:
        return f"{self.server}, {self.point} {self.sweep}"


CASES = [
    Case(name, server, point)
    for name, sweep in SWEEPS.items()
    for point in sweep.points
    for server in SERVERS
]


def measure(settings: Settings) -> ServerRuns:
    h2load.warn_if_absent()
    cases = {case.name: case for case in CASES}

    def measure_case(name: str) -> ServerRun:
        sweep, server, point = cases[name]
        return SWEEPS[sweep].measure(server, point, settings.seconds)

    return harness.compare(list(cases), settings.rounds, measure_case)


def runs_of(runs: ServerRuns, sweep: str, server: str) -> dict[int, list[ServerRun]]:
    """Returns the runs of a server at each point of a sweep."""
    return {point: runs[Case(sweep, server, point).name] for point in SWEEPS[sweep].points}


def table(runs: ServerRuns) -> str:
    """Renders a table for each sweep: calls per second, a row per server, a column per point."""
    return "\n".join(_table(runs, sweep) for sweep in SWEEPS)


def _table(runs: ServerRuns, sweep: str) -> str:
    rows = [
        (server, *map(harness.rate_cell, runs_of(runs, sweep, server).values()))
        for server in SERVERS
    ]
    points = (f"{point:,}" for point in SWEEPS[sweep].points)
    headings = f"calls/s, by {sweep}", *points
    return tables.table(headings, rows, "* the server waited for its load")


def verdict(runs: ServerRuns) -> str:
    """Says for each sweep where stock gRPC is faster, without the points that the load limited."""
    return "\n".join(
        f'{_where_faster(runs, sweep)} {sweep}: "gRPC is faster than REST"' for sweep in SWEEPS
    )


def _where_faster(runs: ServerRuns, sweep: str) -> str:
    faster: list[str] = []
    other: list[str] = []
    for point in SWEEPS[sweep].points:
        rest = Case(sweep, unary.REST, point).name
        stock = [Case(sweep, server, point).name for server in unary.STOCK]
        best = max(stock, key=lambda name: harness.speed(runs, name, rest).median)
        if not (harness.is_limited(runs[best]) or harness.is_limited(runs[rest])):
            judged = tables.judge(harness.speed(runs, best, rest).median)
            (faster if judged == tables.HOLDS else other).append(f"{point:,}")
    if not faster + other:
        return f"{tables.LIMITED}, at all"
    if not faster:
        return f"{tables.FAILS} at {', '.join(other)}"
    but = f", not at {', '.join(other)}" if other else ""
    return f"{tables.HOLDS} at {', '.join(faster)}{but}"


CLAIM = Claim("Growth", ServerRun, measure, table, verdict, Settings(rounds=3, seconds=1.5))
