"""One connection carries all calls of a channel; a channel for each call is slow.

python -m production.lessons.multiplexing
"""

import argparse
import statistics
import time
from collections.abc import Callable

import grpc
from google.protobuf.duration_pb2 import Duration

from production.lessons import echo_server
from production.lessons.wire import Wire
from protos.echo.v1.echo_pb2 import EchoRequest
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub

CALLS, ROUNDS = 50, 5
OWN = [("grpc.use_local_subchannel_pool", 1)]


def at_once(address: str) -> None:
    """Twenty calls at the same time on one channel."""
    with grpc.insecure_channel(address) as channel:
        stub = EchoServiceStub(channel)
        request = EchoRequest(delay=Duration(nanos=100_000_000))
        calls = [stub.UnaryEcho.future(request, timeout=30) for _ in range(20)]
        for call in calls:
            call.result()


def one_channel(address: str) -> None:
    """All calls on one channel, one after the other."""
    with grpc.insecure_channel(address) as channel:
        for _ in range(CALLS):
            EchoServiceStub(channel).UnaryEcho(EchoRequest(), timeout=30)


def channel_each(address: str) -> None:
    """A channel for each call."""
    for _ in range(CALLS):
        with grpc.insecure_channel(address) as channel:
            EchoServiceStub(channel).UnaryEcho(EchoRequest(), timeout=30)


def two_channels(address: str, options: list[tuple[str, int]]) -> None:
    """Two channels to one address, open at the same time."""
    with (
        grpc.insecure_channel(address, options) as first,
        grpc.insecure_channel(address, options) as second,
    ):
        EchoServiceStub(first).UnaryEcho(EchoRequest(), timeout=30)
        EchoServiceStub(second).UnaryEcho(EchoRequest(), timeout=30)


def connections(port: int, work: Callable[[str], None]) -> int:
    """How many connections some work has opened."""
    with Wire(port) as wire:
        work(wire.address)
        return wire.connections


def seconds(work: Callable[[str], None], address: str) -> float:
    """How long some work takes."""
    started = time.perf_counter()
    work(address)
    return time.perf_counter() - started


def show(port: int) -> None:
    """Counts connections, then compares times, round by round."""
    for title, work in (
        ("20 calls at once", at_once),
        (f"{CALLS} calls, one channel", one_channel),
        (f"{CALLS} calls, a channel each", channel_each),
        ("two channels", lambda address: two_channels(address, [])),
        ("two channels, pools of their own", lambda address: two_channels(address, OWN)),
    ):
        print(f"{title:34}{connections(port, work)} connections")
    address = f"127.0.0.1:{port}"
    ratios = [seconds(channel_each, address) / seconds(one_channel, address) for _ in range(ROUNDS)]
    print(f"a channel for each call takes {statistics.median(ratios):.1f} times as long")


def main() -> None:
    argparse.ArgumentParser(description="Count connections.").parse_args()
    server, port = echo_server.start("127.0.0.1:0", report=lambda _: None)
    show(port)
    server.stop(None).wait()


if __name__ == "__main__":
    main()
