"""The service over real channels: what a caller sees, and what the server does meanwhile."""

import queue
import threading
import time
import uuid

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, ResourceInfo, RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from sqlalchemy import text

from production import imports
from production.contacts import Contacts
from production.contacts_server import SERVICE, start
from production.settings import Settings
from production.v1.contacts_pb2 import (
    Contact,
    CreateContactRequest,
    DeleteContactRequest,
    ExportContactsRequest,
    GetContactRequest,
    ImportContactsRequest,
    ListContactsRequest,
    ListContactsResponse,
    UpdateContactRequest,
    WatchContactsRequest,
    WatchContactsResponse,
)
from production.v1.contacts_pb2_grpc import ContactServiceStub
from protobuf_demo.addressbook_pb2 import Person

Code = grpc.StatusCode
TIMEOUT = 30
METHODS = {
    "CreateContact": "unary_unary",
    "GetContact": "unary_unary",
    "ListContacts": "unary_unary",
    "UpdateContact": "unary_unary",
    "DeleteContact": "unary_unary",
    "ImportContacts": "stream_unary",
    "ExportContacts": "unary_stream",
    "WatchContacts": "unary_stream",
}


@pytest.fixture
def launch(url, run_async):
    """launch(SETTING=...) starts a server on the database of this test; gives it and a channel."""
    started = []

    def launch(**changes):
        settings = Settings(
            **{"address": "127.0.0.1:0", "database": url, "drain_pause": 0, "grace": 5} | changes
        )
        server, port = run_async(start(settings))
        channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        started.append((server, channel))
        return server, channel

    yield launch
    for server, channel in started:
        channel.close()
        run_async(server.stop())


@pytest.fixture
def channel(launch):
    return launch()[1]


@pytest.fixture
def stub(channel):
    return ContactServiceStub(channel)


def creation(name="Ada", **fields):
    return CreateContactRequest(contact=Contact(person=Person(name=name)), **fields)


def refusal(call, *args, **options):
    """The code, message and details by which a call is refused."""
    with pytest.raises(grpc.RpcError) as raised:
        result = call(*args, timeout=TIMEOUT, **options)
        if not isinstance(result, Message):
            list(result)
    status = rpc_status.from_call(raised.value)
    details = {}
    for packed in status.details if status else []:
        for kind in (BadRequest, ErrorInfo, ResourceInfo, RetryInfo):
            if packed.Is(kind.DESCRIPTOR):
                details[kind] = kind.FromString(packed.value)
    return raised.value.code(), raised.value.details(), details


def test_a_contact_lives_from_create_to_delete(stub):
    created = stub.CreateContact(creation(contact_id="ada-1"), timeout=TIMEOUT)
    assert (created.name, created.person.name) == ("contacts/ada-1", "Ada")
    assert stub.GetContact(GetContactRequest(name=created.name), timeout=TIMEOUT) == created
    assert list(stub.ListContacts(ListContactsRequest(), timeout=TIMEOUT).contacts) == [created]

    wanted = Contact(name=created.name, person=Person(name="Grace"), etag=created.etag)
    updated = stub.UpdateContact(UpdateContactRequest(contact=wanted), timeout=TIMEOUT)
    assert (updated.person.name, updated.etag) == ("Grace", '"2"')

    stub.DeleteContact(DeleteContactRequest(name=created.name), timeout=TIMEOUT)
    code, message, details = refusal(stub.GetContact, GetContactRequest(name=created.name))
    assert (code, message) == (Code.NOT_FOUND, "contacts/ada-1 does not exist")
    assert details[ResourceInfo] == ResourceInfo(
        resource_type="contacts.example.com/Contact", resource_name="contacts/ada-1"
    )


def test_all_violations_come_back_at_once(stub):
    code, message, details = refusal(stub.CreateContact, creation("", contact_id="X"))

    assert code == Code.INVALID_ARGUMENT
    assert message == "contact.person.name may not be empty, and 1 more"
    assert [v.field for v in details[BadRequest].field_violations] == [
        "contact.person.name",
        "contact_id",
    ]


