"""The lab's servers do what they are called, and streams hold threads as the lesson says."""

import pytest

from scaling.concurrency import lab, starved
from scaling.concurrency.lab import Way, cases, measure


def rate(work, title, seconds=0.5):
    way = next(way for way in lab.WAYS if way.title == title)
    return measure(work, way, seconds)


def test_only_what_waits_can_be_awaited():
    pairs = [(work, way.title) for work, way in cases()]

    assert ("waits", "asyncio, awaits") in pairs
    assert ("computes", "asyncio, awaits") not in pairs
    assert len(pairs) == 3 * len(lab.WAYS) - 2


@pytest.mark.slow
def test_threads_that_wait_serve_as_many_calls_as_there_are():
    """50 ms a call: 20 calls a second for each thread, whatever the machine."""
    one, ten = rate("waits", "1 thread"), rate("waits", "10 threads")

    assert 10 < one.rate <= 20
    assert 50 < ten.rate <= 200
    assert one.p50_ms > ten.p50_ms > 50


@pytest.mark.slow
def test_a_handler_that_blocks_makes_asyncio_one_thread():
    assert rate("waits", "asyncio, blocks").rate <= 20
    assert rate("waits", "asyncio, blocks in a pool").rate > 60
    assert rate("waits", "asyncio, awaits").rate > 60


@pytest.mark.slow
@pytest.mark.parametrize("work", ["computes", "computes in C"])
def test_every_way_computes(work):
    assert rate(work, "2 processes, asyncio in a pool").rate > 0


def test_a_server_that_does_not_start_is_an_error():
    with pytest.raises(RuntimeError, match=r"lab_server does not start: usage"):
        measure("waits", Way("nonsense", "threads-nonsense"), 0.1)


@pytest.mark.slow
def test_open_streams_hold_threads():
    assert list(starved.outcomes()) == [
        ("4 threads", 3, "OK"),
        ("4 threads", 4, "DEADLINE_EXCEEDED"),
        ("4 threads, at most 4 calls", 4, "RESOURCE_EXHAUSTED"),
        ("64 threads", 63, "OK"),
        ("64 threads", 64, "DEADLINE_EXCEEDED"),
        ("asyncio", 1000, "OK"),
    ]
