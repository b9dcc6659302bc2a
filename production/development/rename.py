"""Renames a person by the client library: read, decide, write, and begin again if it has changed.

Run it:

    python -m production.development.rename --address localhost:50051 contacts/ada-1 "Ada King"
"""

import argparse
import asyncio
import sys

import grpc

from production.calling import addresses
from production.contacts_client import ContactsClient, ContactsError

ATTEMPTS = 5


async def rename(client: ContactsClient, contact: str, name: str) -> str:
    """Sets the name of a contact's person; returns the new etag. Raises ContactsError."""
    attempt = 1
    while True:
        read = await client.get(contact, timeout=2)
        read.person.name = name
        try:
            return (await client.update(read, ["person.name"], timeout=2)).etag
        except ContactsError as error:
            if error.code != grpc.StatusCode.ABORTED or attempt == ATTEMPTS:
                raise
            print(f"somebody was faster: etag {read.etag}, now {error.etag}", file=sys.stderr)
        attempt += 1


async def run(address: str, contact: str, name: str) -> None:
    """Renames a contact of a server on this machine."""
    async with ContactsClient(address, None) as client:
        print(f"renamed, etag {await rename(client, contact, name)}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Rename a person.")
    parser.add_argument(
        "--address", type=addresses.target, default="localhost:50051", help="HOST:PORT"
    )
    parser.add_argument("contact", help="contacts/CONTACT_ID")
    parser.add_argument("name")
    args = parser.parse_args()
    try:
        asyncio.run(run(args.address, args.contact, args.name))
    except ContactsError as error:
        sys.exit(f"error: {error.code.name}: {error}")


if __name__ == "__main__":
    main()