def test_error_details_stay_below_4_kb(stub):
    request = creation()
    request.contact.person.phones.extend([Person.PhoneNumber(number="\n" * 300)] * 20)
    request.contact.person.email = "\n" * 300

    with pytest.raises(grpc.RpcError) as raised:
        stub.CreateContact(request, timeout=TIMEOUT)

    trailers = sum(len(key) + len(value) for key, value in raised.value.trailing_metadata())
    assert 500 < trailers < 4096


def test_conflicts_tell_the_current_etag(stub):
    created = stub.CreateContact(creation(), timeout=TIMEOUT)
    request = DeleteContactRequest(name=created.name, etag='"0"')

    code, _, details = refusal(stub.DeleteContact, request)

    assert code == Code.ABORTED
    assert details[ErrorInfo] == ErrorInfo(
        reason="ETAG_MISMATCH", domain="contacts.example.com", metadata={"etag": created.etag}
    )


def test_a_taken_id_already_exists(stub):
    stub.CreateContact(creation(contact_id="ada-1"), timeout=TIMEOUT)

    code, message, _ = refusal(stub.CreateContact, creation(contact_id="ada-1"))

    assert (code, message) == (Code.ALREADY_EXISTS, "contacts/ada-1 exists already")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("garbage", [b"\xff", b"\x0a\xff\xff", b"\x0b"])
def test_bytes_that_are_no_message_are_an_invalid_argument(channel, method, garbage, capfd):
    kind = METHODS[method]
    call = getattr(channel, kind)(f"/{SERVICE}/{method}")
    request = iter([garbage]) if kind == "stream_unary" else garbage

    code, message, _ = refusal(call, request)

    assert (code, message) == (
        Code.INVALID_ARGUMENT,
        "the request is no message of the method's type",
    )
    assert "Traceback" not in capfd.readouterr().err


def test_a_method_that_is_not_there_is_unimplemented(channel):
    assert refusal(channel.unary_unary(f"/{SERVICE}/Fly"), b"")[0] == Code.UNIMPLEMENTED


def test_a_request_over_1_mib_is_refused_before_it_is_read(stub):
    code, _, _ = refusal(stub.CreateContact, creation("x" * (1 << 20)))

    assert code == Code.RESOURCE_EXHAUSTED


def test_nothing_of_an_unexpected_error_leaves_but_its_id(stub, monkeypatch, caplog):
    def broken(*_):
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(Contacts, "get", broken)

    code, message, details = refusal(stub.GetContact, GetContactRequest(name="contacts/x"))

    error_id = details[ErrorInfo].metadata["error_id"]
    assert (code, message) == (Code.INTERNAL, f"internal error {error_id}")
    assert f"unexpected error {error_id}" in caplog.text
    assert "ZeroDivisionError: secret" in caplog.text


def test_the_request_id_is_the_callers_or_a_new_one(stub):
    def request_id(**options):
        _, call = stub.ListContacts.with_call(ListContactsRequest(), timeout=TIMEOUT, **options)
        return dict(call.initial_metadata())["x-request-id"]

    assert request_id(metadata=[("x-request-id", "abc-1")]) == "abc-1"
    assert uuid.UUID(request_id())
    assert uuid.UUID(request_id(metadata=[("x-request-id", "a b; DROP")]))


def test_every_call_leaves_one_log_line_without_personal_data(stub, caplog):
    caplog.set_level("INFO", "access")
    metadata = [("x-request-id", "abc-1")]

    stub.CreateContact(creation("Ada Secret"), timeout=TIMEOUT, metadata=metadata)
    refusal(stub.GetContact, GetContactRequest(name="contacts/nobody"), metadata=metadata)

    deadline = time.monotonic() + TIMEOUT
    # The line is written just after the answer has gone.
    while len(caplog.records) < 2 and time.monotonic() < deadline:
        pass
    lines = [(record.method, record.code, record.request_id) for record in caplog.records]
    assert lines == [
        (f"/{SERVICE}/CreateContact", "OK", "abc-1"),
        (f"/{SERVICE}/GetContact", "NOT_FOUND", "abc-1"),
    ]
    assert "Secret" not in caplog.text


def people(count):
    return [Person(name=f"Guest {number}", id=number) for number in range(count)]


