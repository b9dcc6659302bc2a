"""The harness compares round by round, and rejects a run that went wrong."""

import json
import platform

import grpc
import pytest

from benchmarks import harness, results
from benchmarks.claims import layers
from benchmarks.harness import BenchmarkError, Ratio, ServerRun
from benchmarks.loads.latencies import summary
from tests.conftest import python

PLANTED = "tests.benchmarks.planted"


def measure(fault, seconds=0.3):
    with harness.server(PLANTED, fault) as (process, address):
        command = [
            "benchmarks.loads.grpc_load",
            address,
            "get",
            f"--seconds={seconds}",
            "--in-flight=4",
        ]
        return harness.measure(process, command)


def test_every_variant_takes_every_place():
    orders = list(harness.rounds(["a", "b", "c"], 4))

    assert orders == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]


def test_ratios_are_taken_round_by_round():
    """A machine that is half as fast in the second round changes nothing."""
    assert harness.ratio([50, 25, 40], [100, 50, 100]) == Ratio(0.5, 0.4, 0.5)


def test_a_summary_by_hand():
    latencies = [number / 1000 for number in range(1, 102)]

    assert summary(latencies, seconds=2) == {
        "calls": 101,
        "rate": 50.5,
        "p50_ms": pytest.approx(51),
        "p99_ms": pytest.approx(100),
    }


def test_results_name_the_machine_and_the_versions():
    machine = results.machine()

    assert machine["python"] == platform.python_version()
    assert machine["grpcio"] == grpc.__version__


def test_a_single_answer_is_enough_for_a_summary_and_none_is_not():
    single = summary([0.05], seconds=0.1)

    assert single == {"calls": 1, "rate": 10, "p50_ms": 50, "p99_ms": 50}
    with pytest.raises(ValueError, match=r"no reply in 0\.1 s"):
        summary([], seconds=0.1)


def test_a_planted_slow_server_shows():
    runs = harness.compare(["none", "slow"], 2, lambda fault: measure(fault, seconds=1))

    assert runs["slow"][0].cpu_ms > 5
    assert harness.efficiency(runs, "none") == Ratio(1, 1, 1)
    assert harness.efficiency(runs, "slow").highest < 0.7
    lines = [line.split() for line in layers.table(runs).splitlines()]
    assert [line[0] for line in lines if line and line[0] in runs] == ["none", "slow"]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("wrong", "wrong reply: 'contacts/somebody-else'"),
        ("failing", "planted"),
        ("unable", "does not start: planted"),
        ("ends badly", "ended with status 3"),
    ],
)
def test_a_run_that_goes_wrong_fails_the_benchmark(fault, message):
    with pytest.raises(BenchmarkError, match=message):
        measure(fault)


def test_a_rate_that_the_load_has_limited_is_marked():
    run = ServerRun(rate=1000, cpu_ms=0.1, p50_ms=1, p99_ms=2, busy=0.1)

    assert any("1,000 *" in line for line in layers.table({"idle": [run]}).splitlines())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_production_benchmark_runs_and_gives_a_verdict(tmp_path):
    result = python(
        *("-m", "benchmarks", "layers", "--rounds=1", "--seconds=0.2", f"--results={tmp_path}"),
        timeout=240,
    )

    assert (result.returncode, result.stderr.strip()) == (0, "")
    verdicts = result.stdout.splitlines()[-2:]
    assert all("per second of CPU time" in verdict for verdict in verdicts)
    content = json.loads((tmp_path / "layers.json").read_text())
    assert list(content["runs"]) == [
        "bare", "adapter", "observe", "errors", "authentication", "admission", "deadline", "whole",
        "traced",
    ]  # fmt: skip
