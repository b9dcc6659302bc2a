"""The service over real channels: what a caller sees, and what the server does meanwhile."""

import base64
import gc
import os
import queue
import threading
import time
import uuid
from contextlib import suppress
from urllib.parse import quote

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, ResourceInfo, RetryInfo
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from production.contacts import contacts, import_buffer
from production.contacts.changes import Changes
from production.contacts.contacts import Contacts
from production.contacts.import_buffer import gathering
from production.contacts.servicer import ContactServicer
from production.contacts.settings import Settings
from production.contacts_client import ContactsClient, ContactsError
from production.contacts_server import SERVICE, start
from production.serving.validation import InvalidError
from production.v1 import contacts_pb2
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
from production.v1.contacts_pb2_grpc import ContactServiceServicer, ContactServiceStub
from protobuf_demo.addressbook_pb2 import Person
from tests.conftest import wait_until

Code = grpc.StatusCode
TIMEOUT = 30
ARITY = {False: "unary", True: "stream"}
METHODS = {
    method.name: f"{ARITY[method.client_streaming]}_{ARITY[method.server_streaming]}"
    for method in contacts_pb2.DESCRIPTOR.services_by_name["ContactService"].methods
}
"""How a channel calls each."""


@pytest.fixture
def launch(url, database, run_async):
    """launch(SETTING=...) starts a server on the database of this test; gives it and a channel."""
    database.migrate()
    started = []

    def launch(**changes):
        defaults = {
            "address": "127.0.0.1:0",
            "plaintext": True,
            "database": url,
            "drain_pause": 0,
            "grace": 5,
        }
        server, port = run_async(start(Settings(**defaults | changes)))
        # How much a client lets come without reading is fixed, so that a slow one can be seen.
        channel = grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.http2.bdp_probe", 0)])
        started.append((server, channel))
        launch.address = f"127.0.0.1:{port}"
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


def mistakes():
    request = creation()
    request.contact.person.phones.extend([Person.PhoneNumber(number="\n" * 300)] * 20)
    request.contact.person.email = "\n" * 300
    path = "林" * 200  # Each character takes nine in a message.
    mask = UpdateContactRequest(update_mask=FieldMask(paths=[path] * 50))
    mask.contact.name = "contacts/ada"
    return {"CreateContact": request, "UpdateContact": mask}


@pytest.mark.parametrize("method", ["CreateContact", "UpdateContact"])
def test_error_details_stay_below_4_kb_as_they_are_sent(stub, method):
    with pytest.raises(grpc.RpcError) as raised:
        getattr(stub, method)(mistakes()[method], timeout=TIMEOUT)

    sent = len(quote(raised.value.details())) + sum(
        len(key) + (len(value) if isinstance(value, str) else len(base64.b64encode(value)))
        for key, value in raised.value.trailing_metadata()
    )
    assert 1_500 < sent < 4_000


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

    assert (code, message) == (Code.ALREADY_EXISTS, "contacts/ada-1 already exists")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("garbage", [b"\xff", b"\x0a\xff\xff", b"\x0b"])
def test_bytes_that_are_no_message_are_an_invalid_argument(channel, method, garbage, capfd):
    kind = METHODS[method]
    call = getattr(channel, kind)(f"/{SERVICE}/{method}")
    request = iter([garbage]) if kind == "stream_unary" else garbage

    code, message, _ = refusal(call, request)

    assert (code, message) == (
        Code.INVALID_ARGUMENT,
        "the request is not a message of the method's type",
    )
    assert "Traceback" not in capfd.readouterr().err


def text_field():
    """Text that is sometimes what the service itself would give or take."""
    known = ["contacts/ada-1", "ada-1", '"1"', "1", "person", "person.email", str(uuid.UUID(int=1))]
    return st.sampled_from(known) | st.text(max_size=20)


def request_for(method):
    """Requests of a method, with any values in any fields."""
    contact = st.builds(
        Contact, name=text_field(), etag=text_field(), person=st.builds(Person, name=text_field())
    )
    mask = st.builds(FieldMask, paths=st.lists(text_field(), max_size=3))
    values = {
        "contact": contact,
        "update_mask": mask,
        "page_size": st.integers(-(2**31), 2**31 - 1),
        "people": st.lists(st.builds(Person, name=text_field()), max_size=3),
        "finish": st.booleans(),
    }
    type_ = getattr(contacts_pb2, f"{method}Request")
    fields = type_.DESCRIPTOR.fields_by_name
    message = st.builds(type_, **{name: values.get(name, text_field()) for name in fields})
    return message.map(lambda request: (method, request.SerializeToString()))


ANY_BYTES = st.tuples(st.sampled_from(sorted(METHODS)), st.binary(max_size=50))
ANY_REQUEST = st.one_of(ANY_BYTES, *map(request_for, METHODS))


