"""Runs servers by turns and compares them, round by round.

A machine drifts from minute to minute, so only what ran side by side is compared: in each round
every variant runs once, in a fresh process, in a changing order; of each round the ratios to the
first variant are taken, and of those the median is told, with the lowest and the highest.
"""

import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psutil
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from rest_gateway.child import child

T = TypeVar("T")
PACKAGES = (
    "grpcio", "protobuf", "sqlalchemy", "pygrpc-native", "connectrpc", "grpclib", "fastapi",
    "uvicorn", "starlette", "aiohttp", "httpx", "requests", "orjson", "msgspec", "pydantic",
)  # fmt: skip
"""Whose versions are told with the results."""
SATURATED = 0.9
"""A server that used less of its core than this was not the limit; its load was."""
START_SECONDS = 30


class BenchmarkError(Exception):
    """A run is worth nothing; the message says why."""


class Run(NamedTuple):
    """What one run has shown."""

    rate: float
    """Calls per second."""
    cpu_ms: float
    """Milliseconds of the server's CPU time per call."""
    p50_ms: float
    p99_ms: float
    busy: float
    """How much of one core the server used, 0 to 1."""
    front_ms: float = 0
    """Milliseconds of CPU time per call of what stands before the server."""
    memory_mib: float = 0
    """Of the server, at the end."""


Runs = dict[str, list[Run]]
"""Each variant's runs, by rounds; the first variant is what the others are compared with."""


class Ratio(NamedTuple):
    """A variant against the first one, over all rounds."""

    median: float
    lowest: float
    highest: float


def rounds(variants: Sequence[str], count: int) -> Iterator[list[str]]:
    """The order of the variants in each round: every variant takes each place in turn."""
    for index in range(count):
        shift = index % len(variants)
        yield [*variants[shift:], *variants[:shift]]


def ratio(values: Sequence[float], baseline: Sequence[float]) -> Ratio:
    """The ratios of values to the baseline's, round by round."""
    each = [value / base for value, base in zip(values, baseline, strict=True)]
    return Ratio(statistics.median(each), min(each), max(each))


def compare(variants: Sequence[str], count: int, measure: Callable[[str], T]) -> dict[str, list[T]]:
    """Measures every variant so many times, by turns, and shows how far it is."""
    found: dict[str, list[T]] = {variant: [] for variant in variants}
    steps = [variant for order in rounds(variants, count) for variant in order]
    for variant in track(steps, "measuring", console=Console(stderr=True), transient=True):
        found[variant].append(measure(variant))
    return found


@contextmanager
def ending_clearly(*errors: type[Exception]) -> Iterator[None]:
    """What goes wrong ends the program with one line, and Ctrl-C without a word."""
    expected: tuple[type[Exception], ...] = (BenchmarkError, OSError, *errors)
    try:
        yield
    except expected as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def speed(runs: Mapping[str, Sequence[Any]], variant: str, other: str | None = None) -> Ratio:
    """The rate of a variant against another one's, else the first's."""
    baseline = runs[other] if other else next(iter(runs.values()))
    return ratio([run.rate for run in runs[variant]], [run.rate for run in baseline])


def is_limited(runs: Sequence[Run]) -> bool:
    """Whether it was the load that set the rate: the server had time to spare."""
    return statistics.median(run.busy for run in runs) < SATURATED


def judge(value: float) -> str:
    """What a ratio says of "more": a tenth is less than these machines can tell."""
    return "holds" if value > 1.1 else "does not hold" if value < 0.9 else "cannot be told"


def efficiency(runs: Runs, variant: str) -> Ratio:
    """Calls per second of the server's CPU time, against the first variant."""
    baseline = next(iter(runs.values()))
    return ratio([1 / run.cpu_ms for run in runs[variant]], [1 / run.cpu_ms for run in baseline])


def table(runs: Runs) -> Table:
    """A line per variant: medians, and the ratio to the first variant."""
    result = Table(box=box.SIMPLE_HEAD)
    result.add_column("variant")
    for heading in ("calls/s", "p50 ms", "p99 ms", "CPU ms a call", "calls per CPU s", "range"):
        result.add_column(heading, justify="right")
    for variant, each in runs.items():
        run = Run(*map(statistics.median, zip(*each, strict=True)))
        against = efficiency(runs, variant)
        result.add_row(
            variant,
            f"{run.rate:,.0f}{' *' if is_limited(each) else ''}",
            f"{run.p50_ms:.1f}",
            f"{run.p99_ms:.1f}",
            f"{run.cpu_ms:.3f}",
            f"× {against.median:.2f}",
            f"{against.lowest:.2f} to {against.highest:.2f}",
        )
    result.caption = "* limited by the load, not by the server: no verdict on this rate"
    return result


