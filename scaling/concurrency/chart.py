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


def draw(panels: dict[str, dict[str, float]]) -> Figure:
    """A panel for each title, in it a bar for each name: calls per second."""
    bars = sum(map(len, panels.values()))
    figure = Figure(figsize=(9, 0.5 + 0.3 * bars), layout="constrained")
    all_axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, (title, values) in zip(all_axes, panels.items(), strict=True):
        drawn = axes.barh(list(values), list(values.values()), color=COLOUR)
        axes.bar_label(drawn, fmt="{:,.0f}", padding=3)
        axes.invert_yaxis()
        axes.set_title(title, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.1)
    all_axes[-1].set_xlabel("calls per second")
    return figure


def save(figure: Figure, file: Path) -> None:
    """Writes a chart: the same bytes for the same figures, and text as text."""
    with mpl.rc_context({"svg.hashsalt": file.name, "svg.fonttype": "none"}):
        figure.savefig(file, metadata={"Date": None})


def main() -> None:
    argparse.ArgumentParser(description="Draw the lab's results.").parse_args()
    if not RESULTS.exists():
        sys.exit(f"error: there is no {RESULTS}: run python -m scaling.concurrency.lab")
    seen = json.loads(RESULTS.read_text())
    panels = {
        f"a call {work}": {way: found["rate"] for way, found in ways.items()}
        for work, ways in seen.items()
    }
    save(draw(panels), CHART)


if __name__ == "__main__":
    main()
