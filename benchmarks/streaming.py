"""Many small messages: in calls of their own, in a stream, or many in one message.

python -m benchmarks.streaming
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grpc
from rich import box
from rich.table import Table

from benchmarks import harness
from benchmarks.harness import BenchmarkError
from benchmarks.streaming_server import SERVICE
from protobuf_demo.addressbook_pb2 import AddressBook, Person

BATCH = 1_000
GOAL = 100.0
"""How many times the messages of calls of their own a batch should carry."""
SINGLE_THREADED = [("SingleThreadedUnaryStream", 1)]
"""A stream's messages are read by the thread that wants them, not by another one."""


class Client:
    """Sends and fetches people, in each way. Every way raises ValueError for a wrong answer."""

    def __init__(self, channel: grpc.Channel) -> None:
        def encoders(there: Any, back: Any) -> tuple[Any, Any]:
            return there.SerializeToString, back.FromString

        path = f"/{SERVICE}/"
        self._one: Any = channel.unary_unary(path + "One", *encoders(Person, Person))
        self._down: Any = channel.unary_stream(path + "Down", *encoders(AddressBook, Person))
        self._up: Any = channel.stream_unary(path + "Up", *encoders(Person, Person))
        self._both: Any = channel.stream_stream(path + "Both", *encoders(Person, Person))
        self._page: Any = channel.unary_unary(path + "Page", *encoders(Person, AddressBook))
        self._batch: Any = channel.unary_unary(path + "Batch", *encoders(AddressBook, AddressBook))
        self._person = Person(name="Ada Lovelace", id=1, email="ada@example.com")

    def _people(self, count: int) -> Iterator[Person]:
        for _ in range(count):
            yield self._person

    def one(self, count: int) -> int:
        """Calls, one after the other."""
        return sum(self._one(self._person, timeout=60) == self._person for _ in range(count))

    def both(self, count: int) -> int:
        """One call, a stream there and back."""
        return sum(1 for _ in self._both(self._people(count), timeout=60))

    def down(self, count: int) -> int:
        """One call, a stream from the server."""
        return sum(1 for _ in self.people(count))

    def people(self, count: int) -> Iterator[Person]:
        """What a stream from the server brings, as it comes."""
        wanted = AddressBook(people=[Person(name=self._person.name, id=count)])
        yield from self._down(wanted, timeout=60)

    def up(self, count: int) -> int:
        """One call, a stream to the server."""
        return int(self._up(self._people(count), timeout=60).id)

    def pages(self, count: int, size: int) -> Iterator[Person]:
        """Calls, each for a page of so many people; what the server has, as it comes."""
        for begin in range(0, count, size):
            wanted = Person(name=self._person.name, id=min(size, count - begin))
            yield from self._page(wanted, timeout=60).people

    def batch(self, count: int) -> int:
        """Calls with a thousand people each."""
        book = AddressBook(people=self._people(BATCH))
        return sum(len(self._batch(book, timeout=60).people) for _ in range(count // BATCH))


WAYS: dict[str, tuple[Callable[[Client, int], int], int]] = {
    "calls, one after the other": (Client.one, 1_000),
    "a stream there and back": (Client.both, 5_000),
    "a stream from the server": (Client.down, 10_000),
    "a stream to the server": (Client.up, 10_000),
    f"{BATCH:,} in each message": (Client.batch, 100_000),
}
"""What is done, and for how many people: about a quarter of a second each."""


class Run(NamedTuple):
    rate: float
    """Messages per second."""


def measure(client: Client, way: str) -> Run:
    """One run of a way. Raises BenchmarkError when some are missing."""
    work, count = WAYS[way]
    started = time.perf_counter()
    if (found := work(client, count)) != count:
        raise BenchmarkError(f"{way}: {found} of {count} messages")
    return Run(count / (time.perf_counter() - started))


def table(runs: dict[str, list[Run]]) -> Table:
    result = Table(box=box.SIMPLE_HEAD)
    result.add_column("way", no_wrap=True)
    for heading in ("messages/s", "× calls", "range"):
        result.add_column(heading, justify="right", no_wrap=True)
    for way, each in runs.items():
        ratio = harness.speed(runs, way)
        result.add_row(
            way,
            f"{statistics.median(run.rate for run in each):,.0f}",
            f"{ratio.median:.1f}",
            f"{ratio.lowest:.1f} to {ratio.highest:.1f}",
        )
    return result


def verdict(runs: dict[str, list[Run]]) -> str:
    """What holds of the claims, a line each."""
    _, *streams, batch = WAYS
    best = max(harness.speed(runs, way).median for way in streams)
    many = harness.speed(runs, batch).median
    return (
        f"{'holds' if best > 1.1 else 'does not hold'}: streams are for many messages, "
        f"they carry up to {best:.1f} × those of calls\n"
        f"{'holds' if many >= GOAL else 'does not hold'}: {BATCH:,} in each message carry "
        f"{many:.0f} × those of calls (goal: {GOAL:.0f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure streams beside calls and batches.")
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    with (
        harness.ending_clearly(grpc.RpcError),
        harness.server("benchmarks.streaming_server") as (_, address),
        grpc.insecure_channel(address, SINGLE_THREADED) as channel,
    ):
        client = Client(channel)
        client.one(1)  # Connects.
        runs = harness.compare(list(WAYS), args.rounds, lambda way: measure(client, way))
    harness.save(harness.RESULTS / "streaming.json", runs)
    print(harness.text(table(runs), verdict(runs)))


if __name__ == "__main__":
    main()
