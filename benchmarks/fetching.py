"""How long it takes until the first of many messages is here, and until the last one is.

python -m benchmarks.fetching
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import grpc
from rich import box
from rich.table import Table

from benchmarks import harness
from benchmarks.harness import BenchmarkError
from benchmarks.streaming import SINGLE_THREADED, Client
from protobuf_demo.addressbook_pb2 import Person

COUNTS = (10, 100, 1_000, 10_000, 100_000)
WAYS: dict[str, Callable[[Client, int], Iterable[Person]]] = {
    "a call for each": lambda client, count: client.pages(count, 1),
    "a stream": lambda client, count: client.people(count),
    "pages of 100": lambda client, count: client.pages(count, 100),
    "pages of 1,000": lambda client, count: client.pages(count, 1_000),
    "all in one message": lambda client, count: client.pages(count, count),
}


class Times(NamedTuple):
    """Milliseconds until a message was here."""

    first: float
    last: float


def measure(client: Client, way: str, count: int) -> Times:
    """Fetches so many people. Raises BenchmarkError when some are missing."""
    started = time.perf_counter()
    people = iter(WAYS[way](client, count))
    next(people)
    first = time.perf_counter()
    if (found := 1 + sum(1 for _ in people)) != count:
        raise BenchmarkError(f"{way}: {found} of {count} messages")
    return Times((first - started) * 1000, (time.perf_counter() - started) * 1000)


def name(way: str, count: int) -> str:
    return f"{way}, {count}"


def table(seen: dict[str, list[Times]]) -> Table:
    """A line per way, a column per count: until the first, until the last."""
    result = Table(box=box.SIMPLE_HEAD)
    result.add_column("ms to first, last of", no_wrap=True)
    for count in COUNTS:
        result.add_column(f"{count:,}", justify="right", no_wrap=True)
    for way in WAYS:
        cells = []
        for count in COUNTS:
            first, last = map(statistics.median, zip(*seen[name(way, count)], strict=True))
            cells.append(f"{first:,.1f} {last:8,.1f}")
        result.add_row(way, *cells)
    return result


def verdict(seen: dict[str, list[Times]]) -> str:
    """What holds of the claim, for the greatest number."""
    _, stream, *_, whole = (seen[name(way, COUNTS[-1])] for way in WAYS)
    sooner = harness.ratio([each.first for each in whole], [each.first for each in stream]).median
    longer = harness.ratio([each.last for each in stream], [each.last for each in whole]).median
    return (
        f"{harness.judge(sooner)}: a stream brings the first of {COUNTS[-1]:,} sooner, "
        f"one message takes {sooner:.0f} × as long\n"
        f"{harness.judge(1 / longer)}: a stream brings all of them sooner, "
        f"it takes {longer:.1f} × as long as one message"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure when messages come.")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    cases = {name(way, count): (way, count) for count in COUNTS for way in WAYS}
    with (
        harness.ending_clearly(grpc.RpcError),
        harness.server("benchmarks.streaming_server") as (_, address),
        grpc.insecure_channel(address, SINGLE_THREADED) as channel,
    ):
        client = Client(channel)
        client.one(1)  # Connects.
        seen = harness.compare(list(cases), args.rounds, lambda case: measure(client, *cases[case]))
    harness.save(harness.RESULTS / "fetching.json", seen)
    print(harness.text(table(seen), verdict(seen)))


if __name__ == "__main__":
    main()
