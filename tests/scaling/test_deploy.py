"""The image, its pods, compose.yaml and the systemd unit, by the programs that read them."""

import fcntl
import io
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import yaml

from production.contacts.settings import Settings
from production.development import programs
from production.development.new_service import Names, write_repository
from production.development.programs import AbsentError
from scaling.deploy import cluster, compose_secrets, layers
from tests.conftest import ROOT, absent, python, wait_until

DEPLOY = ROOT / "scaling/deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
UNIT = (DEPLOY / "contacts.service").read_text()
DOCKERFILES = [DEPLOY / "Dockerfile", DEPLOY / "Dockerfile.gateway"]
COMPOSE_GO = "github.com/compose-spec/compose-go/v2/cmd@v2.16.2"
BUILD_SECONDS = 1_800
"""On a busy machine; alone it takes two minutes."""
TEMPORARY = {"/run/lock", "/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue"}  # noqa: S108
MARGIN_S = 5
"""What a drain takes besides its pause and its grace."""


def program(name):
    try:
        return programs.find(name)
    except AbsentError as error:
        absent(error)


def check(*command, cwd=ROOT, **options):
    """What a program prints; a non-zero exit fails the test."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# The files.


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_hadolint_finds_nothing(file):
    assert check(program("hadolint"), "--failure-threshold=style", str(file)) == ""


def test_no_base_is_pinned_to_a_digest_that_nobody_looked_up():
    texts = [file.read_text() for file in [*DOCKERFILES, DEPLOY / "compose.yaml"]]

    assert re.findall(r"@sha256:\S+", "".join(texts)) == []


def test_a_new_service_has_the_same_dockerfile_but_for_names(tmp_path):
    write_repository(Names("orders", "order"), tmp_path / "shop")
    text = (DEPLOY / "Dockerfile").read_text()
    text = re.sub(r"COPY (protobuf_demo/__|production/__|production/v\d).*\n", "", text)
    for ours, theirs in (
        ("--file scaling/deploy/Dockerfile ", ""),
        ("production/starter/repository/", ""),
        ("production.contacts_server", "orders.orders_server"),
        ("production/", ""),
        ("contacts", "orders"),
        ("CONTACTS", "ORDERS"),
    ):
        assert ours in text
        text = text.replace(ours, theirs)

    assert (tmp_path / "shop" / "Dockerfile").read_text() == text


@pytest.mark.slow
def test_compose_accepts_the_file():
    go = shutil.which("go", path=programs.PATH) or absent("go (make gateway)")

    model = yaml.safe_load(check(go, "run", COMPOSE_GO, "scaling/deploy/compose.yaml"))

    assert model["services"].keys() == COMPOSE["services"].keys()


def test_each_file_of_compose_exists_or_is_a_secret_that_is_made(tmp_path):
    compose_secrets.make(tmp_path)
    configs = [each["file"] for each in COMPOSE["configs"].values() if "file" in each]
    files = [re.sub(r"\$\{\w+:-(.*)\}", r"\1", name) for name in configs]

    assert [name for name in files if not (DEPLOY / name).is_file()] == []
    assert {f"../../build/deploy/{path.name}" for path in tmp_path.iterdir()} == {
        secret["file"] for secret in COMPOSE["secrets"].values()
    }
    for name, service in COMPOSE["services"].items():
        for kind in ("secrets", "configs"):
            used = {
                each if isinstance(each, str) else each["source"] for each in service.get(kind, ())
            }
            assert used <= COMPOSE[kind].keys(), name


def test_secrets_are_kept_from_others_and_the_password_stays(tmp_path):
    folder = tmp_path / "secrets"
    compose_secrets.make(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    compose_secrets.make(folder)
    after = {path.name: path.read_bytes() for path in folder.iterdir()}

    assert folder.stat().st_mode & 0o777 == 0o700
    assert {name for name in before if before[name] == after[name]} == {
        "database-password",
        "database-url",
        "log-secret",
    }
    assert before["database-password"] in before["database-url"]


def settings_of(environment):
    return {name.removeprefix("CONTACTS_") for name in environment if name.startswith("CONTACTS_")}


def unit_environment():
    return dict(re.findall(r"^Environment=(\w+)=(.*)$", UNIT, re.M))


def dockerfile_environment():
    return re.findall(r"\b(CONTACTS_\w+)=", (DEPLOY / "Dockerfile").read_text())


@pytest.mark.parametrize(
    "environment",
    [
        COMPOSE["services"]["contacts"]["environment"],
        COMPOSE["services"]["migration"]["environment"],
        unit_environment(),
        dockerfile_environment(),
    ],
    ids=["compose", "migration", "unit", "Dockerfile"],
)
def test_each_variable_is_a_setting(environment):
    known = {name.upper() for name in Settings.model_fields}
    files = {f"{name.upper()}_FILE" for name in Settings.in_files}

    assert settings_of(environment) - known - files == set()
    assert settings_of(environment)


@pytest.mark.parametrize(
    ("environment", "stop_seconds"),
    [
        (
            COMPOSE["services"]["contacts"]["environment"],
            int(COMPOSE["services"]["contacts"]["stop_grace_period"].removesuffix("s")),
        ),
        (unit_environment(), int(re.findall(r"^TimeoutStopSec=(\d+)$", UNIT, re.M)[0])),
    ],
    ids=["compose", "unit"],
)
def test_the_time_to_stop_fits_the_drain(environment, stop_seconds):
    drain = int(environment["CONTACTS_DRAIN_PAUSE"]) + int(environment["CONTACTS_GRACE"])

    assert stop_seconds >= drain + MARGIN_S


def test_the_gateway_knows_its_flags():
    gateway = program("rest-gateway")
    command = COMPOSE["services"]["gateway"]["command"]

    done = subprocess.run([gateway, "--help"], capture_output=True, text=True, check=False)

    known = set(re.findall(r"^\s+--?([\w-]+)", done.stderr + done.stdout, re.M))
    assert {flag.removeprefix("--").partition("=")[0] for flag in command} <= known


def test_prometheus_accepts_its_configuration(tmp_path):
    for file in (DEPLOY / "prometheus.yml", ROOT / "production/operations/alerts.yml"):
        shutil.copy(file, tmp_path)

    printed = check(program("promtool"), "check", "config", str(tmp_path / "prometheus.yml"))

    assert "1 rule files found" in printed


def test_envoy_accepts_its_configuration(tmp_path):
    compose_secrets.make(tmp_path)
    text = (DEPLOY / "envoy.yaml").read_text().replace("/run/secrets", str(tmp_path))
    (tmp_path / "envoy.yaml").write_text(text)

    check(program("envoy"), "--mode", "validate", "-c", str(tmp_path / "envoy.yaml"))


@pytest.fixture
def unit(tmp_path):
    """The unit, with a program and a folder that this machine has."""
    text = UNIT.replace("/opt/contacts/.venv/bin/python", shutil.which("env"))
    file = tmp_path / "contacts.service"
    file.write_text(text.replace("/opt/contacts", str(tmp_path)))
    return file


def test_systemd_accepts_the_unit(unit):
    analyze = program("systemd-analyze")
    done = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_finds_a_mistake_in_the_unit(unit):
    analyze = program("systemd-analyze")
    unit.write_text(unit.read_text().replace("ProtectSystem=strict", "ProtectSystem=strictly"))
    done = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True)

    assert "Failed to parse protect system value" in done.stderr


def test_the_unit_is_hardened(unit):
    """systemd's own measure, from 0 to 100: the lower, the less the process may do."""
    command = ["security", "--offline=yes", "--no-pager", "--threshold=15", str(unit)]

    assert "OK" in check(program("systemd-analyze"), *command)


