"""Ctrl-C ends what runs for long, and nothing of it is left."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from tests.conftest import ROOT, WAIT, absent


def processes_of(folder):
    """The processes that were told to keep their temporary files in a folder, and are alive."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == str(folder):
                found.append(process.name())
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "args", "first"),
    [
        ("scaling.concurrency.lab", ["--work", "waits"], "1 thread"),
        ("scaling.proxies.compare", [], "client"),
        ("rest_gateway.demo", ["--address=127.0.0.1:0"], "Authorization"),
        ("rest_gateway.demo", ["--address=127.0.0.1:0", "--front=envoy"], "Authorization"),
    ],
)
def test_ctrl_c_leaves_nothing(module, args, first, tmp_path):
    with subprocess.Popen(
        [sys.executable, "-u", "-m", module, *args],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        for line in process.stdout:
            if first in line:
                break
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=WAIT)

    if "absent" in errors or "(make" in errors:
        absent(errors)
    assert processes_of(tmp_path) == []
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []
