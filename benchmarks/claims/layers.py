"""Measures what chapter 4's service costs, beside its servicer and storage alone.

Run it:

    python -m benchmarks layers
"""

from benchmarks import harness, tables
from benchmarks.harness import ServerRun, ServerRuns
from benchmarks.registry import Claim, Settings
from benchmarks.servers.layers_server import VARIANTS

GOALS = {"whole": 0.7, "traced": 0.5}
"""With the same CPU time the service should answer this part of the bare servicer's calls."""


def measure_variant(variant: str, settings: Settings) -> ServerRun:
    """Measures one run, after a short one that does not count."""
    with harness.server("benchmarks.servers.layers_server", variant) as (process, address):
        load = ["benchmarks.loads.grpc_load", address, settings.call]
        load.append(f"--in-flight={settings.in_flight}")
        harness.measure(process, [*load, f"--seconds={settings.seconds / 10}"])
        return harness.measure(process, [*load, f"--seconds={settings.seconds}"])


def measure(settings: Settings) -> ServerRuns:
    return harness.compare(
        VARIANTS, settings.rounds, lambda variant: measure_variant(variant, settings)
    )


def table(runs: ServerRuns) -> str:
    rows = []
    for variant, each in runs.items():
        run = harness.medians(each)
        figures = f"{run.p50_ms:.1f}", f"{run.p99_ms:.1f}", f"{run.cpu_ms:.3f}"
        median, spread = harness.efficiency(runs, variant).cells()
        rows.append((variant, harness.rate_cell(each), *figures, f"× {median}", spread))
    headings = "variant", "calls/s", "p50 ms", "p99 ms", "CPU ms a call", "calls per CPU s", "range"
    caption = "* limited by the load, not by the server: no verdict on this rate"
    return tables.table(headings, rows, caption)


def verdict(runs: ServerRuns) -> str:
    """Judges the claims, a line each."""
    lines = []
    for variant, goal in GOALS.items():
        median = harness.efficiency(runs, variant).median
        finding = f"the service, {variant}, answers {median:.2f} × bare, per second of CPU time"
        lines.append(tables.verdict(median, finding, goal))
    return "\n".join(lines)


CLAIM = Claim(
    "What chapter 4's service costs", ServerRun, measure, table, verdict,
    Settings(rounds=5, seconds=3),
)  # fmt: skip
