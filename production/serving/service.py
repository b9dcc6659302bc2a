"""Puts a service together: ways to authenticate, layers, database and server."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from production.serving.layers.adapter import Interceptor
from production.serving.layers.admission import Admission, Reading, Room
from production.serving.layers.deadline import Deadline
from production.serving.layers.errors import Errors, Table
from production.serving.layers.observe import observe
from production.serving.observability import metrics
from production.serving.security import authentication
from production.serving.security.authentication import Authentication, Nonces, Scheme
from production.serving.security.authorization import Access
from production.serving.security.signatures import Keys, load_keys
from production.serving.security.tls import role_prefix
from production.serving.security.tokens import Verifier
from production.serving.server import Server
from production.serving.settings import Settings
from production.serving.storage.database import Database


class Definition(NamedTuple):
    """What a service is, beside its settings and its servicers."""

    names: Sequence[str]
    """The full names of its services."""
    access: Access
    domain: str
    """The domain of the reasons in errors."""
    status_of: Table
    """The status of each exception of its own."""
    admission: metrics.Admission
    signature: str
    """The metadata that carries the signature of a call."""
    watches: Collection[str] = ()
    """The methods that last until the caller leaves or the server stops."""
    uploads: Collection[str] = ()
    """The methods whose requests are kept until they are complete."""


class Service:
    """A service that can be started and drained. Add its servicers to `server.grpc` before."""

    def __init__(
        self,
        settings: Settings,
        definition: Definition,
        database: Database,
        prepare: Callable[[Database], None],
        *,
        shares_port: bool = False,
    ) -> None:
        """prepare checks the database before the service starts.

        If shares_port is set, other processes may listen on the same port.
        """
        self._settings = settings
        self._definition = definition
        self._prepare = prepare
        self._keys: Keys = {}
        self._verifier = Verifier(settings.issuers or ())
        self._background: list[asyncio.Task[None]] = []
        self.database = database
        self.threads = ThreadPoolExecutor(settings.connections, thread_name_prefix="database")
        access, watches = definition.access, definition.watches
        deadline = Deadline(access, watches, settings.default_deadline, settings.max_deadline)
        interceptor = Interceptor(
            observe,
            Errors(definition.domain, definition.status_of),
            Authentication(access, *self._schemes(), settings.log_secret),
            Admission(access, self._rooms(), definition.admission),
            deadline,
            Nonces(database, self.threads),
            reading=Reading(access),
        )
        names = definition.names
        self.server = Server(settings, names, interceptor, deadline, shares_port=shares_port)

    def _rooms(self) -> dict[str, Room]:
        rooms = {
            "call": Room(self._settings.max_calls),
            "watch": Room(self._settings.max_watches, self._definition.watches),
        }
        if uploads := self._definition.uploads:
            rooms["upload"] = Room(self._settings.max_uploads, uploads)
        return rooms

    def _schemes(self) -> tuple[list[Scheme], Scheme]:
        """Returns the ways to authenticate, and the fallback for callers that use none."""
        settings, access = self._settings, self._definition.access
        schemes: list[Scheme] = []
        if settings.issuers:
            schemes.append(authentication.bearer(self._verifier))
        if settings.api_keys:
            self._keys = load_keys(settings.api_keys, settings.known_scopes)
            header = self._definition.signature
            schemes.append(authentication.signed(self._keys, settings.audience, header))
        if settings.client_ca:
            prefix = role_prefix(settings.trust_domain)
            return schemes, authentication.certificate(access.roles, prefix)
        if schemes:
            return schemes, authentication.nobody
        return schemes, authentication.everybody(access.developer)

    async def start(self) -> int:
        """Checks the database and serves; returns the port.

        Raises RuntimeError if the address is unavailable or the database has another schema,
        sqlalchemy.exc.DBAPIError if the database cannot be used, CertificateError.
        """
        try:
            await self.run(self._prepare, self.database)
            return await self.server.start()
        except BaseException:
            await self._close_database()
            raise

    async def run(self, work: Callable[..., object], *args: object) -> None:
        """Runs work in a thread that has ended before the database is closed, even if the task that
        waits for it is cancelled."""
        await asyncio.get_running_loop().run_in_executor(self.threads, work, *args)

    def run_until_stop(self, work: Coroutine[object, object, None]) -> None:
        """Runs work beside the calls; it is cancelled when the service has drained."""
        self._background.append(asyncio.create_task(work))

    async def reload(self, fresh: Settings) -> None:
        """Reads the API keys and the certificates again, and takes the issuers.

        If it raises OSError, ValueError or CertificateError, all that was in use stays.
        """
        keys = load_keys(fresh.api_keys, fresh.known_scopes) if fresh.api_keys else {}
        await self.server.reload(fresh)
        self._keys.clear()
        self._keys |= keys
        await self._verifier.replace(fresh.issuers or ())

    async def stop(self) -> None:
        """Drains the server, then closes its database and threads."""
        await self.server.stop()
        for task in self._background:
            task.cancel()
        await self._verifier.close()
        await self._close_database()

    async def _close_database(self) -> None:
        await asyncio.to_thread(self.threads.shutdown)
        self.database.close()
