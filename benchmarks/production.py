"""What chapter 4's service costs, beside its servicer and storage with nothing around them.

python -m benchmarks.production
"""

import argparse
from pathlib import Path

from benchmarks import harness
from benchmarks.harness import Run
from benchmarks.load import CALLS
from benchmarks.production_server import VARIANTS

GOALS = {"whole": 0.7, "traced": 0.5}
"""How much of the bare servicer's calls the service should answer with the same CPU time."""


def measure(variant: str, args: argparse.Namespace) -> Run:
    """One run of a variant, after a short one that does not count."""
    how = [args.call, f"--in-flight={args.in_flight}"]
    with harness.server("benchmarks.production_server", variant) as (process, address):
        load = ["benchmarks.load", address, *how]
        harness.measure(process, [*load, f"--seconds={args.seconds / 10}"])
        return harness.measure(process, [*load, f"--seconds={args.seconds}"])


def verdict(runs: dict[str, list[Run]]) -> str:
    """Whether the goals are reached, a line each."""
    medians = {variant: harness.efficiency(runs, variant).median for variant in GOALS}
    return "\n".join(
        f"{'holds' if median >= GOALS[variant] else 'does not hold'}: the service, {variant}, "
        f"answers {median:.2f} × bare, per second of CPU time (goal: {GOALS[variant]})"
        for variant, median in medians.items()
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure what surrounds ContactService.")
    parser.add_argument("--call", choices=CALLS, default="get")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="of each run (default: 3)")
    parser.add_argument("--in-flight", type=int, default=64, help="calls at a time (default: 64)")
    parser.add_argument("--results", type=Path, default=harness.RESULTS, metavar="FOLDER")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    with harness.ending_clearly():
        runs = harness.compare(VARIANTS, args.rounds, lambda variant: measure(variant, args))
    harness.save(args.results / f"production-{args.call}.json", runs, vars(args))
    print(harness.text(harness.table(runs), verdict(runs)))


if __name__ == "__main__":
    main()
