"""Log lines are written without keeping anybody waiting."""

import os
import signal
import threading

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from production import logs
from production.logs import BackgroundWriter

WAIT = 30


def test_lines_are_written_in_their_order(tmp_path):
    with (tmp_path / "log").open("w") as file:
        writer = BackgroundWriter(file)
        for number in range(1000):
            writer.write(f"{number}\n")
        writer.close()

    lines = (tmp_path / "log").read_text().splitlines()
    assert lines == [str(number) for number in range(1000)]


def test_a_full_pipe_keeps_nobody_waiting_and_loss_is_told(monkeypatch):
    """A pipe holds 64 KiB; nobody reads until everything has been taken."""
    monkeypatch.setattr(logs, "MAX_LINES", 100)
    reading, writing = os.pipe()
    with os.fdopen(reading) as reader, os.fdopen(writing, "w") as pipe:
        writer = BackgroundWriter(pipe)
        for _ in range(1000):
            writer.write("x" * 1000 + "\n")
        read = []
        thread = threading.Thread(target=lambda: read.extend(reader))
        thread.start()
        writer.close()
        pipe.close()
        thread.join()

    assert any(line.endswith(" log lines dropped\n") for line in read)
    assert sum(line.startswith("x") for line in read) < 1000


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_switches_the_level_of_all_workers(spawn_server, tmp_path, workers):
    """Calls of health are told at the level of debug."""
    database = {"CONTACTS_DATABASE": f"sqlite:///{tmp_path}/contacts.db"}
    process, address = spawn_server(
        "-m", "production.contacts_server", "--plaintext", "--address", "127.0.0.1:0",
        "--workers", workers, env=os.environ | database | {"CONTACTS_DRAIN_PAUSE": "0"},
    )  # fmt: skip

    def check_health():
        with grpc.insecure_channel(address) as channel:
            request = health_pb2.HealthCheckRequest()
            health_pb2_grpc.HealthStub(channel).Check(request, timeout=WAIT)

    check_health()
    switched = []
    for to in ("debug", "info"):
        process.send_signal(signal.SIGUSR1)
        while len(switched) < int(workers):
            line = process.stderr.readline()
            assert "Health" not in line
            switched += [line] if f"to={to}" in line else []
        switched.clear()
        if to == "debug":
            check_health()
            while "method=/grpc.health.v1.Health/Check" not in process.stderr.readline():
                pass
    process.terminate()
    assert "Health" not in process.communicate(timeout=WAIT)[1]
