"""Contacts, kept in a database. Knows no gRPC.

Every method blocks, and is safe to call from any thread. Each write is one transaction that first
locks its owner's row, so that the writes of one owner happen one after the other: what was read may
be relied on, and the positions of changes are committed in their order.
"""

import uuid
from collections.abc import Iterable, Iterator
from itertools import islice

from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask

from production.contacts import rows, validation
from production.contacts.changes import Change
from production.contacts.import_buffer import Import
from production.contacts.once import Once
from production.contacts.quota import NORMAL, Quota
from production.contacts.transaction import Write
from production.serving import unknown_fields
from production.serving.resources import AlreadyExistsError, ConflictError, NotFoundError
from production.serving.storage.database import Database
from production.serving.storage.page_tokens import PageTokens
from production.serving.storage.secrets import read_secret
from production.serving.validation import (
    InvalidError,
    Violation,
    page_size_violations,
    raise_for,
    request_id_violations,
    resource_id_violations,
    text_violations,
)
from production.v1.contacts_pb2 import (
    Contact,
    CreateContactRequest,
    DeleteContactRequest,
    ImportContactsResponse,
    ListContactsRequest,
    ListContactsResponse,
    UpdateContactRequest,
)

DEFAULT_PAGE, MAX_PAGE = 50, 1_000
MAX_BATCH_BYTES = 512 * 1024
"""The largest page or chunk of contacts: well below what a client accepts in one message."""


class Contacts:
    """All owners' contacts."""

    def __init__(self, database: Database, quota: Quota = NORMAL) -> None:
        self._database = database
        self._quota = quota
        self._tokens: PageTokens | None = None

    def create(self, owner: str, request: CreateContactRequest) -> Contact:
        """Adds a contact. Raises InvalidError, AlreadyExistsError or QuotaError."""
        given = unknown_fields.without(request.contact)
        raise_for(
            validation.contact_violations(given),
            resource_id_violations(request.contact_id, "contact_id"),
            request_id_violations(request.request_id),
        )

        def work(write: Write) -> Contact:
            contact = Contact(name=f"contacts/{request.contact_id or uuid.uuid4()}")
            FieldMask(paths=validation.WRITABLE).MergeMessage(given, contact)
            if rows.find(write.connection, owner, contact.name):
                raise AlreadyExistsError(contact.name)
            _add(write, contact)
            return contact

        return Once.of(owner, request).run(self._database, self._quota, Contact, work)

    def get(self, owner: str, name: str) -> Contact:
        """Returns the contact of a name. Raises InvalidError or NotFoundError."""
        validation.contact_id_of(name)
        with self._database.read() as connection:
            contact = rows.find(connection, owner, name)
        if not contact:
            raise NotFoundError(name)
        return contact

    def page(self, owner: str, request: ListContactsRequest) -> ListContactsResponse:
        """Returns a page, ordered by the people's names. Raises InvalidError."""
        raise_for(
            text_violations(request.name_prefix, "name_prefix"),
            page_size_violations(request.page_size),
        )
        prefix = validation.name_key(request.name_prefix)
        size = min(request.page_size or DEFAULT_PAGE, MAX_PAGE)
        with self._database.read() as connection:
            if not self._tokens:
                self._tokens = PageTokens(read_secret(connection, "page_tokens"))
            after = _position(self._tokens, request.page_token, owner, prefix)
            found = rows.by_name(connection, owner, prefix, after, size + 1, MAX_BATCH_BYTES)
        page, more = _fill(found, size)
        token = ""
        if more:
            last = (
                validation.name_key(page[-1].person.name),
                validation.contact_id_of(page[-1].name),
            )
            token = self._tokens.write(last, owner, prefix)
        return ListContactsResponse(contacts=page, next_page_token=token)

    def update(self, owner: str, request: UpdateContactRequest) -> Contact:
        """Changes a contact. Raises InvalidError, NotFoundError, ConflictError or QuotaError."""
        given = unknown_fields.without(request.contact)
        name = given.name
        paths = validation.paths_to_change(request)
        validation.contact_id_of(name, "contact.name")
        raise_for(validation.mask_violations(paths), request_id_violations(request.request_id))

        def work(write: Write) -> Contact:
            before = _find_unchanged(write, name, given.etag)
            contact = unknown_fields.without(before)
            given.person.SetInParent()  # Else a mask could not clear a field of it.
            FieldMask(paths=paths).MergeMessage(given, contact, True, True)
            # A server of a newer release has validated those that are in the row.
            contact.person.MergeFrom(unknown_fields.only(before.person))
            raise_for(validation.contact_violations(contact))
            contact.update_time.FromMicroseconds(write.now_us)
            write.record(Change.KIND_UPDATED, contact)
            rows.update(write, before, contact)
            return contact

        return Once.of(owner, request).run(self._database, self._quota, Contact, work)

    def delete(self, owner: str, request: DeleteContactRequest) -> Empty:
        """Removes a contact. Raises InvalidError, NotFoundError or ConflictError."""
        validation.contact_id_of(request.name)
        raise_for(request_id_violations(request.request_id))

        def work(write: Write) -> Empty:
            rows.delete(write, _find_unchanged(write, request.name, request.etag))
            write.forget(validation.contact_id_of(request.name))
            write.record(Change.KIND_DELETED, Contact(name=request.name))
            return Empty()

        return Once.of(owner, request).run(self._database, self._quota, Empty, work)

    def import_people(self, owner: str, gathered: Import) -> ImportContactsResponse:
        """Adds all people or, if anything fails, none. Raises InvalidError or QuotaError."""

        def work(write: Write) -> ImportContactsResponse:
            people = gathered.people()
            while batch := list(islice(people, MAX_PAGE)):
                _add(write, *(Contact(name=f"contacts/{uuid.uuid4()}", person=p) for p in batch))
            return ImportContactsResponse(contact_count=gathered.count)

        gathered.check_finished()
        once = Once(owner, gathered.request_id, gathered.fingerprint())
        return once.run(self._database, self._quota, ImportContactsResponse, work)

    def export(self, owner: str) -> Iterator[list[Contact]]:
        """Yields all contacts, by id, in batches. Between two batches no transaction is open, so a
        contact that changes meanwhile is given as it was before or as it is after."""
        last_id = ""
        while True:
            with self._database.read() as connection:
                found = rows.by_id(connection, owner, last_id, MAX_PAGE, MAX_BATCH_BYTES)
            batch, _ = _fill(found, MAX_PAGE)
            if not batch:
                return
            yield batch
            last_id = validation.contact_id_of(batch[-1].name)