def test_whatever_is_sent_the_answer_is_a_clear_one(channel, caplog):
    """Random bytes and random messages to every method; try EXAMPLES=100000 for longer."""

    @settings(max_examples=int(os.environ.get("EXAMPLES", "150")), deadline=None, database=None)
    @given(ANY_REQUEST)
    def check(sent):
        method, data = sent
        kind = METHODS[method]
        call = getattr(channel, kind)(f"/{SERVICE}/{method}")
        try:
            answer = call(iter([data]) if kind == "stream_unary" else data, timeout=TIMEOUT)
            if kind == "unary_stream":
                next(answer, None)
                answer.cancel()
        except grpc.RpcError as error:
            assert error.code() in {
                Code.INVALID_ARGUMENT,
                Code.NOT_FOUND,
                Code.ALREADY_EXISTS,
                Code.ABORTED,
                Code.OUT_OF_RANGE,
            }

    check()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_refused_request_is_not_kept_in_memory(stub):
    """Not even until the garbage collector runs: it sees one object, not the megabyte in it."""
    request = creation("")
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            refusal(stub.CreateContact, request)
        kinds = CreateContactRequest, InvalidError
        wait_until(lambda: [o for o in gc.get_objects() if isinstance(o, kinds)] == [request])
    finally:
        gc.enable()


def test_a_method_that_is_not_there_is_unimplemented(channel):
    assert refusal(channel.unary_unary(f"/{SERVICE}/Fly"), b"")[0] == Code.UNIMPLEMENTED


def test_a_method_that_the_servicer_does_not_have_is_unimplemented(launch, monkeypatch, caplog):
    unwritten = ContactServiceServicer.GetContact
    monkeypatch.setattr(ContactServicer, "GetContact", unwritten)
    stub = ContactServiceStub(launch()[1])

    code, message, _ = refusal(stub.GetContact, GetContactRequest(name="contacts/x"))

    assert (code, message) == (Code.UNIMPLEMENTED, "the method is not implemented")
    assert "Traceback" not in caplog.text


def test_the_log_has_the_code_that_a_servicer_has_set(launch, monkeypatch, caplog):
    caplog.set_level("INFO", "access")

    async def get(_self, _request, context):
        context.set_code(Code.DATA_LOSS)
        return Contact()

    monkeypatch.setattr(ContactServicer, "GetContact", get)
    stub = ContactServiceStub(launch()[1])

    assert refusal(stub.GetContact, GetContactRequest(name="contacts/x"))[0] == Code.DATA_LOSS
    wait_until(lambda: [record.code for record in caplog.records] == ["DATA_LOSS"])


def test_a_unary_request_over_64_kib_is_refused_before_it_is_decoded(stub):
    code, message, _ = refusal(stub.CreateContact, creation("x" * (64 << 10)))

    assert (code, message) == (Code.RESOURCE_EXHAUSTED, "the request is larger than 64 KiB")


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
        return dict(call.trailing_metadata())["x-request-id"]

    sent = [("x-request-id", "abc-1")]
    assert request_id(metadata=sent) == "abc-1"
    with pytest.raises(grpc.RpcError) as raised:
        stub.GetContact(GetContactRequest(), timeout=TIMEOUT, metadata=sent)
    assert dict(raised.value.trailing_metadata())["x-request-id"] == "abc-1"
    assert uuid.UUID(request_id())
    assert uuid.UUID(request_id(metadata=[("x-request-id", "a b; DROP")]))


def test_every_call_leaves_one_log_line_without_personal_data(stub, caplog):
    caplog.set_level("INFO", "access")
    metadata = [("x-request-id", "abc-1")]

    stub.CreateContact(creation("Ada Secret"), timeout=TIMEOUT, metadata=metadata)
    refusal(stub.GetContact, GetContactRequest(name="contacts/nobody"), metadata=metadata)

    # A line is written just after the answer has gone.
    wait_until(lambda: len(caplog.records) >= 2)
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


def test_a_refused_import_is_told_why_although_its_client_still_writes(launch, run_async):
    """grpc.aio's client may lose a status that comes while it writes (grpc#36066)."""

    async def fail(client):
        with pytest.raises(ContactsError) as raised:
            await client.import_people([Person()] * 3000)
        return raised.value.code

    async def work():
        async with ContactsClient(address, None) as client:
            return {await fail(client) for _ in range(30)}

    launch()
    address = launch.address

    assert run_async(work()) == {Code.INVALID_ARGUMENT}


def test_nothing_may_follow_the_last_message_of_an_import(stub):
    last = ImportContactsRequest(people=people(1), finish=True)

    code, message, _ = refusal(stub.ImportContacts, iter([last, last]))

    wanted = (Code.INVALID_ARGUMENT, "finish was already set on an earlier message")
    assert (code, message) == wanted


