"""What is stored is bounded, and can be read by every reader; on both databases."""

import uuid

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToJson
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import text

from production.contacts import once, rows
from production.contacts.contacts import Contacts
from production.contacts.import_buffer import gathering
from production.contacts.quota import Quota
from production.serving.resources import QuotaError
from production.serving.validation import InvalidError
from production.v1.contacts_pb2 import (
    Contact,
    CreateContactRequest,
    DeleteContactRequest,
    ImportContactsRequest,
    ListContactsRequest,
    UpdateContactRequest,
)
from protobuf_demo.addressbook_pb2 import Person

ME = "me"


def person(name="Ada", **fields):
    return Person(name=name, **fields)


def create(contacts, owner=ME, **fields):
    request = CreateContactRequest(contact=Contact(person=person()), **fields)
    return contacts.create(owner, request)


NEWER = b"\x32\x03new"
"""A field that this release does not know."""


def newer(value):
    return Person.FromString(value.SerializeToString() + NEWER)


def test_what_cannot_be_validated_is_not_stored(contacts):
    """An unknown field may be of any size, and nested deeper than some reader can follow."""
    created = contacts.create(ME, CreateContactRequest(contact=Contact(person=newer(person()))))
    changed = Contact(name=created.name, person=newer(person()))
    updated = contacts.update(ME, UpdateContactRequest(contact=changed))
    with gathering() as gathered:
        gathered.add(ImportContactsRequest(people=[newer(person())], finish=True))
        contacts.import_people(ME, gathered)

    assert created.person == updated.person == person()
    assert [c.person for batch in contacts.export(ME) for c in batch] == [person()] * 2


def test_what_a_newer_release_has_stored_stays(contacts, database):
    created = create(contacts)
    with database.write() as connection:
        connection.execute(
            text("UPDATE contacts SET person = :person"),
            {"person": newer(person()).SerializeToString()},
        )

    for paths in (["person.email"], ["person"]):
        changed = Contact(name=created.name, person=person(email=f"{len(paths[0])}@example.org"))
        mask = FieldMask(paths=paths)
        contacts.update(ME, UpdateContactRequest(contact=changed, update_mask=mask))

        assert contacts.get(ME, created.name).person == newer(changed.person)


@pytest.mark.parametrize(
    "time", [{"seconds": 253_402_300_800}, {"seconds": -62_135_596_801}, {"nanos": -1},
             {"nanos": 1_000_000_000}, {"seconds": 2**62}],
)  # fmt: skip
def test_a_time_that_json_cannot_express_is_refused(contacts, time):
    late = person(last_updated=Timestamp(**time))
    created = create(contacts)

    with gathering() as gathered:
        for call in (
            lambda: contacts.create(ME, CreateContactRequest(contact=Contact(person=late))),
            lambda: contacts.update(
                ME, UpdateContactRequest(contact=Contact(name=created.name, person=late))
            ),
            lambda: gathered.add(ImportContactsRequest(people=[late])),
        ):
            with pytest.raises(InvalidError, match="last_updated"):
                call()


@pytest.mark.parametrize("seconds", [-62_135_596_800, 253_402_300_799])
def test_the_first_and_the_last_time_are_good(contacts, seconds):
    good = person(last_updated=Timestamp(seconds=seconds))

    created = contacts.create(ME, CreateContactRequest(contact=Contact(person=good)))

    assert MessageToJson(created)


def import_all(contacts, people):
    with gathering() as gathered:
        gathered.add(ImportContactsRequest(people=people, finish=True))
        return contacts.import_people(ME, gathered)


def test_an_owner_stores_no_more_than_its_quota(database):
    size = person().ByteSize()
    contacts = Contacts(database, Quota(contacts=3, bytes=4 * size))
    first, second = create(contacts), create(contacts)

    with pytest.raises(QuotaError, match="3 contacts"):
        import_all(contacts, [person()] * 2)
    assert create(contacts, owner="another")
    third = create(contacts)
    with pytest.raises(QuotaError, match="3 contacts"):
        create(contacts)

    large = Contact(name=first.name, person=person(email="x" * 2 * size))
    with pytest.raises(QuotaError, match=f"{4 * size} bytes"):
        contacts.update(ME, UpdateContactRequest(contact=large))
    contacts.delete(ME, DeleteContactRequest(name=second.name))
    contacts.delete(ME, DeleteContactRequest(name=third.name))
    contacts.update(ME, UpdateContactRequest(contact=large))
    with pytest.raises(QuotaError, match="bytes"):
        create(contacts)
    small = Contact(name=first.name, person=person())
    contacts.update(ME, UpdateContactRequest(contact=small))
    assert import_all(contacts, [person()] * 2).contact_count == 2


def test_the_newest_requests_of_an_owner_are_remembered(contacts, database, monkeypatch):
    monkeypatch.setattr(once, "KEPT_REQUESTS", 3)
    ids = [str(uuid.uuid4()) for _ in range(5)]
    made = [create(contacts, request_id=each) for each in ids]

    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM requests")).scalar() == 3
    assert [create(contacts, request_id=each) for each in ids[2:]] == made[2:]
    assert create(contacts, request_id=ids[1]) != made[1]


def test_rows_are_read_only_until_there_are_enough(contacts, changes, monkeypatch):
    import_all(contacts, [person(f"Guest {number}") for number in range(500)])
    monkeypatch.setattr("production.contacts.contacts.MAX_BATCH_BYTES", 1_000)
    monkeypatch.setattr("production.contacts.changes.MAX_CHANGES_BYTES", 1_000)
    read = []
    for name in ("by_name", "by_id"):
        function = getattr(rows, name)

        def counting(*args, function=function):
            read.append(function(*args))
            return read[-1]

        monkeypatch.setattr(rows, name, counting)
    page = contacts.page(ME, ListContactsRequest(page_size=500)).contacts
    batch = next(contacts.export(ME))

    assert 1 < len(page) < 20
    assert 1 < len(batch) < 20
    assert max(map(len, read)) < 120
    assert 1 < len(changes.after(ME, 0)) < 15
