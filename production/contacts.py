"""Contacts, kept in a database. Knows no gRPC.

Every method blocks, and is safe to call from any thread. Each write is one transaction that first
locks its owner's row, so that the writes of one owner happen one after the other: what was read may
be relied on, and the positions of changes are committed in their order.
"""

import hashlib
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from sqlalchemy import Connection, Row, text

from production import paging, rules
from production.changes import KEPT_CHANGES, Change
from production.database import Database
from production.imports import Import
from production.rules import InvalidError, Violation
from production.v1.contacts_pb2 import (
    Contact,
    CreateContactRequest,
    DeleteContactRequest,
    ImportContactsResponse,
    ListContactsRequest,
    ListContactsResponse,
    UpdateContactRequest,
)

R = TypeVar("R", Contact, Empty, ImportContactsResponse)
DEFAULT_PAGE, MAX_PAGE = 50, 1_000
MAX_BATCH_BYTES = 512 * 1024
"""How large a page or chunk of contacts may grow: well below what a client takes in one message."""
KEPT_REQUESTS_US = 24 * 3600 * 1_000_000
"""How long the answer to a request id is remembered, in microseconds."""


class NotFoundError(Exception):
    """The owner has no such contact; the message is its name."""


class AlreadyExistsError(Exception):
    """The owner has such a contact already; the message is its name."""


class ConflictError(Exception):
    """The contact has changed since the caller read it."""

    def __init__(self, name: str, etag: str) -> None:
        super().__init__(name)
        self.etag = etag


class Write:
    """One owner's write transaction, in which changes get their positions."""

    def __init__(self, connection: Connection, owner: str, position: int) -> None:
        self.connection = connection
        self.owner = owner
        self.position = position
        self.now_us = time.time_ns() // 1_000

    def run(self, statement: str, **parameters: object) -> Row[tuple[object, ...]] | None:
        """Runs a statement for this owner; gives the first row, if it gives rows."""
        result = self.connection.execute(text(statement), {"owner": self.owner} | parameters)
        return result.first() if result.returns_rows else None

    def record(self, kind: Change.Kind.ValueType, contact: Contact) -> None:
        """Gives the contact its etag, the position of this change, and notes the change."""
        self.position += 1
        if kind != Change.KIND_DELETED:
            contact.etag = f'"{self.position}"'
        change = Change(kind=kind, contact=contact, position=str(self.position))
        self.run(
            "INSERT INTO changes VALUES (:owner, :position, :change)",
            position=self.position,
            change=change.SerializeToString(),
        )


