"""EchoService, which lessons and measurements rely on: it carries out each order."""

import threading

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from production.development import echo_server
from protos.echo.v1.echo_pb2 import EchoRequest, EchoResponse, Failure
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub

UNAVAILABLE = 14
TIMEOUT = 30


class Reports(list):
    """The lines that a server has reported; wait_for(count) waits for `count` of them."""

    def __init__(self):
        self._changed = threading.Condition()

    def __call__(self, line):
        with self._changed:
            self.append(line)
            self._changed.notify_all()

    def wait_for(self, count):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self) >= count, TIMEOUT), self
        return self


@pytest.fixture
def reports():
    return Reports()


@pytest.fixture
def address(serve, reports):
    return serve(echo_server.start, "one", reports)


@pytest.fixture
def stub(address):
    with grpc.insecure_channel(address) as channel:
        yield EchoServiceStub(channel)


def requests(count):
    return iter([EchoRequest(message=str(number)) for number in range(1, count + 1)])


def test_all_four_kinds_of_call_send_back_what_they_get(stub):
    unary = stub.UnaryEcho(EchoRequest(message="林徽因", payload_bytes=3))
    many = list(stub.ServerStreamingEcho(EchoRequest(message="a", response_count=2)))
    last = stub.ClientStreamingEcho(requests(3))
    chat = list(stub.BidirectionalStreamingEcho(requests(2)))

    def response(message, count=1, payload=b""):
        return EchoResponse(
            message=message, served_by="one", attempt=1, payload=payload, request_count=count
        )

    assert unary == response("林徽因", payload=bytes(3))
    assert many == [response("a"), response("a")]
    assert last == response("3", count=3)
    assert chat == [response("1"), response("2", count=2)]


def test_the_time_that_remains_is_told(stub):
    response = stub.UnaryEcho(EchoRequest(), timeout=1000)

    # gRPC sends three digits at most, and rounds up.
    assert 0 < response.time_remaining.ToTimedelta().total_seconds() <= 1010


def test_a_failure_comes_after_the_responses_that_are_to_come_first(stub, reports):
    failure = Failure(code=UNAVAILABLE, message="later", after_responses=2)
    responses = stub.ServerStreamingEcho(EchoRequest(response_count=5, failure=failure))

    assert [next(responses).request_count for _ in range(2)] == [1, 1]
    with pytest.raises(grpc.RpcError) as caught:
        next(responses)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, "later")
    assert reports.wait_for(1) == ["one: attempt 1: UNAVAILABLE"]


def test_pushback_is_told_in_milliseconds(stub):
    failure = Failure(code=UNAVAILABLE, retry_pushback=Duration(seconds=-1))

    with pytest.raises(grpc.RpcError) as caught:
        stub.UnaryEcho(EchoRequest(failure=failure))

    assert ("grpc-retry-pushback-ms", "-1000") in caught.value.trailing_metadata()


def test_a_call_is_passed_on_from_server_to_server(serve, stub, reports):
    last = serve(echo_server.start, "three", reports)
    middle = serve(echo_server.start, "two", reports)

    response = stub.UnaryEcho(EchoRequest(message="far", via=[middle, last]), timeout=TIMEOUT)

    assert (response.message, response.served_by) == ("far", "three")
    assert [line.split(":")[0] for line in reports.wait_for(3)] == ["three", "two", "one"]


def test_what_fails_further_on_fails_with_the_same_status(serve, stub, reports):
    other = serve(echo_server.start, "two", reports)

    with pytest.raises(grpc.RpcError) as caught:
        stub.UnaryEcho(EchoRequest(via=[other], failure=Failure(code=5, message="no such town")))

    assert (caught.value.code(), caught.value.details()) == (
        grpc.StatusCode.NOT_FOUND,
        "no such town",
    )


def test_when_a_caller_gives_up_every_server_on_the_way_stops(serve, stub, reports):
    other = serve(echo_server.start, "two", reports)
    request = EchoRequest(via=[other], delay=Duration(seconds=10 * TIMEOUT))

    with pytest.raises(grpc.RpcError) as caught:
        stub.UnaryEcho(request, timeout=0.5)

    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert all("given up by its caller" in line for line in reports.wait_for(2))


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (EchoRequest(delay=Duration(seconds=-1)), "delay is below zero"),
        (EchoRequest(response_count=-1), "response_count is below zero"),
        (EchoRequest(payload_bytes=-1), "payload_bytes is not in 0 to 64 MiB"),
        (EchoRequest(payload_bytes=(64 << 20) + 1), "payload_bytes is not in 0 to 64 MiB"),
        (EchoRequest(failure=Failure(code=17)), "failure.code is no status code"),
    ],
)
def test_an_order_that_cannot_be_carried_out_is_refused(stub, request_, why):
    with pytest.raises(grpc.RpcError) as caught:
        stub.UnaryEcho(request_)

    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, why)


def test_the_server_runs_from_the_command_line_and_stops(spawn_server):
    process, address = spawn_server(
        "-m", "production.development.echo_server", "--port=0", "--name=one"
    )
    with grpc.insecure_channel(address) as channel:
        EchoServiceStub(channel).UnaryEcho(EchoRequest())
    assert process.stdout.readline() == "one: attempt 1: OK\n"
    process.terminate()

    assert (process.wait(TIMEOUT), process.stderr.read()) == (0, "")


def test_an_address_that_cannot_be_had_is_one_line(address, run):
    result = run("production.development.echo_server", "--port", address.rpartition(":")[2])

    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("error: Failed to bind")
