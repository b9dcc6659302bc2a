"""Databases to test on: SQLite always, PostgreSQL where its programs are."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest
import structlog
from sqlalchemy import create_engine, text

from production.changes import Changes
from production.contacts import Contacts
from production.database import Database

# Debian keeps PostgreSQL's programs off the PATH.
POSTGRES_PATH = os.pathsep.join(
    [os.environ["PATH"], *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin")))]
)


@pytest.fixture(autouse=True, scope="session")
def log_to_logging():
    """Log lines go where pytest collects them; a print would race with its capture of stdout."""
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.stdlib.render_to_log_kwargs],
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


@pytest.fixture(scope="session")
def postgresql():
    """The URL of a PostgreSQL of our own, which listens on a Unix socket only."""
    initdb, postgres = (shutil.which(name, path=POSTGRES_PATH) for name in ("initdb", "postgres"))
    if not (initdb and postgres):
        if os.environ.get("TOUR_REQUIRE") == "all":
            pytest.fail("PostgreSQL is absent: apt install postgresql", pytrace=False)
        pytest.skip("absent: PostgreSQL (apt install postgresql)")
    as_user = []
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # Short: a socket's path may have 100 characters.
    try:
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root.
            # Not Popen's own `user`, which forks: gRPC's threads do not survive a fork.
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            ids = f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}"
            as_user = ["setpriv", *ids, "--clear-groups", "--"]
        data = folder / "data"
        command = [initdb, "--no-sync", "--auth=trust", "--username=postgres", "-D", data]
        subprocess.run([*as_user, *command], check=True, stdout=subprocess.DEVNULL, cwd=folder)
        command = [postgres, "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"]
        with subprocess.Popen(
            [*as_user, *command], stderr=subprocess.PIPE, text=True, cwd=folder
        ) as process:
            for line in process.stderr:
                if "ready to accept connections" in line:
                    break
            # Goes on reading: a full pipe would stop the database.
            threading.Thread(target=process.stderr.read).start()
            yield f"postgresql+psycopg://postgres@/{{}}?host={folder}"
            process.send_signal(signal.SIGINT)  # Ends it although connections are open.
    finally:
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """The URL of a new, empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/contacts.db"
        return
    template = request.getfixturevalue("postgresql")
    name = f"test_{os.urandom(8).hex()}"
    admin = create_engine(template.format("postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield template.format(name)
    admin.dispose()


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
