"""Plays the READMEs of the named folders, for people to watch.

Run it, for all chapters or for one:

    make run
    python -m tour helloworld
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from production.development.programs import AbsentError
from tour.player import Check, Failure, play
from tour.readme import INTERRUPT, Section, read

ROOT = Path(__file__).parent.parent


class Screen:
    """Prints the output of a section's terminals, line by line."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._unfinished: dict[str, str] = {}

    def show(self, terminal: str, text: str) -> None:
        *lines, rest = (self._unfinished.get(terminal, "") + text).split("\n")
        self._unfinished[terminal] = rest
        for line in lines:
            style = "bold" if line.startswith("$ ") or line == INTERRUPT else "dim"
            name = f"{terminal} │ " if terminal else ""
            self._console.print(Text.assemble("  ", (name, "cyan"), (line, style)), soft_wrap=True)


class Signals:
    """Remembers a signal to end the tour.

    The handler does not raise: that could lose a process that is just being started or killed.
    """

    def __init__(self) -> None:
        self._number = 0

    def remember(self, number: int, _frame: object) -> None:
        self._number = number

    def check(self) -> None:
        """Raises KeyboardInterrupt after SIGINT, and SystemExit after any other signal."""
        number = self._number  # Read once: another signal may come between the comparisons.
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        if number:
            sys.exit(128 + number)


def perform(
    section: Section, folder: str, console: Console, progress: Progress, check: Check
) -> tuple[str, str]:
    """Plays a section; returns a mark (✓, ✗ or –) and, for –, the missing program."""
    console.print(f"\n[bold]{folder} · {section.title}[/]")
    task = progress.add_task(f"{folder} · {section.title}", total=None)
    try:
        play(section, ROOT, Screen(console).show, check)
    except AbsentError as absent:
        console.print(f"– not played, absent: {absent}", style="yellow", markup=False)
        return "–", str(absent)
    except (Failure, OSError, ValueError) as failure:
        console.print(f"✗ {folder}/README.md, {failure}", style="red", markup=False)
        return "✗", ""
    finally:
        progress.remove_task(task)
    console.print("[green]✓[/]")
    return "✓", ""


def tour(folders: list[str], console: Console, check: Check = lambda: None) -> int:
    """Plays every section of the folders' READMEs; returns the exit status."""
    table = Table("chapter", "session", "", "seconds", title="The tour")
    marks, absences = [], []
    began = time.monotonic()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        for folder in folders:
            for section in read(ROOT / folder / "README.md"):
                if section.is_played:
                    started = time.monotonic()
                    mark, absence = perform(section, folder, console, progress, check)
                    check()
                    seconds = f"{time.monotonic() - started:.1f}"
                    table.add_row(folder, section.title, mark, seconds)
                    marks.append(mark)
                    absences += [absence] if absence else []
    table.caption = (
        f"{marks.count('✓')} of {len(marks)} as promised, {time.monotonic() - began:.0f} s"
    )
    console.print("\n", table)
    for absence in sorted(set(absences)):
        console.print(f"– not on this machine: {absence}", style="yellow", markup=False)
    required = os.environ.get("TOUR_REQUIRE") == "all"
    return 1 if "✗" in marks or (absences and required) else 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tour", description="Play chapter READMEs.")
    parser.add_argument("folder", nargs="+", help="a folder with a README.md, below the root")
    folders = parser.parse_args().folder
    for folder in folders:
        if not (ROOT / folder / "README.md").is_file():
            parser.error(f"there is no {folder}/README.md")
    signals = Signals()
    # A background job may start with SIGINT ignored, which its servers would inherit.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signals.remember)
    try:
        sys.exit(tour(folders, Console(highlight=False), signals.check))
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; nothing is left running")


if __name__ == "__main__":
    main()
