"""The cities of route_guide_db.json, found by point and by rectangle. Does not know gRPC."""

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from route_guide.geography import Point, Rectangle

DATABASE = Path(__file__).with_name("route_guide_db.json")


class Place(NamedTuple):
    """A city and its location."""

    point: Point
    name: str


class Places:
    """Places sorted by latitude, so that a search only visits those between two edges."""

    def __init__(self, places: Iterable[Place]) -> None:
        self._places = sorted(places)
        self._by_point = {place.point: place for place in self._places}

    @classmethod
    def load(cls, path: Path = DATABASE) -> "Places":
        """Loads the places from a file in the official route guide's format."""
        entries = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            Place(
                Point(entry["location"]["latitude"], entry["location"]["longitude"]), entry["name"]
            )
            for entry in entries
        )

    def __len__(self) -> int:
        return len(self._places)

    def at(self, point: Point) -> Place | None:
        """Returns the place at exactly this point, if there is one."""
        return self._by_point.get(point)

    def within(self, rectangle: Rectangle) -> Iterator[Place]:
        """Yields the places in a rectangle, southernmost first, searching only as far as needed."""
        first = bisect_left(self._places, rectangle.south, key=lambda place: place.point.latitude)
        for index in range(first, len(self._places)):
            place = self._places[index]
            if place.point.latitude > rectangle.north:
                return
            if rectangle.west <= place.point.longitude <= rectangle.east:
                yield place
