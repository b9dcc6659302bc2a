"""Weighted round robin by load reports on streams of their own, between calls and during long ones.

Run it:

    GRPC_VERBOSITY=NONE python -m scaling.balancing.out_of_band
"""

import argparse
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import grpc

from scaling import backend
from scaling.balancing.callers import channel_to, policy, shares
from scaling.balancing.v1.load_report_pb2 import LoadReport, LoadReportRequest
from scaling.balancing.weights import CALLS, NAMES

SERVICE = "xds.service.orca.v3.OpenRcaService"
PERIOD = "0.2s"
"""What the client asks for; 10 s by default."""
MIN_SECONDS = 0.1
"""What the server grants at least."""
CONFIG = policy(
    "weighted_round_robin",
    enableOobLoadReport=True,
    oobReportingPeriod=PERIOD,
    blackoutPeriod="0s",
    weightUpdatePeriod="0.1s",
)
PATIENCE = 60.0
"""Seconds in which calls must have followed the reports."""
TOLERANCE = 6


class LoadReports:
    """Streams a backend's load to each client that asks for it."""

    def __init__(self, utilization: float) -> None:
        self.utilization = utilization
        """The share that is in use, from 0 to 1. It may change at any time."""

    def StreamCoreMetrics(
        self, request: LoadReportRequest, context: grpc.ServicerContext
    ) -> Iterator[LoadReport]:
        """Yields a report as often as the client asks for, until it leaves."""
        ended = threading.Event()
        context.add_callback(ended.set)
        seconds = request.report_interval.ToTimedelta().total_seconds()
        while not ended.wait(max(seconds, MIN_SECONDS)):
            yield LoadReport(application_utilization=self.utilization, rps_fractional=100)

    def handler(self) -> Any:
        """Returns the service, for a server's handlers. Each stream holds a thread."""
        method = grpc.unary_stream_rpc_method_handler(
            self.StreamCoreMetrics, LoadReportRequest.FromString, LoadReport.SerializeToString
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"StreamCoreMetrics": method})


def start(stack: ExitStack, reports: Sequence[LoadReports | None]) -> grpc.Channel:
    """Starts a backend for each, with its load reports or without; returns a channel to all."""
    ports = []
    for name, each in zip(NAMES, reports, strict=True):
        handlers = [each.handler()] if each else []
        server, port = backend.start("127.0.0.1:0", name, handlers=handlers)
        stack.callback(backend.stop, server)
        ports.append(port)
    target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
    return stack.enter_context(channel_to(target, CONFIG))


def settled(channel: grpc.Channel, expected: Sequence[int]) -> Counter[str]:
    """Makes 140 calls until they are spread as expected, give or take a few; returns who got them.

    Raises RuntimeError if that does not happen.
    """
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        by = shares(channel, CALLS)
        if all(abs(by[n] - calls) < TOLERANCE for n, calls in zip(NAMES, expected, strict=True)):
            return by
    raise RuntimeError(f"calls do not follow the reports: {dict(by)}")


def main() -> None:
    argparse.ArgumentParser(description="Count calls by load reports.").parse_args()
    with ExitStack() as stack:
        a, b, c = (LoadReports(utilization) for utilization in (0.2, 0.4, 0.8))
        try:
            channel = start(stack, (a, b, c))
            print(f"{CALLS} calls; the backends report{'':6}a   b   c")
            show("utilization 20, 40, 80 %", settled(channel, (80, 40, 20)))
            a.utilization, c.utilization = c.utilization, a.utilization
            show("then 80, 40, 20 %", settled(channel, (20, 40, 80)))
        except RuntimeError as error:
            sys.exit(f"error: {error}")


def show(title: str, by: Counter[str]) -> None:
    print(f"{title:34}" + "".join(f"{by[name]:4}" for name in NAMES), flush=True)


if __name__ == "__main__":
    main()
