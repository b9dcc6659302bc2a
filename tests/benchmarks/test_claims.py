"""The claims' benchmarks count right, and say what their figures say."""

import grpc
import pytest

from benchmarks import streaming, streaming_server, unary
from benchmarks.harness import BenchmarkError, Run
from protobuf_demo.addressbook_pb2 import AddressBook, Person
from tests.conftest import python


@pytest.fixture
def client(serve):
    def start(address):
        server = grpc.server(streaming_server.ThreadPoolExecutor(10), [streaming_server.handlers()])
        port = server.add_insecure_port(address)
        server.start()
        return server, port

    with grpc.insecure_channel(serve(start), streaming.SINGLE_THREADED) as channel:
        yield streaming.Client(channel)


@pytest.mark.parametrize("way", ["one", "both", "down", "up"])
def test_every_way_counts_its_messages(client, way):
    assert getattr(client, way)(7) == 7


def test_a_batch_counts_people(client):
    assert client.batch(2 * streaming.BATCH) == 2 * streaming.BATCH


@pytest.mark.parametrize("title", list(streaming.WAYS))
def test_messages_that_are_missing_fail_the_run(monkeypatch, client, title):
    monkeypatch.setitem(streaming.WAYS, title, (lambda _client, count: count - 1, 10))

    with pytest.raises(BenchmarkError, match="9 of 10 messages"):
        streaming.measure(client, title)


def test_a_wrong_person_is_not_counted(monkeypatch, client):
    monkeypatch.setattr(client, "_one", lambda *_args, **_options: Person(name="somebody else"))
    monkeypatch.setattr(client, "_batch", lambda *_args, **_options: AddressBook())

    assert (client.one(3), client.batch(streaming.BATCH)) == (0, 0)


def test_streams_and_batches_get_the_verdict_that_their_figures_give():
    first, there_and_back, down, up, batch = streaming.WAYS
    rates = {first: [10, 20], there_and_back: [9, 18], down: [30, 60], up: [5, 10]}

    assert streaming.verdict(rates | {batch: [990, 1980]}).splitlines() == [
        "holds: streams are for many messages, they carry up to 3.0 × those of calls",
        "does not hold: 1,000 in each message carry 99 × those of calls (goal: 100)",
    ]


@pytest.mark.parametrize(
    ("grpcio", "said"), [(60, "holds"), (40, "does not hold"), (51, "cannot be told")]
)
def test_the_claim_against_rest_gets_the_verdict_that_its_figures_give(grpcio, said):
    rates = {"grpc.aio": 30, "grpcio, 10 threads": grpcio, unary.FAST: 280, "FastAPI": 50}
    runs = {variant: [Run(rate, 1, 1, 1, 1)] for variant, rate in rates.items()}

    assert unary.verdict(runs).splitlines() == [
        f"holds: {unary.FAST} answers 9.3 × the calls of grpc.aio (goal: 9.0)",
        f"holds: {unary.FAST} answers 5.6 × the calls of FastAPI (goal: 4.0)",
        f'{said}: "gRPC is faster than REST", grpcio {grpcio / 50:.2f} × FastAPI',
    ]


def test_the_benchmark_of_formats_runs_and_gives_a_verdict():
    pytest.importorskip("msgspec")
    ended = python("-m", "benchmarks.encoding", "--rounds=1")

    assert (ended.returncode, ended.stderr.strip()) == (0, "")
    assert ended.stdout.splitlines()[-4].startswith("holds: JSON has 2.34 × protobuf's bytes")
