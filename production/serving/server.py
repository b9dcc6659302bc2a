"""A gRPC server with health, reflection and admin servers, and how it drains."""

import asyncio
import sys
from collections.abc import Callable, Sequence

import grpc
from grpc_channelz.v1 import channelz, channelz_pb2
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from production.serving.layers.adapter import Interceptor
from production.serving.layers.deadline import Deadline
from production.serving.observability import health
from production.serving.observability.health import HealthServicer
from production.serving.security import tls
from production.serving.settings import Settings

MAX_MESSAGE_BYTES = 1 << 20
OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # Calls on one connection; further ones wait in the client. Without the second option gRPC
    # counts a stream until Python has let go of it, so a client that keeps to the limit is refused.
    ("grpc.max_concurrent_streams", 100),
    ("grpc.http.overload_protection", 0),
    ("grpc.server_handshake_timeout_ms", 10_000),
    # Bytes of metadata. By default gRPC refuses at random between a soft limit of 8 KiB and 16 KiB.
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.absolute_max_metadata_size", 16 * 1024),
    # By default gRPC grows the window of a stream with the bandwidth: 1,000 requests of 1 MB took
    # 1.3 GB. This keeps it at 64 KiB per stream, and so per round trip.
    ("grpc.http2.bdp_probe", 0),
    # Detect dead clients, and allow clients to detect a dead server: they may ping every 10 s (ours
    # do every 20). gRPC's default is 5 minutes; it answers more pings with too_many_pings.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.http2.ping_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_connection_idle_ms", 15 * 60_000),
    # After the age of a connection, which is a setting. Nothing else ends a call whose caller
    # neither reads nor leaves: gRPC sends the status after the messages that wait to be read.
    ("grpc.max_connection_age_grace_ms", 60_000),
]


class Server:
    """A server for one or more services. Add their servicers to `grpc`, then start it."""

    def __init__(
        self,
        settings: Settings,
        services: Sequence[str],
        interceptor: Interceptor,
        deadline: Deadline,
        *,
        shares_port: bool = False,
    ) -> None:
        """services are their full names; deadline is the layer that ends watches.

        If shares_port is set, other processes may listen on the same port.
        """
        self._settings = settings
        self._files = settings.certificate, settings.key, settings.client_ca
        self._deadline = deadline
        self._health = HealthServicer(services)
        self._options = [
            # By default a second server could share the port without an error.
            ("grpc.so_reuseport", int(shares_port)),
            # Clients reconnect, and so find new servers.
            ("grpc.max_connection_age_ms", int(settings.connection_age * 1000)),
            *OPTIONS,
        ]
        self.grpc = grpc.aio.server(interceptors=[interceptor], options=self._options)
        self._admin_servers: list[grpc.aio.Server] = []
        self.health_port = self.channelz_port = 0
        self._add_health(self.grpc)
        names = (*services, health.NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self.grpc)

    async def start(self) -> int:
        """Serves; returns the port. Raises RuntimeError if it is unavailable, CertificateError."""
        try:
            port = self._listen()
            self.health_port = await self._open(self._settings.health_address, self._add_health)
            self.channelz_port = await self._open(self._settings.channelz_address, add_channelz)
            await self.grpc.start()
        except BaseException:
            for server in (self.grpc, *self._admin_servers):
                await server.stop(None)
            raise
        servers = (self.grpc, *self._admin_servers)
        self._watching = [asyncio.create_task(end_process_if_it_fails(each)) for each in servers]
        return port

    async def reload(self, _fresh: Settings) -> None:
        """Checks the certificate files, which each new connection reads if they have changed.

        Raises CertificateError.
        """
        if not self._settings.plaintext:
            tls.CertificateFiles(*self._files).load()

    async def stop(self) -> None:
        """Drains: reports NOT_SERVING, waits until balancers see it, ends watches, then calls."""
        self._health.drain()
        await asyncio.sleep(self._settings.drain_pause)
        self._deadline.end_watches()
        await self.grpc.stop(self._settings.grace)
        for server in self._admin_servers:
            await server.stop(None)

    def _listen(self) -> int:
        address = self._settings.address
        if self._settings.plaintext:
            return self.grpc.add_insecure_port(address)
        return self.grpc.add_secure_port(address, tls.server_credentials(*self._files))

    async def _open(self, address: str | None, add: Callable[[grpc.aio.Server], None]) -> int:
        """Starts an admin server, in plaintext, if it has an address; returns its port."""
        if not address:
            return 0
        server = grpc.aio.server(options=self._options)
        self._admin_servers.append(server)
        add(server)
        port = server.add_insecure_port(address)
        await server.start()
        return port

    def _add_health(self, server: grpc.aio.Server) -> None:
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)


async def end_process_if_it_fails(server: grpc.aio.Server) -> None:
    """Ends the process if gRPC ends the server, so that whatever watches it starts it again.

    grpc.aio does so, and the process would stay, at a call whose path is not UTF-8.
    """
    try:
        await server.wait_for_termination()
    except Exception as error:  # noqa: BLE001 - whatever it is, the server is gone.
        sys.exit(f"error: gRPC has ended the server: {type(error).__name__}")


def add_channelz(server: grpc.aio.Server) -> None:
    """Adds channelz, which lists the channels, servers and sockets of this process."""
    channelz.add_channelz_servicer(server)
    name = channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].full_name
    reflection.enable_server_reflection((name, reflection.SERVICE_NAME), server)
