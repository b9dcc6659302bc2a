"""The chapter's command lines, as processes."""

import signal
import socket

import grpc
import pytest

from helloworld.helloworld_pb2 import HelloReply, HelloRequest
from helloworld.helloworld_pb2_grpc import GreeterStub

SERVERS = ["helloworld.greeter_server", "helloworld.async_greeter_server"]
CLIENTS = ["helloworld.greeter_client", "helloworld.async_greeter_client"]
STOPPING = "stopping: calls in flight have 10 s to finish; Ctrl-C again ends at once\n"

SLOW_SERVERS = {
    "sync": """
import sys
from helloworld import greeter_server as server, helloworld_pb2

def say_hello(self, request, context):
    print("called")
    return helloworld_pb2.HelloReply(message=sys.stdin.readline().strip())
""",
    "asyncio": """
import asyncio, sys
from helloworld import async_greeter_server as server, helloworld_pb2

async def say_hello(self, request, context):
    print("called")
    line = await asyncio.to_thread(sys.stdin.readline)
    return helloworld_pb2.HelloReply(message=line.strip())
""",
}
"""Servers whose greeting is a line from their stdin, so that a test decides when a call ends."""

BUGGY_SERVER = """
import sys
from helloworld import {} as server

def greet(name):
    raise RuntimeError("password hunter2")

server.greeting.greet = greet
sys.argv[1:] = ["--port", "0"]
server.main()
"""


