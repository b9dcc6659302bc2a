"""Runs child processes, and ends each of them, even if Ctrl-C comes while it starts."""

import select
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

START_SECONDS = 60
STOP_SECONDS = 30
LISTENING = "listening on "


@contextmanager
def child(
    command: Sequence[str], *, ended_by: signal.Signals = signal.SIGTERM, **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """Runs a program for a block, with Popen's options; then ends it by a signal, or by SIGKILL
    after 30 s.

    It gets a process group of its own, so that Ctrl-C reaches only us. Raises OSError if it cannot
    be run.
    """
    with ExitStack() as stack:
        with _ctrl_c_held():
            started = subprocess.Popen(command, process_group=0, text=True, **options)
            stack.enter_context(started)
            stack.callback(_end, started, ended_by)
        yield started


@contextmanager
def server(
    command: Sequence[str], *, log: Path | None = None, **options: Any
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Runs a server for a block, with child's options; gives its process and its address.

    Its stderr goes to log. Raises RuntimeError, with what it wrote there, if it does not start.
    """
    with (
        log.open("w+") if log else tempfile.TemporaryFile("w+") as errors,
        child(command, stdout=subprocess.PIPE, stderr=errors, **options) as process,
    ):
        yield process, address_of(process, errors)


def address_of(process: subprocess.Popen[str], errors: IO[str]) -> str:
    """Waits until a server prints "listening on ADDRESS" to its stdout; returns the address.

    Raises RuntimeError if its first line is another one, or if it ends or prints nothing for 60 s.
    Its stdout is a pipe, and its stderr goes to errors.
    """
    assert process.stdout  # noqa: S101 - for the type checker.
    ready, _, _ = select.select([process.stdout], [], [], START_SECONDS)
    line = process.stdout.readline() if ready else ""
    if line.startswith(LISTENING):
        return line.removeprefix(LISTENING).strip()
    errors.seek(0)
    why = errors.read().strip().removeprefix("error: ")
    raise RuntimeError(f"{_name(process)} does not start: {why or f'it printed {line!r}'}")


def wait_until_connected(process: subprocess.Popen[str], address: tuple[str, int]) -> None:
    """Waits until a program that prints no address takes connections at the one it was given.

    Raises RuntimeError if it ends, or does not take any for 60 s.
    """
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(address, 1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{_name(process)} does not start; see above")


def _name(process: subprocess.Popen[str]) -> str:
    """The module that Python runs, or the program."""
    command: Any = process.args
    return command[command.index("-m") + 1] if "-m" in command else Path(command[0]).name


def _end(process: subprocess.Popen[str], by: signal.Signals) -> None:
    try:
        process.send_signal(by)
        process.wait(STOP_SECONDS)
    finally:
        process.kill()


@contextmanager
def _ctrl_c_held() -> Iterator[None]:
    """Delays Ctrl-C: in the middle of Popen, it would leave a process that nobody can end."""
    if threading.current_thread() is not threading.main_thread():  # Only that gets Ctrl-C.
        yield
        return
    received: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if received:
        signal.raise_signal(signal.SIGINT)
