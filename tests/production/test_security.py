"""Authentication over real TLS: each refused call has an accepted twin that differs in one thing.

The tables of tokens are in test_tokens.py, of signatures in test_signatures.py.
"""

import json
import queue
import socket
import ssl
import time
import uuid

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from production.contacts.access import SCOPES
from production.development import certificates, issuer
from production.development.certificates import OPERATOR, ROLE, Authority
from production.lessons import google_client
from production.serving.observability.health import HealthServicer
from production.serving.security import authentication
from production.serving.security.authorization import PUBLIC
from production.v1 import contacts_pb2
from production.v1.contacts_pb2 import (
    Contact,
    CreateContactRequest,
    DeleteContactRequest,
    GetContactRequest,
    ListContactsRequest,
    UpdateContactRequest,
    WatchContactsRequest,
)
from production.v1.contacts_pb2_grpc import ContactServiceStub
from production.v2 import contacts_pb2 as v2
from protobuf_demo.addressbook_pb2 import Person
from tests.conftest import wait_until
from tests.production.conftest import channel
from tests.production.tokens import AUDIENCE, Provider, bearer

Code = grpc.StatusCode
TIMEOUT = 30


def pair(folder, name):
    return (folder / f"{name}.key").read_bytes(), (folder / f"{name}.pem").read_bytes()


def code(opened, metadata=()):
    """Returns the status code of a list on this channel, and closes it."""
    with opened:
        try:
            ContactServiceStub(opened).ListContacts(
                ListContactsRequest(), timeout=TIMEOUT, metadata=metadata
            )
        except grpc.RpcError as error:
            return error.code()
    return Code.OK


# Transport.


@pytest.mark.parametrize("name", ["server-wrong-host", "foreign-server"])
def test_a_client_refuses_a_server_whose_certificate_is_not_right(
    serve_tls, certs, issuers, touched, name
):
    wrong, right = serve_tls(name, issuers=issuers), serve_tls(issuers=issuers)

    assert code(channel(wrong, certs), bearer()) == Code.UNAVAILABLE
    assert not touched
    assert code(channel(right, certs), bearer()) == Code.OK
    assert touched


@pytest.mark.parametrize(
    "client",
    ["nothing", "foreign-operator", "expired", "not yet valid", "operator-for-servers", "itself"],
)
def test_a_server_with_mutual_tls_refuses_a_client_that_shows(serve_tls, certs, touched, client):
    address = serve_tls(client_ca=certs / "ca.pem")
    authority = Authority.load(certs, "ca")
    certificate, key = {
        "nothing": (None, None),
        "expired": authority.issue(OPERATOR._replace(begins=-9, ends=-1)),
        "not yet valid": authority.issue(OPERATOR._replace(begins=1)),
        "itself": Authority.make("operator").issue(OPERATOR),
    }.get(client) or reversed(pair(certs, client))

    assert code(channel(address, certs, key, certificate)) == Code.UNAVAILABLE
    assert not touched
    assert code(channel(address, certs, *pair(certs, "operator"))) == Code.OK


def test_a_plaintext_client_reaches_nothing(serve_tls, certs, issuers, touched):
    address = serve_tls(issuers=issuers)

    assert code(grpc.insecure_channel(address), bearer()) == Code.UNAVAILABLE
    assert not touched
    assert code(channel(address, certs), bearer()) == Code.OK


@pytest.mark.parametrize(
    ("version", "accepted"),
    [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)],
    ids=["1.1", "1.2"],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_tls_is_1_2_or_newer(serve_tls, certs, issuers, version, accepted):
    host, _, port = serve_tls(issuers=issuers).rpartition(":")
    context = ssl.create_default_context(cafile=certs / "ca.pem")
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # Else this client would refuse by itself.
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2"])
    connection = socket.create_connection((host, int(port)), TIMEOUT)

    if accepted:
        with context.wrap_socket(connection, server_hostname=host) as secured:
            assert secured.version() == "TLSv1.2"
        return
    with connection, pytest.raises((ssl.SSLError, OSError)):
        context.wrap_socket(connection, server_hostname=host)


