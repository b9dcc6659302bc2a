"""What operators do to PostgreSQL: read-only, switchover, failover, TLS and a pooler."""

import asyncio
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from urllib.parse import quote

import grpc
import psycopg
import pytest
from sqlalchemy import make_url, text

from production.contacts.database import connect
from production.contacts.settings import Settings
from production.contacts_client import ContactsError
from production.development import child, programs
from production.development.postgresql import Certificate, server
from production.serving.storage.time_limit import time_limited
from production.v1.contacts_pb2 import Contact
from protobuf_demo.addressbook_pb2 import Person
from tests.conftest import WAIT, absent, until, wait_until
from tour.player import free_ports


@pytest.fixture
def servers():
    """servers(port, ...) starts a PostgreSQL that ends with the test."""
    with ExitStack() as stack:

        def servers(*args, **options):
            try:
                return stack.enter_context(server(*args, **options))
            except programs.AbsentError as error:
                absent(error)

        yield servers


@contextmanager
def migrated(url, connections=8):
    database = connect(url, connections)
    database.migrate()
    try:
        yield database
    finally:
        database.close()


def execute(url, *statements):
    plain = url.replace("+psycopg", "")
    with psycopg.connect(plain, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def a_contact(name="Ada"):
    return Contact(person=Person(name=name))


@pytest.fixture
def use(use_settings):
    """use(URL, coroutine function) gives it a client of a server with this database."""

    def use(url, work):
        settings = Settings(address="127.0.0.1:0", plaintext=True, database=url, drain_pause=0)
        return use_settings(settings, work)

    return use


WRITABLE = "SET default_transaction_read_only = off"
END_OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


def test_a_database_that_is_read_only_is_unavailable_until_it_writes_again(
    use, postgresql_url, caplog
):
    read_only = f'ALTER DATABASE "{make_url(postgresql_url).database}" SET '
    read_only += "default_transaction_read_only = "

    async def work(client):
        ada = await client.create(a_contact())
        await asyncio.to_thread(execute, postgresql_url, f"{read_only} on", END_OTHERS)
        with pytest.raises(ContactsError) as raised:
            await client.create(a_contact())
        assert raised.value.code == grpc.StatusCode.UNAVAILABLE
        assert await client.get(ada.name) == ada

        await asyncio.to_thread(execute, postgresql_url, WRITABLE, f"{read_only} off")
        await client.create(a_contact())

    with migrated(postgresql_url):
        use(postgresql_url, work)

    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "(psycopg.errors.ReadOnlySqlTransaction) cannot execute INSERT" in said[-1]
    assert all(line.startswith("the database cannot be used: ") for line in said)
    assert not any(record.exc_info for record in caplog.records)


def test_a_transaction_that_was_cut_off_does_not_keep_its_locks(postgresql_url, monkeypatch):
    """The session of a service that is gone, or behind a cut line, has neither ended nor work."""
    monkeypatch.setattr("production.serving.storage.database.IDLE_MS", 0)
    lock = text(
        "INSERT INTO owners VALUES ('ada', 0) ON CONFLICT (owner) DO UPDATE SET position = 1"
    )
    with (
        migrated(postgresql_url) as database,
        pytest.raises(TimeoutError),
        time_limited(0.5),
        database.write() as cut_off,
        ThreadPoolExecutor(1) as others,  # They have no limit of their own.
    ):
        cut_off.execute(lock)
        others.submit(write, database, lock).result(WAIT)


def write(database, statement):
    with database.write() as connection:
        connection.execute(statement)


@pytest.fixture
def pair(servers):
    """A primary and its standby, and the URL that finds whichever writes."""
    ports = free_ports(2)
    primary = servers(ports[0])
    execute(primary.url.format("postgres"), "CREATE DATABASE contacts")
    standby = servers(ports[1], primary_port=ports[0])
    hosts = "&".join(f"host=127.0.0.1:{port}" for port in ports)
    url = f"postgresql+psycopg://postgres@/contacts?{hosts}&target_session_attrs=read-write"
    # Nothing is acknowledged that the standby does not have.
    for statement in (
        "ALTER SYSTEM SET synchronous_standby_names = '*'",
        "SELECT pg_reload_conf()",
    ):
        execute(primary.url.format("postgres"), statement)
    with migrated(url):
        yield primary, standby, url


def promote(standby):
    execute(standby.url.format("postgres"), "SELECT pg_promote()")


def kill(primary, standby):
    os.killpg(primary.process.pid, signal.SIGKILL)
    primary.process.wait(WAIT)
    promote(standby)


def switch_over(primary, standby):
    """The old primary stays, and refuses to write, also on connections that it has."""
    execute(
        primary.url.format("postgres"),
        "ALTER SYSTEM SET default_transaction_read_only = on",
        "SELECT pg_reload_conf()",
    )
    wait_until(lambda: not writing(primary))
    promote(standby)


def writing(primary):
    """Whether transactions are under way that began before the server refused to write."""
    with psycopg.connect(primary.url.format("contacts").replace("+psycopg", "")) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE backend_xid IS NOT NULL"
        return connection.execute(query).fetchone()[0]


@pytest.mark.parametrize("change", [kill, switch_over])
def test_another_server_takes_over_under_load_and_nothing_acknowledged_is_lost(use, pair, change):
    primary, standby, url = pair
    acknowledged, codes, going = set(), set(), True

    async def work(client):
        nonlocal going

        async def load():
            while going:
                try:
                    acknowledged.add((await client.create(a_contact())).name)
                except ContactsError as error:
                    codes.add(error.code)

        tasks = [asyncio.create_task(load()) for _ in range(4)]
        await until(lambda: len(acknowledged) > 20, tasks)
        await asyncio.to_thread(change, primary, standby)
        seen = len(acknowledged)
        await until(lambda: len(acknowledged) > seen + 20, tasks)
        going = False
        await asyncio.gather(*tasks)
        return {contact.name async for contact in client.list(page_size=1000)}

    stored = use(url, work)

    assert acknowledged <= stored
    assert codes <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
    with migrated(standby.url.format("contacts")) as database, database.read() as connection:
        count = connection.execute(text("SELECT count(*) FROM contacts")).scalar()
    assert count == len(stored)


def test_a_server_with_another_name_or_authority_is_refused(servers, certs):
    (port,) = free_ports(1)
    files = Certificate(certs / "server.pem", certs / "server.key")
    tls = servers(port, tls=files)
    execute(tls.url.format("postgres"), "CREATE DATABASE contacts")
    (wrong_port,) = free_ports(1)
    wrong = servers(
        wrong_port,
        tls=Certificate(certs / "server-wrong-host.pem", certs / "server-wrong-host.key"),
    )

    def attempt(port, ca):
        url = f"postgresql+psycopg://postgres@localhost:{port}/contacts"
        query = f"sslmode=verify-full&sslrootcert={quote(str(certs / ca))}"
        used = text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        with migrated(f"{url}?{query}") as database, database.read() as connection:
            return connection.execute(used).scalar()

    assert attempt(port, "ca.pem") is True
    with pytest.raises(Exception, match="certificate verify failed"):
        attempt(port, "foreign-ca.pem")
    execute(wrong.url.format("postgres"), "CREATE DATABASE contacts")
    with pytest.raises(Exception, match='does not match host name "localhost"'):
        attempt(wrong_port, "ca.pem")


@pytest.fixture
def pooled_url(postgresql_url, tmp_path):
    """The URL of a database behind PgBouncer, which gives each transaction another connection."""
    url = make_url(postgresql_url)
    (port,) = free_ports(1)
    settings = tmp_path / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\ncontacts = host={url.query['host']} dbname={url.database} user=postgres\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        "auth_type = any\npool_mode = transaction\ndefault_pool_size = 2\n"
    )
    settings.chmod(0o644)
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    try:
        command = [programs.find("pgbouncer"), *user, str(settings)]
    except programs.AbsentError as error:
        absent(error)
    if user:
        for folder in (tmp_path, *tmp_path.parents[:2]):
            folder.chmod(0o711)
    with child.child(command, stderr=subprocess.DEVNULL) as process:
        child.wait_until_connected(process, ("127.0.0.1", port))
        yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/contacts"


def test_a_pooler_works_without_prepared_statements(use, pooled_url):
    async def work(client):
        async def load():
            for _ in range(20):
                created = await client.create(a_contact())
                assert await client.get(created.name) == created

        await asyncio.gather(*(load() for _ in range(4)))

    url = f"{pooled_url}?prepare_threshold=none"
    with migrated(url):
        use(url, work)


@pytest.mark.parametrize(("threshold", "expected"), [("none", None), ("0", 0), ("7", 7)])
def test_the_url_sets_when_statements_are_prepared(postgresql_url, threshold, expected):
    url = f"{postgresql_url}&prepare_threshold={threshold}"
    with migrated(url) as database, database.read() as connection:
        assert connection.connection.driver_connection.prepare_threshold == expected


def test_a_threshold_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="prepare_threshold is a number or none, not never"):
        connect("postgresql+psycopg://postgres@/contacts?prepare_threshold=never")
