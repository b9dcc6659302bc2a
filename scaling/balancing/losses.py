"""Counts the calls that are lost when a backend is killed, drained, hangs or fails.

Run it:

    GRPC_VERBOSITY=NONE python -m scaling.balancing.losses
"""

import argparse
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from google.protobuf.duration_pb2 import Duration

from protos.echo.v1.echo_pb2 import EchoRequest
from scaling.backend import Process, processes
from scaling.balancing.callers import Callers, Options, channel_to, policy

REQUEST = EchoRequest(delay=Duration(nanos=30_000_000))
"""Long enough that there are always calls in flight, on each backend."""
SHORT = 0.3
"""Seconds that a caller waits for a backend that may hang."""
RETRY = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.02s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
HEALTH = {"healthCheckConfig": {"serviceName": ""}}
OUTLIERS = policy(
    "outlier_detection_experimental",
    interval="0.2s",  # 10 s by default.
    failurePercentageEjection={"threshold": 50, "minimumHosts": 3, "requestVolume": 3},
    childPolicy=[{"round_robin": {}}],
)
PAUSE = "--pause=0.3"
"""Long enough for clients that watch health. In production: for the slowest of them."""
PINGS: Options = [("grpc.keepalive_time_ms", 1000), ("grpc.http2.ping_timeout_ms", 200)]


@dataclass
class Case:
    """What happens to a backend, and what protects its clients."""

    event: str
    number: signal.Signals
    protection: str = "nothing"
    config: Mapping[str, object] = field(default_factory=dict)
    options: Options = ()
    timeout: float = 30.0
    after: float = 1.0
    """Seconds of calls after the event."""


CASES = [
    Case("killed", signal.SIGKILL),
    Case("killed", signal.SIGKILL, "retryPolicy", RETRY),
    Case("drained", signal.SIGTERM),
    Case("drained", signal.SIGTERM, "healthCheckConfig", HEALTH),
    Case("hangs", signal.SIGSTOP, timeout=SHORT),
    Case("hangs", signal.SIGSTOP, "keepalive", {}, PINGS, SHORT, after=2),
    Case("NOT_SERVING", signal.SIGUSR1),
    Case("NOT_SERVING", signal.SIGUSR1, "healthCheckConfig", HEALTH),
    Case("fails", signal.SIGUSR2),
    Case("fails", signal.SIGUSR2, "outlier detection", OUTLIERS),
]


class Result(NamedTuple):
    """Calls after an event: answered by a, by b, by the backend it happened to; and lost calls."""

    a: int
    b: int
    victim: int
    lost: int
    noticed: float | None
    """Seconds until no more calls were sent to it. None if that did not happen."""


def happen(case: Case, backends: Sequence[Process]) -> Result:
    """Injects the fault into the last of three backends under load."""
    a, b, victim = backends
    target = "ipv4:" + ",".join(backend.address for backend in backends)
    config = policy("round_robin") | dict(case.config)
    with channel_to(target, config, case.options) as channel:
        with Callers(channel, REQUEST, case.timeout) as callers:
            for backend in backends:
                callers.wait_for(backend.name, 30)
            event = time.monotonic()
            victim.send(case.number)
            time.sleep(case.after)  # The callers are at work meanwhile.
        outcomes = callers.outcomes(event)
    touched = [outcome.at for outcome in outcomes if outcome.is_lost or outcome.by == victim.name]
    last = max(touched, default=event) - event
    by = [outcome.by for outcome in outcomes]
    return Result(
        by.count(a.name),
        by.count(b.name),
        by.count(victim.name),
        sum(outcome.is_lost for outcome in outcomes),
        last if last < case.after - SHORT else None,
    )


def main() -> None:
    argparse.ArgumentParser(description="Count the calls that are lost.").parse_args()
    victims = [f"victim {number}" for number in range(len(CASES))]
    with processes(["a", "b", *victims], PAUSE) as backends:
        print(f"{'event':12}{'against it':18}   a    b  victim  lost  noticed after")
        for case, victim in zip(CASES, victims, strict=True):
            targets = [backends[name] for name in ("a", "b", victim)]
            result = happen(case, targets)
            noticed = "never" if result.noticed is None else f"{result.noticed:.1f} s"
            counts = f"{result.a:4} {result.b:4} {result.victim:7} {result.lost:5}"
            print(f"{case.event:12}{case.protection:18}{counts}  {noticed}", flush=True)


if __name__ == "__main__":
    main()
