"""Routes, and what is counted along them. Does not know gRPC."""

from time import monotonic

from route_guide.geography import Point, distance
from route_guide.places import Places

MAX_DISTANCE = 2**31 - 1
"""In metres: the largest int32."""


class Route:
    """A route being recorded: add its points one by one, then read the totals."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._last: Point | None = None
        self._metres = 0.0
        self._started = self._ended = 0.0
        self.point_count = 0
        self.place_count = 0

    def add(self, point: Point) -> None:
        """Extends the route to a point. Raises OverflowError beyond MAX_DISTANCE."""
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
        """In whole metres."""
        return int(self._metres)

    @property
    def elapsed_time(self) -> int:
        """In whole seconds, from the first point to the last."""
        return int(self._ended - self._started)
