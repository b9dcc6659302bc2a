"""The server as a process: why it does not start, IPv6, and SIGHUP."""

import base64
import json
import os
import shutil
import signal
import socket
import time

import grpc
import pytest

from production.calling.signing import sign
from production.contacts import api_keys
from production.contacts.access import SIGNATURE
from production.v1.contacts_pb2 import ListContactsRequest
from production.v1.contacts_pb2_grpc import ContactServiceStub
from tests.conftest import WAIT, wait_until
from tests.production.tokens import AUDIENCE, ISSUER, bearer

SERVER = "production.contacts_server"
LIST = "/production.v1.ContactService/ListContacts"
FREE = "127.0.0.1:0"


@pytest.fixture
def environment(tmp_path):
    """environment(NAME=value, ...) is that of a server with a database of its own."""

    def environment(**settings):
        ours = {
            "DATABASE": f"sqlite:///{tmp_path}/contacts.db",
            "ADDRESS": FREE,
            "DRAIN_PAUSE": "0",
            "LOG": "json",
        } | settings
        return os.environ | {f"CONTACTS_{name}": str(value) for name, value in ours.items()}

    return environment


@pytest.fixture
def taken():
    """An address that another program has."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        yield f"127.0.0.1:{held.getsockname()[1]}"


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ADDRESS": "TAKEN"}, "TAKEN: Address already in use"),
        ({"METRICS_ADDRESS": "TAKEN"}, "TAKEN: Address already in use"),
        ({"HEALTH_ADDRESS": "TAKEN"}, "TAKEN: Address already in use"),
        ({"CHANNELZ_ADDRESS": "TAKEN"}, "TAKEN: Address already in use"),
        ({"HEALTH_ADDRESS": "192.0.2.1:1"}, "192.0.2.1:1: Cannot assign requested address"),
        ({"ADDRESS": "127.0.0.1:70000"}, "CONTACTS_ADDRESS: expected HOST:PORT, "),
        ({"DATABASE": "sqlite:////nowhere/a.db"}, "(sqlite3.OperationalError) unable to open "),
        ({"DATABASE": "postgresql+psycopg://a:b@127.0.0.1:1/x"}, "(psycopg.OperationalError) conn"),
        ({"API_KEYS": "/nowhere"}, "/nowhere: No such file or directory"),
    ],
)
def test_an_error_at_the_start_is_one_line(run, environment, taken, settings, message, workers):
    chosen = {name: value.replace("TAKEN", taken) for name, value in settings.items()}
    done = run(SERVER, "--plaintext", "--workers", workers, env=environment(**chosen))

    *logged, last = done.stderr.splitlines()
    assert last.startswith(f"error: {message.replace('TAKEN', taken)}")
    assert all(line.startswith("{") for line in logged)  # A supervisor's log.
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_every_address_may_be_ipv6(spawn_server, run, environment, workers):
    settings = dict.fromkeys(("METRICS_ADDRESS", "HEALTH_ADDRESS", "CHANNELZ_ADDRESS"), "[::1]:0")
    flags = "--plaintext", "--workers", workers, "--address", "[::1]:0"
    _, address = spawn_server("-m", SERVER, *flags, env=environment(**settings))

    assert address.startswith("[::1]:")
    client = "production.contacts_client"
    assert run(client, "--plaintext", "--address", address, "list").returncode == 0


@pytest.mark.slow
def test_workers_read_secrets_in_files_and_serve_behind_a_proxy(
    spawn_server, environment, tmp_path, files
):
    """The supervisor adds to their environment and flags nothing that would contradict it."""
    (tmp_path / "secret").write_text("s" * 32)
    variables = environment(
        ADDRESS="[::]:0",
        API_KEYS=files["keys"],
        LOG_SECRET_FILE=tmp_path / "secret",
        PLAINTEXT="sidecar",
        WORKERS=2,
    )
    _, address = spawn_server("-m", SERVER, env=variables)

    local = address.replace("[::]", "127.0.0.1")
    assert code(local, signed(files["keys"])) == grpc.StatusCode.OK
    assert code(local, []) == grpc.StatusCode.UNAUTHENTICATED


@pytest.fixture
def files(tmp_path, issuers):
    """The files of a server's secrets, as settings."""
    folder = {name: tmp_path / name for name in ("keys", "issuers", "database")}
    write_keys(folder["keys"], "laptop")
    folder["issuers"].write_text(json.dumps([issuers[0] | {"audience": "https://elsewhere"}]))
    folder["database"].write_text(f"sqlite:///{tmp_path}/contacts.db")
    return folder


