"""The RouteGuide service, answered by threads.

Run it, then call it from a second terminal:

    python -m route_guide.route_guide_server --port 50051
    python -m route_guide.route_guide_client --address localhost:50051 get 31.22222 121.45806
"""

import logging
import signal
import socket
import sys
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from time import monotonic

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


@contextmanager
def abort_on_error(context: grpc.ServicerContext) -> Iterator[None]:
    """Ends the call with the status code that fits an error of the domain."""
    try:
        yield
    except OverflowError as error:
        context.abort(grpc.StatusCode.OUT_OF_RANGE, str(error))
    except ValueError as error:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))


class RouteGuide(RouteGuideServicer):
    """Translates between messages and the domain."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._board = NoteBoard()

    def GetFeature(self, request: Point, context: grpc.ServicerContext) -> Feature:
        with abort_on_error(context):
            point = to_point(request)
        place = self._places.at(point)
        return from_place(place) if place else Feature(location=request)

    def ListFeatures(self, request: Rectangle, context: grpc.ServicerContext) -> Iterator[Feature]:
        with abort_on_error(context):
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

    def RecordRoute(
        self, request_iterator: Iterator[Point], context: grpc.ServicerContext
    ) -> RouteSummary:
        route = Route(self._places)
        for request in request_iterator:
            with abort_on_error(context):
                route.add(to_point(request))
        return from_route(route)

    def RouteChat(
        self, request_iterator: Iterator[RouteNote], context: grpc.ServicerContext
    ) -> Iterator[RouteNote]:
        for request in request_iterator:
            with abort_on_error(context):
                point = to_point(request.location)
                earlier = self._board.leave(point, request.message)
            for note in earlier:
                yield from_note(point, note)


def start(address: str, places: Places | None = None) -> tuple[grpc.Server, int]:
    """Starts a server on address ("127.0.0.1:0" takes any free port); returns it and its port.

    Without places it loads those of the database. Raises RuntimeError if the port is taken.
    """
    server = grpc.server(
        # An open stream holds its thread: the 33rd chat waits until another one ends.
        futures.ThreadPoolExecutor(max_workers=32),
        # By default a second server could share the port, unnoticed.
        options=[("grpc.so_reuseport", 0)],
    )
    servicer = RouteGuide(Places.load() if places is None else places)
    add_RouteGuideServicer_to_server(servicer, server)
    port = server.add_insecure_port(address)
    server.start()
    return server, port


def main() -> None:
    args = parse_server_arguments("Serve the RouteGuide service.")
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    # Block the signals before any thread starts, so that only sigwait, below, receives them.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        # Probe the port first: the socket's error says why it is unavailable, gRPC's does not.
        socket.create_server((args.host, args.port)).close()
        server, port = start(f"{args.host}:{args.port}")
    except (OSError, OverflowError, RuntimeError) as error:
        sys.exit(f"error: {error}")
    print(f"listening on {args.host}:{port}", flush=True)

    signal.sigwait(STOP_SIGNALS)
    # From here on, a second signal ends the process at once.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    print(
        f"stopping: calls in flight have {args.grace:g} s to finish; Ctrl-C again ends at once",
        flush=True,
    )
    # Bounded, so that a broken client cannot keep us here.
    server.stop(args.grace).wait(args.grace + 1)


if __name__ == "__main__":
    main()
