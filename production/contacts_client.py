"""A client that a team could use, and a command line over it.

Run it against a server in another terminal:

    python -m production.contacts_server --plaintext
    python -m production.contacts_client --plaintext add --name Ada
    python -m production.contacts_client --plaintext list
"""

import argparse
import asyncio
import atexit
import itertools
import json
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import grpc
from google.rpc.error_details_pb2 import BadRequest
from grpc_status import rpc_status
from rich.console import Console
from rich.progress import Progress

from production import tracing
from production.client_credentials import TokenFile, channel_credentials
from production.signatures import load_plugin
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
from protobuf_demo import address_book
from protobuf_demo.addressbook_pb2 import AddressBook, Person

if TYPE_CHECKING:  # The stub has one class at run time, two for the type checker.
    from production.v1.contacts_pb2_grpc import ContactServiceAsyncStub

SERVICE = "production.v1.ContactService"
FAULTS = frozenset(code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK)
"""Statuses that count as errors in a client's traces: all but OK."""
RETRY_POLICY = {
    # Safe for all methods: those that write carry a request id (AIP-155).
    "maxAttempts": 5,  # gRPC allows no more.
    "initialBackoff": "0.1s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    # CANCELLED is what a stopping grpc.aio server says to a call that comes late.
    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
}
CALL_SECONDS = 10.0
STREAM_SECONDS = 60.0
"""How long a call may take, with its retries. Not in the service config: by that gRPC ends calls up
to two seconds too early, and does not tell the server (grpc#40633)."""
SERVICE_CONFIG: dict[str, Any] = {
    # Spread calls over the addresses a name has, and leave out those that say NOT_SERVING.
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": SERVICE},
    # Streams are tried again until the first chunk has come down, or 256 KiB have gone up.
    "methodConfig": [{"name": [{"service": SERVICE}], "retryPolicy": RETRY_POLICY}],
}
OPTIONS = [
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    # A dead connection is noticed after 30 s. The server allows one ping in 10 s.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # grpc.keepalive_timeout_ms would leave it at 60 s.
    ("grpc.http2.max_pings_without_data", 0),  # Else gRPC sends two, then one a minute.
    ("grpc.keepalive_permit_without_calls", 1),
]
CHUNK = 500
"""People in one message of an import."""

Metadata = tuple[tuple[str, str], ...]


