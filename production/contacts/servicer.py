"""Implements ContactService: each call runs one method of Contacts in a thread."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty

from production.contacts.changes import Changes
from production.contacts.contacts import Contacts
from production.contacts.import_buffer import gathering
from production.contacts.quota import NORMAL, Quota
from production.serving.security.principal import principal
from production.serving.storage.change_poller import ChangePoller
from production.serving.storage.database import Database
from production.serving.storage.in_thread import InThread
from production.serving.storage.writes import newest
from production.serving.validation import InvalidError
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

IMPORT_PAUSE = 0.15
"""Seconds between two imports of a process, for other writers of SQLite to take their turn."""

Context = grpc.aio.ServicerContext[Any, Any]


class ContactServicer(ContactServiceServicer):
    """Answers for the calling principal."""

    def __init__(self, database: Database, threads: Executor, quota: Quota = NORMAL) -> None:
        """threads runs what uses the database, which blocks."""
        self._run = InThread(threads)
        self._contacts = Contacts(database, quota)
        self._changes = Changes(database)
        self._poller = ChangePoller(lambda owners: self._run(newest, database, owners))
        self._importing = asyncio.Lock()

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
                # A grpc.aio client that is still writing may lose the status (grpc#36066): read on.
                async for _ in request_iterator:
                    pass
                raise
            async with self._importing:
                response = await self._run(
                    self._contacts.import_people, principal.get().name, gathered
                )
                await asyncio.sleep(IMPORT_PAUSE)
            return response

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
                await self._poller.wait(owner, position)
