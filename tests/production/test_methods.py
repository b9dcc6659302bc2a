"""Every method of the contracts is implemented and offered wherever it should be.

After a method was added, the tests that fail here name what was forgotten. Its scope is in
test_security.py.
"""

import asyncio
import sys
from unittest import mock

from production.contacts.access import UPLOADS, WATCHES
from production.contacts.servicer import ContactServicer
from production.contacts.servicer_v2 import ContactServicerV2
from production.contacts.settings import Settings
from production.contacts_client import ContactsClient
from production.contacts_client.__main__ import parse_arguments
from production.contacts_server import SERVICE, start
from production.v1 import contacts_pb2
from production.v1.contacts_pb2 import Contact
from production.v2 import contacts_pb2 as v2
from protobuf_demo.addressbook_pb2 import AddressBook, Person

METHODS = contacts_pb2.DESCRIPTOR.services_by_name["ContactService"].methods
NO_COMMAND = {"update"}
"""Methods of the client that its command line does not offer."""


def test_the_servicers_have_every_method():
    methods_v2 = v2.DESCRIPTOR.services_by_name["ContactService"].methods

    assert {method.name for method in METHODS} <= set(vars(ContactServicer))
    assert {method.name for method in methods_v2} <= set(vars(ContactServicerV2))


def test_every_watch_lasts():
    """The server would end any other call after max_deadline."""
    watches = {f"/{SERVICE}/{method.name}" for method in METHODS if method.name[:5] == "Watch"}

    assert watches | {"/grpc.health.v1.Health/Watch"} == WATCHES


def test_every_stream_of_requests_is_an_upload():
    """Its requests go to files, so there are few places for it."""
    streams = {f"/{SERVICE}/{method.name}" for method in METHODS if method.client_streaming}

    assert streams == UPLOADS


async def use_all(client):
    """Calls every method of the client."""
    created = await client.create(Contact(person=Person(name="Ada")))
    await client.update(await client.get(created.name))
    await client.delete(created.name)
    await client.import_people([])
    for stream in (client.list(), client.export(), client.watch("0")):
        await anext(stream, None)
        await stream.aclose()


def test_the_client_calls_every_method(tmp_path, run_async, caplog):
    async def work():
        database = f"sqlite:///{tmp_path}/contacts.db"
        settings = Settings(address="127.0.0.1:0", plaintext=True, database=database, drain_pause=0)
        server, port = await start(settings)
        async with ContactsClient(f"127.0.0.1:{port}", None) as client:
            await use_all(client)
        await server.stop()

    caplog.set_level("INFO", "access")
    run_async(work())

    called = {record.method for record in caplog.records if record.name == "access"}
    assert called == {f"/{SERVICE}/{method.name}" for method in METHODS}


def test_the_command_line_offers_every_method(tmp_path):
    client = mock.AsyncMock(spec=ContactsClient)
    client.import_people.return_value = 0
    (tmp_path / "book").write_bytes(AddressBook().SerializeToString())
    commands = [
        ["list"], ["get", "contacts/x"], ["add", "--name=Ada"], ["delete", "contacts/x"],
        ["import", str(tmp_path / "book")], ["export", str(tmp_path / "all")], ["watch"],
    ]  # fmt: skip

    for command in commands:
        with mock.patch.object(sys, "argv", ["PROGRAM", *command]):
            args = parse_arguments()
        asyncio.run(args.run(client, args))

    offered = {name for name in vars(ContactsClient) if not name.startswith("_")}
    assert {name for name, *_ in client.method_calls} == offered - NO_COMMAND