RESULTS = Path("build/benchmarks")


def save(
    file: Path, runs: Mapping[str, Sequence[Any]], settings: dict[str, object] | None = None
) -> None:
    """Writes everything to a file, as JSON. Each run is a named tuple."""
    file.parent.mkdir(parents=True, exist_ok=True)
    each = {variant: [run._asdict() for run in found] for variant, found in runs.items()}
    content = {"machine": machine(), "settings": settings or {}, "runs": each}
    file.write_text(json.dumps(content, indent=1, default=str))


def load(file: Path, kind: Callable[..., T]) -> dict[str, list[T]]:
    """What save has written, each run made by kind."""
    runs = json.loads(file.read_text())["runs"]
    return {variant: [kind(**run) for run in found] for variant, found in runs.items()}


def text(table: Table, verdict: str = "") -> str:
    """A table and what follows from it, as a README shows them."""
    console = Console(width=110, no_color=True)
    with console.capture() as captured:
        console.print(table)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    return "\n".join(filter(None, [*lines, verdict]))


@contextmanager
def server(
    module: str, *args: str, core: int = 0, program: Sequence[str] = ()
) -> Iterator[tuple[psutil.Process, str]]:
    """A server in a fresh process on a core, and its address. It must end well, too.

    It is a module of Python, or else the program. Raises BenchmarkError when it does not start or
    does not end as it should.
    """
    command = [*(program or (sys.executable, "-u", "-m", module)), *args]
    name = module or " ".join(program)
    with (
        tempfile.TemporaryFile("w+") as log,
        child(command, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        _pin(process.pid, core)
        line = process.stdout.readline() if process.stdout else ""
        if not line.startswith("listening on "):
            log.seek(0)
            raise BenchmarkError(f"{name} does not start: {log.read().strip()[-500:]}")
        yield psutil.Process(process.pid), line.removeprefix("listening on ").strip()
        process.send_signal(signal.SIGTERM)
        if process.wait(START_SECONDS):
            raise BenchmarkError(f"{name} ended with status {process.returncode}")


def measure(
    process: psutil.Process, load: Sequence[str], fronts: Sequence[psutil.Process] = ()
) -> Run:
    """Runs `python -m LOAD…` on the last core, and accounts the CPU time of the server, and of what
    stands before it, to the calls.

    Raises BenchmarkError when the load fails: a wrong answer is no answer.
    """
    before, before_fronts = _cpu_seconds(process), _cpu_seconds(*_with_children(fronts))
    command = [sys.executable, "-m", *load]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as loading:
        try:
            _pin(loading.pid, -1)
            output, errors = loading.communicate()
        finally:
            loading.kill()
    used = _cpu_seconds(process) - before
    used_fronts = _cpu_seconds(*_with_children(fronts)) - before_fronts
    if loading.returncode:
        raise BenchmarkError(errors.strip().removeprefix("error: ") or "the load has failed")
    seen = json.loads(output)
    return Run(
        seen["rate"],
        used / seen["calls"] * 1000,
        seen["p50_ms"],
        seen["p99_ms"],
        used * seen["rate"] / seen["calls"],
        used_fronts / seen["calls"] * 1000,
        process.memory_info().rss / 2**20,
    )


def _cpu_seconds(*processes: psutil.Process) -> float:
    times = [process.cpu_times() for process in processes]
    return float(sum(each.user + each.system for each in times))


def _with_children(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    return [each for process in processes for each in (process, *process.children(recursive=True))]


def _pin(pid: int, core: int) -> None:
    """Keeps a process on one core, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(pid, {sorted(os.sched_getaffinity(0))[core]})


def machine() -> dict[str, str]:
    """What the figures were measured on, and with."""
    found = {
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        with suppress(PackageNotFoundError):  # The peers are installed for `make bench` alone.
            found[package] = version(package)
    return found


if __name__ == "__main__":
    print(", ".join(f"{what} {value}" for what, value in machine().items()))
