"""A server of the lessons ends on a signal, and at once on a second one."""

import signal

import pytest

from tests.conftest import WAIT

TWICE = """
import os, signal
from production.development.echo_server import start
from production.development.serving import serve_until_signal

change_mask = signal.pthread_sigmask
def interrupted(how, signals):
    if how == signal.SIG_UNBLOCK:  # It arrives the moment it may.
        os.kill(os.getpid(), signal.SIGINT)
    return change_mask(how, signals)

signal.pthread_sigmask = interrupted
serve_until_signal(start, "127.0.0.1:0", 60)
"""
RELOAD = """
import signal
from production.development.echo_server import start
from production.development.serving import serve_until_signal

serve_until_signal(
    start,
    "127.0.0.1:0",
    grace=0,
    before_stop=lambda: print("drains", flush=True),
    on={signal.SIGUSR1: lambda: print("reloads", flush=True)},
)
"""


def test_a_second_ctrl_c_in_the_instant_of_the_stop_leaves_no_traceback(spawn_server):
    process, _ = spawn_server("-c", TWICE)
    process.send_signal(signal.SIGINT)

    assert (process.wait(WAIT), process.stderr.read()) == (-signal.SIGINT, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_other_signals_do_not_stop_it(spawn_server, number):
    process, _ = spawn_server("-c", RELOAD)
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline() == "reloads\n"
    process.send_signal(number)

    assert process.communicate(timeout=WAIT) == ("drains\n", "")
    assert process.returncode == 0
