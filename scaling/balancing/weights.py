"""Weighted round robin: backends report their load in trailers, and get calls accordingly.

Run it:

    GRPC_VERBOSITY=NONE python -m scaling.balancing.weights
"""

import argparse
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import grpc

from production.development.echo_server import EchoServicer
from protos.echo.v1.echo_pb2 import EchoRequest, EchoResponse
from scaling import backend
from scaling.backend import THREADS
from scaling.balancing.callers import channel_to, policy, shares, who
from scaling.balancing.v1.load_report_pb2 import LoadReport

NAMES = ("a", "b", "c")
KEY = "endpoint-load-metrics-bin"
Report = Callable[[float], LoadReport | None]
"""Called with the seconds that a call took; returns the report for its trailers."""
WINDOW = 5.0
"""Seconds that a meter looks back."""
CALLS = 140
WARM_UP = 1.0
"""Seconds of calls before the count, so that reports have arrived and taken effect."""
AT_ONCE: dict[str, object] = {"blackoutPeriod": "0s", "weightUpdatePeriod": "0.1s"}


class Reporter(grpc.ServerInterceptor):
    """Adds a load report to the trailers of each unary call, however it ends."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        handler = continuation(details)
        if not handler or not handler.unary_unary:
            return handler

        def serve(request: Any, context: Any) -> Any:
            started = time.monotonic()
            try:
                return handler.unary_unary(request, context)
            finally:
                if report := self._report(time.monotonic() - started):
                    own = context.trailing_metadata() or ()
                    context.set_trailing_metadata((*own, (KEY, report.SerializeToString())))

        return grpc.unary_unary_rpc_method_handler(
            serve, handler.request_deserializer, handler.response_serializer
        )


class Meter:
    """Measures what a report needs: the rate of calls, and the share of busy threads."""

    def __init__(self, threads: int = THREADS) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self._calls: deque[tuple[float, float]] = deque()

    def __call__(self, seconds: float) -> LoadReport:
        now = time.monotonic()
        with self._lock:
            self._calls.append((now, seconds))
            while self._calls[0][0] < now - WINDOW:
                self._calls.popleft()
            busy = sum(seconds for _, seconds in self._calls)
            return LoadReport(
                rps_fractional=len(self._calls) / WINDOW,
                application_utilization=busy / WINDOW / self._threads,
            )


class Working(EchoServicer):
    """EchoService that takes some time for each call."""

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(name, lambda _: None)
        self._seconds = seconds

    def UnaryEcho(self, request: EchoRequest, context: grpc.ServicerContext) -> EchoResponse:
        time.sleep(self._seconds)
        return super().UnaryEcho(request, context)


def reports(utilization: float, *, rps: float = 100, eps: float = 0) -> Report:
    """Returns a report that is always the same."""
    report = LoadReport(application_utilization=utilization, rps_fractional=rps, eps=eps)
    return lambda _: report


def silent(_: float) -> None:
    """Reports nothing."""


Backends = Sequence[tuple[Report, float]]
"""What each reports, and the seconds it takes for a call."""
FIXED: Backends = [(reports(0.2), 0), (reports(0.4), 0), (reports(0.8), 0)]
CASES: dict[str, tuple[Backends, dict[str, object]]] = {
    "no reports": ([(silent, 0)] * 3, AT_ONCE),
    "utilization 20, 40, 80 %": (FIXED, AT_ONCE),
    "the same, first 10 s": (FIXED, {}),
    "the same, without rps": ([(reports(u, rps=0), 0) for u in (0.2, 0.4, 0.8)], AT_ONCE),
    "c sends none": ([*FIXED[:2], (silent, 0)], AT_ONCE),
    "b and c send none": ([FIXED[0], (silent, 0), (silent, 0)], AT_ONCE),
    "20 % each; 0, 20, 60 % fail": ([(reports(0.2, eps=e), 0) for e in (0, 20, 60)], AT_ONCE),
    "measured; calls take 5, 10, 20 ms": (
        [(Meter(), s) for s in (0.005, 0.01, 0.02)],
        AT_ONCE,
    ),
}


def served(backends: Backends, settings: dict[str, object]) -> Counter[str]:
    """Counts who gets the calls."""
    with ExitStack() as stack:
        ports = []
        for name, (report, seconds) in zip(NAMES, backends, strict=True):
            server, port = backend.start(
                "127.0.0.1:0",
                name,
                servicer=Working(name, seconds),
                interceptors=[Reporter(report)],
            )
            stack.callback(backend.stop, server)
            ports.append(port)
        target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
        config = policy("weighted_round_robin", **settings)
        channel = stack.enter_context(channel_to(target, config))
        latest = time.monotonic() + WARM_UP
        while time.monotonic() < latest:
            who(channel)
        return shares(channel, CALLS)


def main() -> None:
    argparse.ArgumentParser(description="Count calls by weight.").parse_args()
    print(f"{CALLS} calls; the backends report{'':6}a   b   c")
    for title, (backends, settings) in CASES.items():
        by = served(backends, settings)
        print(f"{title:34}" + "".join(f"{by[name]:4}" for name in NAMES))


if __name__ == "__main__":
    main()
