"""Databases, certificates and servers to test on. PostgreSQL is absent without its programs."""

import pytest

from production.development import certificates, issuer
from production.starter.access import TRUST_DOMAIN
from production.starter.database import connect
from production.starter.parcels_server import start
from production.starter.settings import Settings


@pytest.fixture(autouse=True, scope="session")
def log(log_to_logging):
    """Log lines go where pytest collects them."""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """The URL of a new, empty database, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/parcels.db"
    return request.getfixturevalue("postgresql_url")


@pytest.fixture
def migrated(url):
    """The URL of a new database with the tables."""
    database = connect(url)
    database.migrate()
    database.close()
    return url


@pytest.fixture(scope="session")
def certs(tmp_path_factory):
    """A folder with certificates of an authority, the server and its callers."""
    folder = tmp_path_factory.mktemp("certs")
    certificates.make(folder, TRUST_DOMAIN)
    return folder


@pytest.fixture
def tokens(run_async):
    """A running issuer of tokens for this service."""
    started, _ = run_async(issuer.start("127.0.0.1:0", "parcels"))
    yield started
    run_async(started.stop())


@pytest.fixture
def serve(run_async, tmp_path):
    """serve(SETTING=...) starts a server and gives it with its address; it stops with the test."""
    servers = []

    def serve(**chosen):
        settings = {
            "address": "127.0.0.1:0",
            "database": f"sqlite:///{tmp_path}/parcels.db",
            "drain_pause": 0,
        }
        server, port = run_async(start(Settings(**settings | chosen)))
        servers.append(server)
        return server, f"localhost:{port}"

    yield serve
    for server in servers:
        run_async(server.stop())
