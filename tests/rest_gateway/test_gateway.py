"""Tests what a REST client expects of grpc-gateway, with ContactService behind it."""

import gzip
import http.client
import json
import queue
import socket
import ssl
import subprocess
import threading
import time
import uuid
from contextlib import closing

import pytest

from production.development import programs
from production.development.child import server
from rest_gateway import demo
from tests.rest_gateway.conftest import WAIT, Front, running

CONTACTS = "/v1/contacts"
ECHO = "/protos.echo.v1.EchoService/"
ADA = {"person": {"name": "Ada", "email": "ada@example.com", "phones": [{"number": "1"}]}}


@pytest.fixture
def path(gateway):
    """The path of a new contact."""
    answer = gateway.ask("POST", f"{CONTACTS}?contactId=c-{uuid.uuid4()}", ADA)
    return answer.headers["Location"]


def logged(gateway, field, value):
    """Waits for the line of ContactService's log in which a field has a value."""
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        for line in (gateway.demo.folder / "contacts.log").read_text().splitlines(True):
            if line.endswith("}\n") and (entry := json.loads(line)).get(field) == value:
                return entry
    raise AssertionError(f"no {field}={value} in the log")


def event(response):
    """Reads a server-sent event, as its fields."""
    lines = iter(response.readline, b"\n")
    return dict(line.decode().rstrip("\n").split(": ", 1) for line in lines)


# The article's call.


def test_the_articles_call(gateway):
    answer = gateway.ask("POST", "/v1/hello", '{"name": "world"}', client="")

    assert (answer.status, answer.json()["message"]) == (200, "Hello, world!")


@pytest.mark.parametrize(
    ("method", "path", "body", "wanted"),
    [
        ("GET", "/v1/hello/Augusta?language=LANGUAGE_CHINESE", None, "你好，Augusta！"),
        ("GET", "/v1/hello/%E4%BD%A0", None, "Hello, 你!"),
        ("GET", "/v1/teams/red/members/ada:hello", None, "Hello, teams/red/members/ada!"),
        ("GET", "/v1/teams%2Fred%2Fmembers%2Fada:hello", None, "Hello, teams/red/members/ada!"),
    ],
)
def test_a_method_has_several_paths(gateway, method, path, body, wanted):
    assert gateway.ask(method, path, body).json()["message"] == wanted


def test_an_empty_list_comes_back_as_one(gateway):
    assert gateway.ask("POST", "/v1/hello:all", "[]").body == b"[]"


def test_a_list_goes_in_and_comes_out(gateway):
    answer = gateway.ask("POST", "/v1/hello:all?language=LANGUAGE_ENGLISH", ["Ada", "Bo"])

    assert answer.json() == ["Hello, Ada!", "Hello, Bo!"]


# Contacts.


def test_a_contact_is_made_read_changed_and_removed(gateway):
    made = gateway.ask("POST", CONTACTS, ADA)
    path = made.headers["Location"]
    contact = made.json()
    assert (made.status, path) == (201, f"/v1/{contact['name']}")
    assert made.headers["ETag"] == contact["etag"]
    assert contact["person"] == ADA["person"]

    read = gateway.ask("GET", path)
    assert (read.status, read.json(), read.headers["ETag"]) == (200, contact, contact["etag"])

    changed = gateway.ask("PATCH", path, {"person": {"email": "new@example.com"}})
    assert changed.json()["person"] == ADA["person"] | {"email": "new@example.com"}
    assert changed.headers["ETag"] != read.headers["ETag"]

    assert gateway.ask("DELETE", path).status == 200
    assert gateway.ask("GET", path).status == 404


def test_what_was_read_may_be_sent_back_whole(gateway, path):
    contact = gateway.ask("GET", path).json()
    contact["person"]["email"] = "new@example.com"

    changed = gateway.ask("PATCH", path, contact)

    assert changed.json()["person"] == ADA["person"] | {"email": "new@example.com"}


def test_a_patch_can_clear_a_field_and_changes_no_other(gateway, path):
    assert gateway.ask("PATCH", path, {"person": {"phones": []}}).json()["person"] == {
        "name": "Ada",
        "email": "ada@example.com",
    }
    answer = gateway.ask("PATCH", f"{path}?updateMask=person.email", {"person": {"name": "Bo"}})
    assert answer.json()["person"] == {"name": "Ada"}


