"""gRPC's messages when one kind of call is used as another. The README explains each of them."""

import asyncio
from concurrent import futures

import grpc
import pytest

from route_guide import route_guide_server
from route_guide.route_guide_pb2 import Feature, Point, Rectangle, RouteNote
from route_guide.route_guide_pb2_grpc import (
    RouteGuideServicer,
    RouteGuideStub,
    add_RouteGuideServicer_to_server,
)

TIMEOUT = 30


class Mistaken(RouteGuideServicer):
    """Yields where one message is expected, returns where a stream is."""

    def GetFeature(self, *_):
        yield Feature()

    def ListFeatures(self, *_):
        return [Feature()]

    def RecordRoute(self, *_):
        return None

    def RouteChat(self, *_):
        yield RouteNote()
        raise KeyError("secret")


class AsyncMistaken(RouteGuideServicer):
    """The same mistakes with asyncio."""

    async def GetFeature(self, *_):
        yield Feature()

    async def ListFeatures(self, *_):
        return [Feature()]

    async def RecordRoute(self, *_):
        return None

    async def RouteChat(self, *_):
        yield RouteNote()
        raise KeyError("secret")


def start(address):
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    add_RouteGuideServicer_to_server(Mistaken(), server)
    port = server.add_insecure_port(address)
    server.start()
    return server, port


async def start_async(address):
    server = grpc.aio.server()
    add_RouteGuideServicer_to_server(AsyncMistaken(), server)
    port = server.add_insecure_port(address)
    await server.start()
    return server, port


def call_list(stub):
    return list(stub.ListFeatures(Rectangle(), timeout=TIMEOUT))


CALLS = {
    "GetFeature": lambda stub: stub.GetFeature(Point(), timeout=TIMEOUT),
    "ListFeatures": call_list,
    "RecordRoute": lambda stub: stub.RecordRoute(iter([]), timeout=TIMEOUT),
    "RouteChat": lambda stub: list(stub.RouteChat(iter([]), timeout=TIMEOUT)),
}


@pytest.mark.parametrize(
    ("start", "method", "code", "details"),
    [
        (start, "GetFeature", "INTERNAL", "Failed to serialize response!"),
        (
            start,
            "ListFeatures",
            "UNKNOWN",
            "Exception iterating responses: 'list' object is not an iterator",
        ),
        (start, "RecordRoute", "INTERNAL", "Failed to serialize response!"),
        (start, "RouteChat", "UNKNOWN", "Exception iterating responses: 'secret'"),
        (
            start_async,
            "GetFeature",
            "UNKNOWN",
            "Unexpected <class 'TypeError'>: "
            "object async_generator can't be used in 'await' expression",
        ),
        (
            start_async,
            "RecordRoute",
            "UNKNOWN",
            "Unexpected <class 'TypeError'>: descriptor 'SerializeToString' for "
            "'google._upb._message.Message' objects doesn't apply to a 'NoneType' object",
        ),
        (start_async, "RouteChat", "UNKNOWN", "Unexpected <class 'KeyError'>: 'secret'"),
    ],
)
def test_a_mistake_in_a_handler_reaches_the_client(serve, start, method, code, details):
    with grpc.insecure_channel(serve(start)) as channel, pytest.raises(grpc.RpcError) as raised:
        CALLS[method](RouteGuideStub(channel))

    assert (raised.value.code().name, raised.value.details()) == (code, details)


def test_an_asyncio_handler_that_returns_a_list_streams_nothing(serve):
    with grpc.insecure_channel(serve(start_async)) as channel:
        assert call_list(RouteGuideStub(channel)) == []


@pytest.mark.parametrize(
    ("call", "code", "details"),
    [
        (
            lambda stub: stub.RecordRoute([Point()], timeout=TIMEOUT),
            "UNKNOWN",
            "Exception iterating requests!",
        ),
        (
            lambda stub: stub.GetFeature(iter([Point()]), timeout=TIMEOUT),
            "INTERNAL",
            "Exception serializing request!",
        ),
    ],
)
def test_a_mistake_in_a_client_never_reaches_the_server(serve, call, code, details):
    address = serve(route_guide_server.start)
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as raised:
        call(RouteGuideStub(channel))

    assert (raised.value.code().name, raised.value.details()) == (code, details)


def test_a_stream_is_not_a_message(serve):
    with grpc.insecure_channel(serve(route_guide_server.start)) as channel:
        answer = RouteGuideStub(channel).ListFeatures(Rectangle(), timeout=TIMEOUT)

        with pytest.raises(AttributeError, match="'_MultiThreadedRendezvous' object has no"):
            answer.name  # noqa: B018 - the mistake is the point.


def test_asyncio_takes_a_list_of_requests_and_cancels_on_a_message(serve, run_async):
    address = serve(route_guide_server.start)

    async def record(requests):
        async with grpc.aio.insecure_channel(address) as channel:
            try:
                return await RouteGuideStub(channel).RecordRoute(requests, timeout=TIMEOUT)
            except asyncio.CancelledError:
                return "cancelled"

    assert run_async(record([Point()])).point_count == 1
    assert run_async(record(Point())) == "cancelled"
