"""The tables, how they came to be, and transactions that keep their word on both databases.

SQLite and PostgreSQL run the same statements; what differs between them is in this module.
"""

import math
import sqlite3
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from production import metrics, tracing

MIGRATIONS = [
    # One entry a release, never changed once released; {bytes} and {text} are the database's types.
    """
    CREATE TABLE contacts (
        owner {text} NOT NULL,
        contact_id {text} NOT NULL,
        name_key {text} NOT NULL,
        person {bytes} NOT NULL,
        revision BIGINT NOT NULL,
        created_us BIGINT NOT NULL,
        updated_us BIGINT NOT NULL,
        PRIMARY KEY (owner, contact_id)
    );
    CREATE INDEX contacts_by_name ON contacts (owner, name_key, contact_id);
    CREATE TABLE owners (
        owner {text} NOT NULL PRIMARY KEY,
        position BIGINT NOT NULL
    );
    CREATE TABLE changes (
        owner {text} NOT NULL,
        position BIGINT NOT NULL,
        change {bytes} NOT NULL,
        PRIMARY KEY (owner, position)
    );
    CREATE TABLE requests (
        owner {text} NOT NULL,
        request_id {text} NOT NULL,
        fingerprint {bytes} NOT NULL,
        response {bytes} NOT NULL,
        created_us BIGINT NOT NULL,
        PRIMARY KEY (owner, request_id)
    );
    CREATE INDEX requests_by_age ON requests (created_us);
    """,
    """
    CREATE TABLE nonces (
        key_id {text} NOT NULL,
        nonce {text} NOT NULL,
        expires BIGINT NOT NULL,
        PRIMARY KEY (key_id, nonce)
    );
    CREATE INDEX nonces_by_age ON nonces (expires);
    """,
]
# Text is compared by code point on both, so that a prefix is a range and pages have one order.
TYPES = {
    "sqlite": {"text": "TEXT", "bytes": "BLOB"},
    "postgresql": {"text": 'TEXT COLLATE "C"', "bytes": "BYTEA"},
}
MIGRATION_LOCK = 0x67525043
"""Any number, the same in every process: PostgreSQL's advisory lock while migrating."""
POSTGRESQL = {
    # Seconds and, for tcp_user_timeout, milliseconds, after which a silent database is given up:
    # by default a thread could wait for a quarter of an hour, and more.
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""What libpq is told: https://www.postgresql.org/docs/current/libpq-connect.html."""
SQLITE_WAIT_MS = 5_000
"""How long a writer waits for another writer of an SQLite file, at most."""
SQLITE_STEPS = 10_000
"""Instructions of SQLite's machine, some 0.1 ms, after which a statement looks at its limit."""


class TimeLimit:
    """How long the database may work for one call: threads cannot be stopped, statements can."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds, at least 0; math.inf when there is no limit."""
        return max(0.0, self._ends - time.monotonic())

    def end(self) -> None:
        """Ends the time now, from any thread: nobody waits for the work any more."""
        self._ends = -math.inf

    def check(self) -> None:
        """Raises TimeoutError when no time is left."""
        if not self.remaining():
            raise TimeoutError


UNLIMITED = TimeLimit(math.inf)
time_limit: ContextVar[TimeLimit] = ContextVar("time_limit", default=UNLIMITED)
"""The limit of the call that is being answered."""


@contextmanager
def time_limited(seconds: float) -> Iterator[None]:
    """What the database does for this block ends with it, and after so many seconds at most."""
    limit = TimeLimit(seconds)
    token = time_limit.set(limit)
    try:
        yield
    finally:
        limit.end()
        time_limit.reset(token)


class Database:
    """Where contacts are kept: sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME."""

    def __init__(self, url: str, *, connections: int = 8) -> None:
        """Raises ValueError for another kind of URL. Connects when first used."""
        self.kind = make_url(url).get_backend_name()
        if self.kind not in TYPES:
            raise ValueError(f"a database is sqlite or postgresql, not {self.kind}")
        self._engine = create_engine(
            url,
            pool_size=connections,
            max_overflow=0,
            hide_parameters=True,
            connect_args=POSTGRESQL if self.kind == "postgresql" else {},
        )
        if self.kind == "sqlite":
            event.listen(self._engine, "connect", _prepare_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)
        else:
            event.listen(self._engine, "begin", _begin_postgresql)
        event.listen(self._engine, "before_cursor_execute", lambda *_: time_limit.get().check())
        self._writer = self._engine.execution_options(writes=True)

    def migrate(self) -> None:
        """Brings the tables up to date; safe when several processes start at once."""
        with self.write() as connection:
            if self.kind == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
            connection.execute(
                text("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
            )
            done = connection.execute(text("SELECT max(version) FROM schema_version")).scalar() or 0
            if done > len(MIGRATIONS):
                raise RuntimeError(f"the database is of version {done}, newer than this program")
            for version, migration in enumerate(MIGRATIONS[done:], done + 1):
                for statement in migration.format(**TYPES[self.kind]).split(";"):
                    if statement.strip():
                        connection.execute(text(statement))
                connection.execute(
                    text("INSERT INTO schema_version (version) VALUES (:version)"),
                    {"version": version},
                )

    def read(self) -> AbstractContextManager[Connection]:
        """A transaction that only reads. It waits for nobody. Raises as write does."""
        return _transaction(self._engine, "read")

    def write(self) -> AbstractContextManager[Connection]:
        """A transaction that may write; it is committed, durably, when its block ends well.

        Raises TimeoutError, and writes nothing, when the call's time limit passes before that.
        """
        return _transaction(self._writer, "write")

    def close(self) -> None:
        """Closes all connections."""
        self._engine.dispose()


@contextmanager
def _transaction(engine: Engine, kind: str) -> Iterator[Connection]:
    limit = time_limit.get()
    try:
        with (
            tracing.transaction(kind, engine.dialect.name),
            metrics.transaction(kind).time(),
            engine.begin() as connection,
        ):
            yield connection
            limit.check()
    except OperationalError:
        limit.check()  # That was why.
        raise


def _prepare_sqlite(connection: Any, _entry: ConnectionPoolEntry) -> None:
    """Durable, and readers do not wait for the writer."""
    connection.isolation_level = None  # We say BEGIN ourselves; see below.
    _switch_to_wal(connection)
    connection.execute("PRAGMA synchronous = FULL")  # A commit is on disk when it returns.


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Tries again while others do the same to a new file; SQLite itself does not wait here."""
    ends = time.monotonic() + SQLITE_WAIT_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > ends:
                raise
            time.sleep(0.01)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    """A writer takes the lock at once: two that read first and write later would deadlock."""
    limit = time_limit.get()
    sqlite: Any = connection.connection.driver_connection
    sqlite.set_progress_handler(lambda: not limit.remaining(), SQLITE_STEPS)
    writes = connection.get_execution_options().get("writes", False)
    if writes:
        wait_ms = min(SQLITE_WAIT_MS, limit.remaining() * 1000)
        sqlite.execute(f"PRAGMA busy_timeout = {wait_ms:.0f}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _begin_postgresql(connection: Connection) -> None:
    """PostgreSQL ends each statement that takes longer, also one that waits for a lock."""
    remaining = time_limit.get().remaining()
    if remaining < math.inf:
        milliseconds = math.ceil(remaining * 1000)
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {max(milliseconds, 1)}")
