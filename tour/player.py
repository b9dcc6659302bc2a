"""Plays one section of a README and compares the output with the README."""

import difflib
import os
import random
import re
import selectors
import site
import socket
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from production.development import programs
from tour import tree
from tour.readme import INTERRUPT, Block, Section, Step, apply_diff
from tour.terminal import Terminal

PATIENCE = 120.0
"""Seconds in which a command must end, or a server must print the output in the README."""

FOREIGN = ("BUILD_NUMBER", "CI", "CONTACTS_", "FORCE_COLOR", "GRPC_", "MAKE", "OTEL_", "PG", "PY")
"""Prefixes of variables that would change the output of a session; pytest prints more under CI."""
PORT = re.compile(
    r"(?:--(?:\w+-)*port[ =]|(?:localhost|127\.0\.0\.1|\[::1?\]|0\.0\.0\.0):)([1-9]\d{1,4})\b"
)
PROGRAM = re.compile(r"(?:^|[|&;(])[ ]*([\w.-]+)|-m [\w.]*?(\w+) (\w*)", re.MULTILINE)
"""A program; or the last name of a module and its first argument, either of which may be a program
that the module starts."""
MODULE = re.compile(r"\bpython3? -m ([\w.]+)")
LOCALHOST = "localhost,127.0.0.1,::1"
PROGRAMS = f"{sys.prefix}/bin:{os.environ['PATH']}"
"""The search path for programs, beginning with those of the installed packages."""

Show = Callable[[str, str], None]
"""Called with a terminal's name ("" for the main one) and a piece of its output."""
Check = Callable[[], None]
"""Called several times a second while a command runs. An exception ends the section."""


class Failure(Exception):
    """A session differs from its README; the message shows the difference."""


def play(
    section: Section,
    root: Path,
    show: Show = lambda _terminal, _text: None,
    check: Check = lambda: None,
) -> None:
    """Plays a section in a copy of the tree at root, so that it neither finds nor leaves anything.

    Raises Failure, AbsentError, or an exception of check. No process of the section survives.
    """
    blocks = [block for block in section.blocks if block.language == "console"]
    commands = "\n".join(step.typed for block in blocks for step in block.steps())
    for program in sorted(programs.INSTALL.keys() & set(chain(*PROGRAM.findall(commands)))):
        programs.find(program)
    for module in MODULE.findall(commands):
        programs.require(module)
    literal_ports = sorted(set(PORT.findall(commands)))
    ports = dict(zip(literal_ports, free_ports(len(literal_ports)), strict=True))
    with workspace(root) as directory:
        stage = Stage(directory, ports, show, check)
        try:
            for block in section.blocks:
                if block.language == "diff":
                    apply_diff(block, directory)
                    show("", "\n".join([f"a change to {block.argument}:", *block.lines, ""]))
                elif block.language == "console":
                    stage.play(block)
            stage.stop()
        finally:
            stage.kill()


@contextmanager
def workspace(root: Path) -> Iterator[Path]:
    """Copies the tree at root, with an empty build/ and a virtual environment in .venv."""
    with tempfile.TemporaryDirectory(prefix="tour-") as temporary:
        directory = Path(temporary).resolve() / root.name
        tree.copy(root, directory)
        (directory / "build").mkdir(parents=True)
        create_environment(directory / ".venv")
        yield directory


def create_environment(directory: Path) -> None:
    """Creates a virtual environment that make accepts and that sees the packages of this one.

    A session installs into it, and so cannot change the environment we run in.
    """
    venv.create(directory, symlinks=True)
    (site_packages,) = directory.glob("lib/*/site-packages")
    folders = [
        *site.getsitepackages(),
        *([site.getusersitepackages()] if site.ENABLE_USER_SITE else []),
    ]
    lines = [f"import site; site.addsitedir({folder!r})\n" for folder in folders]
    (site_packages / "tour.pth").write_text("".join(lines))
    major, minor = sys.version_info[:2]
    (directory / ".ready").write_text(f"{directory} {major} {minor}\n")


def environment(directory: Path) -> dict[str, str]:
    """Returns the variables of a reader who has activated directory/.venv."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
    return kept | {
        "PATH": f"{directory}/.venv/bin:{PROGRAMS}",
        "VIRTUAL_ENV": f"{directory}/.venv",
        "COLUMNS": "80",
        "LC_ALL": "C.UTF-8",
        "NO_COLOR": "1",
        "TERM": "dumb",
        "no_grpc_proxy": LOCALHOST,  # gRPC would send even calls to localhost to a proxy.
    }


def free_ports(count: int) -> list[str]:
    """Returns free ports below the ranges from which systems take a client's port."""
    candidates = iter(random.sample(range(10_000, 32_768), 1_000))
    return [str(next(filter(is_free, candidates))) for _ in range(count)]


