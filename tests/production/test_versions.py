"""Two versions of ContactService in one server, on the same contacts."""

import asyncio
import uuid

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from production import contacts_server
from production.calling.channels import channel_options
from production.contacts.servicer_v2 import V1_PATHS, from_v1, to_v1
from production.contacts.settings import Settings
from production.contacts.validation import NEVER_CHANGED
from production.contacts_client import ContactsError
from production.contacts_server import DEFINITION, SERVICE, SERVICE_V2, start
from production.v1 import contacts_pb2 as v1
from production.v1.contacts_pb2_grpc import ContactServiceStub as StubV1
from production.v2 import contacts_pb2 as v2
from production.v2.contacts_pb2_grpc import ContactServiceStub as StubV2
from protobuf_demo.addressbook_pb2 import Person
from tests.conftest import wait_until
from tests.production.test_fields import fill

Code = grpc.StatusCode
TIMEOUT = 30
NAME = "contacts/ada-1"
NOT_SHOWN = {"id", "last_updated"}
"""Fields of a person that version 2 does not have."""
PHONE = v2.PhoneNumber(number="112", kind=5)
"""Of a kind that nobody knows."""
METHODS = v2.DESCRIPTOR.services_by_name["ContactService"].methods


@pytest.fixture
def channel(url, database, run_async):
    database.migrate()
    server, port = run_async(
        start(Settings(address="127.0.0.1:0", plaintext=True, database=url, drain_pause=0))
    )
    with grpc.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield opened
    run_async(server.stop())


@pytest.fixture
def old(channel):
    return StubV1(channel)


@pytest.fixture
def new(channel):
    return StubV2(channel)


def person(**fields):
    """A person with all that version 2 does not show."""
    phone = Person.PhoneNumber(number=PHONE.number, type=PHONE.kind)
    return Person(name="Ada", id=7, last_updated=Timestamp(seconds=1), phones=[phone], **fields)


def create_old(old, **fields):
    request = v1.CreateContactRequest(
        contact=v1.Contact(person=person(**fields)), contact_id="ada-1"
    )
    return old.CreateContact(request, timeout=TIMEOUT)


def update_new(new, paths=(), **fields):
    request = v2.UpdateContactRequest(
        contact=v2.Contact(name=NAME, **fields), update_mask=FieldMask(paths=paths)
    )
    return new.UpdateContact(request, timeout=TIMEOUT)


def person_of(old):
    return old.GetContact(v1.GetContactRequest(name=NAME), timeout=TIMEOUT).person


def refusal(call, request):
    """The code, and the details, by which a call is refused."""
    with pytest.raises(grpc.RpcError) as raised:
        call(request, timeout=TIMEOUT)
    details = {}
    for packed in rpc_status.from_call(raised.value).details:
        for kind in (BadRequest, ErrorInfo):
            if packed.Is(kind.DESCRIPTOR):
                details[kind] = kind.FromString(packed.value)
    return raised.value.code(), details


def fields_refused(call, request):
    code, details = refusal(call, request)
    assert code == Code.INVALID_ARGUMENT
    return {violation.field for violation in details[BadRequest].field_violations}


def test_each_reads_what_the_other_writes(old, new):
    created = create_old(old, email="ada@example.org")
    shown = new.GetContact(v2.GetContactRequest(name=NAME), timeout=TIMEOUT)
    assert shown == v2.Contact(
        name=NAME,
        display_name="Ada",
        email_address="ada@example.org",
        phone_numbers=[PHONE],
        etag='"1"',
        create_time=created.create_time,
        update_time=created.update_time,
    )
    assert list(new.ListContacts(v2.ListContactsRequest(), timeout=TIMEOUT).contacts) == [shown]

    wanted = v2.Contact(
        display_name="Bob",
        email_address="bob@example.org",
        phone_numbers=[v2.PhoneNumber(number="113", kind=v2.PhoneNumber.KIND_WORK)],
    )
    request = v2.CreateContactRequest(contact=wanted, contact_id="bob-1")
    new.CreateContact(request, timeout=TIMEOUT)
    request = v1.GetContactRequest(name="contacts/bob-1")
    assert old.GetContact(request, timeout=TIMEOUT).person == Person(
        name="Bob",
        email="bob@example.org",
        phones=[Person.PhoneNumber(number="113", type=Person.WORK)],
    )

    new.DeleteContact(v2.DeleteContactRequest(name=NAME), timeout=TIMEOUT)
    assert refusal(old.GetContact, v1.GetContactRequest(name=NAME))[0] == Code.NOT_FOUND
    assert refusal(new.GetContact, v2.GetContactRequest(name=NAME))[0] == Code.NOT_FOUND


