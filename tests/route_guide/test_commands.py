"""The chapter's command lines, as processes."""

import queue
import re
import signal
import socket
import subprocess
import sys
from subprocess import PIPE

import grpc
import pytest

from route_guide.route_guide_client import OPTIONS
from route_guide.route_guide_pb2 import Point, Rectangle, RouteNote
from route_guide.route_guide_pb2_grpc import RouteGuideStub
from tests.conftest import ROOT

SERVERS = ["route_guide.route_guide_server", "route_guide.async_route_guide_server"]
CLIENTS = ["route_guide.route_guide_client", "route_guide.async_route_guide_client"]
WORLD = ["list", "-90", "-180", "90", "180"]
EVERYWHERE = Rectangle(
    lo=Point(latitude=-900000000, longitude=-1800000000),
    hi=Point(latitude=900000000, longitude=1800000000),
)
STOPPING = "stopping: calls in flight have 10 s to finish; Ctrl-C again ends at once\n"


@pytest.fixture(params=SERVERS)
def server(request, spawn_server):
    """A running server: its process and address."""
    return spawn_server("-m", request.param, "--port", "0")


@pytest.fixture(params=CLIENTS)
def ask(request, run):
    """ask(address, ARGS) runs a client."""
    return lambda address, *args: run(request.param, "--address", address, *args)


def test_the_four_commands_print_their_answers(server, ask):
    _, address = server

    assert ask(address, "get", "31.22222", "121.45806").stdout == "Shanghai, CN\n"
    assert ask(address, "get", "-0.5", "-1").stdout == "no city there\n"
    listing = ask(address, "list", "-36.5", "174", "-37.2", "175.5").stdout
    assert listing.splitlines()[:3] == [
        " -36.99282  174.87986  Manukau City, NZ",
        " -36.84853  174.76349  Auckland, NZ",
        " -36.80000  174.75000  North Shore, NZ",
    ]
    assert re.fullmatch(
        r"3 cities, the first after \d+ ms, the last after \d+ ms", listing.splitlines()[3]
    )
    assert ask(address, "list", "0", "0", "0", "0").stdout == "0 cities\n"
    route = ["-33.86785", "151.20732", "-36.84853", "174.76349", "21.30694", "-157.85833"]
    assert ask(address, "record", *route).stdout == "3 points, 3 cities, 9232 km\n"
    assert ask(address, "chat", "0", "0", "你好", "b").stdout == "earlier: 你好\nnotes left: 2\n"


def test_the_server_logs_a_call_that_its_client_cancels(server, ask):
    process, address = server

    result = ask(address, *WORLD, "--limit", "3")

    assert len(result.stdout.splitlines()) == 4
    line = process.stderr.readline()
    assert re.fullmatch(r"ListFeatures: sent \d+ cities in \d+ ms, cancelled\n", line)


@pytest.mark.parametrize("client", CLIENTS)
def test_head_ends_a_listing_quietly(server, client):
    _, address = server
    command = [sys.executable, "-um", client, "--address", address, *WORLD]

    with subprocess.Popen(command, cwd=ROOT, stdout=PIPE, stderr=PIPE, text=True) as listing:
        assert listing.stdout.readline() == " -45.87416  170.50361  Dunedin, NZ\n"
        listing.stdout.close()

        assert listing.stderr.read() == ""
    assert listing.returncode == 128 + signal.SIGPIPE


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["get", "91", "0"],
            "error: INVALID_ARGUMENT: latitude 91.0 is not between -90 and 90 degrees",
        ),
        (["list", "0", "0", "0", "181"], "error: INVALID_ARGUMENT: longitude 181.0 is not between"),
        (["record", *["0", "0", "0", "180"] * 60], "error: OUT_OF_RANGE: the route is longer"),
        (
            ["chat", "0", "0", "x" * 1001],
            "error: INVALID_ARGUMENT: at most 1000 characters are allowed",
        ),
    ],
)
def test_a_refusal_is_one_line_and_status_1(server, ask, args, message):
    _, address = server

    result = ask(address, *args)

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [["get", "0", "0"], WORLD, ["record", "0", "0"]])
def test_nobody_listening_is_one_line_and_status_1(ask, command):
    with socket.socket() as unheard:  # Bound but not listening: nobody else can take the port.
        unheard.bind(("127.0.0.1", 0))

        result = ask(f"127.0.0.1:{unheard.getsockname()[1]}", *command)

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: UNAVAILABLE: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [["get", "0", "0"], WORLD, ["record", "0", "0"]])
def test_a_passed_deadline_is_one_line_and_status_1(ask, command):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # Accepts, and never says a word.
        address = f"127.0.0.1:{silent.getsockname()[1]}"

        result = ask(address, "--timeout", "0.2", *command)

    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(r"error: DEADLINE_EXCEEDED: .*\n", result.stderr)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["fly"], "argument COMMAND: invalid choice: 'fly'"),
        (["get", "0"], "the following arguments are required: longitude"),
        (
            ["get", "here", "0"],
            "argument latitude: expected degrees between -214 and 214, got 'here'",
        ),
        (
            ["get", "nan", "0"],
            "argument latitude: expected degrees between -214 and 214, got 'nan'",
        ),
        (
            ["get", "0", "215"],
            "argument longitude: expected degrees between -214 and 214, got '215'",
        ),
        (["list", "0", "0", "0"], "the following arguments are required: other_longitude"),
        (
            ["list", "0", "0", "0", "0", "--limit", "0"],
            "argument --limit: expected a whole number above 0, got '0'",
        ),
        (
            ["list", "0", "0", "0", "0", "--pause", "-1"],
            "argument --pause: expected up to 86400 seconds, above 0, got '-1'",
        ),
        (["record", "0", "0", "0"], "the last point of the route has no longitude"),
        (["chat", "0", "0"], "the following arguments are required: message"),
        (
            ["chat", "0", "0", b"\xff"],
            r"argument message: expected UTF-8 text, got '\udcff'",
        ),
        (
            ["--timeout", "1e300", "get", "0", "0"],
            "argument --timeout: expected up to 86400 seconds, above 0, got '1e300'",
        ),
        (
            ["--address", "localhost", "get", "0", "0"],
            "argument --address: expected HOST:PORT, got 'localhost'",
        ),
        (
            ["--address", ":50051", "get", "0", "0"],
            "argument --address: expected HOST:PORT, got ':50051'",
        ),
        (
            ["--address", "localhost:70000", "get", "0", "0"],
            "argument --address: expected HOST:PORT, got 'localhost:70000'",
        ),
        (
            ["--address", b"\xff:1", "get", "0", "0"],
            r"argument --address: expected UTF-8 text, got '\udcff:1'",
        ),
    ],
)
def test_a_wrong_argument_is_a_usage_error_that_says_what_is_expected(ask, args, message):
    result = ask("127.0.0.1:1", *args)

    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("usage: ")
    assert result.stderr.splitlines()[-1].partition(": error: ")[2].startswith(message)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_chat_in_flight_continues_after_the_signal(server, number):
    process, address = server
    outbox = queue.SimpleQueue()
    with grpc.insecure_channel(address) as channel:
        chat = RouteGuideStub(channel).RouteChat(iter(outbox.get, None), timeout=30)
        outbox.put(RouteNote(location=Point(), message="before"))
        outbox.put(RouteNote(location=Point(), message="still before"))
        assert next(chat).message == "before"

        process.send_signal(number)
        assert process.stdout.readline() == STOPPING
        outbox.put(RouteNote(location=Point(), message="after"))
        outbox.put(None)

        assert [note.message for note in chat] == ["before", "still before"]
    assert process.wait() == 0


