"""Converts between the contract's messages and the domain. Does not know gRPC."""

from route_guide import geography
from route_guide.places import Place
from route_guide.route_guide_pb2 import Feature, Point, Rectangle, RouteNote, RouteSummary
from route_guide.routes import Route


def to_point(message: Point) -> geography.Point:
    """Raises ValueError if the point is not on Earth."""
    return geography.Point(message.latitude, message.longitude).check()


def to_rectangle(message: Rectangle) -> geography.Rectangle:
    """Raises ValueError if a corner is not on Earth."""
    return geography.Rectangle.between(to_point(message.lo), to_point(message.hi))


def from_point(point: geography.Point) -> Point:
    return Point(latitude=point.latitude, longitude=point.longitude)


def from_place(place: Place) -> Feature:
    return Feature(name=place.name, location=from_point(place.point))


def from_route(route: Route) -> RouteSummary:
    return RouteSummary(
        point_count=route.point_count,
        feature_count=route.place_count,
        distance=route.distance,
        elapsed_time=route.elapsed_time,
    )


def from_note(point: geography.Point, note: str) -> RouteNote:
    return RouteNote(location=from_point(point), message=note)
