"""Transactions and migrations, for SQLite and PostgreSQL.

Both run the same statements; the differences between them are in this module.
"""

import math
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

from prometheus_client import Histogram
from psycopg.errors import IdleInTransactionSessionTimeout, ReadOnlySqlTransaction
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    ExceptionContext,
    create_engine,
    event,
    inspect,
    make_url,
    text,
)
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from production.serving.storage import spans
from production.serving.storage.time_limit import time_limit

DRIVERS = ("sqlite", "sqlite+pysqlite", "postgresql", "postgresql+psycopg")
# Both compare text by code point, so that a prefix is a range and pages have one order.
TYPES = {
    "sqlite": {"text": "TEXT", "bytes": "BLOB", "secret": "randomblob(64)"},
    "postgresql": {
        "text": 'TEXT COLLATE "C"',
        "bytes": "BYTEA",
        "secret": " || ".join(["uuid_send(gen_random_uuid())"] * 4),
    },
}
"""What {text} and {bytes} stand for in migrations, and {secret}: 64 bytes that nobody can guess."""
MIGRATION_LOCK = 0x67525043
"""The number of PostgreSQL's advisory lock for migrations: arbitrary, the same in every process."""
MIGRATION_WAIT = "5s"
"""The longest that a migration waits for a table in use: all other calls wait behind it."""
POSTGRESQL = {
    # Seconds and, for tcp_user_timeout, milliseconds, after which a silent database counts as lost.
    # By default a thread could wait for more than a quarter of an hour.
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""Parameters of libpq: https://www.postgresql.org/docs/current/libpq-connect.html."""
IDLE_MS = 5_000
"""How long after a call's limit PostgreSQL ends a transaction that we have left open."""
SQLITE_WAIT_MS = 5_000
"""The longest that a writer waits for another writer of an SQLite file."""
SQLITE_STEPS = 10_000
"""Instructions of SQLite's virtual machine, about 0.1 ms, between checks of the time limit."""


class Migration(NamedTuple):
    """What a release changes in the tables."""

    script: str
    """SQL statements; the words of TYPES stand in braces."""
    compatible_from: int = 1
    """The first schema version whose programs work with the tables after this migration."""


class SchemaError(RuntimeError):
    """The tables are not those that the program needs; the message says what to do."""


class Database:
    """A database: sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME."""

    def __init__(
        self,
        url: str,
        migrations: Sequence[Migration],
        durations: Histogram,
        *,
        connections: int = 8,
    ) -> None:
        """Raises ValueError for another kind of URL. Connects when first used.

        migrations have one entry per release that changed the tables; their number is the schema
        version. durations observes how long each kind of transaction takes.
        """
        parsed = _parse(url)
        self.kind = parsed.get_backend_name()
        self._engine = create_engine(
            parsed.difference_update_query(["prepare_threshold"]),
            pool_size=connections,
            max_overflow=0,
            hide_parameters=True,
            connect_args=_postgresql_arguments(parsed) if self.kind == "postgresql" else {},
        )
        # SQLite before 3.51.3 can damage a file that two connections write or checkpoint at once
        # (https://www.sqlite.org/wal.html#walresetbug), so in one process only one does.
        self._writing = threading.Semaphore(1) if self.kind == "sqlite" else None
        if self.kind == "sqlite":
            event.listen(self._engine, "do_connect", lambda *args: _create_private(args[2][0]))
            event.listen(self._engine, "connect", _prepare_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)
        else:
            event.listen(self._engine, "begin", _begin_postgresql)
            event.listen(self._engine, "handle_error", _lost, retval=True)
        event.listen(self._engine, "before_cursor_execute", lambda *_: time_limit.get().check())
        self._writer = self._engine.execution_options(writes=True)
        self._migrations = migrations
        self._durations = {kind: durations.labels(kind) for kind in ("read", "write")}

    def migrate(self) -> int:
        """Brings the tables up to date, if they are older than this program; returns their version.

        Safe if several processes do it at once.
        """
        with self.write() as connection:
            if self.kind == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
                connection.execute(text(f"SET LOCAL lock_timeout = '{MIGRATION_WAIT}'"))
            _make_schema_version(connection)
            done = _schema_version(connection)[0]
            for version, migration in enumerate(self._migrations[done:], done + 1):
                for statement in _statements(migration.script, TYPES[self.kind]):
                    # Without parameters, % and : in a statement are what they are.
                    connection.execution_options(no_parameters=True).exec_driver_sql(statement)
                connection.execute(
                    text("INSERT INTO schema_version VALUES (:version, :compatible_from)"),
                    {"version": version, "compatible_from": migration.compatible_from},
                )
            return max(done, len(self._migrations))

    def check(self, tables: Mapping[str, Sequence[str]], migrate: str) -> None:
        """Raises SchemaError if this program does not work with the tables, which have names and
        columns; migrate is the command that brings them up to date.

        Raises sqlalchemy.exc.ProgrammingError if one is missing or may not be read.
        """
        needed = len(self._migrations)
        with self.read() as connection:
            if not inspect(connection).has_table("schema_version"):
                raise SchemaError(f"the database has no tables; run `{migrate}`")
            version, compatible_from = _schema_version(connection)
            if version < needed:
                older = f"the database has schema version {version}, this program needs {needed}"
                raise SchemaError(f"{older}; run `{migrate}`")
            if compatible_from > needed:
                raise SchemaError(
                    f"the database has schema version {version}, which works with programs"
                    f" from version {compatible_from} on; this one is of version {needed}:"
                    " run a newer release"
                )
            for table, columns in tables.items():
                names = ", ".join(columns)
                connection.execute(text(f"SELECT {names} FROM {table} LIMIT 0"))  # noqa: S608

    def read(self) -> AbstractContextManager[Connection]:
        """Begins a transaction that only reads and waits for no other. Raises as write does."""
        return self._transaction(self._engine, "read")

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Begins a transaction that may write; it is committed if its block raises nothing.

        Raises TimeoutError, and writes nothing, if the call's time limit passes before that.
        """
        with _held(self._writing), self._transaction(self._writer, "write") as connection:
            yield connection

    def close(self) -> None:
        """Closes all connections."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self, engine: Engine, kind: str) -> Iterator[Connection]:
        limit = time_limit.get()
        try:
            with (
                spans.transaction(kind, self.kind),
                self._durations[kind].time(),
                engine.begin() as connection,
            ):
                yield connection
                limit.check()
        except OperationalError:
            limit.check()  # The limit may be the cause.
            raise


@contextmanager
def _held(lock: threading.Semaphore | None) -> Iterator[None]:
    """Holds a lock, if there is one. Raises TimeoutError if the call's time limit passes first."""
    if not lock:
        yield
        return
    remaining = time_limit.get().remaining()
    if not lock.acquire(timeout=None if remaining == math.inf else remaining):
        raise TimeoutError
    try:
        yield
    finally:
        lock.release()


def _make_schema_version(connection: Connection) -> None:
    """Makes the table of versions, or adds the column that older releases did not have."""
    inspector = inspect(connection)
    if not inspector.has_table("schema_version"):
        connection.execute(text("CREATE TABLE schema_version (version INTEGER NOT NULL)"))
    elif any(
        column["name"] == "compatible_from" for column in inspector.get_columns("schema_version")
    ):
        return
    connection.execute(
        text("ALTER TABLE schema_version ADD COLUMN compatible_from INTEGER NOT NULL DEFAULT 1")
    )


def _schema_version(connection: Connection) -> tuple[int, int]:
    """Returns the version of the tables, and the first one whose programs work with them."""
    query = "SELECT max(version) AS version, max(compatible_from) AS compatible FROM schema_version"
    row = connection.execute(text(query)).one()
    return row.version or 0, row.compatible or 0


def _statements(script: str, types: Mapping[str, str]) -> Iterator[str]:
    """Yields the statements of a script, whose literals may have semicolons and braces."""
    for name, kind in types.items():
        script = script.replace(f"{{{name}}}", kind)
    *parts, rest = script.split(";")
    statement = ""
    for part in parts:
        statement += f"{part};"
        if sqlite3.complete_statement(statement):
            yield statement.strip()
            statement = ""
    if rest := (statement + rest).strip():
        raise ValueError(f"a statement of a migration has no end: {rest}")


def until_size(select: str, column: str, order: str) -> str:
    """Returns a statement for the first rows of another one, in an order.

    They end with the row whose column exceeds :max_bytes, counted over all rows so far.
    """
    return (
        "SELECT * FROM"  # noqa: S608 - our own words.
        f" (SELECT *, sum(length({column})) OVER (ORDER BY {order}) - length({column})"
        f" AS bytes_before FROM ({select} ORDER BY {order} LIMIT :limit) AS first_rows) AS sized"
        f" WHERE bytes_before <= :max_bytes ORDER BY {order}"
    )


def _create_private(path: str) -> None:
    """Creates the file, if there is none, for its owner alone; SQLite gives its log the same mode.

    Raises sqlite3.OperationalError as connecting does.
    """
    if path == ":memory:" or path.startswith("file:"):
        return
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise sqlite3.OperationalError("unable to open database file") from error


def _prepare_sqlite(connection: Any, _entry: ConnectionPoolEntry) -> None:
    """Makes commits durable, and readers independent of the writer."""
    connection.isolation_level = None  # _begin_sqlite begins transactions.
    _switch_to_wal(connection)
    connection.execute("PRAGMA synchronous = FULL")  # A commit is on disk when it returns.


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Retries while other processes do the same to a new file, as SQLite does not wait here."""
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
    """Takes a writer's lock at once: two that read first and write later would deadlock."""
    limit = time_limit.get()
    sqlite: Any = connection.connection.driver_connection
    sqlite.set_progress_handler(lambda: not limit.remaining(), SQLITE_STEPS)
    writes = connection.get_execution_options().get("writes", False)
    if writes:
        wait_ms = min(SQLITE_WAIT_MS, limit.remaining() * 1000)
        sqlite.execute(f"PRAGMA busy_timeout = {wait_ms:.0f}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # Their messages do not say what is wrong, or where.
        wanted = "sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
        raise ValueError(f"the database is not a URL such as {wanted}") from None
    if parsed.drivername not in DRIVERS:
        raise ValueError(f"a database is one of {', '.join(DRIVERS)}, not {parsed.drivername}")
    return parsed


def _postgresql_arguments(url: URL) -> dict[str, Any]:
    """Returns psycopg's arguments. In the URL, prepare_threshold is a number or "none"."""
    threshold = url.query.get("prepare_threshold")
    if threshold is None:
        return POSTGRESQL
    if threshold == "none":
        return {**POSTGRESQL, "prepare_threshold": None}
    if not isinstance(threshold, str) or not threshold.isdecimal():
        raise ValueError(f"prepare_threshold is a number or none, not {threshold}")
    return {**POSTGRESQL, "prepare_threshold": int(threshold)}


def _lost(context: ExceptionContext) -> OperationalError | None:
    """Takes a server that refuses to write, as after a switchover, or that has ended our idle
    transaction, for one that is lost: the pool connects anew, and so finds the server that writes
    if the URL names several."""
    error = context.original_exception
    if not isinstance(error, (IdleInTransactionSessionTimeout, ReadOnlySqlTransaction)):
        return None
    context.is_disconnect = True
    return OperationalError(None, None, error, hide_parameters=True, connection_invalidated=True)


def _begin_postgresql(connection: Connection) -> None:
    """Makes PostgreSQL cancel each statement at the limit, even one that waits for a lock, and end
    the transaction soon after, even one that we cannot end because the line to us is cut: otherwise
    it would hold its locks until TCP gives up, for two hours by default."""
    remaining = time_limit.get().remaining()
    if remaining < math.inf:
        milliseconds = max(math.ceil(remaining * 1000), 1)
        connection.exec_driver_sql(
            f"SELECT set_config('statement_timeout', '{milliseconds}', true),"
            f" set_config('idle_in_transaction_session_timeout', '{milliseconds + IDLE_MS}', true)"
        )
