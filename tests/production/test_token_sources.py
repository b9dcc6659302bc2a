"""Where a client's tokens come from: a file, or a token endpoint; and what outlives a token."""

import asyncio
import json
from contextlib import suppress

import grpc
import pytest
from aiohttp import web

from production.calling import client_credentials
from production.calling.channel_credentials import (
    MAX_TOKEN_BYTES,
    TokenFile,
    call_credentials,
    channel_credentials,
)
from production.calling.client_credentials import ClientCredentials, parse
from production.contacts.contacts import Contacts
from production.contacts_client import ContactsClient, ContactsError
from production.development import issuer as development
from production.serving.layers.deadline import DrainingError
from production.serving.security import authentication
from production.serving.security.principal import RefusedError
from production.v1.contacts_pb2 import Contact, WatchContactsResponse
from protobuf_demo.addressbook_pb2 import Person
from tests.conftest import until, wait_until
from tests.production.tokens import AUDIENCE, bearer

CLIENT = "production.contacts_client"
UNAUTHENTICATED, UNAVAILABLE = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE
KIND = WatchContactsResponse


def a_token(**claims):
    ((_, value),) = bearer(**claims)
    return value.removeprefix("Bearer ")


def ask(plugin):
    """The metadata and the error that a plugin gives."""
    given = []
    plugin(None, lambda *answer: given.append(answer))
    return wait_until(lambda: given)[0]


BAD = {
    "missing": (None, "No such file or directory"),
    "empty": (b" \n", "the file is empty"),
    "two lines": (b"one\ntwo\n", "more than one line"),
    "not text": ("ключ".encode(), "not text"),
    "too long": (b"x" * (MAX_TOKEN_BYTES + 1), "more than 8,192 bytes"),
}


@pytest.mark.parametrize(("content", "why"), BAD.values(), ids=BAD)
def test_a_bad_token_file_is_an_error_at_the_start(content, why, tmp_path):
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises((OSError, ValueError), match=why):
        TokenFile(file)
    with pytest.raises((OSError, ValueError), match=why):
        ClientCredentials("https://issuer.example.com", "editor", file)


@pytest.mark.parametrize("command", ["list", "watch"])
def test_the_command_line_says_so_in_one_line(command, certs, run):
    flags = "--ca", str(certs / "ca.pem"), "--token-file", str(certs / "none")
    result = run(CLIENT, "--address", "localhost:1", *flags, command)

    assert (result.returncode, result.stderr) == (
        1,
        f"error: {certs / 'none'}: No such file or directory\n",
    )


def test_calls_send_what_the_token_file_has_now_or_had_last(tmp_path, caplog):
    file = tmp_path / "token"
    file.write_text("one\n")
    plugin = TokenFile(file)
    file.write_text("two\n")
    assert ask(plugin) == ((("authorization", "Bearer two"),), None)
    file.unlink()
    assert [ask(plugin), ask(plugin)] == [((("authorization", "Bearer two"),), None)] * 2
    assert len(caplog.records) == 1
    file.write_text("three\n")
    assert ask(plugin) == ((("authorization", "Bearer three"),), None)


@pytest.fixture
def client_of(serve_tls, certs, issuers):
    """client_of(PLUGIN) is a client with TLS of a server that trusts the issuer of our tokens."""
    address = serve_tls(issuers=issuers)

    def client_of(plugin=None, address=address):
        calls = call_credentials(plugin) if plugin else None
        return ContactsClient(address, channel_credentials(certs / "ca.pem"), calls)

    return client_of


def test_the_credentials_of_a_call_replace_those_of_the_client(client_of, tmp_path, run_async):
    """Sent together, the server would refuse them."""
    file = tmp_path / "token"
    file.write_text(a_token())
    grace = grpc.access_token_call_credentials(a_token(sub="grace"))

    async def work():
        async with client_of(TokenFile(file)) as client:
            await client.create(Contact(person=Person(name="Grace")), credentials=grace)
            of_grace = [c.person.name async for c in client.list(credentials=grace)]
            return of_grace, [c.person.name async for c in client.list()]

    assert run_async(work()) == (["Grace"], [])


