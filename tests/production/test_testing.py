"""The tests that readers copy: each fails for one bug, and the client fits the real service."""

import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from unittest.mock import Mock

import grpc
import pytest

from helloworld.greeter_server import Greeter
from helloworld.helloworld_pb2 import HelloRequest
from production.contacts.settings import Settings
from production.contacts_server import start
from production.lessons.testing.names_client import OPTIONS, Names, RefusedError
from production.lessons.testing.scripted_server import PATIENCE, ScriptedServer, hold, read
from route_guide.route_guide_pb2 import DESCRIPTOR, Feature, Point, RouteSummary
from route_guide.route_guide_pb2_grpc import RouteGuideStub
from tests.conftest import ROOT, WAIT, wait_until

LESSON = "production/lessons/testing"
CLIENT = f"{LESSON}/names_client.py"
BUGS = {
    "a_call_has_a_deadline": ("SECONDS = 10.0", "SECONDS = 10_000.0"),
    "a_late_answer_leaves_it_open_what_has_happened": (
        "    grpc.StatusCode.DEADLINE_EXCEEDED,\n",
        "",
    ),
    "a_failed_call_is_tried_again_as_the_same_request": (
        '"name": [{"service": SERVICE,',
        '"name": [{"service": "ContactService",',
    ),
    "a_refused_call_is_not_tried_again": ('["UNAVAILABLE"]', '["UNAVAILABLE", "INVALID_ARGUMENT"]'),
    "an_empty_page_is_not_the_last": (
        "if not page.next_page_token:",
        "if not page.next_page_token or not page.contacts:",
    ),
    "half_a_stream_is_continued": (
        "WatchContactsRequest(position=position)",
        "WatchContactsRequest()",
    ),
    "pauses_grow_until_a_message_arrives": (
        "position, seconds = response.position, FIRST_PAUSE",
        "position = response.position",
    ),
    "a_change_before_the_start_is_an_error": ("if is_start != (number == 0):", "if False:"),
    "a_watch_that_is_refused_is_not_tried_again": (
        "if error.code() not in NO_ANSWER:",
        "if False:",
    ),
    "a_change_of_an_unknown_kind_is_left_out": ("if response.kind in KINDS:", "if not is_start:"),
}
"""For each case of the lesson, correct code of its client and a bug in its place."""


@pytest.fixture
def outcomes(tmp_path):
    """outcomes(SOURCE) runs the cases in a copy of the tree with this client: how each ended."""
    for folder in ("production", "protobuf_demo"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)

    def outcomes(client):
        (tmp_path / CLIENT).write_text(client)
        command = [sys.executable, "-m", "pytest", "-rA", f"{LESSON}/test_names_client.py"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=WAIT)
        ends = re.findall(r"^(PASSED|FAILED|ERROR) \S+::test_(\w+)", done.stdout, re.M)
        return {case: end for end, case in ends}

    return outcomes


def test_each_case_passes_and_has_a_bug(outcomes):
    assert outcomes((ROOT / CLIENT).read_text()) == dict.fromkeys(BUGS, "PASSED")


@pytest.mark.slow
@pytest.mark.parametrize("case", BUGS)
def test_a_bug_fails_its_case_and_no_other(case, outcomes):
    correct, bug = BUGS[case]
    source = (ROOT / CLIENT).read_text()
    assert source.count(correct) == 1

    ends = outcomes(source.replace(correct, bug))

    assert ends == dict.fromkeys(BUGS, "PASSED") | {case: "FAILED"}


def test_the_client_gets_from_the_service_what_the_script_says(run_async, tmp_path):
    """A fake answers as its author believes the service does; this holds it to the service."""
    settings = Settings(
        address="127.0.0.1:0",
        plaintext=True,
        database=f"sqlite:///{tmp_path}/contacts.db",
        drain_pause=0,
    )
    service, port = run_async(start(settings))
    with (
        grpc.insecure_channel(f"127.0.0.1:{port}", OPTIONS) as channel,
        ThreadPoolExecutor() as pool,
        closing(Names(channel).changes()) as changes,
    ):
        names, added = Names(channel), []
        change = pool.submit(next, changes)
        # The watch sees what comes after its start, which the client does not report.
        wait_until(lambda: added.append(names.add("Ada")) or change.done())
        assert change.result()[0] == "created"
        assert change.result()[1] in added
        assert list(names.people()) == ["Ada"] * len(added)
        with pytest.raises(RefusedError):
            names.add("")
    run_async(service.stop())


@pytest.fixture
def guide():
    """A scripted server of RouteGuide, and a stub of it."""
    with (
        ScriptedServer(DESCRIPTOR.services_by_name["RouteGuide"]) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        yield server, RouteGuideStub(channel)


def test_a_script_reads_a_stream_of_requests_when_it_says_so(guide):
    server, stub = guide
    points = [Point(latitude=1), Point(latitude=2)]
    server.script("RecordRoute", [read, RouteSummary(point_count=2)], [RouteSummary()])

    assert stub.RecordRoute(iter(points), timeout=WAIT) == RouteSummary(point_count=2)
    assert stub.RecordRoute(iter(points), timeout=WAIT) == RouteSummary()

    assert [attempt.requests for attempt in server.attempts] == [points, []]


def test_a_call_without_a_script_is_unimplemented(guide):
    server, stub = guide

    with pytest.raises(grpc.RpcError) as raised:
        stub.GetFeature(Point(), timeout=WAIT)

    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert raised.value.details() == "no script for another GetFeature"
    assert len(server.attempts) == 1


def test_an_attempt_without_a_deadline_has_none(guide):
    server, stub = guide
    server.script("GetFeature", [Feature()], [Feature()])

    stub.GetFeature(Point())
    stub.GetFeature(Point(), timeout=5, metadata=[("x-caller", "test")])

    first, second = server.attempts
    assert first.seconds_left is None
    assert 0 < second.seconds_left < 6
    assert second.metadata["x-caller"] == "test"


def test_a_server_stops_although_a_call_is_held():
    began = time.monotonic()
    with ScriptedServer(DESCRIPTOR.services_by_name["RouteGuide"]) as server:
        server.script("GetFeature", [hold])
        channel = grpc.insecure_channel(server.address)
        call = RouteGuideStub(channel).GetFeature.future(Point())
        wait_until(lambda: server.attempts)

    assert call.exception().code() is grpc.StatusCode.UNAVAILABLE
    channel.close()
    assert time.monotonic() - began < PATIENCE


def test_a_plain_mock_lets_a_handler_continue_after_abort():
    with pytest.raises(UnboundLocalError):
        Greeter().SayHello(HelloRequest(name=""), Mock())


def test_a_bare_error_has_no_code():
    with pytest.raises(AttributeError, match="'RpcError' object has no attribute 'code'"):
        grpc.RpcError().code()
