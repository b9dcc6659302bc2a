"""Points, rectangles and distances on Earth. Does not know gRPC."""

from math import atan2, cos, hypot, radians, sin
from typing import NamedTuple

E7 = 10**7
MAX_LATITUDE = 90 * E7
MAX_LONGITUDE = 180 * E7
EARTH_RADIUS = 6_371_009
"""The mean radius in metres (IUGG)."""


class Point(NamedTuple):
    """A place on Earth in E7: degrees times 10,000,000, as integers."""

    latitude: int
    longitude: int

    def check(self) -> "Point":
        """Returns this point. Raises ValueError if it is not on Earth."""
        if abs(self.latitude) > MAX_LATITUDE:
            raise ValueError(f"latitude {self.latitude / E7} is not between -90 and 90 degrees")
        if abs(self.longitude) > MAX_LONGITUDE:
            raise ValueError(f"longitude {self.longitude / E7} is not between -180 and 180 degrees")
        return self


class Rectangle(NamedTuple):
    """The area between two latitudes and two longitudes, edges included."""

    south: int
    west: int
    north: int
    east: int

    @classmethod
    def between(cls, one: Point, other: Point) -> "Rectangle":
        """Returns the rectangle with two opposite corners. It never crosses the antimeridian."""
        south, north = sorted((one.latitude, other.latitude))
        west, east = sorted((one.longitude, other.longitude))
        return cls(south, west, north, east)


def distance(a: Point, b: Point) -> float:
    """Returns the metres from a to b along a great circle, accurate for any two points.

    It is the spherical case of Vincenty's formula (https://en.wikipedia.org/wiki/Great-circle_distance).
    """
    latitude_a, latitude_b = radians(a.latitude / E7), radians(b.latitude / E7)
    across = radians((b.longitude - a.longitude) / E7)
    sine = hypot(
        cos(latitude_b) * sin(across),
        cos(latitude_a) * sin(latitude_b) - sin(latitude_a) * cos(latitude_b) * cos(across),
    )
    cosine = sin(latitude_a) * sin(latitude_b) + cos(latitude_a) * cos(latitude_b) * cos(across)
    return EARTH_RADIUS * atan2(sine, cosine)
