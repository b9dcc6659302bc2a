"""A child process ends with what has started it, and is never lost from sight."""

import signal
import subprocess
import sys

import pytest

from rest_gateway import child as module
from rest_gateway.child import child

WAITS = [sys.executable, "-c", "print('ready', flush=True); import signal; signal.pause()"]


def test_a_child_ends_by_the_signal_that_was_asked_for():
    with child(WAITS, ended_by=signal.SIGINT, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == "ready\n"

    assert process.returncode == -signal.SIGINT


def test_a_child_that_does_not_listen_is_killed(monkeypatch):
    monkeypatch.setattr(module, "STOP_SECONDS", 0.1)
    deaf = "import signal; signal.signal(15, signal.SIG_IGN); print(1, flush=True); signal.pause()"
    with (
        pytest.raises(subprocess.TimeoutExpired),
        child([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as process,
    ):
        process.stdout.readline()

    assert process.returncode == -signal.SIGKILL


def test_ctrl_c_in_the_instant_of_the_start_leaves_nothing(monkeypatch):
    made = []

    class Interrupted(subprocess.Popen):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            made.append(self)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt), child(WAITS):
        pytest.fail("Ctrl-C was lost")

    assert made[0].returncode == -signal.SIGTERM