# The archive of an image.


def archive(path, *files, user="1000", env=()):
    """Writes an image with one layer, which has files (name, mode, content)."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for name, mode, content in files:
            info = tarfile.TarInfo(name)
            info.mode, info.size = mode, len(content)
            tar.addfile(info, io.BytesIO(content))
    blobs = {
        "layer": layer.getvalue(),
        "config": json.dumps(
            {"config": {"User": user, "Env": list(env)}, "rootfs": {"diff_ids": ["x"]}}
        ).encode(),
        "manifest": json.dumps(
            {"config": {"digest": "sha256:config"}, "layers": [{"digest": "sha256:layer"}]}
        ).encode(),
    }
    index = json.dumps({"manifests": [{"digest": "sha256:manifest"}]}).encode()
    named = {f"blobs/sha256/{name}": content for name, content in blobs.items()}
    with tarfile.open(path, "w") as tar:
        for name, content in {"index.json": index, **named}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    ("file", "where"),
    [
        (("app/server.key", 0o600, b""), "secrets"),
        (("root/.netrc", 0o600, b""), "secrets"),
        (("app/a.txt", 0o644, b"postgresql://postgres:s3cret@db/contacts"), "secrets"),
        (("app/tmp", 0o666, b""), "writable"),
        (("usr/bin/su", 0o4755, b""), "set_id"),
    ],
)
def test_what_an_image_should_not_have_is_found(file, where, tmp_path):
    clean = ("app/server.py", 0o644, b"print()")
    report = layers.examine(archive(tmp_path / "image.tar", clean, file))

    found = {name: getattr(report, name) for name in ("secrets", "writable", "set_id")}
    assert [len(values) for name, values in found.items() if name == where] == [1]
    assert not any(values for name, values in found.items() if name != where)


def test_a_private_key_is_found_anywhere_and_so_is_a_password_in_the_environment(tmp_path):
    certificates = tmp_path / "certificates"
    compose_secrets.make(certificates)
    key = (certificates / "edge.key").read_bytes()
    library = ("usr/lib/site-packages/x.py", 0o644, key)
    url = "DATABASE=postgresql://postgres:s3cret@db/contacts"

    report = layers.examine(archive(tmp_path / "image.tar", library, env=[url]))

    assert [secret.partition(":")[0] for secret in report.secrets] == ["config", f"/{library[0]}"]


def test_something_else_is_not_an_image(tmp_path):
    (tmp_path / "x.tar").write_text("x")

    done = python("-m", "scaling.deploy.layers", str(tmp_path / "x.tar"))

    assert (done.returncode, "is not an OCI archive" in done.stderr) == (1, True)


# The image itself, which is built once for all processes of the tests.


@pytest.fixture(scope="module")
def built(tmp_path_factory, worker_id):
    for name in ("buildah", "podman", "mmdebstrap", "runc"):
        program(name)
    if subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", "true"]).returncode:
        absent("root, with namespaces (sudo)")
    folder = tmp_path_factory.getbasetemp()
    folder = folder if worker_id == "master" else folder.parent
    built = folder / "contacts.tar"
    with (folder / "contacts.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            done = python("-m", "scaling.deploy.image", str(built), timeout=BUILD_SECONDS)
            assert done.returncode == 0, done.stderr
    return built


def distributions(paths):
    """The packages that are installed in an image."""
    pattern = r"/venv/lib/[^/]+/site-packages/(.+)-[^-]+\.dist-info"
    found = (re.fullmatch(pattern, path) for path in paths)
    return {each[1].lower().replace("_", "-") for each in found if each}


def pinned():
    """The packages that the server needs."""
    text = (ROOT / "production/starter/repository/requirements.txt").read_text()
    return {name.lower() for name in re.findall(r"^([\w-]+)(?:\[.*?\])?==", text, re.M)}


def report_of(module, archive):
    done = python("-m", module, "--json", str(archive), timeout=BUILD_SECONDS)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.timeout(2 * BUILD_SECONDS)
def test_the_image_has_the_server_and_no_secret(built):
    report = layers.examine(built)
    config = report.config["config"]

    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["python", "-m", "production.contacts_server"]
    assert set(config["ExposedPorts"]) == {"50051/tcp", "50052/tcp", "9464/tcp"}
    assert report.secrets == []
    assert report.set_id == []
    assert set(report.writable) <= TEMPORARY
    assert report.bytes < 350e6
    names = set(report.paths)
    assert {path for path in names if re.fullmatch(r"/app/production/[^/]+", path)} == {
        "/app/production/__init__.py",
        "/app/production/__pycache__",
        "/app/production/calling",
        "/app/production/contacts",
        "/app/production/contacts_server.py",
        "/app/production/serving",
        "/app/production/v1",
        "/app/production/v2",
    }
    assert distributions(names) == pinned() - {"tzdata"}  # That is for Windows.


@pytest.mark.slow
@pytest.mark.timeout(2 * BUILD_SECONDS)
def test_a_pod_may_do_little_and_finishes_its_calls(built):
    times = cluster.times(cluster.read("deployment.yaml"))
    report = report_of("scaling.deploy.pods", built)
    inside = report["inside"]

    assert inside["command"] == ["python", "-m", "production.contacts_server"]
    assert set(inside["user"]) == set(inside["group"]) == {"65532"}
    assert int(inside["capabilities"], 16) == int(inside["may gain"], 16) == 0
    assert (inside["no new privileges"], inside["seccomp"]) == ("1", "2")
    assert inside["links"] == []
    assert set(inside["writable"]) <= TEMPORARY
    assert (report["uploaded"], report["exit_code"]) == (1, 0)
    assert report["stop_seconds"] < times.grace
    assert report["greedy_exit_code"] == 137


@pytest.mark.slow
@pytest.mark.timeout(2 * BUILD_SECONDS)
def test_replacing_pods_loses_no_call(built):
    program("envoy")
    report = report_of("scaling.deploy.replacement", built)

    assert report["statuses"].keys() == {"OK"}
    assert report["exit_codes"] == [0, 0, 0]


@pytest.mark.slow
@pytest.mark.timeout(2 * BUILD_SECONDS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_of_a_program_that_is_interrupted(number, built, spawn):
    # Not tmp_path, which PostgreSQL's user may not enter.
    with tempfile.TemporaryDirectory(prefix="t-") as temporary:
        folder = Path(temporary)
        folder.chmod(0o711)
        environment = os.environ | {"TMPDIR": temporary}
        process = spawn("-m", "scaling.deploy.pods", str(built), env=environment)
        ends = time.monotonic() + BUILD_SECONDS
        while process.poll() is None and not [*folder.glob("*/pods")]:
            assert time.monotonic() < ends
            time.sleep(0.1)
        started = process_with(temporary)

        process.send_signal(number)
        process.wait(BUILD_SECONDS)

        assert (process.returncode, process.stderr.read()) == (128 + number, "")
        assert started
        assert process_with(temporary) == []
        assert [*folder.iterdir()] == []
        assert temporary not in Path("/proc/mounts").read_text()


def test_nothing_runs_after_a_program_is_killed(spawn):
    for name in ("buildah", "podman"):
        program(name)
    if subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", "true"]).returncode:
        absent("root, with namespaces (sudo)")
    with tempfile.TemporaryDirectory(prefix="t-") as temporary:
        archive = Path(temporary) / "waits.tar"
        os.mkfifo(archive)  # podman waits for somebody who writes to it.
        environment = os.environ | {"TMPDIR": temporary}
        process = spawn("-m", "scaling.deploy.pods", str(archive), env=environment)
        wait_until(lambda: [each for each in process_with(temporary) if "podman" in each[0]])

        process.kill()
        process.wait()

        wait_until(lambda: not process_with(temporary))


def process_with(folder):
    """The processes that have a folder among their arguments."""
    return [
        each.info["cmdline"]
        for each in psutil.process_iter(["cmdline"])
        if any(folder in argument for argument in each.info["cmdline"] or ())
    ]