def test_pages_are_turned(gateway):
    prefix = uuid.uuid4().hex
    for number in range(3):
        gateway.ask("POST", CONTACTS, {"person": {"name": f"{prefix} {number}"}})
    names, token = [], ""
    while True:
        query = f"?namePrefix={prefix}&pageSize=2&pageToken={token}"
        page = gateway.ask("GET", CONTACTS + query).json()
        names += [contact["person"]["name"] for contact in page["contacts"]]
        if not (token := page.get("nextPageToken", "")):
            break

    assert names == [f"{prefix} {number}" for number in range(3)]


# Conditions.


def test_a_patch_may_name_fields_as_json_does(gateway, path):
    person = {"person": {"lastUpdated": "2026-01-02T03:04:05Z", "name": "Bo"}}
    for mask in ("person.lastUpdated", "person.last_updated"):
        answer = gateway.ask("PATCH", f"{path}?updateMask={mask}", person)
        assert (answer.status, answer.json()["person"]["name"]) == (200, "Ada")
        assert answer.json()["person"]["lastUpdated"] == "2026-01-02T03:04:05Z"


def test_a_patch_of_nothing_changes_nothing(gateway, path):
    before = gateway.ask("GET", path)

    answer = gateway.ask("PATCH", path, {})

    assert (answer.status, answer.json()) == (200, before.json())
    assert gateway.ask("PATCH", path, {}, If_Match=before.headers["ETag"]).status == 200
    assert gateway.ask("PATCH", path, {}, If_Match='"0"').status == 412
    assert gateway.ask("PATCH", f"{CONTACTS}/nobody", {}).status == 404


def test_a_contact_is_changed_only_as_it_was_read(gateway, path):
    etag = gateway.ask("GET", path).headers["ETag"]
    body = {"person": {"email": "new@example.com"}}

    assert gateway.ask("GET", path, If_Match=etag).status == 200
    assert gateway.ask("GET", path, If_Match='"0"').status == 412

    assert gateway.ask("PATCH", path, body, If_Match=etag).status == 200
    late = gateway.ask("PATCH", path, body, If_Match=etag)
    assert (late.status, late.json()["reason"]) == (412, "ETAG_MISMATCH")
    assert gateway.ask("DELETE", path, If_Match=etag).status == 412
    assert gateway.ask("PATCH", path, body, If_Match="W/" + etag).status == 412
    assert gateway.ask("DELETE", path, If_Match="*").status == 200


def test_an_etag_in_the_body_is_a_conflict_not_a_condition(gateway, path):
    assert gateway.ask("PATCH", path, ADA | {"etag": '"0"'}).status == 409


@pytest.mark.parametrize(
    ("header", "status"), [("{}", 304), ("W/{}", 304), ('"0", {}', 304), ("*", 304), ('"0"', 200)]
)
def test_what_the_client_has_is_not_sent_again(gateway, path, header, status):
    etag = gateway.ask("GET", path).headers["ETag"]

    answer = gateway.ask("GET", path, If_None_Match=header.format(etag))

    assert (answer.status, answer.headers["ETag"]) == (status, etag)
    assert bool(answer.body) == (status == 200)


# Who.


@pytest.mark.parametrize("path", [CONTACTS, f"{CONTACTS}:export", f"{CONTACTS}:watch"])
def test_who_shows_nothing_is_told_how_to_show_it(gateway, path):
    answer = gateway.ask("GET", path, client="")

    assert (answer.status, answer.json()["code"]) == (401, "UNAUTHENTICATED")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_the_gateways_certificate_gives_no_caller_a_right(gateway):
    assert gateway.ask("POST", CONTACTS, ADA, client="viewer").status == 403
    assert gateway.ask("GET", CONTACTS, client="viewer").status == 200


def test_two_tokens_are_none(gateway):
    with closing(http.client.HTTPConnection(gateway.host, gateway.port, timeout=WAIT)) as opened:
        opened.putrequest("GET", CONTACTS)
        for client in ("editor", "viewer"):
            opened.putheader("Authorization", f"Bearer {gateway.demo.token(client)}")
        opened.endheaders()

        assert opened.getresponse().status == 401


# Headers.


def test_a_request_has_one_id_from_end_to_end(gateway):
    mine = uuid.uuid4().hex

    answer = gateway.ask("GET", CONTACTS, X_Request_Id=mine)

    assert answer.headers["X-Request-Id"] == mine
    assert logged(gateway, "request_id", mine)["method"].endswith("ListContacts")
    other = gateway.ask("GET", CONTACTS, X_Request_Id="no id!").headers["X-Request-Id"]
    assert logged(gateway, "request_id", other)["code"] == "OK"