def test_import_and_export_carry_everybody(stub):
    guests = people(2500)
    chunks = [ImportContactsRequest(people=guests[at : at + 100]) for at in range(0, 2500, 100)]
    chunks[-1].finish = True

    assert stub.ImportContacts(iter(chunks), timeout=TIMEOUT).contact_count == 2500

    chunks = list(stub.ExportContacts(ExportContactsRequest(), timeout=TIMEOUT))
    exported = [contact.person for chunk in chunks for contact in chunk.contacts]
    assert sorted(person.id for person in exported) == list(range(2500))
    assert len(chunks) > 1


def test_an_import_with_one_mistake_adds_nobody_and_tells_where(stub):
    chunks = [ImportContactsRequest(people=people(3)), ImportContactsRequest(people=[Person()])]

    code, _, details = refusal(stub.ImportContacts, iter(chunks))

    assert code == Code.INVALID_ARGUMENT
    assert [v.field for v in details[BadRequest].field_violations] == ["people[3].name"]
    assert not stub.ListContacts(ListContactsRequest(), timeout=TIMEOUT).contacts


def test_an_import_that_breaks_off_adds_nobody(stub):
    """Some of these look finished to the server: gRPC ends the stream before it says cancelled."""
    for _ in range(50):
        outbox = queue.SimpleQueue()
        outbox.put(ImportContactsRequest(people=people(3)))
        call = stub.ImportContacts.future(iter(outbox.get, None), timeout=TIMEOUT)
        call.cancel()
        outbox.put(None)
        with pytest.raises(grpc.FutureCancelledError):
            call.result()

    code, message, _ = refusal(stub.ImportContacts, iter([ImportContactsRequest()]))
    assert (code, message) == (Code.INVALID_ARGUMENT, "finish must be set on the last message")
    assert not stub.ListContacts(ListContactsRequest(), timeout=TIMEOUT).contacts


def test_nothing_may_follow_the_last_message_of_an_import(stub):
    last = ImportContactsRequest(people=people(1), finish=True)

    code, message, _ = refusal(stub.ImportContacts, iter([last, last]))

    wanted = (Code.INVALID_ARGUMENT, "finish was set on a message before this one")
    assert (code, message) == wanted


@pytest.mark.parametrize("limit", ["MAX_PEOPLE", "MAX_BYTES"])
def test_an_import_has_a_largest_size(stub, monkeypatch, limit):
    monkeypatch.setattr(imports, limit, 5)
    request = ImportContactsRequest(people=people(6))

    code, message, _ = refusal(stub.ImportContacts, iter([request]))

    assert code == Code.INVALID_ARGUMENT
    assert message.startswith("people may be ")


def test_an_import_with_a_request_id_is_carried_out_once(stub):
    def chunks(last):
        yield ImportContactsRequest(request_id=str(uuid.UUID(int=7)))
        yield ImportContactsRequest(people=people(3))
        yield ImportContactsRequest(people=[Person(name=last)], finish=True)

    answers = [stub.ImportContacts(chunks("Ada"), timeout=TIMEOUT) for _ in range(2)]
    assert [answer.contact_count for answer in answers] == [4, 4]
    assert len(stub.ListContacts(ListContactsRequest(), timeout=TIMEOUT).contacts) == 4

    code, message, _ = refusal(stub.ImportContacts, chunks("Grace"))
    assert (code, message) == (Code.INVALID_ARGUMENT, "request_id was used for another request")


def test_a_watch_sees_every_change_and_can_be_resumed(stub):
    watch = stub.WatchContacts(WatchContactsRequest(), timeout=TIMEOUT)
    assert next(watch) == WatchContactsResponse(
        kind=WatchContactsResponse.KIND_STARTED, position="0"
    )
    created = stub.CreateContact(creation(), timeout=TIMEOUT)
    first = next(watch)
    assert (first.kind, first.contact) == (WatchContactsResponse.KIND_CREATED, created)
    watch.cancel()

    stub.DeleteContact(DeleteContactRequest(name=created.name), timeout=TIMEOUT)
    again = stub.WatchContacts(WatchContactsRequest(position=first.position), timeout=TIMEOUT)
    assert next(again).kind == WatchContactsResponse.KIND_STARTED
    deleted = next(again)
    assert (deleted.kind, deleted.contact) == (
        WatchContactsResponse.KIND_DELETED,
        Contact(name=created.name),
    )


