"""The claims of the lessons' README that its sessions do not show."""

import json
import queue
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from production.development import echo_server
from production.lessons import retries
from production.lessons.interceptors import CALLER
from protos.echo.v1.echo_pb2 import EchoRequest
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
DEADLINE_EXCEEDED = grpc.StatusCode.DEADLINE_EXCEEDED
INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT
INTERNAL = grpc.StatusCode.INTERNAL


@pytest.fixture
def echo(serve):
    """A stub of a server whose reports are dropped."""
    address = serve(echo_server.start, "echo", [].append)
    with grpc.insecure_channel(address) as channel:
        yield EchoServiceStub(channel)


@pytest.fixture
def retry(serve):
    """retry(failure, options, timeout) makes a call: how many attempts it took, and its end."""
    reports = []
    address = serve(echo_server.start, "echo", reports.append)

    def retry(failure, *options, timeout=60):
        with grpc.insecure_channel(address, options=options) as channel:
            try:
                EchoServiceStub(channel).UnaryEcho(EchoRequest(failure=failure), timeout=timeout)
            except grpc.RpcError as error:
                return len(reports), error.code(), error.details()
        return len(reports), grpc.StatusCode.OK, ""

    return retry


def retry_config(**policy):
    """The channel option with the lesson's retry policy and some changes."""
    return "grpc.service_config", retries.Case("", retries.fails(), policy).config()


class Handler(grpc.GenericRpcHandler):
    """Answers every method by one function, bytes for bytes."""

    def __init__(self, method):
        self._handler = grpc.unary_unary_rpc_method_handler(method)

    def service(self, _):
        return self._handler


def serve_method(address, method):
    """Starts a server with this method."""
    server = grpc.server(ThreadPoolExecutor(1), handlers=[Handler(method)])
    port = server.add_insecure_port(address)
    server.start()
    return server, port


async def async_serve_method(address, method):
    """Starts an asyncio server with this method."""
    server = grpc.aio.server(handlers=[Handler(method)])
    port = server.add_insecure_port(address)
    await server.start()
    return server, port


def failure(address):
    """Returns the error of a call to a server with one method."""
    with (
        grpc.insecure_channel(address) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        channel.unary_unary("/any/method")(b"", timeout=60)
    return caught.value.code(), caught.value.details()


def test_what_remains_of_a_call_without_a_deadline_is_too_much_for_a_timeout(serve, echo):
    address = serve(serve_method, lambda _, context: str(context.time_remaining()).encode())
    with grpc.insecure_channel(address) as channel:
        left = float(channel.unary_unary("/any/method")(b""))

    with pytest.raises(grpc.RpcError) as caught:
        echo.UnaryEcho(EchoRequest(), timeout=left)

    assert left > 9e18
    assert (caught.value.code(), caught.value.details()) == (
        DEADLINE_EXCEEDED,
        "Deadline Exceeded",
    )


def test_a_timeout_arrives_in_three_digits_rounded_up(serve):
    address = serve(serve_method, lambda _, context: str(context.time_remaining()).encode())
    with grpc.insecure_channel(address) as channel:
        arrived = [
            float(channel.unary_unary("/any/method")(b"", timeout=sent)) for sent in (299.5, 1001)
        ]

    assert 299.5 < arrived[0] <= 300
    assert 1005 < arrived[1] <= 1010


def test_one_deadline_counts_for_all_attempts(retry):
    config = retry_config(initialBackoff="600s", maxBackoff="600s")

    assert retry(retries.fails(1), config, timeout=1) == (
        1,
        DEADLINE_EXCEEDED,
        "Deadline Exceeded",
    )


def test_a_pushback_of_zero_hangs_until_the_deadline(retry):
    """A fault of gRPC's. Once this fails, the lesson's paragraph on it can go."""
    pushback = retries.fails(1, retry_pushback=Duration())

    assert retry(pushback, retry_config(), timeout=1) == (1, DEADLINE_EXCEEDED, "Deadline Exceeded")


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        (
            {"retryableStatusCodes": ["unavailable"]},
            "retryableStatusCodes[0] error:failed to parse status code",
        ),
        (
            {"initialBackoff": "50ms"},
            "initialBackoff error:Not a duration (not a number of seconds)",
        ),
        ({"maxAttempts": 1}, "maxAttempts error:must be at least 2"),
    ],
)
def test_a_policy_that_cannot_be_read_fails_every_call(retry, policy, why):
    attempts, code, details = retry(retries.fails(1), retry_config(**policy))

    assert (attempts, code) == (0, INVALID_ARGUMENT)
    assert "errors validating service config:" in details
    assert why in details


@pytest.mark.parametrize("key", ["methodconfig", "method_config"])
def test_a_key_that_grpc_does_not_know_is_ignored(retry, key):
    option, config = retry_config()
    misspelt = json.dumps({key: json.loads(config)["methodConfig"]})

    assert retry(retries.fails(1), (option, misspelt)) == (1, UNAVAILABLE, "no")


