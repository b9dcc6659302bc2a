"""ContactService, a thin translation: each call runs one method of Contacts in a thread."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor
from contextvars import ContextVar
from functools import partial
from typing import Any, ParamSpec, TypeVar

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.proto import parse_length_prefixed, serialize_length_prefixed

from production import rules
from production.contacts import MAX_IMPORT, Contacts
from production.rules import InvalidError, Violation
from production.v1.contacts_pb2 import (
    Contact,
    CreateContactRequest,
    DeleteContactRequest,
    ExportContactsRequest,
    ExportContactsResponse,
    GetContactRequest,
    ImportContactsRequest,
    ImportContactsResponse,
    ListContactsRequest,
    ListContactsResponse,
    UpdateContactRequest,
    WatchContactsRequest,
    WatchContactsResponse,
)
from production.v1.contacts_pb2_grpc import ContactServiceServicer
from protobuf_demo.addressbook_pb2 import Person

P = ParamSpec("P")
T = TypeVar("T")
Context = grpc.aio.ServicerContext[Any, Any]

principal: ContextVar[str] = ContextVar("principal", default="development")
"""Who calls. Set by authentication; until there is one, everybody is the development principal."""

POLL_SECONDS = 0.2
"""How soon a watcher sees a change that another process has made."""
IN_MEMORY = 1 << 20
"""Bytes of an import kept in memory; more go to a temporary file."""


class ContactServicer(ContactServiceServicer):
    """Answers for the calling principal."""

    def __init__(self, contacts: Contacts, threads: Executor) -> None:
        """Calls contacts, which blocks, in threads."""
        self._contacts = contacts
        self._threads = threads

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(work, *args, **kwargs))

    async def CreateContact(self, request: CreateContactRequest, context: Context) -> Contact:
        return await self._run(self._contacts.create, principal.get(), request)

    async def GetContact(self, request: GetContactRequest, context: Context) -> Contact:
        return await self._run(self._contacts.get, principal.get(), request.name)

    async def ListContacts(
        self, request: ListContactsRequest, context: Context
    ) -> ListContactsResponse:
        return await self._run(self._contacts.page, principal.get(), request)

    async def UpdateContact(self, request: UpdateContactRequest, context: Context) -> Contact:
        return await self._run(self._contacts.update, principal.get(), request)

    async def DeleteContact(self, request: DeleteContactRequest, context: Context) -> Empty:
        return await self._run(self._contacts.delete, principal.get(), request)

    async def ImportContacts(
        self, request_iterator: AsyncIterator[ImportContactsRequest], context: Context
    ) -> ImportContactsResponse:
        # Kept aside until all are there, so that a slow client holds no lock on the database.
        with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as spool:
            count = 0
            async for request in request_iterator:
                await self._run(_spool, spool, request, count)
                count += len(request.people)
            spool.seek(0)
            imported = await self._run(
                self._contacts.import_people, principal.get(), _unspool(spool)
            )
        return ImportContactsResponse(contact_count=imported)

    async def ExportContacts(
        self, request: ExportContactsRequest, context: Context
    ) -> AsyncIterator[ExportContactsResponse]:
        batches = self._contacts.export(principal.get())
        while batch := await self._run(next, batches, None):
            yield ExportContactsResponse(contacts=batch)

    async def WatchContacts(
        self, request: WatchContactsRequest, context: Context
    ) -> AsyncIterator[WatchContactsResponse]:
        owner = principal.get()
        position = await self._run(self._contacts.position, owner, request.position)
        yield WatchContactsResponse(kind=WatchContactsResponse.KIND_STARTED, position=str(position))
        while True:
            changes = await self._run(self._contacts.changes, owner, position)
            for change in changes:
                yield change
                position = int(change.position)
            if not changes:
                await asyncio.sleep(POLL_SECONDS)


def _spool(spool: Any, request: ImportContactsRequest, count: int) -> None:
    """Checks people and keeps them aside; count came before them."""
    if count + len(request.people) > MAX_IMPORT:
        raise InvalidError(Violation("people", f"may be {MAX_IMPORT} in one import"))
    checks = (
        rules.check_person(person, f"people[{index}]")
        for index, person in enumerate(request.people, count)
    )
    rules.check(*checks)
    for person in request.people:
        serialize_length_prefixed(person, spool)


def _unspool(spool: Any) -> Iterator[Person]:
    while (person := parse_length_prefixed(Person, spool)) is not None:
        yield person
