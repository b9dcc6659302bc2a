"""Runs a program for as long as it is needed, and lets nothing make us lose sight of it."""

import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

STOP_SECONDS = 30


@contextmanager
def child(
    command: Sequence[str], *, ended_by: signal.Signals = signal.SIGTERM, **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """A program while entered, with Popen's options; a signal ends it, or SIGKILL after 30 s.

    It is in a process group of its own, so Ctrl-C is for us alone. Raises OSError when it does not
    start.
    """
    with ExitStack() as stack:
        with _ctrl_c_held():
            started = subprocess.Popen(command, process_group=0, text=True, **options)
            stack.enter_context(started)
            stack.callback(_end, started, ended_by)
        yield started


def _end(process: subprocess.Popen[str], by: signal.Signals) -> None:
    try:
        process.send_signal(by)
        process.wait(STOP_SECONDS)
    finally:
        process.kill()


@contextmanager
def _ctrl_c_held() -> Iterator[None]:
    """Lets Ctrl-C wait: within Popen it would leave a process that nobody knows."""
    if threading.current_thread() is not threading.main_thread():  # Python interrupts only that.
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        signal.raise_signal(signal.SIGINT)
