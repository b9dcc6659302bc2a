"""ContactService with only some of what surrounds it, to see what each part costs.

python -m benchmarks.production_server bare
"""

import argparse
import asyncio
import signal
import tempfile
from concurrent.futures import ThreadPoolExecutor

import grpc

from benchmarks.load import CONTACT
from production import authentication, contacts_server, interceptors, logs
from production.authentication import Authentication
from production.authorization import DEVELOPMENT, principal
from production.contacts import Contacts
from production.contacts_servicer import ContactServicer
from production.database import Database
from production.interceptors import Admission, Deadline, Interceptor, Layer
from production.settings import Settings
from production.v1.contacts_pb2 import Contact, CreateContactRequest
from production.v1.contacts_pb2_grpc import add_ContactServiceServicer_to_server
from protobuf_demo.addressbook_pb2 import Person

LAYERS = ["adapter", "observe", "errors", "authentication", "admission", "deadline"]
VARIANTS = ["bare", *LAYERS, "whole"]
"""Bare: the servicer and its storage, with nothing around. Then each layer on top of those before
it, and at last the service as it is started, with its options, health and reflection."""


def interceptor(variant: str, settings: Settings) -> Interceptor:
    """The layers up to the variant's."""
    layers: list[Layer] = [
        interceptors.observe,
        interceptors.errors,
        Authentication([], authentication.development),
        Admission(settings.max_calls, settings.max_watches),
        Deadline(settings.default_deadline, settings.max_deadline),
    ]
    return Interceptor(*layers[: LAYERS.index(variant)])


async def serve_part(variant: str, settings: Settings, database: Database) -> None:
    """Serves with the layers up to the variant's, until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    principal.set(DEVELOPMENT)  # For variants without authentication.
    around = [] if variant == "bare" else [interceptor(variant, settings)]
    server = grpc.aio.server(interceptors=around)
    with ThreadPoolExecutor(settings.connections) as threads:
        add_ContactServiceServicer_to_server(ContactServicer(database, threads), server)
        port = server.add_insecure_port(settings.address)
        await server.start()
        print(f"listening on 127.0.0.1:{port}", flush=True)
        await stop.wait()
        await server.stop(None)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve a part of ContactService.")
    parser.add_argument("variant", choices=VARIANTS)
    args = parser.parse_args()
    logs.set_up("json")
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            address="127.0.0.1:0",
            plaintext=True,
            database=f"sqlite:///{folder}/contacts.db",
            drain_pause=0,
        )
        database = Database(settings.database)
        database.migrate()
        contact = Contact(person=Person(name="Ada", email="ada@example.org"))
        contact_id = CONTACT.removeprefix("contacts/")
        request = CreateContactRequest(contact=contact, contact_id=contact_id)
        Contacts(database).create(DEVELOPMENT.name, request)
        if args.variant == "whole":
            asyncio.run(contacts_server.serve(settings))
        else:
            asyncio.run(serve_part(args.variant, settings, database))
        database.close()


if __name__ == "__main__":
    main()
