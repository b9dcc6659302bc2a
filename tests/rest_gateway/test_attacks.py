"""Attacks grpc-gateway as strangers, web pages and greedy callers would."""
# ruff: noqa: E501 - tables of requests.

import http.client
import json
import socket
import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import pytest

from production.development import programs
from production.development.child import server
from rest_gateway import demo
from rest_gateway.greeter_server import start
from tests.rest_gateway.conftest import WAIT, Front, a_page
from tests.rest_gateway.test_gateway import logged

CONTACTS = "/v1/contacts"
ECHO = "/protos.echo.v1.EchoService/"
PERSON = '{"person":{"name":"Ada"}}'
MB = 1_000_000


@contextmanager
def in_front_of(gateway, *flags, log=None):
    """Runs a gateway of its own in front of the same services; yields it and its process."""
    certs = gateway.demo.folder / "certs"
    command = [
        programs.find("rest-gateway"), "--address=127.0.0.1:0", f"--contacts={gateway.demo.contacts}",
        f"--greeter={gateway.demo.greeter}", f"--ca={certs}/ca.pem",
        f"--certificate={certs}/gateway.pem", f"--key={certs}/gateway.key", *flags,
    ]  # fmt: skip
    with server(command, log=log) as (process, address):
        yield Front(gateway.demo._replace(front=address)), process


@contextmanager
def a_greeter_server(*handlers):
    """Runs a GreeterService of these handlers; yields its address."""
    running = grpc.server(ThreadPoolExecutor(), handlers=handlers)
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        running.stop(None).wait()


