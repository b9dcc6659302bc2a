"""Runs a pod of the Deployment, attacks it from inside, and ends it in the middle of a call.

Run it, as root, with the image that scaling.deploy.image writes:

    python -m scaling.deploy.pods build/contacts.tar
"""

import argparse
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple
from urllib.request import urlopen

import grpc

from production.calling.addresses import Address
from production.v1.contacts_pb2 import ImportContactsRequest
from production.v1.contacts_pb2_grpc import ContactServiceStub
from protobuf_demo.addressbook_pb2 import Person
from scaling.deploy import sandbox
from scaling.deploy.cluster import Cluster
from scaling.deploy.image import NAME
from scaling.deploy.sandbox import Engine

MIGRATION, SERVER, GREEDY = "10.89.0.10", "10.89.0.11", "10.89.0.12"
PORT, METRICS_PORT = 50051, 9464
WAIT_SECONDS = 60
LOOK = """
import json, os
status = dict(line.split(":\\t", 1) for line in open("/proc/1/status").read().splitlines())
def writes(folder):
    try:
        path = os.path.join(folder, "attack")
        open(path, "w").close()
        os.unlink(path)
        return True
    except OSError:
        return False
print(json.dumps({
    "command": open("/proc/1/cmdline").read().split("\\0")[:-1],
    "user": status["Uid"].split(),
    "group": status["Gid"].split(),
    "capabilities": status["CapEff"],
    "may gain": status["CapBnd"],
    "no new privileges": status["NoNewPrivs"],
    "seccomp": status["Seccomp"],
    "links": sorted(name for name in os.environ if name.endswith("_SERVICE_HOST")),
    "writable": sorted(folder for folder, _, _ in os.walk("/")
        if not folder.startswith(("/proc", "/sys")) and writes(folder)),
}))
"""
GREED = "print(len(b'x' * (1 << 30)))"
KILLED = 137


class Report(NamedTuple):
    """What is seen of a pod."""

    migrated: str
    start_seconds: float
    memory: int
    inside: dict[str, Any]
    """What a process in the container sees, by the names in LOOK."""
    uploaded: int
    """Contacts of an upload that was under way at SIGTERM."""
    exit_code: int
    stop_seconds: float
    greedy_exit_code: int
    """Of a pod that takes more memory than its limit."""


class Upload:
    """An upload that begins, and ends when it is told to."""

    def __init__(self, channel: grpc.Channel, token: str) -> None:
        self._chunks: SimpleQueue[ImportContactsRequest | None] = SimpleQueue()
        self._chunks.put(ImportContactsRequest(people=[Person(name="Ada")]))
        metadata = (("authorization", f"Bearer {token}"),)
        requests: Iterator[ImportContactsRequest] = iter(self._chunks.get, None)
        self._call = ContactServiceStub(channel).ImportContacts.future(
            requests, timeout=60, metadata=metadata
        )

    def has_ended(self) -> bool:
        """Returns whether the server has ended it already."""
        return bool(self._call.done())

    def finish(self) -> int:
        """Returns how many contacts were added. Raises grpc.RpcError."""
        self._chunks.put(ImportContactsRequest(finish=True))
        self._chunks.put(None)
        return int(self._call.result().contact_count)


def channel_to(cluster: Cluster, host: str) -> grpc.Channel:
    """Opens a channel to a server, by TLS."""
    credentials = grpc.ssl_channel_credentials(cluster.file("ca.pem").read_bytes())
    options = [("grpc.ssl_target_name_override", "contacts")]
    return grpc.secure_channel(str(Address(host, PORT)), credentials, options)


def in_flight(host: str) -> float:
    """Returns how many uploads a server has in progress, by its metrics."""
    with urlopen(f"http://{host}:{METRICS_PORT}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    pattern = r'^grpc_server_calls_in_flight\{.*ImportContacts"\} (\S+)$'
    return sum(map(float, re.findall(pattern, text, re.M)))


def refuses(host: str) -> bool:
    """Returns whether a server takes no more connections."""
    try:
        socket.create_connection((host, PORT), 1).close()
    except OSError:
        return True
    return False


def _wait(condition: Callable[[], bool]) -> None:
    """Waits until a condition is true. Raises RuntimeError after a minute."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("the server does not do what was expected of it")
        time.sleep(0.05)


def try_pod(cluster: Cluster) -> Report:
    """Runs a pod and returns what is seen of it. Raises EngineError, grpc.RpcError."""
    migrated = cluster.migrate(MIGRATION)
    start_seconds = cluster.serve("contacts-1", SERVER)
    inside = json.loads(cluster.engine.podman("exec", "contacts-1-server", "python", "-c", LOOK))
    memory = cluster.memory("contacts-1")
    with channel_to(cluster, SERVER) as channel, ThreadPoolExecutor() as pool:
        upload = Upload(channel, cluster.token())
        _wait(lambda: in_flight(SERVER) == 1 or upload.has_ended())
        stopping = pool.submit(cluster.stop, "contacts-1")
        _wait(lambda: refuses(SERVER))
        uploaded = upload.finish()
        exit_code, stop_seconds = stopping.result()
    cluster.play("greedy", cluster.deployment, GREEDY, command=["python", "-c", GREED])
    greedy = int(cluster.engine.podman("wait", "greedy-server"))
    cluster.remove("greedy")
    return Report(
        migrated, start_seconds, memory, inside, uploaded, exit_code, stop_seconds, greedy
    )


def describe(report: Report, cluster: Cluster) -> Iterator[str]:
    """Yields the lines that the program prints."""
    inside, limit = report.inside, _limit(cluster)
    yield f"migration     {report.migrated}"
    yield (
        f"start         {report.start_seconds:.1f} s until SERVING; "
        f"the startup probe allows {cluster.times.start} s"
    )
    yield f"memory        {report.memory >> 20} MiB of {limit}"
    yield f"process 1     {' '.join(inside['command'])}"
    yield f"user, group   {inside['user'][0]}, {inside['group'][0]}"
    yield (
        f"capabilities  {int(inside['capabilities'], 16) or 'none'}; "
        f"it may gain {'none' if inside['no new privileges'] == '1' else 'more'}; "
        f"system calls {'filtered' if inside['seccomp'] == '2' else 'not filtered'}"
    )
    yield f"writable      {' '.join(inside['writable'])}"
    yield f"links         {' '.join(inside['links']) or 'none'}"
    yield (
        f"SIGTERM       the upload in progress added {report.uploaded} contact; exit code "
        f"{report.exit_code} after {report.stop_seconds:.1f} of {cluster.times.grace} s"
    )
    yield f"1 GiB more    exit code {report.greedy_exit_code}"


def _limit(cluster: Cluster) -> str:
    (container,) = cluster.deployment["spec"]["template"]["spec"]["containers"]
    return str(container["resources"]["limits"]["memory"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Run a pod and attack it.")
    parser.add_argument("archive", type=Path, help="the image")
    parser.add_argument("--json", action="store_true", help="print what is seen as JSON")
    args = parser.parse_args()

    def work(engine: Engine) -> None:
        engine.podman("load", f"--input={args.archive}")
        cluster = Cluster(engine, NAME, engine.folder)
        with cluster.running():
            try:
                report = try_pod(cluster)
            except grpc.RpcError as error:
                raise RuntimeError(f"an upload failed: {error}") from None
        if args.json:
            print(json.dumps(report._asdict()))
        else:
            print(*describe(report, cluster), sep="\n")

    sandbox.run(work, has_network=False)


if __name__ == "__main__":
    main()
