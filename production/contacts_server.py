"""ContactService, as it could run in production.

Run it, then call it from a second terminal:

    CONTACTS_ADDRESS=127.0.0.1:50051 python -m production.contacts_server --plaintext
    python -m production.contacts_client --address localhost:50051 --plaintext list

Settings come from the environment: `python -m production.contacts_server --help` lists them, and
the commands that work on the database instead of serving.
"""

import asyncio
import os
import sys
from functools import partial

import structlog
from sqlalchemy.exc import SQLAlchemyError

import production.serving.observability.grpc_verbosity  # noqa: F401 - first, before gRPC.
from production.contacts import commands, errors, settings
from production.contacts.access import ACCESS, SIGNATURE, UPLOADS, WATCHES
from production.contacts.database import connect, prepare
from production.contacts.quota import Quota
from production.contacts.retention import sweep
from production.contacts.servicer import ContactServicer
from production.contacts.servicer_v2 import ContactServicerV2
from production.contacts.settings import Settings
from production.serving import process
from production.serving.observability import metrics
from production.serving.service import Definition, Service
from production.v1 import contacts_pb2, contacts_pb2_grpc
from production.v2 import contacts_pb2 as v2
from production.v2 import contacts_pb2_grpc as v2_grpc

SERVICE = contacts_pb2.DESCRIPTOR.services_by_name["ContactService"].full_name
SERVICE_V2 = v2.DESCRIPTOR.services_by_name["ContactService"].full_name
ADMISSION = metrics.admission("contacts")
DEFINITION = Definition(
    names=(SERVICE, SERVICE_V2),
    access=ACCESS,
    domain=errors.DOMAIN,
    status_of=errors.status_of,
    admission=ADMISSION,
    signature=SIGNATURE,
    watches=WATCHES,
    uploads=UPLOADS,
)
SWEEP_DELAY_S, SWEEP_INTERVAL_S = 60, 3_600

log = structlog.get_logger("server")


def assemble(settings: Settings, shares_port: bool = False) -> Service:
    """Returns the service, with the servicers of both versions of its contract."""
    database = connect(settings.database, settings.connections)
    service = Service(settings, DEFINITION, database, prepare, shares_port=shares_port)
    quota = Quota(settings.max_contacts, settings.max_contact_bytes)
    contacts_pb2_grpc.add_ContactServiceServicer_to_server(
        ContactServicer(database, service.threads, quota), service.server.grpc
    )
    v2_grpc.add_ContactServiceServicer_to_server(
        ContactServicerV2(database, service.threads, quota), service.server.grpc
    )
    return service


async def start(settings: Settings, shares_port: bool = False) -> tuple[Service, int]:
    """Starts a server; returns it and its port. Raises as Service.start does."""
    service = assemble(settings, shares_port)
    port = await service.start()
    service.run_until_stop(sweep_often(service, settings.kept_days))
    return service, port


async def sweep_often(service: Service, kept_days: int) -> None:
    """Removes what has been kept for long enough, soon after the start and every hour."""
    await asyncio.sleep(SWEEP_DELAY_S)
    while True:
        try:
            await service.run(sweep, service.database, kept_days)
        except SQLAlchemyError as error:
            log.warning("old data was not removed", reason=str(error).splitlines()[0])
        await asyncio.sleep(SWEEP_INTERVAL_S)


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] in commands.COMMANDS:
        commands.run(sys.argv[1:])
        return
    loaded, args = settings.from_command_line()
    if loaded.workers > 1 and not args.worker:
        # Replace this process: a supervisor must not have loaded gRPC.
        command = [sys.executable, "-m", "production.contacts.supervisor", *sys.argv[1:]]
        os.execv(sys.executable, command)  # noqa: S606 - the command is our own.
    process.run(partial(start, loaded), loaded, "contacts-server", is_worker=args.worker)


if __name__ == "__main__":
    main()
