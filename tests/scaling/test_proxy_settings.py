"""What the configurations of scaling/proxies are set to, as clients and backends meet it."""

import os
import queue
import shutil
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import grpc
import psutil
import pytest

from production.calling import addresses
from production.development import certificates, programs
from production.development.echo_server import EchoServicer
from production.development.programs import AbsentError
from protos.echo.v1.echo_pb2 import EchoRequest, EchoResponse
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub
from scaling import backend
from scaling.proxies import proxy
from tests.conftest import ROOT, WAIT, absent, wait_until

PROXIES = ["envoy", "nginx", "haproxy"]
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
DEFAULT_TIMEOUT = 60
"""Seconds that nginx lets a client or a backend be silent, unless it is configured otherwise."""


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certs")
    certificates.make(folder)
    return folder


@pytest.fixture
def stack():
    with ExitStack() as stack:
        yield stack


class Backend(EchoServicer):
    """Keeps the metadata of the last unary call, and fails with details of the requested size."""

    def __init__(self):
        super().__init__("b", lambda _: None)
        self.metadata = {}
        self.watch_ended = threading.Event()

    def UnaryEcho(self, request, context):
        self.metadata = dict(context.invocation_metadata())
        if request.payload_bytes:
            details = "grpc-status-details-bin", b"x" * request.payload_bytes
            context.set_trailing_metadata([details])
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "with details")
        return EchoResponse()

    def ServerStreamingEcho(self, _, context):
        context.add_callback(self.watch_ended.set)
        yield EchoResponse()
        self.watch_ended.wait(WAIT * 2)


class Front:
    """A proxy in front of one backend."""

    def __init__(self, stack, name, certs, changes=None, options=()):
        self.backend = Backend()
        self.server, port = backend.start(
            "127.0.0.1:0", "b", servicer=self.backend, options=options
        )
        stack.callback(backend.stop, self.server)
        running = proxy.running(name, 0, [("127.0.0.1", port)], certs, changes)
        try:
            self.address = stack.enter_context(running)
        except AbsentError as error:
            absent(error)
        self._authority = (certs / "ca.pem").read_bytes()
        self._stack = stack

    def stub(self, address=""):
        credentials = grpc.ssl_channel_credentials(self._authority)
        channel = grpc.secure_channel(address or self.address, credentials)
        return EchoServiceStub(self._stack.enter_context(channel))


