"""The computation that stops when nobody wants its result any more."""

from itertools import chain, repeat

import pytest

from route_guide.farthest_cities import farthest_apart
from route_guide.geography import E7, Point
from route_guide.places import Place

A, B, C, D = (Place(Point(0, longitude * E7), str(longitude)) for longitude in (0, 90, 180, -100))


@pytest.mark.parametrize(
    ("cities", "farthest"),
    [([], []), ([A], []), ([A, B], [A, B]), ([A, B, D], [B, D]), ([B, D, C, A], [C, A])],
)
def test_the_farthest_pair_is_found(cities, farthest):
    assert farthest_apart(cities, is_wanted=lambda: True) == farthest


def test_the_search_stops_when_it_is_no_longer_wanted():
    answers = chain([True, True], repeat(False))

    assert farthest_apart([A, B, C, D], is_wanted=lambda: next(answers)) == []
    assert next(answers) is False
