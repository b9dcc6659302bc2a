"""SQLite's file: who may read it, who writes it, and its backup."""

import os
import sqlite3
import stat

import pytest
from sqlalchemy import event, text

from production.contacts.database import connect
from production.serving.storage import backup
from production.serving.storage.backup import back_up
from production.serving.storage.time_limit import time_limited

SERVER = "production.contacts_server"


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/contacts.db"


def modes(folder):
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


@pytest.mark.usefixtures("database")
def test_the_owner_alone_may_read_the_file_and_its_log(tmp_path):
    assert modes(tmp_path) == dict.fromkeys(
        ["contacts.db", "contacts.db-wal", "contacts.db-shm"], 0o600
    )


def test_the_mode_of_a_file_that_exists_stays(tmp_path, url):
    (tmp_path / "contacts.db").touch(0o640)
    database = connect(url)
    database.migrate()
    assert set(modes(tmp_path).values()) == {0o640}
    database.close()


def test_no_other_connection_tries_to_write_while_one_writes(database):
    """SQLite would make it wait, too, but not for a checkpoint, which comes after the commit."""
    used = []
    with database.write():
        event.listen(database._engine.pool, "checkout", lambda *_: used.append("connection"))
        with time_limited(0.05), pytest.raises(TimeoutError), database.write():
            pytest.fail("began")
        assert used == []
        with database.read() as connection:
            assert connection.execute(text("SELECT count(*) FROM owners")).scalar() == 0
    with database.write():
        assert used == ["connection"] * 2


def insert(database, owner):
    with database.write() as connection:
        connection.execute(
            text("INSERT INTO owners (owner, position) VALUES (:owner, 1)"), {"owner": owner}
        )


def stored(path):
    connection = sqlite3.connect(path)
    owners = [owner for (owner,) in connection.execute("SELECT owner FROM owners")]
    connection.close()
    return owners


def test_a_backup_is_private_whole_and_replaces_the_one_before(database, tmp_path):
    target = tmp_path / "backup.db"
    insert(database, "first")
    back_up(tmp_path / "contacts.db", target)
    assert stored(target) == ["first"]

    insert(database, "second")
    back_up(tmp_path / "contacts.db", target)

    assert stored(target) == ["first", "second"]
    assert modes(tmp_path)["backup.db"] == 0o600
    assert len(modes(tmp_path)) == 4


@pytest.mark.usefixtures("database")
def test_a_backup_does_not_replace_the_database(tmp_path):
    source, link = tmp_path / "contacts.db", tmp_path / "link.db"
    link.hardlink_to(source)
    number = source.stat().st_ino

    for target in (source, link):
        with pytest.raises(ValueError, match="is the database itself"):
            back_up(source, target)

    assert source.stat().st_ino == number


def test_a_backup_is_synced_before_the_one_before_is_replaced(database, tmp_path, monkeypatch):
    insert(database, "first")
    target, synced = tmp_path / "backup.db", []
    target.write_text("the one before")

    def fsync(handle):
        size = os.fstat(handle).st_size
        synced.append((stat.S_ISDIR(os.fstat(handle).st_mode), size > 0, target.read_bytes()[:6]))

    monkeypatch.setattr(os, "fsync", fsync)
    back_up(tmp_path / "contacts.db", target)

    assert synced == [(False, True, b"the on"), (True, True, b"SQLite")]


def test_a_copy_that_is_damaged_leaves_the_backup_before(database, tmp_path, monkeypatch):
    target = tmp_path / "backup.db"
    insert(database, "first")
    back_up(tmp_path / "contacts.db", target)
    check = backup._check

    def damage(copy):
        content = bytearray(copy.read_bytes())
        content[4096:] = b"\xff" * (len(content) - 4096)
        copy.write_bytes(content)
        check(copy)

    monkeypatch.setattr(backup, "_check", damage)
    with pytest.raises((ValueError, sqlite3.DatabaseError)):
        back_up(tmp_path / "contacts.db", target)

    assert stored(target) == ["first"]
    assert len(modes(tmp_path)) == 4


def test_the_command_backs_up_and_says_why_not(run, url, database, tmp_path):
    def command(database_url, target):
        environment = os.environ | {"CONTACTS_DATABASE": database_url}
        return run(SERVER, "backup", str(tmp_path / target), env=environment)

    insert(database, "first")
    assert command(url, "backup.db").stdout == f"wrote {tmp_path}/backup.db\n"
    assert stored(tmp_path / "backup.db") == ["first"]

    missing = command(f"{url}x", "other.db")
    assert (missing.returncode, missing.stderr) == (1, "error: unable to open database file\n")
    other = command("postgresql+psycopg://postgres@/contacts", "other.db")
    assert (other.returncode, other.stderr) == (1, "error: use pg_dump for PostgreSQL\n")
    assert not (tmp_path / "other.db").exists()
