"""Balancing in the client: shares, losses, and who is found."""

import dataclasses
import json
import signal
import time
from contextlib import ExitStack

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from protos.echo.v1.echo_pb2 import EchoRequest
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub
from scaling import backend
from scaling.balancing import (
    arrivals,
    callers,
    losses,
    mistakes,
    out_of_band,
    policies,
    weights,
)
from scaling.balancing.callers import channel_to, policy, shares, who
from scaling.balancing.name_server import NameServer
from scaling.balancing.v1.load_report_pb2 import LoadReport, LoadReportRequest
from tests.conftest import absent


@pytest.fixture
def stack():
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def port(stack):
    """The port of three backends on three addresses."""
    try:
        return policies.start_on_one_port(stack)[1]
    except RuntimeError as error:
        absent(error)


@pytest.fixture
def target(port):
    return "ipv4:" + ",".join(f"{host}:{port}" for host in policies.HOSTS)


def counts(case, target):
    by = policies.served(case, target)
    return [by[name] for name in policies.NAMES]


@pytest.mark.parametrize("config", [None, policy("pick_first")])
def test_one_backend_gets_all_calls_of_pick_first_which_is_the_default(target, config):
    assert counts(policies.Case("", "", config), target) == [30, 0, 0]


@pytest.mark.parametrize("name", ["round_robin", "weighted_round_robin"])
def test_round_robin_is_even(target, name):
    assert counts(policies.Case("", "", policy(name)), target) == pytest.approx([10] * 3, abs=2)


@pytest.mark.parametrize(
    ("hosts", "even"), [(policies.HOSTS, [10, 10, 10]), (("127.0.0.1",), [30, 0, 0])]
)
def test_round_robin_uses_the_addresses_in_the_dns(stack, port, hosts, even):
    names = stack.enter_context(NameServer({"echo.example": hosts}))
    case = policies.Case("", "", policy("round_robin"))

    assert counts(case, names.target("echo.example", port)) == pytest.approx(even, abs=2)
    assert names.asked == ["echo.example"]


def test_an_asyncio_channel_balances_too(target, run_async):
    option = "grpc.service_config", json.dumps(policy("round_robin"))

    async def answers():
        async with grpc.aio.insecure_channel(target, [option]) as channel:
            stub = EchoServiceStub(channel)
            return {(await stub.UnaryEcho(EchoRequest(), timeout=60)).served_by for _ in range(60)}

    assert run_async(answers()) == set(policies.NAMES)


def test_channels_that_shuffle_use_what_another_one_is_connected_to(target):
    """Of 30 channels on their own, all choose the same of three once in 7e13 times."""
    own = policies.Case("", "", policies.SHUFFLED, channels=30)
    one = dataclasses.replace(own, options=())

    assert max(counts(own, target)) < 30
    assert sorted(counts(one, target)) == [0, 0, 30]


def weighted(*backends, **settings):
    by = weights.served(backends, weights.AT_ONCE | settings)
    return [by[name] for name in weights.NAMES]


def reports(**fields):
    return lambda _: LoadReport(**fields), 0


SILENT = (weights.silent, 0)


@pytest.mark.parametrize(
    ("backends", "expected"),
    [
        pytest.param(
            [(weights.reports(u), 0) for u in (0.2, 0.4, 0.8)], [80, 40, 20], id="utilization"
        ),
        pytest.param(
            [reports(cpu_utilization=u, rps_fractional=9) for u in (0.2, 0.4, 0.8)],
            [80, 40, 20],
            id="cpu",
        ),
        pytest.param(
            [(weights.reports(0.2, eps=e), 0) for e in (0, 20, 60)], [80, 40, 20], id="errors"
        ),
        pytest.param(
            [(weights.reports(0.2), 0), (weights.reports(0.4), 0), SILENT],
            [62, 31, 47],
            id="silent",
        ),
        pytest.param([(weights.reports(0.2), 0), SILENT, SILENT], [47, 47, 47], id="only one"),
        pytest.param(
            [(weights.reports(u, rps=0), 0) for u in (0.2, 0.4, 0.8)], [47, 47, 47], id="no rps"
        ),
    ],
)
def test_calls_follow_the_reports(backends, expected):
    assert weighted(*backends) == pytest.approx(expected, abs=6)


