"""Loads a server by h2load, a real load generator, which hardly takes from what it measures."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from benchmarks.greetings import Request
from benchmarks.load import summary

BRINGS = "apt install nghttp2-client"
GRPC = "application/grpc"


def program() -> str | None:
    return shutil.which("h2load")


def load(
    address: str, asked: Request, size: int, seconds: float, in_flight: int
) -> dict[str, float]:
    """Keeps so many requests in flight for so many seconds; each answer must have size bytes.

    Raises ValueError when an answer is wrong.
    """
    # Over HTTP/1.1 a connection has one request at a time; HTTP/2 carries eight each.
    is_grpc = asked.content_type == GRPC
    clients = max(1, in_flight // 8) if is_grpc else in_flight
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder) / "body", Path(folder) / "log"
        body.write_bytes(asked.body)
        command = [
            program() or "h2load", f"--duration={seconds * 1000:.0f}ms", f"--log-file={log}",
            f"--clients={clients}", f"--max-concurrent-streams={max(1, in_flight // clients)}",
            f"--data={body}", f"-Hcontent-type: {asked.content_type}",
            "-Hte: trailers" if is_grpc else "--h1", f"http://{address}{asked.path}",
        ]  # fmt: skip
        ended = subprocess.run(command, capture_output=True, text=True)
        if ended.returncode:
            raise ValueError(f"h2load: {ended.stderr.strip()}")
        entries = [line.split("\t") for line in log.read_text().splitlines()]
    # What is under way at the end has the status 0.
    if wrong := [status for _, status, _ in entries if status not in ("200", "0")]:
        raise ValueError(f"{len(wrong)} answers with status {wrong[0]}")
    latencies = [int(took) / 1e6 for _, status, took in entries if status == "200"]
    answered = re.search(r"(\d+) succeeded", ended.stdout)
    traffic = re.search(r"\((\d+)\) data", ended.stdout)
    if not latencies or not answered or not traffic:
        raise ValueError("h2load has seen no answer")
    if int(traffic[1]) < size * int(answered[1]):
        raise ValueError(f"answers of less than {size} bytes: some were errors")
    return summary(latencies, seconds)