def test_a_handshake_that_stalls_is_broken_off(serve_tls, issuers, monkeypatch):
    options = [("grpc.server_handshake_timeout_ms", 100)]
    monkeypatch.setattr("production.serving.server.OPTIONS", options)
    host, _, port = serve_tls(issuers=issuers).rpartition(":")

    with socket.create_connection((host, int(port)), TIMEOUT) as stalled:
        assert stalled.recv(1) == b""  # The server has closed it.


# Certificate to role.


@pytest.mark.parametrize(
    ("leaf", "wanted"),
    [
        (OPERATOR, Code.OK),
        (OPERATOR._replace(uris=(f"{ROLE}auditor",)), Code.OK),
        (OPERATOR._replace(common_name="auditor"), Code.OK),
        (OPERATOR._replace(purpose=None), Code.OK),
        (OPERATOR._replace(hosts=("localhost",), emails=("ada@example.org",)), Code.OK),
        (OPERATOR._replace(uris=(f"{ROLE}gateway",)), Code.UNAUTHENTICATED),
        (OPERATOR._replace(uris=(f"{ROLE}janitor",)), Code.UNAUTHENTICATED),
        (OPERATOR._replace(uris=(f"{ROLE}operator/x",)), Code.UNAUTHENTICATED),
        (OPERATOR._replace(uris=(f"{ROLE}Operator",)), Code.UNAUTHENTICATED),
        (OPERATOR._replace(uris=(f"x{ROLE}operator",)), Code.UNAUTHENTICATED),
        (OPERATOR._replace(uris=(f"{ROLE}operator", f"{ROLE}auditor")), Code.UNAUTHENTICATED),
        (OPERATOR._replace(uris=(f"{ROLE}operator", "https://example.org")), Code.UNAUTHENTICATED),
        (OPERATOR._replace(uris=("spiffe://example.org/role/operator",)), Code.UNAUTHENTICATED),
        (OPERATOR._replace(uris=(), common_name=f"{ROLE}operator"), Code.UNAUTHENTICATED),
        (OPERATOR._replace(uris=(), emails=("operator@example.org",)), Code.UNAUTHENTICATED),
        (OPERATOR._replace(uris=(), hosts=("operator",)), Code.UNAUTHENTICATED),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_one_uri_names_the_role_and_nothing_else_does(serve_tls, certs, touched, leaf, wanted):
    address = serve_tls(client_ca=certs / "ca.pem")
    certificate, key = Authority.load(certs, "ca").issue(leaf)

    assert code(channel(address, certs, key, certificate)) == wanted
    assert bool(touched) == (wanted == Code.OK)


def test_the_trust_domain_is_a_setting(serve_tls, certs):
    address = serve_tls(client_ca=certs / "ca.pem", trust_domain="example.org")
    authority = Authority.load(certs, "ca")

    for domain, wanted in (
        ("example.org", Code.OK),
        ("contacts.example.com", Code.UNAUTHENTICATED),
        ("example-org", Code.UNAUTHENTICATED),
    ):
        leaf = OPERATOR._replace(uris=(f"spiffe://{domain}/role/operator",))
        certificate, key = authority.issue(leaf)
        assert code(channel(address, certs, key, certificate)) == wanted


def test_a_connection_ends_at_its_age(serve_tls, certs, issuers):
    """It would be idle for 15 minutes otherwise."""
    states = queue.Queue()
    with channel(serve_tls(issuers=issuers, connection_age=1), certs) as opened:
        opened.subscribe(states.put, try_to_connect=True)
        while states.get(timeout=TIMEOUT) != grpc.ChannelConnectivity.READY:
            pass
        assert states.get(timeout=TIMEOUT) == grpc.ChannelConnectivity.IDLE


def test_a_role_does_what_its_line_says_and_no_more(serve_tls, certs):
    address = serve_tls(client_ca=certs / "ca.pem")
    request = CreateContactRequest(contact=Contact(person=Person(name="Ada")))

    with channel(address, certs, *pair(certs, "auditor")) as opened:
        with pytest.raises(grpc.RpcError) as raised:
            ContactServiceStub(opened).CreateContact(request, timeout=TIMEOUT)
        answer = raised.value.code(), raised.value.details()
        assert answer == (Code.PERMISSION_DENIED, "the scope contacts.write is needed")
    with channel(address, certs, *pair(certs, "operator")) as opened:
        assert ContactServiceStub(opened).CreateContact(request, timeout=TIMEOUT).name


def test_a_gateway_passes_on_a_token_and_adds_no_right(serve_tls, certs, issuers):
    address = serve_tls(client_ca=certs / "ca.pem", issuers=issuers)
    gateway = pair(certs, "gateway")

    assert code(channel(address, certs, *gateway)) == Code.UNAUTHENTICATED
    assert code(channel(address, certs, *gateway), bearer()) == Code.OK
    bad = bearer(aud="https://elsewhere.example.com")
    assert code(channel(address, certs, *pair(certs, "operator")), bad) == Code.UNAUTHENTICATED


# Replaced while the server runs.


def serial(address, certs):
    """The serial number of the certificate that a new connection is shown."""
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context(cafile=certs / "ca.pem")
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((host, int(port)), TIMEOUT) as connection,
        context.wrap_socket(connection, server_hostname=host) as secured,
    ):
        return secured.getpeercert()["serialNumber"]


@pytest.mark.parametrize("fault", ["torn", "no key", "garbage", "gone", "empty"])
def test_a_new_certificate_is_picked_up_and_a_faulty_one_is_not(
    serve_tls, certs, issuers, tmp_path, caplog, fault
):
    authority, files = Authority.load(certs, "ca"), {}
    for kind, content in zip(("certificate", "key"), issue(authority), strict=True):
        files[kind] = tmp_path / kind
        files[kind].write_bytes(content)
    address = serve_tls(issuers=issuers, **files)
    first = serial(address, certs)

    certificate, key = issue(authority)
    match fault:
        case "torn":
            files["key"].write_bytes(key)
        case "no key":
            files["key"].write_bytes(certificate)
        case "garbage":
            files["certificate"].write_bytes(b"\xff" * 100)
        case "empty":
            files["certificate"].write_bytes(b"")
        case "gone":
            files["certificate"].unlink()
    assert [serial(address, certs) for _ in range(3)] == [first] * 3
    assert caplog.text.count("the certificate in use is kept: ") == 1

    files["certificate"].write_bytes(certificate)
    files["key"].write_bytes(key)
    assert serial(address, certs) != first


def issue(authority):
    return authority.issue(certificates.SERVER)


SERVER_EXPIRED, SERVER_NOT_YET_VALID = (
    {"certificate": f"{name}.pem", "key": f"{name}.key"}
    for name in ("server-expired", "server-not-yet-valid")
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"certificate": "nowhere.pem"},
            r"nowhere\.pem: No such file or directory \(make one with `make certs`",
        ),
        ({"key": "operator.key"}, r"operator\.key is not the key of .*server\.pem"),
        ({"key": "server.pem"}, r"server\.pem holds no usable private key"),
        (SERVER_EXPIRED, r"server-expired\.pem has expired, on 2"),
        (SERVER_NOT_YET_VALID, r"server-not-yet-valid\.pem is not valid before 2"),
        ({"client_ca": "server-expired.pem"}, r"server-expired\.pem has expired, on 2"),
        ({"certificate": "server.key"}, r"server\.key holds no certificate"),
        ({"client_ca": "server.key"}, r"server\.key holds no certificate"),
    ],
)
def test_a_server_without_a_good_certificate_does_not_start(
    serve_tls, certs, issuers, changes, message
):
    files = {name: certs / file for name, file in changes.items()}

    with pytest.raises(Exception, match=message):
        serve_tls(issuers=issuers, **files)