def test_reports_do_not_count_for_ten_seconds_by_default():
    by = weights.served([(weights.reports(u), 0) for u in (0.2, 0.4, 0.8)], {})

    assert [by[name] for name in weights.NAMES] == pytest.approx([47] * 3, abs=4)


def test_what_takes_longer_gets_fewer_calls():
    meters = [(weights.Meter(), seconds) for seconds in (0.005, 0.01, 0.02)]
    a, b, c = weighted(*meters)

    assert a > b > c


def test_calls_follow_reports_out_of_band_when_they_change(stack):
    a, b, c = (out_of_band.LoadReports(utilization) for utilization in (0.2, 0.4, 0.8))
    channel = out_of_band.start(stack, (a, b, c))
    out_of_band.settled(channel, (80, 40, 20))
    a.utilization, c.utilization = c.utilization, a.utilization

    assert out_of_band.settled(channel, (20, 40, 80)).total() == out_of_band.CALLS


def test_a_backend_without_reports_out_of_band_gets_the_mean_weight(stack):
    a, b = (out_of_band.LoadReports(utilization) for utilization in (0.2, 0.4))

    assert out_of_band.settled(out_of_band.start(stack, (a, b, None)), (62, 31, 47))


def test_a_stream_of_reports_comes_as_often_as_its_client_asks_for(serve):
    reports = out_of_band.LoadReports(0.5)
    address = serve(
        lambda address: backend.start(address, "a", handlers=[reports.handler()]),
    )
    with channel_to(address) as channel:
        stream = channel.unary_stream(
            f"/{out_of_band.SERVICE}/StreamCoreMetrics",
            LoadReportRequest.SerializeToString,
            LoadReport.FromString,
        )(LoadReportRequest(report_interval=Duration(nanos=300_000_000)))
        started = time.monotonic()
        received = [next(stream) for _ in range(3)]
        took = time.monotonic() - started
        stream.cancel()

    assert received == [LoadReport(application_utilization=0.5, rps_fractional=100)] * 3
    assert took >= 0.9


