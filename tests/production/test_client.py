"""The client package and its command line, against real servers."""

import asyncio
import os
import random
import signal
from contextlib import suppress

import grpc
import pytest
from sqlalchemy import create_engine, text

from production.contacts import access
from production.contacts.database import connect
from production.contacts.servicer import ContactServicer
from production.contacts.settings import Settings
from production.contacts_client import CALL_SECONDS, SIGNATURE, ContactsClient, ContactsError
from production.contacts_server import start
from production.serving.storage import database
from production.v1.contacts_pb2 import Contact, WatchContactsResponse
from protobuf_demo.addressbook_pb2 import AddressBook, Person
from tests.conftest import WAIT, python, until

SERVER, CLIENT = "production.contacts_server", "production.contacts_client"


def a_contact(**person):
    return Contact(person=Person(**person))


@pytest.fixture
def settings(tmp_path):
    return Settings(
        address="127.0.0.1:0",
        plaintext=True,
        database=f"sqlite:///{tmp_path}/contacts.db",
        drain_pause=0.2,
        grace=5,
    )


@pytest.fixture
def use(settings, use_settings):
    """use(coroutine function) gives it a client of a running server."""
    return lambda work: use_settings(settings, work)


def test_the_client_does_what_the_service_offers(use):
    async def work(client):
        created = await client.create(a_contact(name="Ada"), "ada-1")
        assert await client.get("contacts/ada-1") == created
        created.person.name = "Grace"
        updated = await client.update(created)
        assert updated.person.name == "Grace"
        with pytest.raises(ContactsError) as raised:
            await client.update(created)
        assert raised.value.code == grpc.StatusCode.ABORTED
        people = (Person(name=f"Guest {n}") for n in range(10))
        assert await client.import_people(people) == 10
        assert len([c async for c in client.list(page_size=3)]) == 11
        assert [c.person.name async for c in client.list("guest 9")] == ["Guest 9"]
        assert len([c async for c in client.export()]) == 11
        await client.delete(updated.name, updated.etag)
        assert [c async for c in client.list("Grace")] == []

    use(work)


def test_client_and_server_name_the_same_signature():
    assert SIGNATURE == access.SIGNATURE


def test_violations_are_reported_by_field(use):
    async def work(client):
        with pytest.raises(ContactsError) as raised:
            await client.create(a_contact(), "X")
        assert [field for field, _ in raised.value.violations] == [
            "contact.person.name",
            "contact_id",
        ]

    use(work)


def test_the_server_knows_how_long_the_client_waits(use, monkeypatch):
    """By a timeout in the service config it would not, and the call would end too early."""
    told = []

    async def get_contact(_self, _request, context):
        told.append(context.time_remaining())
        return Contact()

    monkeypatch.setattr(ContactServicer, "GetContact", get_contact)

    use(lambda client: client.get("contacts/ada-1"))

    assert CALL_SECONDS - 1 < told[0] <= CALL_SECONDS * 1.01


def test_a_watch_goes_on_when_its_server_is_replaced(settings, run_async):
    async def work():
        server, port = await start(settings)
        same = settings.model_copy(update={"address": f"127.0.0.1:{port}"})
        async with ContactsClient(same.address, None) as client:
            changes = client.watch()
            await anext(changes)
            first = await client.create(a_contact(name="Ada"))
            assert (await anext(changes)).contact == first

            await server.stop()
            server, _ = await start(same)
            second = await client.create(a_contact(name="Grace"))

            kinds = WatchContactsResponse
            assert (await anext(changes)).kind == kinds.KIND_STARTED
            assert (await anext(changes)).contact == second
            await changes.aclose()
        await server.stop()

    run_async(work())


@pytest.fixture
def disk(monkeypatch):
    """disk["pages"] is how many pages an SQLite file may have before its disk is full."""
    room = {"pages": 1 << 30}
    begin = database._begin_sqlite

    def begin_in_room(connection):
        sqlite = connection.connection.driver_connection
        sqlite.execute(f"PRAGMA max_page_count = {room['pages']}")
        begin(connection)

    monkeypatch.setattr(database, "_begin_sqlite", begin_in_room)
    return room


