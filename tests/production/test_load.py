"""Under load: no call is refused within the limits, and nobody takes the places of others."""

import asyncio
import queue
import socket
import tempfile
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from production.contacts.contacts import Contacts
from production.contacts_client import ContactsClient
from production.development.child import child, wait_until_connected
from production.development.programs import AbsentError, find
from production.serving.layers import admission, deadline
from production.serving.layers.admission import Room
from production.serving.overload import OverloadedError
from production.v1.contacts_pb2 import (
    Contact,
    ImportContactsRequest,
    ListContactsRequest,
    UpdateContactRequest,
    WatchContactsRequest,
)
from production.v1.contacts_pb2_grpc import ContactServiceStub
from protobuf_demo.addressbook_pb2 import Person
from tests.conftest import absent, wait_until
from tests.production.conftest import channel
from tests.production.tokens import bearer

Code = grpc.StatusCode
TIMEOUT = 30
OWN = [("grpc.use_local_subchannel_pool", 1)]
"""A connection of its own."""
SERVICE = "/production.v1.ContactService/"


def fill(room, caller):
    """Takes as many places as the caller gets."""
    taken = 0
    while True:
        try:
            room.enter(caller)
        except OverloadedError:
            return taken
        taken += 1


@pytest.mark.parametrize(
    ("places", "shares"), [(100, [50] + [5] * 10), (8, [4, 1, 1, 1, 1]), (3, [2, 1]), (1, [1])]
)
def test_one_caller_gets_half_and_others_find_a_place(places, shares):
    room = Room(places)

    assert [fill(room, str(number)) for number in range(len(shares))] == shares
    with pytest.raises(OverloadedError) as refused:
        room.enter("one more")
    assert refused.value.limit == "server"
    for _ in range(shares[0]):
        room.leave("0")
    assert fill(room, "one more") > 0


def test_a_caller_above_its_share_is_told_so():
    room = Room(10)
    fill(room, "greedy")

    with pytest.raises(OverloadedError) as refused:
        room.enter("greedy")
    assert refused.value.limit == "caller"


@pytest.mark.parametrize("callers", [100, 300])
def test_a_client_may_fill_its_connection(serve_tls, certs, issuers, run_async, callers):
    """However many callers it has, and though it does not retry."""
    address = serve_tls(issuers=issuers)
    turns, codes = iter(range(1_000)), Counter()

    async def call(stub):
        for _ in turns:
            try:
                await stub.ListContacts(ListContactsRequest(), timeout=TIMEOUT, metadata=token)
                codes[Code.OK] += 1
            except grpc.aio.AioRpcError as error:
                codes[error.code()] += 1

    async def work():
        credentials = grpc.ssl_channel_credentials((certs / "ca.pem").read_bytes())
        no_retries = [("grpc.enable_retries", 0)]
        async with grpc.aio.secure_channel(address, credentials, no_retries) as opened:
            stub = ContactServiceStub(opened)
            await asyncio.gather(*(call(stub) for _ in range(callers)))

    token = bearer()
    run_async(work())

    assert codes == {Code.OK: 1_000}


@contextmanager
def silent(opened, method, count, metadata=()):
    """Calls that have begun and send nothing."""
    with ExitStack() as stack:
        calls = []
        for _ in range(count):
            outbox = queue.SimpleQueue()
            call = opened.stream_stream(method)(
                iter(outbox.get, None), timeout=TIMEOUT, metadata=metadata
            )
            stack.callback(outbox.put, None)
            stack.callback(call.cancel)
            calls.append(call)
        yield calls


def limit_of(error):
    """What an error says is full."""
    assert error.code() == Code.RESOURCE_EXHAUSTED
    assert dict(error.trailing_metadata())["grpc-retry-pushback-ms"] == "500"
    info = ErrorInfo()
    assert rpc_status.from_call(error).details[0].Unpack(info)
    return info.metadata["limit"]


@pytest.mark.parametrize("method", ["ListContacts", "ImportContacts"])
def test_modest_callers_lose_nothing_to_a_greedy_one(serve_tls, certs, issuers, method):
    address = serve_tls(issuers=issuers, max_calls=80, max_uploads=80)
    greedy, modest = bearer(sub="greedy"), [bearer(sub=f"modest-{n}") for n in range(20)]

    with channel(address, certs) as opened, silent(opened, SERVICE + method, 60, greedy) as calls:
        ended = wait_until(lambda: [call for call in calls if call.done()][19:])
        with ExitStack() as stack:
            stub = ContactServiceStub(stack.enter_context(channel(address, certs)))
            for metadata in modest:
                stub.ListContacts(ListContactsRequest(), timeout=TIMEOUT, metadata=metadata)
                list(stack.enter_context(silent(opened, SERVICE + method, 1, metadata)))

        assert {limit_of(call) for call in ended} == {"caller"}
        assert sum(not call.done() for call in calls) == 40


