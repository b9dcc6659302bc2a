"""The four kinds of call, from a client's side.

Run it against a server in another terminal:

    python -m route_guide.route_guide_server --port 50051
    python -m route_guide.route_guide_client --address localhost:50051 get 31.22222 121.45806
    python -m route_guide.route_guide_client --address localhost:50051 list -48 166 -34 179
"""

import argparse
import signal
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from time import monotonic, sleep

import grpc

from route_guide.command_line import (
    describe_arrivals,
    describe_city,
    describe_route,
    output_may_be_cut,
    parse_client_arguments,
    point_at,
    points_at,
    rectangle_between,
)
from route_guide.route_guide_pb2 import Feature, Point, Rectangle, RouteNote, RouteSummary
from route_guide.route_guide_pb2_grpc import RouteGuideStub

OPTIONS = [("grpc.http2.bdp_probe", 0)]
"""Keeps the receive window at 64 KiB, so that 5,000 cities are enough to show a slow reader.
Leave this out in your own clients: gRPC then grows the window to what the network can carry."""


def get_feature(stub: RouteGuideStub, point: Point, timeout: float) -> Feature:
    """Unary: returns the city at a point, or a feature without a name."""
    return stub.GetFeature(point, timeout=timeout)


def list_features(
    stub: RouteGuideStub, rectangle: Rectangle, timeout: float, limit: int | None = None
) -> Iterator[Feature]:
    """Server streaming: yields each city of a rectangle as it arrives, at most limit of them."""
    call = stub.ListFeatures(rectangle, timeout=timeout)
    try:
        yield from islice(call, limit)
    finally:
        call.cancel()  # Tells the server to stop. Has no effect if the call is complete.


def record_route(stub: RouteGuideStub, points: Iterable[Point], timeout: float) -> RouteSummary:
    """Client streaming: sends the points of a route, returns the summary of it."""
    return stub.RecordRoute(iter(points), timeout=timeout)


def route_chat(
    stub: RouteGuideStub, notes: Iterable[RouteNote], timeout: float
) -> Iterator[RouteNote]:
    """Bidirectional: sends notes, and meanwhile yields the earlier ones at their points."""
    call = stub.RouteChat(iter(notes), timeout=timeout)
    try:
        yield from call
    finally:
        call.cancel()


def run_get(stub: RouteGuideStub, args: argparse.Namespace) -> None:
    feature = get_feature(stub, point_at(args.latitude, args.longitude), args.timeout)
    print(feature.name or "no city there")


def run_list(stub: RouteGuideStub, args: argparse.Namespace) -> None:
    rectangle = rectangle_between(args)
    started = monotonic()
    arrivals = []
    for city in list_features(stub, rectangle, args.timeout, args.limit):
        arrivals.append(monotonic() - started)
        print(describe_city(city))
        sleep(args.pause)
    print(describe_arrivals(arrivals))


def run_record(stub: RouteGuideStub, args: argparse.Namespace) -> None:
    summary = record_route(stub, points_at(args.route), args.timeout)
    print(describe_route(summary))


def run_chat(stub: RouteGuideStub, args: argparse.Namespace) -> None:
    location = point_at(args.latitude, args.longitude)
    notes = [RouteNote(location=location, message=message) for message in args.message]
    for note in route_chat(stub, notes, args.timeout):
        print(f"earlier: {note.message}")
    print(f"notes left: {len(notes)}")


COMMANDS = {"get": run_get, "list": run_list, "record": run_record, "chat": run_chat}


def main() -> None:
    args = parse_client_arguments()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the client without a traceback.
    with output_may_be_cut(), grpc.insecure_channel(args.address, OPTIONS) as channel:
        try:
            COMMANDS[args.command](RouteGuideStub(channel), args)
        except grpc.RpcError as error:
            sys.exit(f"error: {error.code().name}: {error.details()}")


if __name__ == "__main__":
    main()
