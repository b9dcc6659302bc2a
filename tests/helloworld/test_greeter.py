"""Tests a servicer by a real server on a free port, a real channel, and whole values.

Nothing is mocked, so what passes here is what a client sees. `serve` (tests/conftest.py) starts
the server and stops it; the same tests hold for the sync and the asyncio server.
"""

import grpc
import pytest

from helloworld import async_greeter_server, greeter_server
from helloworld.helloworld_pb2 import HelloReply, HelloRequest
from helloworld.helloworld_pb2_grpc import GreeterStub


@pytest.fixture(params=[greeter_server, async_greeter_server], ids=["sync", "asyncio"])
def stub(request, serve):
    with grpc.insecure_channel(serve(request.param.start)) as channel:
        yield GreeterStub(channel)


@pytest.mark.parametrize("name", ["world", "你好", " Ada ", "x" * 100, "𝒳" * 100, "a\0b"])
def test_a_greeting_carries_the_name_as_it_was_sent(stub, name):
    reply = stub.SayHello(HelloRequest(name=name), timeout=10)

    assert reply == HelloReply(message=f"Hello, {name}!")


@pytest.mark.parametrize(
    ("name", "details"),
    [
        ("", "name is empty"),
        (" \t\n", "name is empty"),
        ("x" * 101, "name is too long: at most 100 characters are allowed, got 101"),
    ],
)
def test_a_bad_name_is_an_invalid_argument(stub, name, details):
    with pytest.raises(grpc.RpcError) as raised:
        stub.SayHello(HelloRequest(name=name), timeout=10)

    assert (raised.value.code(), raised.value.details()) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        details,
    )
