"""gRPC's own retries: what is tried again, how often, and what ends it.

python -m production.lessons.retries
"""

import argparse
import json
from collections.abc import Callable

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.code_pb2 import INTERNAL, UNAVAILABLE

from production.lessons import echo_server
from protos.echo.v1.echo_pb2 import EchoRequest, Failure
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub

POLICY = {
    "maxAttempts": 4,
    "initialBackoff": "0.01s",
    "maxBackoff": "0.1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
SERVICE = {"service": "protos.echo.v1.EchoService"}
NEVER, SOON, ZERO = Duration(seconds=-1), Duration(nanos=50_000_000), Duration()


def config(name: dict[str, str], **changes: object) -> str:
    """A service config with a retry policy for the methods of a name."""
    return json.dumps({"methodConfig": [{"name": [name], "retryPolicy": POLICY | changes}]})


CASES = [
    ("fails twice, then answers", config(SERVICE), Failure(code=UNAVAILABLE, attempts=2)),
    ("fails always", config(SERVICE), Failure(code=UNAVAILABLE)),
    ("maxAttempts is 10", config(SERVICE, maxAttempts=10), Failure(code=UNAVAILABLE)),
    ("another status", config(SERVICE), Failure(code=INTERNAL)),
    ("another method's config", config(SERVICE | {"method": "Ech"}), Failure(code=UNAVAILABLE)),
    ("no config", "{}", Failure(code=UNAVAILABLE)),
    ("pushback: never", config(SERVICE), Failure(code=UNAVAILABLE, retry_pushback=NEVER)),
    ("pushback: in 50 ms", config(SERVICE), Failure(code=UNAVAILABLE, retry_pushback=SOON)),
    ("pushback: in 0 ms", config(SERVICE), Failure(code=UNAVAILABLE, retry_pushback=ZERO)),
    ("after the first response", config(SERVICE), Failure(code=UNAVAILABLE, after_responses=1)),
]


def outcome(call: Callable[[], object]) -> str:
    """The status code that a call ends with."""
    try:
        call()
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def show() -> None:
    """Prints how many attempts the server has seen of each call."""
    seen: list[str] = []
    server, port = echo_server.start("127.0.0.1:0", report=seen.append)
    print(f"{'':28}{'attempts':10}outcome")
    for title, service_config, failure in CASES:
        seen.clear()
        options = [("grpc.service_config", service_config)]
        with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            stub = EchoServiceStub(channel)
            request = EchoRequest(failure=failure)
            ended = outcome(lambda: list(stub.ServerStreamingEcho(request, timeout=3)))  # noqa: B023
        print(f"{title:28}{len(seen):<10}{ended}")
    server.stop(None).wait()


def main() -> None:
    argparse.ArgumentParser(description="Show what gRPC tries again.").parse_args()
    show()


if __name__ == "__main__":
    main()