# Metadata.


@pytest.mark.parametrize(
    ("edit", "wanted"),
    [
        (lambda token: [("authorization", f"Bearer {token}")], Code.OK),
        (lambda token: [("authorization", f"bEARER {token}")], Code.OK),
        (lambda token: [("authorization", token)], Code.UNAUTHENTICATED),
        (lambda token: [("authorization", f"Basic {token}")], Code.UNAUTHENTICATED),
        (lambda token: [("authorization", f"Bearer  {token}")], Code.UNAUTHENTICATED),
        (lambda token: [("authorization", f"Bearer {token},{token}")], Code.UNAUTHENTICATED),
        (lambda token: [("authorization", f"Bearer {token}")] * 2, Code.UNAUTHENTICATED),
        (lambda token: [("authorization-bin", f"Bearer {token}".encode())], Code.UNAUTHENTICATED),
        (lambda token: [("x-authorization", f"Bearer {token}")], Code.UNAUTHENTICATED),
        (lambda _token: [("authorization", "Bearer")], Code.UNAUTHENTICATED),
        (lambda _token: [("authorization", "")], Code.UNAUTHENTICATED),
        (lambda _token: [], Code.UNAUTHENTICATED),
    ],
)
def test_a_token_comes_once_in_one_form(serve_tls, certs, issuers, touched, edit, wanted):
    token = bearer()[0][1].removeprefix("Bearer ")

    assert code(channel(serve_tls(issuers=issuers), certs), edit(token)) == wanted
    assert bool(touched) == (wanted == Code.OK)


