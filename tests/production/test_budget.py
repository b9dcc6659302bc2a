"""The time that one's own caller has left is passed on, and so is that it has gone."""

import asyncio
import http.client
import os
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from production.calling.asgi import Budget
from production.calling.budget import budget, countdown, remaining, within
from production.contacts.contacts import Contacts
from production.contacts.settings import Settings
from production.contacts_client import ContactsClient, ContactsError
from production.contacts_server import start
from production.development import programs
from production.development.programs import AbsentError
from production.v1.contacts_pb2 import GetContactRequest
from production.v1.contacts_pb2_grpc import (
    ContactServiceServicer,
    ContactServiceStub,
    add_ContactServiceServicer_to_server,
)
from tests.conftest import absent, wait_until

GET = "/production.v1.ContactService/GetContact"
DEADLINE_EXCEEDED = grpc.StatusCode.DEADLINE_EXCEEDED
WORK = 20
"""Seconds that the slow server works at a call which nobody ends."""


def test_the_budget_that_ends_first_counts():
    assert (remaining(), within(None), within(3)) == (None, None, 3)
    with budget(10), budget(None):
        assert 9 < within(None) <= 10
        with budget(5):
            assert 4 < within(30) <= 5
            assert within(3) == 3
            with budget(8):
                assert within(30) <= 5
        assert 9 < remaining() <= 10
    assert remaining() is None


def test_a_spent_budget_is_below_zero():
    with budget(-1):
        assert within(30) < 0
    assert countdown(None)() is None
    assert 2 < countdown(3)() <= 3


@pytest.fixture
def begun():
    """What the slow server has begun to work at."""
    return []


@pytest.fixture
def slow(tmp_path, run_async, monkeypatch, caplog, begun):
    """The address of a server that takes WORK seconds to find a contact."""
    caplog.set_level("INFO", "access")

    def get(_self, _owner, name):
        begun.append(name)
        ends = time.monotonic() + WORK
        while time.monotonic() < ends and not done:
            time.sleep(0.02)

    done = []
    monkeypatch.setattr(Contacts, "get", get)
    settings = Settings(
        address="127.0.0.1:0",
        plaintext=True,
        database=f"sqlite:///{tmp_path}/contacts.db",
        drain_pause=0,
        grace=0.1,
    )
    server, port = run_async(start(settings))
    yield f"127.0.0.1:{port}"
    done.append(True)
    run_async(server.stop())


@pytest.fixture
def ended(caplog):
    """ended() waits for the server's log of the call: its status code and seconds."""

    def ended():
        def lines():
            return [r for r in caplog.records if getattr(r, "method", "") == GET]

        (line,) = wait_until(lines)
        return line.code, line.ms / 1000

    return ended


def test_calls_end_with_the_budget_and_a_spent_one_makes_none(slow, ended, run_async):
    async def work():
        async with ContactsClient(slow, None) as client:
            with budget(0.5):
                codes = []
                for _ in range(3):
                    with pytest.raises(ContactsError) as raised:
                        await client.get("contacts/ada-1", timeout=5)
                    codes.append(raised.value.code)
            return codes

    assert run_async(work()) == [DEADLINE_EXCEEDED] * 3
    code, seconds = ended()
    assert code == "DEADLINE_EXCEEDED"
    assert seconds < WORK


class AsyncFront(ContactServiceServicer):
    """Passes a call on to a slow server, with the time that is left."""

    def __init__(self, address):
        self._client = ContactsClient(address, None)

    async def GetContact(self, request, context):
        try:
            with budget(context.time_remaining()):
                return await self._client.get(request.name)
        except ContactsError as error:
            await context.abort(error.code, error.message)


class SyncFront(ContactServiceServicer):
    """The same with threads."""

    def __init__(self, address):
        self._channel = grpc.insecure_channel(address)
        self._stub = ContactServiceStub(self._channel)

    def GetContact(self, request, context):
        try:
            with budget(context.time_remaining()):
                return self._stub.GetContact(request, timeout=within(30))
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())


@pytest.fixture
def async_front(slow, serve):
    async def start(address):
        server = grpc.aio.server()
        add_ContactServiceServicer_to_server(AsyncFront(slow), server)
        port = server.add_insecure_port(address)
        await server.start()
        return server, port

    return serve(start)


