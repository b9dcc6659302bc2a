"""The loads accept right responses only, and the harness starts servers that work only."""

import http.server
import json
import threading

import pytest

from benchmarks import harness
from benchmarks.claims import rest
from benchmarks.harness import BenchmarkError, Ratio, ServerRun
from benchmarks.loads import h2load
from benchmarks.loads.http_load import RIGHT
from benchmarks.servers import hello_server
from helloworld import greeter_server
from tests.conftest import absent, python


@pytest.fixture
def answering():
    """answering(status, body) gives the address of a server that always answers so."""
    servers = []

    def answering(status, body):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        servers.append(server)
        return f"127.0.0.1:{server.server_port}"

    yield answering
    for server in servers:
        server.shutdown()
        server.server_close()


def load(address):
    return python("-m", "benchmarks.loads.http_load", address, "--seconds=0.2", "--in-flight=2")


def test_right_answers_are_counted(answering):
    summary = json.loads(load(answering(200, RIGHT | {"etag": '"1"'})).stdout)

    assert summary["calls"] > 0
    assert 0 < summary["p50_ms"] <= summary["p99_ms"]


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, {}), (200, RIGHT | {"name": "contacts/bo"}), (404, RIGHT), (500, {"error": "planted"})],
)
def test_a_wrong_answer_fails_the_run(answering, status, body):
    ended = load(answering(status, body))

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("error: wrong response")


def test_nobody_there_fails_the_run():
    assert "error: " in load("127.0.0.1:1").stderr


def test_the_verdict_is_of_ratios_round_by_round():
    def run(rate):
        return ServerRun(rate, 1, 1, 1, 1)

    runs = {
        "FastAPI": [run(100), run(50)],
        "grpc-gateway → grpcio": [run(1), run(1)],
        "Envoy → grpcio": [run(40), run(20)],
        "Envoy → pygrpc-native": [run(150), run(75)],
    }

    assert harness.speed(runs, "Envoy → pygrpc-native") == Ratio(1.5, 1.5, 1.5)
    assert rest.verdict(runs).splitlines() == [
        "holds: Envoy → pygrpc-native gives 1.50 × FastAPI's calls per second (goal: 1.0)",
        "does not hold: Envoy → grpcio gives 0.40 × FastAPI's calls per second (goal: 0.5)",
    ]


def test_a_server_that_does_not_start_is_an_error():
    with pytest.raises(BenchmarkError, match="does not start"), harness.server("nonsense"):
        pass


@pytest.fixture(params=["h2load", "embedded"])
def flags(request):
    """The flags for each load: h2load, or our own."""
    if request.param == "embedded":
        return ["--embedded"]
    if not h2load.program():
        absent(f"h2load ({h2load.INSTALL})")
    return []


def greet(address, protocol, *how):
    return python("-m", "benchmarks.loads.hello_load", address, protocol, "--seconds=0.3", *how)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, {"message": "Hello, nobody!"}, "wrong reply"),
        (500, {"message": "Hello, world!"}, "500"),
    ],
)
def test_a_wrong_greeting_fails_the_run(answering, status, body, error, flags):
    ended = greet(answering(status, body), "rest", "--in-flight=2", *flags)

    assert (ended.returncode, ended.stdout) == (1, "")
    assert error in ended.stderr


def test_a_failed_call_fails_the_run(serve, flags):
    """Chapter 2's server has no greeting for a name of more than 100 bytes."""
    ended = greet(serve(greeter_server.start), "grpc", "--name-length=101", *flags)

    assert (ended.returncode, ended.stdout) == (1, "")
    assert "INVALID_ARGUMENT" in ended.stderr


@pytest.mark.parametrize("length", [5, 100])
def test_right_greetings_are_counted(serve, flags, length):
    address = serve(greeter_server.start)

    ended = greet(address, "grpc", "--in-flight=4", f"--name-length={length}", *flags)

    assert json.loads(ended.stdout)["calls"] > 0


@pytest.mark.parametrize("variant", ["grpc.aio", "connectrpc", "FastAPI"])
def test_each_protocol_is_spoken(variant, flags):
    pytest.importorskip("fastapi")
    protocol = hello_server.SERVERS[variant].protocol
    with harness.server("benchmarks.servers.hello_server", variant) as (_, address):
        ended = greet(address, protocol, "--name-length=200000", "--in-flight=2", *flags)

    assert json.loads(ended.stdout)["calls"] > 0
