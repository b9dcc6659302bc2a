"""Envoy speaks REST, gRPC and gRPC-Web on one port. What it answers to REST is in test_requests."""

import base64
import signal
import socket
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import grpc
import pytest
from google.rpc.status_pb2 import Status

from production.development.child import child
from production.v1.contacts_pb2 import (
    Contact,
    CreateContactRequest,
    GetContactRequest,
    ListContactsRequest,
    ListContactsResponse,
    WatchContactsRequest,
    WatchContactsResponse,
)
from production.v1.contacts_pb2_grpc import ContactServiceStub
from protobuf_demo.addressbook_pb2 import Person
from protos.echo.v1.echo_pb2 import EchoRequest
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub
from rest_gateway import demo
from tests.rest_gateway.conftest import WAIT, a_page, running

SERVICE = "/production.v1.ContactService/"
ECHO = "/protos.echo.v1.EchoService/UnaryEcho"
WEB = "application/grpc-web+proto"
PING = 6
SETTINGS = 4
"""Types of HTTP/2's frames."""


def bearer(front):
    return [("authorization", f"Bearer {front.demo.token()}")]


def web(message):
    """A message as gRPC-Web frames it: a byte of flags, the length, the bytes."""
    data = message.SerializeToString()
    return struct.pack(">BI", 0, len(data)) + data


def frames(body):
    """The frames of a gRPC-Web answer: whether it is the trailers, and the bytes."""
    while body:
        flags, size = struct.unpack(">BI", body[:5])
        yield flags == 0x80, body[5 : 5 + size]
        body = body[5 + size :]


def test_what_rest_clients_write_grpc_clients_read(envoy):
    name = envoy.ask("POST", "/v1/contacts", {"person": {"name": "Ada"}}).json()["name"]

    with grpc.insecure_channel(envoy.demo.front) as channel:
        stub = ContactServiceStub(channel)
        contact = stub.GetContact(
            GetContactRequest(name=name), metadata=bearer(envoy), timeout=WAIT
        )
    assert contact.person.name == "Ada"


def test_a_grpc_client_gets_the_details_of_an_error(envoy):
    with grpc.insecure_channel(envoy.demo.front) as channel, pytest.raises(grpc.RpcError) as raised:
        ContactServiceStub(channel).CreateContact(
            CreateContactRequest(), metadata=bearer(envoy), timeout=WAIT
        )
    details = dict(raised.value.trailing_metadata())["grpc-status-details-bin"]
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "BadRequest" in Status.FromString(details).details[0].type_url


def test_a_grpc_client_watches_what_rest_clients_do(envoy):
    with grpc.insecure_channel(envoy.demo.front) as channel:
        watch = ContactServiceStub(channel).WatchContacts(
            WatchContactsRequest(), metadata=bearer(envoy), timeout=WAIT
        )
        assert next(watch).kind == WatchContactsResponse.KIND_STARTED
        name = envoy.ask("POST", "/v1/contacts", {"person": {"name": "Ada"}}).json()["name"]
        assert next(watch).contact.name == name
        watch.cancel()


def test_grpc_web_gets_a_message_and_its_status_in_the_body(envoy):
    request = web(CreateContactRequest(contact=Contact(person=Person(name="Ada"))))

    answer = envoy.ask(
        "POST", f"{SERVICE}CreateContact", request, Content_Type="application/grpc-web+proto"
    )

    (_, message), (is_trailers, trailers) = frames(answer.body)
    assert (answer.status, Contact.FromString(message).person.name) == (200, "Ada")
    assert is_trailers
    assert b"grpc-status: 0" in trailers or b"grpc-status:0" in trailers


def test_grpc_web_gets_an_error_with_status_200(envoy):
    answer = envoy.ask(
        "POST",
        f"{SERVICE}ListContacts",
        web(ListContactsRequest()),
        client="",
        Content_Type="application/grpc-web+proto",
        Origin="http://localhost:3000",
    )

    assert (answer.status, answer.headers["grpc-status"]) == (200, "16")
    assert "grpc-status" in answer.headers["Access-Control-Expose-Headers"]


