"""How the client's calls begin and end: options, errors, streams that are left, large imports."""

import argparse
import asyncio
import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

import grpc
import pytest

from production.calling.budget import budget
from production.contacts.access import DEVELOPMENT
from production.contacts.changes import Changes
from production.contacts.settings import Settings
from production.contacts_client import ClosedError, ContactsClient, ContactsError
from production.contacts_client.__main__ import run_watch
from production.development import rename
from production.serving.layers.admission import Room
from production.serving.observability import metrics
from production.serving.overload import OverloadedError
from production.v1.contacts_pb2 import Contact, WatchContactsResponse
from protobuf_demo.addressbook_pb2 import Person
from tests.conftest import WAIT, until

Code = grpc.StatusCode
SERVICE = "/production.v1.ContactService"
ADA = Contact(name="contacts/ada-1", person=Person(name="Ada"))


async def first(stream):
    async with aclosing(stream) as items:
        return await anext(items, None)


METHODS = {
    "CreateContact": lambda client, **options: client.create(ADA, "ada-2", **options),
    "GetContact": lambda client, **options: client.get(ADA.name, **options),
    "ListContacts": lambda client, **options: first(client.list(**options)),
    "UpdateContact": lambda client, **options: client.update(ADA, **options),
    "DeleteContact": lambda client, **options: client.delete(ADA.name, **options),
    "ImportContacts": lambda client, **options: client.import_people([], **options),
    "ExportContacts": lambda client, **options: first(client.export(**options)),
    "WatchContacts": lambda client, **options: first(client.watch(**options)),
}


@pytest.fixture
def use(tmp_path, use_settings):
    """use(coroutine function) gives it a client of a running server."""
    database = f"sqlite:///{tmp_path}/contacts.db"
    settings = Settings(address="127.0.0.1:0", plaintext=True, database=database, drain_pause=0)
    return lambda work: use_settings(settings, work)


async def error_of(awaitable):
    with pytest.raises(ContactsError) as raised:
        await awaitable
    return raised.value


def in_flight(method):
    return metrics.for_method(f"{SERVICE}/{method}").in_flight._value.get()


def test_every_method_takes_the_same_options(use, caplog):
    async def work(client):
        await client.create(ADA, "ada-1")
        for name, call in METHODS.items():
            await call(client, timeout=30, metadata=(("x-request-id", name),))
            error = await error_of(call(client, timeout=0))
            assert (error.code, error.message) == (
                Code.DEADLINE_EXCEEDED,
                "no time is left for the call",
            )
            for wrong in ({"X": "x"}, {"x": "\n"}, {"x-bin": "x"}, {"x": b"x"}):
                with pytest.raises(ValueError, match="metadata"):
                    await call(client, metadata=tuple(wrong.items()))
            with pytest.raises(ValueError, match="unencrypted"):
                await call(client, credentials=grpc.access_token_call_credentials("token"))
            with pytest.raises(TypeError, match="tiemout"):
                await call(client, tiemout=1)
            if name == "DeleteContact":
                await client.create(ADA, "ada-1")

    caplog.set_level("INFO", "access")
    use(work)

    named = {
        r.request_id: r.method for r in caplog.records if getattr(r, "request_id", "") in METHODS
    }
    assert named == {name: f"{SERVICE}/{name}" for name in METHODS}


def test_call_credentials_need_a_channel_that_is_encrypted(run_async):
    async def work():
        with pytest.raises(ValueError, match="unencrypted"):
            ContactsClient("localhost:1", None, grpc.access_token_call_credentials("token"))

    run_async(work())


def test_a_conflict_has_the_current_etag_and_can_be_pickled(use):
    async def work(client):
        before = await client.create(ADA, "ada-1")
        changed = Contact(name=before.name, etag=before.etag, person=Person(name="Grace"))
        after = await client.update(changed)
        return after.etag, await error_of(client.update(changed))

    etag, error = use(work)
    for each in (error, pickle.loads(pickle.dumps(error))):  # noqa: S301 - our own.
        assert (type(each), each.code, each.etag) == (ContactsError, Code.ABORTED, etag)
        assert (each.domain, each.reason) == ("contacts.example.com", "ETAG_MISMATCH")
        assert (each.metadata, each.retry_delay) == ({"etag": etag}, None)
        assert str(each) == "contacts/ada-1 has changed; read it again"


def test_a_rename_begins_again_when_somebody_was_faster(use, capsys, monkeypatch):
    async def work(client):
        await client.create(ADA, "ada-1")
        original, faster = client.get, []

        async def get(name, **options):
            read = await original(name, **options)
            if not faster:
                theirs = Contact(name=name, person=Person(name="Grace", email="grace@example.com"))
                faster.extend([read.etag, (await client.update(theirs)).etag])
            return read

        monkeypatch.setattr(client, "get", get)
        etag = await rename.rename(client, "contacts/ada-1", "Ada King")
        return faster, etag, await original("contacts/ada-1")

    (before, between), etag, after = use(work)
    assert capsys.readouterr().err == f"somebody was faster: etag {before}, now {between}\n"
    assert (after.etag, after.person.name) == (etag, "Ada King")
    assert after.person.email == "grace@example.com"


def test_a_full_server_says_when_to_come_back(use, monkeypatch):
    original = Room.enter

    def enter(self, caller):
        original(self, caller)
        if caller == DEVELOPMENT.name:  # Not the client's watch of our health.
            raise OverloadedError("caller")

    monkeypatch.setattr(Room, "enter", enter)
    error = use(lambda client: error_of(client.get("contacts/ada-1", timeout=30)))

    assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert (error.metadata, error.retry_delay) == ({"limit": "caller"}, 0.5)