def test_an_attempt_to_connect_ends_after_what_is_called_its_minimal_backoff():
    """Without the option it would take 20 s."""
    options = [("grpc.min_reconnect_backoff_ms", 500), ("grpc.initial_reconnect_backoff_ms", 100)]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with (
            grpc.insecure_channel(address, options=options) as channel,
            pytest.raises(grpc.RpcError) as caught,
        ):
            EchoServiceStub(channel).UnaryEcho(EchoRequest(), timeout=15)

    assert caught.value.code() == UNAVAILABLE
    assert "attempt timed out before receiving SETTINGS frame" in caught.value.details()


def test_an_abort_that_is_caught_becomes_what_is_aborted_next(serve):
    def method(_, context):
        try:
            context.abort(INVALID_ARGUMENT, "name is empty")
        except Exception:  # noqa: BLE001  # This is the mistake.
            context.abort(INTERNAL, "something went wrong")

    assert failure(serve(serve_method, method)) == (INTERNAL, "something went wrong")


def test_in_asyncio_the_first_abort_counts_and_the_handler_goes_on(serve):
    caught = queue.SimpleQueue()

    async def method(_, context):
        try:
            await context.abort(INVALID_ARGUMENT, "name is empty")
        except Exception as error:  # noqa: BLE001  # As above.
            caught.put(type(error))
        return b""

    assert failure(serve(async_serve_method, method)) == (INVALID_ARGUMENT, "name is empty")
    assert caught.get(timeout=30) == grpc.aio.AbortError


AIO_INTERCEPTOR_ON_A_THREADED_SERVER = """
import os
import grpc
from concurrent.futures import ThreadPoolExecutor
from production.lessons.async_interceptors import Observe

server = grpc.server(ThreadPoolExecutor(1), interceptors=[Observe(print, True)])
port = server.add_insecure_port("127.0.0.1:0")
server.start()
for _ in range(2):
    try:
        grpc.insecure_channel(f"127.0.0.1:{port}").unary_unary("/any/Method")(b"", timeout=1)
    except grpc.RpcError as error:
        print(error.code().name, flush=True)
"""


def test_an_asyncio_interceptor_kills_a_threaded_server(spawn):
    """No call is answered any more, and the process does not end by itself."""
    process = spawn("-c", AIO_INTERCEPTOR_ON_A_THREADED_SERVER)

    assert [process.stdout.readline() for _ in range(2)] == ["DEADLINE_EXCEEDED\n"] * 2
    process.send_signal(signal.SIGKILL)
    assert "AttributeError: 'coroutine' object has no attribute 'request_streaming'" in (
        process.stderr.read()
    )


def test_a_sync_handler_of_an_asyncio_server_does_not_see_what_an_interceptor_sets(run_async):
    """A handler that sets a context variable leaves it to the next caller."""
    seen = []

    def handler(request, _context):
        seen.append(CALLER.get())
        CALLER.set("the one before")
        return request

    class SetCaller(grpc.aio.ServerInterceptor):
        async def intercept_service(self, _continuation, _details):
            CALLER.set("set by the interceptor")
            return grpc.unary_unary_rpc_method_handler(handler)

    async def call_twice():
        with ThreadPoolExecutor(1) as pool:
            server = grpc.aio.server(pool, interceptors=[SetCaller()])
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                for _ in range(2):
                    await channel.unary_unary("/any/Method")(b"", timeout=60)
            await server.stop(None)

    run_async(call_twice())

    assert seen == ["(not set)", "the one before"]


def test_a_timeout_in_the_service_config_is_not_told_to_the_server(serve):
    """When this fails, gRPC has mended it (grpc#40633), and pages here can be shorter."""
    config = {"methodConfig": [{"name": [{}], "timeout": "60s"}]}
    options = [("grpc.service_config", json.dumps(config))]
    with grpc.insecure_channel(serve(echo_server.start, "echo", [].append), options) as channel:
        response = EchoServiceStub(channel).UnaryEcho(EchoRequest())

    assert not response.HasField("time_remaining")


def test_bad_metadata_is_another_error_in_asyncio(serve, run_async):
    address = serve(echo_server.start, "echo", [].append)
    metadata = (("X-User", "ada"),)

    async def call():
        async with grpc.aio.insecure_channel(address) as channel:
            await EchoServiceStub(channel).UnaryEcho(EchoRequest(), metadata=metadata)

    with pytest.raises(Exception, match="execute_batch") as caught:
        run_async(call())
    assert not isinstance(caught.value, grpc.RpcError)

    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as refused:
        EchoServiceStub(channel).UnaryEcho(EchoRequest(), metadata=metadata)
    assert (refused.value.code(), refused.value.details()) == (INTERNAL, "Invalid metadata")
