"""The claims' benchmarks count right, and their verdicts follow from their figures."""

import grpc
import pytest

from benchmarks import harness, results, tables
from benchmarks.claims import (
    fetching,
    growth,
    streaming,
    tls,
    unary,
    wire,
    workers,
)
from benchmarks.harness import BenchmarkError, ServerRun
from benchmarks.registry import CLAIMS, find
from benchmarks.servers import streaming_server, tls_server
from production.development import certificates
from production.development.relay import Relay
from protobuf_demo.addressbook_pb2 import AddressBook, Person
from scaling.concurrency.lab import Seen
from tests.conftest import ROOT, python


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
        streaming.measure_way(client, title)


def test_a_wrong_person_is_not_counted(monkeypatch, client):
    monkeypatch.setattr(client, "_one", lambda *_args, **_options: Person(name="somebody else"))
    monkeypatch.setattr(client, "_batch", lambda *_args, **_options: AddressBook())

    assert (client.one(3), client.batch(streaming.BATCH)) == (0, 0)


def test_streams_and_batches_get_the_verdict_that_their_figures_give():
    first, there_and_back, down, up, batch = streaming.WAYS
    rates = {first: 10, there_and_back: 9, down: 30, up: 5, batch: 990}
    runs = {
        way: [streaming.MessageRate(rate), streaming.MessageRate(2 * rate)]
        for way, rate in rates.items()
    }

    assert streaming.verdict(runs).splitlines() == [
        "holds: streams are for many messages, they carry up to 3.0 × those of calls",
        "does not hold: 1,000 in each message carry 99 × those of calls (goal: 100)",
    ]


RATES = {"grpc.aio": 30, "grpcio, 10 threads": 40, unary.FAST: 280, "FastAPI": 50}


def verdict(rates, idle=()):
    runs = {
        variant: [ServerRun(rate, 1, 1, 1, busy=0.5 if variant in idle else 1)]
        for variant, rate in rates.items()
    }
    return unary.verdict(runs).splitlines()


@pytest.mark.parametrize(
    ("rest", "said"), [(30, "holds"), (50, "does not hold"), (39, "cannot be told")]
)
def test_the_claim_against_rest_gets_the_verdict_that_its_figures_give(rest, said):
    claim = f'"gRPC is faster than REST", grpcio, 10 threads {40 / rest:.2f} × FastAPI'

    assert verdict(RATES | {"FastAPI": rest}) == [
        f"holds: {unary.FAST} answers 9.3 × the calls of grpc.aio (goal: 9.0)",
        f"holds: {unary.FAST} answers {280 / rest:.1f} × the calls of FastAPI (goal: 4.0)",
        f"{said}: {claim}",
    ]


def test_there_is_no_verdict_where_the_load_was_the_limit():
    slower = RATES | {"FastAPI": 100, "grpc.aio": 40}
    for rates, idle, said in (
        (RATES, "grpc.aio", [tables.LIMITED, "holds", "does not hold"]),
        (RATES, "FastAPI", ["holds", tables.LIMITED, tables.LIMITED]),
        (RATES, "grpcio, 10 threads", ["holds", "holds", tables.LIMITED]),
        (RATES, unary.FAST, ["holds", "holds", "does not hold"]),  # It can only be faster.
        (slower, unary.FAST, [tables.LIMITED, tables.LIMITED, "does not hold"]),
    ):
        assert [line.partition(":")[0] for line in verdict(rates, [idle])] == said


def test_the_benchmark_of_formats_runs_and_gives_a_verdict(tmp_path):
    pytest.importorskip("msgspec")
    ended = python("-m", "benchmarks", "encoding", "--rounds=1", f"--results={tmp_path}")

    assert (ended.returncode, ended.stderr.strip()) == (0, "")
    assert ended.stdout.splitlines()[-4].startswith("holds: JSON has 2.05 × protobuf's bytes")


def test_the_benchmark_of_clients_gets_the_verdict_that_its_figures_give():
    clients = pytest.importorskip("benchmarks.claims.clients", exc_type=ImportError)
    rates = {"grpc": 100, "grpc.aio": 60, "requests": 30, "httpx": 40}

    for aiohttp, said in ((50, "holds"), (95, "cannot be told"), (150, "does not hold")):
        costs = {c: [clients.ClientRun(r, 1)] for c, r in (rates | {"aiohttp": aiohttp}).items()}
        assert clients.verdict(costs).startswith(f"{said}: ")


