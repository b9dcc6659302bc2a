"""A child process ends with the program that started it, and a server gives its address."""

import signal
import subprocess
import sys

import pytest

from production.development import child as module
from production.development.child import child, server, wait_until_connected

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


def test_a_server_gives_its_address_and_ends_with_the_block():
    program = "print('listening on [::1]:7', flush=True); import signal; signal.pause()"
    with server([sys.executable, "-c", program]) as (process, address):
        assert address == "[::1]:7"
        assert process.poll() is None

    assert process.returncode == -signal.SIGTERM


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("import sys; sys.exit('error: the port is taken')", "the port is taken"),
        ("raise SystemExit", "it printed ''"),
        ("print('hello')", "it printed 'hello\\n'"),
        ("import signal; signal.pause()", "it printed ''"),
    ],
    ids=["error", "ends", "other words", "silent"],
)
def test_a_server_that_does_not_start_is_an_error_that_says_why(program, why, monkeypatch):
    if "pause" in program:
        monkeypatch.setattr(module, "START_SECONDS", 0.1)
    command = [sys.executable, "-c", program]
    with pytest.raises(RuntimeError) as caught, server(command):
        pytest.fail("it has not started")

    assert str(caught.value).endswith(f" does not start: {why}")


def test_a_server_keeps_its_log(tmp_path):
    command = [sys.executable, "-m", "production.development.echo_server", "--nonsense"]
    with (
        pytest.raises(RuntimeError, match=r"production\.development\.echo_server does not start"),
        server(command, log=tmp_path / "log"),
    ):
        pytest.fail("it has not started")

    assert "unrecognized arguments: --nonsense" in (tmp_path / "log").read_text()


def test_a_program_that_ends_before_it_takes_connections_is_an_error():
    with (
        child([sys.executable, "-c", ""]) as process,
        pytest.raises(RuntimeError, match="does not start; see above"),
    ):
        wait_until_connected(process, ("127.0.0.1", 1))