def test_nothing_is_read_of_a_caller_who_is_not_known(serve_tls, certs, issuers):
    """The bytes are not a message: if they had been decoded, the code would be INVALID_ARGUMENT."""
    with channel(serve_tls(issuers=issuers), certs) as opened:
        for method in sorted(SCOPES):
            if SCOPES[method] == PUBLIC:
                continue
            call = opened.stream_stream(method)
            with pytest.raises(grpc.RpcError) as raised:
                list(call(iter([b"\xff"]), timeout=TIMEOUT))
            assert raised.value.code() == Code.UNAUTHENTICATED


@pytest.mark.parametrize(("size", "wanted"), [(15_000, Code.OK), (17_000, Code.RESOURCE_EXHAUSTED)])
def test_metadata_has_one_limit(serve_tls, certs, issuers, touched, size, wanted):
    address = serve_tls(issuers=issuers)
    padding = ("x-padding", "x" * (size - len(bearer()[0][1])))

    assert {code(channel(address, certs), [*bearer(), padding]) for _ in range(20)} == {wanted}
    assert bool(touched) == (wanted == Code.OK)


def test_googles_credentials_open_what_their_issuer_is_granted(
    serve_tls, certs, serve, tmp_path, monkeypatch
):
    started = []

    async def start_issuer(address):
        started.append(await issuer.start(address))
        return started[0]

    serve(start_issuer)
    running = started[0][0]
    key_file = tmp_path / "service-account.json"
    key_file.write_text(json.dumps(running.google.service_account()))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key_file))
    address = serve_tls(issuers=running.table(AUDIENCE))
    tls = grpc.ssl_channel_credentials((certs / "ca.pem").read_bytes())
    for plugin, wanted in (
        (google_client.self_signed(str(key_file), AUDIENCE), Code.OK),
        (google_client.id_tokens(AUDIENCE), Code.OK),
        (google_client.self_signed(str(key_file), AUDIENCE + "/"), Code.UNAUTHENTICATED),
        (google_client.id_tokens("https://elsewhere.example.com"), Code.UNAUTHENTICATED),
    ):
        credentials = google_client.channel_credentials(tls, plugin)
        assert code(grpc.secure_channel(address, credentials)) == wanted


def test_strangers_who_send_nothing_take_nobodys_place(serve_tls, certs, issuers):
    """Health is for all; a hundred silent calls of it leave room for those who are known."""
    address = serve_tls(issuers=issuers, max_calls=1, max_watches=1)
    with channel(address, certs) as strange, channel(address, certs) as opened:
        silent = []
        for method in ("Check", "Watch"):
            for _ in range(40):
                outbox = queue.SimpleQueue()
                silent.append(
                    (
                        outbox,
                        strange.stream_stream(f"/grpc.health.v1.Health/{method}")(
                            iter(outbox.get, None), timeout=TIMEOUT
                        ),
                    )
                )
        stub = ContactServiceStub(opened)
        assert next(stub.WatchContacts(WatchContactsRequest(), timeout=TIMEOUT, metadata=bearer()))
        assert stub.CreateContact(
            CreateContactRequest(contact=Contact(person=Person(name="Ada"))),
            timeout=TIMEOUT,
            metadata=bearer(),
        )
        # A call without credentials that says nothing is ended soon.
        assert {call.code() for _, call in silent} == {Code.DEADLINE_EXCEEDED}
        for outbox, call in silent:
            call.cancel()
            outbox.put(None)


