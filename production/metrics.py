"""What operators watch, for Prometheus. Names are after gRPC's A66 where it has one.

Labels are bounded: methods are the server's own, all others count as "other".
"""

import asyncio
from functools import cache

import structlog
from aiohttp import web
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

OTHER = "other"
"""The method of calls that the server does not have."""
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
REFUSED = Counter("contacts_admission_refused", "Calls refused because there were too many.")
SQL = Histogram(
    "contacts_sql_transaction_seconds",
    "How long transactions took, with what they waited for.",
    ["kind"],
    buckets=SECONDS,
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


of = cache(Method)
"""of(method) gives the metrics of a method that the server has."""
transaction = cache(SQL.labels)
"""transaction(kind) gives the histogram of transactions that read or write."""


def registry(folder: str | None = None) -> CollectorRegistry:
    """Where the metrics are: of this process, or of all that write to a folder."""
    if not folder:
        return REGISTRY
    collected = CollectorRegistry()
    multiprocess.MultiProcessCollector(collected, folder)
    return collected


async def serve(address: str | None, folder: str | None = None) -> web.AppRunner | None:
    """Serves GET /metrics on HOST:PORT, if there is one, until the runner is cleaned up.

    Raises OSError when the address cannot be had.
    """
    if not address:
        return None

    async def answer(_request: web.Request) -> web.Response:
        body = await asyncio.to_thread(generate_latest, registry(folder))
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/metrics", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    host, _, port = address.rpartition(":")
    await web.TCPSite(runner, host.strip("[]"), int(port)).start()
    log.info("metrics served", port=runner.addresses[0][1])
    return runner


def forget(pid: int, folder: str) -> None:
    """Removes the gauges of a worker that has ended; what it has counted stays in the sums."""
    multiprocess.mark_process_dead(pid, folder)