def late():
    """A request that takes longer than any of these tests."""
    request = EchoRequest()
    request.delay.FromSeconds(2 * WAIT)
    return request


def web_status(answer):
    """The HTTP status of a gRPC-Web answer, and its gRPC status from the trailers."""
    for is_trailers, data in frames(answer.body):
        if is_trailers:
            (status,) = (line for line in data.split(b"\r\n") if line.startswith(b"grpc-status:"))
            return answer.status, int(status.partition(b":")[2])
    return answer.status, int(answer.headers["grpc-status"])


def test_grpc_web_gets_deadline_exceeded_each_time(envoy):
    """Envoy's own timer must never win against the service's: its answer would be UNAVAILABLE."""

    def call(_):
        return envoy.ask("POST", ECHO, web(late()), Content_Type=WEB, Grpc_Timeout="150m")

    with ThreadPoolExecutor(10) as pool:
        assert {web_status(answer) for answer in pool.map(call, range(20))} == {(200, 4)}


@pytest.fixture(scope="module")
def brief():
    """Envoy with a time limit of a second, which pings its clients each second."""
    with running("envoy", flags=["--timeout=1", "--keepalive=1"]) as front:
        yield front


def test_a_caller_without_a_deadline_gets_one(brief):
    with grpc.insecure_channel(brief.demo.front) as channel, pytest.raises(grpc.RpcError) as raised:
        EchoServiceStub(channel).UnaryEcho(late(), timeout=None)

    assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert web_status(brief.ask("POST", ECHO, web(late()), Content_Type=WEB)) == (200, 4)
    assert brief.ask("POST", ECHO, {"delay": f"{2 * WAIT}s"}).status == 504


def test_a_watch_has_no_time_limit(brief):
    with grpc.insecure_channel(brief.demo.front) as channel:
        watch = ContactServiceStub(channel).WatchContacts(
            WatchContactsRequest(), metadata=bearer(brief), timeout=WAIT
        )
        assert next(watch).kind == WatchContactsResponse.KIND_STARTED
        # This takes as long as every other call may.
        assert brief.ask("POST", ECHO, {"delay": f"{2 * WAIT}s"}).status == 504
        name = brief.ask("POST", "/v1/contacts", {"person": {"name": "Ada"}}).json()["name"]
        assert next(watch).contact.name == name
        watch.cancel()


def http2_frames(connection):
    """The frames that a server sends to a client that says nothing more: type, flags, payload."""
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, SETTINGS]) + bytes(5))
    with connection.makefile("rb") as stream:
        while head := stream.read(9):
            size, kind, flags = int.from_bytes(head[:3]), head[3], head[4]
            yield kind, flags, stream.read(size)


@pytest.mark.slow
def test_a_client_that_has_vanished_loses_its_connection(brief):
    """It answers no ping. Without keepalive this connection would last as long as its watch."""
    with closing(socket.create_connection((brief.host, brief.port), timeout=WAIT)) as connection:
        kinds = [kind for kind, _, _ in http2_frames(connection)]

    assert PING in kinds


def test_one_connection_may_have_a_hundred_calls(envoy):
    with closing(socket.create_connection((envoy.host, envoy.port), timeout=WAIT)) as connection:
        first = next(payload for kind, _, payload in http2_frames(connection) if kind == SETTINGS)

    settings = dict(struct.iter_unpack(">HI", first))
    max_concurrent_streams, initial_window_size = 3, 4  # RFC 9113, 6.5.2.
    assert (settings[max_concurrent_streams], settings[initial_window_size]) == (100, 65536)


def test_a_header_that_some_read_as_another_is_refused(envoy):
    with socket.create_connection((envoy.host, envoy.port), timeout=WAIT) as connection:
        connection.sendall(b"GET /v1/hello/Ada HTTP/1.1\r\nHost: x\r\nX_User: root\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")


def test_answers_are_not_kept_and_not_guessed_at(envoy):
    answer = envoy.ask("GET", "/v1/hello/Ada", client="", Origin="http://localhost:3000")

    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Vary"] == "Origin"


