"""gRPC's own retries: which errors they repeat, and what ends them. The server counts attempts.

Run it:

    GRPC_VERBOSITY=NONE python -m production.lessons.retries
"""

import argparse
import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from production.development import echo_server
from protos.echo.v1.echo_pb2 import EchoRequest, Failure
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub

UNAVAILABLE, INTERNAL = 14, 13
TIMEOUT = 30.0
"""Seconds for a call, all its attempts together."""
POLICY = {
    "maxAttempts": 4,
    "initialBackoff": "0.05s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
BUDGET: dict[str, object] = {"retryThrottling": {"maxTokens": 4, "tokenRatio": 0.1}}


@dataclass
class Case:
    """How a call is to fail, and what differs in the service config of its channel."""

    title: str
    failure: Failure
    policy: dict[str, object] = field(default_factory=dict)
    service: str = "protos.echo.v1.EchoService"
    more: dict[str, object] = field(default_factory=dict)
    payload: bytes = b""

    def config(self) -> str:
        """The service config, as JSON."""
        method = {"name": [{"service": self.service}], "retryPolicy": POLICY | self.policy}
        return json.dumps({"methodConfig": [method], **self.more})


def fails(attempts: int = 0, code: int = UNAVAILABLE, **how: Any) -> Failure:
    """A failure of the first attempts, or (0) of all of them."""
    return Failure(code=code, message="no", attempts=attempts, **how)


CASES = [
    Case("fails twice, then no more", fails(2)),
    Case("fails always", fails()),
    Case("fails always, maxAttempts is 10", fails(), {"maxAttempts": 10}),
    Case("another code", fails(2, INTERNAL)),
    Case("fails after the first response", fails(2, after_responses=1)),
    Case("the request has 256 KiB", fails(2), payload=bytes(256 << 10)),
    Case("the server says: in 0.1 s", fails(2, retry_pushback=Duration(nanos=100_000_000))),
    Case("the server says: never", fails(2, retry_pushback=Duration(seconds=-1))),
    Case("the config names another service", fails(2), service="echo.v1.EchoService"),
    Case("a budget of 4 failures, first call", fails(), more=BUDGET),
    Case("a budget of 4 failures, next call", fails(), more=BUDGET),
]


def main() -> None:
    argparse.ArgumentParser(description="Count the attempts of gRPC's retries.").parse_args()
    reports: list[str] = []
    with ExitStack() as stack:
        server, port = echo_server.start("127.0.0.1:0", report=reports.append)
        stack.callback(server.stop, None)

        @cache  # A budget belongs to a channel.
        def stub(config: str) -> EchoServiceStub:
            options = [("grpc.service_config", config)]
            channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=options)
            return EchoServiceStub(stack.enter_context(channel))

        print(f"{'':36}attempts  outcome")
        for case in CASES:
            request = EchoRequest(response_count=2, failure=case.failure, payload=case.payload)
            outcome = "OK"
            try:
                list(stub(case.config()).ServerStreamingEcho(request, timeout=TIMEOUT))
            except grpc.RpcError as error:
                outcome = error.code().name
            print(f"{case.title:36}{len(reports):8}  {outcome}")
            reports.clear()


if __name__ == "__main__":
    main()