@pytest.mark.parametrize("kind", tls_server.KINDS)
def test_every_kind_of_channel_is_measured(kind, tmp_path):
    certificates.make(tmp_path)
    with harness.server("benchmarks.servers.tls_server", kind, str(tmp_path)) as (_, address):
        cost = tls.measure_kind(kind, address.replace("127.0.0.1", "localhost"), tmp_path)

    assert cost.first_ms > 0
    assert cost.rate > 0


def test_a_client_by_plaintext_is_not_let_in_by_tls(tmp_path):
    certificates.make(tmp_path)
    with (
        harness.server("benchmarks.servers.tls_server", "TLS", str(tmp_path)) as (_, address),
        pytest.raises(grpc.RpcError),
    ):
        tls.measure_kind("plaintext", address, tmp_path)


@pytest.mark.parametrize("way", list(fetching.WAYS))
def test_every_way_of_fetching_counts_its_messages(client, way):
    for count in (1, 7, 2_001):
        times = fetching.measure_way(client, way, count)
        assert 0 < times.first <= times.last


def test_messages_that_are_not_fetched_fail_the_run(client):
    client._page = lambda *_args, **_options: AddressBook(people=[Person()] * 9)

    with pytest.raises(BenchmarkError, match="9 of 10 messages"):
        fetching.measure_way(client, "all in one message", 10)


def test_the_first_and_the_last_get_the_verdict_that_their_figures_give():
    seen = {fetching.name(way, 100_000): [fetching.ArrivalTimes(1, 50)] for way in fetching.WAYS}
    seen[fetching.name("a stream", 100_000)] = [fetching.ArrivalTimes(0.5, 100)]

    assert [line.partition(":")[0] for line in fetching.verdict(seen).splitlines()] == [
        "holds",
        "does not hold",
    ]


def test_compression_pays_on_slow_networks():
    compression = pytest.importorskip("benchmarks.claims.compression", exc_type=ImportError)
    none, packed = compression.Transfer(10_000, 1), compression.Transfer(2_000, 3)
    costs = {"none": [none], "deflate": [packed], "gzip": [compression.Transfer(2_000, 5)]}

    # 64,000 bits less in 2 ms more.
    assert compression.verdict(costs).startswith("holds only below 32 Mbit/s")


def test_compression_is_seen_on_the_wire():
    compression = pytest.importorskip("benchmarks.claims.compression", exc_type=ImportError)
    with harness.server("benchmarks.servers.streaming_server") as (_, address):
        costs = {kind: compression.measure_kind(kind, address) for kind in compression.KINDS}

    assert 74_650 < costs["none"].sent < 76_000
    assert 0 < costs["gzip"].sent < costs["none"].sent / 5


def test_a_second_process_gets_the_verdict_that_its_figures_give():
    for rate, said in ((180, "holds"), (179, "does not hold")):
        seen = {workers.ONE: [Seen(100, 1, 1, 1)], workers.TWO: [Seen(rate, 1, 1, 1)]}
        assert workers.verdict(seen).startswith(f"{said}: 2 processes answer 1.{rate - 100} ×")


@pytest.mark.parametrize(("sweep", "point"), [("calls in flight", 4), ("bytes", 1_000_000)])
def test_growth_is_measured(sweep, point):
    assert growth.SWEEPS[sweep].measure("grpcio, 10 threads", point, 0.5).rate > 0


def test_growth_says_where_grpc_is_faster():
    def run(server, point):
        faster = server in unary.STOCK and point in {64, 256, 4_000_000}
        return ServerRun(200 if faster else 100, 1, 1, 1, busy=0.1 if point == 1 else 1)

    runs = {case.name: [run(case.server, case.point)] for case in growth.CASES}

    assert growth.verdict(runs).splitlines() == [
        'holds at 64, 256, not at 4, 16 calls in flight: "gRPC is faster than REST"',
        'holds at 4,000,000, not at 10, 1,000, 16,000, 256,000 bytes: "gRPC is faster than REST"',
    ]
    first, *_ = (line for line in growth.table(runs).splitlines() if "grpc.aio" in line)
    assert first.split() == ["grpc.aio", "100", "*", "100", "100", "200", "200"]


