"""The harness finds what it is for, and believes no run that went wrong."""

import json
import platform

import grpc
import pytest

from benchmarks import harness, load
from benchmarks.harness import BenchmarkError, Ratio, Run
from tests.conftest import python

PLANTED = "tests.benchmarks.planted"


def measure(fault, seconds=0.3):
    with harness.server(PLANTED, fault) as (process, address):
        command = ["benchmarks.load", address, "get", f"--seconds={seconds}", "--in-flight=4"]
        return harness.measure(process, command)


def test_every_variant_takes_every_place():
    orders = list(harness.rounds(["a", "b", "c"], 4))

    assert orders == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]


def test_ratios_are_taken_round_by_round():
    """A machine that is half as fast in the second round changes nothing."""
    assert harness.ratio([50, 25, 40], [100, 50, 100]) == Ratio(0.5, 0.4, 0.5)


def test_a_summary_by_hand():
    latencies = [number / 1000 for number in range(1, 102)]

    assert load.summary(latencies, seconds=2) == {
        "calls": 101,
        "rate": 50.5,
        "p50_ms": pytest.approx(51),
        "p99_ms": pytest.approx(100),
    }


def test_results_tell_the_machine_and_the_versions():
    told = python("-m", "benchmarks.harness").stdout

    assert f"python {platform.python_version()}, grpcio {grpc.__version__}, protobuf " in told


def test_a_single_answer_is_enough_for_a_summary_and_none_is_not():
    summary = load.summary([0.05], seconds=0.1)

    assert summary == {"calls": 1, "rate": 10, "p50_ms": 50, "p99_ms": 50}
    with pytest.raises(ValueError, match=r"no answer in 0\.1 s"):
        load.summary([], seconds=0.1)


def test_a_planted_slow_server_shows():
    runs = harness.compare(["none", "slow"], 2, measure)

    assert runs["slow"][0].cpu_ms > 5
    assert harness.efficiency(runs, "none") == Ratio(1, 1, 1)
    assert harness.efficiency(runs, "slow").highest < 0.7
    lines = [line.split() for line in table_lines(runs)]
    assert [line[0] for line in lines if line and line[0] in runs] == ["none", "slow"]


def table_lines(runs):
    from rich.console import Console

    console = Console(width=100)
    with console.capture() as captured:
        console.print(harness.table(runs))
    return captured.get().splitlines()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("wrong", "wrong reply: 'contacts/somebody-else'"),
        ("failing", "planted"),
        ("unable", "does not start: error: planted"),
        ("ends badly", "ended with status 3"),
    ],
)
def test_a_run_that_goes_wrong_fails_the_benchmark(fault, message):
    with pytest.raises(BenchmarkError, match=message):
        measure(fault)


def test_a_rate_that_the_load_has_limited_is_marked():
    run = Run(rate=1000, cpu_ms=0.1, p50_ms=1, p99_ms=2, busy=0.1)

    assert any("1,000 *" in line for line in table_lines({"idle": [run]}))


def test_the_production_benchmark_runs_and_gives_a_verdict(tmp_path):
    result = python(
        "-m", "benchmarks.production", "--rounds=1", "--seconds=0.2", f"--results={tmp_path}"
    )

    assert (result.returncode, result.stderr.strip()) == (0, "")
    verdicts = result.stdout.splitlines()[-2:]
    assert all("per second of CPU time" in verdict for verdict in verdicts)
    content = json.loads((tmp_path / "production-get.json").read_text())
    assert list(content["runs"]) == [
        "bare", "adapter", "observe", "errors", "authentication", "admission", "deadline", "whole",
        "traced",
    ]  # fmt: skip
