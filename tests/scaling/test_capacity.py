"""The estimate of scaling/capacity: its arithmetic, its defaults, and what it refuses."""

import re

import pytest

from scaling.capacity import estimate
from scaling.capacity.estimate import Load, table, written
from tests.conftest import ROOT

LOAD = Load(
    cpu_ms=0.5,
    latency_ms=20,
    proxy_ms=0.1,
    kilobytes=2,
    writes=0.5,
    commits=1000,
    watches=4,
    watch_kib=32,
    utilization=0.5,
    cores=4,
)


def test_every_row_is_a_product_of_the_load():
    rows = {
        line[:22].strip(): line[22:].split() for line in table([100, 20_000], LOAD).splitlines()
    }

    assert rows == {
        "calls a second": ["100", "20,000"],
        "calls in flight": ["2", "400"],
        "cores of the service": ["0.1", "20"],
        "machines": ["2", "6"],
        "cores of the proxies": ["0.02", "4"],
        "Mbit/s": ["1.6", "320"],
        "writes a second": ["50", "10,000"],
        "databases that write": ["1", "10"],
        "open watches": ["400", "80,000"],
        "GiB for watches": ["0.012", "2.4"],
    }


@pytest.mark.parametrize(
    ("value", "expected"), [(0, "0"), (0.016, "0.016"), (7, "7"), (7.25, "7.2"), (1234.5, "1,234")]
)
def test_numbers_are_short(value, expected):
    assert written(value) == expected


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--calls", "", "expected a number, got ''"),
        ("--calls", "1,x", "expected a number, got 'x'"),
        ("--calls", "0", "must be above 0, got 0"),
        ("--cpu-ms", "nan", "must be from 0 to 1e+12, got nan"),
        ("--cpu-ms", "-1", "must be from 0 to 1e+12, got -1"),
        ("--utilization", "1.1", "at most 1 is allowed, got 1.1"),
        ("--cores", "1.5", "expected a whole number, got 1.5"),
    ],
)
def test_bad_input_is_refused(run, flag, value, message):
    ended = run("scaling.capacity.estimate", f"{flag}={value}")

    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"argument {flag}: {message}" in ended.stderr


def test_the_page_and_the_program_use_the_figure_of_the_benchmark():
    """`whole`: the CPU time that chapter 4's service takes for a call."""
    (cpu_ms,) = re.findall(
        r"^  whole +\S+ +\S+ +\S+ +(\S+)", (ROOT / "benchmarks/README.md").read_text(), re.M
    )
    page = (ROOT / "scaling/capacity/README.md").read_text()

    assert f'"--cpu-ms", positive, {cpu_ms},' in (ROOT / estimate.__file__).read_text()
    assert f"{cpu_ms} ms" in page
