"""Measures how long a new or a returning backend waits for its first call.

Run it:

    GRPC_VERBOSITY=NONE python -m scaling.balancing.arrivals
"""

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

import grpc
from google.protobuf.duration_pb2 import Duration

from protos.echo.v1.echo_pb2 import EchoRequest
from scaling import backend
from scaling.balancing.callers import Callers, Options, channel_to, policy
from scaling.balancing.name_server import NameServer
from scaling.balancing.policies import HOSTS, NAMES, start_on_one_port

NAME = "echo.example"
PATIENCE = 2.0
"""Seconds after which the lesson gives up."""
DOWN = 0.3
REQUEST = EchoRequest(delay=Duration(nanos=5_000_000))
AGE: backend.Options = [("grpc.max_connection_age_ms", 500)]
ASK_OFTEN: Options = [("grpc.dns_min_time_between_resolutions_ms", 500)]
"""By default a channel resolves its name at most once in 30 s."""
CONNECT_SOON: Options = [("grpc.initial_reconnect_backoff_ms", 100)]
"""By default a channel waits 1 s after a first connection that failed."""


@dataclass
class Case:
    """What happens, and how servers and channel are configured."""

    title: str
    happens: Callable[["Scene"], None]
    age: backend.Options = ()
    options: Options = ()


class Scene(NamedTuple):
    """Three backends, of which the name server knows the first two."""

    servers: list[grpc.Server]
    port: int
    names: NameServer


def add_record(scene: Scene) -> None:
    """The name server learns of the third backend."""
    scene.names.records[NAME] = list(HOSTS)


def replace(scene: Scene) -> None:
    """The third backend takes the place of the second, which is drained."""
    scene.names.records[NAME] = [HOSTS[0], HOSTS[2]]
    scene.servers[1].stop(5)


CASES = [
    Case("a new record", add_record, (), ASK_OFTEN),
    Case("the same, connections end after 0.5 s", add_record, AGE),
    Case("the same, asks every 0.5 s", add_record, AGE, ASK_OFTEN),
    Case("a new record, another backend goes", replace, (), ASK_OFTEN),
]


class Result(NamedTuple):
    """Seconds until the third backend gets calls, None if it does not; questions asked; losses."""

    seconds: float | None
    asked: int
    lost: int


def arrive(case: Case) -> Result:
    """Makes it happen under load; returns when the third backend got its first call."""
    with ExitStack() as stack:
        servers, port = start_on_one_port(stack, case.age)
        names = stack.enter_context(NameServer({NAME: HOSTS[:2]}))
        target = names.target(NAME, port)
        channel = stack.enter_context(channel_to(target, policy("round_robin"), case.options))
        with Callers(channel, REQUEST) as callers:
            for name in NAMES[:2]:
                callers.wait_for(name, 30)
            asked, event = len(names.asked), time.monotonic()
            case.happens(Scene(servers, port, names))
            seen = callers.wait_for(NAMES[2], PATIENCE)
            asked = len(names.asked) - asked
        lost = sum(outcome.is_lost for outcome in callers.outcomes())
        return Result(seen and seen - event, asked, lost)


def come_back(options: Options) -> Result:
    """Stops a backend for a moment, and starts it again on its address."""
    with ExitStack() as stack:
        servers, port = start_on_one_port(stack)
        target = "ipv4:" + ",".join(f"{host}:{port}" for host in HOSTS)
        channel = stack.enter_context(channel_to(target, policy("round_robin"), options))
        with Callers(channel, REQUEST) as callers:
            for name in NAMES:
                callers.wait_for(name, 30)
            servers[2].stop(1).wait()
            time.sleep(DOWN)
            event = time.monotonic()
            server, _ = backend.start(f"{HOSTS[2]}:{port}", NAMES[2])
            stack.callback(backend.stop, server)
            seen = callers.wait_for(NAMES[2], PATIENCE, event)
        lost = sum(outcome.is_lost for outcome in callers.outcomes())
        return Result(seen and seen - event, 0, lost)


def tell(title: str, result: Result) -> None:
    seconds = f"in {result.seconds:.1f} s" if result.seconds else f"not in {PATIENCE:.0f} s"
    print(f"{title:40}{seconds:11}{result.asked:6}{result.lost:6}", flush=True)


def main() -> None:
    argparse.ArgumentParser(description="Time how a backend is found.").parse_args()
    try:
        print(f"{'':40}{'gets calls':11} asked  lost")
        for case in CASES:
            tell(case.title, arrive(case))
        tell(f"down for {DOWN} s", come_back(()))
        tell("the same, 0.1 s between attempts", come_back(CONNECT_SOON))
    except RuntimeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
