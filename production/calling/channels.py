"""Options of a channel: retries, load balancing by health, and keepalive."""

import json
from typing import Any

RETRY_POLICY = {
    # Safe for methods that only read, and for those whose requests carry an id (AIP-155).
    "maxAttempts": 5,  # gRPC allows no more.
    "initialBackoff": "0.1s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    # A grpc.aio server that is stopping answers a late call with CANCELLED.
    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
}


def channel_options(service: str) -> list[tuple[str, Any]]:
    """Returns options for a channel to a service whose methods are all safe to repeat."""
    service_config = {
        # Spread calls over all addresses of a name, except those that report NOT_SERVING.
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": service},
        # A stream is retried until it has received a message or sent 256 KiB.
        "methodConfig": [{"name": [{"service": service}], "retryPolicy": RETRY_POLICY}],
    }
    return [
        ("grpc.service_config", json.dumps(service_config)),
        # After an outage, however long, we are back in so many milliseconds and a fifth. By default
        # the time between two attempts to connect grows to two minutes.
        ("grpc.max_reconnect_backoff_ms", 3_000),
        # A dead connection is noticed after 30 s. The server allows one ping in 10 s.
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.http2.ping_timeout_ms", 10_000),  # grpc.keepalive_timeout_ms would leave it at 60 s.
        ("grpc.http2.max_pings_without_data", 0),  # By default gRPC sends two, then one a minute.
        ("grpc.keepalive_permit_without_calls", 1),
    ]
