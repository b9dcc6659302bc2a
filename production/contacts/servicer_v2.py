"""Implements version 2 of ContactService, by translating between it and what the domain works with.

The domain's messages are those of version 1. Version 2 shows less of them, so an update names the
fields to change, and leaves alone what its callers cannot see.
"""

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask

from production.contacts.contacts import Contacts
from production.contacts.quota import NORMAL, Quota
from production.contacts.servicer import Context
from production.contacts.validation import NEVER_CHANGED, mask_violations
from production.serving.security.principal import principal
from production.serving.storage.database import Database
from production.serving.storage.in_thread import InThread
from production.serving.validation import (
    InvalidError,
    Violation,
    raise_for,
    request_id_violations,
)
from production.v1 import contacts_pb2 as v1
from production.v2.contacts_pb2 import (
    Contact,
    CreateContactRequest,
    DeleteContactRequest,
    GetContactRequest,
    ListContactsRequest,
    ListContactsResponse,
    PhoneNumber,
    UpdateContactRequest,
)
from production.v2.contacts_pb2_grpc import ContactServiceServicer
from protobuf_demo.addressbook_pb2 import Person

V1_PATHS = {
    "display_name": "person.name",
    "email_address": "person.email",
    "phone_numbers": "person.phones",
}
"""The fields that callers write, and what each is in version 1."""


def from_v1(contact: v1.Contact) -> Contact:
    """Returns what version 2 shows of a contact."""
    person = contact.person
    return Contact(
        name=contact.name,
        display_name=person.name,
        email_address=person.email,
        phone_numbers=[
            PhoneNumber(number=phone.number, kind=PhoneNumber.Kind.ValueType(phone.type))
            for phone in person.phones
        ],
        etag=contact.etag,
        create_time=contact.create_time,
        update_time=contact.update_time,
    )


def to_v1(contact: Contact) -> v1.Contact:
    """Returns the contact of a request. What version 2 does not show is not set."""
    person = Person(
        name=contact.display_name,
        email=contact.email_address,
        phones=[
            Person.PhoneNumber(number=phone.number, type=Person.PhoneType.ValueType(phone.kind))
            for phone in contact.phone_numbers
        ],
    )
    return v1.Contact(name=contact.name, etag=contact.etag, person=person)


def mask_of(request: UpdateContactRequest) -> FieldMask:
    """Returns the mask, or the fields that are set (AIP-134), in the names of version 1.

    Raises InvalidError if a path is not a field of version 2 that can be changed.
    """
    paths = set(request.update_mask.paths)
    paths = paths or {field.name for field, _ in request.contact.ListFields()}
    allowed = NEVER_CHANGED | V1_PATHS.keys()
    raise_for(
        mask_violations(paths, allowed),
        request_id_violations(request.request_id),
    )
    return FieldMask(paths=sorted(V1_PATHS.get(path, path) for path in paths))


def field_of_v2(field: str) -> str:
    """Returns the path of a violation in the names of version 2."""
    for ours, path in V1_PATHS.items():
        if field.startswith(f"contact.{path}"):
            return f"contact.{ours}{field.removeprefix(f'contact.{path}')}"
    return "display_name_prefix" if field == "name_prefix" else field


@contextmanager
def translated_violations() -> Iterator[None]:
    """Gives the violations of an InvalidError the names of version 2."""
    try:
        yield
    except InvalidError as error:
        raise InvalidError(
            *(Violation(field_of_v2(field), what) for field, what in error.violations)
        ) from None


class ContactServicerV2(ContactServiceServicer):
    """Answers for the calling principal."""

    def __init__(self, database: Database, threads: Executor, quota: Quota = NORMAL) -> None:
        """threads runs what uses the database, which blocks."""
        self._run = InThread(threads)
        self._contacts = Contacts(database, quota)

    async def CreateContact(self, request: CreateContactRequest, context: Context) -> Contact:
        wanted = v1.CreateContactRequest(
            contact=to_v1(request.contact),
            contact_id=request.contact_id,
            request_id=request.request_id,
        )
        with translated_violations():
            created = await self._run(self._contacts.create, principal.get().name, wanted)
        return from_v1(created)

    async def GetContact(self, request: GetContactRequest, context: Context) -> Contact:
        return from_v1(await self._run(self._contacts.get, principal.get().name, request.name))

    async def ListContacts(
        self, request: ListContactsRequest, context: Context
    ) -> ListContactsResponse:
        wanted = v1.ListContactsRequest(
            page_size=request.page_size,
            page_token=request.page_token,
            name_prefix=request.display_name_prefix,
        )
        with translated_violations():
            page = await self._run(self._contacts.page, principal.get().name, wanted)
        return ListContactsResponse(
            contacts=map(from_v1, page.contacts), next_page_token=page.next_page_token
        )

    async def UpdateContact(self, request: UpdateContactRequest, context: Context) -> Contact:
        wanted = v1.UpdateContactRequest(
            contact=to_v1(request.contact),
            update_mask=mask_of(request),
            request_id=request.request_id,
        )
        with translated_violations():
            updated = await self._run(self._contacts.update, principal.get().name, wanted)
        return from_v1(updated)

    async def DeleteContact(self, request: DeleteContactRequest, context: Context) -> Empty:
        wanted = v1.DeleteContactRequest(
            name=request.name, etag=request.etag, request_id=request.request_id
        )
        return await self._run(self._contacts.delete, principal.get().name, wanted)