def test_a_watch_sees_what_another_server_on_the_same_database_does(launch):
    stubs = [ContactServiceStub(launch()[1]) for _ in range(2)]
    watch = stubs[0].WatchContacts(WatchContactsRequest(), timeout=TIMEOUT)
    next(watch)

    created = stubs[1].CreateContact(creation(), timeout=TIMEOUT)

    assert next(watch).contact == created


def test_a_position_made_up_is_an_invalid_argument(stub):
    assert refusal(stub.WatchContacts, WatchContactsRequest(position="9"))[0] == (
        Code.INVALID_ARGUMENT
    )


@pytest.fixture
def stuck(launch, monkeypatch):  # noqa: ARG001 - torn down before the servers stop.
    """Reads of a contact that last until the event is set; `begun` counts them."""

    class Stuck:
        begun = queue.SimpleQueue()
        go = threading.Event()

    def get(*_):
        Stuck.begun.put(None)
        Stuck.go.wait(TIMEOUT)
        return Contact(name="contacts/at-last")

    monkeypatch.setattr(Contacts, "get", get)
    yield Stuck
    Stuck.go.set()


def test_a_full_server_refuses_at_once_and_says_when_to_come_back(launch, stuck):
    stub = ContactServiceStub(launch(max_calls=2)[1])
    calls = [stub.GetContact.future(GetContactRequest(), timeout=TIMEOUT) for _ in range(2)]
    for _ in calls:
        stuck.begun.get(timeout=TIMEOUT)

    with pytest.raises(grpc.RpcError) as raised:
        stub.ListContacts(ListContactsRequest(), timeout=TIMEOUT)

    assert raised.value.code() == Code.RESOURCE_EXHAUSTED
    trailers = dict(raised.value.trailing_metadata())
    assert trailers["grpc-retry-pushback-ms"] == "500"
    stuck.go.set()
    assert [call.result().name for call in calls] == ["contacts/at-last"] * 2
    assert not stub.ListContacts(ListContactsRequest(), timeout=TIMEOUT).contacts


@pytest.mark.usefixtures("stuck")
def test_a_call_without_a_deadline_gets_the_servers(launch):
    stub = ContactServiceStub(launch(default_deadline=0.2)[1])

    with pytest.raises(grpc.RpcError) as raised:
        stub.GetContact(GetContactRequest())

    assert (raised.value.code(), raised.value.details()) == (
        Code.DEADLINE_EXCEEDED,
        "the deadline has passed",
    )


@pytest.mark.usefixtures("stuck")
def test_a_deadline_longer_than_the_servers_is_cut(launch):
    stub = ContactServiceStub(launch(max_deadline=0.2)[1])
    started = time.monotonic()

    assert refusal(stub.GetContact, GetContactRequest())[0] == Code.DEADLINE_EXCEEDED

    assert time.monotonic() - started < TIMEOUT


def test_work_ends_with_the_deadline_and_leaves_nothing(launch, database):
    """The database's only thread is held by a lock; the deadline frees it, with nothing written."""
    stub = ContactServiceStub(launch(connections=1)[1])
    stub.CreateContact(creation(), timeout=TIMEOUT)
    with database.write() as connection:
        connection.execute(text("UPDATE owners SET position = position"))

        assert outcome(stub.CreateContact, creation("Late"), timeout=0.2) == Code.DEADLINE_EXCEEDED

        # Answered while the lock is still held: the thread is free again.
        assert len(stub.ListContacts(ListContactsRequest(), timeout=TIMEOUT).contacts) == 1
    assert len(stub.ListContacts(ListContactsRequest(), timeout=TIMEOUT).contacts) == 1


def test_work_ends_when_the_caller_leaves(launch, database):
    stub = ContactServiceStub(launch(connections=1, default_deadline=1)[1])
    stub.CreateContact(creation(), timeout=TIMEOUT)
    with database.write() as connection:
        connection.execute(text("UPDATE owners SET position = position"))
        call = stub.CreateContact.future(creation("Late"))
        call.cancel()

        # A statement that waits for a lock ends with the server's own limit, 1 s, at the latest.
        assert len(stub.ListContacts(ListContactsRequest(), timeout=TIMEOUT).contacts) == 1
    assert len(stub.ListContacts(ListContactsRequest(), timeout=TIMEOUT).contacts) == 1


