"""Loads a server with greetings by h2load, a real load generator, and prints what it saw as JSON.

    python -m benchmarks.h2load localhost:50051 grpc --seconds 3

Before, the answer itself is checked; meanwhile its size, which h2load counts.
"""

import argparse
import http.client
import json
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from benchmarks.load import summary
from helloworld.helloworld_pb2 import HelloReply, HelloRequest

NAME, MESSAGE = "world", "Hello, world!"
BRINGS = "apt install nghttp2-client"


class AbsentError(Exception):
    """There is no h2load."""


class Protocol(NamedTuple):
    """How a greeting is asked for."""

    path: str
    content_type: str
    body: bytes
    options: tuple[str, ...] = ()


def framed(data: bytes) -> bytes:
    """A message as gRPC sends it: a byte of flags, the length, the bytes."""
    return struct.pack(">BI", 0, len(data)) + data


REQUEST = HelloRequest(name=NAME).SerializeToString()
METHOD = "/helloworld.Greeter/SayHello"
PROTOCOLS = {
    "grpc": Protocol(METHOD, "application/grpc", framed(REQUEST), ("-Hte: trailers",)),
    "connect": Protocol(METHOD, "application/proto", REQUEST, ("--h1",)),
    "rest": Protocol("/hello", "application/json", json.dumps({"name": NAME}).encode(), ("--h1",)),
}


def check(address: str, kind: str) -> int:
    """Asks once; the size of the right answer, in bytes. Raises ValueError for a wrong one."""
    asked = PROTOCOLS[kind]
    if kind == "grpc":
        with grpc.insecure_channel(address) as channel:
            method: Any = channel.unary_unary(METHOD)
            data = method(REQUEST, timeout=30)
        found, size = HelloReply.FromString(data).message, len(framed(data))
    else:
        connection = http.client.HTTPConnection(address, timeout=30)
        connection.request("POST", asked.path, asked.body, {"Content-Type": asked.content_type})
        data = connection.getresponse().read()
        connection.close()
        if kind == "rest":
            found, size = json.loads(data).get("message"), len(data)
        else:
            found, size = HelloReply.FromString(data).message, len(data)
    if found != MESSAGE:
        raise ValueError(f"wrong reply: {data[:100]!r}")
    return size


def load(address: str, kind: str, seconds: float, in_flight: int) -> dict[str, float]:
    """Keeps so many requests in flight for so many seconds.

    Raises AbsentError, or ValueError when an answer is wrong.
    """
    program = shutil.which("h2load")
    if not program:
        raise AbsentError(f"h2load ({BRINGS})")
    size = check(address, kind)
    asked = PROTOCOLS[kind]
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder) / "body", Path(folder) / "log"
        body.write_bytes(asked.body)
        # Over HTTP/1.1 a connection has one request at a time; HTTP/2 carries eight each.
        clients = in_flight if "--h1" in asked.options else max(1, in_flight // 8)
        command = [
            program, f"--duration={seconds * 1000:.0f}ms", "--warm-up-time=200ms",
            f"--clients={clients}", f"--max-concurrent-streams={max(1, in_flight // clients)}",
            f"--data={body}", f"--log-file={log}", f"-Hcontent-type: {asked.content_type}",
            *asked.options, f"http://{address}{asked.path}",
        ]  # fmt: skip
        ended = subprocess.run(command, capture_output=True, text=True)
        if ended.returncode:
            raise ValueError(f"h2load: {ended.stderr.strip()}")
        output = ended.stdout
        entries = [line.split("\t") for line in log.read_text().splitlines()]
    # What is under way at the end has the status 0.
    if wrong := [status for _, status, _ in entries if status not in ("200", "0")]:
        raise ValueError(f"{len(wrong)} answers with status {wrong[0]}")
    latencies = [int(took) / 1e6 for _, status, took in entries if status == "200"]
    answered = re.search(r"(\d+) succeeded", output)
    traffic = re.search(r"\((\d+)\) data", output)
    if not latencies or not answered or not traffic:
        raise ValueError("h2load has seen no answer")
    if int(traffic[1]) < size * int(answered[1]):
        raise ValueError(f"answers of less than {size} bytes: some were errors")
    return summary(latencies, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description="Load a server with greetings.")
    parser.add_argument("address", help="HOST:PORT")
    parser.add_argument("protocol", choices=PROTOCOLS)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--in-flight", type=int, default=64, help="requests at a time")
    args = parser.parse_args()
    try:
        print(json.dumps(load(args.address, args.protocol, args.seconds, args.in_flight)))
    except grpc.RpcError as error:
        sys.exit(f"error: {error.code().name}: {error.details()}")
    except (AbsentError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
