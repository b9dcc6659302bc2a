"""Distances and rectangles."""

from math import asin, cos, pi, radians, sin, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from route_guide.geography import (
    E7,
    EARTH_RADIUS,
    MAX_LATITUDE,
    MAX_LONGITUDE,
    Point,
    Rectangle,
    distance,
)

POINTS = st.builds(
    Point,
    st.integers(-MAX_LATITUDE, MAX_LATITUDE),
    st.integers(-MAX_LONGITUDE, MAX_LONGITUDE),
)
HALF_ROUND = pi * EARTH_RADIUS


def at(latitude, longitude):
    return Point(round(latitude * E7), round(longitude * E7))


def haversine(a, b):
    """Another formula for the same distance."""
    half_up = radians((b.latitude - a.latitude) / E7) / 2
    half_across = radians((b.longitude - a.longitude) / E7) / 2
    cosines = cos(radians(a.latitude / E7)) * cos(radians(b.latitude / E7))
    return (
        2 * EARTH_RADIUS * asin(min(1, sqrt(sin(half_up) ** 2 + cosines * sin(half_across) ** 2)))
    )


@given(POINTS, POINTS)
def test_there_and_back_is_the_same(a, b):
    assert distance(a, b) == pytest.approx(distance(b, a), abs=1e-3)


@given(POINTS, POINTS)
def test_two_formulas_agree(a, b):
    # Within 5 metres: next to the antipode the haversine itself is that wrong.
    assert distance(a, b) == pytest.approx(haversine(a, b), abs=5)


@given(POINTS, POINTS)
def test_nothing_is_farther_than_the_antipode(a, b):
    assert 0 <= distance(a, b) <= HALF_ROUND + 1e-3


@pytest.mark.parametrize(
    ("a", "b", "metres"),
    [
        (at(0, 0), at(0, 0), 0),
        (at(0, 0), at(0, 180), HALF_ROUND),
        (at(90, 0), at(-90, 77), HALF_ROUND),
        (at(90, 0), at(90, 120), 0),  # The pole has every longitude.
        (at(0, 180), at(0, -180), 0),  # One meridian, two names.
        (at(0, 179.5), at(0, -179.5), HALF_ROUND / 180),  # Across the antimeridian.
        (at(-33.86785, 151.20732), at(-36.84853, 174.76349), 2_155_000),  # Sydney, Auckland.
        (at(-36.84853, 174.76349), at(21.30694, -157.85833), 7_077_000),  # Auckland, Honolulu.
    ],
)
def test_known_distances(a, b, metres):
    assert distance(a, b) == pytest.approx(metres, abs=1000, rel=1e-3)


@given(POINTS, POINTS)
def test_any_two_opposite_corners_give_the_same_rectangle(a, b):
    corners = [(a, b), (b, a)]
    corners += [
        (Point(one.latitude, other.longitude), Point(other.latitude, one.longitude))
        for one, other in corners
    ]

    assert len({Rectangle.between(*pair) for pair in corners}) == 1
    rectangle = Rectangle.between(a, b)
    assert (rectangle.south, rectangle.north) == tuple(sorted((a.latitude, b.latitude)))
    assert (rectangle.west, rectangle.east) == tuple(sorted((a.longitude, b.longitude)))


@pytest.mark.parametrize("point", [at(90, 180), at(-90, -180), at(0, 0)])
def test_the_edges_of_the_earth_are_on_it(point):
    assert point.check() == point


@pytest.mark.parametrize(
    ("point", "reason"),
    [
        (Point(MAX_LATITUDE + 1, 0), "latitude 90.0000001 is not between -90 and 90 degrees"),
        (Point(-MAX_LATITUDE - 1, 0), "latitude -90.0000001 is not between -90 and 90 degrees"),
        (Point(0, MAX_LONGITUDE + 1), "longitude 180.0000001 is not between -180 and 180 degrees"),
        (Point(0, -(2**31)), "longitude -214.7483648 is not between -180 and 180 degrees"),
    ],
)
def test_an_impossible_point_is_refused(point, reason):
    with pytest.raises(ValueError, match="^" + reason.replace(".", r"\.") + "$"):
        point.check()
