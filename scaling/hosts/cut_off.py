"""Cuts a host off without a word: who notices, when, and what is lost.

Each line is a call of its own, on a connection of its own. All are cut at the same moment.

Run it:

    GRPC_VERBOSITY=NONE python -m scaling.hosts.cut_off
"""

import argparse
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import grpc
from google.protobuf.duration_pb2 import Duration

from production.development import child
from protos.echo.v1.echo_pb2 import EchoRequest
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub
from scaling.balancing.callers import channel_to
from scaling.balancing.losses import RETRY
from scaling.hosts.network import Host, enter, host

PATIENCE_S = 30
"""How long we wait for somebody to notice."""
LATER_S = 6
"""How long after the cut the calls on idle connections begin."""
SILENCE_S = 3
"""How long before the cut nothing is sent. gRPC measures the line while it is new."""
ANSWER_S = 10
"""How long the server takes to answer."""
DEADLINE_S = 5.0
PORT, PINGING_PORT = 50051, 50052
PINGS = [
    ("grpc.keepalive_time_ms", 2_000),
    ("grpc.http2.ping_timeout_ms", 2_000),
    ("grpc.http2.max_pings_without_data", 0),
]
PINGS_WHEN_IDLE = [*PINGS, ("grpc.keepalive_permit_without_calls", 1)]
USER_TIMEOUT = [
    ("grpc.keepalive_time_ms", 3_600_000),  # No pings; but if this is set, gRPC also sets
    ("grpc.keepalive_timeout_ms", 3_000),  # TCP_USER_TIMEOUT, to this.
]


class Case(NamedTuple):
    """A call, and what protects it."""

    protection: str
    options: Sequence[tuple[str, int]] = ()
    deadline: float | None = None
    port: int = PORT
    retries: bool = False
    """Whether it may be tried again, on the second host."""
    streams: bool = False
    """Whether the server sends something each second."""


CALLED = [
    Case("nothing"),
    Case("deadline 5 s", deadline=DEADLINE_S + SILENCE_S),
    Case("TCP_USER_TIMEOUT 3 s", USER_TIMEOUT),
    Case("client pings, 2 s + 2 s", PINGS),
    Case("the same, and retries", PINGS, retries=True),
    Case("deadline 5 s, and retries", deadline=DEADLINE_S + SILENCE_S, retries=True),
    Case("server pings, 2 s + 2 s", port=PINGING_PORT),
    Case("nothing, the server streams", streams=True),
]
IDLE = [
    Case("nothing"),
    Case("deadline 5 s", deadline=DEADLINE_S),
    Case("TCP_USER_TIMEOUT 3 s", USER_TIMEOUT),
    Case("the same, and retries", USER_TIMEOUT, retries=True),
    Case("client pings, 2 s + 2 s", PINGS),
    Case("the same, also when idle", PINGS_WHEN_IDLE, retries=True),
]
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]


class Log:
    """What servers print: when calls began and ended."""

    def __init__(self) -> None:
        self._times: dict[tuple[str, str], float] = {}
        self._changed = threading.Condition()

    def read(self, server: subprocess.Popen[str]) -> None:
        """Reads in a thread of its own, until the server ends."""
        threading.Thread(target=self._read, args=(server,), daemon=True).start()

    def _read(self, server: subprocess.Popen[str]) -> None:
        assert server.stdout  # noqa: S101 - for the type checker.
        for line in server.stdout:
            what, message, seconds = line.split()
            with self._changed:
                self._times.setdefault((what, message), float(seconds))
                self._changed.notify_all()

    def when(self, what: str, message: str) -> float | None:
        """Returns when it was seen, None if it was not."""
        with self._changed:
            return self._times.get((what, message))

    def wait_for(self, what: str, messages: Sequence[str]) -> None:
        """Waits until it is seen for all of these calls."""
        wanted = {(what, message) for message in messages}
        with self._changed:
            self._changed.wait_for(lambda: wanted <= self._times.keys(), child.START_SECONDS)


