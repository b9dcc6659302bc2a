"""ContactService, as it could run in production.

Run it, then call it from a second terminal:

    CONTACTS_ADDRESS=127.0.0.1:50051 python -m production.contacts_server --plaintext
    python -m production.contacts_client --address localhost:50051 --plaintext list

Settings come from the environment: `python -m production.contacts_server --help` lists them.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
import structlog
from grpc_channelz.v1 import channelz, channelz_pb2
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from production import (
    authentication,
    health,
    interceptors,
    logs,
    metrics,
    settings,
    tls,
    tracing,
)
from production.authentication import Authentication, Nonces, Scheme
from production.contacts_servicer import ContactServicer
from production.database import Database
from production.health import HealthServicer
from production.interceptors import Admission, Deadline, Interceptor
from production.settings import Settings
from production.signatures import load_keys
from production.tokens import Verifier
from production.v1 import contacts_pb2
from production.v1.contacts_pb2_grpc import add_ContactServiceServicer_to_server

SERVICE = contacts_pb2.DESCRIPTOR.services_by_name["ContactService"].full_name
MAX_MESSAGE_BYTES = 1 << 20
OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_concurrent_streams", 100),  # On one connection; a client opens more if it must.
    ("grpc.server_handshake_timeout_ms", 10_000),
    # One limit for metadata, in bytes; between gRPC's own two, 8 and 16 KiB, it refuses at random.
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.absolute_max_metadata_size", 16 * 1024),
    # By default gRPC buffers more and more of each request, as much as the line could carry: 1,000
    # requests of 1 MB took 1.3 GB. This keeps it at 64 KiB a stream, and per round trip.
    ("grpc.http2.bdp_probe", 0),
    # Find dead clients, and let clients find us dead: they may ping every 10 s (the client does
    # every 20), where gRPC's default is 5 minutes and answers more with too_many_pings.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.http2.ping_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_connection_idle_ms", 15 * 60_000),
    # Clients come back, and find new servers. It is also the only end of a call whose caller
    # neither reads nor leaves: gRPC sends a status after the messages that wait to be read.
    ("grpc.max_connection_age_ms", 30 * 60_000),
    ("grpc.max_connection_age_grace_ms", 60_000),
]
STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}

log = structlog.get_logger("server")


class ContactsServer:
    """A running server, and what it takes to stop it well."""

    def __init__(self, settings: Settings, *, shares_port: bool = False) -> None:
        """With shares_port other processes may listen on the same port."""
        self._settings = settings
        self._database = Database(settings.database, connections=settings.connections)
        self._threads = ThreadPoolExecutor(settings.connections, thread_name_prefix="database")
        self._health = HealthServicer([SERVICE])
        self._deadline = Deadline(settings.default_deadline, settings.max_deadline)
        self._verifier = Verifier(settings.issuers or ())
        interceptor = Interceptor(
            interceptors.observe,
            interceptors.errors,
            Authentication(*self._schemes(), settings.log_secret),
            Admission(settings.max_calls, settings.max_watches),
            self._deadline,
            Nonces(self._database, self._threads),
        )
        # By default a second server could share the port unnoticed.
        self._options = [("grpc.so_reuseport", int(shares_port)), *OPTIONS]
        self._server = grpc.aio.server(interceptors=[interceptor], options=self._options)
        self._side_doors: list[grpc.aio.Server] = []
        self.health_port = self.channelz_port = 0
        add_ContactServiceServicer_to_server(
            ContactServicer(self._database, self._threads), self._server
        )
        self._add_health(self._server)
        names = (SERVICE, health.NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    async def start(self) -> int:
        """Brings the database up to date and serves; returns the port.

        Raises RuntimeError when the address cannot be had or the database is of a newer program,
        sqlalchemy.exc.OperationalError when the database cannot be used, CertificateError.
        """
        try:
            return await self._start()
        except BaseException:
            self._database.close()
            raise

    async def _start(self) -> int:
        await asyncio.to_thread(self._database.migrate)
        port = self._listen()
        self.health_port = await self._open(self._settings.health_address, self._add_health)
        self.channelz_port = await self._open(self._settings.channelz_address, add_channelz)
        await self._server.start()
        return port

    async def _open(self, address: str | None, add: Callable[[grpc.aio.Server], None]) -> int:
        """A server beside the main one, in plaintext, if it has an address; returns its port."""
        if not address:
            return 0
        server = grpc.aio.server(options=self._options)
        add(server)
        port = server.add_insecure_port(address)
        await server.start()
        self._side_doors.append(server)
        return port

    def _add_health(self, server: grpc.aio.Server) -> None:
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)

    def _schemes(self) -> tuple[list[Scheme], Scheme]:
        """How callers may show who they are, and who they are if they do not."""
        schemes: list[Scheme] = []
        if self._settings.issuers:
            schemes.append(authentication.bearer(self._verifier))
        if self._settings.api_keys:
            keys = load_keys(self._settings.api_keys)
            schemes.append(authentication.signed(keys, self._settings.audience))
        if self._settings.client_ca:
            return schemes, authentication.certificate
        return schemes, authentication.nobody if schemes else authentication.development

    def _listen(self) -> int:
        address = self._settings.address
        if self._settings.plaintext:
            return self._server.add_insecure_port(address)
        files = self._settings.certificate, self._settings.key, self._settings.client_ca
        return self._server.add_secure_port(address, tls.server_credentials(*files))

    async def stop(self) -> None:
        """Drains: says NOT_SERVING, waits for balancers to see it, ends watches, lets calls end."""
        self._health.drain()
        await asyncio.sleep(self._settings.drain_pause)
        self._deadline.end_watches()
        await self._server.stop(self._settings.grace)
        for server in self._side_doors:
            await server.stop(None)
        await self._verifier.close()
        await asyncio.to_thread(self._threads.shutdown)
        self._database.close()


def add_channelz(server: grpc.aio.Server) -> None:
    """Shows what gRPC knows of this process: its channels, servers, sockets."""
    channelz.add_channelz_servicer(server)
    name = channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].full_name
    reflection.enable_server_reflection((name, reflection.SERVICE_NAME), server)


async def start(settings: Settings, *, shares_port: bool = False) -> tuple[ContactsServer, int]:
    """Starts a server; returns it and its port. Raises as ContactsServer.start does."""
    server = ContactsServer(settings, shares_port=shares_port)
    return server, await server.start()


async def serve(settings: Settings, *, is_worker: bool = False) -> None:
    """Serves until SIGINT or SIGTERM, then drains. A second signal ends the process at once.

    SIGUSR1 switches the level of the log. A worker shares its port with others, and drains
    when its supervisor dies, too.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, logs.threshold.switch)
    if is_worker:
        loop.add_reader(sys.stdin, stop.set)
    host, _, port = settings.address.rpartition(":")
    try:
        # Asked first because it says why an address cannot be had; gRPC does not.
        if not is_worker:
            socket.create_server((host, int(port))).close()
        server, bound = await start(settings, shares_port=is_worker)
        # With several workers the supervisor tells the metrics of all.
        telling = None if is_worker else await metrics.serve(settings.metrics_address)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is why we cannot start.
        sys.exit(f"error: {str(error).splitlines()[0]}")
    print(f"listening on {host}:{bound}", flush=True)
    await stop.wait()
    if is_worker:
        loop.remove_reader(sys.stdin)
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    log.info("draining", pause=settings.drain_pause, grace=settings.grace)
    await server.stop()
    if telling:
        await telling.cleanup()
    log.info("stopped")


def main() -> None:
    loaded, args = settings.from_command_line()
    if loaded.workers > 1 and not args.worker:
        # In the place of this process: who supervises others must not have loaded gRPC.
        command = [sys.executable, "-m", "production.supervisor", *sys.argv[1:]]
        os.execv(sys.executable, command)  # noqa: S606 - the command is our own.
    logs.set_up(loaded.log, loaded.log_level)
    end_tracing = tracing.set_up("contacts-server")
    asyncio.run(serve(loaded, is_worker=args.worker))
    end_tracing()


if __name__ == "__main__":
    main()
