"""Writes the saved results into the READMEs, as tables and charts.

Run it:

    python -m benchmarks.report
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks import charts, results
from benchmarks.registry import CLAIMS, ROOT, find


def replace(page: str, section: str, block: str) -> str:
    """Returns the page with another text block in a section. Raises ValueError if it has none."""
    pattern = rf"(^## {re.escape(section)}\n(?:(?!^## ).*\n)*?```text\n)(?:.*\n)*?(```\n)"
    replaced, count = re.subn(
        pattern, lambda m: f"{m[1]}{block}\n{m[2]}", page, count=1, flags=re.M
    )
    if not count:
        raise ValueError(f"no text block below ## {section}")
    return replaced


def write_sections() -> Iterator[Path]:
    """Writes the tables and verdicts of all claims that have results, and yields their pages."""
    for name in CLAIMS:
        file = results.RESULTS / f"{name}.json"
        if file.exists():
            claim = find(name)
            block = claim.text(results.load(file, claim.run_type))
            claim.page.write_text(replace(claim.page.read_text(), claim.section, block))
            yield claim.page


def draw_charts() -> Iterator[Path]:
    """Draws all charts that have results, and yields their files."""
    for chart in charts.CHARTS:
        if chart.results.exists():
            charts.save(chart.draw(chart.results), chart.picture)
            yield chart.picture


def main() -> None:
    argparse.ArgumentParser(description="Write results into the READMEs.").parse_args()
    written = dict.fromkeys([*write_sections(), *draw_charts()])
    if not written:
        sys.exit(f"error: there are no results in {results.RESULTS}: run make bench")
    for path in written:
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
