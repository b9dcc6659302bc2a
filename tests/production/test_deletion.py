"""What is deleted is gone from every table; what is old goes; an owner is erased or renamed."""

import json
import os
import time
import uuid

import pytest
from sqlalchemy import inspect, text

from production import contacts_server
from production.contacts.retention import DAY_US, OwnerError, count, erase, owners, rename, sweep
from production.contacts.settings import Settings
from production.contacts_server import start
from production.serving.resources import NotFoundError, PositionExpiredError
from production.serving.security.nonces import use_nonce
from production.serving.security.principal import pseudonym
from production.serving.storage.change_poller import ChangePoller
from production.serving.validation import InvalidError
from production.v1.contacts_pb2 import (
    Contact,
    CreateContactRequest,
    DeleteContactRequest,
    ListContactsRequest,
    UpdateContactRequest,
    WatchContactsResponse,
)
from protobuf_demo.addressbook_pb2 import Person
from tests.conftest import wait_until

ME, OTHER = '["token", "https://issuer.example.com", "me"]', "other"
EMAIL = "ada@example.org"
SERVER = "production.contacts_server"


def create(contacts, owner=ME, name="Ada", request_id="", contact_id="ada-1"):
    contact = Contact(person=Person(name=name, email=EMAIL))
    request = CreateContactRequest(contact=contact, contact_id=contact_id, request_id=request_id)
    return contacts.create(owner, request)


def update(contacts, contact, owner=ME):
    contact.person.id += 1
    request = UpdateContactRequest(contact=contact, request_id=str(uuid.uuid4()))
    return contacts.update(owner, request)


def delete(contacts, name="contacts/ada-1", owner=ME):
    contacts.delete(owner, DeleteContactRequest(name=name, request_id=str(uuid.uuid4())))


def places(database, word):
    """The tables that hold a word, in any column."""
    with database.read() as connection:
        return {
            table
            for table in inspect(connection).get_table_names()
            for row in connection.execute(text(f"SELECT * FROM {table}"))  # noqa: S608
            for value in row
            if word.encode() in (value if isinstance(value, bytes) else str(value).encode())
        }


def digests(database):
    """The fingerprints of requests that returned a contact, None for others."""
    query = text("SELECT CASE WHEN contact_id IS NULL THEN NULL ELSE fingerprint END FROM requests")
    with database.read() as connection:
        return set(connection.execute(query).scalars())


def test_a_deleted_contact_is_in_no_table(database, contacts, changes):
    request_id = str(uuid.uuid4())
    update(contacts, create(contacts, request_id=request_id))
    assert places(database, EMAIL) == {"contacts", "changes", "requests"}

    delete(contacts)

    assert places(database, EMAIL) == set()
    assert digests(database) == {None, b""}  # None: that of the deletion.
    kept = changes.after(ME, 0)
    assert [(change.kind, change.position) for change in kept] == [
        (WatchContactsResponse.KIND_DELETED, "3")
    ]
    with pytest.raises(NotFoundError, match="contacts/ada-1"):
        create(contacts, request_id=request_id)
    assert contacts.page(ME, ListContactsRequest()).contacts == []


def test_a_deletion_takes_nothing_of_another_contact(contacts, changes):
    mine, request_id = create(contacts, contact_id="other-1"), str(uuid.uuid4())
    others = create(contacts, OTHER, request_id=request_id)
    create(contacts)
    delete(contacts)

    assert contacts.get(ME, mine.name) == mine
    assert create(contacts, OTHER, request_id=request_id) == others
    assert changes.after(ME, 0)[0].contact == mine
    assert changes.after(OTHER, 0)[0].contact == others


def test_a_watcher_misses_nothing_when_changes_before_it_are_removed(contacts, changes):
    create(contacts)
    begun = changes.position(ME)
    update(contacts, contacts.get(ME, "contacts/ada-1"))
    delete(contacts)
    last = create(contacts, contact_id="last")

    seen = changes.after(ME, begun)
    assert [change.position for change in seen] == ["3", "4"]
    assert seen[-1].contact == last
    assert changes.position(ME, str(begun)) == begun


def later(monkeypatch, days):
    now = time.time_ns() + days * DAY_US * 1_000
    monkeypatch.setattr(time, "time_ns", lambda: now)


def test_old_changes_requests_and_nonces_are_removed_also_of_a_quiet_owner(
    database, contacts, changes, monkeypatch
):
    create(contacts, request_id=str(uuid.uuid4()))
    use_nonce(database, "key", "nonce", int(time.time()), time.time())
    sweep(database, 7)
    assert count(database, ME) == {"contacts": 1, "changes": 1, "requests": 1, "owners": 1}

    later(monkeypatch, 6)
    second = create(contacts, contact_id="second")
    later(monkeypatch, 2)
    sweep(database, 7)

    assert count(database, ME) == {"contacts": 2, "changes": 1, "requests": 0, "owners": 1}
    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM nonces")).scalar() == 0
    assert [change.contact for change in changes.after(ME, 1)] == [second]
    for read in (lambda: changes.after(ME, 0), lambda: changes.position(ME, "0")):
        with pytest.raises(PositionExpiredError):
            read()