def write_keys(file, key):
    file.unlink(missing_ok=True)
    api_keys.add_key(file, key, key, ["contacts.read"], AUDIENCE, file.with_suffix(".client"))


def signed(file):
    client = json.loads(file.with_suffix(".client").read_text())
    secret = base64.urlsafe_b64decode(client["secret"])
    nonce = os.urandom(16).hex()
    return [(SIGNATURE, sign(client["key"], secret, AUDIENCE + LIST, time.time(), nonce))]


def code(address, metadata):
    with grpc.insecure_channel(address) as channel:
        try:
            stub = ContactServiceStub(channel)
            stub.ListContacts(ListContactsRequest(), timeout=WAIT, metadata=metadata)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def logged(process, event):
    """The first line of the log with the event, and those before it."""
    lines = []

    def found():
        lines.append(json.loads(process.stderr.readline()))
        return lines[-1]["event"] == event

    wait_until(found)
    return lines


def test_sighup_reads_keys_and_issuers_again_and_names_what_needs_a_restart(
    spawn_server, environment, files, issuers
):
    variables = environment(
        API_KEYS=files["keys"],
        ISSUERS_FILE=files["issuers"],
        DATABASE="",
        DATABASE_FILE=files["database"],
    )
    process, address = spawn_server("-m", SERVER, "--plaintext", env=variables)
    old, ok, refused = signed(files["keys"]), grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED
    assert code(address, old) == ok
    assert code(address, bearer(iss=ISSUER)) == refused

    write_keys(files["keys"], "phone")
    files["issuers"].write_text(json.dumps(issuers))
    files["database"].write_text("sqlite:///another.db")
    process.send_signal(signal.SIGHUP)
    lines = logged(process, "a restart is needed")

    assert [line["event"] for line in lines if line["event"] != "call"][-2:] == [
        "reloaded",
        "a restart is needed",
    ]
    assert lines[-1]["changed"] == ["database"]
    assert code(address, signed(files["keys"])) == ok
    assert code(address, bearer(iss=ISSUER)) == ok
    write_keys(files["keys"], "laptop")  # Not read.
    assert code(address, signed(files["keys"])) == refused

    files["keys"].write_text("{}")
    process.send_signal(signal.SIGHUP)
    failed = logged(process, "reload failed; what is in use is kept")[-1]

    assert failed["error"] == f"{files['keys']}: holds no key, so nobody could call"
    assert code(address, bearer(iss=ISSUER)) == ok
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT) == 0


def test_sighup_names_a_certificate_that_no_client_could_use(
    spawn_server, environment, files, certs, tmp_path
):
    pair = {"CERTIFICATE": tmp_path / "server.pem", "KEY": tmp_path / "server.key"}
    for file in pair.values():
        shutil.copy(certs / file.name, file)
    process, _ = spawn_server("-m", SERVER, env=environment(API_KEYS=files["keys"], **pair))

    for file in pair.values():
        shutil.copy(certs / f"server-expired{file.suffix}", file)
    process.send_signal(signal.SIGHUP)
    failed = logged(process, "reload failed; what is in use is kept")[-1]

    assert failed["error"].startswith(f"{pair['CERTIFICATE']} has expired, on 2")
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT) == 0
