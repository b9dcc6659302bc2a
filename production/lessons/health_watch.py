"""Health: a server tells how it is, and a client that looks sends its calls elsewhere.

python -m production.lessons.health_watch
"""

import argparse
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from production.lessons.echo_server import EchoServicer
from protos.echo.v1.echo_pb2 import EchoRequest
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub, add_EchoServiceServicer_to_server

SERVICE = "protos.echo.v1.EchoService"
Status = health_pb2.HealthCheckResponse


def start(name: str) -> tuple[grpc.Server, int, health.HealthServicer]:
    """A server that echoes, and its health."""
    server = grpc.server(ThreadPoolExecutor(8))
    add_EchoServiceServicer_to_server(EchoServicer(name, lambda _: None), server)
    servicer = health.HealthServicer()
    servicer.set(SERVICE, Status.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port, servicer


def watch(port: int, servicer: health.HealthServicer) -> None:
    """Prints each change of a service's health, as a balancer sees it."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # Its types name no methods.
        changes = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=10)
        print("watch:", Status.ServingStatus.Name(next(changes).status))
        for status in (Status.NOT_SERVING, Status.SERVING):
            servicer.set(SERVICE, status)
            print("watch:", Status.ServingStatus.Name(next(changes).status))
        unknown = health_pb2.HealthCheckRequest(service="nobody")
        print("watch of a service that nobody knows:", end=" ")
        print(Status.ServingStatus.Name(next(stub.Watch(unknown, timeout=10)).status))
        try:
            stub.Check(unknown, timeout=10)
        except grpc.RpcError as error:
            print("check of it:", error.code().name)


def served(target: str, policy: str, *, looks: bool) -> str:
    """Which server answers how many of ten calls."""
    config: dict[str, Any] = {"loadBalancingConfig": [{policy: {}}]}
    if looks:
        config["healthCheckConfig"] = {"serviceName": SERVICE}
    options = [("grpc.service_config", json.dumps(config))]
    with grpc.insecure_channel(target, options) as channel:
        stub = EchoServiceStub(channel)
        grpc.channel_ready_future(channel).result(10)
        by = Counter(stub.UnaryEcho(EchoRequest(), timeout=10).served_by for _ in range(10))
    return ", ".join(f"{name}: {count}" for name, count in sorted(by.items()))


def show() -> None:
    """Watches one server, then makes it unwell and calls the two."""
    first, first_port, unwell = start("unwell")
    second, second_port, _ = start("well")
    watch(first_port, unwell)
    unwell.set(SERVICE, Status.NOT_SERVING)
    target = f"ipv4:127.0.0.1:{first_port},127.0.0.1:{second_port}"
    for policy in ("pick_first", "round_robin"):
        print(f"{policy}, does not look:", served(target, policy, looks=False))
        print(f"{policy}, looks:", served(target, policy, looks=True))
    first.stop(None).wait()
    second.stop(None).wait()


def main() -> None:
    argparse.ArgumentParser(description="Show what health does for calls.").parse_args()
    show()


if __name__ == "__main__":
    main()
