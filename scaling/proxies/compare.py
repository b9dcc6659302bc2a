"""Compares the ways to balance: calls per backend, and losses when a backend goes.

Run it:

    python -m scaling.proxies.compare

Three backends, one client channel. A backend is killed (SIGKILL), another drained (SIGTERM), each
with calls in flight. The backends report each call that begins, so a call that runs twice shows.
"""

import argparse
import queue
import signal
import sys
import tempfile
import threading
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from production.development import certificates
from production.development.programs import AbsentError
from protos.echo.v1.echo_pb2 import EchoRequest
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub
from scaling import backend
from scaling.proxies import ways
from scaling.proxies.ways import WAYS, Way

CALLS = 30
IN_FLIGHT = 12
SECONDS = 30


class Outcome(NamedTuple):
    """The outcome of a way to balance."""

    spread: list[int]
    """Calls per backend, most first."""
    killed_in_flight: int
    """Calls in flight on the backend that was killed."""
    killed_lost: int
    run_twice: int
    drained_lost: int


class Backends:
    """Three backends, and a queue of the calls that begin at each."""

    def __init__(self, stack: ExitStack, flags: tuple[str, ...]) -> None:
        self.begun: queue.Queue[tuple[str, str]] = queue.Queue()
        """Name of a backend, and the message of a call that begins there."""
        self.processes = stack.enter_context(
            backend.processes(("b1", "b2", "b3"), "--print-calls", *flags)
        )
        self.addresses = [each.address for each in self.processes.values()]
        for each in self.processes.values():
            threading.Thread(target=self._listen, args=(each,), daemon=True).start()

    def _listen(self, process: backend.Process) -> None:
        for line in process.program.stdout or ():
            self.begun.put((process.name, line.split()[1]))

    def begins(self, kind: str, count: int) -> Counter[str]:
        """Waits until count calls of a kind have begun; counts them by backend."""
        found: Counter[str] = Counter()
        while found.total() < count:
            name, message = self.begun.get(timeout=SECONDS)
            found[name] += message.startswith(kind)
        return found

    def all_begun(self) -> Counter[str]:
        """Counts how often each further call has begun."""
        found: Counter[str] = Counter()
        while not self.begun.empty():
            found[self.begun.get()[1]] += 1
        return found


def outcome(way: Way, certs: Path) -> Outcome:
    """Measures one way. Raises AbsentError, or RuntimeError if something does not start."""
    with ExitStack() as stack:
        backends = Backends(stack, way.backend)
        target = stack.enter_context(ways.target(way, backends.addresses, certs))
        channel = stack.enter_context(ways.channel(target))
        stub = EchoServiceStub(channel)
        warm_up(stub, backends)
        calls = CALLS * 10 if way.backend else CALLS  # Connections must come to their age.
        delay = 0.01 if way.backend else 0
        spread = Counter(call(stub, "spread", delay).result().served_by for _ in range(calls))
        backends.begins("spread", calls)
        in_flight, lost, twice = kill(stub, backends)
        drained_lost = drain(stub, backends)
    counts = [spread[name] for name in ("b1", "b2", "b3")]
    return Outcome(sorted(counts, reverse=True), in_flight, lost, twice, drained_lost)


def warm_up(stub: EchoServiceStub, backends: Backends) -> None:
    """Makes calls until each backend has served, or it is clear that one never will.

    On a busy machine connections to some of them take longer than the first calls.
    """
    served: list[str] = []
    while len(set(served)) < len(backends.addresses) and len(served) < CALLS * 10:
        served.append(call(stub, "warm", 0).result().served_by)
    backends.begins("warm", len(served))


def call(stub: EchoServiceStub, message: str, delay: float) -> Any:
    request = EchoRequest(message=message)
    request.delay.FromMilliseconds(int(delay * 1000))
    return stub.UnaryEcho.future(request, timeout=SECONDS, wait_for_ready=True)


def drain(stub: EchoServiceStub, backends: Backends) -> int:
    """Stops a backend that has calls in flight, and makes more calls; returns how many are lost."""
    calls = [call(stub, f"drain{number}", 0.5) for number in range(IN_FLIGHT)]
    name, _ = backends.begins("drain", IN_FLIGHT).most_common(1)[0]
    process = backends.processes.pop(name).program
    process.send_signal(signal.SIGTERM)
    while process.poll() is None:
        calls.append(call(stub, f"drain{len(calls)}", 0.01))
        calls[-1].exception()
    calls += [call(stub, f"drain{len(calls)}", 0) for _ in range(CALLS)]
    return sum(each.exception() is not None for each in calls)


def kill(stub: EchoServiceStub, backends: Backends) -> tuple[int, int, int]:
    """Kills a backend; returns how many calls it had, how many are lost, how many run twice."""
    calls = [call(stub, f"kill{number}", 1) for number in range(IN_FLIGHT)]
    name, in_flight = backends.begins("kill", IN_FLIGHT).most_common(1)[0]
    backends.processes.pop(name).program.kill()
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