class ContactsError(Exception):
    """A call failed; code says how, the message why, violations what was wrong with the request."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        super().__init__(error.details())
        self.code = error.code()
        self.violations: list[tuple[str, str]] = []
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # Its types know sync calls only.
        for detail in status.details if status else []:
            if detail.Is(BadRequest.DESCRIPTOR):
                found = BadRequest.FromString(detail.value).field_violations
                self.violations = [(one.field, one.description) for one in found]


@contextmanager
def calling(method: str) -> Iterator[Metadata]:
    """Gives metadata that carry on the trace of a call, and turns its error into ContactsError."""
    span, metadata = tracing.call(f"{SERVICE}/{method}")
    status = "OK"
    try:
        yield metadata
    except grpc.aio.AioRpcError as error:
        status = error.code().name
        raise ContactsError(error) from error
    except (asyncio.CancelledError, GeneratorExit):
        status = "CANCELLED"
        raise
    finally:
        tracing.end(span, status, FAULTS)


class ContactsClient:
    """One channel to the service, for a whole program; use it in one event loop.

    Every method raises ContactsError when its call fails.
    """

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None) -> None:
        """address is HOST:PORT, or any gRPC target, such as dns:///contacts.example.com:443.

        Without credentials nothing is encrypted: for a server on this machine, in development.
        """
        self._channel = (
            grpc.aio.secure_channel(address, credentials, OPTIONS)
            if credentials
            else grpc.aio.insecure_channel(address, OPTIONS)
        )
        self._stub: ContactServiceAsyncStub = ContactServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def create(self, person: Person, contact_id: str = "") -> Contact:
        """Adds a contact; without a contact_id the server chooses one."""
        request = CreateContactRequest(
            contact=Contact(person=person), contact_id=contact_id, request_id=_request_id()
        )
        with calling("CreateContact") as metadata:
            return await self._stub.CreateContact(request, metadata=metadata, timeout=CALL_SECONDS)

    async def get(self, name: str) -> Contact:
        """The contact of a name, contacts/{contact_id}."""
        with calling("GetContact") as metadata:
            return await self._stub.GetContact(
                GetContactRequest(name=name), metadata=metadata, timeout=CALL_SECONDS
            )

    async def list(self, prefix: str = "", page_size: int = 0) -> AsyncIterator[Contact]:
        """All contacts whose people's names begin with prefix, fetched page by page."""
        request = ListContactsRequest(name_prefix=prefix, page_size=page_size)
        while True:
            with calling("ListContacts") as metadata:
                page = await self._stub.ListContacts(
                    request, metadata=metadata, timeout=CALL_SECONDS
                )
            for contact in page.contacts:
                yield contact
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def update(self, contact: Contact, paths: Iterable[str] = ("person",)) -> Contact:
        """Changes the fields that paths name, if the contact still has its etag."""
        request = UpdateContactRequest(contact=contact, request_id=_request_id())
        request.update_mask.paths.extend(paths)
        with calling("UpdateContact") as metadata:
            return await self._stub.UpdateContact(request, metadata=metadata, timeout=CALL_SECONDS)

    async def delete(self, name: str, etag: str = "") -> None:
        """Removes a contact, with an etag only if it still has it."""
        request = DeleteContactRequest(name=name, etag=etag, request_id=_request_id())
        with calling("DeleteContact") as metadata:
            await self._stub.DeleteContact(request, metadata=metadata, timeout=CALL_SECONDS)

    async def import_people(self, chunks: Iterable[Iterable[Person]]) -> int:
        """Adds all people or none; returns how many."""
        requests = (ImportContactsRequest(people=chunk) for chunk in chunks)
        first = ImportContactsRequest(request_id=_request_id())
        last = ImportContactsRequest(finish=True)
        with calling("ImportContacts") as metadata:
            response = await self._stub.ImportContacts(
                itertools.chain([first], requests, [last]),
                metadata=metadata,
                timeout=STREAM_SECONDS,
            )
        return response.contact_count

    async def export(self) -> AsyncIterator[Contact]:
        """All contacts, as they arrive."""
        with calling("ExportContacts") as metadata:
            async for response in self._stub.ExportContacts(
                ExportContactsRequest(), metadata=metadata, timeout=STREAM_SECONDS
            ):
                for contact in response.contacts:
                    yield contact

    async def watch(self, position: str = "") -> AsyncIterator[WatchContactsResponse]:
        """Changes as they happen, for ever; goes on where it was when a server goes away."""
        while True:
            request = WatchContactsRequest(position=position)
            try:
                with calling("WatchContacts") as metadata:
                    async for change in self._stub.WatchContacts(
                        request, wait_for_ready=True, metadata=metadata
                    ):
                        position = change.position
                        yield change
            except ContactsError as error:
                if error.code != grpc.StatusCode.UNAVAILABLE:
                    raise


def _request_id() -> str:
    return str(uuid.uuid4())


# What follows is the command line.


async def run_list(client: ContactsClient, args: argparse.Namespace) -> None:
    async for contact in client.list(args.prefix):
        print(f"{contact.name}  {contact.person.name}")


async def run_get(client: ContactsClient, args: argparse.Namespace) -> None:
    print(str(await client.get(args.contact)).rstrip())


async def run_add(client: ContactsClient, args: argparse.Namespace) -> None:
    person = Person(name=args.name, id=args.number, email=args.email)
    contact = await client.create(person, args.contact_id)
    print(contact.name)


async def run_delete(client: ContactsClient, args: argparse.Namespace) -> None:
    await client.delete(args.contact)


async def run_import(client: ContactsClient, args: argparse.Namespace) -> None:
    people = address_book.read(args.file).people
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_interactive) as progress:
        task = progress.add_task("importing", total=len(people))

        def chunks() -> Iterator[list[Person]]:
            for at in range(0, len(people), CHUNK):
                yield people[at : at + CHUNK]
                progress.advance(task, min(CHUNK, len(people) - at))

        count = await client.import_people(chunks())
    print(f"imported {count} people")


