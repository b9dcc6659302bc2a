"""Notes left at points, and what a route amounts to."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest

from route_guide import routes
from route_guide.geography import E7, Point, distance
from route_guide.notes import MAX_LENGTH, MAX_POINTS, NOTES_PER_POINT, NoteBoard
from route_guide.places import Place, Places
from route_guide.routes import MAX_DISTANCE, Route

HERE, THERE = Point(0, 0), Point(0, 180 * E7)


def test_earlier_notes_at_a_point_come_back_oldest_first():
    board = NoteBoard()

    assert [board.leave(HERE, note) for note in "abc"] == [[], ["a"], ["a", "b"]]
    assert board.leave(THERE, "d") == []


def test_a_point_keeps_its_newest_notes():
    board = NoteBoard()
    for number in range(NOTES_PER_POINT + 5):
        board.leave(HERE, str(number))

    assert board.leave(HERE, "") == [str(5 + number) for number in range(NOTES_PER_POINT)]


def test_the_points_used_last_are_kept():
    board = NoteBoard()
    for number in range(MAX_POINTS):
        board.leave(Point(number, 0), "old")
    board.leave(Point(0, 0), "again")  # Now point 1 is the one not used for longest.
    board.leave(Point(MAX_POINTS, 0), "new")

    assert board.leave(Point(0, 0), "") == ["old", "again"]
    assert board.leave(Point(1, 0), "") == []


def test_a_note_has_a_longest_length():
    board = NoteBoard()
    board.leave(HERE, "x" * MAX_LENGTH)

    with pytest.raises(ValueError, match="at most 1000 characters are allowed in a note, got 1001"):
        board.leave(HERE, "x" * (MAX_LENGTH + 1))

    assert len(board.leave(HERE, "")) == 1


@pytest.mark.slow
def test_memory_has_the_stated_bound():
    board = NoteBoard()
    tracemalloc.start()
    try:
        for number in range(2 * MAX_POINTS * NOTES_PER_POINT):
            note = "𝒳" * (MAX_LENGTH - 6) + f"{number:06}"
            board.leave(Point(number % (2 * MAX_POINTS), number // 20), note)
        for number in range(2 * MAX_POINTS * NOTES_PER_POINT):
            note = "𝒳" * (MAX_LENGTH - 6) + f"{number:06}"
            board.leave(Point(number % MAX_POINTS, 0), note)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    characters = MAX_POINTS * NOTES_PER_POINT * MAX_LENGTH * 4
    assert 0.9 * characters < held < 1.2 * characters


def test_threads_lose_no_note():
    board = NoteBoard()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: board.leave(HERE, str(number)), range(500)))

    # Each note finds one more than the one before, until the point is full.
    assert sorted(map(len, answers)) == list(range(10)) + [NOTES_PER_POINT] * 490


def route(places=()):
    return Route(Places(places))


def test_a_route_without_points_is_nothing():
    empty = route()

    assert (empty.point_count, empty.place_count, empty.distance, empty.elapsed_time) == (0,) * 4


def test_a_route_is_the_sum_of_its_legs(monkeypatch):
    clock = iter([100.0, 101.5, 103.9])
    monkeypatch.setattr(routes, "monotonic", lambda: next(clock))
    a, b, c = Point(0, 0), Point(10 * E7, 20 * E7), Point(-5 * E7, -170 * E7)
    walked = route([Place(a, "A"), Place(c, "C")])

    for point in (a, b, c):
        walked.add(point)

    assert (walked.point_count, walked.place_count, walked.elapsed_time) == (3, 2, 3)
    assert walked.distance == int(distance(a, b) + distance(b, c))


def test_a_route_that_an_int32_cannot_say_is_refused():
    walked = route()

    with pytest.raises(OverflowError, match=f"longer than {MAX_DISTANCE} metres"):
        for number in range(200):
            walked.add(THERE if number % 2 else HERE)

    assert walked.point_count == 108  # 107 legs of 20,015 km each fit.
