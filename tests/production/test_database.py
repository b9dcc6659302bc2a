"""What both databases promise: migrations, and statements that end with the call they are for."""

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from production.database import MIGRATIONS, Database, time_limit, time_limited

# Counts for ever, on both databases.
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
        connection.execute(text("INSERT INTO owners VALUES ('me', 1)"))
        time_limit.get().end()

    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM owners")).scalar() == 0


def test_no_statement_begins_after_the_limit(database):
    with time_limited(0), pytest.raises(TimeoutError), database.read():
        pytest.fail("began")


def test_a_writer_waits_for_another_no_longer_than_its_limit(database):
    lock = text(
        "INSERT INTO owners VALUES ('me', 0) ON CONFLICT (owner) DO UPDATE SET position = 1"
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
        database = Database(url)
        database.migrate()
        database.migrate()
        database.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(migrate, range(6)))


def test_a_database_of_an_older_release_is_brought_up_to_date(url, monkeypatch):
    database = Database(url)
    with monkeypatch.context() as older:
        older.setattr("production.database.MIGRATIONS", MIGRATIONS[:1])
        database.migrate()
    with database.write() as connection:
        connection.execute(text("INSERT INTO owners VALUES ('me', 7)"))

    database.migrate()

    with database.read() as connection:
        assert connection.execute(text("SELECT position FROM owners")).scalar() == 7
        assert connection.execute(text("SELECT count(*) FROM nonces")).scalar() == 0
    database.close()


def test_a_database_newer_than_the_program_is_refused(database, monkeypatch):
    monkeypatch.setattr("production.database.MIGRATIONS", MIGRATIONS[:-1])

    with pytest.raises(RuntimeError, match="is of version 2, newer than this program"):
        database.migrate()


def test_another_kind_of_database_is_refused():
    with pytest.raises(ValueError, match="a database is sqlite or postgresql, not mysql"):
        Database("mysql://localhost/contacts")