@pytest.fixture(params=SLOW_SERVERS)
def slow_server(request, spawn_server):
    """A slow server with one call in flight: its process and the call."""
    wiring = "server.Greeter.SayHello = say_hello\nsys.argv[1:] = ['--port', '0']\nserver.main()"
    process, address = spawn_server("-c", SLOW_SERVERS[request.param] + wiring)
    with grpc.insecure_channel(address) as channel:
        call = GreeterStub(channel).SayHello.future(HelloRequest(name="Ada"), timeout=60)
        assert process.stdout.readline() == "called\n"
        yield process, call


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("client", CLIENTS)
def test_every_client_talks_to_every_server(server, client, spawn_server, run):
    _, address = spawn_server("-m", server, "--port", "0")

    result = run(client, "--address", address, "--name", "你好")

    assert (result.stdout, result.stderr, result.returncode) == ("Hello, 你好!\n", "", 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("server", SERVERS)
def test_a_signal_stops_an_idle_server_with_status_0(server, number, spawn_server):
    process, _ = spawn_server("-m", server, "--port", "0")

    process.send_signal(number)

    assert process.communicate() == (STOPPING, "")
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_call_in_flight_finishes_after_the_signal(number, slow_server):
    process, call = slow_server

    process.send_signal(number)
    assert process.stdout.readline() == STOPPING
    process.stdin.write("Hello at last!\n")
    process.stdin.flush()

    assert call.result() == HelloReply(message="Hello at last!")
    assert process.wait() == 0


def test_a_second_ctrl_c_ends_the_server_at_once(slow_server):
    process, call = slow_server

    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == STOPPING
    process.send_signal(signal.SIGINT)

    assert process.wait() == -signal.SIGINT
    assert call.code() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("server", SERVERS)
def test_a_taken_port_is_one_clear_line(server, run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        result = run(server, "--port", str(port))

    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert "Address already in use" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("server", SERVERS)
def test_a_second_server_never_shares_the_port(server, spawn_server, run):
    _, address = spawn_server("-m", server, "--port", "0")

    result = run(server, "--port", address.rpartition(":")[2])

    assert (result.returncode, result.stdout) == (1, "")


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("port", ["-1", "65536"])
def test_an_impossible_port_is_one_clear_line(server, port, run):
    result = run(server, "--port", port)

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "error: bind(): port must be 0-65535.\n"


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("port", ["http", ""])
def test_a_port_that_is_not_a_number_is_a_usage_error(server, port, run):
    result = run(server, "--port", port)

    assert result.returncode == 2
    assert result.stderr.endswith(f"error: argument --port: invalid int value: {port!r}\n")


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_listens_on_the_host_it_is_given(server, spawn_server, run):
    _, address = spawn_server("-m", server, "--host", "0.0.0.0", "--port", "0")  # noqa: S104
    host, _, port = address.rpartition(":")

    result = run(CLIENTS[0], "--address", f"localhost:{port}", "--name", "Ada")

    assert (host, result.stdout) == ("0.0.0.0", "Hello, Ada!\n")  # noqa: S104


@pytest.mark.parametrize("server", SERVERS)
def test_a_host_of_another_machine_is_one_clear_line(server, run):
    result = run(server, "--host", "192.0.2.1", "--port", "0")  # Reserved for documentation.

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert "assign requested address" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("server", SERVERS)
def test_each_call_is_one_short_line_in_the_log(server, spawn_server, run):
    process, address = spawn_server("-m", server, "--port", "0")
    for name in ("Ada", "\x1b[31m\n", "x" * 101):
        run(CLIENTS[0], "--address", address, "--name", name)
    process.send_signal(signal.SIGTERM)

    log = ["SayHello 'Ada'", r"SayHello '\x1b[31m\n'", "SayHello '" + "x" * 99, ""]
    assert process.communicate() == (STOPPING, "\n".join(log))


@pytest.mark.parametrize(
    ("server", "log", "details"),
    [
        (
            "greeter_server",
            "Exception calling application: password hunter2",
            "Exception calling application: password hunter2",
        ),
        (
            "async_greeter_server",
            "Unexpected [RuntimeError] raised by servicer method [/helloworld.Greeter/SayHello]",
            "Unexpected <class 'RuntimeError'>: password hunter2",
        ),
    ],
)
def test_a_bug_shows_its_traceback_and_the_client_its_text(server, log, details, spawn_server, run):
    process, address = spawn_server("-c", BUGGY_SERVER.format(server))
    result = run(CLIENTS[0], "--address", address, "--name", "Ada")
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate()

    assert (result.returncode, result.stderr) == (1, f"error: UNKNOWN: {details}\n")
    assert stderr.startswith(f"SayHello 'Ada'\n{log}\nTraceback (most recent call last):\n")
    assert stderr.endswith("\nRuntimeError: password hunter2\n")


@pytest.mark.parametrize("client", CLIENTS)
def test_nobody_listening_is_one_line_and_status_1(client, run):
    with socket.socket() as unheard:  # Bound but not listening: nobody else can take the port.
        unheard.bind(("127.0.0.1", 0))
        port = unheard.getsockname()[1]

        result = run(client, "--address", f"127.0.0.1:{port}")

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: UNAVAILABLE: failed to connect to all addresses")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("client", CLIENTS)
def test_a_passed_deadline_is_one_line_and_status_1(client, run):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # Accepts, and never sends a byte.
        port = silent.getsockname()[1]

        result = run(client, "--address", f"127.0.0.1:{port}", "--timeout", "0.2")

    assert result.returncode == 1
    assert result.stderr == "error: DEADLINE_EXCEEDED: Deadline Exceeded\n"


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("name", ["", "x" * 101])
def test_a_refused_name_is_one_line_and_status_1(client, name, spawn_server, run):
    _, address = spawn_server("-m", SERVERS[0], "--port", "0")

    result = run(client, "--address", address, "--name", name)

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: INVALID_ARGUMENT: name ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("flag", "value", "error"),
    [
        ("--timeout", bad, f"expected up to 86400 seconds, above 0, got {bad!r}")
        for bad in ("0", "-1", "nan", "inf", "1e300")
    ]
    + [("--timeout", bad, f"invalid seconds value: {bad!r}") for bad in ("soon", "")]
    + [
        ("--address", bad, f"expected HOST:PORT, got {bad!r}")
        for bad in ("", "localhost", ":50051", "localhost:", "localhost:70000", "h:-1", "h:0")
    ]
    + [("--address", b"\xff:1", r"expected UTF-8 text, got '\udcff:1'")]
    + [("--name", b"\xff", r"expected UTF-8 text, got '\udcff'")],
)
def test_a_value_that_cannot_be_meant_is_a_usage_error(client, flag, value, error, run):
    result = run(client, flag, value)

    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.endswith(f"error: argument {flag}: {error}\n")
