"""Finding places."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from route_guide.geography import MAX_LATITUDE, MAX_LONGITUDE, Point, Rectangle
from route_guide.places import DATABASE, Place, Places

# Few values, so that places and edges often coincide.
LATITUDES = st.sampled_from([-MAX_LATITUDE, -7, 0, 1, 2, MAX_LATITUDE])
LONGITUDES = st.sampled_from([-MAX_LONGITUDE, -7, 0, 1, 2, MAX_LONGITUDE])
POINTS = st.builds(Point, LATITUDES, LONGITUDES)
PLACES = st.lists(st.builds(Place, POINTS, st.text(max_size=2)), max_size=12)


@given(PLACES, POINTS, POINTS)
def test_a_rectangle_holds_what_a_full_search_finds_southernmost_first(places, one, other):
    south, west, north, east = rectangle = Rectangle.between(one, other)

    found = list(Places(places).within(rectangle))

    assert found == sorted(
        place
        for place in places
        if south <= place.point.latitude <= north and west <= place.point.longitude <= east
    )


@given(PLACES, POINTS)
def test_a_point_holds_a_place_that_is_there(places, point):
    found = Places(places).at(point)

    here = [place for place in places if place.point == point]
    assert found in here if here else found is None


def test_a_rectangle_looks_only_between_its_latitudes():
    class Counted(tuple):
        """A latitude, longitude pair that counts who looks at its longitude."""

        looks = 0
        latitude = property(lambda self: self[0])

        @property
        def longitude(self):
            Counted.looks += 1
            return self[1]

    places = Places(Place(Counted((latitude, 0)), "") for latitude in range(34_000))

    assert len(list(places.within(Rectangle(20_000, -1, 20_009, 1)))) == 10
    assert Counted.looks == 10


def test_the_database_is_the_world():
    places = Places.load()
    everything = Rectangle(-MAX_LATITUDE, -MAX_LONGITUDE, MAX_LATITUDE, MAX_LONGITUDE)
    found = list(places.within(everything))

    assert len(places) == len(found) == len({place.point for place in found}) == 5_000
    assert places.at(Point(312222200, 1214580600)) == Place(
        Point(312222200, 1214580600), "Shanghai, CN"
    )
    assert all(place.point.check() and place.name for place in found)
    assert DATABASE.stat().st_size < 2**20


def test_a_file_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        Places.load(tmp_path / "none.json")