def test_a_full_disk_loses_nothing_and_is_over_when_there_is_room(disk, use, caplog):
    async def work(client):
        disk["pages"] = 1  # SQLite takes what there is already.
        acknowledged = []
        with pytest.raises(ContactsError) as raised:
            for number in range(100, 1000):
                contact = a_contact(name=f"{number}{'x' * 190}")
                acknowledged.append(await client.create(contact))
        assert raised.value.code == grpc.StatusCode.UNAVAILABLE
        assert [c async for c in client.list()] == acknowledged

        disk["pages"] = 1 << 30
        acknowledged.append(await client.create(a_contact(name="y")))
        assert [c async for c in client.list()] == acknowledged

    use(work)
    (said,) = {record.getMessage() for record in caplog.records if record.levelname == "ERROR"}
    assert said.endswith("database or disk is full")


def test_head_ends_a_watch_quietly(spawn_server, spawn, tmp_path):
    database = f"sqlite:///{tmp_path}/contacts.db"
    environment = os.environ | {"CONTACTS_DATABASE": database, "CONTACTS_DRAIN_PAUSE": "0"}
    flags = "--plaintext", "--address", "127.0.0.1:0"
    _, address = spawn_server("-m", "production.contacts_server", *flags, env=environment)
    client = "-m", "production.contacts_client", "--plaintext", "--address", address
    watch = spawn(*client, "watch")
    assert watch.stdout.readline() == "0  started\n"
    watch.stdout.close()

    assert python(*client, "add", "--name", "Ada").returncode == 0

    assert watch.stderr.read() == ""
    assert watch.wait(WAIT) == 128 + signal.SIGPIPE


def test_a_database_that_goes_away_and_comes_back_loses_nothing(use, settings, postgresql_url):
    """PostgreSQL ends all connections and starts again when one of its processes is killed.

    On a busy machine that may take longer than a client tries again.
    """
    settings.database = postgresql_url
    database = connect(postgresql_url)
    database.migrate()
    database.close()
    acknowledged, going = [], True

    async def work(client):
        nonlocal going

        async def load():
            while going:
                try:
                    acknowledged.append(await client.create(a_contact(name="Ada")))
                except ContactsError as error:
                    assert error.code == grpc.StatusCode.UNAVAILABLE

        tasks = [asyncio.create_task(load()) for _ in range(4)]
        await until(lambda: len(acknowledged) > 20, tasks)
        engine = create_engine(postgresql_url)
        with engine.connect() as connection:
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar()
            os.kill(pid, signal.SIGKILL)
            connection.invalidate()
        engine.dispose()
        seen = len(acknowledged)
        await until(lambda: len(acknowledged) > seen + 20, tasks)
        going = False
        await asyncio.gather(*tasks)

        stored = {contact.name async for contact in client.list(page_size=1000)}
        assert stored >= {contact.name for contact in acknowledged}

    use(work)


@pytest.mark.slow
def test_a_rolling_restart_under_load_loses_no_call(settings, run_async):
    """Two servers on one database are replaced one after the other while four clients call."""

    async def work():
        servers = [await start(settings) for _ in range(2)]
        addresses = [f"127.0.0.1:{port}" for _, port in servers]
        calls, going = 0, True

        async def load(client):
            nonlocal calls
            while going:
                contact = await client.create(a_contact(name="Ada"))
                await client.get(contact.name)
                calls += 2

        async with ContactsClient("ipv4:" + ",".join(addresses), None) as client:
            loads = [asyncio.create_task(load(client)) for _ in range(4)]
            for (server, _), address in zip(servers[:2], addresses, strict=True):
                await until(lambda enough=calls + 50: calls >= enough, loads)
                await server.stop()
                again = settings.model_copy(update={"address": address})
                servers.append(await start(again))
            await until(lambda enough=calls + 50: calls >= enough, loads)
            going = False
            await asyncio.gather(*loads)  # Raises what any call raised.
        for server, _ in servers[2:]:
            await server.stop()
        return calls

    assert run_async(work()) > 150


