"""The same contacts in the same storage, served by grpcio, by pygrpc-native and by FastAPI.

python -m benchmarks.rest_server fastapi
"""

import argparse
import asyncio
import signal
import socket
import tempfile
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import grpc

from benchmarks.load import CONTACT
from production.authorization import DEVELOPMENT, principal
from production.contacts import Contacts, NotFoundError
from production.contacts_servicer import ContactServicer
from production.database import Database
from production.settings import Settings
from production.v1.contacts_pb2 import Contact, CreateContactRequest, GetContactRequest
from production.v1.contacts_pb2_grpc import add_ContactServiceServicer_to_server
from protobuf_demo.addressbook_pb2 import Person

THREADS = Settings.model_fields["connections"].default


async def until_told() -> None:
    """Returns at SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()


class Everybody(ContactServicer):
    """Chapter 4's servicer, with nothing around that would say who calls."""

    async def GetContact(self, request: GetContactRequest, context: Any) -> Contact:
        principal.set(DEVELOPMENT)
        return await super().GetContact(request, context)


async def serve_servicer(make: Callable[[], Any], database: Database) -> None:
    """Serves on a server that make gives."""
    server = make()
    with ThreadPoolExecutor(THREADS) as threads:
        add_ContactServiceServicer_to_server(Everybody(database, threads), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(f"listening on 127.0.0.1:{port}", flush=True)
        await until_told()
        await server.stop(None)


async def serve_grpcio(database: Database) -> None:
    await serve_servicer(grpc.aio.server, database)


async def serve_native(database: Database) -> None:
    import pygrpc_native.aio

    await serve_servicer(pygrpc_native.aio.server, database)


async def serve_fastapi(database: Database) -> None:
    """The same method written for FastAPI, with models of pydantic, as its users would."""
    import uvicorn
    from fastapi import FastAPI, HTTPException
    from pydantic import BaseModel

    class PersonModel(BaseModel):
        name: str
        email: str

    class ContactModel(BaseModel):
        name: str
        person: PersonModel
        etag: str
        createTime: datetime
        updateTime: datetime

    contacts = Contacts(database)
    threads = ThreadPoolExecutor(THREADS)
    app = FastAPI()

    @app.get("/v1/contacts/{contact_id}")
    async def get_contact(contact_id: str) -> ContactModel:
        # FastAPI would run a plain function in a thread, too, but its own way takes longer.
        run = asyncio.get_running_loop().run_in_executor
        try:
            contact = await run(threads, contacts.get, DEVELOPMENT.name, f"contacts/{contact_id}")
        except NotFoundError as error:
            raise HTTPException(404, str(error)) from None
        return ContactModel(
            name=contact.name,
            person=PersonModel(name=contact.person.name, email=contact.person.email),
            etag=contact.etag,
            createTime=contact.create_time.ToDatetime(),
            updateTime=contact.update_time.ToDatetime(),
        )

    with socket.create_server(("127.0.0.1", 0)) as listening, threads:
        print(f"listening on 127.0.0.1:{listening.getsockname()[1]}", flush=True)
        config = uvicorn.Config(app, access_log=False, log_level="warning")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve([listening]))  # Without its signal handlers.
        await until_told()
        server.should_exit = True
        await serving


SERVERS: dict[str, Callable[[Database], Coroutine[Any, Any, None]]] = {
    "grpcio": serve_grpcio,
    "native": serve_native,
    "fastapi": serve_fastapi,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve contacts.")
    parser.add_argument("server", choices=SERVERS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/contacts.db")
        database.migrate()
        contact = Contact(person=Person(name="Ada", email="ada@example.org"))
        contact_id = CONTACT.removeprefix("contacts/")
        request = CreateContactRequest(contact=contact, contact_id=contact_id)
        Contacts(database).create(DEVELOPMENT.name, request)
        run = asyncio.run
        if args.server != "grpcio":  # uvicorn takes uvloop when it is there; so may native.
            import uvloop

            run = uvloop.run
        run(SERVERS[args.server](database))
        database.close()


if __name__ == "__main__":
    main()
