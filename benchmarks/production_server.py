"""ContactService with only some of what surrounds it, to see what each part costs.

python -m benchmarks.production_server bare
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc

from benchmarks.load import CONTACT
from production import authentication, contacts_server, interceptors, logs, tracing
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
VARIANTS = ["bare", *LAYERS, "whole", "traced"]
"""Bare: the servicer and its storage, with nothing around. Then each layer on top of those before
it, then the service as it is started, with its options, health and reflection; and at last the same
with traces, of which one in ten is sent to a collector."""


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


@contextmanager
def collector() -> Iterator[str]:
    """A collector in a process of its own; its address."""
    command = [sys.executable, "-m", "production.lessons.trace_collector", "--address=127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout  # noqa: S101 - for the type checker.
        yield process.stdout.readline().split()[-1]
        process.kill()


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
        elif args.variant == "traced":
            with collector() as address:
                os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://{address}"
                end_tracing = tracing.set_up("benchmark")
                asyncio.run(contacts_server.serve(settings))
                end_tracing()
        else:
            asyncio.run(serve_part(args.variant, settings, database))
        database.close()


if __name__ == "__main__":
    main()
