"""The mistakes in the tables of the chapter's page, each made: the page shows the real message."""

import asyncio
import datetime
import re
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from helloworld import async_greeter_server, greeter_server
from helloworld.helloworld_pb2 import HelloReply, HelloRequest
from helloworld.helloworld_pb2_grpc import GreeterStub

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "helloworld" / "README.md").read_text()
ADA = HelloRequest(name="Ada")


def describe(error):
    """Returns an error as the chapter's page and its clients show it."""
    if isinstance(error, grpc.RpcError):
        return f"{error.code().name}: {error.details()}"
    return f"{type(error).__name__}: {error}"


@pytest.fixture
def address(serve):
    return serve(greeter_server.start)


@pytest.fixture
def stub(address):
    with grpc.insecure_channel(address) as channel:
        yield GreeterStub(channel)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda _: HelloRequest("Ada"), "TypeError: No positional arguments allowed"),
        (
            lambda _: HelloRequest(nmae="Ada"),
            'ValueError: Protocol message HelloRequest has no "nmae" field.',
        ),
        (lambda _: ADA.nmae, "AttributeError: nmae"),
        (
            lambda _: HelloRequest(name=5),
            "TypeError: bad argument type for built-in operation",
        ),
        (lambda stub: stub.SayHello("Ada"), "INTERNAL: Exception serializing request!"),
        (
            lambda stub: stub.SayHello(ADA, metadata={"request-id": "42"}),
            "ValueError: too many values to unpack (expected 2)",
        ),
        (
            lambda stub: stub.SayGoodbye(ADA),
            "AttributeError: 'GreeterStub' object has no attribute 'SayGoodbye'",
        ),
    ],
)
def test_a_mistake_in_a_client(mistake, message, stub):
    with pytest.raises(Exception) as raised:
        mistake(stub)

    assert describe(raised.value) == message
    assert message in PAGE


def test_a_call_on_a_closed_channel(address):
    with grpc.insecure_channel(address) as channel:
        stub = GreeterStub(channel)

    with pytest.raises(ValueError) as raised:
        stub.SayHello(ADA)

    assert describe(raised.value) == "ValueError: Cannot invoke RPC on closed channel!"
    assert describe(raised.value) in PAGE


def test_an_asyncio_call_on_a_closed_channel(address, run_async):
    async def call():
        async with grpc.aio.insecure_channel(address) as channel:
            stub = GreeterStub(channel)
        await stub.SayHello(ADA)

    with pytest.raises(grpc.aio.UsageError) as raised:
        run_async(call())

    assert describe(raised.value) == "UsageError: Channel is closed."
    assert describe(raised.value) in PAGE


def test_an_asyncio_client_sends_an_empty_request_for_text(run_async, serve, monkeypatch, caplog):
    received = []

    async def say_hello(_self, request, _context):
        received.append(request)
        return HelloReply()

    monkeypatch.setattr(async_greeter_server.Greeter, "SayHello", say_hello)
    address = serve(async_greeter_server.start)

    async def call():
        async with grpc.aio.insecure_channel(address) as channel:
            return await GreeterStub(channel).SayHello("Ada", timeout=10)

    assert run_async(call()) == HelloReply()
    assert received == [HelloRequest()]
    assert "Exception serializing message!" in caplog.text
    assert "Exception serializing message!" in PAGE


def test_a_message_of_another_class_is_sent(stub):
    assert stub.SayHello(HelloReply(message="Ada"), timeout=10) == HelloReply(message="Hello, Ada!")


def test_a_client_that_forgets_await(address, run_async):
    async def call():
        async with grpc.aio.insecure_channel(address) as channel:
            return GreeterStub(channel).SayHello(ADA).message

    with pytest.raises(AttributeError) as raised:
        run_async(call())

    assert describe(raised.value) in PAGE


def test_asyncio_run_in_a_notebook(run_async):
    async def cell():
        coroutine = asyncio.sleep(0)
        try:
            asyncio.run(coroutine)
        finally:
            coroutine.close()

    with pytest.raises(RuntimeError) as raised:
        run_async(cell())

    assert str(raised.value) in PAGE