def test_watches_are_shared_in_the_same_way(serve_tls, certs, issuers):
    address = serve_tls(issuers=issuers, max_watches=9)
    with channel(address, certs) as opened:
        stub = ContactServiceStub(opened)

        def watch(caller):
            call = stub.WatchContacts(
                WatchContactsRequest(), timeout=TIMEOUT, metadata=bearer(sub=caller)
            )
            next(call)
            return call

        greedy = [watch("greedy") for _ in range(5)]
        with pytest.raises(grpc.RpcError) as refused:
            watch("greedy")
        assert limit_of(refused.value) == "caller"
        others = [watch(caller) for caller in ("ada", "bob", "cyd")]
        for call in (*greedy, *others):
            call.cancel()


def test_strangers_who_stall_keep_nobodys_health_check_out(serve_tls, certs, issuers, monkeypatch):
    for module in (admission, deadline):
        monkeypatch.setattr(module, "PUBLIC_SECONDS", 600)  # So that none ends by itself.
    address = serve_tls(issuers=issuers)
    check = "/grpc.health.v1.Health/Check"
    with channel(address, certs) as opened, silent(opened, check, 80) as calls:
        # 50 are being read; for each further one, the one that was read longest is given up.
        wait_until(lambda: sum(call.done() for call in calls) == 30)
        with channel(address, certs) as other:
            stub = health_pb2_grpc.HealthStub(other)
            assert stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT).status == 1
        wait_until(lambda: sum(call.done() for call in calls) == 31)


def test_strangers_who_watch_keep_no_client_out(serve_tls, certs, issuers, monkeypatch, run_async):
    """Neither what else is on their address nor a client that asks for our health first."""
    monkeypatch.setattr(admission, "MAX_PUBLIC_WATCHES", 60)
    address = serve_tls(issuers=issuers)
    request = health_pb2.HealthCheckRequest()
    with ExitStack() as stack:
        watches = []
        for _ in range(5):
            opened = stack.enter_context(channel(address, certs, options=OWN))
            stub = health_pb2_grpc.HealthStub(opened)
            watches += [stub.Watch(request, timeout=TIMEOUT) for _ in range(10)]
        codes = Counter(outcome(watch) for watch in watches)
        assert codes == {"SERVING": 30 + 4 + 4, Code.RESOURCE_EXHAUSTED: 12}

        async def use():
            token = grpc.access_token_call_credentials(bearer()[0][1].split()[1])
            tls = grpc.ssl_channel_credentials((certs / "ca.pem").read_bytes())
            credentials = grpc.composite_channel_credentials(tls, token)
            async with ContactsClient(address, credentials) as client:
                return [contact async for contact in client.list()]

        assert run_async(use()) == []


def outcome(watch):
    try:
        return health_pb2.HealthCheckResponse.ServingStatus.Name(next(watch).status)
    except grpc.RpcError as error:
        return error.code()


def test_error_details_pass_nginx_as_it_is(serve_tls, issuers):
    """Its buffer for a response's metadata is one memory page, and more is "invalid"."""
    address = serve_tls(issuers=issuers)
    try:
        program = find("nginx")
    except AbsentError as error:
        absent(error)
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "nginx.conf")
        config.write_text(NGINX.format(folder=folder, port=port, address=address))
        mistakes = UpdateContactRequest(contact=Contact(name="contacts/ada"))
        mistakes.update_mask.paths.extend("x" * 200 + str(number) for number in range(50))
        with child([program, "-e", "stderr", "-c", str(config)]) as process:
            wait_until_connected(process, ("127.0.0.1", port))
            with (
                grpc.insecure_channel(f"127.0.0.1:{port}") as opened,
                pytest.raises(grpc.RpcError) as raised,
            ):
                ContactServiceStub(opened).UpdateContact(
                    mistakes, timeout=TIMEOUT, metadata=bearer()
                )

    assert raised.value.code() == Code.INVALID_ARGUMENT
    details = rpc_status.from_call(raised.value).details[0]
    assert len(BadRequest.FromString(details.value).field_violations) > 3


NGINX = """
daemon off;
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} http2;
        location / {{ grpc_pass grpcs://{address}; }}
    }}
}}
"""


def test_imports_take_their_turn(serve_tls, certs, issuers, monkeypatch):
    """On SQLite each keeps everybody else from writing."""
    running, most = [], []
    original = Contacts.import_people

    def import_people(self, owner, gathered):
        running.append(owner)
        most.append(len(running))
        try:
            return original(self, owner, gathered)
        finally:
            running.pop()

    monkeypatch.setattr(Contacts, "import_people", import_people)
    with channel(serve_tls(issuers=issuers), certs) as opened:
        stub = ContactServiceStub(opened)
        people = [Person(name="Guest")] * 500
        requests = [ImportContactsRequest(people=people, finish=True)]
        imports = [
            stub.ImportContacts.future(iter(requests), timeout=TIMEOUT, metadata=bearer())
            for _ in range(4)
        ]
        assert {each.result().contact_count for each in imports} == {500}

    assert most == [1] * 4
