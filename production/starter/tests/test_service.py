"""The service over real connections: security, metrics, drain, and what surrounds each call."""

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import aclosing

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status
from prometheus_client import REGISTRY

from production.calling.channel_credentials import TokenFile, channel_credentials
from production.calling.signing import load_plugin, sign
from production.development.fixtures import WAIT
from production.serving.observability import metrics
from production.starter.access import ACCESS, READ, SCOPES, SIGNATURE, WRITE
from production.starter.parcels_client import (
    SERVICE,
    ClosedError,
    ParcelsClient,
    ParcelsError,
    kind_name,
)
from production.starter.parcels_server import start
from production.starter.settings import Settings
from production.starter.v1 import parcels_pb2
from production.starter.v1.parcels_pb2 import (
    CreateParcelRequest,
    GetParcelRequest,
    ListParcelsRequest,
    Parcel,
    WatchParcelsResponse,
)
from production.starter.v1.parcels_pb2_grpc import ParcelServiceStub

Code = grpc.StatusCode
AUDIENCE = "https://parcels.example.com"


@pytest.fixture
def call(run_async):
    """call(ADDRESS, WORK, CREDENTIALS) gives what a function of a client returns."""

    def call(address, work, credentials=None):
        async def with_client():
            async with ParcelsClient(address, credentials) as client:
                return await work(client)

        return run_async(with_client())

    return call


def write(client):
    return client.create(Parcel(display_name="Any"))


async def read(client):
    return [parcel async for parcel in client.list()]


def result(call, *args):
    """The status code of a call."""
    try:
        call(*args)
    except ParcelsError as error:
        return error.code
    return Code.OK


def test_every_method_has_a_scope():
    service = parcels_pb2.DESCRIPTOR.services_by_name["ParcelService"]

    methods = {f"/{service.full_name}/{method.name}" for method in service.methods}
    assert methods == {method for method in SCOPES if SERVICE in method}
    assert not any(ACCESS.is_public(method) for method in methods)


def test_a_client_does_what_the_contract_promises(serve, migrated, call):
    _, address = serve(plaintext=True, database=migrated)

    async def work(client):
        created = await client.create(Parcel(display_name="Ada's"), "abcd-1")
        assert await client.get(created.name) == created
        created.display_name = "Bob's"
        changed = await client.update(created)
        assert [parcel async for parcel in client.list()] == [changed]
        with pytest.raises(ParcelsError) as conflict:
            await client.update(created)
        assert conflict.value.code == Code.ABORTED
        with pytest.raises(ParcelsError) as invalid:
            await client.create(Parcel())
        assert invalid.value.violations == [("parcel.display_name", "may not be empty")]
        await client.delete(changed.name)
        with pytest.raises(ParcelsError) as gone:
            await client.get(changed.name)
        assert gone.value.code == Code.NOT_FOUND

    call(address, work)


def test_roles_of_client_certificates(serve, certs, call):
    files = {"certificate": certs / "server.pem", "key": certs / "server.key"}
    _, address = serve(**files, client_ca=certs / "ca.pem")

    def as_(role):
        return channel_credentials(certs / "ca.pem", certs / f"{role}.pem", certs / f"{role}.key")

    assert result(call, address, write, as_("operator")) == Code.OK
    assert result(call, address, read, as_("auditor")) == Code.OK
    assert result(call, address, write, as_("auditor")) == Code.PERMISSION_DENIED
    for stranger in (as_("foreign-operator"), channel_credentials(certs / "ca.pem")):
        with pytest.raises(ParcelsError) as refused:
            call(address, lambda client: client.get("parcels/abcd"), stranger)
        assert refused.value.code == Code.UNAVAILABLE


def test_scopes_of_tokens(serve, certs, call, tokens, tmp_path):
    files = {"certificate": certs / "server.pem", "key": certs / "server.key"}
    _, address = serve(**files, issuers=tokens.table(AUDIENCE))
    file = tmp_path / "token"

    def bearing(token):
        file.write_text(token)
        return channel_credentials(certs / "ca.pem", None, None, TokenFile(file))

    both, one = {READ, WRITE}, {READ}
    editor = bearing(tokens.access_token("editor", AUDIENCE, both))
    assert result(call, address, write, editor) == Code.OK
    bearing(tokens.access_token("viewer", AUDIENCE, one))
    assert result(call, address, read, editor) == Code.OK
    assert result(call, address, write, editor) == Code.PERMISSION_DENIED
    bearing(tokens.access_token("editor", "https://other.example.com", both))
    assert result(call, address, read, editor) == Code.UNAUTHENTICATED
    nobody = channel_credentials(certs / "ca.pem")
    assert result(call, address, read, nobody) == Code.UNAUTHENTICATED


