"""Compares how many small calls a second Python servers answer on one core: gRPC's and others.

Run it:

    python -m benchmarks unary
"""

from benchmarks import harness, tables
from benchmarks.harness import ServerRun, ServerRuns
from benchmarks.loads import h2load
from benchmarks.loads.greetings import NAME
from benchmarks.registry import Claim, Settings
from benchmarks.servers.hello_server import SERVERS

FAST = "pygrpc-native, asyncio"
STOCK, REST = ("grpc.aio", "grpcio, 10 threads"), "FastAPI"
WARM_UP_SECONDS = 0.5
"""Enough for some replies of 4 MB, even while the machine is slow."""
GOALS = {"grpc.aio": 9.0, "FastAPI": 4.0}
"""The fast lane should answer this many times the calls of each."""


def measure_server(
    name: str, seconds: float, in_flight: int, name_length: int = len(NAME)
) -> ServerRun:
    """Measures one run, after a short one that does not count. Raises BenchmarkError."""
    with harness.server("benchmarks.servers.hello_server", name) as (process, address):
        load = ["benchmarks.loads.hello_load", address, SERVERS[name].protocol]
        load += [f"--in-flight={in_flight}", f"--name-length={name_length}"]
        harness.measure(process, [*load, f"--seconds={WARM_UP_SECONDS}"])
        return harness.measure(process, [*load, f"--seconds={seconds}"])


def measure(settings: Settings) -> ServerRuns:
    h2load.warn_if_absent()
    return harness.compare(
        list(SERVERS),
        settings.rounds,
        lambda name: measure_server(name, settings.seconds, settings.in_flight),
    )


def table(runs: ServerRuns) -> str:
    rows = []
    for server, each in runs.items():
        run = harness.medians(each)
        latency = f"{run.p50_ms:.1f}", f"{run.p99_ms:.1f}"
        cost = f"{run.cpu_ms:.3f}", f"{run.memory_mib:.0f}"
        against = harness.speed(runs, server).cells()
        rows.append((server, harness.rate_cell(each), *latency, *cost, *against))
    headings = "server", "calls/s", "p50 ms", "p99 ms", "CPU s/1,000", "MiB"
    return tables.table(
        (*headings, f"× {next(iter(runs))}", "range"),
        rows,
        "* limited by the load, not by the server: no verdict on this rate",
    )


def verdict(runs: ServerRuns) -> str:
    """Judges the claims, a line each, except where the load was the limit."""
    lines = []
    for other, goal in GOALS.items():
        median = harness.speed(runs, FAST, other).median
        # If the fast lane waits for its load, it can only be faster than measured.
        limited = harness.is_limited(runs[other]) or (
            harness.is_limited(runs[FAST]) and median < goal
        )
        finding = f"{FAST} answers {median:.1f} × the calls of {other}"
        lines.append(tables.verdict(median, finding, goal, limited=limited))
    best = max(STOCK, key=lambda server: harness.speed(runs, server, REST).median)
    median = harness.speed(runs, best, REST).median
    limited = any(harness.is_limited(runs[server]) for server in (best, REST))
    finding = f'"gRPC is faster than REST", {best} {median:.2f} × {REST}'
    lines.append(tables.verdict(median, finding, limited=limited))
    return "\n".join(lines)


CLAIM = Claim("Small calls", ServerRun, measure, table, verdict, Settings(rounds=5, seconds=2))