def peak(process):
    """Returns the most memory that a process has had, in bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if "VmHWM" in line)


def send(front, request):
    """Sends bytes; returns the status of the answer."""
    with closing(socket.create_connection((front.host, front.port), WAIT)) as connection:
        with suppress(ConnectionError):  # It may answer before it has read everything.
            connection.sendall(request)
        with suppress(ConnectionError):
            response = http.client.HTTPResponse(connection)
            response.begin()
            return response.status
    return None


def posted(path, body, token="", method="POST"):
    """Returns a request with a body of JSON, as bytes."""
    authorization = f"Authorization: Bearer {token}\r\n" if token else ""
    return (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"{authorization}Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def token_of(gateway, name):
    """Returns the token of a client, or a false one."""
    return "false" if name == "false" else gateway.demo.token(name)


# Memory.

PEOPLE = b'{"people":[' + b"{}," * 20_000_000 + b"{}]}"
PHONES = b'{"person":{"phones":[' + b"{}," * 340_000 + b"{}]}}"
FITTING = b'{"person":{"name":"A","phones":[' + b"{}," * 43_000 + b"{}]}}"
LINE = b'{"people":[' + b"{}," * 340_000 + b"{}]}\n"
STRING = b'{"people":[{"name":"' + b"x" * (60 << 20) + b'"}]}'


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("path", "body", "token", "method", "parallel", "statuses"),
    [
        (f"{CONTACTS}:import", PEOPLE, "", "POST", 3, {401}),
        (f"{CONTACTS}:import", PEOPLE, "false", "POST", 3, {401, 413}),
        (f"{CONTACTS}/ada:import", PEOPLE, "false", "PATCH", 5, {413}),
        (CONTACTS, PHONES, "", "POST", 30, {401, 413}),
        (CONTACTS, PHONES, "false", "POST", 30, {413}),
        (CONTACTS, FITTING, "", "POST", 30, {401}),
        (CONTACTS, FITTING, "false", "POST", 30, {401, 413}),
        (CONTACTS, FITTING, "editor", "POST", 30, {400, 413}),
        (f"{CONTACTS}:import", LINE * 20, "false", "POST", 20, {401, 413}),
        (f"{CONTACTS}:import", LINE * 20, "editor", "POST", 20, {413, 429}),
        (f"{CONTACTS}:import", STRING, "editor", "POST", 20, {413, 429}),
        ("/v1/hello:all", b'["",' * 300 + b"[]" * 40_000, "", "POST", 20, {400}),
    ],
    ids=[
        "an import of a stranger", "an import with a false token", "an update as large as an import",
        "an update of a stranger", "an update with a false token", "a small update of a stranger",
        "a small update with a false token", "a small update", "lines with a false token",
        "lines with many values", "a line without an end", "a list of lists",
    ],
)  # fmt: skip
def test_no_body_takes_more_than_some_megabytes(
    gateway, path, body, token, method, parallel, statuses
):
    token = token and token_of(gateway, token)
    with in_front_of(gateway) as (front, process), ThreadPoolExecutor(parallel) as pool:
        front.ask("GET", CONTACTS)  # Connected.
        before = peak(process)
        request = posted(path, body, token, method)
        got = {*pool.map(lambda _: send(front, request), range(parallel))}
        grown = peak(process) - before
        assert front.ask("POST", CONTACTS, PERSON).status == 201

    assert got <= statuses | {None}  # None: refused while the body was being sent.
    assert grown < 200 * MB


def test_a_body_that_does_not_come_is_given_up_on_every_path(gateway):
    """Before, pages, redirects and preflights waited without an end."""
    paths = ["/docs/", "/openapi.json", "/", f"/{CONTACTS}", "/nothing", CONTACTS]
    with ThreadPoolExecutor() as pool:
        request = "GET {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
        got = list(pool.map(lambda path: send(gateway, request.format(path).encode()), paths))

    assert got == [408] * len(paths)


def test_an_import_that_may_not_be_is_answered_at_once(gateway):
    """The rest of its body is not waited for."""
    request = posted(f"{CONTACTS}:import", b'{"people":[]}\n', "false").replace(
        b"Content-Length: 14", b"Content-Length: 1000000"
    )

    assert send(gateway, request) == 401


# Watches.


def test_a_hundred_watches_are_in_nobodys_way(gateway):
    with ExitStack() as stack:
        watches = [
            stack.enter_context(gateway.open("GET", f"{CONTACTS}:watch", client="viewer"))
            for _ in range(120)
        ]
        assert {watch.status for watch in watches} == {200}

        assert gateway.ask("GET", CONTACTS).status == 200
        assert gateway.ask("GET", "/healthz", client="").status == 200
        assert gateway.ask("GET", f"{CONTACTS}:export").status == 200
        created = gateway.ask("POST", CONTACTS, PERSON).json()["name"]
        with gateway.open("GET", f"{CONTACTS}:watch") as another:
            assert another.status == 200
            assert b"KIND_STARTED" in another.readline()
        assert created


def test_one_watch_too_many_is_refused(gateway):
    with in_front_of(gateway, "--max-watches=2") as (front, _):
        with (
            front.open("GET", f"{CONTACTS}:watch") as one,
            front.open("GET", f"{CONTACTS}:watch") as two,
        ):
            assert (one.status, two.status) == (200, 200)
            answer = front.ask("GET", f"{CONTACTS}:watch")
            assert front.ask("GET", CONTACTS).status == 200
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert answer.json()["reason"] == "OVERLOADED"
        assert wait_for_place(front) == 200


def wait_for_place(front):
    """A place is free once the gateway has noticed that its client has gone."""
    for _ in range(100):
        with front.open("GET", f"{CONTACTS}:watch") as watch:
            if watch.status == 200:
                return 200
    return None


# Headers.


def test_a_client_cannot_write_where_a_request_came_from(gateway):
    seen = {}

    def greet(_, context):
        seen.update(context.invocation_metadata())
        return b""

    handler = grpc.method_handlers_generic_handler(
        "rest_gateway.v1.GreeterService",
        {"SayHello": grpc.unary_unary_rpc_method_handler(greet)},
    )
    forged = {"X_Forwarded_For": "6.6.6.6", "X_Forwarded_Host": "evil", "Forwarded": "for=6"}
    with (
        a_greeter_server(handler) as address,
        in_front_of(gateway, f"--greeter={address}") as (front, _),
    ):
        front.ask("GET", "/v1/hello/ada", client="", **forged)

    assert seen["x-forwarded-for"] == "127.0.0.1"
    assert seen["x-forwarded-host"] == f"{front.host}:{front.port}"
    assert "forwarded" not in seen


def test_the_log_has_no_names_and_no_size_that_a_stranger_chooses(gateway, tmp_path):
    log = tmp_path / "log"
    ids = [uuid.uuid4().hex, uuid.uuid4().hex]
    with in_front_of(gateway, log=log) as (front, _):
        front.ask("GET", "/v1/hello/Ada%20Lovelace", client="")
        front.ask("GET", f"/{'x' * 7_000}?Lovelace", client="")
        front.ask("GET", CONTACTS, Grpc_Timeout="1n")
        with closing(http.client.HTTPConnection(front.host, front.port, timeout=WAIT)) as opened:
            opened.putrequest("GET", CONTACTS)
            for request_id in ids:
                opened.putheader("X-Request-Id", request_id)
            for name, value in front.headers().items():
                opened.putheader(name, value)
            opened.endheaders()
            assert opened.getresponse().status == 200
    lines = [json.loads(line) for line in log.read_text().splitlines()]

    assert [line["path"] for line in lines if line["msg"] == "request"] == [
        "/v1/hello/{name}", "unknown", CONTACTS, CONTACTS,
    ]  # fmt: skip
    assert max(map(len, log.read_text().splitlines())) < 300
    assert not [line for line in lines if line["level"] == "ERROR"]
    assert logged(gateway, "request_id", ids[0])["code"] == "OK"
    assert ids[1] not in (gateway.demo.folder / "contacts.log").read_text()


def test_an_answer_does_not_repeat_a_long_request(gateway):
    answer = gateway.ask("POST", CONTACTS, '{"person":{"id":%s}}' % ("9" * 100_000))

    assert answer.status == 400
    assert len(answer.body) < 1_000


# EchoService.


def test_echo_is_for_lessons(gateway):
    with in_front_of(gateway) as (front, _):
        assert front.ask("POST", f"{ECHO}UnaryEcho", {}).status == 404
    server_without, port = start("127.0.0.1:0")
    try:
        with in_front_of(gateway, "--echo", f"--greeter=localhost:{port}") as (front, _):
            assert front.ask("POST", f"{ECHO}UnaryEcho", {}).status == 501
            assert front.ask("GET", "/v1/hello/Ada").status == 200
    finally:
        server_without.stop(None).wait()


def test_echo_connects_to_nobody(front):
    """Neither behind grpc-gateway nor behind Envoy."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        answer = front.ask("POST", f"{ECHO}UnaryEcho", {"via": [address]}, client="")
        listener.settimeout(0)

        assert answer.status == 403
        with pytest.raises(BlockingIOError):
            listener.accept()


