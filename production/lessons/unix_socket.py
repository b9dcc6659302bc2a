"""A Unix socket instead of a port: for a sidecar or a plugin on the same machine.

python -m production.lessons.unix_socket
"""

import argparse
import stat
import statistics
import tempfile
import time
from pathlib import Path

import grpc

from production.lessons import echo_server
from protos.echo.v1.echo_pb2 import EchoRequest
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub

CALLS, ROUNDS = 300, 5


def seconds(stub: EchoServiceStub) -> float:
    """How long many calls take, one after the other."""
    started = time.perf_counter()
    for _ in range(CALLS):
        stub.UnaryEcho(EchoRequest(), timeout=30)
    return time.perf_counter() - started


def show(folder: Path) -> None:
    """Serves on a socket in the folder, looks at it, and compares it with loopback."""
    path = folder / "echo.sock"
    server, port = echo_server.start(f"unix:{path}", report=lambda _: None)
    by_port, number = echo_server.start("127.0.0.1:0", report=lambda _: None)
    print(
        f"port {port}, {stat.filemode(path.stat().st_mode)}, in a folder that is "
        f"{stat.filemode(folder.stat().st_mode)}"
    )
    with (
        grpc.insecure_channel(f"unix:{path}") as local,
        grpc.insecure_channel(f"127.0.0.1:{number}") as loopback,
    ):
        stubs = EchoServiceStub(local), EchoServiceStub(loopback)
        ratios = [seconds(stubs[0]) / seconds(stubs[1]) for _ in range(ROUNDS)]
    print(f"time of a call: {statistics.median(ratios):.2f} of that by loopback")
    by_port.stop(None).wait()
    server.stop(None).wait()
    print("left behind:", [file.name for file in folder.iterdir()])


def main() -> None:
    argparse.ArgumentParser(description="Show a server on a Unix socket.").parse_args()
    with tempfile.TemporaryDirectory() as folder:
        show(Path(folder))


if __name__ == "__main__":
    main()
