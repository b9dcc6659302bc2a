"""`python -m tour`: what is printed at the end, exit statuses, and Ctrl-C."""

import io
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile

import pytest
from rich.console import Console

from production.development.programs import INSTALL
from tests.conftest import WAIT, wait_until
from tour import __main__ as main

KEPT = "# K\n\n## Kept\n\n```console\n$ echo yes\nyes\n```\n"
BROKEN = "# B\n\n## Broken\n\n```console\n$ echo yes\nno\n```\n"
WAITING = "# W\n\n## Waiting\n\n```console\n$ echo yes\nyes\n$ sleep 600\n```\n"
ABSENT = "# A\n\n## Absent\n\n```console\n$ frobnicator\n```\n"


@pytest.fixture
def tour(tmp_path, monkeypatch):
    """tour(README, ...) plays READMEs, each in a folder; gives exit status and what is printed."""
    monkeypatch.setattr(main, "ROOT", tmp_path)
    monkeypatch.setitem(INSTALL, "frobnicator", "apt install frobnicator")
    monkeypatch.delenv("TOUR_REQUIRE", raising=False)

    def tour(*readmes):
        for number, readme in enumerate(readmes):
            (tmp_path / str(number)).mkdir()
            (tmp_path / str(number) / "README.md").write_text(readme)
        output = io.StringIO()
        console = Console(file=output, width=100, highlight=False)
        status = main.tour([str(number) for number in range(len(readmes))], console)
        return status, output.getvalue()

    return tour


def test_kept_promises_are_status_0(tour):
    status, output = tour(KEPT, KEPT)

    assert status == 0
    assert "  $ echo yes\n  yes\n✓\n" in output
    assert re.search(r"│ 0 +│ Kept +│ ✓ +│ \d+\.\d +│", output)
    assert re.search(r"2 of 2 as promised, \d+ s", output)


def test_one_broken_promise_is_status_1_with_a_diff_and_the_rest_is_played(tour):
    status, output = tour(BROKEN, KEPT)

    assert status == 1
    assert (
        "✗ 0/README.md, line 6: $ echo yes\n--- README\n+++ seen\n@@ -1 +1 @@\n-no\n+yes\n"
        in output
    )
    assert "1 of 2 as promised" in output


def test_a_malformed_readme_is_status_1(tour):
    status, output = tour("# M\n\n## Malformed\n\n```console\noutput\n```\n")

    assert status == 1
    assert "line 6: output without a command: 'output'" in output


def test_an_absence_is_named_with_what_brings_it(tour, monkeypatch):
    status, output = tour(ABSENT, KEPT)

    assert status == 0
    assert output.endswith("– not on this machine: frobnicator (apt install frobnicator)\n")

    monkeypatch.setenv("TOUR_REQUIRE", "all")
    assert main.tour(["0"], Console(file=io.StringIO())) == 1


def test_a_folder_without_readme_is_a_usage_error(run):
    result = run("tour", "nowhere")

    assert result.returncode == 2
    assert result.stderr.endswith("error: there is no nowhere/README.md\n")


def test_ctrl_c_is_heard_by_a_tour_that_began_with_it_ignored(spawn, tmp_path):
    """As jobs in the background of a script do."""
    program = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, "-m", "tour", "helloworld"])
"""
    process = spawn("-c", program, env=os.environ | {"TMPDIR": str(tmp_path)})
    next(line for line in iter(process.stdout.readline, "") if "listening on" in line)

    process.send_signal(signal.SIGINT)
    stderr = process.communicate(timeout=WAIT)[1]

    assert stderr == "\ninterrupted; nothing is left running\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_ends_the_tour_and_all_it_started(number, spawn, tmp_path):
    process = spawn("-m", "tour", "helloworld", env=os.environ | {"TMPDIR": str(tmp_path)})
    lines = iter(process.stdout.readline, "")
    port = next(line.rpartition(":")[2] for line in lines if "listening on" in line)

    process.send_signal(number)
    stderr = process.communicate()[1]

    assert process.returncode != 0
    # After SIGKILL the kernel ends the server, in its time.
    wait_until(lambda: is_refused(int(port)))
    if number != signal.SIGKILL:  # After that nobody could remove the copy of the tree.
        assert list(tmp_path.iterdir()) == [], stderr


@pytest.fixture
def handlers():
    """Puts signal handlers back."""
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("moment", ["__init__", "wait"])
@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGINT, "\ninterrupted; nothing is left running"),
        (signal.SIGTERM, 128 + signal.SIGTERM),
        (signal.SIGHUP, 128 + signal.SIGHUP),
    ],
)
def test_a_signal_is_heard_while_a_process_starts_or_ends(
    moment, number, status, monkeypatch, tmp_path
):
    """The second one comes while the processes are being killed."""
    original = getattr(subprocess.Popen, moment)
    processes = set()

    def interrupted(process, *args, **options):
        result = original(process, *args, **options)
        processes.add(process)
        signal.raise_signal(number)
        return result

    monkeypatch.setattr(subprocess.Popen, moment, interrupted)
    (tmp_path / "root" / "waiting").mkdir(parents=True)
    (tmp_path / "root" / "waiting" / "README.md").write_text(WAITING)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(main, "ROOT", tmp_path / "root")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(sys, "argv", ["tour", "waiting"])

    with pytest.raises(SystemExit) as end:
        main.main()

    assert end.value.code == status
    assert all(process.returncode is not None for process in processes)
    assert list((tmp_path / "temporary").iterdir()) == []


def is_refused(port):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # It went while we connected.
        pass
    return False
