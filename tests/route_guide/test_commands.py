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

from route_guide.route_guide_pb2 import Point, RouteNote
from route_guide.route_guide_pb2_grpc import RouteGuideStub
from tests.conftest import ROOT

SERVERS = ["route_guide.route_guide_server", "route_guide.async_route_guide_server"]
CLIENTS = ["route_guide.route_guide_client", "route_guide.async_route_guide_client"]
WORLD = ["list", "-90", "-180", "90", "180"]


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


def test_the_server_tells_when_a_client_breaks_off(server, ask):
    process, address = server

    result = ask(address, *WORLD, "--limit", "3")

    assert len(result.stdout.splitlines()) == 4
    line = process.stderr.readline()
    assert re.fullmatch(r"ListFeatures: sent \d+ cities in \d+ ms, broken off\n", line)


def test_head_ends_a_listing_quietly(server):
    _, address = server
    command = [sys.executable, "-um", CLIENTS[0], "--address", address, *WORLD]

    with subprocess.Popen(command, cwd=ROOT, stdout=PIPE, stderr=PIPE, text=True) as listing:
        assert listing.stdout.readline() == " -45.87416  170.50361  Dunedin, NZ\n"
        listing.stdout.close()

        assert listing.stderr.read() == ""
    assert listing.returncode == -signal.SIGPIPE


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["get", "91", "0"], "error: INVALID_ARGUMENT: latitude 91.0 is not within -90 to 90"),
        (["list", "0", "0", "0", "181"], "error: INVALID_ARGUMENT: longitude 181.0 is not within"),
        (["record", *["0", "0", "0", "180"] * 60], "error: OUT_OF_RANGE: the route is longer"),
        (["chat", "0", "0", "x" * 1001], "error: INVALID_ARGUMENT: note has 1001 characters"),
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
    "args",
    [
        [],
        ["fly"],
        ["get", "0"],
        ["get", "here", "0"],
        ["get", "nan", "0"],
        ["get", "215", "0"],
        ["list", "0", "0", "0"],
        ["list", "0", "0", "0", "0", "--limit", "0"],
        ["list", "0", "0", "0", "0", "--pause", "-1"],
        ["record", "0", "0", "0"],
        ["chat", "0", "0"],
        ["chat", "0", "0", b"\xff"],
        ["--timeout", "1e300", "get", "0", "0"],
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(ask, args):
    result = ask("127.0.0.1:1", *args)

    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("usage: ")
    assert ": error: " in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_chat_in_flight_goes_on_after_the_signal(server, number):
    process, address = server
    outbox = queue.SimpleQueue()
    with grpc.insecure_channel(address) as channel:
        chat = RouteGuideStub(channel).RouteChat(iter(outbox.get, None), timeout=30)
        outbox.put(RouteNote(location=Point(), message="before"))
        outbox.put(RouteNote(location=Point(), message="still before"))
        assert next(chat).message == "before"

        process.send_signal(number)
        assert process.stdout.readline() == "stopping: calls in flight may finish\n"
        outbox.put(RouteNote(location=Point(), message="after"))
        outbox.put(None)

        assert [note.message for note in chat] == ["before", "still before"]
    assert process.wait() == 0


@pytest.mark.parametrize("module", SERVERS)
def test_a_taken_port_is_one_clear_line(module, run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run(module, "--port", str(taken.getsockname()[1]))

    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(r"error: .*Address already in use.*\n", result.stderr)
