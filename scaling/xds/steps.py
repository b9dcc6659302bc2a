"""Counts who answers calls after each change of the configuration, and without a control plane.

Run it:

    GRPC_VERBOSITY=NONE python -m scaling.xds.steps weights

At each step calls are counted with the control plane up, then once more after it has been killed.
The lessons are weights, failover and faults.
"""

import argparse
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import grpc
from google.protobuf.duration_pb2 import Duration

from production.development.programs import AbsentError
from protos.echo.v1.echo_pb2 import EchoRequest, EchoResponse
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub
from scaling.xds.scene import SERVERS, Edits, Scene, scene, wait_until

TITLES = {"caller": "gRPC client", "envoy": "by Envoy"}
CALLS = 400
SETTLED = 100
"""Calls that must all end as a step expects, before it counts."""
TIMEOUT = 30.0
IN_FLIGHT = 40
SLOW = EchoRequest(delay=Duration(seconds=2))
CANARY: Edits = {"canary, weight: 0": "canary, weight: 20"}
SPARE: Edits = {
    "port_value: STABLE_PORT}}}\n": """port_value: STABLE_PORT}}}
    - locality: {zone: b}
      priority: 1
      load_balancing_weight: 1
      lb_endpoints:
        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: SPARE_PORT}}}
"""
}
FAULT = """match: {prefix: /}
          typed_per_filter_config:
            fault:
              "@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault
"""
ABORT: Edits = {
    "match: {prefix: /}\n": FAULT
    + """              abort: {grpc_status: 14, percentage: {numerator: 25}}
"""
}
DELAY: Edits = {
    "match: {prefix: /}\n": FAULT
    + """              delay: {fixed_delay: 0.05s, percentage: {numerator: 100}}
"""
}
LIMIT: Edits = {
    "name: stable\n  type: EDS\n": """name: stable
  type: EDS
  circuit_breakers: {thresholds: [{max_requests: 10}]}
"""
}
TOO_LARGE: Edits = {"canary, weight: 0": "canary, weight: 4294967295"}


class Step(NamedTuple):
    """A state of the file, what happens then, and who answers or fails from then on."""

    title: str
    edits: Edits
    expected: set[str]
    event: Callable[[Scene], None] = lambda _: None
    calls: int = CALLS
    in_flight: bool = False


LESSONS = {
    "weights": [
        Step("discovery", {}, {"stable"}),
        Step("canary: 20 of 100", CANARY, {"stable", "canary"}),
        Step("canary: taken back", {}, {"stable"}),
        Step("a bad update", TOO_LARGE, {"stable"}),
    ],
    "failover": [
        Step("zone b stands by", SPARE, {"stable"}),
        Step("zone a is killed", SPARE, {"spare"}, lambda scene: scene.servers["stable"].kill()),
        Step("zone a is back", SPARE, {"stable"}, lambda scene: scene.servers["stable"].start()),
    ],
    "faults": [
        Step("abort 25 % of calls", ABORT, {"stable", "UNAVAILABLE"}),
        Step("delay calls by 50 ms", DELAY, {"stable"}, calls=20),
        Step("at most 10 in flight", LIMIT, {"stable"}, calls=IN_FLIGHT, in_flight=True),
    ],
}


class Count(NamedTuple):
    """Calls by the server that answered or the code they failed with."""

    by: Counter[str]
    milliseconds: float
    """For each, on average."""

    def __str__(self) -> str:
        failed = self.by.total() - sum(self.by[name] for name in SERVERS)
        columns = (*(self.by[name] for name in SERVERS), failed, round(self.milliseconds))
        return "".join(f"{column:7}" for column in columns)


def outcome(call: Callable[[], EchoResponse]) -> str:
    """Returns who has answered a call, or the name of the code that it failed with."""
    try:
        return call().served_by
    except grpc.RpcError as error:
        return str(error.code().name)


def outcomes(channel: grpc.Channel, calls: int) -> Iterator[str]:
    """Makes calls, one after the other."""
    stub = EchoServiceStub(channel)
    for _ in range(calls):
        yield outcome(lambda: stub.UnaryEcho(EchoRequest(), timeout=TIMEOUT))


def count(channel: grpc.Channel, step: Step) -> Count:
    """Makes the calls of a step."""
    started = time.monotonic()
    if step.in_flight:
        stub = EchoServiceStub(channel)
        futures = [stub.UnaryEcho.future(SLOW, timeout=TIMEOUT) for _ in range(step.calls)]
        by = Counter(outcome(future.result) for future in futures)
    else:
        by = Counter(outcomes(channel, step.calls))
    return Count(by, (time.monotonic() - started) * 1_000 / step.calls)


def settle(channel: grpc.Channel, step: Step) -> None:
    """Calls until each server of a step has answered, and for a while none of the others."""
    calls = min(SETTLED, step.calls)
    wait_until(lambda: set(outcomes(channel, calls)) == step.expected)


def counts(scene: Scene, steps: Sequence[Step]) -> Iterator[tuple[Step, str, dict[str, Count]]]:
    """Takes each step, and yields what each client counts: first with the control plane up."""
    for number, step in enumerate(steps):
        if number:
            scene.restart()
        scene.apply(step.edits)
        step.event(scene)
        for channel in scene.channels.values():
            settle(channel, step)
        for state in ("up", "killed"):
            if state == "killed":
                scene.control_plane.kill()
            yield step, state, {name: count(each, step) for name, each in scene.channels.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Count calls after each change.")
    parser.add_argument("lesson", choices=LESSONS)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        with scene() as found:
            heads = "".join(f"{name:>7}" for name in (*SERVERS, "failed", "ms"))
            clients = "".join(f"{TITLES[name]:>35}" for name in found.channels)
            print(f"{'':21}control{clients}")
            print(f"{'':21}plane  " + heads * len(found.channels))
            for step, state, seen in counts(found, LESSONS[args.lesson]):
                title = step.title if state == "up" else ""
                print(f"{title:21}{state:7}", *seen.values(), sep="", flush=True)
            if found.absent:
                print(f"without Envoy, absent: {found.absent}")
    except (AbsentError, RuntimeError, TimeoutError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
