"""How the rate of calls changes with their number in flight, and with the size of messages.

python -m benchmarks.growth
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator

from rich import box
from rich.table import Table

from benchmarks import greetings, h2load, harness, unary
from benchmarks.harness import Run, Runs

SERVERS = ("grpc.aio", "grpcio, 10 threads", "pygrpc-native, asyncio", "connectrpc", "FastAPI")
IN_FLIGHT = (1, 4, 16, 64, 256)
SIZES = (10, 1_000, 16_000, 256_000, 4_000_000)
"""Bytes of the reply's text. gRPC's limit is 4 MiB unless a server and its clients raise it."""
IN_FLIGHT_FOR_SIZES = 8
SWEEPS: dict[str, tuple[tuple[int, ...], Callable[[str, int, float], Run]]] = {
    "calls in flight": (
        IN_FLIGHT,
        lambda server, point, seconds: unary.measure(server, seconds, point),
    ),
    "bytes": (
        SIZES,
        lambda server, point, seconds: unary.measure(
            server, seconds, IN_FLIGHT_FOR_SIZES, point - greetings.OVERHEAD
        ),
    ),
}
"""What grows, through which values, and how it is measured."""


def variants() -> Iterator[tuple[str, str, str, int]]:
    """A name for each run, what grows, the server, and the value."""
    for sweep, (points, _) in SWEEPS.items():
        for point in points:
            for server in SERVERS:
                yield name(server, point, sweep), sweep, server, point


def name(server: str, point: int, sweep: str) -> str:
    return f"{server}, {point} {sweep}"


def rates(runs: Runs, sweep: str) -> dict[str, dict[int, float]]:
    """The median calls per second of each server at each value."""
    found: dict[str, dict[int, float]] = {server: {} for server in SERVERS}
    for variant, which, server, point in variants():
        if which == sweep:
            found[server][point] = statistics.median(run.rate for run in runs[variant])
    return found


def table(runs: Runs, sweep: str) -> Table:
    """A line per server, a column per value: calls per second."""
    points, _ = SWEEPS[sweep]
    result = Table(box=box.SIMPLE_HEAD)
    result.add_column(f"calls/s, by {sweep}", no_wrap=True)
    for point in points:
        result.add_column(f"{point:,}", justify="right", no_wrap=True)
    for server, seen in rates(runs, sweep).items():
        cells = []
        for point, rate in seen.items():
            is_limited = harness.is_limited(runs[name(server, point, sweep)])
            cells.append(f"{rate:,.0f}{' *' if is_limited else ''}")
        result.add_row(server, *cells)
    result.caption = "* the server waited for its load"
    return result


def verdict(runs: Runs) -> str:
    """Where stock gRPC is the faster one, a line for each sweep; what the load has limited is left
    out."""
    return "\n".join(
        f'{_where_faster(runs, sweep)} {sweep}: "gRPC is faster than REST"' for sweep in SWEEPS
    )


def _where_faster(runs: Runs, sweep: str) -> str:
    faster: list[str] = []
    other: list[str] = []
    for point in SWEEPS[sweep][0]:
        rest = name(unary.REST, point, sweep)
        stock = [name(server, point, sweep) for server in unary.STOCK]
        best = max(stock, key=lambda each: harness.speed(runs, each, rest).median)
        if not (harness.is_limited(runs[best]) or harness.is_limited(runs[rest])):
            is_faster = harness.judge(harness.speed(runs, best, rest).median) == "holds"
            (faster if is_faster else other).append(f"{point:,}")
    if not faster + other:
        return f"{unary.LIMITED}, at all"
    if not faster:
        return f"does not hold at {', '.join(other)}"
    return f"holds at {', '.join(faster)}" + (f", not at {', '.join(other)}" if other else "")


def text(runs: Runs) -> str:
    """Both tables and the verdicts, as a README shows them."""
    return "".join(f"{harness.text(table(runs, sweep))}\n" for sweep in SWEEPS) + verdict(runs)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how calls grow.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each run (default: 1.5)")
    args = parser.parse_args()
    if not h2load.program():
        print(f"note: h2load is absent ({h2load.BRINGS}): the load will limit", file=sys.stderr)
    planned = {variant: (sweep, server, point) for variant, sweep, server, point in variants()}

    def measure(variant: str) -> Run:
        sweep, server, point = planned[variant]
        return SWEEPS[sweep][1](server, point, args.seconds)

    with harness.ending_clearly():
        runs = harness.compare(list(planned), args.rounds, measure)
    harness.save(harness.RESULTS / "growth.json", runs, vars(args))
    print(text(runs))


if __name__ == "__main__":
    main()
