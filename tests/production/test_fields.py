"""Every field of Contact that callers write is stored, returned and offered wherever it should be.

After a field was added, the tests that fail here name what was forgotten.
"""

import asyncio
import sys
from unittest import mock

import pytest
from google.api import field_behavior_pb2
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToDict

from benchmarks.servers import rest_server
from production.contacts.settings import Settings
from production.contacts.validation import NEVER_CHANGED, WRITABLE
from production.contacts_client import ContactsClient
from production.contacts_client.__main__ import parse_arguments
from production.contacts_server import start
from production.serving.validation import InvalidError
from production.v1.contacts_pb2 import (
    Contact,
    CreateContactRequest,
    ListContactsRequest,
    UpdateContactRequest,
)
from protobuf_demo.addressbook_pb2 import Person

ME = "me"


def fill(message, number):
    """Sets every field of a message, to another value for each number."""
    for field in message.DESCRIPTOR.fields:
        if field.message_type:
            child = getattr(message, field.name)
            fill(child.add() if field.is_repeated else child, number)
            continue
        if field.enum_type:
            value = field.enum_type.values[number].number
        elif field.cpp_type == field.CPPTYPE_STRING:
            value = f"{field.name} {number}"
            value = value if field.type == field.TYPE_STRING else value.encode()
        else:
            value = number
        if field.is_repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)


def written(contact):
    """The part of a contact that its callers write."""
    part = Contact()
    part.CopyFrom(contact)
    for name in NEVER_CHANGED:
        part.ClearField(name)
    return part


def filled(number, **fields):
    """A contact with a value in each field that callers write."""
    contact = Contact()
    fill(contact, number)
    contact = written(contact)
    contact.MergeFrom(Contact(**fields))
    return contact


def create(contacts, contact):
    return contacts.create(ME, CreateContactRequest(contact=contact))


def update(contacts, contact, *paths):
    request = UpdateContactRequest(contact=contact, update_mask=FieldMask(paths=paths))
    return contacts.update(ME, request)


def test_the_server_writes_the_fields_that_the_contract_says():
    extension = field_behavior_pb2.field_behavior
    behaviors = {field_behavior_pb2.IDENTIFIER, field_behavior_pb2.OUTPUT_ONLY}
    outputs = {
        field.name
        for field in Contact.DESCRIPTOR.fields
        if behaviors & {*field.GetOptions().Extensions[extension]}
    }

    assert outputs | {"etag"} == NEVER_CHANGED


def test_every_field_is_stored_and_returned(contacts, changes):
    def check(contact, wanted):
        (listed,) = contacts.page(ME, ListContactsRequest()).contacts
        (exported,) = [one for batch in contacts.export(ME) for one in batch]
        watched = changes.after(ME, 0)[-1].contact
        stored = contacts.get(ME, contact.name)

        assert written(contact) == wanted
        assert [contact] * 4 == [stored, listed, exported, watched]

    created = create(contacts, filled(1))
    check(created, filled(1))
    check(update(contacts, filled(2, name=created.name)), filled(2))


@pytest.mark.parametrize("field", WRITABLE)
def test_a_mask_names_one_field(contacts, field):
    name = create(contacts, filled(1)).name
    wanted = filled(1)
    wanted.ClearField(field)
    FieldMask(paths=[field]).MergeMessage(filled(2), wanted)

    assert written(update(contacts, filled(2, name=name), field)) == wanted


def test_a_mask_clears_a_field_of_a_message_that_is_not_set(contacts):
    name = create(contacts, filled(1)).name
    wanted = filled(1)
    wanted.person.email = ""

    assert written(update(contacts, Contact(name=name), "person.email")) == wanted


def test_without_a_mask_what_is_not_set_is_kept(contacts):
    """A client of an older contract would otherwise delete fields that it does not know."""
    name = create(contacts, filled(1)).name
    wanted = filled(1)
    wanted.person.CopyFrom(filled(2).person)

    assert written(update(contacts, Contact(name=name, person=wanted.person))) == wanted


def texts(message, path, skipped=()):
    """Every text of a message, as the message that has it, the field's name and its path."""
    for field in message.DESCRIPTOR.fields:
        if field.name in skipped:
            continue
        values = getattr(message, field.name)
        if field.message_type and field.is_repeated:
            for index, value in enumerate(values):
                yield from texts(value, f"{path}.{field.name}[{index}]")
        elif field.message_type:
            yield from texts(values, f"{path}.{field.name}")
        elif field.type == field.TYPE_STRING:
            yield message, field.name, f"{path}.{field.name}"


def test_every_text_is_validated(contacts):
    """PostgreSQL cannot store this one."""
    contact = filled(1)
    found = {path for _, _, path in texts(contact, "contact", NEVER_CHANGED)}

    for message, field, path in texts(contact, "contact", NEVER_CHANGED):
        before = getattr(message, field)
        setattr(message, field, "\0")
        with pytest.raises(InvalidError) as raised:
            create(contacts, contact)
        setattr(message, field, before)
        found -= {violation.field for violation in raised.value.violations} & {path}

    assert found == set()


def test_the_client_writes_every_field(tmp_path, run_async):
    async def work(client):
        created = await client.create(filled(1))
        assert written(created) == filled(1)
        updated = await client.update(filled(2, name=created.name))
        assert written(updated) == filled(2)
        assert [updated] == [contact async for contact in client.list()]
        assert [updated] == [contact async for contact in client.export()]
        changes = client.watch("1")
        await anext(changes)
        assert (await anext(changes)).contact == updated
        await changes.aclose()

        emptied = Contact(name=created.name, person=filled(1).person)
        assert written(await client.update(emptied)) == Contact(person=filled(1).person)

    async def with_server():
        settings = Settings(
            address="127.0.0.1:0",
            plaintext=True,
            database=f"sqlite:///{tmp_path}/db",
            drain_pause=0,
        )
        server, port = await start(settings)
        try:
            async with ContactsClient(f"127.0.0.1:{port}", None) as client:
                await work(client)
        finally:
            await server.stop()

    run_async(with_server())


def test_the_command_line_writes_every_field():
    client, wanted = mock.AsyncMock(), filled(1)
    wanted.person.CopyFrom(Person(name="Ada", id=1, email="ada@example.org"))
    flags = ["--name=Ada", "--number=1", "--email=ada@example.org"]
    for field in {*WRITABLE} - {"person"}:
        flags.append(f"--{field.replace('_', '-')}={getattr(wanted, field)}")

    with mock.patch.object(sys, "argv", ["PROGRAM", "add", *flags]):
        args = parse_arguments()
    asyncio.run(args.run(client, args))

    client.create.assert_awaited_once_with(wanted, "")


def test_the_model_of_the_benchmark_has_every_field():
    """Otherwise FastAPI would have less to do than gRPC."""
    contact = Contact()
    fill(contact, 1)

    shown = rest_server.model_of(contact).model_dump(mode="json")

    wanted = MessageToDict(contact)
    assert set(shown) == set(wanted)
    kept = {field.json_name for field in Contact.DESCRIPTOR.fields if not field.message_type}
    assert {name: shown[name] for name in kept} == {name: wanted[name] for name in kept}