async def run_export(client: ContactsClient, args: argparse.Namespace) -> None:
    count = 0
    temporary = args.file.with_name(f".{args.file.name}.{os.getpid()}")
    try:
        with temporary.open("xb") as file:
            async for contact in client.export():
                # Serialized messages may be put one behind the other: repeated fields add up.
                file.write(AddressBook(people=[contact.person]).SerializeToString())
                count += 1
        temporary.replace(args.file)
    finally:
        temporary.unlink(missing_ok=True)
    print(f"exported {count} people to {args.file}")


async def run_watch(client: ContactsClient, args: argparse.Namespace) -> None:
    async for change in client.watch(args.position):
        kind = WatchContactsResponse.Kind.Name(change.kind).removeprefix("KIND_").lower()
        contact = f"  {change.contact.name}  {change.contact.person.name}".rstrip()
        print(f"{change.position}  {kind}{contact}", flush=True)


COMMANDS = {
    "list": run_list,
    "get": run_get,
    "add": run_add,
    "delete": run_delete,
    "import": run_import,
    "export": run_export,
    "watch": run_watch,
}


def credentials_of(args: argparse.Namespace) -> grpc.ChannelCredentials | None:
    """What the command line says about them. Raises OSError."""
    if args.plaintext:
        return None
    plugins: list[grpc.AuthMetadataPlugin] = []
    if args.token_file:
        plugins.append(TokenFile(args.token_file))
    if args.api_key:
        plugins.append(load_plugin(args.api_key))
    return channel_credentials(args.ca, args.certificate, args.key, *plugins)


async def run(args: argparse.Namespace) -> None:
    """Runs one command."""
    async with ContactsClient(args.address, credentials_of(args)) as client:
        await COMMANDS[args.command](client, args)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Work with ContactService.")
    parser.add_argument(
        "--address", default="localhost:50051", help="HOST:PORT (default: %(default)s)"
    )
    parser.add_argument("--plaintext", action="store_true", help="no TLS: a server on this machine")
    parser.add_argument(
        "--ca",
        type=Path,
        default="build/certs/ca.pem",
        help="who signs the server's certificate (default: %(default)s)",
    )
    parser.add_argument("--certificate", type=Path, help="ours, if the server asks for one")
    parser.add_argument("--key", type=Path, help="of our certificate")
    parser.add_argument("--token-file", type=Path, help="a bearer token; read for each call")
    parser.add_argument("--api-key", type=Path, help="a key that signs each call")
    commands = parser.add_subparsers(required=True, dest="command", metavar="COMMAND")
    command = commands.add_parser("list", help="all contacts, by name")
    command.add_argument("--prefix", default="", help="only names that begin so")
    command = commands.add_parser("get", help="one contact")
    command.add_argument("contact", help="contacts/CONTACT_ID")
    command = commands.add_parser("add", help="add a contact")
    command.add_argument("--name", required=True)
    command.add_argument("--number", type=int, default=0, help="the person's id")
    command.add_argument("--email", default="")
    command.add_argument("--contact-id", default="", help="without it the server chooses one")
    command = commands.add_parser("delete", help="remove a contact")
    command.add_argument("contact", help="contacts/CONTACT_ID")
    command = commands.add_parser("import", help="add all people of an address book file, or none")
    command.add_argument("file", type=Path)
    command = commands.add_parser("export", help="write all people to an address book file")
    command.add_argument("file", type=Path)
    command = commands.add_parser("watch", help="changes as they happen")
    command.add_argument("--position", default="", help="go on after this one")
    args = parser.parse_args()
    if args.plaintext and (args.certificate or args.token_file or args.api_key):
        parser.error("--plaintext: credentials are not sent where others could read them")
    if bool(args.certificate) != bool(args.key):
        parser.error("--certificate and --key go together")
    return args


def main() -> None:
    args = parse_arguments()
    atexit.register(tracing.set_up("contacts-client"))
    # `| head` that has seen enough ends a client without a traceback.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        asyncio.run(run(args))
    except ContactsError as error:
        for field, description in error.violations:
            print(f"{field}: {description}", file=sys.stderr)
        sys.exit(f"error: {error.code.name}: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}")
    except ValueError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