@pytest.mark.parametrize("name", ["gateway", "envoy"])
def test_a_trace_goes_on_in_the_service(name):
    mine, trace = uuid.uuid4().hex, uuid.uuid4().hex
    parent = f"00-{trace}-b7ad6b7169203331-01"
    with running(name, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1") as front:
        front.ask("GET", CONTACTS, X_Request_Id=mine, Traceparent=parent)
        assert logged(front, "request_id", mine)["trace_id"] == trace


def test_a_web_page_may_call_if_it_is_named():
    with running("gateway", flags=["--origin=https://app.example.com"]) as front:
        asked = {"Access_Control_Request_Method": "PATCH", "Origin": "https://app.example.com"}
        named = front.ask("OPTIONS", CONTACTS, client="", **asked)
        answer = front.ask("GET", CONTACTS, Origin="https://app.example.com")
        other = front.ask("GET", CONTACTS, Origin="https://evil.example.com")

    assert named.status == 204
    assert named.headers["Access-Control-Allow-Methods"] == "PATCH"
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
    assert "Etag" in answer.headers["Access-Control-Expose-Headers"]
    assert other.headers["Access-Control-Allow-Origin"] is None


def test_long_answers_are_compressed_and_etags_stay_true(gateway, path):
    for _ in range(20):
        gateway.ask("POST", CONTACTS, ADA)

    page = gateway.ask("GET", CONTACTS, Accept_Encoding="gzip")
    contact = gateway.ask("GET", path, Accept_Encoding="gzip")

    assert page.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(page.body))["contacts"]
    assert contact.headers["Content-Encoding"] is None


# Limits.


def test_a_call_takes_no_longer_than_its_client_waits(gateway):
    answer = gateway.ask("POST", f"{ECHO}UnaryEcho", {"delay": "60s"}, Grpc_Timeout="100m")

    assert (answer.status, answer.json()["code"]) == (504, "DEADLINE_EXCEEDED")


def test_a_client_that_leaves_ends_its_call(gateway):
    mine = uuid.uuid4().hex
    with gateway.open("GET", f"{CONTACTS}:watch", X_Request_Id=mine) as watch:
        assert json.loads(watch.readline())["result"]["kind"] == "KIND_STARTED"

    assert logged(gateway, "request_id", mine)["code"] == "CANCELLED"


def test_a_body_without_a_length_has_the_same_limit(gateway):
    chunks = (b"x" * 65_536 for _ in range(32))

    answer = gateway.ask("POST", CONTACTS, (b'{"person":{"name":"', *chunks))

    assert (answer.status, answer.json()["detail"]) == (413, "the body is too large")


def test_an_import_may_be_larger_than_a_message(gateway):
    people = [{"name": f"{number}", "email": "x" * 150} for number in range(100)]
    line = json.dumps({"people": people}).encode() + b"\n"

    answer = gateway.ask("POST", f"{CONTACTS}:import", (*[line] * 100, b'{"finish":true}'))

    assert (answer.status, answer.json()) == (200, {"contactCount": 10_000})


def test_it_says_when_to_come_back():
    with (
        running("gateway", CONTACTS_MAX_WATCHES="1") as front,
        front.open("GET", f"{CONTACTS}:watch") as watch,
    ):
        watch.readline()
        answer = front.ask("GET", f"{CONTACTS}:watch")

    assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
    assert answer.json()["reason"] == "OVERLOADED"


# Streams.


def test_changes_are_seen_as_lines_and_as_events(gateway):
    with (
        gateway.open("GET", f"{CONTACTS}:watch") as lines,
        gateway.open("GET", f"{CONTACTS}:watch", Accept="text/event-stream") as events,
    ):
        assert lines.headers["Content-Type"] == "application/x-ndjson"
        assert events.headers["Content-Type"] == "text/event-stream"
        started = event(events)
        lines.readline()
        name = gateway.ask("POST", CONTACTS, ADA).json()["name"]
        line, created = json.loads(lines.readline()), event(events)

    assert json.loads(started["data"])["result"]["kind"] == "KIND_STARTED"
    assert json.loads(created["data"]) == line
    assert created["id"] == line["result"]["position"]
    assert line["result"]["contact"]["name"] == name


def test_an_event_source_that_reconnects_misses_nothing(gateway):
    stream = {"Accept": "text/event-stream"}
    with gateway.open("GET", f"{CONTACTS}:watch", **stream) as events:
        first = event(events)
    names = [gateway.ask("POST", CONTACTS, ADA).json()["name"] for _ in range(3)]
    with gateway.open(
        "GET", f"{CONTACTS}:watch?position=1", Last_Event_ID=first["id"], **stream
    ) as events:
        seen = [json.loads(event(events)["data"])["result"] for _ in range(4)]
    refused = gateway.ask("GET", f"{CONTACTS}:watch", Last_Event_ID="nonsense", **stream)

    assert [change.get("contact", {}).get("name") for change in seen] == [None, *names]
    assert refused.status == 400


