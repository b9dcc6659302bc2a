"""The ways to balance that the lessons compare: in the client, and by each proxy of proxy.py."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from production.calling import addresses
from scaling.proxies import proxy
from scaling.proxies.proxy import ENGINES

ROUND_ROBIN = json.dumps(
    {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}
)
SAFE = "retry_on: connect-failure,refused-stream"


class Way(NamedTuple):
    """In the client, or by a proxy, perhaps with texts of its configuration replaced."""

    title: str
    engine: str = ""
    changes: Mapping[str, str] | None = None
    backend: tuple[str, ...] = ()
    """Flags for the backends."""


VARIANTS = {
    "envoy": [Way("Envoy, retry_on: reset", "envoy", {SAFE: f"{SAFE},reset"})],
    "nginx": [
        Way("nginx, non_idempotent", "nginx", {"error timeout;": "error timeout non_idempotent;"})
    ],
    "haproxy": [
        Way(
            "HAProxy, retry all",
            "haproxy",
            {"retry-on conn-failure": "retry-on all-retryable-errors"},
        )
    ],
    "tcp": [Way("TCP, max age 0.2 s", "tcp", backend=("--max-connection-age-ms=200",))],
}
PLAIN = [
    Way("client, round_robin"),
    *(Way(engine.title, name) for name, engine in ENGINES.items()),
]
WAYS = [way for plain in PLAIN for way in (plain, *VARIANTS.get(plain.engine, []))]


class Target(NamedTuple):
    """The arguments of a channel. Without credentials it is an insecure one."""

    address: str
    credentials: grpc.ChannelCredentials | None = None
    options: Sequence[tuple[str, str]] = ()


@contextmanager
def target(way: Way, backends: Sequence[str], certs: Path) -> Iterator[Target]:
    """Gives the target of calls that a way balances. Runs its proxy, if it has one, for a block.

    Raises AbsentError, or RuntimeError if the proxy does not start.
    """
    if not way.engine:
        yield Target(f"ipv4:{','.join(backends)}", options=[("grpc.service_config", ROUND_ROBIN)])
        return
    authority = grpc.ssl_channel_credentials((certs / "ca.pem").read_bytes())
    parsed = [addresses.parse(backend) for backend in backends]
    with proxy.running(way.engine, 0, parsed, certs, way.changes) as address:
        yield Target(address, authority if ENGINES[way.engine].has_tls else None)


def channel(target: Target, api: Any = grpc) -> Any:
    """Returns a channel to a target, of grpc or of grpc.aio."""
    if target.credentials:
        return api.secure_channel(target.address, target.credentials, target.options)
    return api.insecure_channel(target.address, target.options)