def is_free(port: int) -> bool:
    """Tells whether a port of this machine is free."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


class Stage:
    """The terminals of one section."""

    def __init__(self, directory: Path, ports: dict[str, str], show: Show, check: Check) -> None:
        self._directory = directory
        self._ports = ports
        self._show = show
        self._check = check
        self._terminals: dict[str, Terminal] = {}
        self._answered = ""
        self._silent_failures: dict[str, str] = {}

    def play(self, block: Block) -> None:
        """Plays one console block. Raises Failure."""
        name = block.argument
        if name not in self._terminals:
            self._terminals[name] = Terminal(self._directory, environment(self._directory))
        terminal = self._terminals[name]
        steps = block.steps()
        for step, following in zip(steps, [*steps[1:], None], strict=True):
            typed = self._with_ports(step.typed)
            self._begin(name, terminal, step, typed)
            stays = name and following is None and typed != INTERRUPT
            if stays or (following and following.typed == INTERRUPT):
                self._until_printed(terminal, step)
            else:
                self._until_ended(name, terminal, step)

    def stop(self) -> None:
        """Presses ^C in the terminals that still run. Raises Failure if one does not end."""
        for name, terminal in self._terminals.items():
            if not terminal.is_running:
                self._check_status(name)
            else:
                self._show(name, f"{INTERRUPT}\n")
                terminal.interrupt()
                deadline = time.monotonic() + PATIENCE
                while terminal.is_running:
                    self._pump(deadline)
                    if time.monotonic() > deadline:
                        raise Failure(f"terminal {name}: still running {PATIENCE:.0f} s after ^C")
            seen = terminal.output
            by_interrupt = seen.rstrip().endswith("KeyboardInterrupt")
            if "Traceback (most recent call last)" in seen and not by_interrupt:
                raise Failure(f"terminal {name}: printed a traceback\n{seen}")

    def kill(self) -> None:
        """Kills everything."""
        for terminal in self._terminals.values():
            terminal.kill()

    def _check_status(self, name: str) -> None:
        """Raises Failure if a terminal's last command failed and the README does not show it."""
        if name in self._silent_failures:
            raise Failure(
                f"{self._silent_failures[name]}, which the README must show, "
                "by a line with `error` in it or by `$ echo $?`"
            )

    def _with_ports(self, text: str) -> str:
        if not self._ports:
            return text
        numbers = "|".join(self._ports)
        return re.sub(rf"(?<!\d)({numbers})(?!\d)", lambda match: self._ports[match[0]], text)

    def _begin(self, name: str, terminal: Terminal, step: Step, typed: str) -> None:
        """Types a command or presses ^C."""
        if not typed:
            return
        if typed == INTERRUPT:
            if not terminal.is_running:
                raise Failure(f"line {step.line}: no command is running that ^C could end")
            self._show(name, f"{typed}\n")
            terminal.interrupt()
            return
        if terminal.is_running:
            raise Failure(f"line {step.line}: the previous command is still running")
        if "$?" not in typed:
            self._check_status(name)
        self._silent_failures.pop(name, None)
        self._show(name, f"$ {typed}\n")
        terminal.start(typed)

    def _until_printed(self, terminal: Terminal, step: Step) -> None:
        """Waits until the step's output has appeared; the command continues."""
        expected = [self._with_ports(line) for line in step.expected]
        deadline = time.monotonic() + PATIENCE
        while not (match := pattern(expected).match(terminal.output)):
            if not terminal.is_running or time.monotonic() > deadline:
                raise Failure(explain(step, expected, terminal.output))
            self._answer(terminal, expected)
            self._pump(deadline)
        terminal.take(match.end())

    def _until_ended(self, name: str, terminal: Terminal, step: Step) -> None:
        """Waits until the command ends; its output must be the step's, whole."""
        expected = [self._with_ports(line) for line in step.expected]
        deadline = time.monotonic() + PATIENCE
        while terminal.is_running:
            if time.monotonic() > deadline:
                reason = f"still running after {PATIENCE:.0f} s\n"
                raise Failure(reason + explain(step, expected, terminal.output))
            self._answer(terminal, expected)
            self._pump(deadline)
        if not pattern(expected).fullmatch(terminal.output.rstrip("\n") + "\n"):
            raise Failure(explain(step, expected, terminal.output))
        # The status after ^C differs from program to program.
        if terminal.status and step.typed != INTERRUPT and "error" not in terminal.output.lower():
            what = f"line {step.line}: $ {step.typed}\nended with status {terminal.status}"
            self._silent_failures[name] = what
        terminal.take(len(terminal.output))

    def _answer(self, terminal: Terminal, expected: list[str]) -> None:
        """Types the text that the README shows behind a prompt once the command waits there."""
        before, _, prompt = terminal.output.rpartition("\n")
        if not prompt.endswith((": ", "? ")) or terminal.output == self._answered:
            return
        before = before + "\n" if before else ""
        for number, line in enumerate(expected):
            if f"{line} ".startswith(prompt) and pattern(expected[:number]).fullmatch(before):
                terminal.write(line[len(prompt) :] + "\n")
                # Until the terminal has echoed the answer, the prompt still looks unanswered.
                self._answered = terminal.output
                return

    def _pump(self, deadline: float) -> None:
        """Waits a moment for output in any terminal, and shows it."""
        self._check()
        with selectors.DefaultSelector() as selector:
            for name, terminal in self._terminals.items():
                if terminal.is_running:
                    selector.register(terminal.fd, selectors.EVENT_READ, name)
            wait = max(0.0, min(0.1, deadline - time.monotonic()))
            for key, _ in selector.select(wait):
                self._show(key.data, self._terminals[key.data].read())


def pattern(expected: list[str]) -> re.Pattern[str]:
    """Compiles the expected lines: `...` is any text, or, alone on a line, any number of lines."""
    lines = []
    for line in expected:
        if line.strip() == "...":
            lines.append(r"(?:[^\n]*\n)*?")
        else:
            pieces = (re.escape(piece) for piece in line.rstrip().split("..."))
            lines.append(r"[^\n]*?".join(pieces) + r"[ \t\r]*\n")
    return re.compile("".join(lines) or r"\s*")


def explain(step: Step, expected: list[str], output: str) -> str:
    """Formats the difference between README and output, without the text that `...` matches."""
    seen = [line.rstrip() for line in output.splitlines()]
    for number, line in enumerate(seen):
        alike = (e for e in expected if e.strip() != "..." and pattern([e]).fullmatch(line + "\n"))
        seen[number] = next(alike, line)
    diff = difflib.unified_diff(expected, seen, "README", "seen", lineterm="", n=99)
    return "\n".join([f"line {step.line}: $ {step.typed}", *diff])
