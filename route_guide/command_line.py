"""The chapter's command lines: their flags, and how results are printed."""

import argparse
import os
import signal
import sys
from argparse import ArgumentTypeError
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from route_guide.geography import E7
from route_guide.route_guide_pb2 import Feature, Point, Rectangle, RouteSummary


def address(value: str) -> str:
    """Returns value if it is HOST:PORT. gRPC would take port 70000, and connect to 4464."""
    host, _, port = text(value).rpartition(":")
    if not (host and port.isdecimal() and 1 <= int(port) <= 65535):
        raise ArgumentTypeError(f"expected HOST:PORT, got {value!r}")
    return value


def text(value: str) -> str:
    """Returns value if it is valid UTF-8, as protobuf needs. A command line may hold any bytes."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ArgumentTypeError(f"expected UTF-8 text, got {value!r}") from None
    return value


def seconds(value: str) -> float:
    """Returns value as a number of seconds. gRPC would take 1e300 to mean "at once"."""
    with suppress(ValueError):
        if 0 < float(value) <= 86_400:
            return float(value)
    raise ArgumentTypeError(f"expected up to 86400 seconds, above 0, got {value!r}")


def degrees(value: str) -> float:
    """Returns value as degrees that fit into an int32 in E7. The server checks the rest."""
    with suppress(ValueError):
        if -214 < float(value) < 214:
            return float(value)
    raise ArgumentTypeError(f"expected degrees between -214 and 214, got {value!r}")


def positive(value: str) -> int:
    """Returns value as a whole number above 0."""
    if not (value.isdecimal() and int(value) > 0):
        raise ArgumentTypeError(f"expected a whole number above 0, got {value!r}")
    return int(value)


@contextmanager
def output_may_be_cut() -> Iterator[None]:
    """Ends the program silently when its output is closed, as by `| head` after enough lines.

    Not by SIGPIPE's default action, which would also end it when the server closes a connection.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would try to write the rest again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)  # The status of a program that the signal has ended.


def parse_server_arguments(description: str) -> argparse.Namespace:
    """Parses the command line of a server."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--host",
        type=text,
        default="127.0.0.1",
        help="0.0.0.0 listens on every network (default: %(default)s, this machine only)",
    )
    parser.add_argument(
        "--port", type=int, default=50051, help="0 takes any free port (default: %(default)s)"
    )
    parser.add_argument(
        "--grace",
        type=seconds,
        default=10,
        help="seconds that calls in flight have to finish after Ctrl-C (default: %(default)s)",
    )
    return parser.parse_args()


def parse_client_arguments() -> argparse.Namespace:
    """Parses the command line of a client."""
    parser = argparse.ArgumentParser(
        description="Call the RouteGuide service. All points are in degrees."
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

    command = commands.add_parser("get", help="print the city at a point")
    command.add_argument("latitude", type=degrees, help="north is positive")
    command.add_argument("longitude", type=degrees, help="east is positive")

    command = commands.add_parser("list", help="print the cities in a rectangle")
    for name in ("latitude", "longitude", "other_latitude", "other_longitude"):
        command.add_argument(name, type=degrees, help="of two opposite corners")
    command.add_argument("--limit", type=positive, help="cancel the call after LIMIT cities")
    command.add_argument(
        "--pause", type=seconds, default=0, help="read slowly: wait PAUSE seconds after each city"
    )

    command = commands.add_parser("record", help="send the points of a route, print a summary")
    command.add_argument("route", type=degrees, nargs="+", metavar="latitude longitude")

    command = commands.add_parser("chat", help="leave messages at a point, print the earlier ones")
    command.add_argument("latitude", type=degrees, help="north is positive")
    command.add_argument("longitude", type=degrees, help="east is positive")
    command.add_argument("message", type=text, nargs="+")

    args = parser.parse_args()
    if args.command == "record" and len(args.route) % 2:
        parser.error("the last point of the route has no longitude")
    return args


def point_at(latitude: float, longitude: float) -> Point:
    """Converts degrees to a point."""
    return Point(latitude=round(latitude * E7), longitude=round(longitude * E7))


def points_at(route: Sequence[float]) -> list[Point]:
    """Converts alternating latitudes and longitudes to points."""
    return [point_at(*pair) for pair in zip(route[::2], route[1::2], strict=True)]


def rectangle_between(args: argparse.Namespace) -> Rectangle:
    """Converts the two corners of the `list` command to a rectangle."""
    return Rectangle(
        lo=point_at(args.latitude, args.longitude),
        hi=point_at(args.other_latitude, args.other_longitude),
    )


def describe_city(city: Feature) -> str:
    """Formats a city as one line."""
    location = city.location
    return f"{location.latitude / E7:10.5f} {location.longitude / E7:10.5f}  {city.name}"


def describe_arrivals(arrivals: Sequence[float]) -> str:
    """Formats how many cities have arrived, and when, in seconds since the call began."""
    if not arrivals:
        return "0 cities"
    first, last = arrivals[0] * 1000, arrivals[-1] * 1000
    return f"{len(arrivals)} cities, the first after {first:.0f} ms, the last after {last:.0f} ms"


def describe_route(summary: RouteSummary) -> str:
    """Formats the summary of a route as one line."""
    kilometres = summary.distance / 1000
    return f"{summary.point_count} points, {summary.feature_count} cities, {kilometres:.0f} km"