def test_a_health_watcher_who_does_not_read_holds_up_nobody(run_async):
    """Neither another watcher nor the drain waits for one that cannot be written to."""

    async def work():
        servicer = HealthServicer(["some.Service"])
        deaf, reader = (
            servicer.Watch(health_pb2.HealthCheckRequest(service="some.Service"), None)
            for _ in range(2)
        )
        await anext(deaf)  # Stays where it is, as if its write never ended.
        seen = [(await anext(reader)).status]
        servicer.drain()
        return [*seen, (await anext(reader)).status]

    answer = health_pb2.HealthCheckResponse
    assert run_async(work()) == [answer.SERVING, answer.NOT_SERVING]


def test_a_stranger_takes_nobodys_place(serve_tls, certs, issuers):
    """Authentication comes before admission: a full server still says who may not come in."""
    with channel(serve_tls(issuers=issuers, max_watches=1), certs) as opened:
        stub = ContactServiceStub(opened)

        def watch(metadata):
            return stub.WatchContacts(WatchContactsRequest(), timeout=TIMEOUT, metadata=metadata)

        first = watch(bearer())
        next(first)
        for metadata, wanted in (
            ([], Code.UNAUTHENTICATED),
            (bearer(scope=""), Code.PERMISSION_DENIED),
            (bearer(), Code.RESOURCE_EXHAUSTED),
        ):
            with pytest.raises(grpc.RpcError) as raised:
                next(watch(metadata))
            assert raised.value.code() == wanted


def test_the_log_says_who_has_called_without_naming_them(serve_tls, certs, issuers, caplog):
    caplog.set_level("INFO", "access")
    address = serve_tls(issuers=issuers)
    for sub in ("ada", "ada", "eve"):
        assert code(channel(address, certs), bearer(sub=sub)) == Code.OK

    wait_until(lambda: len(caplog.records) >= 3)
    callers = [record.caller for record in caplog.records if hasattr(record, "caller")]
    assert callers[0] == callers[1] != callers[2]
    assert "ada" not in caplog.text


def test_a_refusal_is_logged_with_its_reason_and_where_it_came_from(
    serve_tls, certs, issuers, caplog
):
    caplog.set_level("INFO", "access")
    assert code(channel(serve_tls(issuers=issuers), certs), bearer(exp=1)) == Code.UNAUTHENTICATED

    wait_until(lambda: caplog.records)
    assert caplog.records[0].refused == "token: exp"
    assert "127.0.0.1" in caplog.records[0].peer or "::1" in caplog.records[0].peer


def test_all_refusals_read_the_same(serve_tls, certs, issuers):
    address = serve_tls(issuers=issuers)
    seen = set()
    for metadata in ([], bearer(sub=""), bearer(exp=1), [("authorization", "Basic x")]):
        with channel(address, certs) as opened, pytest.raises(grpc.RpcError) as raised:
            ContactServiceStub(opened).ListContacts(
                ListContactsRequest(), timeout=TIMEOUT, metadata=metadata
            )
        trailers = dict(raised.value.trailing_metadata())
        del trailers["x-request-id"]
        seen.add((raised.value.code(), raised.value.details(), tuple(sorted(trailers.items()))))

    assert len(seen) == 1


# What is allowed.


def test_every_method_of_the_server_is_in_the_table():
    files = (contacts_pb2, v2, health_pb2, reflection_pb2)
    methods = {
        f"/{service.full_name}/{method.name}"
        for file in files
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }

    assert methods - {"/grpc.health.v1.Health/List"} == set(SCOPES)


@pytest.mark.parametrize("method", sorted(SCOPES))
def test_a_method_that_is_not_in_the_table_is_denied(
    serve_tls, certs, issuers, monkeypatch, method
):
    monkeypatch.delitem(SCOPES, method)

    with (
        channel(serve_tls(issuers=issuers), certs) as opened,
        pytest.raises(grpc.RpcError) as raised,
    ):
        list(opened.stream_stream(method)(iter([b""]), timeout=TIMEOUT, metadata=bearer()))

    assert raised.value.code() == Code.PERMISSION_DENIED