@pytest.fixture
def stream(server):
    """A server that is sending the world, and the call, of which one city has been read."""
    process, address = server
    with grpc.insecure_channel(address, OPTIONS) as channel:
        call = RouteGuideStub(channel).ListFeatures(EVERYWHERE, timeout=30)
        assert next(call).name == "Dunedin, NZ"
        yield process, call


def test_a_second_ctrl_c_ends_the_server_at_once(stream):
    process, call = stream

    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == STOPPING
    process.send_signal(signal.SIGINT)

    assert process.wait() == -signal.SIGINT
    assert call.code() == grpc.StatusCode.UNAVAILABLE
    assert call.details().startswith("Stream removed (")


def test_a_killed_server_ends_the_stream_and_what_was_not_yet_read_is_lost(stream):
    process, call = stream

    process.kill()

    assert call.code() == grpc.StatusCode.UNAVAILABLE
    assert call.details().startswith("Stream removed (")
    with pytest.raises(grpc.RpcError) as raised:
        next(call)
    assert raised.value is call


@pytest.mark.parametrize("module", SERVERS)
def test_what_a_stopped_server_has_sent_can_be_read_when_it_is_gone(module, spawn_server):
    process, address = spawn_server("-m", module, "--port", "0", "--grace", "0.2")
    cities = []
    with grpc.insecure_channel(address, OPTIONS) as channel:
        call = RouteGuideStub(channel).ListFeatures(EVERYWHERE, timeout=30)
        next(call)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0

        with pytest.raises(grpc.RpcError) as raised:
            cities.extend(city.name for city in call)

    assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
    assert raised.value.details() == "Cancelling all calls"
    assert 0 < len(cities) < 4_999


@pytest.mark.parametrize("module", SERVERS)
def test_host_names_the_address_to_listen_on(module, spawn_server, run):
    _, address = spawn_server("-m", module, "--host", "localhost", "--port", "0")

    result = run(CLIENTS[0], "--address", address, "get", "31.22222", "121.45806")

    assert address.startswith("localhost:")
    assert result.stdout == "Shanghai, CN\n"


@pytest.mark.parametrize("module", SERVERS)
def test_a_taken_port_is_one_clear_line(module, run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run(module, "--port", str(taken.getsockname()[1]))

    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(r"error: .*Address already in use.*\n", result.stderr)


@pytest.mark.parametrize("module", SERVERS)
@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--port", "70000", "bind(): port must be 0-65535"),
        ("--port", "-1", "bind(): port must be 0-65535"),
        ("--host", "192.0.2.1", "[Errno "),  # No machine has this address.
    ],
)
def test_an_impossible_address_is_one_clear_line(module, flag, value, message, run):
    result = run(module, flag, value)

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1


def test_open_chats_stay_open_until_ctrl_c(server, spawn):
    _, address = server
    process = spawn("-m", "route_guide.open_chats", "--address", address, "--count", "3")

    assert process.stdout.readline() == "3 chats are open; Ctrl-C closes them\n"
    with grpc.insecure_channel(address) as channel:
        notes = iter([RouteNote(location=Point(), message="Here I am.")])
        earlier = [note.message for note in RouteGuideStub(channel).RouteChat(notes, timeout=30)]
    assert earlier.count("Is anybody here?") == 3
    process.send_signal(signal.SIGINT)

    assert process.communicate() == ("", "")
    assert process.returncode == -signal.SIGINT
