"""Serves the same contacts from the same storage by grpcio, by pygrpc-native or by FastAPI.

Run it:

    python -m benchmarks.servers.rest_server fastapi
"""

import argparse
import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import grpc
from pydantic import BaseModel

from benchmarks.servers.contact import seeded_database
from benchmarks.servers.serving import ADDRESS, serve_asgi, serve_asyncio
from production.contacts.access import DEVELOPMENT
from production.contacts.contacts import Contacts
from production.contacts.servicer import ContactServicer
from production.contacts.settings import Settings
from production.serving.resources import NotFoundError
from production.serving.security.principal import principal
from production.serving.storage.database import Database
from production.v1.contacts_pb2 import Contact, GetContactRequest
from production.v1.contacts_pb2_grpc import add_ContactServiceServicer_to_server

THREADS = Settings.model_fields["connections"].default


class PersonModel(BaseModel):
    """The fields of a person that the benchmark's contact has."""

    name: str
    email: str


class ContactModel(BaseModel):
    """A contact, as FastAPI's users would declare it."""

    name: str
    person: PersonModel
    etag: str
    createTime: datetime
    updateTime: datetime


def model_of(contact: Contact) -> ContactModel:
    """Converts a contact."""
    return ContactModel(
        name=contact.name,
        person=PersonModel(name=contact.person.name, email=contact.person.email),
        etag=contact.etag,
        createTime=contact.create_time.ToDatetime(),
        updateTime=contact.update_time.ToDatetime(),
    )


class Everybody(ContactServicer):
    """Serves every caller as the development principal, without authentication."""

    async def GetContact(self, request: GetContactRequest, context: Any) -> Contact:
        principal.set(DEVELOPMENT)
        return await super().GetContact(request, context)


async def serve_servicer(server: Any, database: Database) -> None:
    with ThreadPoolExecutor(THREADS) as threads:
        add_ContactServiceServicer_to_server(Everybody(database, threads), server)
        await serve_asyncio(server, server.add_insecure_port(ADDRESS))


async def serve_grpcio(database: Database) -> None:
    await serve_servicer(grpc.aio.server(), database)


async def serve_native(database: Database) -> None:
    import pygrpc_native.aio

    await serve_servicer(pygrpc_native.aio.server(), database)


async def serve_fastapi(database: Database) -> None:
    """Serves the same method written for FastAPI, with pydantic models, as its users would."""
    from fastapi import FastAPI, HTTPException

    contacts = Contacts(database)
    threads = ThreadPoolExecutor(THREADS)
    app = FastAPI()

    @app.get("/v1/contacts/{contact_id}")
    async def get_contact(contact_id: str) -> ContactModel:
        # FastAPI would run a plain function in a thread, too, but that takes longer.
        run = asyncio.get_running_loop().run_in_executor
        try:
            contact = await run(threads, contacts.get, DEVELOPMENT.name, f"contacts/{contact_id}")
        except NotFoundError as error:
            raise HTTPException(404, str(error)) from None
        return model_of(contact)

    with threads:
        await serve_asgi(app)


SERVERS: dict[str, Callable[[Database], Coroutine[Any, Any, None]]] = {
    "grpcio": serve_grpcio,
    "native": serve_native,
    "fastapi": serve_fastapi,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve contacts.")
    parser.add_argument("server", choices=SERVERS)
    args = parser.parse_args()
    run = asyncio.run
    if args.server != "grpcio":  # uvicorn takes uvloop if it is installed; so may native.
        import uvloop

        run = uvloop.run
    with seeded_database() as (database, _):
        run(SERVERS[args.server](database))


if __name__ == "__main__":
    main()