def test_an_error_in_mid_stream_is_an_event_of_its_own(gateway):
    body = {"responseCount": 2, "failure": {"code": 8, "message": "full", "afterResponses": 1}}
    path = f"{ECHO}ServerStreamingEcho"

    with gateway.open("POST", path, body, Accept="text/event-stream") as events:
        event(events)
        assert event(events) == {
            "event": "problem",
            "data": '{"error":{"code":8,"message":"full"}}',
        }


def test_an_export_is_lines(gateway, path):
    answer = gateway.ask("GET", f"{CONTACTS}:export")

    names = [
        c["name"]
        for line in answer.body.splitlines()
        for c in json.loads(line)["result"]["contacts"]
    ]
    assert path.removeprefix("/v1/") in names


# Health, and the end.


def test_health_is_that_of_the_service(gateway):
    assert gateway.ask("GET", "/healthz", client="").json() == {"status": "SERVING"}
    assert gateway.ask("GET", "/healthz?service=nobody", client="").status == 404


def test_what_is_behind_is_named_to_nobody(tmp_path):
    command = programs.find("rest-gateway"), "--address=127.0.0.1:0", "--plaintext"
    with server([*command, "--contacts=localhost:1"]) as (_, address):
        front = Front(demo.Demo(address, "", "", tmp_path))
        answer = front.ask("GET", CONTACTS, client="")
        health = front.ask("GET", "/healthz", client="")

    assert (answer.status, answer.headers["Retry-After"], health.status) == (503, "1", 503)
    assert answer.json()["detail"] == "the service cannot be reached at the moment"


def test_a_watch_ends_with_a_word_when_the_gateway_stops():
    seen = queue.Queue()

    def watch(front):
        with front.open("GET", f"{CONTACTS}:watch") as response:
            for line in response:
                seen.put(json.loads(line))

    with running("gateway") as front:
        thread = threading.Thread(target=watch, args=(front,))
        thread.start()
        assert "result" in seen.get(timeout=WAIT)
    thread.join(WAIT)

    assert seen.get(timeout=WAIT)["error"]["code"] == 14


def test_rest_clients_may_ask_for_tls(gateway):
    certs = gateway.demo.folder / "certs"
    command = [
        programs.find("rest-gateway"),
        "--address=127.0.0.1:0",
        f"--tls-certificate={certs}/server.pem",
        f"--tls-key={certs}/server.key",
        "--plaintext",
    ]
    context = ssl.create_default_context(cafile=certs / "ca.pem")
    context.set_alpn_protocols(["h2"])
    with server(command) as (_, address):
        host, _, port = address.rpartition(":")
        with (
            socket.create_connection((host, int(port)), WAIT) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            assert secure.selected_alpn_protocol() == "h2"


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--nonsense"], "not defined: -nonsense"),
        (["extra"], 'unexpected argument "extra"'),
        (["--certificate=x"], "--certificate and --key need each other"),
        (["--tls-key=x"], "--tls-certificate and --tls-key need each other"),
        (["--plaintext", "--ca=x"], "--plaintext uses no certificates"),
        (["--timeout=0s"], "--timeout must be above zero"),
        (["--max-watches=0"], "--max-watches must be from 1 to 10000"),
        (["--origin=*"], 'invalid origin "*"'),
        (["--origin=https://app.example.com/"], 'invalid origin "https://app.example.com/"'),
        (["--origin=https://app.example.com:443"], "without a default port"),
        (["--origin=https://App.example.com"], "in lower case"),
        (["--ca=/nowhere"], "/nowhere: no such file"),
        (["--ca=Makefile"], "Makefile: holds no certificate"),
        (["--certificate=Makefile", "--key=Makefile"], "Makefile"),
        (["--plaintext", "--address=127.0.0.1:99999"], "expected HOST:PORT, "),
        (["--plaintext", "--contacts=localhost:70000"], "expected HOST:PORT, "),
        (["--plaintext", "--greeter=::1:50052"], "expected HOST:PORT, "),
    ],
)
@pytest.mark.usefixtures("gateway")
def test_a_bad_flag_gets_a_clear_error(flags, error):
    ended = subprocess.run(
        [programs.find("rest-gateway"), *flags],
        capture_output=True,
        text=True,
        timeout=WAIT,
        cwd=demo.ROOT,
    )

    assert (ended.returncode, ended.stdout) == (1, "")
    assert error in ended.stderr and "panic" not in ended.stderr