@pytest.fixture
def sync_front(slow, serve):
    def start(address):
        server = grpc.server(ThreadPoolExecutor(2))
        add_ContactServiceServicer_to_server(SyncFront(slow), server)
        port = server.add_insecure_port(address)
        server.start()
        return server, port

    return serve(start)


@pytest.mark.parametrize("kind", ["async_front", "sync_front"])
def test_a_servicer_passes_on_its_deadline(kind, request, ended):
    address = request.getfixturevalue(kind)
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as raised:
        ContactServiceStub(channel).GetContact(GetContactRequest(name="contacts/a"), timeout=0.5)

    assert raised.value.code() == DEADLINE_EXCEEDED
    code, seconds = ended()
    assert code in ("DEADLINE_EXCEEDED", "CANCELLED")
    assert seconds < WORK


def test_a_servicer_passes_on_that_its_caller_has_gone(async_front, begun, ended):
    with grpc.insecure_channel(async_front) as channel:
        call = ContactServiceStub(channel).GetContact.future(GetContactRequest(name="contacts/a"))
        wait_until(lambda: begun)
        call.cancel()

    assert ended()[0] == "CANCELLED"


@pytest.fixture
def web(slow, spawn):
    """The port of a FastAPI application in front of the slow server."""
    try:
        uvicorn = programs.find("uvicorn")
    except AbsentError as error:
        absent(error)
    app = "production.development.web_application:app"
    process = spawn(uvicorn, app, "--port", "0", env=os.environ | {"SERVICE": slow})
    for line in process.stderr:
        if "running on" in line:
            return int(line.partition("127.0.0.1:")[2].split()[0])
    raise AssertionError


def test_a_web_request_has_its_budget(web, ended):
    connection = http.client.HTTPConnection("127.0.0.1", web, timeout=30)
    connection.request("GET", "/contacts/ada-1")
    answer = connection.getresponse()

    assert answer.status == 504
    connection.close()
    code, seconds = ended()
    assert code == "DEADLINE_EXCEEDED"
    assert seconds < WORK


def test_a_web_client_that_leaves_ends_the_call(web, begun, ended):
    connection = http.client.HTTPConnection("127.0.0.1", web, timeout=30)
    connection.request("GET", "/contacts/ada-1")
    wait_until(lambda: begun)
    connection.close()

    assert ended()[0] == "CANCELLED"  # Not DEADLINE_EXCEEDED: before the budget ends.


class Web:
    """What an ASGI server does with one request."""

    def __init__(self, *messages):
        self._messages, self.sent = list(messages), []
        self.left = asyncio.Event()

    async def receive(self):
        if self._messages:
            return {"type": "http.request", **self._messages.pop(0)}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sent.append(message)

    async def request(self, app):
        await Budget(app, 1.0)({"type": "http"}, self.receive, self.send)


BODY = {"body": b"x", "more_body": True}, {"body": b"y"}
END = {"type": "http.response.body", "body": b""}


def test_the_application_reads_the_body_and_then_that_the_client_has_gone(run_async):
    read = []

    async def app(_scope, receive, _send):
        assert 0.5 < remaining() <= 1
        for _ in range(3):
            read.append(await receive())
            if len(read) == 2:
                web.left.set()

    async def work():
        nonlocal web
        web = Web(*BODY)
        await web.request(app)

    web = None
    run_async(work())
    assert [message.get("body") for message in read] == [b"x", b"y"]


def test_what_follows_the_response_is_not_cancelled(run_async):
    """From then on, an ASGI server says of every client that it has gone."""
    done = []

    async def app(_scope, _receive, send):
        await send(END)
        web.left.set()
        await asyncio.sleep(0.05)
        done.append("background task")

    async def work():
        nonlocal web
        web = Web({})
        await web.request(app)

    web = None
    run_async(work())
    assert (done, web.sent) == (["background task"], [END])


def test_what_an_application_raises_is_raised(run_async):
    async def app(_scope, _receive, _send):
        raise KeyError("Ada")

    async def work():
        with pytest.raises(KeyError):
            await Web({}).request(app)

    run_async(work())


def test_a_server_that_stops_cancels_the_application(run_async):
    async def app(_scope, _receive, _send):
        await asyncio.sleep(60)

    async def work():
        task = asyncio.create_task(Web({}).request(app))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run_async(work())