def test_signatures_of_calls(serve, certs, call, tmp_path):
    secret = base64.urlsafe_b64encode(b"s" * 33).decode()
    server, client = tmp_path / "server.json", tmp_path / "client.json"
    for file in (server, client):
        file.touch(0o600)
    server.write_text(
        json.dumps({"laptop": {"secret": secret, "principal": "ada", "scopes": [READ]}})
    )
    client.write_text(json.dumps({"key": "laptop", "secret": secret, "audience": AUDIENCE}))
    files = {"certificate": certs / "server.pem", "key": certs / "server.key"}
    _, address = serve(**files, api_keys=server)
    signing = load_plugin(client, SIGNATURE)
    caller = channel_credentials(certs / "ca.pem", None, None, signing)

    assert result(call, address, read, caller) == Code.OK
    assert result(call, address, write, caller) == Code.PERMISSION_DENIED
    method = f"/{SERVICE}/ListParcels"
    signed = sign("laptop", b"s" * 33, AUDIENCE + method, time.time(), "0" * 32)
    with grpc.secure_channel(address, channel_credentials(certs / "ca.pem")) as channel:
        stub = ParcelServiceStub(channel)
        request, metadata = ListParcelsRequest(), [(SIGNATURE, signed)]
        stub.ListParcels(request, metadata=metadata)
        with pytest.raises(grpc.RpcError) as repeated:
            stub.ListParcels(request, metadata=metadata)
    assert repeated.value.code() == Code.UNAUTHENTICATED


def test_two_callers_do_not_share(serve, certs, call, tokens, tmp_path):
    files = {"certificate": certs / "server.pem", "key": certs / "server.key"}
    _, address = serve(**files, issuers=tokens.table(AUDIENCE))
    seen = {}
    for name in ("ada", "bob"):
        file = tmp_path / name
        file.write_text(tokens.access_token(name, AUDIENCE, {READ, WRITE}))
        caller = channel_credentials(certs / "ca.pem", None, None, TokenFile(file))
        created = call(address, write, caller)
        seen[name] = [parcel.name for parcel in call(address, read, caller)]
        assert seen[name] == [created.name]


def test_calls_are_counted_and_metrics_served(serve, call, run_async):
    _, address = serve(plaintext=True)
    method = f"/{SERVICE}/CreateParcel"
    labels = {"grpc_method": method, "grpc_status": "OK"}
    name = "grpc_server_call_duration_seconds_count"
    before = REGISTRY.get_sample_value(name, labels) or 0

    call(address, write)

    assert REGISTRY.get_sample_value(name, labels) == before + 1
    runner = run_async(metrics.serve("127.0.0.1:0"))
    try:
        host, port = runner.addresses[0][:2]
        text = urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=WAIT).read().decode()
    finally:
        run_async(runner.cleanup())
    assert 'parcels_admission_places{kind="watch"} 1000.0' in text
    assert "parcels_sql_transaction_seconds_count" in text
    assert method in text


def test_a_full_server_refuses_with_a_reason(serve, call):
    _, address = serve(plaintext=True, max_watches=1)

    async def work(client):
        async with aclosing(client.watch()) as first, aclosing(client.watch()) as second:
            await anext(first)
            with pytest.raises(ParcelsError) as refused:
                await anext(second)
            return refused.value.code

    assert call(address, work) == Code.RESOURCE_EXHAUSTED


def test_every_method_of_the_client_takes_options(serve, call):
    _, address = serve(plaintext=True)
    parcel = Parcel(name="parcels/abcd", display_name="x")

    async def work(client):
        for begin in (
            lambda **options: client.create(parcel, **options),
            lambda **options: client.get(parcel.name, **options),
            lambda **options: anext(client.list(**options)),
            lambda **options: client.update(parcel, **options),
            lambda **options: client.delete(parcel.name, **options),
            lambda **options: anext(client.watch(**options)),
        ):
            with pytest.raises(ParcelsError) as late:
                await begin(timeout=0)
            assert late.value.code == Code.DEADLINE_EXCEEDED
            with pytest.raises(ValueError, match="metadata"):
                await begin(metadata=(("X", "x"),))
            with pytest.raises(ValueError, match="unencrypted"):
                await begin(credentials=grpc.access_token_call_credentials("token"))
        await client.__aexit__()
        with pytest.raises(ClosedError, match="the client is closed"):
            await client.get(parcel.name)

    call(address, work)


def test_a_watch_that_is_left_ends_on_the_server(serve, call):
    _, address = serve(plaintext=True, max_watches=1)

    async def begin_and_leave(client):
        async for _ in client.watch():
            break

    async def work(client):
        await begin_and_leave(client)
        async with asyncio.timeout(WAIT / 2):
            while True:
                try:
                    return await begin_and_leave(client)
                except ParcelsError as error:  # The server has yet to notice.
                    assert error.code == Code.RESOURCE_EXHAUSTED

    call(address, work)


def test_a_kind_of_change_that_is_not_known_is_a_number():
    assert kind_name(WatchParcelsResponse.KIND_CHANGED) == "changed"
    assert kind_name(99) == "99"