def test_health_is_for_everybody(serve_tls, certs, issuers):
    with channel(serve_tls(issuers=issuers), certs) as opened:
        stub = health_pb2_grpc.HealthStub(opened)
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT)

    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    ("scope", "wanted"),
    [
        ("contacts.read", Code.OK),
        ("contacts.write contacts.read", Code.OK),
        ("contacts.write", Code.PERMISSION_DENIED),
        ("contacts.readx", Code.PERMISSION_DENIED),
        ("Contacts.Read", Code.PERMISSION_DENIED),
        ("", Code.PERMISSION_DENIED),
    ],
)
def test_a_scope_is_needed(serve_tls, certs, issuers, scope, wanted):
    assert code(channel(serve_tls(issuers=issuers), certs), bearer(scope=scope)) == wanted


# Objects.


@pytest.fixture
def service(serve_tls, certs, issuers):
    """A stub, and Ada's contact."""
    with channel(serve_tls(issuers=issuers), certs) as opened:
        stub = ContactServiceStub(opened)
        request = CreateContactRequest(
            contact=Contact(person=Person(name="Guest")),
            contact_id="ada-1",
            request_id=str(uuid.UUID(int=1)),
        )
        yield stub, stub.CreateContact(request, timeout=TIMEOUT, metadata=bearer()), request


EVE = {"sub": "eve"}


@pytest.mark.parametrize(
    ("method", "request_for"),
    [
        ("GetContact", lambda contact: GetContactRequest(name=contact.name)),
        ("UpdateContact", lambda contact: UpdateContactRequest(contact=contact)),
        ("DeleteContact", lambda contact: DeleteContactRequest(name=contact.name)),
        (
            "DeleteContact",
            lambda contact: DeleteContactRequest(name=contact.name, etag=contact.etag),
        ),
    ],
)
def test_anothers_contact_is_not_there(service, method, request_for):
    stub, contact, _ = service
    call, request = getattr(stub, method), request_for(contact)

    with pytest.raises(grpc.RpcError) as raised:
        call(request, timeout=TIMEOUT, metadata=bearer(**EVE))
    assert raised.value.code() == Code.NOT_FOUND
    assert call(request, timeout=TIMEOUT, metadata=bearer())


def test_ids_page_tokens_request_ids_and_positions_are_each_callers_own(service):
    stub, contact, request = service

    def names(page_token="", **claims):
        request = ListContactsRequest(page_token=page_token, page_size=1)
        page = stub.ListContacts(request, timeout=TIMEOUT, metadata=bearer(**claims))
        return [found.name for found in page.contacts], page.next_page_token

    stub.CreateContact(
        CreateContactRequest(contact=request.contact), timeout=TIMEOUT, metadata=bearer()
    )
    _, page_token = names()
    with pytest.raises(grpc.RpcError) as raised:
        names(page_token, **EVE)
    assert raised.value.code() == Code.INVALID_ARGUMENT

    # The same contact id and request id are free for her, and her contact is another one.
    hers = stub.CreateContact(request, timeout=TIMEOUT, metadata=bearer(**EVE))
    assert (hers.name, hers.etag) == (contact.name, contact.etag)
    assert names(**EVE)[0] == [hers.name]
    stub.DeleteContact(
        DeleteContactRequest(name=hers.name), timeout=TIMEOUT, metadata=bearer(**EVE)
    )
    assert stub.GetContact(GetContactRequest(name=contact.name), timeout=TIMEOUT, metadata=bearer())

    watch = stub.WatchContacts(
        WatchContactsRequest(position="99"), timeout=TIMEOUT, metadata=bearer(**EVE)
    )
    with pytest.raises(grpc.RpcError) as raised:
        next(watch)
    assert raised.value.code() == Code.INVALID_ARGUMENT


