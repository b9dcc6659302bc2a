"""Writes what the benchmarks have seen into the READMEs, tables and chart: `make report`.

python -m benchmarks.report
"""

import argparse
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import clients, encoding, harness, production, rest, streaming, tls, unary, wire
from benchmarks.harness import RESULTS, Run, load, text
from scaling.concurrency import chart

ROOT = Path(__file__).parent.parent
README = ROOT / "benchmarks" / "README.md"
CHART = ROOT / "benchmarks" / "small_calls.svg"


def encodings(file: Path) -> str:
    formats, seen = encoding.formats(), load(file, encoding.Times)
    return text(encoding.table(formats, seen), encoding.verdict(formats, seen))


def reporter(module: Any, kind: Callable[..., Any]) -> Callable[[Path], str]:
    """Renders the results of a module that has a table and a verdict of its own."""

    def report(file: Path) -> str:
        runs = load(file, kind)
        table = getattr(module, "table", harness.table)
        return text(table(runs), module.verdict(runs))

    return report


REPORTS: dict[str, tuple[Path, str, Callable[[Path], str]]] = {
    "encoding": (README, "Bytes and time", encodings),
    "unary": (README, "Small calls", reporter(unary, Run)),
    "wire": (README, "On the wire", reporter(wire, wire.Seen)),
    "clients": (README, "Clients", reporter(clients, clients.Cost)),
    "tls": (README, "Encryption", reporter(tls, tls.Cost)),
    "streaming": (README, "Streams and batches", reporter(streaming, streaming.Run)),
    "production-get": (README, "What chapter 4's service costs", reporter(production, Run)),
    "rest": (ROOT / "rest_gateway" / "README.md", "Speed", reporter(rest, Run)),
}
"""For each file of results the page, its section, and what stands in that section's text block."""


def replace(page: str, section: str, block: str) -> str:
    """The page with another text block in a section. Raises ValueError when there is none."""
    pattern = rf"(^## {re.escape(section)}\n(?:(?!^## ).*\n)*?```text\n)(?:.*\n)*?(```\n)"
    found, count = re.subn(pattern, lambda m: f"{m[1]}{block}\n{m[2]}", page, count=1, flags=re.M)
    if not count:
        raise ValueError(f"no text block below ## {section}")
    return found


def main() -> None:
    argparse.ArgumentParser(description="Write results into the READMEs.").parse_args()
    files = {name: RESULTS / f"{name}.json" for name in REPORTS}
    found = {name: file for name, file in files.items() if file.exists()}
    if not found:
        sys.exit(f"error: there is nothing in {RESULTS}: run make bench")
    for name, file in found.items():
        page, section, report = REPORTS[name]
        page.write_text(replace(page.read_text(), section, report(file)))
        print(f"{page.relative_to(ROOT)}: {section}")
    if "unary" in found:
        runs = load(found["unary"], Run)
        rates = {name: statistics.median(run.rate for run in each) for name, each in runs.items()}
        chart.save(chart.draw({"one message there, one back": rates}), CHART)


if __name__ == "__main__":
    main()
