"""The client: one method for each of ContactService's."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Iterable
from itertools import chain
from typing import TYPE_CHECKING, Any, Self, Unpack

import grpc

from production.calling.budget import countdown
from production.calling.calls import (
    STREAM_SECONDS,
    UNAUTHENTICATED,
    UNAVAILABLE,
    CallOptions,
    Calls,
)
from production.contacts_client.errors import ClosedError, ContactsError
from production.contacts_client.import_messages import in_messages
from production.v1.contacts_pb2 import (
    Contact,
    CreateContactRequest,
    DeleteContactRequest,
    ExportContactsRequest,
    GetContactRequest,
    ImportContactsRequest,
    ListContactsRequest,
    UpdateContactRequest,
    WatchContactsRequest,
    WatchContactsResponse,
)
from production.v1.contacts_pb2_grpc import ContactServiceStub
from protobuf_demo.addressbook_pb2 import Person

if TYPE_CHECKING:  # The stub has one class at run time, two for the type checker.
    from production.v1.contacts_pb2_grpc import ContactServiceAsyncStub

SERVICE = "production.v1.ContactService"
FIELDS = [field.name for field in Contact.DESCRIPTOR.fields]
STATUS_SECONDS = 0.05
"""How long the status of a call may take to follow the write that failed because of it."""


class ContactsClient:
    """One channel to the service, for a whole program; use it in one event loop.

    Every method takes `CallOptions` by keyword: timeout, metadata and credentials. It raises
    ContactsError if its call fails, and ClosedError, a subclass, if the client is closed.
    """

    def __init__(
        self,
        address: str,
        credentials: grpc.ChannelCredentials | None,
        call_credentials: grpc.CallCredentials | None = None,
    ) -> None:
        """address is HOST:PORT, or any gRPC target, such as dns:///contacts.example.com:443.

        Without credentials nothing is encrypted; use that with a server on this machine only.
        call_credentials identify us in each call that is not given others. If they were part of
        credentials, gRPC would send both.
        """
        self._calls = Calls(
            SERVICE, ContactsError, ClosedError, address, credentials, call_credentials
        )
        self._stub: ContactServiceAsyncStub = ContactServiceStub(self._calls.channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._calls.close()

    async def create(
        self, contact: Contact, contact_id: str = "", **options: Unpack[CallOptions]
    ) -> Contact:
        """Adds a contact; without a contact_id the server makes one."""
        request = CreateContactRequest(
            contact=contact, contact_id=contact_id, request_id=_request_id()
        )
        return await self._calls.ask(self._stub.CreateContact, request, options)

    async def get(self, name: str, **options: Unpack[CallOptions]) -> Contact:
        """Returns the contact of a name, contacts/{contact_id}."""
        return await self._calls.ask(self._stub.GetContact, GetContactRequest(name=name), options)

    async def list(
        self, prefix: str = "", page_size: int = 0, **options: Unpack[CallOptions]
    ) -> AsyncGenerator[Contact, None]:
        """Yields all contacts whose people's names begin with prefix, fetched page by page.

        A timeout is for all pages together; by default each has its own.
        """
        request = ListContactsRequest(name_prefix=prefix, page_size=page_size)
        async for page in self._calls.pages(self._stub.ListContacts, request, options):
            for contact in page.contacts:
                yield contact

    async def update(
        self, contact: Contact, paths: Iterable[str] = FIELDS, **options: Unpack[CallOptions]
    ) -> Contact:
        """Changes the fields that paths name, if the contact still has its etag.

        The server ignores paths of fields that only it writes.
        """
        request = UpdateContactRequest(contact=contact, request_id=_request_id())
        request.update_mask.paths.extend(paths)
        return await self._calls.ask(self._stub.UpdateContact, request, options)

    async def delete(self, name: str, etag: str = "", **options: Unpack[CallOptions]) -> None:
        """Removes a contact; with an etag, only if the contact still has it."""
        request = DeleteContactRequest(name=name, etag=etag, request_id=_request_id())
        await self._calls.ask(self._stub.DeleteContact, request, options)

    async def import_people(self, people: Iterable[Person], **options: Unpack[CallOptions]) -> int:
        """Adds all people or none, also if people raises an exception; returns their number.

        People are taken as they are sent, in messages that the server accepts.
        """
        first = ImportContactsRequest(request_id=_request_id())
        last = ImportContactsRequest(finish=True)
        with self._calls.begin(
            self._stub.ImportContacts, "ImportContacts", default=STREAM_SECONDS, **options
        ) as call:
            # Written here, because gRPC hides what its request iterator raises.
            for request in chain([first], in_messages(people), [last]):
                if not await _wants_more(call, request):
                    break
            else:
                await call.done_writing()
            return (await call).contact_count

    async def export(self, **options: Unpack[CallOptions]) -> AsyncGenerator[Contact, None]:
        """Yields all contacts, each once, as they arrive.

        If the token expires meanwhile, or the server goes away, it reads again with the next one
        and leaves out what it has yielded: the stream has no order to go on from.
        """
        left = countdown(options.get("timeout"))
        yielded: set[str] = set()
        while True:
            options["timeout"] = left()
            before = len(yielded)
            try:
                with self._calls.begin(
                    self._stub.ExportContacts,
                    "ExportContacts",
                    ExportContactsRequest(),
                    default=STREAM_SECONDS,
                    **options,
                ) as call:
                    async for response in call:
                        for contact in response.contacts:
                            if contact.name not in yielded:
                                yielded.add(contact.name)
                                yield contact
                return
            except ContactsError as error:
                gained = len(yielded) > before
                if not (gained and error.code in (UNAVAILABLE, UNAUTHENTICATED)):
                    raise

    def watch(
        self, position: str = "", **options: Unpack[CallOptions]
    ) -> AsyncGenerator[WatchContactsResponse, None]:
        """Yields changes after a position as they happen, until the iterator is closed.

        It resumes when a server goes away or the token expires, as `Calls.watch` does.
        """
        request = WatchContactsRequest(position=position)
        return self._calls.watch(self._stub.WatchContacts, request, options)


async def _wants_more(
    call: grpc.aio.StreamUnaryCall[ImportContactsRequest, Any], request: ImportContactsRequest
) -> bool:
    """Writes a request; returns False if the server has ended the call."""
    try:
        await call.write(request)
    except asyncio.InvalidStateError:
        return False
    except grpc.aio.AioRpcError:
        # Often "Internal error from Core", just before the server's reason (grpc#36066).
        await asyncio.sleep(STATUS_SECONDS)
        return False
    return True


def _request_id() -> str:
    return str(uuid.uuid4())
