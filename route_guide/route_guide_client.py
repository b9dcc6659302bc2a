"""The four kinds of call, from a client's side.

Run it against a server in another terminal:

    python -m route_guide.route_guide_server --port 50051
    python -m route_guide.route_guide_client --address localhost:50051 get 31.22222 121.45806
    python -m route_guide.route_guide_client --address localhost:50051 list -48 166 -34 179
"""

import argparse
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from time import monotonic, sleep

import grpc

from route_guide.route_guide_pb2 import Feature, Point, Rectangle, RouteNote, RouteSummary
from route_guide.route_guide_pb2_grpc import RouteGuideStub

E7 = 10**7
OPTIONS = [("grpc.http2.bdp_probe", 0)]
"""Keeps the flow-control window at 64 KiB, so that a slow reader's effect shows with 5,000 cities.
A client that reads fast leaves this out: gRPC then measures the line and grows the window."""


def get_feature(stub: RouteGuideStub, point: Point, timeout: float) -> Feature:
    """One message there, one back. The feature has no name when nothing is at the point."""
    return stub.GetFeature(point, timeout=timeout)


def list_features(
    stub: RouteGuideStub, rectangle: Rectangle, timeout: float, limit: int | None = None
) -> Iterator[Feature]:
    """One message there, many back: each city as it arrives, at most limit of them."""
    call = stub.ListFeatures(rectangle, timeout=timeout)
    try:
        yield from islice(call, limit)
    finally:
        call.cancel()  # Tells the server to stop; without effect when it has sent everything.


def record_route(stub: RouteGuideStub, points: Iterable[Point], timeout: float) -> RouteSummary:
    """Many messages there, one back when the last point is sent."""
    return stub.RecordRoute(iter(points), timeout=timeout)


def route_chat(
    stub: RouteGuideStub, notes: Iterable[RouteNote], timeout: float
) -> Iterator[RouteNote]:
    """Many there, many back, both at once: the earlier notes at the points of ours."""
    call = stub.RouteChat(iter(notes), timeout=timeout)
    try:
        yield from call
    finally:
        call.cancel()


# What follows is the command line, for this client and its asyncio twin.


def to_point(latitude: float, longitude: float) -> Point:
    """A point from degrees."""
    return Point(latitude=round(latitude * E7), longitude=round(longitude * E7))


def to_points(degrees: Sequence[float]) -> list[Point]:
    """Points from latitudes and longitudes in turn."""
    return [to_point(*pair) for pair in zip(degrees[::2], degrees[1::2], strict=True)]


def to_rectangle(args: argparse.Namespace) -> Rectangle:
    """The rectangle that the command line names by two corners."""
    return Rectangle(
        lo=to_point(args.latitude, args.longitude),
        hi=to_point(args.other_latitude, args.other_longitude),
    )


def describe(feature: Feature) -> str:
    location = feature.location
    return f"{location.latitude / E7:10.5f} {location.longitude / E7:10.5f}  {feature.name}"


def describe_arrivals(arrivals: Sequence[float]) -> str:
    """How many cities came, and after how long; arrivals are seconds since the call."""
    if not arrivals:
        return "0 cities"
    first, last = arrivals[0] * 1000, arrivals[-1] * 1000
    return f"{len(arrivals)} cities, the first after {first:.0f} ms, the last after {last:.0f} ms"


def describe_route(summary: RouteSummary) -> str:
    kilometres = summary.distance / 1000
    return f"{summary.point_count} points, {summary.feature_count} cities, {kilometres:.0f} km"


def degrees(value: str) -> float:
    """Degrees that an int32 in E7 can carry. Whether they are on earth the server knows."""
    if not -214 < float(value) < 214:
        raise ValueError
    return float(value)


def seconds(value: str) -> float:
    """Seconds, above 0 and up to a day. Checked here because gRPC takes 1e300 for "at once"."""
    if not 0 < float(value) <= 86_400:
        raise ValueError
    return float(value)


def address(value: str) -> str:
    """HOST:PORT. Checked here because gRPC takes port 70000 for 4464."""
    host, _, port = value.encode().decode().rpartition(":")
    if not host or not 1 <= int(port) <= 65535:
        raise ValueError
    return value


def text(value: str) -> str:
    """Text that protobuf can carry. Raises ValueError for bytes that are not UTF-8."""
    value.encode()
    return value


def positive(value: str) -> int:
    """A whole number above 0."""
    if int(value) < 1:
        raise ValueError
    return int(value)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Ask the RouteGuide service. All points are in degrees."
    )
    parser.add_argument(
        "--address",
        type=address,
        default="localhost:50051",
        help="HOST:PORT of the server (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout", type=seconds, default=60, help="seconds a call may take (default: %(default)s)"
    )
    commands = parser.add_subparsers(required=True, dest="command", metavar="COMMAND")

    command = commands.add_parser("get", help="the city at a point")
    command.add_argument("latitude", type=degrees, help="north is positive")
    command.add_argument("longitude", type=degrees, help="east is positive")

    command = commands.add_parser("list", help="the cities in a rectangle of two opposite corners")
    for name in ("latitude", "longitude", "other_latitude", "other_longitude"):
        command.add_argument(name, type=degrees)
    command.add_argument("--limit", type=positive, help="break off after so many cities")
    command.add_argument(
        "--pause", type=seconds, default=0, help="be slow: wait so many seconds after each city"
    )

    command = commands.add_parser("record", help="a route through points, and what it came to")
    command.add_argument("route", type=degrees, nargs="+", metavar="latitude longitude")

    command = commands.add_parser("chat", help="leave messages at a point, see the earlier ones")
    command.add_argument("latitude", type=degrees, help="north is positive")
    command.add_argument("longitude", type=degrees, help="east is positive")
    command.add_argument("message", type=text, nargs="+")
    args = parser.parse_args()
    if args.command == "record" and len(args.route) % 2:
        parser.error(
            "a route is latitudes and longitudes in turn, and the last longitude is missing"
        )
    return args


def run_get(stub: RouteGuideStub, args: argparse.Namespace) -> None:
    feature = get_feature(stub, to_point(args.latitude, args.longitude), args.timeout)
    print(feature.name or "no city there")


def run_list(stub: RouteGuideStub, args: argparse.Namespace) -> None:
    rectangle = to_rectangle(args)
    started = monotonic()
    arrivals = []
    for feature in list_features(stub, rectangle, args.timeout, args.limit):
        arrivals.append(monotonic() - started)
        print(describe(feature))
        sleep(args.pause)
    print(describe_arrivals(arrivals))


def run_record(stub: RouteGuideStub, args: argparse.Namespace) -> None:
    summary = record_route(stub, to_points(args.route), args.timeout)
    print(describe_route(summary))


def run_chat(stub: RouteGuideStub, args: argparse.Namespace) -> None:
    location = to_point(args.latitude, args.longitude)
    notes = [RouteNote(location=location, message=message) for message in args.message]
    for note in route_chat(stub, notes, args.timeout):
        print(f"earlier: {note.message}")
    print(f"notes left: {len(notes)}")


COMMANDS = {"get": run_get, "list": run_list, "record": run_record, "chat": run_chat}


def main() -> None:
    args = parse_arguments()
    # Ctrl-C, or `| head` that has seen enough, ends a client without a traceback. For command
    # lines only: in a service a closed socket would end the process.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    with grpc.insecure_channel(args.address, OPTIONS) as channel:
        try:
            COMMANDS[args.command](RouteGuideStub(channel), args)
        except grpc.RpcError as error:
            sys.exit(f"error: {error.code().name}: {error.details()}")


if __name__ == "__main__":
    main()
