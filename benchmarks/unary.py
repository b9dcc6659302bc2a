"""How many small calls a second each Python server answers, on one core: gRPC's, and its rivals'.

python -m benchmarks.unary
"""

import argparse
import shutil
import statistics
import sys
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import h2load, harness
from benchmarks.harness import BenchmarkError, Ratio, Run, Runs
from benchmarks.hello_server import PROTOCOLS, SERVERS

FAST = "pygrpc-native, asyncio"
GOALS = {"grpc.aio": 9.0, "FastAPI": 4.0}
"""How many times the calls of each the fast lane should answer."""


def measure(variant: str, args: argparse.Namespace) -> Run:
    """One run of a server in a fresh process. Raises BenchmarkError."""
    with harness.server("benchmarks.hello_server", variant) as (process, address):
        load = ["benchmarks.h2load", address, PROTOCOLS[variant]]
        how = [f"--seconds={args.seconds}", f"--in-flight={args.in_flight}"]
        return harness.measure(process, [*load, *how])


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
            f"{run.rate:,.0f}{'' if run.busy >= harness.SATURATED else ' *'}",
            f"{run.p50_ms:.1f}",
            f"{run.p99_ms:.1f}",
            f"{run.cpu_ms:.3f}",
            f"{run.memory_mib:.0f}",
            f"{against.median:.2f}",
            f"{against.lowest:.2f} to {against.highest:.2f}",
        )
    result.caption = "* limited by the load, not by the server: no verdict on this rate"
    return result


def against(runs: Runs, variant: str, other: str) -> Ratio:
    """The calls per second of one server against another's, round by round."""
    return harness.ratio([run.rate for run in runs[variant]], [run.rate for run in runs[other]])


def verdict(runs: Runs) -> str:
    """What holds of the claims, a line each."""
    lines = []
    for other, goal in GOALS.items():
        median = against(runs, FAST, other).median
        holds = "holds" if median >= goal else "does not hold"
        lines.append(f"{holds}: {FAST} answers {median:.1f} × the calls of {other} (goal: {goal})")
    stock, rest = (
        against(runs, "grpc.aio", "FastAPI"),
        against(runs, "grpcio, 10 threads", "FastAPI"),
    )
    best = max(stock.median, rest.median)
    holds = "holds" if best > 1.1 else "does not hold" if best < 0.9 else "cannot be told"
    lines.append(f'{holds}: "gRPC is faster than REST", grpcio {best:.2f} × FastAPI')
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure small calls on Python servers.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of each run (default: 2)")
    parser.add_argument("--in-flight", type=int, default=64, help="requests at a time")
    parser.add_argument("--results", type=Path, default=harness.RESULTS, metavar="FOLDER")
    args = parser.parse_args()
    if not shutil.which("h2load"):
        sys.exit(f"error: h2load is needed ({h2load.BRINGS}): a load in Python would be the limit")
    progress = Console(stderr=True)
    steps = harness.compare(list(SERVERS), args.rounds, lambda variant: measure(variant, args))
    try:
        runs: Runs = {variant: [] for variant in SERVERS}
        total = args.rounds * len(SERVERS)
        for variant, run in track(steps, "measuring", total, console=progress, transient=True):
            runs[variant].append(run)
    except BenchmarkError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    harness.save(args.results / "unary.json", runs, vars(args))
    print(harness.text(table(runs), verdict(runs)))


if __name__ == "__main__":
    main()
