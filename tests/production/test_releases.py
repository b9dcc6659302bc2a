"""Releases side by side on one database, and the role that servers use."""

import asyncio
import os
import signal

import pytest
from sqlalchemy import create_engine, event, make_url, text

from production.contacts.database import MIGRATIONS, connect
from production.contacts.settings import Settings
from production.contacts_client import ContactsClient, ContactsError
from production.contacts_server import assemble, start
from production.serving.storage.database import Migration, SchemaError
from production.v1.contacts_pb2 import Contact
from protobuf_demo.addressbook_pb2 import Person
from tests.conftest import until

SERVER = "production.contacts_server"
OLD = MIGRATIONS
EXPAND = Migration("ALTER TABLE contacts ADD COLUMN labels {text} NOT NULL DEFAULT '{}';")
NEW = [*OLD, EXPAND]
CONTRACT = Migration("ALTER TABLE contacts DROP COLUMN labels;", compatible_from=len(NEW) + 1)


@pytest.fixture
def settings(url):
    return Settings(address="127.0.0.1:0", plaintext=True, database=url, drain_pause=0.2, grace=5)


def release(migrations, work, *args):
    """Calls work as a program with these migrations does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("production.contacts.database.MIGRATIONS", migrations)
        return work(*args)


async def start_release(migrations, settings):
    server = release(migrations, assemble, settings)
    return server, await server.start()


async def serves(server, tasks):
    """Waits until a server that has been replaced is found by the tasks' client again."""
    used = []
    event.listen(server.database._engine.pool, "checkout", lambda *_: used.append(True))
    await until(lambda: len(used) > 10, tasks)


def migrate(url):
    database = connect(url)
    database.migrate()
    database.close()


@pytest.mark.usefixtures("database")
def test_releases_replace_each_other_under_load_and_back(settings, run_async):
    """Two servers are replaced one by one: old, new, old again. No call fails, nothing is lost."""
    acknowledged, going = [], True

    async def load(client):
        while going:
            created = await client.create(Contact(person=Person(name="Ada")))
            created.person.email = "ada@example.org"
            acknowledged.append(await client.update(created))

    async def work():
        nonlocal going
        servers = [await start_release(OLD, settings) for _ in range(2)]
        addresses = [f"127.0.0.1:{port}" for _, port in servers]
        async with ContactsClient("ipv4:" + ",".join(addresses), None) as client:
            loads = [asyncio.create_task(load(client)) for _ in range(4)]
            await until(lambda: len(acknowledged) > 20, loads)
            await asyncio.to_thread(release, NEW, migrate, settings.database)
            for migrations in (NEW, OLD):
                for index, address in enumerate(addresses):
                    await servers[index][0].stop()
                    same = settings.model_copy(update={"address": address})
                    servers[index] = await start_release(migrations, same)
                    await serves(servers[index][0], loads)
            going = False
            await asyncio.gather(*loads)  # Raises what any call raised.
            stored = {c.name: c async for c in client.list(page_size=1000)}
        for server, _ in servers:
            await server.stop()
        return stored

    assert run_async(work()) == {contact.name: contact for contact in acknowledged}


@pytest.mark.usefixtures("database")
def test_after_the_contraction_the_old_release_does_not_start(settings, run_async):
    release([*NEW, CONTRACT], migrate, settings.database)
    with pytest.raises(SchemaError, match="run a newer release"):
        run_async(start_release(OLD, settings))
    server, _ = run_async(start_release([*NEW, CONTRACT], settings))
    run_async(server.stop())


GRANTS = """
CREATE ROLE {role} LOGIN;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};
"""


@pytest.fixture
def role():
    return f"dml_{os.urandom(4).hex()}"


@pytest.fixture
def dml_url(postgresql_url, role):
    """The URL for a role that may read and write rows, and nothing else."""
    migrate(postgresql_url)
    engine = create_engine(postgresql_url)
    with engine.begin() as connection:
        connection.execute(text(GRANTS.format(role=role)))
    engine.dispose()
    return make_url(postgresql_url).set(username=role).render_as_string()


def test_a_server_needs_the_rights_of_its_statements_only(dml_url, run_async):
    settings = Settings(address="127.0.0.1:0", plaintext=True, database=dml_url, drain_pause=0)

    async def work():
        server, port = await start(settings)
        async with ContactsClient(f"127.0.0.1:{port}", None) as client:
            watch = client.watch()
            await anext(watch)
            ada = await client.create(Contact(person=Person(name="Ada")))
            assert (await anext(watch)).contact == ada
            await watch.aclose()
            ada.person.email = "ada@example.org"
            ada = await client.update(ada)
            assert await client.get(ada.name) == ada
            assert [contact async for contact in client.list()] == [ada]
            await client.import_people([Person(name="Grace")])
            await client.delete(ada.name)
            with pytest.raises(ContactsError):
                await client.get(ada.name)
        await server.stop()

    run_async(work())


def test_migrate_needs_more_rights_and_says_so(dml_url, run):
    environment = os.environ | {"CONTACTS_DATABASE": dml_url}
    with pytest.MonkeyPatch.context() as newer:
        newer.setattr("production.contacts.database.MIGRATIONS", NEW)
        database = connect(dml_url)
    with pytest.raises(Exception, match="must be owner of table contacts"):
        database.migrate()
    database.close()

    done = run(SERVER, "migrate", env=environment)
    assert (done.returncode, done.stdout) == (0, f"the database has schema version {len(OLD)}\n")


def test_a_missing_right_ends_the_start_in_one_line(dml_url, role, postgresql_url, run):
    engine = create_engine(postgresql_url)
    with engine.begin() as connection:
        connection.execute(text(f"REVOKE ALL ON owners FROM {role}"))
    engine.dispose()

    environment = os.environ | {"CONTACTS_DATABASE": dml_url}
    started = run(SERVER, "--plaintext", "--address", "127.0.0.1:0", env=environment)

    assert started.returncode == 1
    (line,) = started.stderr.splitlines()
    assert line.startswith("error: ")
    assert line.endswith("permission denied for table owners")


def test_the_first_start_on_postgresql_takes_two_commands(
    postgresql_url, run, spawn_server, monkeypatch
):
    monkeypatch.setenv("CONTACTS_DATABASE", postgresql_url)
    refused = run(SERVER, "--plaintext", "--address", "127.0.0.1:0")
    migrated = run(SERVER, "migrate")
    process, address = spawn_server("-m", SERVER, "--plaintext", "--address", "127.0.0.1:0")

    command = f"python -m {SERVER} migrate"
    assert refused.stderr == f"error: the database has no tables; run `{command}`\n"
    assert migrated.stdout == f"the database has schema version {len(OLD)}\n"
    assert address.startswith("127.0.0.1:")
    process.send_signal(signal.SIGINT)
    process.communicate()
