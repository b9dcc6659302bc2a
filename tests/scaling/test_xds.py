"""xDS: who answers at each step, with the control plane up and killed; bad files and updates."""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack

import pytest

from production.development import programs
from production.development.child import server
from production.development.programs import AbsentError
from scaling.xds import canary, steps
from scaling.xds.scene import FOLDER, replace
from tests.conftest import ROOT, WAIT, absent, python, wait_until

SIGMAS = 5
"""Of a share that is drawn; beyond is one run in 1,700,000."""


@pytest.fixture
def xds_python():
    try:
        return programs.find("xds-python")
    except AbsentError as error:
        absent(error)


def table(lesson):
    """By step and state of the control plane: what each client has counted."""
    found, title = {}, ""
    done = python("-m", "scaling.xds.steps", lesson, timeout=110)
    if "absent" in done.stdout:
        absent(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines()[2:]:
        title = line[:21].strip() or title
        state, *numbers = line[21:].split()
        found[title, state] = [list(map(int, numbers[:5])), list(map(int, numbers[5:]))]
    return found


def is_about(share, calls=400):
    """A count of calls that are drawn with a probability, as pytest compares it."""
    return pytest.approx(share * calls, abs=SIGMAS * (calls * share * (1 - share)) ** 0.5)


def rows(found, title):
    """The counts of both clients, with the control plane up and killed, without their time."""
    return [client[:4] for state in ("up", "killed") for client in found[title, state]]


@pytest.mark.slow
@pytest.mark.usefixtures("xds_python")
def test_calls_follow_the_weights_and_do_not_need_the_control_plane():
    found = table("weights")

    for title in ("discovery", "canary: taken back", "a bad update"):
        assert (title, rows(found, title)) == (title, [[400, 0, 0, 0]] * 4)
    for stable, spare, new, failed in rows(found, "canary: 20 of 100"):
        assert new == is_about(0.2)
        assert (stable + new, spare, failed) == (400, 0, 0)


@pytest.mark.slow
@pytest.mark.usefixtures("xds_python")
def test_the_zone_that_stands_by_gets_all_calls_while_the_first_one_is_dead():
    found = table("failover")

    assert rows(found, "zone b stands by") == [[400, 0, 0, 0]] * 4
    assert rows(found, "zone a is killed") == [[0, 400, 0, 0]] * 4
    assert rows(found, "zone a is back") == [[400, 0, 0, 0]] * 4


@pytest.mark.slow
@pytest.mark.usefixtures("xds_python")
def test_a_route_aborts_and_delays_and_a_cluster_limits():
    found = table("faults")

    for stable, spare, new, failed in rows(found, "abort 25 % of calls"):
        assert failed == is_about(0.25)
        assert (stable + failed, spare, new) == (400, 0, 0)
    for state in ("up", "killed"):
        for *by, milliseconds in found["delay calls by 50 ms", state]:
            assert by == [20, 0, 0, 0]
            assert milliseconds >= 50
    for stable, spare, new, failed in rows(found, "at most 10 in flight"):
        # More, if a slow machine needs 2 s to begin all of them.
        assert 10 <= stable < 40
        assert (stable + failed, spare, new) == (40, 0, 0)


@pytest.mark.slow
@pytest.mark.usefixtures("xds_python")
def test_a_canary_is_taken_back_at_the_first_error():
    done = python("-m", "scaling.xds.canary", timeout=110)
    assert done.returncode == 0, done.stderr

    _, *lines = done.stdout.splitlines()
    cases, case = {}, ""
    for line in lines:
        if line.startswith("  "):
            *step, stable, new, lost = line.split()
            cases[case][" ".join(step)] = int(stable), int(new), int(lost)
        else:
            cases[case := line] = {}
    assert list(cases["works"]) == ["5 %", "20 %", "50 %", "100 %"]
    for share in (0.05, 0.2, 0.5, 1):
        stable, new, lost = cases["works"][f"{share * 100:.0f} %"]
        assert new == is_about(share)
        assert (stable + new, lost) == (400, 0)
    assert list(cases["fails"]) == ["5 %", "taken back"]
    assert cases["fails"]["5 %"][2] > 0
    assert list(cases["is killed at 50 %"]) == ["5 %", "20 %", "50 %", "taken back"]
    assert cases["is killed at 50 %"]["50 %"][2] > 0
    for case in ("fails", "is killed at 50 %"):
        assert cases[case]["taken back"] == (400, 0, 0)


GOOD = (FOLDER / "echo.yaml").read_text()
for number, blank in enumerate(("STABLE_PORT", "CANARY_PORT", "EDGE_PORT"), 1):
    GOOD = GOOD.replace(blank, str(number))


class Plane:
    """A control plane with a file of a test's own."""

    def __init__(self, stack, folder, python):
        self.file, self._log = folder / "echo.yaml", folder / "log"
        self.file.write_text(GOOD)
        command = [python, "-m", "scaling.xds.control_plane", "--port=0", str(self.file)]
        run = server(command, log=self._log, cwd=ROOT, ended_by=signal.SIGKILL)
        self.process, self.address = stack.enter_context(run)

    def log(self):
        return self._log.read_text().splitlines()

    def wait_for(self, text):
        return wait_until(lambda: [line for line in self.log() if text in line])


@pytest.fixture
def plane(xds_python, tmp_path):
    with ExitStack() as stack:
        yield Plane(stack, tmp_path, xds_python)


LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "not a list of resources"),
        ("[]", "not a list of resources"),
        ("a: [", "expected the node content"),
        ("\0", "unacceptable character"),
        ("- 1", "not a list of resources"),
        ("- [1]", "not a list of resources"),
        ("- {}", "clients cannot subscribe to {}"),
        ("- {'@type': type.googleapis.com/none.Such, name: a}", "none.Such"),
        (f"- {{'@type': {LISTENER}}}", "unique"),
        (f"- {{'@type': {LISTENER}, name: a}}\n" * 2, "unique"),
        (f"- {{'@type': {LISTENER}, name: 1}}", "name"),
        (f"- {{'@type': {LISTENER}, name: a, nme: b}}", 'no field named "nme"'),
        (
            "- {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}",
            "clients cannot subscribe to type.googleapis.com",
        ),
        (None, "not a list of resources"),
    ],
)
def test_a_bad_file_is_refused_in_one_line_and_the_last_good_state_stays(plane, content, why):
    if content is None:
        plane.file.unlink()
    else:
        replace(plane.file, content)

    (line,) = plane.wait_for("refused")
    assert line.startswith("refused: ")
    assert line.endswith("; version 1 stays")
    assert why in line
    replace(plane.file, GOOD)
    plane.wait_for("version 2")
    assert plane.log() == [line, "version 2"]


