"""A deadline goes with a call from server to server, as long as each of them passes it on.

Run it:

    GRPC_VERBOSITY=NONE python -m production.lessons.deadlines
"""

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from queue import SimpleQueue

import grpc
from google.protobuf.duration_pb2 import Duration

from production.development import echo_server
from protos.echo.v1.echo_pb2 import EchoRequest, EchoResponse
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub, add_EchoServiceServicer_to_server

HOPS = ["client", "one", "two", "three"]
TIMEOUT = 1.0
"""Seconds that the client waits."""
WORK = Duration(seconds=3)
"""How long server three takes: too long."""


class Forgetful(echo_server.EchoServicer):
    """Passes a call on, and not the time that remains."""

    def UnaryEcho(self, request: EchoRequest, context: grpc.ServicerContext) -> EchoResponse:
        with grpc.insecure_channel(request.via.pop(0)) as channel:
            response = EchoServiceStub(channel).UnaryEcho(request)  # No timeout.
        # The deadline has ended the call, not this thread: it must ask.
        left, active = context.time_remaining(), context.is_active()
        self._report(f"{self._name}: has its answer, {left:.1f} s left, is_active() is {active}")
        return response


def start(name: str, report: echo_server.Report, forgets: bool) -> tuple[grpc.Server, int]:
    """Starts one of the servers; returns it and its port."""
    if not forgets:
        return echo_server.start("127.0.0.1:0", name, report)
    server = grpc.server(ThreadPoolExecutor(2))
    add_EchoServiceServicer_to_server(Forgetful(name, report), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


def show(forgetful: str | None) -> None:
    """Calls server three by way of one and two, and prints when and how each of them ended."""
    ends: SimpleQueue[tuple[float, str]] = SimpleQueue()

    def report(line: str) -> None:
        ends.put((time.monotonic() - began, line))

    with ExitStack() as stack:
        addresses = []
        for name in HOPS[1:]:
            server, port = start(name, report, name == forgetful)
            stack.callback(server.stop, None)
            addresses.append(f"127.0.0.1:{port}")
        stub = EchoServiceStub(stack.enter_context(grpc.insecure_channel(addresses[0])))
        began = time.monotonic()
        try:
            stub.UnaryEcho(EchoRequest(via=addresses[1:], delay=WORK), timeout=TIMEOUT)
        except grpc.RpcError as error:
            report(f"client: {error.code().name}")
        lines = [ends.get(timeout=30) for _ in HOPS]
    for seconds, line in sorted(lines, key=lambda end: HOPS.index(end[1].partition(":")[0])):
        print(f"  {seconds:.0f} s  {line}")


def main() -> None:
    argparse.ArgumentParser(description="Show a deadline over three servers.").parse_args()
    print("each server passes on the time that remains")
    show(forgetful=None)
    print("server two does not")
    show(forgetful="two")


if __name__ == "__main__":
    main()
