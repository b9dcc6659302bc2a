"""The service: four kinds of call, both servers and both clients."""

import queue
import threading
from contextlib import ExitStack

import grpc
import pytest

from route_guide import (
    async_route_guide_client,
    async_route_guide_server,
    route_guide_client,
    route_guide_server,
)
from route_guide.geography import Point as EarthPoint
from route_guide.places import Place
from route_guide.route_guide_pb2 import Feature, Point, Rectangle, RouteNote, RouteSummary
from route_guide.route_guide_pb2_grpc import RouteGuideStub

SERVERS = {"sync": route_guide_server, "asyncio": async_route_guide_server}
SHANGHAI = Point(latitude=312222200, longitude=1214580600)
SYDNEY = Point(latitude=-338678500, longitude=1512073200)
AUCKLAND = Point(latitude=-368485300, longitude=1747634900)
NOWHERE = Point()
IMPOSSIBLE = Point(latitude=910000000)
WORLD = Rectangle(
    lo=Point(latitude=-900000000, longitude=-1800000000),
    hi=Point(latitude=900000000, longitude=1800000000),
)
TIMEOUT = 30


@pytest.fixture(params=SERVERS)
def server(request):
    return SERVERS[request.param]


@pytest.fixture
def stub(server, serve):
    with grpc.insecure_channel(serve(server.start)) as channel:
        yield RouteGuideStub(channel)


class SyncClient:
    """The chapter's sync client functions, each result whole."""

    def __init__(self, address, _run_async):
        self.address = address

    def __getattr__(self, name):
        def call(*args):
            with grpc.insecure_channel(self.address) as channel:
                result = getattr(route_guide_client, name)(RouteGuideStub(channel), *args)
                return result if isinstance(result, Feature | RouteSummary) else list(result)

        return call


class AsyncClient:
    """The asyncio client functions, called the same way."""

    def __init__(self, address, run_async):
        self.address = address
        self.run_async = run_async

    def __getattr__(self, name):
        async def call(*args):
            async with grpc.aio.insecure_channel(self.address) as channel:
                result = getattr(async_route_guide_client, name)(RouteGuideStub(channel), *args)
                if hasattr(result, "__aiter__"):
                    return [item async for item in result]
                return await result

        return lambda *args: self.run_async(call(*args))


@pytest.fixture(params=[SyncClient, AsyncClient])
def client(request, server, serve, run_async):
    return request.param(serve(server.start), run_async)


def note(message, location=NOWHERE):
    return RouteNote(location=location, message=message)


def test_get_feature_finds_a_city_or_a_feature_without_a_name(client):
    assert client.get_feature(SHANGHAI, TIMEOUT) == Feature(name="Shanghai, CN", location=SHANGHAI)
    assert client.get_feature(NOWHERE, TIMEOUT) == Feature(location=NOWHERE)


def test_list_features_sends_the_cities_of_a_rectangle_whatever_its_corners(client):
    northwest = Point(latitude=-365000000, longitude=1740000000)
    southeast = Point(latitude=-372000000, longitude=1755000000)
    expected = [
        Feature(name="Manukau City, NZ", location=Point(latitude=-369928200, longitude=1748798600)),
        Feature(name="Auckland, NZ", location=AUCKLAND),
        Feature(name="North Shore, NZ", location=Point(latitude=-368000000, longitude=1747500000)),
    ]

    assert client.list_features(Rectangle(lo=northwest, hi=southeast), TIMEOUT) == expected
    assert client.list_features(Rectangle(lo=southeast, hi=northwest), TIMEOUT) == expected
    assert client.list_features(Rectangle(lo=NOWHERE, hi=NOWHERE), TIMEOUT) == []


def test_list_features_sends_the_whole_world_or_as_much_as_is_wanted(client):
    features = client.list_features(WORLD, TIMEOUT)

    assert len(features) == 5_000
    latitudes = [feature.location.latitude for feature in features]
    assert latitudes == sorted(latitudes)
    assert client.list_features(WORLD, TIMEOUT, 7) == features[:7]


def test_record_route_sums_up(client):
    summary = client.record_route([SYDNEY, NOWHERE, AUCKLAND], TIMEOUT)

    assert summary == RouteSummary(point_count=3, feature_count=2, distance=31081808)
    assert client.record_route([], TIMEOUT) == RouteSummary()


def test_route_chat_answers_with_the_earlier_notes_of_any_client(client):
    assert client.route_chat([note("a"), note("far", SYDNEY), note("b")], TIMEOUT) == [note("a")]
    assert client.route_chat([note("你好")], TIMEOUT) == [note("a"), note("b")]
    assert client.route_chat([], TIMEOUT) == []


def test_a_chat_is_answered_while_it_is_going_on(stub):
    outbox = queue.SimpleQueue()
    chat = stub.RouteChat(iter(outbox.get, None), timeout=TIMEOUT)

    for number in range(3):
        outbox.put(note(str(number)))
        # Each answer is awaited before the next note is sent.
        assert [next(chat) for _ in range(number)] == [note(str(n)) for n in range(number)]
    outbox.put(None)

    assert list(chat) == []
    assert chat.code() == grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("start", "code"),
    [
        (route_guide_server.start, grpc.StatusCode.DEADLINE_EXCEEDED),
        (async_route_guide_server.start, grpc.StatusCode.OK),
    ],
    ids=SERVERS,
)
def test_open_chats_take_all_threads_but_no_event_loop(serve, start, code):
    with grpc.insecure_channel(serve(start)) as channel, ExitStack() as stack:
        stub = RouteGuideStub(channel)
        chats = []  # A call that nobody refers to is cancelled.
        for number in range(32):
            outbox = queue.SimpleQueue()
            outbox.put(note("first", Point(latitude=number)))
            outbox.put(note("second", Point(latitude=number)))
            chats.append(stub.RouteChat(iter(outbox.get, None), timeout=TIMEOUT))
            stack.callback(outbox.put, None)
            assert next(chats[-1]).message == "first"

        call = stub.GetFeature.future(SHANGHAI, timeout=0.5)

        assert call.code() == code


