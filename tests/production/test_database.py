"""Migrations, and statements that end with their call, on both databases."""

import math
import os
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.exc import ProgrammingError

from production.contacts.database import MIGRATIONS, TABLES, connect, prepare
from production.contacts.import_buffer import gathering
from production.serving.security.nonces import use_nonce
from production.serving.storage.database import Migration, SchemaError
from production.serving.storage.time_limit import time_limit, time_limited
from production.v1.contacts_pb2 import (
    Contact,
    CreateContactRequest,
    ImportContactsRequest,
    ListContactsRequest,
    UpdateContactRequest,
)
from protobuf_demo.addressbook_pb2 import Person

# Never ends, on both databases.
ENDLESS = text(
    "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n > 0)"
    " SELECT count(*) FROM numbers"
)


def test_a_statement_ends_with_its_time_limit_and_the_connection_is_good(database):
    with time_limited(0.05), pytest.raises(TimeoutError), database.read() as connection:
        connection.execute(ENDLESS)

    for _ in range(10):  # More than there are connections.
        with database.read() as connection:
            assert connection.execute(text("SELECT 1")).scalar() == 1


def test_nothing_is_written_after_the_limit(database):
    with time_limited(math.inf), pytest.raises(TimeoutError), database.write() as connection:
        connection.execute(text("INSERT INTO owners (owner, position) VALUES ('me', 1)"))
        time_limit.get().end()

    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM owners")).scalar() == 0


def test_no_statement_begins_after_the_limit(database):
    with time_limited(0), pytest.raises(TimeoutError), database.read():
        pytest.fail("began")


def test_a_writer_waits_for_another_no_longer_than_its_limit(database):
    lock = text(
        "INSERT INTO owners (owner, position) VALUES ('me', 0)"
        " ON CONFLICT (owner) DO UPDATE SET position = 1"
    )
    with database.write() as other:
        other.execute(lock)
        with time_limited(0.05), pytest.raises(TimeoutError), database.write() as connection:
            connection.execute(lock)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_sqlite_ends_a_running_statement_when_its_caller_has_gone(database):
    begun = threading.Event()

    def work():
        with time_limited(math.inf), pytest.raises(TimeoutError), database.read() as connection:
            limits.append(time_limit.get())
            begun.set()
            connection.execute(ENDLESS)

    limits = []
    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(60)
    time.sleep(0.05)  # For the statement to begin; if it has not, the test holds all the same.
    limits[0].end()
    thread.join(60)
    assert not thread.is_alive()


def test_migrating_is_safe_for_many_at_once_and_again(url):
    def migrate(_):
        database = connect(url)
        database.migrate()
        database.migrate()
        database.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(migrate, range(6)))


@pytest.fixture
def release(url, monkeypatch):
    """release(MIGRATIONS) is the database as a release with these migrations connects to it."""
    opened = []

    def release(migrations):
        with monkeypatch.context() as other:
            other.setattr("production.contacts.database.MIGRATIONS", migrations)
            opened.append(connect(url))
        return opened[-1]

    yield release
    for database in opened:
        database.close()


def columns(database, table):
    with database.read() as connection:
        return {column["name"] for column in inspect(connection).get_columns(table)}


EXPAND = Migration("ALTER TABLE owners ADD COLUMN of_next_release TEXT;")
CONTRACT = Migration("ALTER TABLE owners DROP COLUMN position;", len(MIGRATIONS) + 2)


def test_a_database_of_an_older_release_is_brought_up_to_date(release):
    older = release(MIGRATIONS[:1])
    older.migrate()
    with older.write() as connection:
        connection.execute(text("INSERT INTO owners VALUES ('me', 7)"))

    database = release(MIGRATIONS)
    assert database.migrate() == len(MIGRATIONS)

    with database.read() as connection:
        assert connection.execute(text("SELECT position FROM owners")).scalar() == 7
        assert connection.execute(text("SELECT count(*) FROM nonces")).scalar() == 0


def test_a_release_before_compatible_from_was_recorded_is_brought_up_to_date(release):
    database = release(MIGRATIONS)
    database.migrate()
    with database.write() as connection:
        connection.execute(text("ALTER TABLE schema_version DROP COLUMN compatible_from"))

    newer = release([*MIGRATIONS, EXPAND])
    assert newer.migrate() == len(MIGRATIONS) + 1
    prepare(database)


def test_a_migration_is_run_as_it_is_written(release):
    """Braces, percent signs, colons and semicolons in literals are none of ours."""
    literal = """'{"a":1, "b": ":b"}; 100 % {0}'"""
    script = f"CREATE TABLE things (json {{text}} NOT NULL DEFAULT {literal});"
    database = release([Migration(script), Migration("INSERT INTO things DEFAULT VALUES;")])
    database.migrate()

    with database.read() as connection:
        assert connection.execute(text("SELECT json FROM things")).scalar() == literal.strip("'")


