"""Replaces three pods of the Deployment behind Envoy, under load, and counts the lost calls.

Run it, as root, with the image that scaling.deploy.image writes; it takes a minute:

    python -m scaling.deploy.replacement build/contacts.tar

As in a rollout with maxSurge 1, a new pod serves before an old one gets its SIGTERM. Envoy has the
configuration of compose.yaml. The callers retry nothing.
"""

import argparse
import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import yaml

from production.development import programs
from production.development.child import child, wait_until_connected
from production.v1.contacts_pb2 import CreateContactRequest, ListContactsRequest
from production.v1.contacts_pb2_grpc import ContactServiceStub
from scaling.deploy import sandbox
from scaling.deploy.cluster import Cluster
from scaling.deploy.image import NAME
from scaling.deploy.sandbox import Engine

CONFIG = Path(__file__).parent / "envoy.yaml"
MIGRATION = "10.89.0.10"
OLD = {f"old-{number}": f"10.89.0.{20 + number}" for number in (1, 2, 3)}
NEW = {f"new-{number}": f"10.89.0.{30 + number}" for number in (1, 2, 3)}
EDGE = 8443
CALLERS = 6
CALLS_BETWEEN = 100
"""Calls that must have been answered between two steps."""
PAUSE_S = 0.01
"""Between two calls of a caller, so that a small machine can do all of this at once."""
TIMEOUT_S = 30


class Report(NamedTuple):
    """What a replacement has cost."""

    statuses: dict[str, int]
    """Calls by their status."""
    start_seconds: list[float]
    memory: list[int]
    """Bytes of each new pod after its calls."""
    exit_codes: list[int]
    stop_seconds: list[float]

    @property
    def lost(self) -> int:
        """The calls that failed."""
        return sum(self.statuses.values()) - self.statuses.get("OK", 0)


def envoy_config(cluster: Cluster, addresses: list[str]) -> dict[str, Any]:
    """Returns compose.yaml's configuration, with addresses and files of this machine."""
    text = CONFIG.read_text().replace("/run/secrets/", f"{cluster.file('')}/")
    config: dict[str, Any] = yaml.safe_load(text)
    (endpoints,) = config["static_resources"]["clusters"][0]["load_assignment"]["endpoints"]
    endpoints["lb_endpoints"] = [
        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": 50051}}}}
        for host in addresses
    ]
    return config


async def call(stub: Any, token: str, seen: Counter[str]) -> None:
    """Writes and reads again and again, and counts how the calls end."""
    metadata = (("authorization", f"Bearer {token}"),)
    person = CreateContactRequest()
    person.contact.person.name = "Ada"
    while True:
        for method, request in (
            (stub.CreateContact, person),
            (stub.ListContacts, ListContactsRequest(page_size=1)),
        ):
            try:
                await method(request, timeout=TIMEOUT_S, metadata=metadata)
                seen["OK"] += 1
            except grpc.aio.AioRpcError as error:
                seen[error.code().name] += 1
            await asyncio.sleep(PAUSE_S)


async def replace(cluster: Cluster) -> Report:
    """Replaces the pods under load. Raises EngineError."""
    seen: Counter[str] = Counter()
    report = Report(seen, [], [], [], [])
    credentials = grpc.ssl_channel_credentials(cluster.file("ca.pem").read_bytes())
    options = [("grpc.enable_retries", 0)]
    async with grpc.aio.secure_channel(f"localhost:{EDGE}", credentials, options) as channel:
        stub: Any = ContactServiceStub(channel)
        await _wait_for_edge(stub, cluster.token())
        async with asyncio.TaskGroup() as group:
            calling = [group.create_task(call(stub, cluster.token(), seen)) for _ in range(CALLERS)]
            for (old, _), (new, address) in zip(OLD.items(), NEW.items(), strict=True):
                report.start_seconds.append(await asyncio.to_thread(cluster.serve, new, address))
                await _more_calls(seen)
                code, seconds = await asyncio.to_thread(cluster.stop, old)
                report.exit_codes.append(code)
                report.stop_seconds.append(seconds)
                await _more_calls(seen)
            report.memory.extend([cluster.memory(name) for name in NEW])
            for task in calling:
                task.cancel()
    return report


async def _wait_for_edge(stub: Any, token: str) -> None:
    """Waits until Envoy has found a server. Raises grpc.aio.AioRpcError after half a minute."""
    metadata = (("authorization", f"Bearer {token}"),)
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            try:
                await stub.ListContacts(ListContactsRequest(), timeout=5, metadata=metadata)
                return
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                await asyncio.sleep(0.2)


async def _more_calls(seen: Counter[str]) -> None:
    """Waits until some more calls have ended."""
    enough = seen.total() + CALLS_BETWEEN
    while seen.total() < enough:  # noqa: ASYNC110 - the callers know of no event.
        await asyncio.sleep(0.05)


def run(cluster: Cluster) -> Report:
    """Runs three pods and Envoy, and replaces the pods. Raises EngineError, RuntimeError."""
    cluster.migrate(MIGRATION)
    for name, address in OLD.items():
        cluster.serve(name, address)
    cluster.issue("edge", ("localhost",))
    config = cluster.file("envoy.yaml")
    config.write_text(json.dumps(envoy_config(cluster, [*OLD.values(), *NEW.values()])))
    envoy = [programs.find("envoy"), "--use-dynamic-base-id", "--log-level", "error"]
    with child([*envoy, "-c", str(config)]) as process:
        wait_until_connected(process, ("127.0.0.1", EDGE))
        try:
            return asyncio.run(replace(cluster))
        except grpc.aio.AioRpcError as error:
            raise RuntimeError(f"{error.code().name}: {error.details()}") from None


def describe(report: Report) -> list[str]:
    """Returns the lines that the program prints."""
    codes = ", ".join(
        f"{count} {code}" for code, count in sorted(report.statuses.items()) if code != "OK"
    )
    return [
        f"calls         {sum(report.statuses.values()):,}",
        f"lost          {codes or 0}",
        f"start         {_range(report.start_seconds)} s until SERVING",
        f"drain         {_range(report.stop_seconds)} s, exit codes {report.exit_codes}",
        f"memory        {max(report.memory) >> 20} MiB at most",
    ]


def _range(seconds: list[float]) -> str:
    return f"{min(seconds):.1f} to {max(seconds):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Replace three pods under load.")
    parser.add_argument("archive", type=Path, help="the image")
    parser.add_argument("--json", action="store_true", help="print what is seen as JSON")
    args = parser.parse_args()

    def work(engine: Engine) -> None:
        programs.find("envoy")
        engine.podman("load", f"--input={args.archive}")
        cluster = Cluster(engine, NAME, engine.folder)
        with cluster.running():
            report = run(cluster)
        print(json.dumps(report._asdict()) if args.json else "\n".join(describe(report)))

    sandbox.run(work, has_network=False)


if __name__ == "__main__":
    main()