# Shutting down, and lasting.


def test_a_call_that_the_service_gives_up_may_be_repeated(gateway):
    """So ends a call when its server shuts down; 499 means that the client has gone."""
    answer = gateway.ask("POST", f"{ECHO}UnaryEcho", {"failure": {"code": 1}})

    assert (answer.status, answer.json()["code"]) == (503, "UNAVAILABLE")
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.slow
def test_a_rolling_restart_is_seen_as_503_at_worst(tmp_path):
    command = [sys.executable, "-m", "production.contacts_server", "--plaintext"]
    environment = {"PATH": programs.PATH, "CONTACTS_DATABASE": f"sqlite:///{tmp_path}/contacts.db"}
    seen, done = set(), threading.Event()

    def call(front):
        while not done.is_set():
            with suppress(ConnectionError):
                answer = front.ask("GET", CONTACTS, client="")
                seen.add((answer.status, answer.headers["Retry-After"]))

    def contacts(port):
        at = f"--address=127.0.0.1:{port}"
        return server([*command, at], log=tmp_path / "log", env=environment, cwd=demo.ROOT)

    with contacts(0) as (_, address):
        port = address.rpartition(":")[2]
    gateway = [programs.find("rest-gateway"), "--address=127.0.0.1:0", "--plaintext"]
    with (
        server([*gateway, f"--contacts={address}"]) as (_, at),
        ThreadPoolExecutor() as pool,
    ):
        front = Front(demo.Demo(at, address, "", tmp_path))
        for _ in range(4):
            pool.submit(call, front)
        try:
            for _ in range(4):
                with contacts(port):
                    while front.ask("GET", CONTACTS, client="").status != 200:
                        pass
        finally:
            done.set()

    assert seen <= {(200, None), (503, "1")}


