"""Draws the charts of the READMEs from saved results."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator

from benchmarks import harness, results
from benchmarks.claims import growth
from benchmarks.harness import ServerRun
from benchmarks.registry import ROOT
from scaling.concurrency import lab

COLOUR = "#3b6ea5"


def bars(panels: dict[str, dict[str, float]]) -> Figure:
    """Draws a panel for each title, in it a bar for each name: calls per second."""
    count = sum(map(len, panels.values()))
    figure = Figure(figsize=(9, 0.5 + 0.3 * count), layout="constrained")
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


def draw_small_calls(file: Path) -> Figure:
    runs = results.load(file, ServerRun)
    rates = {server: harness.medians(each).rate for server, each in runs.items()}
    return bars({"one message there, one back": rates})


def draw_lab(file: Path) -> Figure:
    return bars(
        {
            f"a call {work}": {way: run["rate"] for way, run in ways.items()}
            for work, ways in json.loads(file.read_text()).items()
        }
    )


def draw_growth(file: Path) -> Figure:
    """Draws a panel for each sweep, in it a line for each server."""
    runs = results.load(file, ServerRun)
    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, sweep in zip(figure.subplots(1, len(growth.SWEEPS)), growth.SWEEPS, strict=True):
        for server, marker in zip(growth.SERVERS, "osD^v", strict=True):
            points = growth.runs_of(runs, sweep, server)
            rates = [harness.medians(each).rate for each in points.values()]
            axes.loglog(list(points), rates, marker=marker, markersize=4, label=server)
        axes.set_title(f"calls per second, by {sweep}", loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xticks(growth.SWEEPS[sweep].points)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.minorticks_off()
        axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.legend(frameon=False)
    return figure


class Chart(NamedTuple):
    """A picture, the results that it shows, and the function that draws it."""

    picture: Path
    results: Path
    draw: Callable[[Path], Figure]


CHARTS = [
    Chart(ROOT / "benchmarks/small_calls.svg", results.RESULTS / "unary.json", draw_small_calls),
    Chart(ROOT / "benchmarks/growth.svg", results.RESULTS / "growth.json", draw_growth),
    Chart(ROOT / "scaling/concurrency/lab.svg", lab.RESULTS, draw_lab),
]


def save(figure: Figure, picture: Path) -> None:
    """Writes an SVG: the same bytes for the same figures, and text as text."""
    with mpl.rc_context({"svg.hashsalt": picture.name, "svg.fonttype": "none"}):
        figure.savefig(picture, metadata={"Date": None})
