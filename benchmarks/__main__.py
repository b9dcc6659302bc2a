"""Measures claims, prints the verdicts, and saves the results to build/benchmarks.

Run it with the names of claims; without any it lists them:

    python -m benchmarks
    python -m benchmarks encoding unary --rounds 3

To add a claim, write a module in claims/, its line in registry.py, and a section in README.md.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.harness import BenchmarkError
from benchmarks.loads.grpc_load import CALLS
from benchmarks.registry import CLAIMS, GROUPS, LONG, SHORT, find


def run(name: str, options: dict[str, Any], folder: Path) -> None:
    """Measures a claim, saves the results, and prints them. Raises BenchmarkError."""
    claim = find(name)
    settings = claim.settings._replace(**options)
    expected: tuple[type[Exception], ...] = (OSError, *claim.errors)
    try:
        runs = claim.measure(settings)
    except expected as error:
        raise BenchmarkError(str(error)) from error
    file = name if settings.call == "get" else f"{name}-{settings.call}"
    results.save(folder / f"{file}.json", runs, settings._asdict())
    print(f"\n{name}: {CLAIMS[name]}\n{claim.text(runs)}", flush=True)


def listed(claims: dict[str, str]) -> str:
    return "".join(f"  {name:14}{claim}\n" for name, claim in claims.items())


def arguments() -> argparse.Namespace:
    """Parses the command line. Options that are not given are left out: each claim has its own."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure claims.",
        epilog=f"short, five minutes:\n{listed(SHORT)}\nall, twenty minutes, adds:\n{listed(LONG)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "names", nargs="*", default=[], metavar="NAME", help="a claim, short or all"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="runs of each variant")
    parser.add_argument("--seconds", type=float, metavar="S", help="of each run under load")
    parser.add_argument("--in-flight", type=int, metavar="N", help="requests (default: 64)")
    parser.add_argument("--call", choices=CALLS, help="of layers (default: get)")
    parser.add_argument("--results", type=Path, default=results.RESULTS, metavar="FOLDER")
    args = parser.parse_args()
    if unknown := [name for name in args.names if name not in CLAIMS | GROUPS]:
        parser.error(f"no such claim: {', '.join(unknown)}")
    if getattr(args, "rounds", 1) < 1:
        parser.error("--rounds must be at least 1")
    if "call" in args and args.names != ["layers"]:
        parser.error("--call is for layers alone")
    if not args.names:
        parser.print_help()
    return args


def main() -> None:
    options = vars(arguments())
    folder = options.pop("results")
    names = [name for given in options.pop("names") for name in GROUPS.get(given, [given])]
    if names:
        print(", ".join(f"{what} {value}" for what, value in results.machine().items()), flush=True)
    for name in names:
        try:
            run(name, options, folder)
        except BenchmarkError as error:
            sys.exit(f"error: {name}: {error}")
        except KeyboardInterrupt:
            sys.exit(130)


if __name__ == "__main__":
    main()