@pytest.fixture
def server(spawn_server, tmp_path):
    """A server process with a database of its own: the process and its address."""
    environment = os.environ | {
        "CONTACTS_ADDRESS": "127.0.0.1:0",
        "CONTACTS_DATABASE": f"sqlite:///{tmp_path}/contacts.db",
        "CONTACTS_DRAIN_PAUSE": "0",
        "CONTACTS_LOG": "json",
    }
    return spawn_server("-m", SERVER, "--plaintext", env=environment)


def test_the_command_line_from_add_to_export(server, run, tmp_path):
    _, address = server

    def ask(*args):
        return run(CLIENT, "--plaintext", "--address", address, *args)

    assert ask("add", "--name", "Ada", "--contact-id", "ada-1").stdout == "contacts/ada-1\n"
    book = AddressBook(people=[Person(name="林徽因", id=2), Person(name="Grace", id=3)])
    (tmp_path / "in.data").write_bytes(book.SerializeToString())
    assert ask("import", str(tmp_path / "in.data")).stdout == "imported 2 people\n"
    assert [line.split("  ")[1] for line in ask("list").stdout.splitlines()] == [
        "Ada",
        "Grace",
        "林徽因",
    ]
    exported = ask("export", str(tmp_path / "out.data"))
    assert exported.stdout == f"exported 3 people to {tmp_path}/out.data\n"
    people = AddressBook.FromString((tmp_path / "out.data").read_bytes()).people
    assert sorted(person.name for person in people) == ["Ada", "Grace", "林徽因"]
    assert ask("delete", "contacts/ada-1").returncode == 0
    missing = ask("get", "contacts/ada-1")
    assert (missing.returncode, missing.stderr) == (
        1,
        "error: NOT_FOUND: contacts/ada-1 does not exist\n",
    )


def test_violations_are_printed_by_field_with_status_1(server, run):
    _, address = server

    result = run(
        CLIENT, "--plaintext", "--address", address, "add", "--name", " ", "--contact-id", "X"
    )

    assert result.returncode == 1
    assert result.stderr.splitlines()[0] == "contact.person.name: may not be empty"
    assert result.stderr.splitlines()[-1].startswith("error: INVALID_ARGUMENT: ")


def test_a_damaged_file_is_not_imported(server, run, tmp_path):
    (tmp_path / "diary").write_text("Dear diary")

    result = run(CLIENT, "--plaintext", "--address", server[1], "import", str(tmp_path / "diary"))

    assert (result.returncode, result.stderr) == (1, "error: not an address book, or damaged\n")


KILLS = int(os.environ.get("KILLS", "10"))


@pytest.mark.slow
@pytest.mark.usefixtures("database")
@pytest.mark.timeout(60 * KILLS)
def test_nothing_acknowledged_is_lost_when_the_server_is_killed(spawn_server, run_async, url):
    """kill -9 under a stream of writes, again and again: all that was answered is there, once."""
    environment = os.environ | {"CONTACTS_ADDRESS": "127.0.0.1:0", "CONTACTS_DATABASE": url}

    async def write(address, process, acknowledged):
        async with ContactsClient(address, None) as client:

            async def one_writer(number):
                while True:
                    contact = a_contact(name=f"Guest {number}", id=len(acknowledged))
                    with suppress(ContactsError):
                        acknowledged.add((await client.create(contact)).name)

            writers = [asyncio.create_task(one_writer(number)) for number in range(4)]
            enough = len(acknowledged) + random.randrange(1, 60)  # noqa: S311 - no secret.
            await until(lambda: len(acknowledged) >= enough, writers)
            process.kill()
            for writer in writers:
                writer.cancel()
            await asyncio.gather(*writers, return_exceptions=True)

    async def stored(address):
        async with ContactsClient(address, None) as client:
            return [contact.name async for contact in client.list(page_size=1000)]

    acknowledged = set()
    for _ in range(KILLS):
        process, address = spawn_server("-m", SERVER, "--plaintext", env=environment)
        run_async(write(address, process, acknowledged))
        process.communicate(timeout=WAIT)
    _, address = spawn_server("-m", SERVER, "--plaintext", env=environment)
    kept = run_async(stored(address))

    assert len(acknowledged) >= KILLS
    assert acknowledged <= set(kept)
    # What was under way at a kill may have been kept, too: four calls at most, and none twice.
    assert len(kept) <= len(acknowledged) + 4 * KILLS
