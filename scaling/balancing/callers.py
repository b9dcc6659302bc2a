"""Callers for the lessons: one call after the other, or several callers in the background."""

import json
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import grpc

from protos.echo.v1.echo_pb2 import EchoRequest
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub

TIMEOUT = 30.0
CALLERS = 6
Options = Sequence[tuple[str, str | int]]


def channel_to(
    target: str, config: Mapping[str, object] | None = None, options: Options = ()
) -> grpc.Channel:
    """Returns a channel with a service config."""
    service_config = [] if config is None else [("grpc.service_config", json.dumps(config))]
    return grpc.insecure_channel(target, [*service_config, *options])


def policy(name: str, **settings: object) -> dict[str, object]:
    """Returns the service config that names a balancing policy."""
    return {"loadBalancingConfig": [{name: settings}]}


def who(channel: grpc.Channel) -> str:
    """Makes a call; returns the name of the backend that answered. Raises grpc.RpcError."""
    return EchoServiceStub(channel).UnaryEcho(EchoRequest(), timeout=TIMEOUT).served_by


class Outcome(NamedTuple):
    """When a call ended, and the name of the backend that answered or of the error's status."""

    at: float
    by: str
    is_lost: bool


class Callers:
    """Threads that make calls, each without a pause, while the context is entered."""

    def __init__(
        self, channel: grpc.Channel, request: EchoRequest, timeout: float = TIMEOUT
    ) -> None:
        self._stub = EchoServiceStub(channel)
        self._request, self._timeout = request, timeout
        self._threads = [threading.Thread(target=self._call, daemon=True) for _ in range(CALLERS)]
        self._outcomes: list[Outcome] = []
        self._changed = threading.Condition()
        self._are_done = False

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._are_done = True
        for thread in self._threads:
            thread.join()

    def outcomes(self, since: float = 0) -> list[Outcome]:
        """Returns how calls ended, of those that ended after a moment of time.monotonic()."""
        with self._changed:
            return [outcome for outcome in self._outcomes if outcome.at > since]

    def wait_for(self, name: str, seconds: float, since: float = 0) -> float | None:
        """Waits until a backend has answered after a moment; returns when, None if not."""

        def answers() -> list[float]:
            return [at for at, by, _ in self._outcomes if by == name and at > since]

        with self._changed:
            self._changed.wait_for(answers, seconds)
            return next(iter(answers()), None)

    def _call(self) -> None:
        while not self._are_done:
            is_lost = False
            try:
                by = self._stub.UnaryEcho(self._request, timeout=self._timeout).served_by
            except grpc.RpcError as error:
                by, is_lost = error.code().name, True
            with self._changed:
                self._outcomes.append(Outcome(time.monotonic(), by, is_lost))
                self._changed.notify_all()


def shares(channel: grpc.Channel, calls: int) -> Counter[str]:
    """Makes calls, one after the other; counts who answered."""
    return Counter(who(channel) for _ in range(calls))