@pytest.mark.slow
def test_a_stream_may_be_silent_over_http2(gateway):
    certs = gateway.demo.folder / "certs"
    tls = (f"--tls-certificate={certs}/server.pem", f"--tls-key={certs}/server.key")
    token = gateway.demo.token()
    with in_front_of(gateway, *tls) as (front, _):
        watch = subprocess.run(
            ["curl", "-sN", "--max-time", "70", "--cacert", certs / "ca.pem", "-w", "%{http_version}",
             "-H", f"Authorization: Bearer {token}", f"https://localhost:{front.port}{CONTACTS}:watch"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    assert watch.returncode == 28  # The time that curl was given.
    assert watch.stdout.splitlines()[-1].endswith("2")


@pytest.mark.slow
def test_the_greeter_tolerates_the_gateways_pings():
    server_, port = start("127.0.0.1:0", echo=True)
    try:
        # As often as gRPC for Python pings at most; gRPC's default tolerates two of them.
        options = [("grpc.keepalive_time_ms", 10_500), ("grpc.http2.max_pings_without_data", 0)]
        with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            wait = channel.unary_unary(f"{ECHO}UnaryEcho")
            assert wait(b"\x12\x02\x08\x32", timeout=90) is not None  # delay: 50 s.
    finally:
        server_.stop(None).wait()


# Pages.


class Page(BaseHTTPRequestHandler):
    """Serves an empty page."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def a_site():
    """Serves a page; yields its origin."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{site.server_port}"
        finally:
            site.shutdown()
            thread.join()


@pytest.mark.slow
def test_a_page_reads_a_watch_with_fetch_and_a_token(gateway):
    """The code is that of the page about browsers. The page is of another origin."""
    readme = (demo.ROOT / "rest_gateway" / "browsers" / "README.md").read_text()
    code = readme.partition("```js\n")[2].partition("```")[0]
    create = """
        const create = () => fetch(address + "/v1/contacts", {
            method: "POST", body: JSON.stringify({person: {name: "Ada"}}),
            headers: {Authorization: "Bearer " + token, "Content-Type": "application/json"},
        });
        return await new Promise((resolve, reject) => watch(address, token, (change) =>
            change.kind == "KIND_STARTED" ? create() : resolve(change.contact.person.name),
        ).catch(reject));
    """
    with (
        a_site() as origin,
        in_front_of(gateway, f"--origin={origin}") as (front, _),
        a_page() as page,
    ):
        page.goto(origin)
        address = f"http://{front.demo.front}"
        name = page.evaluate(
            f"async ([address, token]) => {{ {code} {create} }}", [address, gateway.demo.token()]
        )

    assert name == "Ada"


@pytest.mark.slow
def test_a_page_of_a_stranger_changes_nothing(tmp_path):
    """Even where no token is needed: a developer's gateway with --plaintext."""
    send_all = """async (address) => {
        const path = address + "/v1/contacts", body = '{"person":{"name":"Eve"}}', method = "POST";
        const types = ["text/plain", "application/x-www-form-urlencoded", "application/json"];
        for (const type of types)
            for (const mode of ["cors", "no-cors"])
                await fetch(path, {method, mode, body, headers: {"Content-Type": type}}).catch(() => 0);
        await fetch(path, {method, mode: "no-cors", body: new Blob([body])}).catch(() => 0);
        navigator.sendBeacon(path, new Blob([body]));
        return await fetch(path).then(() => "read", () => "refused");
    }"""
    contacts = [sys.executable, "-m", "production.contacts_server", "--plaintext"]
    environment = {"PATH": programs.PATH, "CONTACTS_DATABASE": f"sqlite:///{tmp_path}/contacts.db"}
    command = [programs.find("rest-gateway"), "--address=127.0.0.1:0", "--plaintext"]
    contacts.append("--address=127.0.0.1:0")
    with (
        server(contacts, log=tmp_path / "log", env=environment, cwd=demo.ROOT) as (_, behind),
        server([*command, f"--contacts={behind}"]) as (_, address),
        a_site() as origin,
        a_page() as page,
    ):
        page.goto(origin)
        read = page.evaluate(send_all, f"http://{address}")
        front = Front(demo.Demo(address, behind, "", tmp_path))
        assert (read, front.ask("GET", CONTACTS, client="").json()) == ("refused", {})
