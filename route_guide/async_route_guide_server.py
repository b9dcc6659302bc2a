"""The RouteGuide service, answered by one event loop instead of threads.

Run it, then call it from a second terminal:

    python -m route_guide.async_route_guide_server --port 50051
    python -m route_guide.route_guide_client --address localhost:50051 get 31.22222 121.45806
"""

import argparse
import asyncio
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import grpc

from route_guide.command_line import parse_server_arguments
from route_guide.messages import from_note, from_place, from_route, to_point, to_rectangle
from route_guide.notes import NoteBoard
from route_guide.places import Places
from route_guide.route_guide_pb2 import Feature, Point, Rectangle, RouteNote, RouteSummary
from route_guide.route_guide_pb2_grpc import RouteGuideServicer, add_RouteGuideServicer_to_server
from route_guide.routes import Route

STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}
"""Ctrl-C sends SIGINT; process managers and Kubernetes send SIGTERM."""

log = logging.getLogger(__name__)


@asynccontextmanager
async def abort_on_error(context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
    """Ends the call with the status code that fits an error of the domain."""
    try:
        yield
    except OverflowError as error:
        await context.abort(grpc.StatusCode.OUT_OF_RANGE, str(error))
    except ValueError as error:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))


class RouteGuide(RouteGuideServicer):
    """Translates between messages and the domain."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._board = NoteBoard()

    async def GetFeature(
        self, request: Point, context: grpc.aio.ServicerContext[Point, Feature]
    ) -> Feature:
        async with abort_on_error(context):
            point = to_point(request)
        place = self._places.at(point)
        return from_place(place) if place else Feature(location=request)

    async def ListFeatures(
        self, request: Rectangle, context: grpc.aio.ServicerContext[Rectangle, Feature]
    ) -> AsyncIterator[Feature]:
        async with abort_on_error(context):
            rectangle = to_rectangle(request)
        started, sent, end = monotonic(), 0, "cancelled"
        try:
            for place in self._places.within(rectangle):
                yield from_place(place)  # Waits here while the client is slow to read.
                sent += 1
            end = "done"
        finally:  # Runs when the client has gone, too: gRPC then closes this generator.
            milliseconds = (monotonic() - started) * 1000
            log.info("ListFeatures: sent %d cities in %.0f ms, %s", sent, milliseconds, end)

    async def RecordRoute(
        self,
        request_iterator: AsyncIterator[Point],
        context: grpc.aio.ServicerContext[Point, RouteSummary],
    ) -> RouteSummary:
        route = Route(self._places)
        async for request in request_iterator:
            async with abort_on_error(context):
                route.add(to_point(request))
        return from_route(route)

    async def RouteChat(
        self,
        request_iterator: AsyncIterator[RouteNote],
        context: grpc.aio.ServicerContext[RouteNote, RouteNote],
    ) -> AsyncIterator[RouteNote]:
        async for request in request_iterator:
            async with abort_on_error(context):
                point = to_point(request.location)
                earlier = self._board.leave(point, request.message)
            for note in earlier:
                yield from_note(point, note)


async def start(address: str, places: Places | None = None) -> tuple[grpc.aio.Server, int]:
    """Starts a server on address ("127.0.0.1:0" takes any free port); returns it and its port.

    Without places it loads those of the database. It belongs to the running event loop. Raises
    RuntimeError if the port is taken.
    """
    # By default a second server could share the port, unnoticed.
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    servicer = RouteGuide(Places.load() if places is None else places)
    add_RouteGuideServicer_to_server(servicer, server)
    port = server.add_insecure_port(address)
    await server.start()
    return server, port


async def serve(args: argparse.Namespace) -> None:
    """Serves until SIGINT or SIGTERM, then lets calls in flight finish."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    try:
        # Probe the port first: the socket's error says why it is unavailable, gRPC's does not.
        socket.create_server((args.host, args.port)).close()
        server, port = await start(f"{args.host}:{args.port}")
    except (OSError, OverflowError, RuntimeError) as error:
        sys.exit(f"error: {error}")
    print(f"listening on {args.host}:{port}", flush=True)

    await stop.wait()
    # From here on, a second signal ends the process at once.
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    print(
        f"stopping: calls in flight have {args.grace:g} s to finish; Ctrl-C again ends at once",
        flush=True,
    )
    await server.stop(args.grace)


def main() -> None:
    args = parse_server_arguments("Serve the RouteGuide service with asyncio.")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    asyncio.run(serve(args))


if __name__ == "__main__":
    main()