class Contacts:
    """All owners' contacts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, owner: str, request: CreateContactRequest) -> Contact:
        """Adds a contact. Raises InvalidError or AlreadyExistsError."""
        rules.check(
            rules.check_person(request.contact.person, "contact.person"),
            rules.check_contact_id(request.contact_id),
            rules.check_request_id(request.request_id),
        )

        def create(write: Write) -> Contact:
            contact = Contact(person=request.contact.person)
            contact.name = f"contacts/{request.contact_id or uuid.uuid4()}"
            if _find(write.connection, owner, contact.name):
                raise AlreadyExistsError(contact.name)
            _insert(write, contact)
            return contact

        return self._once(owner, request.request_id, _fingerprint(request), Contact, create)

    def get(self, owner: str, name: str) -> Contact:
        """The contact of that name. Raises InvalidError or NotFoundError."""
        rules.contact_id_of(name)
        with self._database.read() as connection:
            contact = _find(connection, owner, name)
        if not contact:
            raise NotFoundError(name)
        return contact

    def page(self, owner: str, request: ListContactsRequest) -> ListContactsResponse:
        """A page, ordered by the people's names. Raises InvalidError."""
        rules.check(
            rules.check_text(request.name_prefix, "name_prefix"),
            rules.check_page_size(request.page_size),
        )
        prefix = rules.name_key(request.name_prefix)
        size = min(request.page_size or DEFAULT_PAGE, MAX_PAGE)
        last_key, last_id = paging.read_token(request.page_token, prefix)
        statement = text(
            "SELECT * FROM contacts WHERE owner = :owner"
            " AND (name_key, contact_id) > (:last_key, :last_id)"
            " AND name_key >= :prefix AND name_key < :end"
            " ORDER BY name_key, contact_id LIMIT :limit"
        )
        parameters = {
            "owner": owner,
            "last_key": last_key,
            "last_id": last_id,
            "prefix": prefix,
            "end": paging.after(prefix),
            "limit": size + 1,
        }
        with self._database.read() as connection:
            rows = connection.execute(statement, parameters).all()
        page = _fill(rows[:size])
        token = ""
        if len(page) < len(rows):
            last = rows[len(page) - 1]
            token = paging.write_token(prefix, last.name_key, last.contact_id)
        return ListContactsResponse(contacts=page, next_page_token=token)

    def update(self, owner: str, request: UpdateContactRequest) -> Contact:
        """Changes a contact. Raises InvalidError, NotFoundError or ConflictError."""
        paths = set(request.update_mask.paths) - rules.NEVER_CHANGED
        if not request.update_mask.paths:
            paths = {"person"}
        name = request.contact.name
        rules.contact_id_of(name, "contact.name")
        rules.check(rules.check_mask(paths), rules.check_request_id(request.request_id))

        def update(write: Write) -> Contact:
            contact = _find_unchanged(write.connection, owner, name, request.contact.etag)
            FieldMask(paths=paths).MergeMessage(request.contact, contact, True, True)
            rules.check(rules.check_person(contact.person, "contact.person"))
            contact.update_time.FromMicroseconds(write.now_us)
            write.record(Change.KIND_UPDATED, contact)
            write.run(
                "UPDATE contacts SET name_key = :name_key, person = :person,"
                " revision = :revision, updated_us = :now"
                " WHERE owner = :owner AND contact_id = :contact_id",
                **_columns(contact, write),
            )
            return contact

        return self._once(owner, request.request_id, _fingerprint(request), Contact, update)

    def delete(self, owner: str, request: DeleteContactRequest) -> Empty:
        """Removes a contact. Raises InvalidError, NotFoundError or ConflictError."""
        contact_id = rules.contact_id_of(request.name)
        rules.check(rules.check_request_id(request.request_id))

        def delete(write: Write) -> Empty:
            _find_unchanged(write.connection, owner, request.name, request.etag)
            write.run(
                "DELETE FROM contacts WHERE owner = :owner AND contact_id = :contact_id",
                contact_id=contact_id,
            )
            write.record(Change.KIND_DELETED, Contact(name=request.name))
            return Empty()

        return self._once(owner, request.request_id, _fingerprint(request), Empty, delete)

    def import_people(self, owner: str, gathered: Import) -> ImportContactsResponse:
        """Adds all people or, when anything fails, none. Raises InvalidError."""

        def add(write: Write) -> ImportContactsResponse:
            for person in gathered.people():
                _insert(write, Contact(name=f"contacts/{uuid.uuid4()}", person=person))
            return ImportContactsResponse(contact_count=gathered.count)

        gathered.check_finished()
        fingerprint = gathered.fingerprint()
        return self._once(owner, gathered.request_id, fingerprint, ImportContactsResponse, add)

    def export(self, owner: str) -> Iterator[list[Contact]]:
        """All contacts, by id, in batches. Between two batches no transaction is open, so a
        contact that changes meanwhile is given as it was before or as it is after."""
        last_id = ""
        statement = text(
            "SELECT * FROM contacts WHERE owner = :owner AND contact_id > :last_id"
            " ORDER BY contact_id LIMIT :limit"
        )
        while True:
            parameters = {"owner": owner, "last_id": last_id, "limit": MAX_PAGE}
            with self._database.read() as connection:
                batch = _fill(connection.execute(statement, parameters).all())
            if not batch:
                return
            yield batch
            last_id = rules.contact_id_of(batch[-1].name)

    @contextmanager
    def _write(self, owner: str) -> Iterator[Write]:
        """A transaction that has locked its owner's row, and keeps it up to date."""
        with self._database.write() as connection:
            locked = connection.execute(
                text(
                    "INSERT INTO owners VALUES (:owner, 0) ON CONFLICT (owner)"
                    " DO UPDATE SET position = owners.position RETURNING position"
                ),
                {"owner": owner},
            )
            write = Write(connection, owner, locked.scalar_one())
            yield write
            write.run("UPDATE owners SET position = :new WHERE owner = :owner", new=write.position)
            write.run(
                "DELETE FROM changes WHERE owner = :owner AND position <= :oldest",
                oldest=write.position - KEPT_CHANGES,
            )

    def _once(
        self,
        owner: str,
        request_id: str,
        fingerprint: bytes,
        response_type: type[R],
        work: Callable[[Write], R],
    ) -> R:
        """Does the work in a transaction, or gives the answer it gave to the same request before.

        Raises InvalidError when the request id was used for another request (AIP-155).
        """
        with self._write(owner) as write:
            if not request_id:
                return work(write)
            key = str(uuid.UUID(request_id))
            oldest = write.now_us - KEPT_REQUESTS_US
            write.run("DELETE FROM requests WHERE created_us < :oldest", oldest=oldest)
            before = write.run(
                "SELECT fingerprint, response FROM requests"
                " WHERE owner = :owner AND request_id = :key",
                key=key,
            )
            if before and before.fingerprint != fingerprint:
                raise InvalidError(Violation("request_id", "was used for another request"))
            if before:
                return response_type.FromString(before.response)
            response = work(write)
            write.run(
                "INSERT INTO requests VALUES (:owner, :key, :fingerprint, :response, :now)",
                key=key,
                fingerprint=fingerprint,
                response=response.SerializeToString(),
                now=write.now_us,
            )
            return response


