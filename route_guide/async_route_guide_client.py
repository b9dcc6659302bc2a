"""The four kinds of call, from a client's side, with asyncio.

Run it against a server in another terminal:

    python -m route_guide.route_guide_server --port 50051
    python -m route_guide.async_route_guide_client --address localhost:50051 list -48 166 -34 179
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from time import monotonic
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:  # The stub has one class at run time, two for the type checker.
    from route_guide.route_guide_pb2_grpc import RouteGuideAsyncStub

OPTIONS = [("grpc.http2.bdp_probe", 0)]
"""Keeps the receive window at 64 KiB, so that 5,000 cities are enough to show a slow reader.
Leave this out in your own clients: gRPC then grows the window to what the network can carry."""


async def get_feature(stub: "RouteGuideAsyncStub", point: Point, timeout: float) -> Feature:
    """Unary: returns the city at a point, or a feature without a name."""
    return await stub.GetFeature(point, timeout=timeout)


async def list_features(
    stub: "RouteGuideAsyncStub", rectangle: Rectangle, timeout: float, limit: int | None = None
) -> AsyncGenerator[Feature]:
    """Server streaming: yields each city of a rectangle as it arrives, at most limit of them."""
    call = stub.ListFeatures(rectangle, timeout=timeout)
    arrived = 0
    try:
        async for feature in call:
            yield feature
            arrived += 1
            if arrived == limit:
                break
    finally:
        call.cancel()  # Tells the server to stop. Has no effect if the call is complete.


async def record_route(
    stub: "RouteGuideAsyncStub", points: Iterable[Point], timeout: float
) -> RouteSummary:
    """Client streaming: sends the points of a route, returns the summary of it."""
    return await stub.RecordRoute(iter(points), timeout=timeout)


async def route_chat(
    stub: "RouteGuideAsyncStub", notes: Iterable[RouteNote], timeout: float
) -> AsyncIterator[RouteNote]:
    """Bidirectional: sends notes, and meanwhile yields the earlier ones at their points."""
    call = stub.RouteChat(iter(notes), timeout=timeout)
    try:
        async for note in call:
            yield note
    finally:
        call.cancel()


async def run_get(stub: "RouteGuideAsyncStub", args: argparse.Namespace) -> None:
    feature = await get_feature(stub, point_at(args.latitude, args.longitude), args.timeout)
    print(feature.name or "no city there")


async def run_list(stub: "RouteGuideAsyncStub", args: argparse.Namespace) -> None:
    rectangle = rectangle_between(args)
    started = monotonic()
    arrivals = []
    # Without aclosing, an async generator that is left half-way would keep its call open.
    async with aclosing(list_features(stub, rectangle, args.timeout, args.limit)) as cities:
        async for city in cities:
            arrivals.append(monotonic() - started)
            print(describe_city(city))
            await asyncio.sleep(args.pause)
    print(describe_arrivals(arrivals))


async def run_record(stub: "RouteGuideAsyncStub", args: argparse.Namespace) -> None:
    summary = await record_route(stub, points_at(args.route), args.timeout)
    print(describe_route(summary))


async def run_chat(stub: "RouteGuideAsyncStub", args: argparse.Namespace) -> None:
    location = point_at(args.latitude, args.longitude)
    notes = [RouteNote(location=location, message=message) for message in args.message]
    async for note in route_chat(stub, notes, args.timeout):
        print(f"earlier: {note.message}")
    print(f"notes left: {len(notes)}")


COMMANDS = {"get": run_get, "list": run_list, "record": run_record, "chat": run_chat}


async def run(args: argparse.Namespace) -> None:
    """Runs one command. A channel belongs to the event loop in which it was made."""
    async with grpc.aio.insecure_channel(args.address, OPTIONS) as channel:
        try:
            await COMMANDS[args.command](RouteGuideStub(channel), args)
        except grpc.aio.AioRpcError as error:
            sys.exit(f"error: {error.code().name}: {error.details()}")


def main() -> None:
    args = parse_client_arguments()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the client without a traceback.
    with output_may_be_cut():
        asyncio.run(run(args))


if __name__ == "__main__":
    main()
