"""What a second process gives, when each call computes for a while.

python -m benchmarks.workers
"""

import argparse
import statistics

import grpc
from rich import box
from rich.table import Table

from benchmarks import harness
from scaling.concurrency import lab
from scaling.concurrency.lab import Seen, Way

WORK = "computes"
ONE, TWO = "1 process", "2 processes"
FLAGS = ("--times=10",)
"""So much work in a call that the load hardly takes from the cores that the servers need."""
WAYS = {
    ONE: Way(ONE, "threads-10", processes=1, flags=FLAGS),
    TWO: Way(TWO, "threads-10", processes=2, flags=FLAGS),
}
GOAL = 1.8


def table(seen: dict[str, list[Seen]]) -> Table:
    result = Table(box=box.SIMPLE_HEAD)
    result.add_column("server", no_wrap=True)
    for heading in ("calls/s", "p50 ms", "p99 ms", "MiB", f"× {ONE}", "range"):
        result.add_column(heading, justify="right", no_wrap=True)
    for way, each in seen.items():
        rate, p50, p99, memory = map(statistics.median, zip(*each, strict=True))
        ratio = harness.speed(seen, way)
        row = f"{rate:,.0f}", f"{p50:.0f}", f"{p99:.0f}", f"{memory:.0f}", f"{ratio.median:.2f}"
        result.add_row(way, *row, f"{ratio.lowest:.2f} to {ratio.highest:.2f}")
    return result


def verdict(seen: dict[str, list[Seen]]) -> str:
    """Whether the goal is reached."""
    median = harness.speed(seen, TWO).median
    holds = "holds" if median >= GOAL else "does not hold"
    return f"{holds}: {TWO} answer {median:.2f} × the calls of one (goal: {GOAL})"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a second process.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="of each run (default: 3)")
    args = parser.parse_args()
    with harness.ending_clearly(grpc.RpcError, RuntimeError):
        seen = harness.compare(
            list(WAYS), args.rounds, lambda way: lab.measure(WORK, WAYS[way], args.seconds)
        )
    harness.save(harness.RESULTS / "workers.json", seen, vars(args))
    print(harness.text(table(seen), verdict(seen)))


if __name__ == "__main__":
    main()
