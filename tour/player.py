"""Plays one section of a README and compares what is seen with what it promises."""

import difflib
import os
import random
import re
import selectors
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from tour.readme import INTERRUPT, Block, Section, Step, apply_diff
from tour.terminal import Terminal

PATIENCE = 120.0
"""Seconds a command may take to end, or a server to print what the README shows."""

ENGINES = {
    "buf": "pip install buf-bin",
    "curl": "apt install curl",
    "envoy": "make engines",
    "haproxy": "apt install haproxy",
    "nginx": "apt install nginx-light",
    "rest-gateway": "make gateway",
    "pg_dump": "apt install postgresql",
    "tinyproxy": "apt install tinyproxy-bin",
}
"""Programs a session may need that are not on every machine, and what brings them."""

FOREIGN = ("CONTACTS_", "GRPC_", "MAKE", "OTEL_", "PG", "PYTEST_", "PYTHON")
"""Beginnings of variables that would change what a session prints."""
NOT_COPIED = (".git", ".venv", "build", "__pycache__", ".*_cache", ".hypothesis")
PORT = re.compile(
    r"(?:--(?:\w+-)*port[ =]|(?:localhost|127\.0\.0\.1|\[::1?\]|0\.0\.0\.0):)([1-9]\d{1,4})\b"
)
PROGRAM = re.compile(r"(?:^|[|&;(])[ ]*([\w.-]+)|-m [\w.]*?(\w+) (\w*)", re.MULTILINE)
"""A program, or the last name of a module and what it is told first: the module may start it."""
LOCALHOST = "localhost,127.0.0.1,::1"

Show = Callable[[str, str], None]
"""Called with a terminal's name ("" for the main one) and a piece of what appears in it."""


class Failure(Exception):
    """A session went otherwise than its README says; the message says how."""


class Absent(Exception):
    """A session needs a program this machine lacks; the message names it and what brings it."""


def play(section: Section, root: Path, show: Show = lambda _terminal, _text: None) -> None:
    """Plays a section in a copy of the tree at root, so that it neither finds nor leaves anything.

    Raises Failure or Absent. However it ends, no process of the section survives.
    """
    blocks = [block for block in section.blocks if block.language == "console"]
    commands = "\n".join(step.typed for block in blocks for step in block.steps())
    for program in sorted(ENGINES.keys() & set(chain(*PROGRAM.findall(commands)))):
        if not shutil.which(program, path=environment()["PATH"] + ":/usr/sbin"):
            raise Absent(f"{program} ({ENGINES[program]})")
    literal_ports = sorted(set(PORT.findall(commands)))
    ports = dict(zip(literal_ports, free_ports(len(literal_ports)), strict=True))
    with workspace(root) as directory:
        stage = Stage(directory, ports, show)
        try:
            for block in section.blocks:
                if block.language == "diff":
                    apply_diff(block, directory)
                elif block.language == "console":
                    stage.play(block)
            stage.stop()
        finally:
            stage.kill()


@contextmanager
def workspace(root: Path) -> Iterator[Path]:
    """A copy of the tree at root, with an empty build/ and this Python's environment as .venv."""
    with tempfile.TemporaryDirectory(prefix="tour-") as temporary:
        directory = Path(temporary) / root.name
        shutil.copytree(root, directory, ignore=shutil.ignore_patterns(*NOT_COPIED))
        (directory / "build").mkdir()
        (directory / ".venv").symlink_to(sys.prefix)
        yield directory


def environment() -> dict[str, str]:
    """The variables of a reader who has activated the environment, and no surprises."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
    return kept | {
        "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}",
        "VIRTUAL_ENV": sys.prefix,
        "COLUMNS": "80",
        "LC_ALL": "C.UTF-8",
        "NO_COLOR": "1",
        "TERM": "dumb",
        "no_grpc_proxy": LOCALHOST,  # gRPC would send even calls to localhost to a proxy.
    }


def free_ports(count: int) -> list[str]:
    """Ports nobody listens on, below the ranges from which systems take a client's port."""
    candidates = iter(random.sample(range(10_000, 32_768), 1_000))
    return [str(next(filter(is_free, candidates))) for _ in range(count)]


def is_free(port: int) -> bool:
    """Whether nobody listens on a port of this machine."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


class Stage:
    """The terminals of one section."""

    def __init__(self, directory: Path, ports: dict[str, str], show: Show) -> None:
        self._directory = directory
        self._ports = ports
        self._show = show
        self._terminals: dict[str, Terminal] = {}
        self._answered = ""
        self._silent_failures: dict[str, str] = {}

    def play(self, block: Block) -> None:
        """Plays one console block. Raises Failure."""
        name = block.argument
        if name not in self._terminals:
            self._terminals[name] = Terminal(self._directory, environment())
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
        """Presses ^C in the terminals still at work. Raises Failure when one goes on regardless."""
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
        """Ends everything at once."""
        for terminal in self._terminals.values():
            terminal.kill()

    def _check_status(self, name: str) -> None:
        """Raises Failure when a terminal's last command failed and the README does not tell."""
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
                raise Failure(f"line {step.line}: nothing runs that ^C could end")
            self._show(name, f"{typed}\n")
            terminal.interrupt()
            return
        if terminal.is_running:
            raise Failure(f"line {step.line}: the command before is still running")
        if "$?" not in typed:
            self._check_status(name)
        self._silent_failures.pop(name, None)
        self._show(name, f"$ {typed}\n")
        terminal.start(typed)

    def _until_printed(self, terminal: Terminal, step: Step) -> None:
        """Waits until the step's output has appeared; the command goes on."""
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
        # What ^C leaves as status differs from program to program.
        if terminal.status and step.typed != INTERRUPT and "error" not in terminal.output.lower():
            what = f"line {step.line}: $ {step.typed}\nended with status {terminal.status}"
            self._silent_failures[name] = what
        terminal.take(len(terminal.output))

    def _answer(self, terminal: Terminal, expected: list[str]) -> None:
        """Types what the README shows behind a prompt, when the command waits at that prompt."""
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
        with selectors.DefaultSelector() as selector:
            for name, terminal in self._terminals.items():
                if terminal.is_running:
                    selector.register(terminal.fd, selectors.EVENT_READ, name)
            wait = max(0.0, min(1.0, deadline - time.monotonic()))
            for key, _ in selector.select(wait):
                self._show(key.data, self._terminals[key.data].read())


def pattern(expected: list[str]) -> re.Pattern[str]:
    """What matches the expected lines: `...` is any text, on a line alone any number of lines."""
    lines = []
    for line in expected:
        if line.strip() == "...":
            lines.append(r"(?:[^\n]*\n)*?")
        else:
            pieces = (re.escape(piece) for piece in line.rstrip().split("..."))
            lines.append(r"[^\n]*?".join(pieces) + r"[ \t\r]*\n")
    return re.compile("".join(lines) or r"\s*")


def explain(step: Step, expected: list[str], output: str) -> str:
    """The difference between promise and fact, with what `...` stands for left out of it."""
    seen = [line.rstrip() for line in output.splitlines()]
    for number, line in enumerate(seen):
        alike = (e for e in expected if e.strip() != "..." and pattern([e]).fullmatch(line + "\n"))
        seen[number] = next(alike, line)
    diff = difflib.unified_diff(expected, seen, "README", "seen", lineterm="", n=99)
    return "\n".join([f"line {step.line}: $ {step.typed}", *diff])