def test_a_report_leaves_other_trailers_alone():
    """Only they are there to be seen: gRPC keeps the report to itself."""

    class Trailing(weights.EchoServicer):
        def UnaryEcho(self, _, context):
            context.set_trailing_metadata((("own", "1"),))
            context.abort(grpc.StatusCode.NOT_FOUND, "no")

    server, port = backend.start(
        "127.0.0.1:0",
        "a",
        servicer=Trailing("a", print),
        interceptors=[weights.Reporter(weights.reports(0.5))],
    )
    with channel_to(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as caught:
        who(channel)
    backend.stop(server)

    assert [key for key, _ in caught.value.trailing_metadata()] == ["own"]


@pytest.fixture
def happen(stack):
    """happen(signal, protection) gives what becomes of the calls, by the lesson's own cases."""

    def happen(number, protection="nothing", **changes):
        (case,) = (c for c in losses.CASES if (c.number, c.protection) == (number, protection))
        backends = stack.enter_context(backend.processes(["a", "b", "victim"], losses.PAUSE))
        return losses.happen(dataclasses.replace(case, **changes), list(backends.values()))

    return happen


def test_a_backend_that_is_killed_loses_what_it_had_at_most(happen):
    assert happen(signal.SIGKILL).lost <= callers.CALLERS


def test_a_retry_saves_what_a_killed_backend_had(happen):
    result = happen(signal.SIGKILL, "retryPolicy")

    assert result.lost == 0
    assert result.a
    assert result.b


def test_nothing_is_lost_when_a_backend_is_drained_and_its_clients_check_health(happen):
    assert happen(signal.SIGTERM, "healthCheckConfig").lost == 0


def test_a_backend_that_hangs_still_gets_calls(happen):
    assert happen(signal.SIGSTOP).lost > 6


@pytest.mark.slow
def test_keepalive_notices_a_backend_that_hangs(happen):
    assert happen(signal.SIGSTOP, "keepalive", after=10.0, timeout=5.0).noticed is not None


def test_without_health_checks_a_backend_that_is_not_serving_gets_calls(happen):
    assert happen(signal.SIGUSR1).victim > 6


def test_health_checks_keep_calls_from_a_backend_that_is_not_serving(happen):
    result = happen(signal.SIGUSR1, "healthCheckConfig", after=5.0)

    assert result.noticed is not None
    assert result.lost == 0


def test_a_backend_that_fails_is_ejected(happen):
    assert happen(signal.SIGUSR2).noticed is None
    assert happen(signal.SIGUSR2, "outlier detection", after=5.0).noticed is not None


@pytest.fixture
def patient(monkeypatch):
    monkeypatch.setattr(arrivals, "PATIENCE", 60.0)


def case(title):
    (found,) = (case for case in arrivals.CASES if case.title == title)
    return found


@pytest.mark.usefixtures("port", "patient")
@pytest.mark.parametrize(
    "title", ["the same, asks every 0.5 s", "a new record, another backend goes"]
)
def test_a_new_record_is_found_once_a_connection_ends(title):
    result = arrivals.arrive(case(title))

    assert result.seconds is not None
    assert result.asked >= 1


@pytest.mark.usefixtures("port")
def test_a_new_record_is_not_found_while_connections_last():
    assert arrivals.arrive(case("a new record")) == (None, 0, 0)


@pytest.mark.slow
@pytest.mark.usefixtures("port", "patient")
def test_a_channel_resolves_a_name_at_most_once_in_30_seconds():
    result = arrivals.arrive(case("the same, connections end after 0.5 s"))

    assert result.seconds > 25
    assert result.asked == 1


@pytest.mark.usefixtures("port", "patient")
def test_a_backend_that_comes_back_is_found():
    assert arrivals.come_back(arrivals.CONNECT_SOON).seconds is not None


@pytest.fixture(scope="module")
def outcomes():
    with ExitStack() as stack:
        return mistakes.outcomes(stack)


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("unknown policy", "error:No known policies in list: fastest]"),
        ("unknown, then known", "calls are spread"),
        ("upper case", "error:No known policies in list: ROUND_ROBIN]"),
        ("not a list", "error:type should be array]"),
        ("two in one", "error:oneOf violation]"),
        ("key misspelt", "all calls go to one backend"),
        ("the old key", "calls are spread"),
        ("not JSON", "JSON parsing failed: [JSON parse error at index 1]"),
        ("unknown, as an option", "all calls go to one backend"),
        ("a list without ipv4:", "Misformatted domain name]"),
        ("a list of names", "the target uri is not valid: "),
        ("no such name", "Domain name not found]"),
    ],
)
def test_a_mistake_has_its_message_or_none(outcomes, title, expected):
    assert expected in outcomes[title]


HASH = "GRPC_EXPERIMENTAL_RING_HASH_SET_REQUEST_HASH_KEY"
AFFINITY = f"""
import json
from contextlib import ExitStack
import grpc
from protos.echo.v1.echo_pb2 import EchoRequest
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub
from scaling import backend
config = {json.dumps(policy("ring_hash_experimental", requestHashHeader="user"))!r}
servers = [backend.start("127.0.0.1:0", name) for name in "abc"]
target = "ipv4:" + ",".join(f"127.0.0.1:{{port}}" for _, port in servers)
stub = EchoServiceStub(grpc.insecure_channel(target, [("grpc.service_config", config)]))
try:
    for user in range(20):
        call = lambda: stub.UnaryEcho(EchoRequest(), metadata=(("user", str(user)),), timeout=30)
        print(*{{call().served_by for _ in range(5)}})
except grpc.RpcError as error:
    print(error.details())
"""


def test_ring_hash_needs_a_variable_and_then_binds_a_caller_to_a_backend(spawn, monkeypatch):
    monkeypatch.delenv(HASH, raising=False)
    assert spawn("-c", AFFINITY).communicate(timeout=60)[0] == "hash attribute not present\n"

    monkeypatch.setenv(HASH, "true")
    lines = spawn("-c", AFFINITY).communicate(timeout=60)[0].splitlines()
    assert len(lines) == 20
    assert {"a", "b", "c"} >= set(lines)
    assert len(set(lines)) > 1


def test_a_backend_drains_on_sigterm(stack):
    """Calls in flight are finished, and the process ends."""
    (process,) = stack.enter_context(backend.processes(["a"], losses.PAUSE)).values()
    with channel_to(process.address) as channel:
        assert shares(channel, 1) == {"a": 1}
    process.send(signal.SIGTERM)

    assert process.program.wait(60) == 0
