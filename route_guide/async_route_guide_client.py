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

from route_guide.route_guide_client import (
    OPTIONS,
    describe,
    describe_arrivals,
    describe_route,
    parse_arguments,
    to_point,
    to_points,
    to_rectangle,
)
from route_guide.route_guide_pb2 import Feature, Point, Rectangle, RouteNote, RouteSummary
from route_guide.route_guide_pb2_grpc import RouteGuideStub

if TYPE_CHECKING:  # The stub has one class at run time, two for the type checker.
    from route_guide.route_guide_pb2_grpc import RouteGuideAsyncStub


async def get_feature(stub: "RouteGuideAsyncStub", point: Point, timeout: float) -> Feature:
    """One message there, one back. The feature has no name when nothing is at the point."""
    return await stub.GetFeature(point, timeout=timeout)


async def list_features(
    stub: "RouteGuideAsyncStub", rectangle: Rectangle, timeout: float, limit: int | None = None
) -> AsyncGenerator[Feature]:
    """One message there, many back: each city as it arrives, at most limit of them."""
    call = stub.ListFeatures(rectangle, timeout=timeout)
    arrived = 0
    try:
        async for feature in call:
            yield feature
            arrived += 1
            if arrived == limit:
                break
    finally:
        call.cancel()  # Tells the server to stop; without effect when it has sent everything.


async def record_route(
    stub: "RouteGuideAsyncStub", points: Iterable[Point], timeout: float
) -> RouteSummary:
    """Many messages there, one back when the last point is sent."""
    return await stub.RecordRoute(iter(points), timeout=timeout)


async def route_chat(
    stub: "RouteGuideAsyncStub", notes: Iterable[RouteNote], timeout: float
) -> AsyncIterator[RouteNote]:
    """Many there, many back, both at once: the earlier notes at the points of ours."""
    call = stub.RouteChat(iter(notes), timeout=timeout)
    try:
        async for note in call:
            yield note
    finally:
        call.cancel()


async def run_get(stub: "RouteGuideAsyncStub", args: argparse.Namespace) -> None:
    feature = await get_feature(stub, to_point(args.latitude, args.longitude), args.timeout)
    print(feature.name or "no city there")


async def run_list(stub: "RouteGuideAsyncStub", args: argparse.Namespace) -> None:
    rectangle = to_rectangle(args)
    started = monotonic()
    arrivals = []
    # Closed at the end of the block: an async generator left half-way would keep its call open.
    async with aclosing(list_features(stub, rectangle, args.timeout, args.limit)) as features:
        async for feature in features:
            arrivals.append(monotonic() - started)
            print(describe(feature))
            await asyncio.sleep(args.pause)
    print(describe_arrivals(arrivals))


async def run_record(stub: "RouteGuideAsyncStub", args: argparse.Namespace) -> None:
    summary = await record_route(stub, to_points(args.route), args.timeout)
    print(describe_route(summary))


async def run_chat(stub: "RouteGuideAsyncStub", args: argparse.Namespace) -> None:
    location = to_point(args.latitude, args.longitude)
    notes = [RouteNote(location=location, message=message) for message in args.message]
    async for note in route_chat(stub, notes, args.timeout):
        print(f"earlier: {note.message}")
    print(f"notes left: {len(notes)}")


COMMANDS = {"get": run_get, "list": run_list, "record": run_record, "chat": run_chat}


async def run(args: argparse.Namespace) -> None:
    """Runs one command. The channel belongs to the event loop that runs this."""
    async with grpc.aio.insecure_channel(args.address, OPTIONS) as channel:
        try:
            await COMMANDS[args.command](RouteGuideStub(channel), args)
        except grpc.aio.AioRpcError as error:
            sys.exit(f"error: {error.code().name}: {error.details()}")


def main() -> None:
    args = parse_arguments()
    # Ctrl-C, or `| head` that has seen enough, ends a client without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    asyncio.run(run(args))


if __name__ == "__main__":
    main()