def test_a_file_is_not_read_while_it_is_written(plane):
    """Half of it would be a state without its end."""
    half = GOOD.rindex("\n- ")
    with plane.file.open("w") as file:
        file.write(GOOD[:half])
        file.flush()
        file.write(GOOD[half:] + "# The same.\n")
    plane.wait_for("version 2")

    assert plane.log() == ["version 2"]


PROTOCOL = """
import queue, sys
from pathlib import Path
import grpc
from envoy.service.discovery.v3 import ads_pb2_grpc
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest
address, file = sys.argv[1:]
kinds = {"clusters": "cluster.v3.Cluster", "listeners": "listener.v3.Listener"}
url = {kind: f"type.googleapis.com/envoy.config.{name}" for kind, name in kinds.items()}
requests = queue.Queue()
stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(grpc.insecure_channel(address))
responses = stub.StreamAggregatedResources(iter(requests.get, None), timeout=50)
def ask(kind, *names, nonce="", error=""):
    request = DiscoveryRequest(type_url=url[kind], resource_names=names, response_nonce=nonce)
    if error:
        request.error_detail.message = error
    requests.put(request)
def read():
    got = next(responses)
    kind = next(kind for kind in url if url[kind] == got.type_url)
    print(kind, got.version_info, got.nonce, len(got.resources), flush=True)
def change():
    Path(file).write_text(Path(file).read_text() + "# Another.\\n")
ask("clusters", "stable"); read()
ask("clusters", "stable", nonce="1"); change(); read()
ask("clusters", "stable", nonce="2", error="no"); change(); read()
ask("clusters", "stable", "canary", nonce="2")
ask("clusters", "stable", "canary", nonce="3"); read()
ask("clusters", nonce="4"); ask("listeners"); read()
ask("listeners", nonce="5"); change(); read(); read()
"""


