"""Each way to balance: calls per backend, and what is lost when a backend goes.

    python -m scaling.proxies.compare

Three backends, one client channel. A backend is killed (SIGKILL), another drained (SIGTERM), each
with calls in flight. The backends count what begins, so what is run twice shows.
"""

import argparse
import json
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from production import certificates
from protos.echo.v1.echo_pb2 import EchoRequest
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub
from rest_gateway.child import child
from scaling.proxies import proxy
from scaling.proxies.proxy import AbsentError

CALLS = 30
IN_FLIGHT = 12
SECONDS = 30
ROUND_ROBIN = json.dumps(
    {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}
)


class Way(NamedTuple):
    """How to balance: by which proxy, if any, and with what changed in its configuration."""

    title: str
    proxy: str | None
    change: tuple[str, str] = ("", "")
    backend: tuple[str, ...] = ()
    """Flags for the backends."""


SAFE = "retry_on: connect-failure,refused-stream"
WAYS = [
    Way("client, round_robin", None),
    Way("Envoy", "envoy"),
    Way("Envoy, retry_on: reset", "envoy", (SAFE, f"{SAFE},reset")),
    Way("nginx", "nginx"),
    Way("nginx, non_idempotent", "nginx", ("error timeout;", "error timeout non_idempotent;")),
    Way("HAProxy", "haproxy"),
    Way(
        "HAProxy, retry all",
        "haproxy",
        ("retry-on conn-failure", "retry-on all-retryable-errors"),
    ),
    Way("TCP", "tcp"),
    Way("TCP, max age 0.2 s", "tcp", backend=("--max-connection-age-ms=200",)),
]


class Outcome(NamedTuple):
    """What a way gave."""

    spread: list[int]
    """Calls per backend, most first."""
    killed_in_flight: int
    """Calls on the backend that was killed."""
    killed_lost: int
    run_twice: int
    drained_lost: int


class Backends:
    """Three servers in processes of their own, and what they tell of calls that begin."""

    def __init__(self, stack: ExitStack, flags: tuple[str, ...]) -> None:
        self.begun: queue.Queue[tuple[str, str]] = queue.Queue()
        """Name of a backend, and the message of a call that begins there."""
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.addresses: list[proxy.Address] = []
        for name in ("b1", "b2", "b3"):
            command = [sys.executable, "-m", "scaling.proxies.backend", f"--name={name}", *flags]
            self.processes[name] = stack.enter_context(
                child(command, ended_by=signal.SIGKILL, stdout=subprocess.PIPE)
            )
        for name, process in self.processes.items():
            port = process.stdout.readline().rpartition(":")[2] if process.stdout else ""
            self.addresses.append((proxy.HOST, int(port)))
            threading.Thread(target=self._listen, args=(name, process), daemon=True).start()

    def _listen(self, name: str, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            self.begun.put((name, line.split()[1]))

    def begins(self, kind: str, count: int) -> Counter[str]:
        """Waits until so many calls of a kind have begun; how many at which backend."""
        found: Counter[str] = Counter()
        while found.total() < count:
            name, message = self.begun.get(timeout=SECONDS)
            found[name] += message.startswith(kind)
        return found

    def all_begun(self) -> Counter[str]:
        """How often each call has begun that nobody has asked about."""
        found: Counter[str] = Counter()
        while not self.begun.empty():
            found[self.begun.get()[1]] += 1
        return found


@contextmanager
def connected(way: Way, backends: Backends, certs: Path) -> Iterator[grpc.Channel]:
    """A channel to the backends, this way. Raises AbsentError."""
    if way.proxy is None:
        target = "ipv4:" + ",".join(f"{host}:{port}" for host, port in backends.addresses)
        with grpc.insecure_channel(target, [("grpc.service_config", ROUND_ROBIN)]) as channel:
            yield channel
        return
    with proxy.running(way.proxy, 0, backends.addresses, certs, way.change) as address:
        if way.proxy == "tcp":
            opened = grpc.insecure_channel(address)
        else:
            authority = grpc.ssl_channel_credentials((certs / "ca.pem").read_bytes())
            opened = grpc.secure_channel(address, authority)
        with opened as channel:
            yield channel


def outcome(way: Way, certs: Path) -> Outcome:
    """Tries one way. Raises AbsentError."""
    with ExitStack() as stack:
        backends = Backends(stack, way.backend)
        channel = stack.enter_context(connected(way, backends, certs))
        stub = EchoServiceStub(channel)
        calls = CALLS * 10 if way.backend else CALLS  # Connections must come to their age.
        delay = 0.01 if way.backend else 0
        spread = Counter(call(stub, "spread", delay).result().served_by for _ in range(calls))
        backends.begins("spread", calls)
        in_flight, lost, twice = kill(stub, backends)
        drained_lost = drain(stub, backends)
    counts = [spread[name] for name in ("b1", "b2", "b3")]
    return Outcome(sorted(counts, reverse=True), in_flight, lost, twice, drained_lost)


def call(stub: EchoServiceStub, message: str, delay: float) -> Any:
    request = EchoRequest(message=message)
    request.delay.FromMilliseconds(int(delay * 1000))
    return stub.UnaryEcho.future(request, timeout=SECONDS, wait_for_ready=True)


def drain(stub: EchoServiceStub, backends: Backends) -> int:
    """Tells a backend to stop while it has calls, and goes on calling: how many are lost."""
    calls = [call(stub, f"drain{number}", 0.5) for number in range(IN_FLIGHT)]
    name, _ = backends.begins("drain", IN_FLIGHT).most_common(1)[0]
    process = backends.processes.pop(name)
    process.send_signal(signal.SIGTERM)
    while process.poll() is None:
        calls.append(call(stub, f"drain{len(calls)}", 0.01))
        calls[-1].exception()
    calls += [call(stub, f"drain{len(calls)}", 0) for _ in range(CALLS)]
    return sum(each.exception() is not None for each in calls)


def kill(stub: EchoServiceStub, backends: Backends) -> tuple[int, int, int]:
    """Kills a backend that has calls: how many it had, how many are lost, how many run twice."""
    calls = [call(stub, f"kill{number}", 1) for number in range(IN_FLIGHT)]
    name, in_flight = backends.begins("kill", IN_FLIGHT).most_common(1)[0]
    backends.processes.pop(name).kill()
    lost = sum(each.exception() is not None for each in calls)
    twice = backends.all_begun().total()
    while any(call(stub, "settled?", 0).exception() for _ in range(3)):
        pass  # Calls may still be sent on a connection that is being closed.
    return in_flight, lost, twice


def show() -> None:
    """Tries all ways, and prints a line for each."""
    print("                          calls per           backend killed          drained")
    print("way                        backend     in flight  lost  run twice      lost")
    with tempfile.TemporaryDirectory() as folder:
        certificates.make(Path(folder))
        for way in WAYS:
            try:
                seen = outcome(way, Path(folder))
            except AbsentError as absent:
                print(f"{way.title:24}absent: {absent}")
                continue
            spread = " ".join(f"{count:4}" for count in seen.spread)
            killed = f"{seen.killed_in_flight:9}{seen.killed_lost:6}{seen.run_twice:11}"
            print(f"{way.title:24}{spread}{killed}{seen.drained_lost:10}", flush=True)


def main() -> None:
    argparse.ArgumentParser(description="Compare the ways to balance.").parse_args()
    try:
        show()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
