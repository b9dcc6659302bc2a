"""Serves people by each kind of call: alone, in streams, and many in one message.

Run it:

    python -m benchmarks.servers.streaming_server
"""

import argparse
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from benchmarks.servers.serving import ADDRESS, serve_threads
from protobuf_demo.addressbook_pb2 import AddressBook, Person

SERVICE = "people"


def one(person: Person, _context: object) -> Person:
    return person


def down(book: AddressBook, _context: object) -> Iterator[Person]:
    """Yields the first person, as many times as its id says."""
    first = book.people[0]
    for _ in range(first.id):
        yield first


def up(people: Iterator[Person], _context: object) -> Person:
    return Person(id=sum(1 for _ in people))


def both(people: Iterator[Person], _context: object) -> Iterator[Person]:
    yield from people


def page(person: Person, _context: object) -> AddressBook:
    """Returns the person, as many times as its id says, in one message."""
    return AddressBook(people=itertools.repeat(person, person.id))


def batch(book: AddressBook, _context: object) -> AddressBook:
    return book


def handlers() -> Any:
    person = Person.FromString, Person.SerializeToString
    book = AddressBook.FromString, AddressBook.SerializeToString
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "One": grpc.unary_unary_rpc_method_handler(one, *person),
            "Down": grpc.unary_stream_rpc_method_handler(down, book[0], person[1]),
            "Up": grpc.stream_unary_rpc_method_handler(up, *person),
            "Both": grpc.stream_stream_rpc_method_handler(both, *person),
            "Page": grpc.unary_unary_rpc_method_handler(page, person[0], book[1]),
            "Batch": grpc.unary_unary_rpc_method_handler(batch, *book),
        },
    )


def main() -> None:
    argparse.ArgumentParser(description="Serve people by each kind of call.").parse_args()
    server = grpc.server(ThreadPoolExecutor(10), [handlers()])
    serve_threads(server, server.add_insecure_port(ADDRESS))


if __name__ == "__main__":
    main()
