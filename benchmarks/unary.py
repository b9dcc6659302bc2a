"""How many small calls a second each Python server answers, on one core: gRPC's, and its rivals'.

python -m benchmarks.unary
"""

import argparse
import statistics
import sys
from pathlib import Path

from rich import box
from rich.table import Table

from benchmarks import h2load, harness
from benchmarks.greetings import NAME
from benchmarks.harness import Run, Runs
from benchmarks.hello_server import PROTOCOLS, SERVERS

FAST = "pygrpc-native, asyncio"
STOCK, REST = ("grpc.aio", "grpcio, 10 threads"), "FastAPI"
WARM_UP_SECONDS = 0.5
"""Enough for some answers of 4 MB on a machine that is slow at the moment."""
LIMITED = "no verdict, limited by the load"
GOALS = {"grpc.aio": 9.0, "FastAPI": 4.0}
"""How many times the calls of each the fast lane should answer."""


def measure(variant: str, seconds: float, in_flight: int, name_length: int = len(NAME)) -> Run:
    """One run of a server, after a short one that does not count. Raises BenchmarkError."""
    with harness.server("benchmarks.hello_server", variant) as (process, address):
        load = ["benchmarks.hello_load", address, PROTOCOLS[variant], f"--in-flight={in_flight}"]
        load.append(f"--name-length={name_length}")
        harness.measure(process, [*load, f"--seconds={WARM_UP_SECONDS}"])
        return harness.measure(process, [*load, f"--seconds={seconds}"])


def table(runs: Runs) -> Table:
    """A line per server: medians, and the ratio to the first."""
    first = next(iter(runs))
    result = Table(box=box.SIMPLE_HEAD)
    result.add_column("server", no_wrap=True)
    headings = ("calls/s", "p50 ms", "p99 ms", "CPU s/1,000", "MiB", f"× {first}", "range")
    for heading in headings:
        result.add_column(heading, justify="right", no_wrap=True)
    for variant, each in runs.items():
        run = Run(*map(statistics.median, zip(*each, strict=True)))
        against = harness.speed(runs, variant)
        result.add_row(
            variant,
            f"{run.rate:,.0f}{' *' if harness.is_limited(each) else ''}",
            f"{run.p50_ms:.1f}",
            f"{run.p99_ms:.1f}",
            f"{run.cpu_ms:.3f}",
            f"{run.memory_mib:.0f}",
            f"{against.median:.2f}",
            f"{against.lowest:.2f} to {against.highest:.2f}",
        )
    result.caption = "* limited by the load, not by the server: no verdict on this rate"
    return result


def verdict(runs: Runs) -> str:
    """What holds of the claims, a line each; nothing where the load was the limit."""
    lines = []
    for other, goal in GOALS.items():
        median = harness.speed(runs, FAST, other).median
        holds = "holds" if median >= goal else "does not hold"
        # A fast lane that waits for its load can only be faster than it seems.
        if harness.is_limited(runs[other]) or (harness.is_limited(runs[FAST]) and median < goal):
            holds = LIMITED
        lines.append(f"{holds}: {FAST} answers {median:.1f} × the calls of {other} (goal: {goal})")
    best = max(STOCK, key=lambda variant: harness.speed(runs, variant, REST).median)
    median = harness.speed(runs, best, REST).median
    is_limited = any(harness.is_limited(runs[variant]) for variant in (best, REST))
    holds = LIMITED if is_limited else harness.judge(median)
    lines.append(f'{holds}: "gRPC is faster than REST", {best} {median:.2f} × {REST}')
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure small calls on Python servers.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of each run (default: 2)")
    parser.add_argument("--in-flight", type=int, default=64, help="requests at a time")
    parser.add_argument("--results", type=Path, default=harness.RESULTS, metavar="FOLDER")
    args = parser.parse_args()
    if not h2load.program():
        print(f"note: h2load is absent ({h2load.BRINGS}): the load will limit", file=sys.stderr)
    with harness.ending_clearly():
        runs = harness.compare(
            list(SERVERS), args.rounds, lambda name: measure(name, args.seconds, args.in_flight)
        )
    harness.save(args.results / "unary.json", runs, vars(args))
    print(harness.text(table(runs), verdict(runs)))


if __name__ == "__main__":
    main()
