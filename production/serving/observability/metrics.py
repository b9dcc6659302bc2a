"""Metrics for Prometheus, named after gRPC's A66 where it defines one.

Labels are bounded: the server's own methods, and "other" for all others.
"""

import asyncio
import os
import resource
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from typing import ClassVar, NamedTuple

import structlog
from aiohttp import web
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    generate_latest,
    multiprocess,
)
from prometheus_client.registry import Collector

from production.calling import addresses

OTHER = "other"
"""The label of methods that the server does not have."""
DRAINED = "DRAINED"
"""The status of calls that the drain has ended with UNAVAILABLE, which is not a failure."""
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
BYTES = (64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576)

STARTED = Counter("grpc_server_call_started", "Calls that have begun.", ["grpc_method"])
DURATION = Histogram(
    "grpc_server_call_duration_seconds",
    "How long calls took, by the status they ended with.",
    ["grpc_method", "grpc_status"],
    buckets=SECONDS,
)
IN_FLIGHT = Gauge(
    "grpc_server_calls_in_flight",
    "Calls that have begun and not ended; of WatchContacts, the watchers.",
    ["grpc_method"],
    multiprocess_mode="livesum",
)
MESSAGE_BYTES = Histogram(
    "grpc_server_message_bytes",
    "Size of each message.",
    ["grpc_method", "direction"],
    buckets=BYTES,
)

STREAMING = Gauge(
    "grpc_server_streaming_method",
    "1 for methods with a stream of requests or responses, whose calls may last.",
    ["grpc_method"],
    multiprocess_mode="livemax",
)
KEY_FETCHES = Counter(
    "jwks_fetches", "Fetches of a token issuer's keys, ok or failed.", ["jwks", "result"]
)
CERTIFICATE_BEGINS, CERTIFICATE_ENDS = (
    Gauge(
        f"tls_certificate_{name}_timestamp_seconds",
        f"{name} of the certificate in use, in Unix seconds.",
        ["file"],
        multiprocess_mode="livemin",
    )
    for name in ("not_before", "not_after")
)

log = structlog.get_logger("metrics")


class Method:
    """The metrics of one method, looked up once."""

    def __init__(self, name: str) -> None:
        self.started = STARTED.labels(name)
        self.in_flight = IN_FLIGHT.labels(name)
        self.received = MESSAGE_BYTES.labels(name, "received")
        self.sent = MESSAGE_BYTES.labels(name, "sent")
        self.duration = cache(lambda status: DURATION.labels(name, status))


for_method = cache(Method)
"""for_method(name) returns the metrics of a method of the server."""


class Admission(NamedTuple):
    """The metrics of admission, by the kind of call."""

    places: Gauge
    taken: Gauge
    refused: Counter


def admission(prefix: str) -> Admission:
    """Makes the metrics of admission. Call it once per process."""
    places, taken = (
        Gauge(f"{prefix}_admission_{name}", text, ["kind"], multiprocess_mode="livesum")
        for name, text in (
            ("places", "Calls that may be in progress at a time."),
            ("taken", "Calls that have a place, until gRPC has forgotten them."),
        )
    )
    refused = Counter(
        f"{prefix}_admission_refused",
        "Calls refused because there were too many, on the server or of one caller.",
        ["kind", "limit"],
    )
    return Admission(places, taken, refused)


def transactions(prefix: str) -> Histogram:
    """Makes the histogram of transactions. Call it once per process."""
    return Histogram(
        f"{prefix}_sql_transaction_seconds",
        "How long transactions took, with what they waited for.",
        ["kind"],
        buckets=SECONDS,
    )


Pids = Callable[[], Iterable[int]]


class Processes(Collector):
    """The `process_*` metrics of a supervisor and its workers together, from Linux's /proc.

    Time and memory are sums; open files are those of the process with the most.
    """

    COMBINE: ClassVar[dict[str, Callable[[list[float]], float]]] = {
        "process_open_fds": max,
        "process_max_fds": min,
        "process_start_time_seconds": min,
    }

    def __init__(self, workers: Pids) -> None:
        self._workers = workers
        self._cpu = 0.0

    def collect(self) -> Iterator[Metric]:
        """Yields the metrics."""
        values: dict[str, list[float]] = {}
        metrics: dict[str, Metric] = {}
        for pid in (os.getpid(), *self._workers()):
            for metric in ProcessCollector(pid=partial(int, pid), registry=None).collect():
                metrics.setdefault(metric.name, metric)
                values.setdefault(metric.name, []).append(metric.samples[0].value)
        for name, metric in metrics.items():
            value = self.COMBINE.get(name, sum)(values[name])
            if name == "process_cpu_seconds":
                value = self._cpu = max(self._cpu, value + _seconds_of_the_dead())
            metric.samples = [metric.samples[0]._replace(value=value)]
            yield metric


def _seconds_of_the_dead() -> float:
    """Returns the time that our workers have used which have ended: the sum must not fall."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def registry(folder: str | None = None, workers: Pids = tuple) -> CollectorRegistry:
    """Returns the metrics of this process, or of all workers, which write to folder."""
    if not folder:
        return REGISTRY
    collected = CollectorRegistry()
    multiprocess.MultiProcessCollector(collected, folder)
    collected.register(Processes(workers))
    return collected


async def serve(
    address: str | None, folder: str | None = None, workers: Pids = tuple
) -> web.AppRunner | None:
    """Serves GET /metrics on HOST:PORT, if it is set, until the runner is cleaned up.

    folder and workers, which returns their process ids, are a supervisor's. Raises OSError if the
    address is unavailable.
    """
    if not address:
        return None

    collected = registry(folder, workers)

    async def answer(_request: web.Request) -> web.Response:
        body = await asyncio.to_thread(generate_latest, collected)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/metrics", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, *addresses.parse(address)).start()
    log.info("metrics served", port=runner.addresses[0][1])
    return runner


def mark_worker_dead(pid: int, folder: str) -> None:
    """Removes the gauges of a worker that has ended; its counters stay in the sums."""
    multiprocess.mark_process_dead(pid, folder)
