"""Runs h2load, a load generator in C++ that leaves nearly all CPU time to the server."""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.loads.greetings import Request
from benchmarks.loads.latencies import summary

INSTALL = "apt install nghttp2-client"
GRPC = "application/grpc"


def program() -> str | None:
    return shutil.which("h2load")


def warn_if_absent() -> None:
    if not program():
        print(f"note: h2load is absent ({INSTALL}): the load will limit", file=sys.stderr)


def load(
    address: str, request: Request, size: int, seconds: float, in_flight: int
) -> dict[str, float]:
    """Keeps `in_flight` requests in flight for `seconds` seconds; replies must have `size` bytes.

    Raises ValueError if a reply is wrong.
    """
    # Over HTTP/1.1 a connection has one request at a time; HTTP/2 carries eight each.
    is_grpc = request.content_type == GRPC
    clients = max(1, in_flight // 8) if is_grpc else in_flight
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder) / "body", Path(folder) / "log"
        body.write_bytes(request.body)
        command = [
            program() or "h2load", f"--duration={seconds * 1000:.0f}ms", f"--log-file={log}",
            f"--clients={clients}", f"--max-concurrent-streams={max(1, in_flight // clients)}",
            f"--data={body}", f"-Hcontent-type: {request.content_type}",
            "-Hte: trailers" if is_grpc else "--h1", f"http://{address}{request.path}",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ValueError(f"h2load: {done.stderr.strip()}")
        entries = [line.split("\t") for line in log.read_text().splitlines()]
    # Requests still in flight at the end have the status 0.
    if wrong := [status for _, status, _ in entries if status not in ("200", "0")]:
        raise ValueError(f"{len(wrong)} replies with status {wrong[0]}")
    latencies = [int(microseconds) / 1e6 for _, status, microseconds in entries if status == "200"]
    answered = re.search(r"(\d+) succeeded", done.stdout)
    traffic = re.search(r"\((\d+)\) data", done.stdout)
    if not latencies or not answered or not traffic:
        raise ValueError("h2load has received no reply")
    if int(traffic[1]) < size * int(answered[1]):
        raise ValueError(f"replies of less than {size} bytes: some were errors")
    return summary(latencies, seconds)