def test_the_control_plane_keeps_to_the_protocol(plane, xds_python):
    """Rejected is not sent again; a stale nonce is ignored; more names are sent at once;
    no names are all of them at first, and none after some."""
    command = [xds_python, "-c", PROTOCOL, plane.address, plane.file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT)

    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "clusters 1 1 1",
        "clusters 2 2 1",
        "clusters 3 3 1",
        "clusters 3 4 2",
        "listeners 3 5 2",
        "clusters 4 6 0",
        "listeners 4 7 2",
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_control_plane_ends_cleanly_with_clients(plane, number, spawn, tmp_path):
    bootstrap = tmp_path / "bootstrap.json"
    port = plane.address.rpartition(":")[2]
    bootstrap.write_text((FOLDER / "bootstrap.json").read_text().replace("XDS_PORT", port))
    environment = os.environ | {"GRPC_XDS_BOOTSTRAP": str(bootstrap)}
    spawn("-m", "scaling.xds.caller", "xds:///echo.example", env=environment)
    plane.wait_for("caller: ACK endpoints version 1")

    plane.process.send_signal(number)

    assert plane.process.wait(WAIT) == 0
    assert "Traceback" not in "\n".join(plane.log())


def start(python, *args):
    command = [python, "-m", "scaling.xds.control_plane", *args]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WAIT)
    return done.returncode, done.stdout, done.stderr


def test_a_control_plane_that_cannot_start_says_why(xds_python, plane, tmp_path):
    empty = tmp_path / "empty.yaml"
    empty.touch()
    port = plane.address.rpartition(":")[2]

    for args, why in (
        (["/none.yaml"], "No such file or directory: '/none.yaml'"),
        ([str(empty)], "it is not a list of resources"),
        ([str(plane.file), f"--port={port}"], f"Failed to bind to address 127.0.0.1:{port}"),
    ):
        status, output, errors = start(xds_python, *args)
        assert (status, output) == (1, "")
        (line,) = (line for line in errors.splitlines() if line.startswith("error: "))
        assert why in line
        assert "Traceback" not in errors
    assert start(xds_python, "--port=70000", str(empty))[0] == 2


@pytest.mark.parametrize("module", ["control_plane", "csds"])
def test_by_the_wrong_python_a_program_names_the_right_one(module, xds_python):
    done = python("-m", f"scaling.xds.{module}", "--help")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("use xds-python, which `make engines` installs\n")
    command = [xds_python, "-m", f"scaling.xds.{module}", "--help"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, timeout=WAIT).returncode == 0


@pytest.mark.parametrize("lesson", [canary, steps])
def test_without_its_python_a_lesson_says_how_to_install_it(lesson, monkeypatch):
    monkeypatch.setattr(programs, "PATH", "/nowhere")
    monkeypatch.setattr(sys, "argv", ["lesson", "weights"][: 1 + (lesson is steps)])

    with pytest.raises(SystemExit) as ended:
        lesson.main()
    assert ended.value.code == "error: xds-python (make engines)"


def test_the_control_plane_is_short():
    assert len((FOLDER / "control_plane.py").read_text().splitlines()) <= 200
