"""A deadline over three servers: each is told how much time is left, and stops when there is none.

python -m production.lessons.deadlines
"""

import argparse
import queue
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf.duration_pb2 import Duration

from production.lessons import echo_server
from production.lessons.echo_server import EchoServicer
from protos.echo.v1.echo_pb2 import EchoRequest, EchoResponse
from protos.echo.v1.echo_pb2_grpc import (
    EchoServiceStub,
    add_EchoServiceServicer_to_server,
)


class Forgetful(EchoServicer):
    """Passes calls on, and forgets how long its caller waits."""

    def UnaryEcho(self, request: EchoRequest, context: grpc.ServicerContext) -> EchoResponse:
        with grpc.insecure_channel(request.via.pop(0)) as channel:
            return EchoServiceStub(channel).UnaryEcho(request)


def ask(address: str, via: list[str], delay: Duration) -> None:
    """Asks for an answer, for which each server takes so long, and prints how that ends."""
    request = EchoRequest(message="far", via=via, delay=delay)
    started = time.monotonic()
    with grpc.insecure_channel(address) as channel:
        try:
            response = EchoServiceStub(channel).UnaryEcho(request, timeout=1)
            print(f"client: answered by {response.served_by}")
        except grpc.RpcError as error:
            print(f"client: {error.code().name} after {time.monotonic() - started:.1f} s")


def show() -> None:
    """Asks over three servers, in time and too late, then over one that forgets the deadline."""
    reports: queue.Queue[str] = queue.Queue()
    servers, addresses = [], []
    for name in ("first", "second", "third"):
        server, port = echo_server.start("127.0.0.1:0", name, reports.put)
        servers.append(server)
        addresses.append(f"127.0.0.1:{port}")
    forgetful = grpc.server(ThreadPoolExecutor(1))
    add_EchoServiceServicer_to_server(Forgetful("", print), forgetful)
    port = forgetful.add_insecure_port("127.0.0.1:0")
    forgetful.start()
    servers.append(forgetful)

    for title, address, via, milliseconds, count in (
        ("three servers, each takes 0.2 s", addresses[0], addresses[1:], 200, 3),
        ("three servers, each takes 0.4 s", addresses[0], addresses[1:], 400, 3),
        (
            "a server that forgets, one that takes 1.5 s",
            f"127.0.0.1:{port}",
            addresses[2:],
            1500,
            1,
        ),
    ):
        print(title)
        delay = Duration()
        delay.FromMilliseconds(milliseconds)
        ask(address, via, delay)
        for line in sorted(reports.get() for _ in range(count)):
            print(f"  {line}")
    for server in servers:
        server.stop(None).wait()


def main() -> None:
    argparse.ArgumentParser(description="Show a deadline on its way.").parse_args()
    show()


if __name__ == "__main__":
    main()