def test_the_same_subject_of_another_issuer_is_another_caller(serve_tls, certs, issuers, serve):
    other = Provider()
    other_issuer = issuers[0] | {
        "issuer": "https://other.example.com",
        "jwks": f"http://{serve(other.start)}/jwks",
    }
    with channel(serve_tls(issuers=[*issuers, other_issuer]), certs) as opened:
        stub = ContactServiceStub(opened)
        request = CreateContactRequest(contact=Contact(person=Person(name="Guest")))
        stub.CreateContact(request, timeout=TIMEOUT, metadata=bearer())

        def count(**claims):
            request = ListContactsRequest()
            page = stub.ListContacts(request, timeout=TIMEOUT, metadata=bearer(**claims))
            return len(page.contacts)

        assert (count(), count(iss="https://other.example.com")) == (1, 0)


# Time.


def test_a_certificate_is_good_until_it_expires_also_on_an_open_connection(serve_tls, certs):
    """A watch ends with it, and so does what a resumed session or an open connection may do."""
    address = serve_tls(client_ca=certs / "ca.pem")
    soon = 2 / 86_400
    certificate, key = Authority.load(certs, "ca").issue(OPERATOR._replace(ends=soon))
    with channel(address, certs, key, certificate) as opened:
        stub = ContactServiceStub(opened)
        watch = stub.WatchContacts(WatchContactsRequest(), timeout=TIMEOUT)
        next(watch)
        with pytest.raises(grpc.RpcError) as raised:
            next(watch)
        assert raised.value.code() == Code.UNAUTHENTICATED
        with pytest.raises(grpc.RpcError) as raised:
            stub.ListContacts(ListContactsRequest(), timeout=TIMEOUT)
        assert raised.value.code() == Code.UNAUTHENTICATED


def test_a_watch_ends_when_its_token_does(serve_tls, certs, issuers, monkeypatch):
    monkeypatch.setattr(authentication, "LEEWAY_S", 0)
    with channel(serve_tls(issuers=issuers), certs) as opened:
        stub = ContactServiceStub(opened)
        soon = bearer(exp=int(time.time()) + 2)
        watch = stub.WatchContacts(WatchContactsRequest(), timeout=TIMEOUT, metadata=soon)
        next(watch)
        longer = stub.WatchContacts(WatchContactsRequest(), timeout=TIMEOUT, metadata=bearer())
        next(longer)

        with pytest.raises(grpc.RpcError) as raised:
            next(watch)

        assert raised.value.code() == Code.UNAUTHENTICATED
        assert longer.is_active()


def test_an_issuer_that_cannot_be_asked_is_unavailable(serve_tls, certs, issuers, capfd):
    down = issuers[0] | {"jwks": "http://127.0.0.1:1/jwks"}

    assert code(channel(serve_tls(issuers=[down]), certs), bearer()) == Code.UNAVAILABLE
    assert code(channel(serve_tls(issuers=issuers), certs), bearer()) == Code.OK
    assert "Traceback" not in capfd.readouterr().err


# Logs.


def test_no_secret_and_nothing_personal_is_in_any_log(serve_tls, certs, issuers, caplog, capfd):
    caplog.set_level("DEBUG")
    address = serve_tls(issuers=issuers, client_ca=certs / "ca.pem")
    key, certificate = pair(certs, "operator")
    shown = [bearer(sub="Sub Marker"), bearer(sub="Sub Marker", exp=1), bearer(aud="Aud Marker")]
    replies = []
    with channel(address, certs, key, certificate) as opened:
        stub = ContactServiceStub(opened)
        for metadata in (*shown, []):
            for name in ("Name Marker", ""):
                person = Person(name=name, email="Mail Marker")
                request = CreateContactRequest(contact=Contact(person=person))
                try:
                    stub.CreateContact(request, timeout=TIMEOUT, metadata=metadata)
                except grpc.RpcError as error:
                    replies.append(f"{error.details()} {error.trailing_metadata()}")

    output = capfd.readouterr()
    records = "".join(str(record.__dict__) for record in caplog.records)
    tokens = [metadata[0][1].removeprefix("Bearer ") for metadata in shown]
    secrets = [part for token in tokens for part in token.split(".")[1:]]
    for text in (caplog.text, records, output.out, output.err, *replies):
        for secret in (*secrets, "Marker", key.decode()[40:80], certificate.decode()[40:80]):
            assert secret not in text
    assert len(replies) >= 5
