"""Compares ways to send many small messages: a call for each, a stream, many in one message.

Run it:

    python -m benchmarks streaming
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import grpc

from benchmarks import harness, tables
from benchmarks.harness import BenchmarkError
from benchmarks.registry import Claim, Settings
from benchmarks.servers.streaming_server import SERVICE
from protobuf_demo.addressbook_pb2 import AddressBook, Person

BATCH = 1_000
GOAL = 100
"""A batch should carry this many times the messages that calls do."""
SINGLE_THREADED = [("SingleThreadedUnaryStream", 1)]
"""The thread that iterates over a stream reads it; gRPC starts no other one."""


class Client:
    """Sends and fetches people in each way, and returns how many were right."""

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
        """Makes a call for each, one after the other."""
        return sum(self._one(self._person, timeout=60) == self._person for _ in range(count))

    def both(self, count: int) -> int:
        """Streams people to the server and back, in one call."""
        return sum(1 for _ in self._both(self._people(count), timeout=60))

    def down(self, count: int) -> int:
        """Streams people from the server, in one call."""
        return sum(1 for _ in self.people(count))

    def people(self, count: int) -> Iterator[Person]:
        """Yields people from a stream, as they arrive."""
        wanted = AddressBook(people=[Person(name=self._person.name, id=count)])
        yield from self._down(wanted, timeout=60)

    def up(self, count: int) -> int:
        """Streams people to the server, in one call."""
        return int(self._up(self._people(count), timeout=60).id)

    def pages(self, count: int, size: int) -> Iterator[Person]:
        """Yields people from pages of the given size, a call for each page."""
        for begin in range(0, count, size):
            wanted = Person(name=self._person.name, id=min(size, count - begin))
            yield from self._page(wanted, timeout=60).people

    def batch(self, count: int) -> int:
        """Sends a thousand people in each call."""
        book = AddressBook(people=self._people(BATCH))
        return sum(len(self._batch(book, timeout=60).people) for _ in range(count // BATCH))


WAYS: dict[str, tuple[Callable[[Client, int], int], int]] = {
    "calls, one after the other": (Client.one, 1_000),
    "a stream there and back": (Client.both, 5_000),
    "a stream from the server": (Client.down, 10_000),
    "a stream to the server": (Client.up, 10_000),
    f"{BATCH:,} in each message": (Client.batch, 100_000),
}
"""The method of Client and the number of people: about a quarter of a second each."""


class MessageRate(NamedTuple):
    rate: float
    """Messages per second."""


def measure_way(client: Client, way: str) -> MessageRate:
    """Measures one round. Raises BenchmarkError if messages are missing."""
    work, count = WAYS[way]
    started = time.perf_counter()
    if (received := work(client, count)) != count:
        raise BenchmarkError(f"{way}: {received} of {count} messages")
    return MessageRate(count / (time.perf_counter() - started))


@contextmanager
def connected() -> Iterator[Client]:
    """Starts a server and connects a client to it."""
    with (
        harness.server("benchmarks.servers.streaming_server") as (_, address),
        grpc.insecure_channel(address, SINGLE_THREADED) as channel,
    ):
        client = Client(channel)
        client.one(1)  # Connects.
        yield client


def measure(settings: Settings) -> dict[str, list[MessageRate]]:
    with connected() as client:
        return harness.compare(list(WAYS), settings.rounds, lambda way: measure_way(client, way))


def table(runs: dict[str, list[MessageRate]]) -> str:
    rows = [
        (way, f"{harness.medians(each).rate:,.0f}", *harness.speed(runs, way).cells(digits=1))
        for way, each in runs.items()
    ]
    return tables.table(("way", "messages/s", "× calls", "range"), rows)


def verdict(runs: dict[str, list[MessageRate]]) -> str:
    """Judges the claims, a line each."""
    _, *streams, batch = WAYS
    best = max(harness.speed(runs, way).median for way in streams)
    many = harness.speed(runs, batch).median
    streamed = f"streams are for many messages, they carry up to {best:.1f} × those of calls"
    batched = f"{BATCH:,} in each message carry {many:.0f} × those of calls"
    return f"{tables.verdict(best, streamed)}\n{tables.verdict(many, batched, GOAL)}"


CLAIM = Claim(
    "Streams and batches", MessageRate, measure, table, verdict, Settings(rounds=10),
    errors=(grpc.RpcError,),
)  # fmt: skip