@pytest.mark.parametrize(
    ("server", "path", "message"),
    [
        (greeter_server, "SayHello", "INTERNAL: Exception deserializing request!"),
        (
            async_greeter_server,
            "SayHello",
            "UNKNOWN: Unexpected <class 'google.protobuf.message.DecodeError'>",
        ),
        (greeter_server, "SayGoodbye", "UNIMPLEMENTED: Method not found!"),
        (async_greeter_server, "SayGoodbye", "UNIMPLEMENTED: Method not found!"),
    ],
)
def test_a_client_of_another_contract(server, path, message, serve):
    with grpc.insecure_channel(serve(server.start)) as channel:
        call = channel.unary_unary(f"/helloworld.Greeter/{path}")
        with pytest.raises(grpc.RpcError) as raised:
            call(b"\xff", timeout=10)

    assert describe(raised.value).startswith(message)
    assert message in PAGE


async def _async_text(*_):
    return "Hello, Ada!"


@pytest.mark.parametrize(
    ("server", "handler", "message"),
    [
        (greeter_server, lambda *_: "Hello, Ada!", "INTERNAL: Failed to serialize response!"),
        (greeter_server, lambda *_: None, "INTERNAL: Failed to serialize response!"),
        (
            async_greeter_server,
            _async_text,
            "UNKNOWN: Unexpected <class 'TypeError'>: descriptor 'SerializeToString'",
        ),
    ],
)
def test_a_servicer_that_returns_something_else(server, handler, message, serve, monkeypatch):
    monkeypatch.setattr(server.Greeter, "SayHello", handler)
    channel = grpc.insecure_channel(serve(server.start))
    with channel, pytest.raises(grpc.RpcError) as raised:
        GreeterStub(channel).SayHello(ADA, timeout=10)

    assert describe(raised.value).startswith(message)
    assert message in PAGE


FORGETFUL = """
import sys
from helloworld import async_greeter_server as server, helloworld_pb2

async def say_hello(self, request, context):
    context.abort(server.grpc.StatusCode.INVALID_ARGUMENT, "no")
    return helloworld_pb2.HelloReply(message="not refused")

server.Greeter.SayHello = say_hello
sys.argv[1:] = ["--port", "0"]
server.main()
"""


def test_a_servicer_that_forgets_await_refuses_nothing(spawn_server):
    process, address = spawn_server("-c", FORGETFUL)
    with grpc.insecure_channel(address) as channel:
        reply = GreeterStub(channel).SayHello(ADA, timeout=10)
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate()

    message = "coroutine '_ServicerContext.abort' was never awaited"
    assert reply == HelloReply(message="not refused")
    assert message in log
    assert message in PAGE


@pytest.fixture
def tls_address():
    """The address of a server with TLS and a certificate of its own making."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    key = ec.generate_private_key(ec.SECP256R1())
    today = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today)
        .not_valid_after(today + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    chain = certificate.public_bytes(serialization.Encoding.PEM)
    server = grpc.server(greeter_server.futures.ThreadPoolExecutor(max_workers=1))
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(private, chain)]))
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_a_plaintext_client_and_a_tls_server(tls_address):
    channel = grpc.insecure_channel(tls_address)
    with channel, pytest.raises(grpc.RpcError) as raised:
        GreeterStub(channel).SayHello(ADA, timeout=10)

    message = (
        "UNAVAILABLE: failed to connect to all addresses; "
        "last error: UNAVAILABLE: ipv4:127.0.0.1:50051: Socket closed"
    )
    assert describe(raised.value) == message.replace("127.0.0.1:50051", tls_address)
    assert message in PAGE


def test_a_tls_client_and_a_plaintext_server(address):
    channel = grpc.secure_channel(address, grpc.ssl_channel_credentials())
    with channel, pytest.raises(grpc.RpcError) as raised:
        GreeterStub(channel).SayHello(ADA, timeout=10)

    error = describe(raised.value)
    assert error.startswith("UNAVAILABLE: failed to connect to all addresses; last error: ")
    assert "WRONG_VERSION_NUMBER: Invalid certificate verification context" in error


@pytest.mark.parametrize("module", ["grpc", "google"])
def test_an_environment_that_is_not_active(module):
    result = subprocess.run(
        [sys.executable, "-S", "-c", f"import {module}"],  # -S leaves out what pip has installed.
        capture_output=True,
        text=True,
    )

    message = f"No module named '{module}'"
    assert result.stderr.endswith(f"ModuleNotFoundError: {message}\n")
    assert message in PAGE


def test_the_page_lists_every_status_code():
    listed = re.findall(r"^\| (\d+) `([A-Z_]+)` \|", PAGE, re.MULTILINE)

    codes = sorted(grpc.StatusCode, key=lambda code: code.value[0])
    assert listed == [(str(code.value[0]), code.name) for code in codes]
