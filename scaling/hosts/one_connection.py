"""Measures HTTP/2's one connection beside six, of gRPC and of HTTP/1.1, on a lossy line.

Run it:

    python -m scaling.hosts.one_connection
"""

import argparse
import http.client
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import grpc

from production.development import child
from protos.echo.v1.echo_pb2 import EchoRequest, EchoResponse
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub
from scaling.hosts.network import Host, enter, host

CALLERS = 6
"""Each calls again as soon as it has its answer. Browsers open as many connections by HTTP/1.1."""
DELAY_MS = 10
LOSSES = (0, 0.01, 0.02, 0.05)
TIMEOUT_S = 60.0
GRPC_PORT, HTTP_PORT = 50051, 8080

Call = Callable[[], object]


def grpc_calls(there: Host, size: int, channels: int, stack: ExitStack) -> list[Call]:
    """Returns a call for each caller, for `size` bytes, over channels with a connection each."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    target, request = f"{there.address}:{GRPC_PORT}", EchoRequest(payload_bytes=size)
    stubs = [
        EchoServiceStub(stack.enter_context(grpc.insecure_channel(target, options)))
        for _ in range(channels)
    ]
    return [
        lambda stub=stub: stub.UnaryEcho(request, timeout=TIMEOUT_S)  # type: ignore[misc]
        for stub in stubs * (CALLERS // channels)
    ]


def http_calls(there: Host, size: int, stack: ExitStack) -> list[Call]:
    """Returns a call for each caller, for `size` bytes, each over a connection of its own."""

    def call(connection: http.client.HTTPConnection) -> EchoResponse:
        connection.request("GET", f"/{size}")
        return EchoResponse.FromString(connection.getresponse().read())

    calls: list[Call] = []
    for _ in range(CALLERS):
        connection = http.client.HTTPConnection(there.address, HTTP_PORT, timeout=TIMEOUT_S)
        stack.callback(connection.close)
        calls.append(lambda connection=connection: call(connection))  # type: ignore[misc]
    return calls


def times(calls: list[Call], seconds: float) -> list[float]:
    """Lets all callers call for `seconds` seconds; returns how many each call took."""
    took: list[float] = []
    stopped = threading.Event()
    ends = time.monotonic() + seconds

    def repeat(call: Call) -> None:
        while (began := time.monotonic()) < ends and not stopped.is_set():
            call()
            took.append(time.monotonic() - began)

    with ThreadPoolExecutor(len(calls)) as callers:
        try:
            for each in [callers.submit(repeat, call) for call in calls]:
                each.result()
        finally:  # Also after Ctrl-C.
            stopped.set()
    return took


@contextmanager
def serving(congestion: str) -> Iterator[Host]:
    """Runs both servers on a host for a block."""
    with host("server", delay_ms=DELAY_MS, congestion=congestion) as there, ExitStack() as stack:
        for module, port in (("server", GRPC_PORT), ("http1_server", HTTP_PORT)):
            where = f"--address={there.address}:{port}"
            stack.enter_context(child.server(there.python(f"scaling.hosts.{module}", where)))
        yield there


def measure(there: Host, loss: float, size: int, seconds: float) -> None:
    """Prints the rows of one loss."""
    with ExitStack() as stack:
        ways = {
            "gRPC, 1 connection": grpc_calls(there, size, 1, stack),
            "gRPC, 6 connections": grpc_calls(there, size, CALLERS, stack),
            "HTTP/1.1, 6 connections": http_calls(there, size, stack),
        }
        for calls in ways.values():
            times(calls, 0.5)  # Connected, and as fast as TCP becomes.
        there.lose(loss)
        for title, calls in ways.items():
            took = times(calls, seconds)
            percentiles = statistics.quantiles(took, n=100)
            middle, high = percentiles[49] * 1000, percentiles[98] * 1000
            row = f"{title:25}{len(took) / seconds:8.0f}/s{middle:8.0f} ms{high:8.0f} ms"
            print(f"{loss:4.0%}  {row}", flush=True)
        there.heal()


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure one connection beside six.")
    parser.add_argument("--seconds", type=float, default=5, help="each (default: %(default)s)")
    parser.add_argument("--bytes", type=int, default=10_000, help="response (default: %(default)s)")
    parser.add_argument("--congestion", default="cubic", help="or bbr (default: %(default)s)")
    args = parser.parse_args()
    if not args.seconds > 0 or args.bytes < 0:
        parser.error("--seconds must be above 0, and --bytes not below")
    enter("scaling.hosts.one_connection")
    try:
        with serving(args.congestion) as there:
            print(f"lost  {'six callers by':25}{'calls':>10}{'median':>11}{'99 %':>11}")
            for loss in LOSSES:
                measure(there, loss, args.bytes, args.seconds)
    except subprocess.CalledProcessError as error:  # This kernel may not have bbr.
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
