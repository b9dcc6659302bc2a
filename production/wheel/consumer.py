"""A program of another team: it adds a contact, reads it, and changes it.

Run it where the wheel contacts-client is installed, and nothing else of this repository:

    build/consumer/bin/python production/wheel/consumer.py localhost:50051
"""

import asyncio
import importlib.metadata
import sys

import grpc
from contacts_client import ContactsClient, ContactsError
from contacts_client.addressbook_pb2 import Person
from contacts_client.v1.contacts_pb2 import Contact


async def work(client: ContactsClient) -> None:
    """Prints the contact that it has added, and why it cannot remove it."""
    created = await client.create(Contact(person=Person(name="Ada Lovelace")), timeout=5)
    contact = await client.get(created.name)
    fields = [field.name for field, _ in contact.ListFields()]
    print(f"contacts-client {importlib.metadata.version('contacts-client')}: {' '.join(fields)}")
    try:
        await client.delete(contact.name, etag='"0"')
    except ContactsError as error:
        if error.code is not grpc.StatusCode.ABORTED:
            raise
        print(f"changed since: the etag is {error.etag}")


async def main(address: str) -> None:
    async with ContactsClient(address, None) as client:
        await work(client)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