def _position(tokens: PageTokens, token: str, owner: str, prefix: str) -> tuple[str, str]:
    """Returns the name_key and id with which the previous page ended. Raises InvalidError."""
    if not token:
        return "", ""
    try:
        name_key, contact_id = tokens.read(token, owner, prefix)
    except ValueError:
        what = "was not issued by ListContacts for this name_prefix"
        raise InvalidError(Violation("page_token", what)) from None
    return name_key, contact_id


def _add(write: Write, *contacts: Contact) -> None:
    for contact in contacts:
        contact.create_time.FromMicroseconds(write.now_us)
        contact.update_time.FromMicroseconds(write.now_us)
    write.record(Change.KIND_CREATED, *contacts)
    rows.insert(write, *contacts)


def _find_unchanged(write: Write, name: str, etag: str) -> Contact:
    """Returns the contact, if it still has the etag. Raises NotFoundError or ConflictError."""
    contact = rows.find(write.connection, write.owner, name)
    if not contact:
        raise NotFoundError(name)
    if etag and etag != contact.etag:
        raise ConflictError(name, contact.etag)
    return contact


def _fill(found: Iterable[rows.ContactRow], limit: int) -> tuple[list[Contact], bool]:
    """Returns contacts up to a limit and MAX_BATCH_BYTES, at least one, and if there are more."""
    contacts: list[Contact] = []
    size = 0
    for row in found:
        contact = rows.contact_of(row)
        size += contact.ByteSize()
        if contacts and (len(contacts) == limit or size > MAX_BATCH_BYTES):
            return contacts, True
        contacts.append(contact)
    return contacts, False
