"""Estimates what a rate of calls needs: cores, machines, databases, memory.

Run it:

    python -m scaling.capacity.estimate --calls 1000,10000 --cpu-ms 0.673

The defaults were measured in this repository; README.md says where. Multiplication is all it does.
"""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

CALLS = "100,1000,10000,100000,1000000"
LARGEST = 1e12


class Load(NamedTuple):
    """What one call costs, and how full machines may be."""

    cpu_ms: float
    """CPU time of the service for a call."""
    latency_ms: float
    """From a call's arrival to its answer."""
    proxy_ms: float
    """CPU time of a proxy for a call; 0 without one."""
    kilobytes: float
    """Request and response."""
    writes: float
    """For each call."""
    commits: float
    """Of one database, a second."""
    watches: float
    """Open watches for each call a second."""
    watch_kib: float
    utilization: float
    """The share of a core's time that is planned for."""
    cores: int
    """Of a machine."""


Row = Callable[[float, Load], float]


def service_cores(calls: float, load: Load) -> float:
    """Returns the cores for the service's own CPU time."""
    return calls * load.cpu_ms / 1000 / load.utilization


ROWS: Mapping[str, Row] = {
    "calls a second": lambda calls, _: calls,
    "calls in flight": lambda calls, load: calls * load.latency_ms / 1000,
    "cores of the service": service_cores,
    # One more, so that one may fail or be replaced.
    "machines": lambda calls, load: math.ceil(service_cores(calls, load) / load.cores) + 1,
    "cores of the proxies": lambda calls, load: calls * load.proxy_ms / 1000 / load.utilization,
    "Mbit/s": lambda calls, load: calls * load.kilobytes * 8 / 1000,
    "writes a second": lambda calls, load: calls * load.writes,
    "databases that write": lambda calls, load: math.ceil(calls * load.writes / load.commits),
    "open watches": lambda calls, load: calls * load.watches,
    "GiB for watches": lambda calls, load: calls * load.watches * load.watch_kib / 2**20,
}


def table(rates: Sequence[float], load: Load) -> str:
    """Returns a line for each row, with a column for each rate."""
    lines = []
    for title, row in ROWS.items():
        cells = "".join(f"{written(row(calls, load)):>12}" for calls in rates)
        lines.append(f"{title:22}{cells}")
    return "\n".join(lines)


def written(value: float) -> str:
    """Returns a number for a reader: with two digits if it is below 1, rounded from 100 on."""
    if value < 1:
        return f"{value:.2g}"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.1f}"


def positive(text: str) -> float:
    """Parses a number above 0; raises argparse.ArgumentTypeError."""
    if (value := not_negative(text)) == 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return value


def not_negative(text: str) -> float:
    """Parses a number from 0 to 1e12; raises argparse.ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from None
    if not 0 <= value <= LARGEST:
        raise argparse.ArgumentTypeError(f"must be from 0 to {LARGEST:.0e}, got {text}")
    return value


def share(text: str) -> float:
    """Parses a number above 0, up to 1; raises argparse.ArgumentTypeError."""
    if (value := positive(text)) > 1:
        raise argparse.ArgumentTypeError(f"at most 1 is allowed, got {text}")
    return value


def whole(text: str) -> int:
    """Parses a whole number above 0; raises argparse.ArgumentTypeError."""
    if (value := positive(text)) != int(value):
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text}")
    return int(value)


def rates(text: str) -> list[float]:
    """Parses NUMBER,NUMBER,…; raises argparse.ArgumentTypeError."""
    return [positive(each.strip()) for each in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description="Estimate what a rate of calls needs.")

    def add(flag: str, kind: Callable[[str], object], default: object, meaning: str) -> None:
        parser.add_argument(
            flag, type=kind, default=default, help=f"{meaning} (default: %(default)s)"
        )

    add("--calls", rates, CALLS, "calls a second, NUMBER,NUMBER,…")
    add("--cpu-ms", positive, 0.673, "CPU time of the service for a call")
    add("--latency-ms", positive, 50, "from a call's arrival to its answer")
    add("--proxy-ms", not_negative, 0.1, "CPU time of a proxy for a call; 0 without one")
    add("--kilobytes", not_negative, 1, "request and response of a call")
    add("--writes", not_negative, 0.1, "writes for each call")
    add("--commits", positive, 2500, "commits a second of one database")
    add("--watches", not_negative, 10, "open watches for each call a second")
    add("--watch-kib", not_negative, 33, "memory of an open watch")
    add("--utilization", share, 0.6, "share of a core's time that is planned for")
    add("--cores", whole, 8, "cores of a machine")
    args = vars(parser.parse_args())
    print(table(args.pop("calls"), Load(**args)))


if __name__ == "__main__":
    main()
