"""Chapter 4's asyncio client against the scripted server: one event loop, made before the client.

The server's threads answer while the loop waits, whichever loop that is.
"""

import asyncio
import threading
from collections.abc import Iterator

import grpc
import pytest

from production.contacts_client import ContactsClient
from production.lessons.testing.scripted_server import PATIENCE, ScriptedServer, Step, fail, hold
from production.v1.contacts_pb2 import Contact

ADA = Contact(name="contacts/ada")


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    """An event loop: loop.run(coroutine) returns its result."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def client(loop: asyncio.Runner, server: ScriptedServer) -> Iterator[ContactsClient]:
    async def connect() -> ContactsClient:  # A channel belongs to the loop it is made in.
        return ContactsClient(server.address, None)

    client = loop.run(connect())
    yield client
    loop.run(client.__aexit__())


def test_a_call_is_tried_again(
    loop: asyncio.Runner, client: ContactsClient, server: ScriptedServer
) -> None:
    server.script("GetContact", [fail(grpc.StatusCode.UNAVAILABLE)], [ADA])

    assert loop.run(client.get("contacts/ada")) == ADA

    assert [attempt.number for attempt in server.attempts] == [1, 2]


def test_a_caller_that_leaves_ends_the_call(
    loop: asyncio.Runner, client: ContactsClient, server: ScriptedServer
) -> None:
    arrived = threading.Event()
    server.script("GetContact", [lambda _: arrived.set(), hold])

    async def leave() -> None:
        call = asyncio.create_task(client.get("contacts/ada"))
        assert await asyncio.to_thread(arrived.wait, PATIENCE)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    loop.run(leave())

    assert server.attempts[0].ended.wait(PATIENCE)


def test_two_calls_are_in_flight_at_a_time(
    loop: asyncio.Runner, client: ContactsClient, server: ScriptedServer
) -> None:
    both = threading.Barrier(2, timeout=PATIENCE)
    steps: list[Step] = [lambda _: both.wait(), ADA]
    server.script("GetContact", steps, steps)

    async def get_both() -> list[Contact]:
        return list(await asyncio.gather(client.get("contacts/a"), client.get("contacts/b")))

    assert loop.run(get_both()) == [ADA, ADA]
