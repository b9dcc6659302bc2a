"""Draws what the lab has seen: `make chart-concurrency` does both.

python -m scaling.concurrency.chart
"""

import argparse
import json
import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from scaling.concurrency.lab import RESULTS

CHART = Path(__file__).with_name("lab.svg")
COLOUR = "#3b6ea5"


def draw(seen: dict[str, dict[str, dict[str, float]]]) -> Figure:
    """A panel for each kind of work, a bar for each way to serve."""
    figure = Figure(figsize=(9, 7), layout="constrained")
    panels = figure.subplots(len(seen), 1, squeeze=False)[:, 0]
    for axes, (work, ways) in zip(panels, seen.items(), strict=True):
        titles = list(ways)
        bars = axes.barh(titles, [ways[title]["rate"] for title in titles], color=COLOUR)
        axes.bar_label(bars, fmt="{:,.0f}", padding=3)
        axes.invert_yaxis()
        axes.set_title(f"a call {work}", loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.1)
    panels[-1].set_xlabel("calls per second")
    return figure


def main() -> None:
    argparse.ArgumentParser(description="Draw the lab's results.").parse_args()
    if not RESULTS.exists():
        sys.exit(f"error: there is no {RESULTS}: run python -m scaling.concurrency.lab")
    # The same bytes for the same figures; text stays text.
    mpl.rcParams.update({"svg.hashsalt": "lab", "svg.fonttype": "none"})
    draw(json.loads(RESULTS.read_text())).savefig(CHART, metadata={"Date": None})


if __name__ == "__main__":
    main()
