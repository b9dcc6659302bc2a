"""Plays pods of the manifests with podman, and stands in for what a cluster has around them.

That is their Secrets and ConfigMaps, PostgreSQL, and the API server's keys for the tokens of
service accounts. It works in a sandbox without a network, where all ports are free.
"""

import copy
import json
import re
import secrets
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import yaml
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from production.development import postgresql
from production.development.certificates import SERVER, Authority
from production.development.provider_stand_ins import kubernetes
from production.development.relay import Relay
from production.development.signing_keys import SigningKeys
from scaling.deploy.sandbox import Engine, EngineError

FOLDER = Path(__file__).parent / "kubernetes"
NETWORK, SUBNET, GATEWAY = "pods", "10.89.0.0/24", "10.89.0.1"
API_SERVER = "kubernetes.default.svc"
POSTGRESQL_PORT = 5432
NAMES = ("contacts", "localhost")
"""Of the servers' certificate."""


class Times(NamedTuple):
    """What a Deployment allows its pods, in seconds, and what its probes ask."""

    start: int
    grace: int
    service: str
    health_port: int


def read(name: str) -> dict[str, Any]:
    """Returns a manifest of the folder."""
    manifest: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text())
    return manifest


def times(deployment: dict[str, Any]) -> Times:
    """Returns the times of a Deployment, which podman 4.3 does not keep to."""
    pod = deployment["spec"]["template"]["spec"]
    probe = pod["containers"][0]["startupProbe"]
    return Times(
        start=probe["periodSeconds"] * probe["failureThreshold"],
        grace=pod["terminationGracePeriodSeconds"],
        service=probe["grpc"]["service"],
        health_port=probe["grpc"]["port"],
    )