def test_connect_calls_with_binary_messages(envoy):
    def connect(message, client="editor"):
        return envoy.ask(
            "POST", f"{SERVICE}CreateContact", message.SerializeToString(), client,
            Content_Type="application/proto", Connect_Protocol_Version="1",
        )  # fmt: skip

    answer = connect(CreateContactRequest(contact=Contact(person=Person(name="Ada"))))
    assert (answer.status, Contact.FromString(answer.body).person.name) == (200, "Ada")
    refused = connect(CreateContactRequest())
    assert (refused.status, refused.json()["code"]) == (400, "invalid_argument")
    assert connect(CreateContactRequest(), client="").json()["code"] == "unauthenticated"


@pytest.mark.slow
def test_a_page_of_another_origin_calls_by_grpc_web(gateway):
    """The page comes from the gateway, and calls Envoy: two ports are two origins."""
    call = """async ([url, token, body]) => {
        const bytes = Uint8Array.from(atob(body), c => c.charCodeAt(0));
        const headers = {'content-type': 'application/grpc-web+proto', 'x-grpc-web': '1'};
        if (token) headers.authorization = token;
        const answer = await fetch(url, {method: 'POST', headers, body: bytes});
        const seen = new Uint8Array(await answer.arrayBuffer());
        const text = btoa(String.fromCharCode(...seen));
        return [answer.status, answer.headers.get('grpc-status'), text];
    }"""
    page_origin = f"http://{gateway.demo.front}"
    with running("envoy", flags=[f"--origin={page_origin}"]) as envoy, a_page() as page:
        envoy.ask("POST", "/v1/contacts", {"person": {"name": "Ada"}})
        # As another origin's page would be, without the policy of the gateway's own pages.
        page = page.context.browser.new_page(bypass_csp=True)
        page.goto(f"{page_origin}/openapi.json")
        url = f"http://{envoy.demo.front}{SERVICE}ListContacts"
        body = base64.b64encode(web(ListContactsRequest())).decode()
        token = bearer(envoy)[0][1]
        status, _, seen = page.evaluate(call, [url, token, body])
        _, refused, _ = page.evaluate(call, [url, "", body])

    messages = [data for is_trailers, data in frames(base64.b64decode(seen)) if not is_trailers]
    assert (status, refused) == (200, "16")
    assert ListContactsResponse.FromString(messages[0]).contacts[0].person.name == "Ada"


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("envoy")
def test_it_ends_well_when_told_to(told):
    with child(
        [*demo.command("envoy"), "--address=127.0.0.1:0", "--plaintext"],
        ended_by=told,
        cwd=demo.ROOT,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline().startswith("listening on ")

    assert process.returncode == 0


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--address=nonsense"], "expected HOST:PORT"),
        (["--address=127.0.0.1:70000"], "expected HOST:PORT"),
        (["--timeout=0"], "expected 1 to 3600 seconds, got '0'"),
        (["--address=192.0.2.1:1"], "192.0.2.1:1: Cannot assign requested address"),
    ],
)
@pytest.mark.usefixtures("envoy")
def test_a_bad_flag_gets_a_clear_error(flags, error):
    ended = subprocess.run(
        [sys.executable, "-m", "rest_gateway.envoy", *flags],
        cwd=demo.ROOT,
        capture_output=True,
        text=True,
        timeout=WAIT,
    )

    assert ended.returncode
    assert error in ended.stderr


@pytest.mark.usefixtures("envoy")
def test_the_stubs_know_their_contracts_with_the_http_rules(tmp_path):
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    from rest_gateway.envoy.__main__ import write_descriptors

    write_descriptors(tmp_path / "contracts.binpb")

    found = FileDescriptorSet.FromString((tmp_path / "contracts.binpb").read_bytes())
    names = [file.name for file in found.file]
    assert len(names) == len(set(names))
    assert names.index("google/api/http.proto") < names.index("production/v1/contacts.proto")
    assert b"/v1/contacts:export" in found.SerializeToString()
