"""Stores the contact that the loads read."""

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager

from benchmarks.loads.grpc_load import CONTACT
from production.contacts.access import DEVELOPMENT
from production.contacts.contacts import Contacts
from production.contacts.database import connect
from production.serving.storage.database import Database
from production.v1.contacts_pb2 import Contact, CreateContactRequest
from protobuf_demo.addressbook_pb2 import Person


@contextmanager
def seeded_database() -> Iterator[tuple[Database, str]]:
    """Yields a new SQLite database with the contact in it, and its URL."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/contacts.db"
        with closing(connect(url)) as database:
            database.migrate()
            contact = Contact(person=Person(name="Ada", email="ada@example.org"))
            contact_id = CONTACT.removeprefix("contacts/")
            request = CreateContactRequest(contact=contact, contact_id=contact_id)
            Contacts(database).create(DEVELOPMENT.name, request)
            yield database, url