def test_details_that_are_not_a_status_are_left_out():
    assert ContactsError(Code.UNKNOWN, "why", b"\xff").metadata == {}


@pytest.mark.parametrize("closes", [True, False], ids=["closed", "dropped"])
@pytest.mark.parametrize("method", ["ExportContacts", "WatchContacts"])
def test_streams_that_are_left_end_on_the_server(use, method, closes):
    """By itself, gRPC keeps each of them open; from the hundredth on, every call waits."""

    async def work(client):
        people = (Person(name="Ada", email="x" * 190) for _ in range(10_000))
        await client.import_people(people)
        for _ in range(150):
            stream = client.watch() if method == "WatchContacts" else client.export()
            if closes:
                async with aclosing(stream):
                    async for _ in stream:
                        break
            else:
                async for _ in stream:
                    break
                del stream
        await client.get((await first(client.list())).name)
        await until(lambda: in_flight(method) == 0, [])

    use(work)


def test_a_watch_that_is_cancelled_ends_on_the_server(use):
    async def work(client):
        async def watch():
            async for _ in client.watch():
                pass

        task = asyncio.create_task(watch())
        await until(lambda: in_flight("WatchContacts") == 1, [task])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: in_flight("WatchContacts") == 0, [])

    use(work)


def test_a_closed_client_says_so_itself(use):
    async def work(client):
        watch = client.watch()
        await anext(watch)
        waiting = asyncio.create_task(anext(watch))
        await asyncio.sleep(0)
        await client.__aexit__()
        errors = [await error_of(waiting)]
        errors += [await error_of(call(client)) for call in METHODS.values()]
        return {(type(error), error.code, str(error)) for error in errors}

    assert use(work) == {(ClosedError, Code.FAILED_PRECONDITION, "the client is closed")}


def test_large_people_are_imported(use):
    """600 people as large as the rules allow are 10 MB."""
    phones = [Person.PhoneNumber(number="電" * 200)] * 20
    large = Person(name="林" * 200, email="é" * 200, phones=phones)

    async def work(client):
        assert await client.import_people([large] * 600) == 600
        people = [contact.person async for contact in client.export()]
        assert (len(people), all(person == large for person in people)) == (600, True)

    use(work)


@pytest.mark.parametrize(
    ("size", "why"),
    [
        (1 << 19, r"people\[500\].name must have at most 200 characters, got 524288"),
        ((1 << 20) - 50, r"people\[500\].name must have at most 200 characters, got 1048526"),
        (1 << 20, r"people\[500\] is larger than 1 MiB, got 1,048,580 bytes"),
        (5 << 20, r"people\[500\] is larger than 1 MiB, got 5,242,885 bytes"),
    ],
)
def test_a_person_who_is_too_large_is_named(use, size, why):
    async def work(client):
        people = [Person(name="Ada")] * 500
        people += [Person(name="x" * size), *people * 2]
        error = await error_of(client.import_people(people))
        assert error.code == Code.INVALID_ARGUMENT
        with pytest.raises(ContactsError, match=why):
            raise error
        assert [c async for c in client.list()] == []

    use(work)


@pytest.mark.parametrize("error", [KeyError, asyncio.InvalidStateError])
def test_people_who_cannot_be_read_add_nobody(use, caplog, error):
    def people():
        yield from [Person(name="Ada")] * 2000
        raise error("Grace")

    async def work(client):
        with pytest.raises(error):
            await client.import_people(people())
        await until(lambda: in_flight("ImportContacts") == 0, [])
        return [c async for c in client.list()]

    caplog.set_level("INFO", "access")
    assert use(work) == []
    codes = {r.method: r.code for r in caplog.records if r.name == "access"}
    assert codes[f"{SERVICE}/ImportContacts"] == "CANCELLED"


def test_kinds_of_change_that_a_newer_server_has_are_numbers(use, monkeypatch, capsys):
    """A watch does not end for them."""
    original = Changes.after

    def after(self, owner, position):
        changes = original(self, owner, position)
        for change in changes[:1]:
            change.kind = 99
        return changes

    monkeypatch.setattr(Changes, "after", after)

    async def work(client):
        watching = asyncio.create_task(run_watch(client, argparse.Namespace(position="")))
        printed = []
        await until(lambda: printed.append(capsys.readouterr().out) or "".join(printed), [watching])
        await client.create(ADA, "ada-1")
        await until(
            lambda: printed.append(capsys.readouterr().out) or "Ada" in "".join(printed), [watching]
        )
        await client.delete("contacts/ada-1")
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching
        return "".join(printed)

    assert use(work) == "0  started\n1  99  contacts/ada-1  Ada\n"
    assert 99 not in WatchContactsResponse.Kind.values()


def test_threads_share_a_client_through_its_loop(use):
    """And their budget goes with the call."""

    async def work(client):
        loop = asyncio.get_running_loop()

        def create(number):
            waiting = asyncio.run_coroutine_threadsafe(client.create(ADA, f"ada-{number}"), loop)
            return waiting.result(WAIT).name

        def late():
            with budget(0):
                return create(100)

        with ThreadPoolExecutor(8) as threads:
            made = [loop.run_in_executor(threads, create, number) for number in range(50)]
            assert await asyncio.gather(*made) == [f"contacts/ada-{number}" for number in range(50)]
            assert (await error_of(loop.run_in_executor(threads, late))).code == (
                Code.DEADLINE_EXCEEDED
            )

    use(work)
