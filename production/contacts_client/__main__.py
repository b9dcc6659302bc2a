"""The command line of the client library.

Run it against a server in another terminal:

    python -m production.contacts_server --plaintext
    python -m production.contacts_client --plaintext add --name Ada
    python -m production.contacts_client --plaintext list
"""

import argparse
import asyncio
import atexit
import os
import signal
import sys
from pathlib import Path

import grpc
from rich.console import Console
from rich.progress import Progress

from production.calling import addresses, tracing
from production.calling.channel_credentials import (
    TokenFile,
    call_credentials,
    channel_credentials,
)
from production.calling.client_credentials import ClientCredentials
from production.calling.signing import load_plugin
from production.contacts_client import SIGNATURE, ContactsClient, ContactsError
from production.v1.contacts_pb2 import Contact, WatchContactsResponse
from protobuf_demo import address_book
from protobuf_demo.addressbook_pb2 import AddressBook, Person


async def run_list(client: ContactsClient, args: argparse.Namespace) -> None:
    async for contact in client.list(args.prefix):
        print(f"{contact.name}  {contact.person.name}")


async def run_get(client: ContactsClient, args: argparse.Namespace) -> None:
    print(str(await client.get(args.contact)).rstrip())


async def run_add(client: ContactsClient, args: argparse.Namespace) -> None:
    person = Person(name=args.name, id=args.number, email=args.email)
    created = await client.create(Contact(person=person), args.contact_id)
    print(created.name)


async def run_delete(client: ContactsClient, args: argparse.Namespace) -> None:
    await client.delete(args.contact)


async def run_import(client: ContactsClient, args: argparse.Namespace) -> None:
    people = address_book.read(args.file).people
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_interactive) as progress:
        count = await client.import_people(progress.track(people, description="importing"))
    print(f"imported {count} people")


async def run_export(client: ContactsClient, args: argparse.Namespace) -> None:
    count = 0
    temporary = args.file.with_name(f".{args.file.name}.{os.getpid()}")
    try:
        with temporary.open("xb") as file:
            async for contact in client.export():
                # Concatenated serialized messages are one message: their repeated fields add up.
                file.write(AddressBook(people=[contact.person]).SerializeToString())
                count += 1
        temporary.replace(args.file)
    finally:
        temporary.unlink(missing_ok=True)
    print(f"exported {count} people to {args.file}")


async def run_watch(client: ContactsClient, args: argparse.Namespace) -> None:
    async for change in client.watch(args.position):
        kind = kind_name(change.kind)
        contact = f"  {change.contact.name}  {change.contact.person.name}".rstrip()
        print(f"{change.position}  {kind}{contact}", flush=True)


def kind_name(kind: WatchContactsResponse.Kind.ValueType) -> str:
    """Returns the name of a kind of change, or the number of one that a newer server has added."""
    kinds = WatchContactsResponse.Kind
    return kinds.Name(kind).removeprefix("KIND_").lower() if kind in kinds.values() else str(kind)


def connect(args: argparse.Namespace) -> ContactsClient:
    """Returns a client with the credentials that the flags name. Raises OSError, ValueError."""
    if args.plaintext:
        return ContactsClient(args.address, None)
    plugins: list[grpc.AuthMetadataPlugin] = []
    if args.token_file:
        plugins.append(TokenFile(args.token_file))
    if args.token_endpoint:
        plugins.append(
            ClientCredentials(
                args.token_endpoint,
                args.client_id,
                args.client_secret_file,
                scope=args.scope,
                audience=args.audience,
            )
        )
    if args.api_key:
        plugins.append(load_plugin(args.api_key, SIGNATURE))
    credentials = channel_credentials(args.ca, args.certificate, args.key)
    return ContactsClient(args.address, credentials, call_credentials(*plugins))


async def run(args: argparse.Namespace) -> None:
    """Runs the chosen command."""
    async with connect(args) as client:
        await args.run(client, args)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m production.contacts_client", description="Work with ContactService."
    )
    parser.add_argument(
        "--address",
        type=addresses.target,
        default="localhost:50051",
        help="HOST:PORT (default: %(default)s)",
    )
    parser.add_argument("--plaintext", action="store_true", help="no TLS: a server on this machine")
    parser.add_argument(
        "--ca",
        type=Path,
        default="build/certs/ca.pem",
        help="the authority that signs the server's certificate (default: %(default)s)",
    )
    parser.add_argument(
        "--certificate", type=Path, help="client certificate, if the server requires one"
    )
    parser.add_argument("--key", type=Path, help="private key of the certificate")
    parser.add_argument(
        "--token-file", type=Path, help="file of a bearer token, read for each call"
    )
    parser.add_argument(
        "--token-endpoint", metavar="URL", help="where to get tokens (RFC 6749, 4.4), instead"
    )
    parser.add_argument("--client-id", default="", help="our name at the token endpoint")
    parser.add_argument("--client-secret-file", type=Path, help="file of our secret there")
    parser.add_argument("--scope", default="", help="scopes to ask it for, if it requires them")
    parser.add_argument("--audience", default="", help="service to name to it, if it requires one")
    parser.add_argument("--api-key", type=Path, help="file of a key that signs each call")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("list", help="print all contacts, by name")
    command.set_defaults(run=run_list)
    command.add_argument("--prefix", default="", help="only names that begin with it")
    command = commands.add_parser("get", help="print a contact")
    command.set_defaults(run=run_get)
    command.add_argument("contact", help="contacts/CONTACT_ID")
    command = commands.add_parser("add", help="add a contact")
    command.set_defaults(run=run_add)
    command.add_argument("--name", required=True)
    command.add_argument("--number", type=int, default=0, help="the person's id")
    command.add_argument("--email", default="")
    command.add_argument("--contact-id", default="", help="by default the server makes one")
    command = commands.add_parser("delete", help="remove a contact")
    command.set_defaults(run=run_delete)
    command.add_argument("contact", help="contacts/CONTACT_ID")
    command = commands.add_parser("import", help="add all people of an address book file, or none")
    command.set_defaults(run=run_import)
    command.add_argument("file", type=Path)
    command = commands.add_parser("export", help="write all people to an address book file")
    command.set_defaults(run=run_export)
    command.add_argument("file", type=Path)
    command = commands.add_parser("watch", help="print changes as they happen")
    command.set_defaults(run=run_watch)
    command.add_argument("--position", default="", help="resume after this position")
    args = parser.parse_args()
    grant = [args.token_endpoint, args.client_id, args.client_secret_file]
    if args.plaintext and (args.certificate or args.token_file or any(grant) or args.api_key):
        parser.error("--plaintext: credentials are not sent unencrypted")
    if any([*grant, args.scope, args.audience]) and not all(grant):
        parser.error("--token-endpoint, --client-id and --client-secret-file go together")
    if args.token_file and args.token_endpoint:
        parser.error("--token-file or --token-endpoint, not both")
    if bool(args.certificate) != bool(args.key):
        parser.error("--certificate and --key go together")
    return args


def main() -> None:
    args = parse_arguments()
    try:
        atexit.register(tracing.set_up("contacts-client"))
        asyncio.run(run(args))
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough.
        # Python would try to write the rest again when it exits. Not SIGPIPE's default action: it
        # would also end us when the server closes a connection.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
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
