"""Hosts that are cut off, on bad lines, parted from their database, and failed over."""

import os
import re
import signal
import subprocess
import sys

import psutil
import pytest

from production.development import programs
from scaling.hosts import cut_off, lossy_line, one_connection
from tests.conftest import ROOT, absent, wait_until

pytestmark = pytest.mark.slow
SECONDS = 110


@pytest.fixture
def play(run):
    """play(MODULE, ...) runs a program of this folder; gives the lines that it prints."""

    def play(module, *args):
        try:
            programs.require(f"scaling.hosts.{module}")
        except programs.AbsentError as error:
            absent(error)
        done = run(
            f"scaling.hosts.{module}",
            *args,
            timeout=SECONDS,
            env=os.environ | {"GRPC_VERBOSITY": "NONE"},
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    return play


def figure(lines, title):
    """The number behind a title."""
    (found,) = [line for line in lines if line.startswith(title)]
    return int(re.search(r"(\d+)$", found)[1])


def test_who_notices_a_host_that_is_cut_off(play):
    lines = play("cut_off")

    seen = [line[32:].split() for line in lines if line.startswith("  ")]
    callers = [
        " ".join(word for word in words if word.isupper() or "wait" in word) for words in seen
    ]
    assert len(lines) == len(cut_off.CALLED) + len(cut_off.IDLE) + 2
    assert callers == [
        *("waits", "DEADLINE_EXCEEDED", "waits", "UNAVAILABLE", "OK,"),
        *("DEADLINE_EXCEEDED", "waits", "waits"),
        *("waits", "DEADLINE_EXCEEDED", "UNAVAILABLE", "OK,", "UNAVAILABLE", "OK,"),
    ]


def test_no_call_fails_on_a_bad_line_and_a_narrow_one_takes_its_time(play):
    _, *rows = play("lossy_line")

    large = {row[:28].strip(): float(row.split()[-2]) for row in rows}
    assert list(large) == [line.title for line in lossy_line.LINES]
    assert large["10 ms, 8 Mbit/s"] >= 1.0  # 8 Mbit, at 8 Mbit/s.


def test_one_connection_is_measured_beside_six(play):
    _, *rows = play("one_connection", "--seconds", "0.5")

    assert len(rows) == 3 * len(one_connection.LOSSES)


def test_nothing_acknowledged_is_lost_while_the_database_is_cut_off(play):
    lines = play("partition")

    assert figure(lines, "  acknowledged") >= 100
    assert figure(lines, "  of these, lost") == 0


@pytest.mark.parametrize(("replication", "lost"), [("asynchronous", True), ("synchronous", False)])
def test_a_failover_loses_what_replication_lets_it(replication, lost, play):
    lines = play("failover", "--replication", replication)

    assert (figure(lines, "lost") > 0) is lost
    assert figure(lines, "of these, lost") == 0
    assert figure(lines, "acknowledged by the new primary") >= 100


def processes_of(folder):
    """The processes that keep their temporary files in a folder. Namespaces end with the last."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == str(folder):
                found.append(process.name())
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize(
    ("module", "first"),
    [("lossy_line", "as it is"), ("one_connection", "lost"), ("partition", "as it is")],
)
def test_a_signal_leaves_nothing(number, module, first, tmp_path):
    with subprocess.Popen(
        [sys.executable, "-u", "-m", f"scaling.hosts.{module}"],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        next((line for line in process.stdout if first in line), None)
        process.send_signal(number)
        _, errors = process.communicate(timeout=SECONDS)

    if "this machine lacks" in errors:
        absent(errors)
    wait_until(lambda: processes_of(tmp_path) == [])
    assert "Traceback" not in errors
    if number != signal.SIGKILL:  # After that nobody could remove the database's files.
        assert process.returncode == 128 + number
        assert list(tmp_path.iterdir()) == []