@pytest.fixture
def lives(monkeypatch):
    """lives(SECONDS): from now on, what a server grants ends so soon."""
    return lambda seconds: monkeypatch.setattr(authentication, "LEEWAY_S", seconds - 300)


def test_a_watch_goes_on_through_renewals_and_misses_nothing(client_of, lives, tmp_path, run_async):
    lives(3)
    file = tmp_path / "token"
    file.write_text(a_token())
    added, seen, started = [], [], 0

    async def renew():
        while True:
            await asyncio.sleep(0.1)
            temporary = tmp_path / "new"
            temporary.write_text(a_token())
            temporary.replace(file)

    async def add(client):
        while True:
            added.append((await client.create(Contact(person=Person(name="Ada")))).name)
            await asyncio.sleep(0.05)

    async def watch(client):
        nonlocal started
        async for change in client.watch():
            if change.kind == KIND.KIND_STARTED:
                started += 1
            else:
                seen.append(change.contact.name)

    async def work():
        async with client_of(TokenFile(file)) as client:
            watching = asyncio.create_task(watch(client))
            tasks = [watching, asyncio.create_task(renew())]
            await until(lambda: started, tasks)
            adding = asyncio.create_task(add(client))
            await until(lambda: started == 3, [*tasks, adding])
            adding.cancel()
            await asyncio.gather(adding, return_exceptions=True)
            await until(lambda: len(seen) >= len(added), tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    run_async(work())
    assert seen[: len(added)] == added
    assert len(seen) == len(set(seen))


def test_a_watch_whose_token_is_not_renewed_ends(client_of, lives, tmp_path, run_async):
    lives(2)
    file = tmp_path / "token"
    file.write_text(a_token())

    async def work():
        async with client_of(TokenFile(file)) as client:
            kinds = []
            with pytest.raises(ContactsError) as raised:
                async for change in client.watch():
                    kinds.append(change.kind)
            return kinds, raised.value.code

    assert run_async(work()) == ([KIND.KIND_STARTED], UNAUTHENTICATED)


@pytest.fixture
def cut_export(monkeypatch):
    """cut_export(ERRORS) ends an export with each of these, one contact further than the last."""

    def cut_export(errors):
        original, calls = Contacts.export, []

        def export(self, owner):
            calls.append(owner)
            for batch in original(self, owner):
                yield batch[: len(calls)]
                if len(calls) <= len(errors):
                    raise errors[len(calls) - 1]
                yield batch[len(calls) :]

        monkeypatch.setattr(Contacts, "export", export)
        return calls

    return cut_export


def test_an_export_goes_on_with_what_is_left(client_of, cut_export, tmp_path, run_async):
    calls = cut_export([RefusedError("expired meanwhile"), DrainingError(), RefusedError("again")])
    file = tmp_path / "token"
    file.write_text(a_token())

    async def work():
        async with client_of(TokenFile(file)) as client:
            await client.import_people(Person(name=f"Guest {n}") for n in range(6))
            return [contact.person.name async for contact in client.export()]

    assert sorted(run_async(work())) == [f"Guest {n}" for n in range(6)]
    assert len(calls) == 4


def test_an_export_that_gets_nowhere_ends(client_of, cut_export, tmp_path, run_async):
    cut_export([RefusedError("always")] * 100)
    file = tmp_path / "token"
    file.write_text(a_token())

    async def work():
        async with client_of(TokenFile(file)) as client:
            await client.create(Contact(person=Person(name="Ada")))
            with pytest.raises(ContactsError) as raised:
                async for _ in client.export():
                    pass
            return raised.value.code

    assert run_async(work()) == UNAUTHENTICATED


@pytest.fixture
def issuer(run_async):
    issuer, _ = run_async(development.start())
    yield issuer
    run_async(issuer.stop())


def test_a_client_gets_its_tokens_by_the_grant(issuer, serve_tls, certs, tmp_path, run):
    address = serve_tls(issuers=issuer.table(AUDIENCE)[:1])
    secret = tmp_path / "secret"
    secret.write_text(issuer.secrets["editor"] + "\n")

    def ask(*command, client="editor", endpoint=f"{issuer.url}/token"):
        return run(
            CLIENT, "--address", address, "--ca", str(certs / "ca.pem"),
            "--token-endpoint", endpoint, "--client-id", client,
            "--client-secret-file", str(secret), "--audience", AUDIENCE, *command,
        )  # fmt: skip

    assert ask("add", "--name", "Ada", "--contact-id", "ada-1").stdout == "contacts/ada-1\n"
    refused = ask("list", client="viewer")
    assert refused.stderr == (
        f"error: UNAUTHENTICATED: {issuer.url}/token refuses the client 'viewer': invalid_client\n"
    )
    for command in ("list", "watch"):
        (line,) = ask(command, endpoint="http://127.0.0.1:1/token").stderr.splitlines()
        assert line.startswith("error: UNAVAILABLE: no token from http://127.0.0.1:1/token: ")


class Endpoint:
    """A token endpoint that counts its requests, and answers what it is told."""

    def __init__(self, run_async):
        self.asked, self.url, self._run_async = 0, "", run_async
        self.go = None
        self.answer = lambda n: web.json_response(
            {"access_token": f"token-{n}", "token_type": "Bearer", "expires_in": 3600}
        )

    async def start(self, address):
        app = web.Application()
        app.router.add_post("/token", self._token)
        self._runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
        await self._runner.setup()
        host, _, port = address.rpartition(":")
        await web.TCPSite(self._runner, host, int(port)).start()
        return self, self._runner.addresses[0][1]

    async def stop(self, _grace):
        await self._runner.cleanup()

    async def _token(self, _request):
        self.asked += 1
        if self.go:
            await self.go.wait()
        answer = self.answer(self.asked)
        return await answer if asyncio.iscoroutine(answer) else answer


@pytest.fixture
def endpoint(serve, run_async, tmp_path):
    endpoint = Endpoint(run_async)
    address = serve(endpoint.start)
    (tmp_path / "secret").write_text("secret")
    endpoint.plugin = ClientCredentials(f"http://{address}/token", "me", tmp_path / "secret")
    return endpoint


def sends(number):
    return (("authorization", f"Bearer token-{number}"),), None


def test_many_calls_wait_for_one_fetch_and_none_of_them_blocks(endpoint):
    endpoint.go = asyncio.Event()
    given = []
    for _ in range(50):
        endpoint.plugin(None, lambda *answer: given.append(answer))
    wait_until(lambda: endpoint.asked)
    assert given == []

    endpoint._run_async(set_event(endpoint.go))

    wait_until(lambda: len(given) == 50)
    assert (set(given), endpoint.asked) == ({sends(1)}, 1)


def test_calls_that_wait_for_a_token_end_at_their_deadline(endpoint, client_of, run_async):
    endpoint.go = asyncio.Event()

    async def work():
        async with client_of(endpoint.plugin) as client:
            with pytest.raises(ContactsError) as raised:
                await client.get("contacts/ada-1", timeout=0.5)
            return raised.value.code

    assert run_async(work()) == grpc.StatusCode.DEADLINE_EXCEEDED
    run_async(set_event(endpoint.go))


async def set_event(event):
    event.set()


@pytest.fixture
def clock(monkeypatch):
    """The time of the plugins, in seconds, which a test moves."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(client_credentials, "time", clock)
    return clock


def test_a_token_is_renewed_shortly_before_it_expires_without_waiting(endpoint, clock):
    assert ask(endpoint.plugin) == sends(1)
    clock.now += 3569
    assert ask(endpoint.plugin) == sends(1)
    assert endpoint.asked == 1
    clock.now += 2
    assert ask(endpoint.plugin) == sends(1)
    wait_until(lambda: ask(endpoint.plugin) == sends(2))
    assert endpoint.asked == 2


def test_a_token_outlives_an_endpoint_that_fails_and_then_calls_fail(endpoint, clock, caplog):
    assert ask(endpoint.plugin) == sends(1)
    endpoint.answer = lambda _: web.Response(status=503)
    clock.now += 3590
    assert ask(endpoint.plugin) == sends(1)
    wait_until(lambda: endpoint.asked == 2 and not endpoint.plugin._fetching)
    assert ask(endpoint.plugin) == sends(1)
    assert endpoint.asked == 2  # The last failure was just now.
    clock.now += 11
    metadata, error = ask(endpoint.plugin)
    assert (metadata, endpoint.asked) == ((), 3)
    assert "503" in str(error)
    (line,) = caplog.records
    assert line.getMessage().startswith("the token cannot be renewed: no token from http")


async def silence(_number):
    await asyncio.sleep(3600)


class Drip(web.StreamResponse):
    """An answer that comes byte by byte, and never ends."""

    async def write_eof(self, _data=b""):
        with suppress(ConnectionError):
            while True:
                await self.write(b" ")
                await asyncio.sleep(0.05)


ANSWERS = {
    "nothing": (silence, "timed out"),
    "a byte at a time": (lambda _: Drip(), "takes too long"),
    "too much": (lambda _: web.Response(body=b" " * 100_000), "too long"),
    "no JSON": (lambda _: web.Response(text="<html>"), "not a token's"),
    "no object": (lambda _: web.json_response([]), "not a token's"),
    "another type": (
        lambda _: web.json_response({"access_token": "a", "token_type": "mac"}),
        "not a bearer token",
    ),
    "a token of two lines": (
        lambda _: web.json_response({"access_token": "a\nb", "token_type": "bearer"}),
        "not text",
    ),
    "a redirection": (lambda _: web.Response(status=302, headers={"Location": "/token"}), "302"),
    "too many requests": (lambda _: web.Response(status=429), "429"),
}


@pytest.mark.parametrize(("answer", "why"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_that_is_no_token_makes_calls_unavailable(endpoint, monkeypatch, answer, why):
    monkeypatch.setattr(client_credentials, "TIMEOUT_S", 0.5)
    endpoint.answer = answer

    metadata, error = ask(endpoint.plugin)

    assert (metadata, endpoint.asked) == ((), 1)
    assert not isinstance(error, client_credentials.RefusedError)
    assert why in str(error)


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refusal_is_not_asked_for_again_at_once(endpoint, status):
    endpoint.answer = lambda _: web.json_response({"error": "invalid_client"}, status=status)

    errors = {str(ask(endpoint.plugin)[1]) for _ in range(5)}

    assert endpoint.asked == 1
    assert errors == {f"UNAUTHENTICATED: {endpoint.plugin._endpoint} refuses the client 'me': "
                      "invalid_client"}  # fmt: skip


@pytest.mark.parametrize("life", ["3600", 3600, 3600.0])
def test_a_life_may_be_a_number_or_text(life):
    answer = {"access_token": "a", "token_type": "bearer", "expires_in": life}

    assert parse(json.dumps(answer).encode(), 0) == ("a", 3570, 3600)


@pytest.mark.parametrize("life", [0, -1, "NaN", "soon", None, [1]])
def test_a_life_that_cannot_be_meant_is_refused(life):
    answer = {"access_token": "a", "token_type": "bearer", "expires_in": life}

    with pytest.raises(ValueError, match="token"):
        parse(json.dumps(answer).encode(), 0)


@pytest.mark.parametrize(
    "url",
    ["", "localhost", "http://issuer.example.com/token", "ftp://localhost/", "https://a:b@c/",
     "https://", "https://[", "https://a/#b", "https://a:70000/", "file:///etc/passwd"],
)  # fmt: skip
def test_a_secret_is_sent_over_https_only(url, tmp_path):
    (tmp_path / "secret").write_text("secret")

    with pytest.raises(ValueError, match="expected a token endpoint"):
        ClientCredentials(url, "me", tmp_path / "secret")