def test_every_field_is_translated_or_known_not_to_be_shown():
    """A field that is added to one version only fails here."""
    contact = v1.Contact()
    fill(contact, 1)
    shown = from_v1(contact)
    kept = to_v1(shown)
    for field in NOT_SHOWN:
        contact.person.ClearField(field)
    contact.ClearField("create_time")
    contact.ClearField("update_time")

    assert kept == contact
    every = {field.name for field in v2.Contact.DESCRIPTOR.fields}
    assert {field.name for field, _ in shown.ListFields()} == every
    assert every - V1_PATHS.keys() == NEVER_CHANGED


def written(contact):
    return {field: getattr(contact, field) for field in V1_PATHS}


def test_every_field_is_written_alone_and_with_all(new):
    first, second = v2.Contact(), v2.Contact()
    fill(first, 1)
    fill(second, 2)
    request = v2.CreateContactRequest(contact=first, contact_id="ada-1")
    assert written(new.CreateContact(request, timeout=TIMEOUT)) == written(first)
    for path in V1_PATHS:
        wanted = written(first) | {path: getattr(second, path)}
        assert written(update_new(new, [path], **{path: wanted[path]})) == wanted
        assert written(update_new(new, **written(first))) == written(first)
    assert written(update_new(new, **written(second))) == written(second)


@pytest.mark.parametrize(
    ("paths", "fields"),
    [
        (["display_name"], {"display_name": "Grace"}),
        ([], {"display_name": "Grace"}),
        (sorted(V1_PATHS), {"display_name": "Grace", "phone_numbers": [PHONE]}),
    ],
)
def test_an_update_keeps_what_version_2_does_not_show(old, new, paths, fields):
    create_old(old)

    update_new(new, paths, **fields)

    wanted = person()
    wanted.name = "Grace"
    assert person_of(old) == wanted


def test_a_contact_that_was_read_is_written_back_whole(old, new):
    create_old(old, email="ada@example.org")
    shown = new.GetContact(v2.GetContactRequest(name=NAME), timeout=TIMEOUT)
    shown.email_address = "countess@example.org"

    new.UpdateContact(v2.UpdateContactRequest(contact=shown), timeout=TIMEOUT)

    assert person_of(old) == person(email="countess@example.org")


def test_a_mask_clears_one_field(old, new):
    create_old(old, email="ada@example.org")

    update_new(new, ["email_address"])

    assert person_of(old) == person()


def test_an_update_of_nothing_changes_nothing(old, new):
    create_old(old)

    update_new(new)
    update_new(new, ["etag", "name", "create_time"])

    assert person_of(old) == person()


@pytest.mark.parametrize(
    "path", ["person", "person.id", "person.name", "*", "phone_numbers.number", "display"]
)
def test_a_mask_has_the_names_of_its_version(old, new, path):
    create_old(old)
    request = v2.UpdateContactRequest(
        contact=v2.Contact(name=NAME, display_name="Grace"), update_mask=FieldMask(paths=[path])
    )

    assert fields_refused(new.UpdateContact, request) == {"update_mask"}
    assert person_of(old) == person()


def test_mistakes_have_the_names_of_their_version(old, new):
    wrong = v2.Contact(
        name=NAME,
        email_address="\0",
        phone_numbers=[v2.PhoneNumber(number="112"), v2.PhoneNumber()],
    )
    ours = {"contact.display_name", "contact.email_address", "contact.phone_numbers[1].number"}
    request = v2.CreateContactRequest(contact=wrong, contact_id="A", request_id="x")
    assert fields_refused(new.CreateContact, request) == {*ours, "contact_id", "request_id"}

    create_old(old)
    request = v2.UpdateContactRequest(contact=wrong, update_mask=FieldMask(paths=sorted(V1_PATHS)))
    assert fields_refused(new.UpdateContact, request) == ours
    request = v2.UpdateContactRequest(contact=v2.Contact(display_name="Ada"))
    assert fields_refused(new.UpdateContact, request) == {"contact.name"}

    request = v2.ListContactsRequest(display_name_prefix="\0", page_size=-1)
    assert fields_refused(new.ListContacts, request) == {"display_name_prefix", "page_size"}
    request = v2.DeleteContactRequest(name="ada", request_id="x")
    assert fields_refused(new.DeleteContact, request) == {"name"}


