"""Writes a database as a release leaves it behind, and dumps it as SQL.

Run it at a commit that has new tables:

    python -m tests.production.dump

The files in dumps/ are named after the commit, and are never changed. Nor is what is written here:
the tests look for it in each of them.
"""

import itertools
import re
import sqlite3
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from unittest import mock

from google.protobuf.field_mask_pb2 import FieldMask
from sqlalchemy import create_engine, make_url, text

from production.contacts.contacts import Contacts
from production.contacts.database import connect
from production.contacts.import_buffer import gathering
from production.development import programs
from production.development.postgresql import running
from production.serving.security.nonces import use_nonce
from production.v1.contacts_pb2 import (
    Contact,
    CreateContactRequest,
    DeleteContactRequest,
    ImportContactsRequest,
    UpdateContactRequest,
)
from protobuf_demo.addressbook_pb2 import Person

FOLDER = Path(__file__).parent / "dumps"
NOW = 1_800_000_000
"""Seconds since 1970, at which the first is written; each request comes a second later."""
OWNER, OTHER = "spiffe://contacts.example.com/role/operator", '林\'s "other"'
PHONES = [Person.PhoneNumber(number=f"+44 {kind}", type=kind) for kind in Person.PhoneType.values()]
ADA = Person(name="Ada Lovelace", id=1, email="ada@example.org", phones=PHONES)
ADA.last_updated.FromJsonString("1815-12-10T00:00:00.000000001Z")
NAMES = ["林徽因", "Straße", "e\u0301 and \u00e9", 'O\'Brien; "x" \\ %_?:name', "\U0010ffff!"]
PEOPLE = [Person(name=name, id=-number) for number, name in enumerate(NAMES)]
NEWER = Person.FromString(b"\x0a\x05Newer\x32\x03new")
"""With a field of a contract to come."""
UPDATE = UpdateContactRequest(
    contact=Contact(name="contacts/ada-1", person=Person(email="ada@new.example")),
    update_mask=FieldMask(paths=["person.email"]),
    request_id=str(uuid.UUID(int=2)),
)
DELETE = DeleteContactRequest(name="contacts/gone", request_id=str(uuid.UUID(int=3)))
IMPORT = ImportContactsRequest(
    people=[*PEOPLE, NEWER], request_id=str(uuid.UUID(int=4)), finish=True
)


def creation(person, contact_id, **fields):
    return CreateContactRequest(contact=Contact(person=person), contact_id=contact_id, **fields)


def create(contacts):
    """With a request id."""
    return contacts.create(OWNER, creation(ADA, "ada-1", request_id=str(uuid.UUID(int=1))))


def write(contacts):
    """Writes one of each kind."""
    create(contacts)
    contacts.update(OWNER, UPDATE)
    contacts.create(OWNER, creation(Person(name="Gone"), "gone"))
    contacts.delete(OWNER, DELETE)
    import_people(contacts)
    contacts.create(OTHER, creation(ADA, "ada-1"))


def import_people(contacts):
    with gathering() as gathered:
        gathered.add(IMPORT)
        return contacts.import_people(OWNER, gathered)


def fill(url):
    """Makes the tables of this release in an empty database, and writes to them."""
    seconds, numbers = itertools.count(NOW), itertools.count(100)
    database = connect(url)
    database.migrate()
    with (
        mock.patch.object(time, "time_ns", lambda: next(seconds) * 10**9),
        mock.patch.object(uuid, "uuid4", lambda: uuid.UUID(int=next(numbers), version=4)),
    ):
        write(Contacts(database))
    use_nonce(database, "laptop", "used", NOW, NOW)
    database.close()


def dump_sqlite(url):
    with sqlite3.connect(make_url(url).database) as connection:
        return "\n".join(connection.iterdump())


def dump_postgresql(url):
    """As pg_dump has it, without its comments and what it sets for its own session."""
    command = [
        programs.find("pg_dump"),
        "--column-inserts",
        "--no-owner",
        url.replace("+psycopg", ""),
    ]
    dumped = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    dumped = re.sub(r"^(--|\\|SET |SELECT pg_catalog).*\n", "", dumped, flags=re.M)
    return re.sub(r"\n+", "\n", dumped).strip()


def main():
    """Dumps both databases; raises FileExistsError if there is a dump of this commit."""
    command = ["git", "rev-parse", "--short=7", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    with tempfile.TemporaryDirectory() as folder, running() as postgresql:
        engine = create_engine(postgresql.format("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text("CREATE DATABASE contacts"))
        engine.dispose()
        for kind, url, dump in (
            ("sqlite", f"sqlite:///{folder}/contacts.db", dump_sqlite),
            ("postgresql", postgresql.format("contacts"), dump_postgresql),
        ):
            fill(url)
            with (FOLDER / f"{commit}.{kind}.sql").open("x") as file:
                file.write(f"-- Written by commit {commit}.\n{dump(url)}\n")


if __name__ == "__main__":
    main()
