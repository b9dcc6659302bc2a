"""Servicers alone: their methods are called with a stand-in for gRPC's context."""

import asyncio
from unittest.mock import Mock, create_autospec

import grpc
import pytest

from helloworld import async_greeter_server, greeter_server
from helloworld.helloworld_pb2 import HelloReply, HelloRequest


class AbortedError(Exception):
    """Ends a handler as gRPC's own exception does."""


@pytest.fixture
def context() -> Mock:
    """Like a grpc.ServicerContext: unknown methods are errors, and abort raises."""
    context: Mock = create_autospec(grpc.ServicerContext, instance=True)
    context.abort.side_effect = AbortedError
    return context


@pytest.fixture
def async_context() -> Mock:
    """The same for asyncio, where abort is awaited."""
    context: Mock = create_autospec(grpc.aio.ServicerContext, instance=True)
    context.abort.side_effect = AbortedError
    return context


def test_a_greeting_carries_the_name(context: Mock) -> None:
    reply = greeter_server.Greeter().SayHello(HelloRequest(name="Ada"), context)

    assert reply == HelloReply(message="Hello, Ada!")
    context.abort.assert_not_called()


def test_an_empty_name_is_refused(context: Mock) -> None:
    with pytest.raises(AbortedError):
        greeter_server.Greeter().SayHello(HelloRequest(), context)

    context.abort.assert_called_once_with(grpc.StatusCode.INVALID_ARGUMENT, "name is empty")


def test_an_empty_name_is_refused_with_asyncio(async_context: Mock) -> None:
    with pytest.raises(AbortedError):
        asyncio.run(async_greeter_server.Greeter().SayHello(HelloRequest(), async_context))

    async_context.abort.assert_awaited_once_with(grpc.StatusCode.INVALID_ARGUMENT, "name is empty")