def test_a_deadline_ends_the_work(serve):
    server, address = serve(plaintext=True, default_deadline=0.2)

    with server.database.write() as _, grpc.insecure_channel(address) as channel:
        stub = ParcelServiceStub(channel)
        with pytest.raises(grpc.RpcError) as late:
            stub.CreateParcel(CreateParcelRequest(parcel=Parcel(display_name="x")))
    assert late.value.code() == Code.DEADLINE_EXCEEDED


def test_an_error_says_its_reason_and_domain(serve):
    _, address = serve(plaintext=True)

    with grpc.insecure_channel(address) as channel:
        stub = ParcelServiceStub(channel)
        name = stub.CreateParcel(CreateParcelRequest(parcel=Parcel(display_name="x"))).name
        with pytest.raises(grpc.RpcError) as conflict:
            stub.UpdateParcel(
                parcels_pb2.UpdateParcelRequest(
                    parcel=Parcel(name=name, display_name="y", etag="x")
                )
            )
        with pytest.raises(grpc.RpcError) as unknown:
            stub.GetParcel(GetParcelRequest(name="parcels/abcd"))
    reason = ErrorInfo()
    rpc_status.from_call(conflict.value).details[0].Unpack(reason)
    assert (reason.reason, reason.domain) == ("ETAG_MISMATCH", "parcels.example.com")
    assert unknown.value.code() == Code.NOT_FOUND


def test_a_watch_sees_changes_ends_with_the_drain_and_resumes(serve, run_async, migrated):
    first, address = serve(plaintext=True, database=migrated)

    async def work():
        async with ParcelsClient(address, None) as client, aclosing(client.watch()) as watch:
            started = await anext(watch)
            created = await client.create(Parcel(display_name="x"))
            seen = await anext(watch)
            waiting = asyncio.ensure_future(anext(watch))
            await asyncio.wait_for(first.stop(), WAIT)  # Does not wait for the watch.
            waiting.cancel()
            await asyncio.wait([waiting])
        return started.kind, created, seen

    kind, created, seen = run_async(work())
    assert kind == WatchParcelsResponse.KIND_STARTED
    assert seen.parcel == created

    _, address = serve(plaintext=True, database=migrated)

    async def resume():
        async with ParcelsClient(address, None) as client:
            await client.delete(created.name)
            async with aclosing(client.watch(seen.position)) as watch:
                return [(await anext(watch)).kind for _ in range(2)]

    assert run_async(resume())[1] == WatchParcelsResponse.KIND_DELETED


def test_a_watch_goes_on_with_the_next_server(serve, run_async, migrated):
    first, address = serve(plaintext=True, database=migrated)

    async def work():
        async with ParcelsClient(address, None) as client, aclosing(client.watch()) as watch:
            await anext(watch)
            await first.stop()
            second, _ = await start(Settings(address=address, plaintext=True, database=migrated))
            try:
                created = await client.create(Parcel(display_name="x"))
                while (change := await anext(watch)).kind != WatchParcelsResponse.KIND_CHANGED:
                    pass
            finally:
                await second.stop()
        return created, change.parcel

    created, seen = run_async(work())
    assert created == seen


def run(module, *args, **variables):
    """Runs a program to its end."""
    command = [sys.executable, "-m", f"production.starter.{module}", *args]
    return subprocess.run(
        command, env=os.environ | variables, capture_output=True, text=True, timeout=WAIT
    )


@pytest.mark.parametrize("flags", [[], ["--workers", "2"]])
def test_the_programs_serve_call_and_drain(url, flags):
    variables = {"PARCELS_DATABASE": url, "PARCELS_DRAIN_PAUSE": "0"}
    migrated = run("parcels_server", "migrate", **variables)
    assert migrated.stdout == "the database has schema version 1\n"
    command = [sys.executable, "-m", "production.starter.parcels_server", "--plaintext"]
    with subprocess.Popen(
        [*command, "--address", "127.0.0.1:0", *flags],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        try:
            at = ["--address", server.stdout.readline().split()[-1], "--plaintext"]
            created = run("parcels_client", *at, "create", "--display-name", "Ada's")
            listed = run("parcels_client", *at, "list")
            assert listed.stdout == f"{created.stdout.strip()}  Ada's\n"
            missing = run("parcels_client", *at, "get", "parcels/abcd")
            assert (missing.returncode, missing.stderr) == (
                1,
                "error: NOT_FOUND: parcels/abcd does not exist\n",
            )
            server.send_signal(signal.SIGTERM)
            assert server.wait(WAIT) == 0
        finally:
            server.kill()


def test_a_setting_that_does_not_exist_is_refused():
    done = run("parcels_server", "--plaintext", PARCELS_MAX_PARCEL="1")

    assert (done.returncode, done.stderr) == (
        1,
        "error: PARCELS_MAX_PARCEL: there is no such setting\n",
    )