@contextmanager
def relay(address):
    """A line to an address that can be cut without a word: nothing arrives, nothing is closed."""
    is_cut = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:

        def pass_on(source, sink):
            while not is_cut.is_set() and (data := source.recv(65_536)):
                if not is_cut.is_set():
                    sink.sendall(data)

        def serve():
            near = stack.enter_context(listener.accept()[0])
            far = stack.enter_context(socket.create_connection(addresses.parse(address)))
            for ends in ((near, far), (far, near)):
                threading.Thread(target=pass_on, args=ends, daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", is_cut.set
        thread.join()


def test_envoy_notices_a_dead_client(stack, certs):
    """Its pings come after a second here, after 20 s as it is configured."""
    shorter = {"{interval: 20s, timeout: 10s}": "{interval: 1s, timeout: 1s}"}
    front = Front(stack, "envoy", certs, shorter)
    address, cut = stack.enter_context(relay(front.address))
    watch = front.stub(address).ServerStreamingEcho(EchoRequest())
    next(watch)
    cut()

    assert front.backend.watch_ended.wait(WAIT)


class Connection(NamedTuple):
    """A line of /proc/net/tcp, without its first column and its last."""

    local: str
    remote: str
    state: str
    queues: str
    timer: str


ESTABLISHED, KEEPALIVE = "01", "02"
TICKS = 100
"""Of a second, in which the kernel counts there."""


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
def test_a_proxy_without_pings_lets_tcp_probe_its_clients(stack, certs, name):
    """The kernel shows a keepalive timer on the connection, with at most 20 s left."""
    front = Front(stack, name, certs)
    front.stub().UnaryEcho(EchoRequest(), timeout=WAIT)
    port = int(front.address.rpartition(":")[2])

    def seconds_left():
        """What the timers count down, once nothing is on its way that waits for its ACK."""
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        found = [Connection(*line.split()[1:6]) for line in lines]
        ours = [c for c in found if c.local.endswith(f":{port:04X}") and c.state == ESTABLISHED]
        timers = [c.timer.split(":") for c in ours]
        if timers and all(kind == KEEPALIVE for kind, _ in timers):
            return [int(ticks, 16) / TICKS for _, ticks in timers]
        return None

    try:
        left = wait_until(seconds_left)
    except OSError as error:
        absent(error)
    assert max(left) <= 20


@pytest.mark.slow
def test_clients_and_backends_may_be_silent_for_longer_than_a_minute(stack, certs):
    """Through each proxy, at the same time: a watch without events, and a client that is silent.

    The backend allows pings every five minutes, as is gRPC's default, and one that is too early:
    two by default, which would end the calls after 100 s.
    """

    strikes = [("grpc.http2.max_ping_strikes", 1)]
    fronts = [Front(stack, name, certs, options=strikes) for name in PROXIES]

    def talk(front):
        watch = front.stub().ServerStreamingEcho(EchoRequest())
        requests: queue.SimpleQueue[EchoRequest | None] = queue.SimpleQueue()
        stack.callback(requests.put, None)
        talk = front.stub().BidirectionalStreamingEcho(iter(requests.get, None))
        requests.put(EchoRequest(message="first"))
        assert (next(talk).message, bool(next(watch))) == ("first", True)
        time.sleep(DEFAULT_TIMEOUT + 5)
        requests.put(EchoRequest(message="second"))
        return next(talk).message, watch.is_active()

    with ThreadPoolExecutor() as pool:
        assert list(pool.map(talk, fronts)) == [("second", True)] * len(PROXIES)


def test_nginx_ends_calls_of_silent_clients_with_internal(stack, certs):
    """As it does after 60 s, unless client_body_timeout is set."""
    front = Front(stack, "nginx", certs, {"client_body_timeout 1h;": "client_body_timeout 1s;"})
    requests: queue.SimpleQueue[EchoRequest | None] = queue.SimpleQueue()
    stack.callback(requests.put, None)
    talk = front.stub().BidirectionalStreamingEcho(iter(requests.get, None))
    requests.put(EchoRequest(message="first"))
    next(talk)

    with pytest.raises(grpc.RpcError) as caught:
        next(talk)
    assert caught.value.code() == grpc.StatusCode.INTERNAL
    assert "Received RST_STREAM with error code 1" in caught.value.details()


@pytest.mark.parametrize("name", PROXIES)
def test_a_proxys_own_error_is_grpcs(stack, certs, name):
    front = Front(stack, name, certs)
    stub = front.stub()
    stub.UnaryEcho(EchoRequest(), timeout=WAIT)
    backend.stop(front.server)

    with pytest.raises(grpc.RpcError) as caught:
        stub.UnaryEcho(EchoRequest(), timeout=WAIT)
    assert caught.value.code() == UNAVAILABLE
    assert "http2 header" not in caught.value.details()  # So says grpcio if the status is HTTP's.


@pytest.mark.parametrize("name", PROXIES)
def test_a_proxys_own_error_has_what_other_clients_insist_on(stack, certs, name):
    """gRPC for Go reports UNKNOWN unless HTTP's status is 200 and the type is gRPC's."""
    curl = shutil.which("curl", path=programs.PATH)
    if not curl:
        absent("curl")
    front = Front(stack, name, certs)
    front.stub().UnaryEcho(EchoRequest(), timeout=WAIT)
    backend.stop(front.server)
    url = f"https://{front.address}/protos.echo.v1.EchoService/UnaryEcho"
    options = ["--cacert", certs / "ca.pem", "--http2", "--silent", "--dump-header", "-"]
    headers = ["--header", "content-type: application/grpc", "--header", "te: trailers"]
    command = [curl, *options, *headers, "--data", "", url]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout

    lines = shown.lower().splitlines()
    assert lines[0].startswith("http/2 200")
    assert {"content-type: application/grpc", "grpc-status: 14"} <= set(lines)


@pytest.mark.parametrize("name", PROXIES)
def test_large_details_of_an_error_pass(stack, certs, name):
    stub = Front(stack, name, certs).stub()

    with pytest.raises(grpc.RpcError) as caught:
        stub.UnaryEcho(EchoRequest(payload_bytes=5_000), timeout=WAIT)
    assert caught.value.details() == "with details"
    trailers = dict(caught.value.trailing_metadata())
    assert len(trailers["grpc-status-details-bin"]) == 5_000


@pytest.mark.parametrize("name", PROXIES)
def test_metadata_passes_but_for_a_forged_address(stack, certs, name):
    front = Front(stack, name, certs)
    metadata = [("user_id", "ada"), ("x-forwarded-for", "192.0.2.66")]
    front.stub().UnaryEcho(EchoRequest(), metadata=metadata, timeout=WAIT)

    assert front.backend.metadata["user_id"] == "ada"
    assert not front.backend.metadata["x-forwarded-for"].endswith("192.0.2.66")
    if name == "envoy":  # It appends. On loopback, it appends an address of this machine.
        assert front.backend.metadata["x-envoy-external-address"] == "127.0.0.1"


@pytest.mark.parametrize("name", PROXIES)
def test_a_deadline_in_a_stream_ends_with_deadline_exceeded(stack, certs, name):
    """Envoy's max_stream_duration would make it INTERNAL for clients that do not end it first.

    As grpcio does, so here the deadline is only in the header: the client itself has none.
    """
    stub = Front(stack, name, certs).stub()

    with pytest.raises(grpc.RpcError) as caught:
        list(stub.ServerStreamingEcho(EchoRequest(), metadata=[("grpc-timeout", "200m")]))
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_keepalive_requests_ends_no_watch(stack, certs):
    """nginx closes a connection after so many calls, and lets those in flight finish."""
    front = Front(stack, "nginx", certs, {"keepalive_requests 1000000;": "keepalive_requests 5;"})
    stub = front.stub()
    watch = stub.ServerStreamingEcho(EchoRequest())
    next(watch)
    for _ in range(20):
        stub.UnaryEcho(EchoRequest(), timeout=WAIT, wait_for_ready=True)

    assert watch.is_active()
    assert not front.backend.watch_ended.is_set()


OLD = "    listen 127.0.0.1:1 ssl http2 so_keepalive=on;\n    root /;\n"
NEW = "    listen 127.0.0.1:1 ssl so_keepalive=on;\n    http2 on;  # Why.\n    root /;\n"


@pytest.mark.parametrize(
    ("version", "expected"), [("1.22.1", OLD), ("1.25.0", OLD), ("1.25.1", NEW), ("1.31.5", NEW)]
)
def test_an_old_nginx_gets_http2_after_listen(version, expected):
    assert proxy.for_version(NEW, version) == expected


def test_nginx_conf_has_the_lines_that_an_old_nginx_cannot_read():
    template = (ROOT / "scaling/proxies/nginx.conf").read_text()

    assert "http2 on;" in proxy.for_version(template, "1.25.1")
    assert "http2 on;" not in proxy.for_version(template, "1.25.0")


@pytest.mark.parametrize("name", PROXIES)
def test_a_proxy_ends_with_the_program_that_is_killed(spawn_server, certs, name, tmp_path):
    args = ["--port=0", "--backends=127.0.0.1:1", f"--certs={certs}"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    process, address = spawn_server("-m", "scaling.proxies.proxy", name, *args, env=environment)
    if not address:
        absent(process.communicate()[1])
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()

    assert children
    assert psutil.wait_procs(children, timeout=WAIT)[1] == []


def test_a_change_must_find_its_text(certs):
    try:
        running = proxy.running("nginx", 0, [("127.0.0.1", 1)], certs, {"no such text": ""})
        with pytest.raises(ValueError, match=r"nginx.conf does not contain 'no such text'"):
            running.__enter__()
    except AbsentError as error:
        absent(error)
