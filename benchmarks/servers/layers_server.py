"""Serves ContactService with only some of its layers, to measure what each one costs.

Run it:

    python -m benchmarks.servers.layers_server bare
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import grpc

from benchmarks.servers.contact import seeded_database
from benchmarks.servers.serving import ADDRESS, serve_asyncio
from production import contacts_server
from production.calling import tracing
from production.contacts import errors
from production.contacts.access import ACCESS, DEVELOPMENT, WATCHES
from production.contacts.servicer import ContactServicer
from production.contacts.settings import Settings
from production.contacts_server import ADMISSION
from production.development import child
from production.serving import process
from production.serving.layers.adapter import Interceptor, Layer
from production.serving.layers.admission import Admission, Reading, Room
from production.serving.layers.deadline import Deadline
from production.serving.layers.errors import Errors
from production.serving.layers.observe import observe
from production.serving.observability import logs
from production.serving.security import authentication
from production.serving.security.authentication import Authentication
from production.serving.security.principal import principal
from production.serving.storage.database import Database
from production.v1.contacts_pb2_grpc import add_ContactServiceServicer_to_server

LAYERS = ["adapter", "observe", "errors", "authentication", "admission", "deadline"]
VARIANTS = ["bare", *LAYERS, "whole", "traced"]
"""Bare is the servicer and its storage alone. Then each layer is added to those before it. Whole is
the service as it is started, with its options, health and reflection; traced is the same with
traces, of which one in ten is sent to a collector."""


def interceptor(variant: str, settings: Settings) -> Interceptor:
    """Makes an interceptor of the layers up to the variant's."""
    layers: list[Layer] = [
        observe,
        Errors(errors.DOMAIN, errors.status_of),
        Authentication(ACCESS, [], authentication.everybody(DEVELOPMENT)),
        Admission(ACCESS, {"call": Room(settings.max_calls)}, ADMISSION),
        Deadline(ACCESS, WATCHES, settings.default_deadline, settings.max_deadline),
    ]
    return Interceptor(*layers[: LAYERS.index(variant)], reading=Reading(ACCESS))


async def serve_part(variant: str, settings: Settings, database: Database) -> None:
    """Serves with the layers up to the variant's, until SIGTERM."""
    principal.set(DEVELOPMENT)  # For variants without authentication.
    interceptors = [] if variant == "bare" else [interceptor(variant, settings)]
    server = grpc.aio.server(interceptors=interceptors)
    with ThreadPoolExecutor(settings.connections) as threads:
        add_ContactServiceServicer_to_server(ContactServicer(database, threads), server)
        await serve_asyncio(server, server.add_insecure_port(settings.address))


@contextmanager
def collector() -> Iterator[str]:
    """Starts a trace collector in a process of its own, and yields its address."""
    module = "production.development.trace_collector"
    command = [sys.executable, "-m", module, "--address=127.0.0.1:0"]
    with child.server(command) as (_, address):
        yield address


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve a part of ContactService.")
    parser.add_argument("variant", choices=VARIANTS)
    args = parser.parse_args()
    logs.set_up("json")
    with seeded_database() as (database, url):
        settings = Settings(address=ADDRESS, plaintext=True, database=url, drain_pause=0)
        start = partial(contacts_server.start, settings)
        if args.variant == "whole":
            asyncio.run(process.serve(start, settings))
        elif args.variant == "traced":
            with collector() as address:
                os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://{address}"
                end_tracing = tracing.set_up("benchmark")
                asyncio.run(process.serve(start, settings))
                end_tracing()
        else:
            asyncio.run(serve_part(args.variant, settings, database))


if __name__ == "__main__":
    main()