def _fingerprint(request: Message) -> bytes:
    """What tells a request from others, its id aside."""
    content = type(request)()
    content.CopyFrom(request)
    content.ClearField("request_id")
    data = request.DESCRIPTOR.full_name.encode() + content.SerializeToString(deterministic=True)
    return hashlib.sha256(data).digest()


def _find(connection: Connection, owner: str, name: str) -> Contact | None:
    statement = text("SELECT * FROM contacts WHERE owner = :owner AND contact_id = :contact_id")
    parameters = {"owner": owner, "contact_id": rules.contact_id_of(name)}
    row = connection.execute(statement, parameters).first()
    return _contact(row) if row else None


def _find_unchanged(connection: Connection, owner: str, name: str, etag: str) -> Contact:
    """The contact, if it still has the etag. Raises NotFoundError or ConflictError."""
    contact = _find(connection, owner, name)
    if not contact:
        raise NotFoundError(name)
    if etag and etag != contact.etag:
        raise ConflictError(name, contact.etag)
    return contact


def _insert(write: Write, contact: Contact) -> None:
    contact.create_time.FromMicroseconds(write.now_us)
    contact.update_time.FromMicroseconds(write.now_us)
    write.record(Change.KIND_CREATED, contact)
    write.run(
        "INSERT INTO contacts VALUES"
        " (:owner, :contact_id, :name_key, :person, :revision, :now, :now)",
        **_columns(contact, write),
    )


def _columns(contact: Contact, write: Write) -> dict[str, object]:
    return {
        "contact_id": rules.contact_id_of(contact.name),
        "name_key": rules.name_key(contact.person.name),
        "person": contact.person.SerializeToString(),
        "revision": write.position,
        "now": write.now_us,
    }


def _contact(row: Row[tuple[object, ...]]) -> Contact:
    contact = Contact(name=f"contacts/{row.contact_id}", etag=f'"{row.revision}"')
    contact.person.ParseFromString(row.person)
    contact.create_time.FromMicroseconds(row.created_us)
    contact.update_time.FromMicroseconds(row.updated_us)
    return contact


def _fill(rows: Iterable[Row[tuple[object, ...]]]) -> list[Contact]:
    """Contacts of as many rows as MAX_BATCH_BYTES hold, and of one at least."""
    contacts: list[Contact] = []
    size = 0
    for row in rows:
        contact = _contact(row)
        size += contact.ByteSize()
        if contacts and size > MAX_BATCH_BYTES:
            break
        contacts.append(contact)
    return contacts
