"""PostgreSQL on hosts of their own, with replication between them, as an operator sets it up."""

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psycopg

from production.development import child, programs
from scaling.hosts.network import Host

PORT = 5432
NAME = "contacts"
USER = "nobody"
ACCESS = "host all,replication all 10.0.0.0/8 trust\n"
"""A rule of PostgreSQL's host-based authentication. It asks for no password, because
nobody else is in this network."""
SETTINGS = (
    "dynamic_shared_memory_type=mmap",  # In its folder, so that nothing can be left elsewhere.
    "listen_addresses=*",
)


class Database(NamedTuple):
    """A running server, a primary or a standby."""

    host: Host
    data: Path
    process: subprocess.Popen[str]

    def rows(self, statement: str, name: str = "postgres") -> list[tuple[object, ...]]:
        """Runs a statement in a transaction of its own, in the database of that name; returns its
        rows. Raises psycopg.Error."""
        where = f"host={self.host.address} port={PORT} user={USER} dbname={name} connect_timeout=5"
        with psycopg.connect(where, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def promote(self) -> None:
        """Makes a standby the primary, and waits until it is."""
        pg_ctl = programs.find("pg_ctl")
        self.host.run(*as_user(self.data.parent, pg_ctl, "promote", "-D", str(self.data)))


def url(*databases: Database) -> str:
    """Returns the URL of the database on whichever of these servers takes writes."""
    hosts = "&".join(f"host={each.host.address}:{PORT}" for each in databases)
    return f"postgresql+psycopg://{USER}@/{NAME}?{hosts}&target_session_attrs=read-write"


@contextmanager
def running(host: Host, folder: Path, standby_of: Database | None = None) -> Iterator[Database]:
    """Runs PostgreSQL on a host for a block: with an empty database, or as a standby of another.

    Raises subprocess.CalledProcessError, and RuntimeError if it does not start.
    """
    data = folder / host.name
    if standby_of:
        primary = f"host={standby_of.host.address} port={PORT} user={USER}"
        flags = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "-d", primary]
        host.run(*as_user(folder, programs.find("pg_basebackup"), *flags, "-D", str(data)))
    else:
        flags = ["--no-sync", "--auth=trust", f"--username={USER}", "-D", str(data)]
        host.run(*as_user(folder, programs.find("initdb"), *flags))
        with (data / "pg_hba.conf").open("a") as access:
            access.write(ACCESS)
    settings = [word for setting in SETTINGS for word in ("-c", setting)]
    command = [programs.find("postgres"), "-D", str(data), "-k", "", *settings]
    with (
        (folder / f"{host.name}.log").open("w") as log,
        child.child(
            host.command(*as_user(folder, *command)),
            ended_by=signal.SIGQUIT,  # At once, whoever is cut off.
            stdin=subprocess.DEVNULL,  # A backend whose postmaster was killed may read it.
            stdout=log,
            stderr=log,
        ) as process,
    ):
        started = Database(host, data, process)
        _wait_until_ready(started)
        if not standby_of:
            started.rows(f"CREATE DATABASE {NAME}")
        yield started


def as_user(folder: Path, *command: str) -> list[str]:
    """Returns the command that runs another one as the owner of folder: PostgreSQL refuses root."""
    nobody = pwd.getpwnam(USER)
    if _is_only_user():
        user = ["unshare", "--user", f"--map-user={nobody.pw_uid}", f"--map-group={nobody.pw_gid}"]
    else:
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        user = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    # A change of user forgets that the process is to end with us.
    return [
        programs.find(user[0]),
        *user[1:],
        programs.find("setpriv"),
        "--pdeathsig=KILL",
        *command,
    ]


def _is_only_user() -> bool:
    """Tells whether this is a namespace in which there is no user but root, who is really us."""
    return Path("/proc/self/uid_map").read_text().split()[2] == "1"


def _wait_until_ready(database: Database) -> None:
    ends = time.monotonic() + child.START_SECONDS
    while database.process.poll() is None and time.monotonic() < ends:
        with suppress(psycopg.OperationalError):
            database.rows("SELECT 1")
            return
        time.sleep(0.05)
    log = database.data.parent / f"{database.host.name}.log"
    raise RuntimeError(f"PostgreSQL does not start: {log.read_text().strip()}")


def wait_for(database: Database, statement: str, expected: Sequence[object]) -> None:
    """Waits until a statement returns one row, the one expected. Raises RuntimeError after 60 s."""
    ends = time.monotonic() + child.START_SECONDS
    while time.monotonic() < ends:
        if database.rows(statement) == [tuple(expected)]:
            return
        time.sleep(0.05)
    raise RuntimeError(f"{statement}: still not {expected}")