def test_connections_and_bytes_are_counted(monkeypatch):
    monkeypatch.setattr(wire, "CALLS", 20)
    with harness.server("benchmarks.servers.hello_server", "grpcio, 10 threads") as (_, address):

        def seen(calls):
            with Relay(int(address.rpartition(":")[2])) as counting:
                calls(counting.address)
                return wire.Traffic(counting.connections, counting.sent)

        one, many = seen(wire.by_stub), seen(wire.by_channels)

    assert (one.connections, many.connections) == (1, 20)
    assert many.sent > 2 * one.sent > 0


def test_rules_get_the_verdict_that_their_figures_give():
    rules = pytest.importorskip("benchmarks.claims.rules", exc_type=ImportError)

    for small, said in ((30, "holds"), (10, "cannot be told"), (5, "does not hold")):
        times = {rules.OWN: (10, 10, 10, 1, 1), rules.CONTRACT: (small, 40, 10, 1, 1)}
        runs = {variant: [rules.CheckTimes(*each)] for variant, each in times.items()}
        assert rules.verdict(runs) == (
            f"{said}: rules in the contract take {small / 10:.2f} × as long as our own for a small "
            "request, 4.00 × for a large one"
        )


def test_a_check_that_misses_a_mistake_is_not_measured(monkeypatch):
    rules = pytest.importorskip("benchmarks.claims.rules", exc_type=ImportError)
    monkeypatch.setattr(rules.checks, "violations", lambda _request: [])

    with pytest.raises(BenchmarkError, match="in the contract: 5 mistakes, found"):
        rules.measure_variant(rules.CONTRACT)


def test_connections_and_bytes_get_the_verdict_that_their_figures_give():
    seen = {
        "stub": [wire.Traffic(1, 100)],
        "other": [wire.Traffic(9, 900)],
        "rest": [wire.Traffic(10, 250)],
    }

    assert wire.verdict(seen).splitlines() == [
        "holds: HTTP/2 saves connections, for 10 calls at a time 1 instead of 10",
        "holds: gRPC saves bandwidth, a small call by HTTP/1.1 sends 2.5 × the bytes",
    ]


def test_results_are_read_as_they_were_written(tmp_path):
    runs = {
        "a": [ServerRun(1, 2, 3, 4, 5)],
        "b": [ServerRun(6, 7, 8, 9, 10), ServerRun(1, 1, 1, 1, 1)],
    }

    results.save(tmp_path / "new" / "runs.json", runs, {"rounds": 2})

    assert results.load(tmp_path / "new" / "runs.json", ServerRun) == runs


def test_a_report_replaces_the_text_of_its_section_alone():
    report = pytest.importorskip("benchmarks.report", exc_type=ImportError)
    page = "## A\n\n```text\na\n```\n\n## B\n\n```sh\nb\n```\n\n```text\nb\nb\n```\n\nB.\n"

    replaced = report.replace(page, "B", "new")

    assert replaced == page.replace("```text\nb\nb\n", "```text\nnew\n")
    with pytest.raises(ValueError, match="no text block below ## C"):
        report.replace(page, "C", "new")


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_has_its_section(name):
    report = pytest.importorskip("benchmarks.report", exc_type=ImportError)
    claim = find(name)

    assert "\nnew\n" in report.replace(claim.page.read_text(), claim.section, "new")


def test_every_module_of_a_claim_is_registered_and_listed():
    modules = {path.stem for path in (ROOT / "benchmarks/claims").glob("[a-z]*.py")}

    assert modules == set(CLAIMS)
    listed = python("-m", "benchmarks").stdout
    assert [name for name, claim in CLAIMS.items() if f"  {name:14}{claim}\n" not in listed] == []


def test_an_unknown_claim_is_an_error():
    done = python("-m", "benchmarks", "encoding", "nonsense")

    assert (done.returncode, done.stdout) == (2, "")
    assert "no such claim: nonsense" in done.stderr
