"""The cities of route_guide_db.json, found by point and by rectangle. Knows no gRPC."""

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from route_guide.geography import Point, Rectangle

DATABASE = Path(__file__).with_name("route_guide_db.json")


class Place(NamedTuple):
    """A city and where it is."""

    point: Point
    name: str


class Places:
    """Places, sorted by latitude, so that a rectangle looks only at those between its edges."""

    def __init__(self, places: Iterable[Place]) -> None:
        self._places = sorted(places)
        self._by_point = {place.point: place for place in self._places}

    def __len__(self) -> int:
        return len(self._places)

    def at(self, point: Point) -> Place | None:
        """The place at exactly this point."""
        return self._by_point.get(point)

    def within(self, rectangle: Rectangle) -> Iterator[Place]:
        """The places in a rectangle, southernmost first, each found when it is asked for."""
        first = bisect_left(self._places, rectangle.south, key=lambda place: place.point.latitude)
        for index in range(first, len(self._places)):
            place = self._places[index]
            if place.point.latitude > rectangle.north:
                return
            if rectangle.west <= place.point.longitude <= rectangle.east:
                yield place


def load(path: Path = DATABASE) -> Places:
    """The places in a file of the official route guide's format."""
    entries = json.loads(path.read_text(encoding="utf-8"))
    return Places(
        Place(Point(entry["location"]["latitude"], entry["location"]["longitude"]), entry["name"])
        for entry in entries
    )
