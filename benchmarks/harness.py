"""Runs servers in interleaved rounds and compares them round by round.

A machine drifts from minute to minute, so only runs made side by side are compared. In each round
every variant runs once, in a fresh process, and the order changes from round to round. Each round
gives ratios to the first variant; we report their median, lowest and highest.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import psutil
from rich.console import Console
from rich.progress import track

from production.development.child import address_of, child

T = TypeVar("T")
R = TypeVar("R", bound=tuple[float, ...])
SATURATED = 0.9
"""A server that used less of its core than this was not the limit; its load was."""
STOP_SECONDS = 30


class BenchmarkError(Exception):
    """A run cannot be used; the message says why."""


class ServerRun(NamedTuple):
    """One run of a server under load."""

    rate: float
    """Calls per second."""
    cpu_ms: float
    """Milliseconds of the server's CPU time per call."""
    p50_ms: float
    p99_ms: float
    busy: float
    """Fraction of one core that the server used, 0 to 1."""
    front_ms: float = 0
    """Milliseconds of CPU time per call of the gateway or proxy in front of the server."""
    memory_mib: float = 0
    """Of the server, at the end."""


ServerRuns = dict[str, list[ServerRun]]
"""The runs of each variant, by rounds; the others are compared with the first variant."""


class Ratio(NamedTuple):
    """Compares a variant with another one over all rounds."""

    median: float
    lowest: float
    highest: float

    def cells(self, digits: int = 2) -> tuple[str, str]:
        """Formats the median and the range for a table."""
        spread = f"{self.lowest:.{digits}f} to {self.highest:.{digits}f}"
        return f"{self.median:.{digits}f}", spread


def rounds(variants: Sequence[str], count: int) -> Iterator[list[str]]:
    """Yields the order of the variants in each round: each takes every place in turn."""
    for index in range(count):
        shift = index % len(variants)
        yield [*variants[shift:], *variants[:shift]]


def compare(variants: Sequence[str], count: int, measure: Callable[[str], T]) -> dict[str, list[T]]:
    """Measures the variants in interleaved rounds, and shows the progress."""
    runs: dict[str, list[T]] = {variant: [] for variant in variants}
    steps = [variant for order in rounds(variants, count) for variant in order]
    for variant in track(steps, "measuring", console=Console(stderr=True), transient=True):
        runs[variant].append(measure(variant))
    return runs


def ratio(values: Sequence[float], baseline: Sequence[float]) -> Ratio:
    """Divides the values by the baseline's, round by round."""
    ratios = [value / base for value, base in zip(values, baseline, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def speed(runs: Mapping[str, Sequence[Any]], variant: str, other: str | None = None) -> Ratio:
    """Compares the rate of a variant with another one's, or with the first one's."""
    baseline = runs[other] if other else next(iter(runs.values()))
    return ratio([run.rate for run in runs[variant]], [run.rate for run in baseline])


def efficiency(runs: ServerRuns, variant: str) -> Ratio:
    """Compares the calls per second of the server's CPU time with the first variant's."""
    baseline = next(iter(runs.values()))
    return ratio([1 / run.cpu_ms for run in runs[variant]], [1 / run.cpu_ms for run in baseline])


def medians(runs: Sequence[R]) -> R:
    """Takes the median of each figure."""
    make: Callable[..., R] = type(runs[0])
    return make(*map(statistics.median, zip(*runs, strict=True)))


def is_limited(runs: Sequence[ServerRun]) -> bool:
    """Returns whether the load set the rate: the server had time to spare."""
    return statistics.median(run.busy for run in runs) < SATURATED


def rate_cell(runs: Sequence[ServerRun]) -> str:
    """Formats the median rate for a table, with a star if the load set it."""
    rate = statistics.median(run.rate for run in runs)
    return f"{rate:,.0f}{' *' if is_limited(runs) else ''}"


@contextmanager
def server(
    module: str, *args: str, core: int = 0, program: Sequence[str] = ()
) -> Iterator[tuple[psutil.Process, str]]:
    """Runs a server in a fresh process on a core; yields the process and its address.

    The server is a Python module or, if given, a program. Raises BenchmarkError if it does not
    start, or does not exit with status 0 at the end.
    """
    command = [*(program or (sys.executable, "-u", "-m", module)), *args]
    name = module or " ".join(program)
    with (
        tempfile.TemporaryFile("w+") as log,
        child(command, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        _pin(process.pid, core)  # Before it starts threads, which inherit it.
        try:
            address = address_of(process, log)
        except RuntimeError as error:
            raise BenchmarkError(str(error)) from None
        yield psutil.Process(process.pid), address
        process.send_signal(signal.SIGTERM)
        if process.wait(STOP_SECONDS):
            raise BenchmarkError(f"{name} ended with status {process.returncode}")


def measure(
    process: psutil.Process, load: Sequence[str], fronts: Sequence[psutil.Process] = ()
) -> ServerRun:
    """Runs `python -m LOAD…` on the last core, and divides the CPU time of the server, and of the
    processes in front of it, by the calls.

    Raises BenchmarkError if the load fails (it checks every reply), or if the server used less CPU
    time than the system can count.
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
    if not used:
        raise BenchmarkError("the server used no CPU time that can be counted: make rounds longer")
    summary = json.loads(output)
    return ServerRun(
        rate=summary["rate"],
        cpu_ms=used / summary["calls"] * 1000,
        p50_ms=summary["p50_ms"],
        p99_ms=summary["p99_ms"],
        busy=used * summary["rate"] / summary["calls"],
        front_ms=used_fronts / summary["calls"] * 1000,
        memory_mib=process.memory_info().rss / 2**20,
    )


def _cpu_seconds(*processes: psutil.Process) -> float:
    times = [process.cpu_times() for process in processes]
    return float(sum(each.user + each.system for each in times))


def _with_children(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    return [each for process in processes for each in (process, *process.children(recursive=True))]


def _pin(pid: int, core: int) -> None:
    """Keeps a process on one core, if the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(pid, {sorted(os.sched_getaffinity(0))[core]})
