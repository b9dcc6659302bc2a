"""A server reports NOT_SERVING: Watch notices, round_robin obeys, pick_first does not.

Run it:

    python -m production.lessons.health_watch
"""

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc
from grpc_health.v1.health import OVERALL_HEALTH, HealthServicer
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub, add_HealthServicer_to_server

from production.development.echo_server import EchoServicer
from protos.echo.v1.echo_pb2 import EchoRequest
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub, add_EchoServiceServicer_to_server

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
NAME = HealthCheckResponse.ServingStatus.Name
CALLS = 20


def start(name: str, stack: ExitStack) -> tuple[str, HealthServicer]:
    """A server that ends with the stack: its address, and what to tell when its health changes."""
    server = grpc.server(ThreadPoolExecutor(4))
    add_EchoServiceServicer_to_server(EchoServicer(name, lambda _: None), server)
    health = HealthServicer()
    add_HealthServicer_to_server(health, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    stack.callback(lambda: server.stop(None).wait())
    return f"127.0.0.1:{port}", health


def watch(address: str, health: HealthServicer) -> None:
    """Prints each change of a server's health, as a Watch brings it."""
    with grpc.insecure_channel(address) as channel:
        request = HealthCheckRequest(service=OVERALL_HEALTH)
        statuses = HealthStub(channel).Watch(request)  # type: ignore[attr-defined]  # Stubs lack it.
        print("watch:", NAME(next(statuses).status), end="")
        for status in (NOT_SERVING, SERVING):
            health.set(OVERALL_HEALTH, status)
            print(" ->", NAME(next(statuses).status), end="")
        print()
        statuses.cancel()  # It would go on until the server stops, and keep it from stopping.


def channel_to(addresses: str, policy: str) -> grpc.Channel:
    """A channel that asks all addresses for their health, and balances by policy."""
    config = {
        "loadBalancingConfig": [{policy: {}}],
        "healthCheckConfig": {"serviceName": OVERALL_HEALTH},
    }
    return grpc.insecure_channel(addresses, [("grpc.service_config", json.dumps(config))])


def calls_to(server: str, stub: EchoServiceStub) -> int:
    """How many of some calls a server gets."""
    served = [stub.UnaryEcho(EchoRequest(), timeout=30).served_by for _ in range(CALLS)]
    return served.count(server)


def balance(
    robin: EchoServiceStub, first: EchoServiceStub, healths: dict[str, HealthServicer]
) -> None:
    """Changes one server's health, and prints how many calls it still gets."""
    sick = first.UnaryEcho(EchoRequest(), timeout=30).served_by
    print(f"calls of {CALLS} to a server that is:")
    for status, share in ((SERVING, CALLS // 2), (NOT_SERVING, 0), (SERVING, CALLS // 2)):
        healths[sick].set(OVERALL_HEALTH, status)
        latest = time.monotonic() + 10
        # The change takes a moment to arrive. Once round_robin has it, pick_first could have it.
        while (got := calls_to(sick, robin)) != share and time.monotonic() < latest:
            pass
        print(f"  {NAME(status):13}round_robin {got:2}  pick_first {calls_to(sick, first):2}")
    for health in healths.values():
        health.set(OVERALL_HEALTH, NOT_SERVING)
    latest = time.monotonic() + 10
    try:
        while time.monotonic() < latest:
            calls_to(sick, robin)
    except grpc.RpcError as error:
        print(f"all NOT_SERVING, round_robin: {error.code().name}: {error.details()}")
    print(f"all NOT_SERVING, pick_first: {calls_to(sick, first)} calls of {CALLS} are served")


def show() -> None:
    """Starts two servers, watches one and balances between both."""
    with ExitStack() as stack:
        servers = {name: start(name, stack) for name in ("a", "b")}
        watch(*servers["a"])
        addresses = "ipv4:" + ",".join(address for address, _ in servers.values())
        robin, first = (
            EchoServiceStub(stack.enter_context(channel_to(addresses, policy)))
            for policy in ("round_robin", "pick_first")
        )
        balance(robin, first, {name: health for name, (_, health) in servers.items()})


def main() -> None:
    argparse.ArgumentParser(description="Show what a server's health is good for.").parse_args()
    show()


if __name__ == "__main__":
    main()