def test_a_request_id_counts_in_both(old, new):
    """So a program may change its version between two attempts."""
    key = str(uuid.uuid4())
    request = v1.CreateContactRequest(contact=v1.Contact(person=Person(name="Ada")), request_id=key)
    created = old.CreateContact(request, timeout=TIMEOUT)
    request = v2.CreateContactRequest(contact=v2.Contact(display_name="Ada"), request_id=key)
    assert new.CreateContact(request, timeout=TIMEOUT) == from_v1(created)

    request.contact.display_name = "Bob"
    assert fields_refused(new.CreateContact, request) == {"request_id"}
    page = old.ListContacts(v1.ListContactsRequest(), timeout=TIMEOUT)
    assert list(page.contacts) == [created]


def test_an_etag_counts_in_both(old, new):
    read = create_old(old)
    update_new(new, display_name="Grace", etag=read.etag)

    read.person.name = "Bob"
    code, details = refusal(old.UpdateContact, v1.UpdateContactRequest(contact=read))
    assert (code, details[ErrorInfo].metadata["etag"]) == (Code.ABORTED, '"2"')
    request = v2.DeleteContactRequest(name=NAME, etag=read.etag)
    assert refusal(new.DeleteContact, request)[0] == Code.ABORTED


def test_a_page_token_counts_in_both(old, new):
    for name in ("Ada", "Alan", "Bob"):
        request = v2.CreateContactRequest(contact=v2.Contact(display_name=name))
        new.CreateContact(request, timeout=TIMEOUT)
    first = old.ListContacts(v1.ListContactsRequest(page_size=1, name_prefix="a"), timeout=TIMEOUT)
    request = v2.ListContactsRequest(
        page_size=1, display_name_prefix="a", page_token=first.next_page_token
    )
    second = new.ListContacts(request, timeout=TIMEOUT)
    assert [contact.display_name for contact in second.contacts] == ["Alan"]
    assert second.next_page_token == ""

    request.display_name_prefix = "b"
    assert fields_refused(new.ListContacts, request) == {"page_token"}


def test_a_watch_sees_what_version_2_changes(old, new):
    changes = old.WatchContacts(v1.WatchContactsRequest(), timeout=TIMEOUT)
    next(changes)
    create_old(old)
    update_new(new, display_name="Grace")
    new.DeleteContact(v2.DeleteContactRequest(name=NAME), timeout=TIMEOUT)

    seen = []
    while v1.WatchContactsResponse.KIND_DELETED not in {change.kind for change in seen}:
        seen.append(next(changes))
    changes.cancel()
    if len(seen) == 3:  # A watch that was slower sees only the deletion.
        assert seen[1].contact.person.id == 7
    assert seen[-1].contact == v1.Contact(name=NAME)


def test_what_is_stored_is_readable_without_version_1(old, new, database):
    """Bytes have no names: the same fields in another package read them."""
    key = str(uuid.uuid4())
    create_old(old)
    request = v2.UpdateContactRequest(
        contact=v2.Contact(name=NAME, display_name="Grace"), request_id=key
    )
    new.UpdateContact(request, timeout=TIMEOUT)
    stored = old.GetContact(v1.GetContactRequest(name=NAME), timeout=TIMEOUT)
    file = descriptor_pb2.FileDescriptorProto()
    v1.DESCRIPTOR.CopyToProto(file)
    del file.service[:]
    moved = descriptor_pb2.FileDescriptorProto.FromString(
        file.SerializeToString().replace(b"production.v1", b"contacts.kept")
    )
    pool = descriptor_pool.DescriptorPool()
    for needed in all_of(v1.DESCRIPTOR.dependencies):
        pool.AddSerializedFile(needed.serialized_pb)
    pool.Add(moved)

    def read(name, data):
        kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"contacts.kept.{name}"))
        return str(kind.FromString(data))

    with database.read() as connection:
        change = (
            connection.execute(text("SELECT change FROM changes ORDER BY position DESC"))
            .scalars()
            .first()
        )
        answer = connection.execute(text("SELECT response FROM requests")).scalar_one()

    assert read("Contact", answer) == str(stored)
    wanted = v1.WatchContactsResponse(kind="KIND_UPDATED", contact=stored, position="2")
    assert read("WatchContactsResponse", change) == str(wanted)


