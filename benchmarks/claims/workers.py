"""Measures what a second process gives when each call computes for a while.

Run it:

    python -m benchmarks workers
"""

import grpc

from benchmarks import harness, tables
from benchmarks.registry import Claim, Settings
from scaling.concurrency import lab
from scaling.concurrency.lab import Seen, Way

WORK = "computes"
ONE, TWO = "1 process", "2 processes"
FLAGS = ("--times=10",)
"""Enough work in a call that the load takes little of the cores that the servers need."""
WAYS = {
    ONE: Way(ONE, "threads-10", processes=1, flags=FLAGS),
    TWO: Way(TWO, "threads-10", processes=2, flags=FLAGS),
}
GOAL = 1.8
"""Two processes should answer this many times the calls of one."""


def measure(settings: Settings) -> dict[str, list[Seen]]:
    return harness.compare(
        list(WAYS), settings.rounds, lambda way: lab.measure(WORK, WAYS[way], settings.seconds)
    )


def table(runs: dict[str, list[Seen]]) -> str:
    rows = []
    for way, each in runs.items():
        rate, p50_ms, p99_ms, memory_mib = harness.medians(each)
        figures = f"{rate:,.0f}", f"{p50_ms:.0f}", f"{p99_ms:.0f}", f"{memory_mib:.0f}"
        rows.append((way, *figures, *harness.speed(runs, way).cells()))
    headings = "server", "calls/s", "p50 ms", "p99 ms", "MiB", f"× {ONE}", "range"
    return tables.table(headings, rows)


def verdict(runs: dict[str, list[Seen]]) -> str:
    """Judges the claim."""
    median = harness.speed(runs, TWO).median
    return tables.verdict(median, f"{TWO} answer {median:.2f} × the calls of one", GOAL)


CLAIM = Claim(
    "A second process", Seen, measure, table, verdict, Settings(rounds=5, seconds=3),
    errors=(grpc.RpcError, RuntimeError),
)  # fmt: skip