class Call:
    """A call on a channel of its own, and how it ended for its caller."""

    def __init__(self, case: Case, message: str, hosts: Sequence[Host], stack: ExitStack) -> None:
        self.case, self.message = case, message
        reachable = hosts if case.retries else hosts[:1]
        target = ",".join(f"{host.address}:{case.port}" for host in reachable)
        options = [*case.options, *OWN_CONNECTION]
        channel = channel_to(f"ipv4:{target}", RETRY if case.retries else {}, options)
        self._stub = EchoServiceStub(stack.enter_context(channel))
        self._stub.UnaryEcho(EchoRequest(), timeout=30)  # Connects, to the first host.
        self.ended: float | None = None
        self.how = "waits"

    def begin(self, delay_s: int) -> None:
        """Begins the call; the server answers after a delay, or again and again."""
        request = EchoRequest(message=self.message, delay=Duration(seconds=delay_s))
        if self.case.streams:
            request.delay.seconds, request.response_count = 1, 2 * PATIENCE_S
            self._call: Any = self._stub.ServerStreamingEcho(request)
        else:
            self._call = self._stub.UnaryEcho.future(request, timeout=self.case.deadline)
        self._call.add_done_callback(self._end)

    def _end(self, call: Any) -> None:
        if not call.cancelled():
            self.ended = time.monotonic()
            ok = call.code() is grpc.StatusCode.OK
            self.how = f"OK, by {call.result().served_by}" if ok else call.code().name

    def cancel(self) -> None:
        """Gives the call up, if it has not ended."""
        self._call.cancel()


def seconds(since: float, moment: float | None) -> str:
    """Returns the whole seconds until a moment, if it has come."""
    return "" if moment is None else f"{moment - since:.0f} s"


def at_server(message: str, since: float, log: Log) -> str:
    """Returns what became of a call at the server on the first host."""
    if log.when("begins", message) is None:
        return "      never got it"
    if answered := log.when("answers", message):
        return f"{seconds(since, answered):>5} answers"
    ended = seconds(since, log.when("ends", message))
    return f"{ended:>5} gives it up" if ended else "      works on"


def start_servers(hosts: Sequence[Host], log: Log, stack: ExitStack) -> None:
    """Starts two servers on each host; the log reads those on the first."""
    for each in hosts:
        for port, flags in ((PORT, []), (PINGING_PORT, ["--keepalive"])):
            flags = [f"--address={each.address}:{port}", f"--name={each.name}", *flags]
            command = each.python("scaling.hosts.server", *flags)
            server, _ = stack.enter_context(child.server(command))
            if each is hosts[0]:
                log.read(server)


def show(title: str, calls: Sequence[Call], since: float, log: Log) -> None:
    """Prints what each call's caller and its server noticed, and when."""
    print(f"{title:32}{'the caller':28}the server")
    for call in calls:
        caller = f"{seconds(since, call.ended):>5} {call.how:22}"
        print(f"  {call.case.protection:30}{caller}{at_server(call.message, since, log)}")


def measure(stack: ExitStack) -> None:
    """Makes the calls, cuts the first host off in the middle of them, and prints the table."""
    hosts = [stack.enter_context(host(name)) for name in ("one", "two")]
    log = Log()
    start_servers(hosts, log, stack)
    idle = [Call(case, f"idle-{n}", hosts, stack) for n, case in enumerate(IDLE)]
    calls = [Call(case, f"call-{n}", hosts, stack) for n, case in enumerate(CALLED)]
    for call in calls:
        call.begin(ANSWER_S + SILENCE_S)
    log.wait_for("begins", [call.message for call in calls])
    time.sleep(SILENCE_S)
    hosts[0].cut()
    cut = time.monotonic()
    time.sleep(LATER_S)
    called = time.monotonic()
    for call in idle:
        call.begin(0)
    time.sleep(PATIENCE_S - LATER_S)
    for call in (*calls, *idle):
        call.cancel()
    show("cut off during a call", calls, cut, log)
    show("cut off while idle, then called", idle, called, log)


def main() -> None:
    argparse.ArgumentParser(description="Cut a host off and see who notices.").parse_args()
    enter("scaling.hosts.cut_off")
    with ExitStack() as stack:
        measure(stack)


if __name__ == "__main__":
    main()
