"""Calls one method of ContactService, many calls at a time, and prints a summary as JSON.

Run it:

    python -m benchmarks.loads.grpc_load localhost:50051 get --seconds 3

It is a process of its own, so that its work is not counted as the server's.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc

from benchmarks.loads.latencies import summary
from production.v1.contacts_pb2 import Contact, CreateContactRequest, GetContactRequest
from protobuf_demo.addressbook_pb2 import Person

CONTACT = "contacts/ada-1"
"""The server must have this contact."""


class Call(NamedTuple):
    """A method, the bytes to send to it, and the check of a reply."""

    method: str
    request: bytes
    check: Callable[[bytes], None]
    """Raises ValueError unless a reply is right."""


def _must_be(actual: str, expected: str) -> None:
    if actual != expected:
        raise ValueError(f"wrong reply: {actual!r} instead of {expected!r}")


CALLS = {
    "get": Call(
        "/production.v1.ContactService/GetContact",
        GetContactRequest(name=CONTACT).SerializeToString(),
        lambda reply: _must_be(Contact.FromString(reply).name, CONTACT),
    ),
    "create": Call(
        "/production.v1.ContactService/CreateContact",
        CreateContactRequest(contact=Contact(person=Person(name="Ada"))).SerializeToString(),
        lambda reply: _must_be(Contact.FromString(reply).person.name, "Ada"),
    ),
}


async def load(address: str, call: Call, seconds: float, in_flight: int) -> dict[str, float]:
    """Keeps `in_flight` calls in flight for `seconds` seconds, and checks every reply.

    Raises ValueError for a wrong reply, grpc.aio.AioRpcError for a failed call.
    """
    latencies: list[float] = []
    async with grpc.aio.insecure_channel(address) as channel:
        method: Any = channel.unary_unary(call.method)

        async def one_call() -> float:
            started = time.perf_counter()
            reply = await method(call.request, timeout=60)
            call.check(reply)
            return time.perf_counter() - started

        async def caller() -> None:
            while time.perf_counter() < ends:
                latencies.append(await one_call())

        await one_call()  # Opens the connection.
        started = time.perf_counter()
        ends = started + seconds
        await asyncio.gather(*(caller() for _ in range(in_flight)))
    return summary(latencies, time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description="Load a server with one kind of call.")
    parser.add_argument("address", help="HOST:PORT")
    parser.add_argument("call", choices=CALLS)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--in-flight", type=int, default=64, help="calls at a time")
    args = parser.parse_args()
    work = load(args.address, CALLS[args.call], args.seconds, args.in_flight)
    try:
        print(json.dumps(asyncio.run(work)))
    except grpc.aio.AioRpcError as error:
        sys.exit(f"error: {error.code().name}: {error.details()}")
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