def outcome(call, *args, **options):
    """The status code of a call."""
    with pytest.raises(grpc.RpcError) as raised:
        call(*args, **options)
    return raised.value.code()


def test_layers_are_in_their_order(launch, stuck, caplog):
    """Log, errors, admission, deadline, decode: each shows that it is inside of the one before."""
    caplog.set_level("INFO", "access")
    channel = launch(max_calls=1, default_deadline=0.2)[1]
    busy = ContactServiceStub(channel).GetContact.future(GetContactRequest(), timeout=TIMEOUT)
    stuck.begun.get(timeout=TIMEOUT)
    garbage = channel.unary_unary(f"/{SERVICE}/ListContacts")

    # Admission comes before decoding, errors outside of it add details, and the log sees both.
    code, _, details = refusal(garbage, b"\xff")
    assert (code, RetryInfo in details) == (Code.RESOURCE_EXHAUSTED, True)
    stuck.go.set()
    busy.result()
    assert refusal(garbage, b"\xff")[0] == Code.INVALID_ARGUMENT

    # The deadline covers the time a message takes to come, and gives its place back.
    silent = channel.stream_unary(f"/{SERVICE}/ListContacts")
    for _ in range(3):
        outbox = queue.SimpleQueue()
        assert outcome(silent, iter(outbox.get, None)) == Code.DEADLINE_EXCEEDED
        outbox.put(None)

    wanted = [*["DEADLINE_EXCEEDED"] * 3, "INVALID_ARGUMENT", "OK", "RESOURCE_EXHAUSTED"]
    wait_until(lambda: sorted(record.code for record in caplog.records) == wanted)


def wait_until(condition):
    """Waits for what must come about."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("messages", [0, 2])
def test_a_unary_call_has_one_message(channel, messages):
    """Without any it is refused; of several the first counts, as gRPC's own handlers have it."""
    call = channel.stream_unary(
        f"/{SERVICE}/ListContacts", response_deserializer=ListContactsResponse.FromString
    )

    if messages:
        assert not call(iter([b""] * messages), timeout=TIMEOUT).contacts
    else:
        assert refusal(call, iter([]))[0] == Code.INVALID_ARGUMENT


def test_health_and_reflection_answer(channel):
    health = health_pb2_grpc.HealthStub(channel)
    answer = health.Check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=TIMEOUT)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING

    reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = reflection.ServerReflectionInfo(iter([request]), timeout=TIMEOUT)
    services = [service.name for service in answer.list_services_response.service]
    assert SERVICE in services


def test_a_stopping_server_says_so_ends_watches_and_finishes_calls(launch, stuck, run_async):
    server, channel = launch()
    stub, health = ContactServiceStub(channel), health_pb2_grpc.HealthStub(channel)
    statuses = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=TIMEOUT)
    assert next(statuses).status == health_pb2.HealthCheckResponse.SERVING
    watch = stub.WatchContacts(WatchContactsRequest(), timeout=TIMEOUT)
    next(watch)
    call = stub.GetContact.future(GetContactRequest(), timeout=TIMEOUT)
    stuck.begun.get(timeout=TIMEOUT)

    stopping = threading.Thread(target=lambda: run_async(server.stop()))
    stopping.start()

    assert next(statuses).status == health_pb2.HealthCheckResponse.NOT_SERVING
    for stream in (statuses, watch):
        with pytest.raises(grpc.RpcError) as raised:
            next(stream)
        assert raised.value.code() == Code.UNAVAILABLE
    stuck.go.set()
    assert call.result().name == "contacts/at-last"
    stopping.join(TIMEOUT)
    assert not stopping.is_alive()


def test_a_client_that_goes_away_makes_room_for_another_watch(launch):
    stub = ContactServiceStub(launch(max_watches=1)[1])
    watch = stub.WatchContacts(WatchContactsRequest(), timeout=TIMEOUT)
    next(watch)
    assert refusal(stub.WatchContacts, WatchContactsRequest())[0] == Code.RESOURCE_EXHAUSTED

    watch.cancel()

    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        try:
            assert next(stub.WatchContacts(WatchContactsRequest(), timeout=TIMEOUT))
            return
        except grpc.RpcError as error:
            assert error.code() == Code.RESOURCE_EXHAUSTED
    pytest.fail("the watch that was cancelled still counts")