def test_a_migration_that_does_not_end_is_refused_and_nothing_of_it_is_done(release):
    database = release([*MIGRATIONS, Migration(EXPAND.script[:-1])])
    with pytest.raises(ValueError, match="has no end: ALTER TABLE owners"):
        database.migrate()

    with database.read() as connection:
        assert not inspect(connection).has_table("schema_version")


def test_a_program_runs_on_a_newer_schema_that_is_compatible(release):
    release([*MIGRATIONS, EXPAND]).migrate()

    database = release(MIGRATIONS)
    prepare(database)
    assert database.migrate() == len(MIGRATIONS) + 1
    assert "of_next_release" in columns(database, "owners")


def test_a_program_refuses_a_newer_schema_that_is_not_compatible(release):
    release([*MIGRATIONS, EXPAND, CONTRACT]).migrate()
    newest = len(MIGRATIONS) + 2

    problem = f"version {newest}, which works with programs from version {newest} on"
    with pytest.raises(SchemaError, match=problem):
        prepare(release(MIGRATIONS))


def test_later_additions_do_not_make_an_old_program_compatible_again(release):
    addition = Migration("CREATE TABLE more (name TEXT);")
    release([*MIGRATIONS, EXPAND, CONTRACT, addition]).migrate()

    with pytest.raises(SchemaError, match="run a newer release"):
        prepare(release(MIGRATIONS))


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_server_does_not_change_tables_of_postgresql(release):
    command = "run `python -m production.contacts_server migrate`"
    with pytest.raises(SchemaError, match=f"the database has no tables; {command}"):
        prepare(release(MIGRATIONS))

    release(MIGRATIONS[:-1]).migrate()
    needed = len(MIGRATIONS)
    older = f"has schema version {needed - 1}, this program needs {needed}; {command}"
    with pytest.raises(SchemaError, match=older):
        prepare(release(MIGRATIONS))


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_table_that_was_changed_by_hand_is_refused(release):
    database = release(MIGRATIONS)
    with database.write() as connection:
        connection.execute(text("ALTER TABLE owners RENAME COLUMN position TO place"))

    with pytest.raises(ProgrammingError, match='column "position" does not exist'):
        prepare(database)


def test_the_columns_that_are_checked_are_those_of_the_tables(database):
    assert {table: set(named) for table, named in TABLES.items()} == {
        table: columns(database, table) for table in TABLES
    }


@pytest.mark.parametrize("table", ["contacts", "owners", "changes", "requests", "nonces"])
def test_the_release_before_works_with_a_column_more(url, database, contacts, changes, table):
    """While a new release rolls out, workers of the old one still run.

    They have prepared their statements: of one that says SELECT *, PostgreSQL would then complain
    that a "cached plan must not change result type".
    """

    def work():
        request_id = str(uuid.uuid4())
        request = CreateContactRequest(contact=Contact(person=person), request_id=request_id)
        created = contacts.create("me", request)
        created.person.email = "ada@example.org"
        assert contacts.update("me", UpdateContactRequest(contact=created)).person == created.person
        with gathering() as gathered:
            gathered.add(ImportContactsRequest(people=[person], finish=True))
            contacts.import_people("me", gathered)
        use_nonce(database, "key", request_id, 1, 1)
        assert len(contacts.page("me", ListContactsRequest()).contacts) > 1
        assert changes.after("me", changes.position("me") - 1)
        assert list(contacts.export("me"))

    person = Person(name="Ada")
    for _ in range(10):  # psycopg prepares a statement when it comes for the sixth time.
        work()
    newer = connect(url)
    with newer.write() as connection:
        connection.execute(text(f"ALTER TABLE {table} ADD COLUMN of_next_release TEXT"))
    newer.close()
    work()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://localhost/contacts", "one of sqlite, .*, not mysql"),
        ("postgresql+psycopg2://localhost/contacts", r"not postgresql\+psycopg2"),
        ("contacts.db", "not a URL such as sqlite:///FILE"),
        ("postgresql+psycopg://localhost:port/contacts", "not a URL such as"),
    ],
)
def test_another_kind_of_database_is_refused_in_one_line(url, message, run):
    with pytest.raises(ValueError, match=message) as raised:
        connect(url)

    done = run("production.contacts_server", "migrate", env=os.environ | {"CONTACTS_DATABASE": url})
    assert (done.returncode, done.stderr) == (1, f"error: {raised.value}\n")
