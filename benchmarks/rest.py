"""What a REST client gets from gateways before a gRPC service, beside the same by FastAPI.

python -m benchmarks.rest
"""

import argparse
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
from rich import box
from rich.table import Table

from benchmarks import harness
from benchmarks.harness import Run, Runs
from rest_gateway import demo


class Way(NamedTuple):
    """A server, and what stands before it."""

    server: str
    front: str | None = None


WAYS = {
    "FastAPI": Way("fastapi"),
    "grpc-gateway → grpcio": Way("grpcio", "gateway"),
    "Envoy → grpcio": Way("grpcio", "envoy"),
    "Envoy → pygrpc-native": Way("native", "envoy"),
}
GOALS = {"Envoy → pygrpc-native": 1.0, "Envoy → grpcio": 0.5}
"""How much of FastAPI's calls per second each should give."""
LAST = -1
"""The core of the load, and of what stands before the server."""


@contextmanager
def standing(way: Way) -> Iterator[tuple[psutil.Process, list[psutil.Process], str]]:
    """The server, what stands before it, and the address to call."""
    with harness.server("benchmarks.rest_server", way.server) as (server, address):
        if not way.front:
            yield server, [], address
            return
        flags = ["--address=127.0.0.1:0", f"--contacts={address}", "--plaintext"]
        program = demo.command(way.front)
        with harness.server("", *flags, core=LAST, program=program) as (front, at):
            yield server, [front], at


def measure(variant: str, args: argparse.Namespace) -> Run:
    """One run of a variant, after a short one that does not count."""
    with standing(WAYS[variant]) as (server, fronts, address):
        load = ["benchmarks.http_load", address, f"--in-flight={args.in_flight}"]
        harness.measure(server, [*load, f"--seconds={args.seconds / 10}"])
        return harness.measure(server, [*load, f"--seconds={args.seconds}"], fronts)


def table(runs: Runs) -> Table:
    """A line per way: medians, and the ratio to the first."""
    result = Table(box=box.SIMPLE_HEAD)
    result.add_column("way", no_wrap=True)
    headings = ("calls/s", "p50 ms", "p99 ms", "server ms", "front ms", "× FastAPI", "range")
    for heading in headings:
        result.add_column(heading, justify="right")
    for variant, each in runs.items():
        run = Run(*map(statistics.median, zip(*each, strict=True)))
        against = harness.speed(runs, variant)
        result.add_row(
            variant,
            f"{run.rate:,.0f}{' *' if harness.is_limited(each) else ''}",
            f"{run.p50_ms:.1f}",
            f"{run.p99_ms:.1f}",
            f"{run.cpu_ms:.3f}",
            f"{run.front_ms:.3f}",
            f"{against.median:.2f}",
            f"{against.lowest:.2f} to {against.highest:.2f}",
        )
    result.caption = "ms: of CPU time a call. * the front or the load was the limit, not the server"
    return result


def verdict(runs: Runs) -> str:
    """Whether the goals are reached, a line each."""
    medians = {variant: harness.speed(runs, variant).median for variant in GOALS}
    return "\n".join(
        f"{'holds' if median >= GOALS[variant] else 'does not hold'}: {variant} gives "
        f"{median:.2f} × FastAPI's calls per second (goal: {GOALS[variant]})"
        for variant, median in medians.items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the ways from REST to contacts.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="of each run (default: 3)")
    parser.add_argument("--in-flight", type=int, default=64, help="requests at a time")
    parser.add_argument("--results", type=Path, default=harness.RESULTS, metavar="FOLDER")
    args = parser.parse_args()
    with harness.ending_clearly():
        runs = harness.compare(list(WAYS), args.rounds, lambda variant: measure(variant, args))
    harness.save(args.results / "rest.json", runs, vars(args))
    print(harness.text(table(runs), verdict(runs)))


if __name__ == "__main__":
    main()
