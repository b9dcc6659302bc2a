"""Log lines are written without keeping anybody waiting."""

import os
import threading

from production import logs
from production.logs import BackgroundWriter


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
