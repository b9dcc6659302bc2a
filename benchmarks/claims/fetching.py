"""Measures when the first of many messages arrives, and when the last one does.

Run it:

    python -m benchmarks fetching
"""

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import grpc

from benchmarks import harness, tables
from benchmarks.claims import streaming
from benchmarks.claims.streaming import Client
from benchmarks.harness import BenchmarkError
from benchmarks.registry import Claim, Settings
from protobuf_demo.addressbook_pb2 import Person

COUNTS = (10, 100, 1_000, 10_000, 100_000)
WAYS: dict[str, Callable[[Client, int], Iterable[Person]]] = {
    "a call for each": lambda client, count: client.pages(count, 1),
    "a stream": lambda client, count: client.people(count),
    "pages of 100": lambda client, count: client.pages(count, 100),
    "pages of 1,000": lambda client, count: client.pages(count, 1_000),
    "all in one message": lambda client, count: client.pages(count, count),
}


class ArrivalTimes(NamedTuple):
    """Milliseconds until a message has arrived."""

    first: float
    last: float


def measure_way(client: Client, way: str, count: int) -> ArrivalTimes:
    """Fetches count people. Raises BenchmarkError if some are missing."""
    started = time.perf_counter()
    people = iter(WAYS[way](client, count))
    next(people)
    first = time.perf_counter()
    if (received := 1 + sum(1 for _ in people)) != count:
        raise BenchmarkError(f"{way}: {received} of {count} messages")
    return ArrivalTimes((first - started) * 1000, (time.perf_counter() - started) * 1000)


def name(way: str, count: int) -> str:
    return f"{way}, {count}"


def measure(settings: Settings) -> dict[str, list[ArrivalTimes]]:
    cases = {name(way, count): (way, count) for count in COUNTS for way in WAYS}
    with streaming.connected() as client:
        return harness.compare(
            list(cases), settings.rounds, lambda case: measure_way(client, *cases[case])
        )


def table(runs: dict[str, list[ArrivalTimes]]) -> str:
    """Renders a row per way, a column per count: until the first, until the last."""
    rows = []
    for way in WAYS:
        times = [harness.medians(runs[name(way, count)]) for count in COUNTS]
        rows.append((way, *(f"{first:,.1f} {last:8,.1f}" for first, last in times)))
    return tables.table(("ms to first, last of", *(f"{count:,}" for count in COUNTS)), rows)


def verdict(runs: dict[str, list[ArrivalTimes]]) -> str:
    """Judges the claim for the greatest count, a line each for the first and the last."""
    count = COUNTS[-1]
    stream, whole = runs[name("a stream", count)], runs[name("all in one message", count)]
    sooner = harness.ratio([run.first for run in whole], [run.first for run in stream]).median
    longer = harness.ratio([run.last for run in stream], [run.last for run in whole]).median
    first = (
        f"a stream brings the first of {count:,} sooner, one message takes {sooner:.0f} × as long"
    )
    last = f"a stream brings all of them sooner, it takes {longer:.1f} × as long as one message"
    return f"{tables.verdict(sooner, first)}\n{tables.verdict(1 / longer, last)}"


CLAIM = Claim(
    "The first and the last", ArrivalTimes, measure, table, verdict, Settings(rounds=3),
    errors=(grpc.RpcError,),
)  # fmt: skip
