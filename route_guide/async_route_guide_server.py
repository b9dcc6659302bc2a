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

from route_guide import places
from route_guide.messages import from_note, from_place, from_route, to_point, to_rectangle
from route_guide.notes import NoteBoard
from route_guide.places import Places
from route_guide.route_guide_pb2 import Feature, Point, Rectangle, RouteNote, RouteSummary
from route_guide.route_guide_pb2_grpc import RouteGuideServicer, add_RouteGuideServicer_to_server
from route_guide.routes import Route

HOST = "127.0.0.1"
"""This machine only. A service for others listens on [::], with TLS (chapter 4)."""
GRACE = 10.0
"""Seconds that calls in flight have to finish once the server is told to stop."""
STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}
"""Ctrl-C, and what process managers and Kubernetes send."""

log = logging.getLogger(__name__)


@asynccontextmanager
async def refusals(context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
    """Ends the call with the status code for what the domain refuses."""
    try:
        yield
    except OverflowError as error:
        await context.abort(grpc.StatusCode.OUT_OF_RANGE, str(error))
    except ValueError as error:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))


class RouteGuide(RouteGuideServicer):
    """Translates between messages and the domain."""

    def __init__(self, known: Places) -> None:
        self._places = known
        self._board = NoteBoard()

    async def GetFeature(
        self, request: Point, context: grpc.aio.ServicerContext[Point, Feature]
    ) -> Feature:
        async with refusals(context):
            point = to_point(request)
        place = self._places.at(point)
        return from_place(place) if place else Feature(location=request)

    async def ListFeatures(
        self, request: Rectangle, context: grpc.aio.ServicerContext[Rectangle, Feature]
    ) -> AsyncIterator[Feature]:
        async with refusals(context):
            rectangle = to_rectangle(request)
        started, sent, end = monotonic(), 0, "broken off"
        try:
            for place in self._places.within(rectangle):
                yield from_place(place)  # Waits here while the client is slow to read.
                sent += 1
            end = "done"
        finally:  # Also reached when the client has gone: gRPC then throws the generator away.
            milliseconds = (monotonic() - started) * 1000
            log.info("ListFeatures: sent %d cities in %.0f ms, %s", sent, milliseconds, end)

    async def RecordRoute(
        self,
        request_iterator: AsyncIterator[Point],
        context: grpc.aio.ServicerContext[Point, RouteSummary],
    ) -> RouteSummary:
        route = Route(self._places)
        async for request in request_iterator:
            async with refusals(context):
                route.add(to_point(request))
        return from_route(route)

    async def RouteChat(
        self,
        request_iterator: AsyncIterator[RouteNote],
        context: grpc.aio.ServicerContext[RouteNote, RouteNote],
    ) -> AsyncIterator[RouteNote]:
        async for request in request_iterator:
            async with refusals(context):
                point = to_point(request.location)
                earlier = self._board.leave(point, request.message)
            for note in earlier:
                yield from_note(point, note)


async def start(address: str, known: Places | None = None) -> tuple[grpc.aio.Server, int]:
    """Starts a server on address ("127.0.0.1:0" takes any free port); returns it and its port.

    It knows the places given, else those of the database, and belongs to the running event loop.
    Raises RuntimeError when the port is taken.
    """
    # By default a second server could share the port unnoticed.
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    add_RouteGuideServicer_to_server(RouteGuide(places.load() if known is None else known), server)
    port = server.add_insecure_port(address)
    await server.start()
    return server, port


async def serve(wanted_port: int) -> None:
    """Serves until SIGINT or SIGTERM, then lets calls in flight finish."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    try:
        # Asked first because it says why a port cannot be had; gRPC does not.
        socket.create_server((HOST, wanted_port)).close()
        server, port = await start(f"{HOST}:{wanted_port}")
    except (OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")
    print(f"listening on {HOST}:{port}", flush=True)

    await stop.wait()
    # From here a second signal ends the process at once.
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    print("stopping: calls in flight may finish", flush=True)
    await server.stop(GRACE)


def port_number(value: str) -> int:
    """A TCP port, 0 to 65535. Checked here because gRPC takes 70000 for 4464."""
    if not 0 <= int(value) <= 65535:
        raise ValueError
    return int(value)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the RouteGuide service with asyncio.")
    parser.add_argument(
        "--port", type=port_number, default=50051, help="0: any free port (default: %(default)s)"
    )
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    asyncio.run(serve(args.port))


if __name__ == "__main__":
    main()
