"""Renders tables and verdicts as the READMEs show them."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

HOLDS, FAILS, UNKNOWN = "holds", "does not hold", "cannot be told"
LIMITED = "no verdict, limited by the load"
NOISE = 0.1
"""A ratio this close to 1 is less than these machines can tell."""
WIDTH = 110


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """Renders rows below their headings; numbers, which follow the first column, align right."""
    result = Table(box=box.SIMPLE_HEAD, caption=caption or None)
    for number, heading in enumerate(headings):
        result.add_column(heading, no_wrap=True, justify="right" if number else "left")
    for row in rows:
        result.add_row(*row)
    console = Console(width=WIDTH, no_color=True)
    with console.capture() as captured:
        console.print(result)
    return "\n".join(line.rstrip() for line in captured.get().splitlines() if line.strip())


def judge(ratio: float, goal: float | None = None) -> str:
    """Judges a claim that a ratio is at least the goal or, without a goal, that it is above 1."""
    if goal is not None:
        return HOLDS if ratio >= goal else FAILS
    return HOLDS if ratio > 1 + NOISE else FAILS if ratio < 1 - NOISE else UNKNOWN


def verdict(ratio: float, finding: str, goal: float | None = None, *, limited: bool = False) -> str:
    """Writes a line: the judgement, what was found, and the goal if there is one.

    A limited ratio comes from a load that was slower than the server, and is not judged.
    """
    judged = LIMITED if limited else judge(ratio, goal)
    return f"{judged}: {finding}" + (f" (goal: {goal})" if goal is not None else "")
