"""Databases to test on: SQLite always, PostgreSQL where its programs are."""

import os

import pytest
import structlog
from sqlalchemy import create_engine, text

from production import development_postgresql
from production.changes import Changes
from production.contacts import Contacts
from production.database import Database


@pytest.fixture(autouse=True, scope="session")
def log_to_logging():
    """Log lines go where pytest collects them; a print would race with its capture of stdout."""
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.stdlib.render_to_log_kwargs],
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


@pytest.fixture(scope="session")
def postgresql():
    """The URL of a PostgreSQL of our own, with {} for a database's name."""
    try:
        with development_postgresql.running() as url:
            yield url
    except development_postgresql.AbsentError as error:
        if os.environ.get("TOUR_REQUIRE") == "all":
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


@pytest.fixture
def postgresql_url(postgresql):
    """The URL of a new, empty database of PostgreSQL."""
    name = f"test_{os.urandom(8).hex()}"
    admin = create_engine(postgresql.format("postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    admin.dispose()
    return postgresql.format(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """The URL of a new, empty database, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/contacts.db"
    return request.getfixturevalue("postgresql_url")


@pytest.fixture
def database(url):
    database = Database(url)
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def contacts(database):
    return Contacts(database)


@pytest.fixture
def changes(database):
    return Changes(database)