def all_of(files):
    """The files, each after those that it imports."""
    for file in files:
        yield from all_of(file.dependencies)
        yield file


def test_both_are_healthy_and_are_listed(channel):
    health = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service=SERVICE_V2)
    assert health.Check(request, timeout=TIMEOUT).status == health_pb2.HealthCheckResponse.SERVING

    reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    answer = next(reflection.ServerReflectionInfo(iter([request]), timeout=TIMEOUT))
    assert SERVICE_V2 in {service.name for service in answer.list_services_response.service}


def test_without_its_health_a_version_looks_like_an_outage(use_settings, tmp_path, monkeypatch):
    monkeypatch.setattr(contacts_server, "DEFINITION", DEFINITION._replace(names=[SERVICE_V2]))
    database = f"sqlite:///{tmp_path}/contacts.db"

    async def work(client):
        with pytest.raises(ContactsError, match="backend unhealthy") as raised:
            await client.get(NAME)
        assert raised.value.code == Code.UNAVAILABLE

    use_settings(
        Settings(address="127.0.0.1:0", plaintext=True, database=database, drain_pause=0), work
    )


def test_during_a_rollout_health_leads_to_the_servers_that_have_it(
    url, database, run_async, monkeypatch
):
    database.migrate()
    settings = Settings(address="127.0.0.1:0", plaintext=True, database=url, drain_pause=0)

    async def start_both():
        new = await start(settings)
        monkeypatch.setattr(contacts_server, "DEFINITION", DEFINITION._replace(names=[SERVICE]))
        monkeypatch.setattr(
            contacts_server.v2_grpc, "add_ContactServiceServicer_to_server", lambda *_: None
        )
        return new, await start(settings)

    async def call(stub):
        try:
            await stub.ListContacts(v2.ListContactsRequest(), timeout=TIMEOUT)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return Code.OK

    async def work():
        (new, port), (old, other) = await start_both()
        address = f"ipv4:127.0.0.1:{port},127.0.0.1:{other}"
        found = []
        for options in (channel_options(SERVICE_V2), [("grpc.lb_policy_name", "round_robin")]):
            async with grpc.aio.insecure_channel(address, options) as opened:
                codes = set()
                async with asyncio.timeout(TIMEOUT):
                    while len(codes) < len(found) + 1:
                        codes = {await call(StubV2(opened)) for _ in range(20)}
                found.append(codes)
        await asyncio.gather(new.stop(), old.stop())
        return found

    assert run_async(work()) == [{Code.OK}, {Code.OK, Code.UNIMPLEMENTED}]


def test_its_calls_are_logged_as_its_own(new, caplog):
    caplog.set_level("INFO", "access")

    assert refusal(new.GetContact, v2.GetContactRequest(name=NAME))[0] == Code.NOT_FOUND

    (record,) = wait_until(lambda: [one for one in caplog.records if one.name == "access"])
    assert (record.method, record.code) == (f"/{SERVICE_V2}/GetContact", "NOT_FOUND")


def texts():
    known = [NAME, "ada-1", '"1"', *V1_PATHS, "person", str(uuid.UUID(int=1))]
    return st.sampled_from(known) | st.text(max_size=20)


def requests(method):
    """Requests of a method, with any values in any fields."""
    int32 = st.integers(-(2**31), 2**31 - 1)
    phone = st.builds(v2.PhoneNumber, number=texts(), kind=int32)
    values = {
        "contact": st.builds(
            v2.Contact,
            name=texts(),
            display_name=texts(),
            phone_numbers=st.lists(phone, max_size=2),
            etag=texts(),
        ),
        "update_mask": st.builds(FieldMask, paths=st.lists(texts(), max_size=3)),
        "page_size": int32,
    }
    fields = method.input_type.fields_by_name
    kind = getattr(v2, method.input_type.name)
    message = st.builds(kind, **{name: values.get(name, texts()) for name in fields})
    return message.map(lambda request: (method.name, request))


def test_whatever_is_sent_the_answer_is_a_clear_one(new, caplog):
    @settings(max_examples=150, deadline=None, database=None)
    @given(st.one_of(*map(requests, METHODS)))
    def check(sent):
        method, request = sent
        try:
            getattr(new, method)(request, timeout=TIMEOUT)
        except grpc.RpcError as error:
            clear = {Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.ALREADY_EXISTS, Code.ABORTED}
            assert error.code() in clear

    check()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