def pod(workload: dict[str, Any], name: str, image: str) -> dict[str, Any]:
    """Returns a pod of a Deployment or Job, as it is but for what podman and a test need."""
    template = copy.deepcopy(workload["spec"]["template"])
    spec = template["spec"]
    spec["containers"][0]["image"] = image
    spec["containers"][0].pop("ports", None)  # podman would publish them, of all pods.
    # In place of the cluster's DNS.
    spec["hostAliases"] = [{"ip": GATEWAY, "hostnames": [API_SERVER]}]
    for volume in spec.get("volumes", ()):
        # podman 4.3 mounts the values of a Secret undecoded.
        if secret := volume.pop("secret", None):
            volume["configMap"] = {"name": secret["secretName"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": template["metadata"]["labels"]},
        "spec": spec,
    }


class Cluster:
    """A cluster with an image, and with all that the pods read when they start."""

    def __init__(self, engine: Engine, image: str, folder: Path) -> None:
        self.engine = engine
        self.image = image
        self.deployment = read("deployment.yaml")
        self.times = times(self.deployment)
        self.authority = Authority.make("Cluster")
        self._keys = SigningKeys("RS256")
        self._folder = folder
        self._objects: list[dict[str, Any]] = []
        self.issue("api-server", (API_SERVER,))
        self.authority.save(folder, "ca")

    def issue(self, name: str, hosts: tuple[str, ...]) -> tuple[bytes, bytes]:
        """Writes NAME.pem and NAME.key for hosts; returns both."""
        pair = self.authority.issue(SERVER._replace(hosts=hosts))
        for suffix, content in zip(("pem", "key"), pair, strict=True):
            (self._folder / f"{name}.{suffix}").write_bytes(content)
        return pair

    def file(self, name: str) -> Path:
        """Returns the path of a file such as ca.pem."""
        return self._folder / name

    def token(self) -> str:
        """Returns a token of a service account that kubernetes/issuers.json lets write."""
        now = int(time.time())
        (issuer,) = json.loads((FOLDER / "issuers.json").read_text())
        claims = kubernetes() | {
            "iss": issuer["issuer"],
            "iat": now,
            "nbf": now,
            "exp": now + 3_600,
        }
        return self._keys.sign("", claims)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Runs PostgreSQL and the API server's keys for a block, with up-to-date tables."""
        network = ["--disable-dns", f"--subnet={SUBNET}", f"--gateway={GATEWAY}"]
        self.engine.podman("network", "create", *network, NETWORK)
        with ExitStack() as stack:
            url = stack.enter_context(postgresql.running(POSTGRESQL_PORT))
            stack.enter_context(_Door(POSTGRESQL_PORT))
            stack.enter_context(self._api_server())
            self._objects = self._configuration(url)
            yield

    def _configuration(self, url: str) -> list[dict[str, Any]]:
        """Returns what the manifests name: ConfigMaps, also in place of Secrets."""
        certificate, key = self.issue("contacts", NAMES)
        here, there = f"127.0.0.1:{POSTGRESQL_PORT}", f"{GATEWAY}:{_Door.PORT}"
        database = url.format("postgres").replace(here, there)
        return [
            _map("contacts-tls", {"tls.crt": certificate.decode(), "tls.key": key.decode()}),
            _map("contacts-db-app", {"uri": database}),
            _map("contacts-db-server", {"uri": database}),
            _map("contacts-log", {"secret": secrets.token_hex(32)}),
            _map("contacts-issuers", {"issuers.json": (FOLDER / "issuers.json").read_text()}),
            _map("kube-root-ca.crt", {"ca.crt": self.file("ca.pem").read_text()}),
        ]

    @contextmanager
    def _api_server(self) -> Iterator[None]:
        """Serves the public keys of tokens by HTTPS for a block."""
        body = json.dumps(self._keys.published()).encode()

        class Keys(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Prints nothing."""

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file("api-server.pem"), self.file("api-server.key"))
        with ThreadingHTTPServer(("0.0.0.0", 443), Keys) as server:  # noqa: S104 - in the sandbox.
            server.socket = context.wrap_socket(server.socket, server_side=True)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            try:
                yield
            finally:
                server.shutdown()

    def play(self, name: str, workload: dict[str, Any], address: str, **container: Any) -> None:
        """Starts a pod of a Deployment or Job at an address.

        container replaces fields of its container. Raises EngineError.
        """
        played = pod(workload, name, self.image)
        played["spec"]["containers"][0] |= container
        file = self.file(f"{name}.yaml")
        file.write_text(yaml.safe_dump_all([*self._objects, played]))
        self.engine.play(file, f"--network={NETWORK}", f"--ip={address}")

    def migrate(self, address: str) -> str:
        """Runs the migration to its end; returns what it prints. Raises EngineError."""
        self.play("migration", read("migration.yaml"), address)
        status = self.engine.podman("wait", "migration-migration").strip()
        printed = self.engine.logs("migration-migration")
        self.remove("migration")
        if status != "0":
            raise EngineError(f"the migration failed: {printed}")
        return printed

    def serve(self, name: str, address: str) -> float:
        """Starts a server; returns the seconds until it serves. Raises EngineError if that takes
        longer than its startup probe allows."""
        started = time.monotonic()
        self.play(name, self.deployment, address)
        while not self.is_serving(address):
            if time.monotonic() > started + self.times.start:
                raise EngineError(f"{name} does not serve: {self.engine.logs(f'{name}-server')}")
            time.sleep(0.05)
        return time.monotonic() - started

    def is_serving(self, address: str) -> bool:
        """Asks a server's health port, as a kubelet does."""
        with grpc.insecure_channel(f"{address}:{self.times.health_port}") as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            request = HealthCheckRequest(service=self.times.service)
            try:
                answer = stub.Check(request, timeout=1)
            except grpc.RpcError:
                return False
        return bool(answer.status == HealthCheckResponse.SERVING)

    def stop(self, name: str) -> tuple[int, float]:
        """Sends SIGTERM to a server, and SIGKILL after its grace period; removes the pod.

        Returns its exit code, and the seconds that it took.
        """
        started = time.monotonic()
        self.engine.podman("stop", f"--time={self.times.grace}", f"{name}-server")
        seconds = time.monotonic() - started
        code = int(self.inspect(name, "{{.State.ExitCode}}"))
        self.remove(name)
        return code, seconds

    def inspect(self, name: str, template: str) -> str:
        """Returns what podman knows of a server's container, by a template of Go's."""
        return self.engine.podman("inspect", f"--format={template}", f"{name}-server").strip()

    def memory(self, name: str) -> int:
        """Returns the bytes of memory that a server's process has."""
        pid = self.inspect(name, "{{.State.Pid}}")
        (line,) = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        return int(line) * 1024

    def remove(self, name: str) -> None:
        """Removes a pod and its containers."""
        self.engine.podman("pod", "rm", "--force", "--time=0", name)


class _Door(Relay):
    """A relay that pods can reach, because PostgreSQL listens on the loopback address only."""

    PORT = 6432

    def server_bind(self) -> None:
        self.server_address = ("0.0.0.0", self.PORT)  # noqa: S104 - in the sandbox.
        super().server_bind()


def _map(name: str, data: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
