"""The RouteGuide service, answered by threads.

Run it, then call it from a second terminal:

    python -m route_guide.route_guide_server --port 50051
    python -m route_guide.route_guide_client --address localhost:50051 get 31.22222 121.45806
"""

import argparse
import logging
import signal
import socket
import sys
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from time import monotonic

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


@contextmanager
def refusals(context: grpc.ServicerContext) -> Iterator[None]:
    """Ends the call with the status code for what the domain refuses."""
    try:
        yield
    except OverflowError as error:
        context.abort(grpc.StatusCode.OUT_OF_RANGE, str(error))
    except ValueError as error:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))


class RouteGuide(RouteGuideServicer):
    """Translates between messages and the domain."""

    def __init__(self, known: Places) -> None:
        self._places = known
        self._board = NoteBoard()

    def GetFeature(self, request: Point, context: grpc.ServicerContext) -> Feature:
        with refusals(context):
            point = to_point(request)
        place = self._places.at(point)
        return from_place(place) if place else Feature(location=request)

    def ListFeatures(self, request: Rectangle, context: grpc.ServicerContext) -> Iterator[Feature]:
        with refusals(context):
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

    def RecordRoute(
        self, request_iterator: Iterator[Point], context: grpc.ServicerContext
    ) -> RouteSummary:
        route = Route(self._places)
        for request in request_iterator:
            with refusals(context):
                route.add(to_point(request))
        return from_route(route)

    def RouteChat(
        self, request_iterator: Iterator[RouteNote], context: grpc.ServicerContext
    ) -> Iterator[RouteNote]:
        for request in request_iterator:
            with refusals(context):
                point = to_point(request.location)
                earlier = self._board.leave(point, request.message)
            for note in earlier:
                yield from_note(point, note)


def start(address: str, known: Places | None = None) -> tuple[grpc.Server, int]:
    """Starts a server on address ("127.0.0.1:0" takes any free port); returns it and its port.

    It knows the places given, else those of the database. Raises RuntimeError when the port is
    taken.
    """
    server = grpc.server(
        # A stream holds its thread as long as it is open: the 33rd chat waits for another to end.
        futures.ThreadPoolExecutor(max_workers=32),
        # By default a second server could share the port unnoticed.
        options=[("grpc.so_reuseport", 0)],
    )
    add_RouteGuideServicer_to_server(RouteGuide(places.load() if known is None else known), server)
    port = server.add_insecure_port(address)
    server.start()
    return server, port


def port_number(value: str) -> int:
    """A TCP port, 0 to 65535. Checked here because gRPC takes 70000 for 4464."""
    if not 0 <= int(value) <= 65535:
        raise ValueError
    return int(value)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the RouteGuide service.")
    parser.add_argument(
        "--port", type=port_number, default=50051, help="0: any free port (default: %(default)s)"
    )
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    # Blocked before any thread starts, so that no thread but this one, in sigwait, gets them. A
    # servicer that starts processes must unblock them there: children inherit the mask.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        # Asked first because it says why a port cannot be had; gRPC does not.
        socket.create_server((HOST, args.port)).close()
        server, port = start(f"{HOST}:{args.port}")
    except (OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")
    print(f"listening on {HOST}:{port}", flush=True)

    signal.sigwait(STOP_SIGNALS)
    # From here a second signal ends the process at once.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    print("stopping: calls in flight may finish", flush=True)
    server.stop(GRACE).wait(GRACE + 1)  # Not for ever, whatever a broken client has left behind.


if __name__ == "__main__":
    main()
