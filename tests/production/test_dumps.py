"""Databases that earlier releases have left behind are read, changed and brought up to date."""

import sqlite3
import time

import psycopg
import pytest
from sqlalchemy import inspect, make_url

from production.contacts.database import connect
from production.serving import unknown_fields
from production.serving.security.nonces import use_nonce
from production.serving.security.principal import RefusedError
from production.v1.contacts_pb2 import (
    Contact,
    DeleteContactRequest,
    ListContactsRequest,
    UpdateContactRequest,
    WatchContactsResponse,
)
from protobuf_demo.addressbook_pb2 import Person
from tests.production import dump

DUMPS = {path.name.removesuffix(".sql"): path for path in dump.FOLDER.glob("*.sql")}
CHANGED = Person()
CHANGED.CopyFrom(dump.ADA)
CHANGED.email = "ada@new.example"
PEOPLE = [CHANGED, *dump.PEOPLE, dump.NEWER]


def load(url, path):
    """Runs the statements of a dump."""
    if url.startswith("sqlite"):
        with sqlite3.connect(make_url(url).database) as connection:
            connection.executescript(path.read_text())
    else:
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            connection.execute(path.read_text())


@pytest.fixture(params=["now.sqlite", "now.postgresql", *sorted(DUMPS)])
def origin(request):
    """This release or an earlier one, and the kind of database."""
    return request.param


@pytest.fixture
def people(origin):
    """Everybody in the database. 737aa76 also stored fields that it does not know."""
    if origin.startswith("now."):
        return [unknown_fields.without(person) for person in PEOPLE]
    return PEOPLE


@pytest.fixture
def url(request, origin, tmp_path):
    """The URL of a database with a dump in it, or with what this release writes."""
    if origin.endswith("sqlite"):
        url = f"sqlite:///{tmp_path}/dumped.db"
    else:
        url = request.getfixturevalue("postgresql_url")
    if origin.startswith("now."):
        dump.fill(url)
    else:
        load(url, DUMPS[origin])
    return url


@pytest.fixture(autouse=True)
def an_hour_later(monkeypatch):
    monkeypatch.setattr(time, "time_ns", lambda: (dump.NOW + 3600) * 10**9)


def by_name(people):
    return sorted(people, key=lambda person: person.name)


def everything(contacts, owner=dump.OWNER):
    return list(contacts.page(owner, ListContactsRequest()).contacts)


def test_there_is_a_dump_for_each_kind_of_database():
    assert {name.split(".")[1] for name in DUMPS} == {"sqlite", "postgresql"}


def test_all_is_there_by_every_way_of_reading(contacts, people):
    listed = everything(contacts)

    assert by_name(contact.person for contact in listed) == by_name(people)
    assert [contacts.get(dump.OWNER, contact.name) for contact in listed] == listed
    exported = [contact for batch in contacts.export(dump.OWNER) for contact in batch]
    assert sorted(exported, key=str) == sorted(listed, key=str)
    ada = contacts.get(dump.OWNER, "contacts/ada-1")
    assert (ada.etag, ada.create_time.seconds) == ('"2"', dump.NOW)
    assert ada.update_time.seconds == dump.NOW + 1
    assert [contact.person for contact in everything(contacts, dump.OTHER)] == [dump.ADA]


def test_every_change_can_be_watched_and_new_ones_follow(contacts, changes, origin):
    kept = {change.position: change for change in changes.after(dump.OWNER, 0)}
    kind = WatchContactsResponse

    expected = [
        kind.KIND_CREATED, kind.KIND_UPDATED, kind.KIND_CREATED, kind.KIND_DELETED,
        *[kind.KIND_CREATED] * 6,
    ]  # fmt: skip
    kinds = {str(position): kind for position, kind in enumerate(expected, 1)}
    if origin.startswith("now."):
        del kinds["3"]  # Of a contact that was deleted, earlier releases kept all changes.
    assert {position: change.kind for position, change in kept.items()} == kinds
    assert [kept[position].contact.person for position in "12"] == [dump.ADA, CHANGED]
    assert kept["4"].contact == Contact(name="contacts/gone")
    assert kept["2"].contact == contacts.get(dump.OWNER, "contacts/ada-1")

    contacts.delete(dump.OWNER, DeleteContactRequest(name="contacts/ada-1"))
    assert [change.position for change in changes.after(dump.OWNER, 10)] == ["11"]


def test_everything_can_be_updated(contacts):
    for contact in everything(contacts):
        before = Contact()
        before.CopyFrom(contact)
        contact.person.email = "new@example.org"
        updated = contacts.update(dump.OWNER, UpdateContactRequest(contact=contact))

        assert updated.person == contact.person
        assert updated.create_time == before.create_time
        assert updated.etag != before.etag
        assert contacts.get(dump.OWNER, contact.name) == updated


def test_requests_are_remembered(contacts):
    """Each is answered as it was, and nothing is done again."""
    before = everything(contacts)

    created = dump.create(contacts)
    assert (created.name, created.person, created.etag) == ("contacts/ada-1", dump.ADA, '"1"')
    assert contacts.update(dump.OWNER, dump.UPDATE).person == CHANGED
    contacts.delete(dump.OWNER, dump.DELETE)
    assert dump.import_people(contacts).contact_count == len(PEOPLE) - 1
    assert everything(contacts) == before


def test_nonces_are_remembered(database):
    with pytest.raises(RefusedError):
        use_nonce(database, "laptop", "used", dump.NOW, dump.NOW + 1)


def tables(database):
    """Columns, keys and indexes."""
    inspector = inspect(database._engine)
    return {
        name: (
            [(column["name"], str(column["type"])) for column in inspector.get_columns(name)],
            inspector.get_pk_constraint(name)["constrained_columns"],
            sorted((one["name"], one["column_names"]) for one in inspector.get_indexes(name)),
        )
        for name in inspector.get_table_names()
    }


@pytest.mark.parametrize("dumped", sorted(DUMPS))
def test_the_tables_become_those_of_a_new_database(dumped, tmp_path, request):
    """A migration that was changed after its release, or left out, shows here."""
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("dumped", "new")]
    if dumped.endswith("postgresql"):
        urls = [request.getfixturevalue(f"{name}postgresql_url") for name in ("", "another_")]
    load(urls[0], DUMPS[dumped])
    databases = [connect(url) for url in urls]
    for database in databases:
        database.migrate()

    assert tables(databases[0]) == tables(databases[1])
    for database in databases:
        database.close()