@pytest.mark.parametrize("limit", ["MAX_PEOPLE", "MAX_BYTES"])
def test_an_import_has_a_largest_size(stub, monkeypatch, limit):
    monkeypatch.setattr(import_buffer, limit, 5)
    request = ImportContactsRequest(people=people(6))

    code, message, _ = refusal(stub.ImportContacts, iter([request]))

    assert code == Code.INVALID_ARGUMENT
    assert message.startswith("people must be at most ")


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


def count_calls(monkeypatch, owner, method):
    """Counts the calls of a method, without changing them."""
    calls, original = [], getattr(owner, method)

    def counting(*args, **options):
        calls.append(args)
        return original(*args, **options)

    monkeypatch.setattr(owner, method, counting)
    return calls


def test_an_export_is_read_no_faster_than_its_caller_reads(launch, database, monkeypatch):
    monkeypatch.setattr(contacts, "MAX_PAGE", 10)
    stub = ContactServiceStub(launch(max_calls=3)[1])
    with gathering() as gathered:
        everybody = [Person(name="Guest", email="x" * 200) for _ in range(5000)]
        gathered.add(ImportContactsRequest(people=everybody, finish=True))
        Contacts(database).import_people("development", gathered)
    batches = count_calls(monkeypatch, contacts, "_fill")

    slow = [stub.ExportContacts(ExportContactsRequest(), timeout=TIMEOUT) for _ in range(2)]
    for export in slow:
        next(export)
    # What they do not read stays in the server's memory; so they keep their places.
    for _ in range(200):
        assert outcome(stub.ListContacts, ListContactsRequest()) == Code.RESOURCE_EXHAUSTED
    assert len(batches) < 500  # Of 1,000.

    for export in slow:
        export.cancel()
    wait_until(lambda: answers(stub.ListContacts, ListContactsRequest()))


def answers(call, request):
    """Tells whether a call succeeds."""
    with suppress(grpc.RpcError):
        return bool(call(request, timeout=TIMEOUT))
    return False


def test_a_slow_watcher_holds_up_nobody_and_misses_nothing(launch, monkeypatch):
    stub = ContactServiceStub(launch()[1])
    read = count_calls(monkeypatch, Changes, "after")
    slow = stub.WatchContacts(WatchContactsRequest(), timeout=TIMEOUT)
    next(slow)
    big = Person(name="x" * 200, email="x" * 200)
    big.phones.extend([Person.PhoneNumber(number="x" * 200)] * 20)
    chunk = ImportContactsRequest(people=[big] * 200)

    last = ImportContactsRequest(finish=True)
    stub.ImportContacts(iter([chunk, chunk, chunk, last]), timeout=TIMEOUT)
    quick = stub.WatchContacts(WatchContactsRequest(position="1"), timeout=TIMEOUT)
    quick_positions = [int(next(quick).position) for _ in range(600)]

    # Both began at the same changes; only one of them was read to the end, in batches of 20.
    assert quick_positions == list(range(1, 601))
    assert len(read) < 45
    assert [int(next(slow).position) for _ in range(600)] == list(range(1, 601))


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
    stub = ContactServiceStub(launch(max_calls=3)[1])
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
    wait_until(lambda: answers(stub.ListContacts, ListContactsRequest()))


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
    """Log, errors, admission, deadline, decode: each is inside the one before."""
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
    wait_until(lambda: refusal(garbage, b"\xff")[0] == Code.INVALID_ARGUMENT)

    # The deadline covers the time a message takes to come, and gives its place back.
    silent = channel.stream_unary(f"/{SERVICE}/ListContacts")
    for _ in range(3):
        outbox = queue.SimpleQueue()
        assert outcome(silent, iter(outbox.get, None)) == Code.DEADLINE_EXCEEDED
        outbox.put(None)
        wait_until(lambda: refusal(garbage, b"\xff")[0] == Code.INVALID_ARGUMENT)

    wanted = {"DEADLINE_EXCEEDED", "INVALID_ARGUMENT", "OK", "RESOURCE_EXHAUSTED"}
    wait_until(lambda: {record.code for record in caplog.records} == wanted)


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


def test_channelz_shows_what_gRPC_counts_behind_a_door_of_its_own(launch):
    server, channel = launch(channelz_address="127.0.0.1:0")
    ContactServiceStub(channel).ListContacts(ListContactsRequest(), timeout=TIMEOUT)
    request = channelz_pb2.GetServersRequest()

    with grpc.insecure_channel(f"127.0.0.1:{server.server.channelz_port}") as beside:
        found = channelz_pb2_grpc.ChannelzStub(beside).GetServers(request, timeout=TIMEOUT)
    code = refusal(channelz_pb2_grpc.ChannelzStub(channel).GetServers, request)[0]

    # Of this process: there may be servers of other tests.
    assert any(one.data.calls_succeeded >= 1 for one in found.server)
    assert code == Code.UNIMPLEMENTED


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

    def watches():
        with suppress(grpc.RpcError):
            return next(stub.WatchContacts(WatchContactsRequest(), timeout=TIMEOUT))

    wait_until(watches)
