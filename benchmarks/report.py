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

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator

from benchmarks import (
    clients,
    compression,
    encoding,
    fetching,
    growth,
    harness,
    production,
    rest,
    streaming,
    tls,
    unary,
    wire,
    workers,
)
from benchmarks.harness import RESULTS, Run, Runs, load, text
from scaling.concurrency import chart
from scaling.concurrency.lab import Seen

ROOT = Path(__file__).parent.parent
README = ROOT / "benchmarks" / "README.md"
BARS, LINES = README.with_name("small_calls.svg"), README.with_name("growth.svg")


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
    "growth": (README, "Growth", lambda file: growth.text(load(file, Run))),
    "wire": (README, "On the wire", reporter(wire, wire.Seen)),
    "clients": (README, "Clients", reporter(clients, clients.Cost)),
    "tls": (README, "Encryption", reporter(tls, tls.Cost)),
    "compression": (README, "Compression", reporter(compression, compression.Cost)),
    "workers": (README, "A second process", reporter(workers, Seen)),
    "fetching": (README, "The first and the last", reporter(fetching, fetching.Times)),
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


def draw_growth(runs: Runs) -> Figure:
    """A panel for each sweep, in it a line for each server."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, sweep in zip(figure.subplots(1, len(growth.SWEEPS)), growth.SWEEPS, strict=True):
        for (server, rates), marker in zip(growth.rates(runs, sweep).items(), "osD^v", strict=True):
            axes.loglog(
                list(rates), list(rates.values()), marker=marker, markersize=4, label=server
            )
        axes.set_title(f"calls per second, by {sweep}", loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xticks(list(rates))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.minorticks_off()
        axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.legend(frameon=False)
    return figure


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
        chart.save(chart.draw({"one message there, one back": rates}), BARS)
    if "growth" in found:
        chart.save(draw_growth(load(found["growth"], Run)), LINES)


if __name__ == "__main__":
    main()
