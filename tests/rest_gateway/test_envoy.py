"""Envoy speaks REST, gRPC and gRPC-Web on one port. What it answers to REST is in test_requests."""

import base64
import signal
import struct
import subprocess
import sys

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
from rest_gateway import demo
from tests.rest_gateway.conftest import WAIT, a_page, running

SERVICE = "/production.v1.ContactService/"


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
