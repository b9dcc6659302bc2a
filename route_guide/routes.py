"""What a route amounts to. Knows no gRPC."""

from time import monotonic

from route_guide.geography import Point, distance
from route_guide.places import Places

MAX_DISTANCE = 2**31 - 1
"""The longest route in metres: what an int32 can say."""


class Route:
    """A route on its way: add its points one by one, then read what it came to."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._last: Point | None = None
        self._metres = 0.0
        self._started = self._ended = 0.0
        self.point_count = 0
        self.place_count = 0

    def add(self, point: Point) -> None:
        """Goes on to a point. Raises OverflowError when the route is longer than MAX_DISTANCE."""
        self._ended = monotonic()
        if self._last is None:
            self._started = self._ended
        else:
            self._metres += distance(self._last, point)
        if self._metres > MAX_DISTANCE:
            raise OverflowError(f"the route is longer than {MAX_DISTANCE} metres")
        self._last = point
        self.point_count += 1
        self.place_count += self._places.at(point) is not None

    @property
    def distance(self) -> int:
        """Whole metres."""
        return int(self._metres)

    @property
    def elapsed_time(self) -> int:
        """Whole seconds from the first point to the last."""
        return int(self._ended - self._started)
