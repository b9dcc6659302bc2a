"""ContactService, a thin translation: each call runs one method of Contacts in a thread."""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any, ParamSpec, TypeVar

import grpc
from google.protobuf.empty_pb2 import Empty

from production.authorization import principal
from production.changes import Changes
from production.contacts import Contacts
from production.database import Database
from production.imports import gathering
from production.rules import InvalidError
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
from production.watching import Watching

P = ParamSpec("P")
T = TypeVar("T")
Context = grpc.aio.ServicerContext[Any, Any]


class ContactServicer(ContactServiceServicer):
    """Answers for the calling principal."""

    def __init__(self, database: Database, threads: Executor) -> None:
        """Uses the database, which blocks, in threads."""
        self._contacts = Contacts(database)
        self._changes = Changes(database)
        self._watching = Watching(lambda owners: self._run(self._changes.newest, owners))
        self._threads = threads

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs work in a thread, which gets the call's context: its time limit."""
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        return await loop.run_in_executor(
            self._threads, partial(context.run, work, *args, **kwargs)
        )

    async def CreateContact(self, request: CreateContactRequest, context: Context) -> Contact:
        return await self._run(self._contacts.create, principal.get().name, request)

    async def GetContact(self, request: GetContactRequest, context: Context) -> Contact:
        return await self._run(self._contacts.get, principal.get().name, request.name)

    async def ListContacts(
        self, request: ListContactsRequest, context: Context
    ) -> ListContactsResponse:
        return await self._run(self._contacts.page, principal.get().name, request)

    async def UpdateContact(self, request: UpdateContactRequest, context: Context) -> Contact:
        return await self._run(self._contacts.update, principal.get().name, request)

    async def DeleteContact(self, request: DeleteContactRequest, context: Context) -> Empty:
        return await self._run(self._contacts.delete, principal.get().name, request)

    async def ImportContacts(
        self, request_iterator: AsyncIterator[ImportContactsRequest], context: Context
    ) -> ImportContactsResponse:
        with gathering() as gathered:
            try:
                async for request in request_iterator:
                    await self._run(gathered.add, request)
            except InvalidError:
                # A grpc.aio client that is still writing may lose the answer (grpc#36066): read on.
                async for _ in request_iterator:
                    pass
                raise
            return await self._run(self._contacts.import_people, principal.get().name, gathered)

    async def ExportContacts(
        self, request: ExportContactsRequest, context: Context
    ) -> AsyncIterator[ExportContactsResponse]:
        batches = self._contacts.export(principal.get().name)
        while batch := await self._run(next, batches, None):
            yield ExportContactsResponse(contacts=batch)

    async def WatchContacts(
        self, request: WatchContactsRequest, context: Context
    ) -> AsyncIterator[WatchContactsResponse]:
        owner = principal.get().name
        position = await self._run(self._changes.position, owner, request.position)
        yield WatchContactsResponse(kind=WatchContactsResponse.KIND_STARTED, position=str(position))
        while True:
            changes = await self._run(self._changes.after, owner, position)
            for change in changes:
                yield change
                position = int(change.position)
            if not changes:
                await self._watching.wait(owner, position)