@pytest.mark.parametrize(
    ("call", "code", "details"),
    [
        (
            lambda stub: stub.GetFeature(IMPOSSIBLE),
            grpc.StatusCode.INVALID_ARGUMENT,
            "latitude 91.0 is not between -90 and 90 degrees",
        ),
        (
            lambda stub: stub.GetFeature(Point(longitude=-(2**31))),
            grpc.StatusCode.INVALID_ARGUMENT,
            "longitude -214.7483648 is not between -180 and 180 degrees",
        ),
        (
            lambda stub: list(stub.ListFeatures(Rectangle(lo=NOWHERE, hi=IMPOSSIBLE))),
            grpc.StatusCode.INVALID_ARGUMENT,
            "latitude 91.0 is not between -90 and 90 degrees",
        ),
        (
            lambda stub: stub.RecordRoute(iter([NOWHERE, IMPOSSIBLE])),
            grpc.StatusCode.INVALID_ARGUMENT,
            "latitude 91.0 is not between -90 and 90 degrees",
        ),
        (
            lambda stub: stub.RecordRoute(iter([NOWHERE, Point(longitude=1800000000)] * 60)),
            grpc.StatusCode.OUT_OF_RANGE,
            "the route is longer than 2147483647 metres",
        ),
        (
            lambda stub: list(stub.RouteChat(iter([note("a"), note("b", IMPOSSIBLE)]))),
            grpc.StatusCode.INVALID_ARGUMENT,
            "latitude 91.0 is not between -90 and 90 degrees",
        ),
        (
            lambda stub: list(stub.RouteChat(iter([note("x" * 1001)]))),
            grpc.StatusCode.INVALID_ARGUMENT,
            "at most 1000 characters are allowed in a note, got 1001",
        ),
    ],
)
def test_what_cannot_be_is_refused(stub, call, code, details):
    with pytest.raises(grpc.RpcError) as raised:
        call(stub)

    assert (raised.value.code(), raised.value.details()) == (code, details)


class EndlessPlaces:
    """As many places as anyone reads, counted, and a note of when nobody reads any more."""

    def __init__(self, name="Here"):
        self.name = name
        self.count = 0
        self.stopped = threading.Event()

    def within(self, _rectangle):
        try:
            while True:
                self.count += 1
                yield Place(EarthPoint(0, 0), self.name)
        finally:
            self.stopped.set()


def test_the_first_city_arrives_though_the_last_never_will(server, serve):
    places = EndlessPlaces()
    with grpc.insecure_channel(serve(server.start, places)) as channel:
        call = RouteGuideStub(channel).ListFeatures(WORLD, timeout=TIMEOUT)

        assert next(call) == Feature(name="Here", location=NOWHERE)
        assert not places.stopped.is_set()


@pytest.mark.parametrize("end", ["limit", "deadline", "channel"])
def test_a_client_that_breaks_off_stops_the_work_on_the_server(server, serve, end):
    places = EndlessPlaces()
    with grpc.insecure_channel(serve(server.start, places)) as channel:
        stub = RouteGuideStub(channel)
        if end == "limit":
            assert len(list(route_guide_client.list_features(stub, WORLD, TIMEOUT, 3))) == 3
        elif end == "deadline":
            with pytest.raises(grpc.RpcError) as raised:
                list(stub.ListFeatures(WORLD, timeout=0.2))
            assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        else:
            call = stub.ListFeatures(WORLD, timeout=TIMEOUT)
            next(call)
            channel.close()

        assert places.stopped.wait(TIMEOUT)


def test_a_slow_reader_makes_the_server_wait_not_hoard(server, serve):
    places = EndlessPlaces(name="x" * 1000)
    address = serve(server.start, places)
    with grpc.insecure_channel(address, route_guide_client.OPTIONS) as channel:
        call = RouteGuideStub(channel).ListFeatures(WORLD, timeout=2)
        next(call)

        # The client reads no more. When its deadline ends the call, the server has gone on only
        # as far as the client's window of 64 KiB and what the server takes ahead reach.
        assert places.stopped.wait(TIMEOUT)

    assert 60 < places.count < 300


def test_the_official_bytes_get_the_official_answers(server, serve):
    """Requests written by hand from the official field numbers, without this chapter's stubs."""
    with grpc.insecure_channel(serve(server.start)) as channel:

        def method(kind, name):
            return getattr(channel, kind)(f"/routeguide.RouteGuide/{name}")

        shanghai = b"\x08\xf8\xc3\xf0\x94\x01\x10\xf8\x8e\x94\xc3\x04"
        point_field = b"\x0a\x0c" + shanghai
        feature = b"\x0a\x0cShanghai, CN" + b"\x12\x0c" + shanghai

        assert method("unary_unary", "GetFeature")(shanghai) == feature
        rectangle = point_field + b"\x12\x0c" + shanghai
        assert list(method("unary_stream", "ListFeatures")(rectangle)) == [feature]
        points = iter([shanghai, shanghai])
        assert method("stream_unary", "RecordRoute")(points) == b"\x08\x02\x10\x02"
        notes = [point_field + b"\x12\x02hi", point_field + b"\x12\x03bye"]
        assert list(method("stream_stream", "RouteChat")(iter(notes))) == [notes[0]]
