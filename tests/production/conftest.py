"""Databases to test on, and servers with TLS. PostgreSQL is absent without its programs."""

import grpc
import pytest

from production.contacts import servicer
from production.contacts.changes import Changes
from production.contacts.contacts import Contacts
from production.contacts.database import connect
from production.contacts.settings import Settings
from production.contacts_client import ContactsClient
from production.contacts_server import start
from production.development import certificates
from production.development.fixtures import new_database
from tests.production.tokens import AUDIENCE, ISSUER, Provider


@pytest.fixture(autouse=True, scope="session")
def log(log_to_logging):
    """Log lines go where pytest collects them."""


@pytest.fixture
def another_postgresql_url(postgresql):
    return new_database(postgresql)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """The URL of a new, empty database, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/contacts.db"
    return request.getfixturevalue("postgresql_url")


@pytest.fixture
def database(url):
    database = connect(url)
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def contacts(database):
    return Contacts(database)


@pytest.fixture
def changes(database):
    return Changes(database)


@pytest.fixture
def use_settings(run_async):
    """use_settings(SETTINGS, coroutine function) gives it a client of a server with these."""

    def use_settings(settings, work):
        async def with_server():
            server, port = await start(settings)
            try:
                async with ContactsClient(f"127.0.0.1:{port}", None) as client:
                    return await work(client)
            finally:
                await server.stop()

        return run_async(with_server())

    return use_settings


@pytest.fixture(scope="session")
def certs(tmp_path_factory):
    """A folder with all certificates of the chapter."""
    folder = tmp_path_factory.mktemp("certs")
    certificates.make(folder)
    return folder


@pytest.fixture
def issuers(serve):
    """The table with one issuer, whose keys are served over real HTTP."""
    address = serve(Provider().start)
    return [{"issuer": ISSUER, "audience": AUDIENCE, "jwks": f"http://{address}/jwks"}]


@pytest.fixture
def serve_tls(certs, tmp_path, run_async):
    """serve_tls(SETTING=...) starts a server with TLS and gives its address."""
    servers = []

    def serve_tls(name="server", **changes):
        settings = {
            "address": "127.0.0.1:0",
            "certificate": certs / f"{name}.pem",
            "key": certs / f"{name}.key",
            "database": f"sqlite:///{tmp_path}/contacts.db",
            "drain_pause": 0,
        }
        server, port = run_async(start(Settings(**settings | changes)))
        servers.append(server)
        return f"localhost:{port}"

    yield serve_tls
    for server in servers:
        run_async(server.stop())


@pytest.fixture
def touched(monkeypatch):
    """Requests that have come as far as the servicer."""
    requests = []
    original = servicer.ContactServicer.ListContacts

    async def listed(self, request, context):
        requests.append(request)
        return await original(self, request, context)

    monkeypatch.setattr(servicer.ContactServicer, "ListContacts", listed)
    return requests


def channel(address, certs, key=None, certificate=None, options=()):
    credentials = grpc.ssl_channel_credentials((certs / "ca.pem").read_bytes(), key, certificate)
    return grpc.secure_channel(address, credentials, options)