def test_when_all_changes_have_gone_a_watcher_that_lags_hears_of_it(
    database, contacts, changes, monkeypatch
):
    create(contacts)
    later(monkeypatch, 8)
    sweep(database, 7)

    with pytest.raises(PositionExpiredError):
        changes.after(ME, 0)
    assert changes.after(ME, 1) == []


def test_changes_of_the_release_before_are_kept_from_the_first_sweep_on(
    database, contacts, changes, monkeypatch
):
    create(contacts)
    with database.write() as connection:
        connection.execute(text("UPDATE changes SET created_us = NULL, contact_id = NULL"))
    sweep(database, 7)
    assert len(changes.after(ME, 0)) == 1

    later(monkeypatch, 8)
    sweep(database, 7)
    assert count(database, ME)["changes"] == 0


def test_a_server_sweeps_by_itself_and_again(
    url, database, contacts, monkeypatch, run_async, caplog
):
    monkeypatch.setattr(contacts_server, "SWEEP_DELAY_S", 0)
    monkeypatch.setattr(contacts_server, "SWEEP_INTERVAL_S", 0.01)
    settings = Settings(address="127.0.0.1:0", plaintext=True, database=url, drain_pause=0)
    server, _ = run_async(start(settings))
    with database.write() as connection:
        connection.execute(text("ALTER TABLE nonces RENAME TO away"))
    wait_until(lambda: "old data was not removed" in caplog.text)
    with database.write() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO nonces"))

    create(contacts)
    with database.write() as connection:
        connection.execute(text("UPDATE changes SET created_us = 1"))
    wait_until(lambda: count(database, ME)["changes"] == 0)
    run_async(server.stop())


def test_an_owner_is_erased_and_nobody_else(database, contacts, changes):
    update(contacts, create(contacts))
    theirs = create(contacts, OTHER)
    erase(database, ME)

    assert owners(database) == [OTHER]
    assert places(database, "issuer.example.com") == set()
    assert contacts.page(OTHER, ListContactsRequest()).contacts == [theirs]
    with pytest.raises(OwnerError, match="there is no owner"):
        count(database, ME)
    with pytest.raises(PositionExpiredError):
        changes.after(ME, 2)
    with pytest.raises(InvalidError):
        changes.position(ME, "2")
    assert create(contacts).etag == '"1"'


def test_a_watcher_of_an_erased_owner_is_woken(run_async):
    async def newest(_owners):
        return {}

    run_async(ChangePoller(newest).wait(ME, 2))


def test_an_owner_is_renamed_with_everything(database, contacts, changes):
    request_id = str(uuid.uuid4())
    ada = create(contacts, request_id=request_id)
    rename(database, ME, "new name")

    assert owners(database) == ["new name"]
    assert contacts.get("new name", ada.name) == ada
    assert create(contacts, "new name", request_id=request_id) == ada
    assert [change.contact for change in changes.after("new name", 0)] == [ada]


def test_an_owner_is_not_renamed_to_one_that_exists(database, contacts):
    create(contacts)
    create(contacts, OTHER)
    with pytest.raises(OwnerError, match="there is an owner other already"):
        rename(database, ME, OTHER)
    assert owners(database) == [ME, OTHER]


@pytest.fixture
def command(run, url):
    """command(ARGS) runs a command of the server on the database."""
    environment = os.environ | {"CONTACTS_DATABASE": url}
    return lambda *args: run(SERVER, *args, env=environment)


def test_the_commands_count_first_and_act_with_yes(command, contacts, database):
    create(contacts, request_id=str(uuid.uuid4()))
    compact = json.dumps(json.loads(ME), separators=(",", ":"))

    assert command("owners").stdout == f"{ME}\n"
    dry = command("erase", compact)
    counted = "1 contacts, 1 changes, 1 requests\n"
    assert dry.stdout == f"{counted}nothing was erased; to do it, add --yes\n"
    dry = command("rename", compact, OTHER)
    assert dry.stdout == f"{counted}nothing was renamed; to do it, add --yes\n"
    assert command("rename", compact, OTHER, "--yes").stdout == f"{counted}renamed\n"
    assert command("erase", OTHER, "--yes").stdout == f"{counted}erased\n"
    assert owners(database) == []
    again = command("erase", OTHER, "--yes")
    assert (again.returncode, again.stderr) == (1, "error: there is no owner other\n")


def test_owners_are_listed_with_their_pseudonyms(run, url, contacts):
    create(contacts)
    settings = os.environ | {"CONTACTS_DATABASE": url, "CONTACTS_LOG_SECRET": "secret"}

    done = run(SERVER, "owners", "--pseudonyms", env=settings)
    assert done.stdout == f"{pseudonym(ME, 'secret')}  {ME}\n"

    done = run(SERVER, "owners", "--pseudonyms", env=settings | {"CONTACTS_LOG_SECRET": ""})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: --pseudonyms needs the CONTACTS_LOG_SECRET of the servers\n"


def test_a_command_refuses_a_misspelt_setting(run):
    misspelt = os.environ | {"CONTACTS_DATABSE": "sqlite:///elsewhere"}
    done = run(SERVER, "migrate", env=misspelt)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: CONTACTS_DATABSE: there is no such setting\n"
