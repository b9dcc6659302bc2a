"""ParcelService: settings, layers, database and server, put together.

Run it, then call it from a second terminal:

    python -m production.starter.parcels_server --plaintext
    python -m production.starter.parcels_client --plaintext list

Settings come from the environment. --help lists them.
"""

import os
import sys
from contextlib import closing
from functools import partial

from sqlalchemy.exc import DBAPIError

import production.serving.observability.grpc_verbosity  # noqa: F401 - first, before gRPC.
from production.serving import process
from production.serving import settings as base
from production.serving.observability import metrics
from production.serving.service import Definition, Service
from production.starter import errors, settings
from production.starter.access import ACCESS, SIGNATURE, WATCHES
from production.starter.database import connect, prepare
from production.starter.servicer import ParcelServicer
from production.starter.settings import Settings
from production.starter.v1 import parcels_pb2
from production.starter.v1.parcels_pb2_grpc import add_ParcelServiceServicer_to_server

SERVICE = parcels_pb2.DESCRIPTOR.services_by_name["ParcelService"].full_name
DEFINITION = Definition(
    names=[SERVICE],
    access=ACCESS,
    domain=errors.DOMAIN,
    status_of=errors.status_of,
    admission=metrics.admission("parcels"),
    signature=SIGNATURE,
    watches=WATCHES,
)


async def start(settings: Settings, shares_port: bool = False) -> tuple[Service, int]:
    """Starts a server; returns it and its port. Raises as Service.start does."""
    database = connect(settings.database, settings.connections)
    service = Service(settings, DEFINITION, database, prepare, shares_port=shares_port)
    servicer = ParcelServicer(database, service.threads, settings.max_parcels)
    add_ParcelServiceServicer_to_server(servicer, service.server.grpc)
    return service, await service.start()


def migrate() -> None:
    """Brings the tables up to date. Exits with an error if that fails."""
    try:
        chosen = base.load(Settings, plaintext=True, address="127.0.0.1:0", client_ca=None)
        with closing(connect(chosen.database)) as database:
            print(f"the database has schema version {database.migrate()}")
    except (DBAPIError, RuntimeError, ValueError) as error:
        sys.exit(f"error: {str(error).splitlines()[0]}")


def main() -> None:
    if sys.argv[1:] == ["migrate"]:
        migrate()
        return
    loaded, args = settings.from_command_line()
    if loaded.workers > 1 and not args.worker:
        # Replace this process: a supervisor must not have loaded gRPC.
        command = [sys.executable, "-m", "production.starter.supervisor", *sys.argv[1:]]
        os.execv(sys.executable, command)  # noqa: S606 - the command is our own.
    process.run(partial(start, loaded), loaded, "parcels-server", is_worker=args.worker)


if __name__ == "__main__":
    main()
