"""What operators see, as a real Prometheus sees it."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from production import metrics
from production.contacts import Contacts
from production.contacts_server import SERVICE, start
from production.settings import Settings
from production.v1.contacts_pb2 import (
    Contact,
    GetContactRequest,
    ListContactsRequest,
    WatchContactsRequest,
)
from production.v1.contacts_pb2_grpc import ContactServiceStub
from tests.conftest import ROOT, WAIT

OPERATIONS = ROOT / "production/operations"
LIST = f"/{SERVICE}/ListContacts"
GET = f"/{SERVICE}/GetContact"
SERVER = "production.contacts_server"


def fetch(url):
    with urllib.request.urlopen(url, timeout=WAIT) as answer:  # noqa: S310 - our own server.
        return answer.read().decode()


def wait_until(condition):
    ends = time.monotonic() + WAIT
    while not (found := condition()):
        assert time.monotonic() < ends
        time.sleep(0.05)
    return found


def value(text, name, **labels):
    """The value of a sample in what /metrics has answered; 0 when it is not there."""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return sample.value
    return 0


@pytest.fixture
def launch(run_async, tmp_path):
    """launch(SETTING=...) starts a server in this process; gives it and a channel."""
    with contextlib.ExitStack() as stack:

        def launch(**changes):
            defaults = {
                "address": "127.0.0.1:0",
                "plaintext": True,
                "database": f"sqlite:///{tmp_path}/contacts.db",
                "drain_pause": 0,
            }
            server, port = run_async(start(Settings(**defaults | changes)))
            stack.callback(lambda: run_async(server.stop()))
            return server, stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}"))

        yield launch


@pytest.fixture
def scrape(run_async):
    """scrape() gives what /metrics of this process answers."""
    runner = run_async(metrics.serve("127.0.0.1:0"))
    yield lambda: fetch(f"http://127.0.0.1:{runner.addresses[0][1]}/metrics")
    run_async(runner.cleanup())


def test_a_call_is_counted_by_method_and_status_with_its_time_and_sizes(launch, scrape):
    stub = ContactServiceStub(launch()[1])
    before = scrape()
    stub.ListContacts(ListContactsRequest(name_prefix="Ada"), timeout=WAIT)
    with pytest.raises(grpc.RpcError):
        stub.GetContact(GetContactRequest(name="contacts/nobody"), timeout=WAIT)

    def growth(name, **labels):
        return value(scrape(), name, **labels) - value(before, name, **labels)

    ended = "grpc_server_call_duration_seconds_count"
    wait_until(lambda: growth(ended, grpc_method=GET, grpc_status="NOT_FOUND") == 1)
    assert growth(ended, grpc_method=LIST, grpc_status="OK") == 1
    assert growth("grpc_server_call_started_total", grpc_method=LIST) == 1
    received = {"grpc_method": LIST, "direction": "received"}
    assert growth("grpc_server_message_bytes_sum", **received) == 5
    assert growth("contacts_sql_transaction_seconds_count", kind="read") == 2
    assert value(scrape(), "grpc_server_calls_in_flight", grpc_method=LIST) == 0


def test_labels_are_bounded_whatever_strangers_call(launch, scrape):
    channel = launch()[1]
    for number in range(50):
        with pytest.raises(grpc.RpcError):
            channel.unary_unary(f"/{SERVICE}/Method{number}")(b"", timeout=WAIT)

    text = scrape()
    assert "Method4" not in text
    assert value(text, "grpc_server_call_started_total", grpc_method="other") >= 50


def test_health_has_a_port_of_its_own_and_nothing_else_on_it(launch):
    server, _ = launch(health_address="127.0.0.1:0")

    with grpc.insecure_channel(f"127.0.0.1:{server.health_port}") as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service=SERVICE), timeout=WAIT
        )
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as raised:
            ContactServiceStub(channel).ListContacts(ListContactsRequest(), timeout=WAIT)
        assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.slow
def test_several_workers_are_one_in_the_metrics(spawn_server, tmp_path):
    process, address = spawn_server(
        *("-m", SERVER, "--plaintext", "--workers", "2", "--address", "127.0.0.1:0"),
        env=os.environ
        | {
            "CONTACTS_DATABASE": f"sqlite:///{tmp_path}/contacts.db",
            "CONTACTS_METRICS_ADDRESS": "127.0.0.1:0",
            "CONTACTS_LOG": "json",
            "CONTACTS_DRAIN_PAUSE": "0",
        },
    )
    port = wait_until(lambda: re.search(r'"port": (\d+)', process.stderr.readline()))[1]
    for _ in range(20):  # A channel of its own each, so that both workers are called.
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(address, options) as channel:
            ContactServiceStub(channel).ListContacts(ListContactsRequest(), timeout=WAIT)

    def counted():
        text = fetch(f"http://127.0.0.1:{port}/metrics")
        labels = {"grpc_method": LIST, "grpc_status": "OK"}
        return value(text, "grpc_server_call_duration_seconds_count", **labels)

    wait_until(lambda: counted() == 20)


# A real Prometheus.


@pytest.fixture
def programs():
    found = [shutil.which(name) for name in ("prometheus", "promtool")]
    if not all(found):
        if os.environ.get("TOUR_REQUIRE") == "all":
            pytest.fail("Prometheus is absent: apt install prometheus", pytrace=False)
        pytest.skip("absent: Prometheus (apt install prometheus)")
    return found


def test_the_alert_rules_are_what_prometheus_reads(programs):
    checked = subprocess.run(
        [programs[1], "check", "rules", OPERATIONS / "alerts.yml"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert "SUCCESS: 4 rules found" in checked.stdout, checked.stderr


@pytest.fixture
def prometheus(programs, run_async, tmp_path, spawn_program):
    """A running Prometheus that scrapes this process; asks it: prometheus("query", query=...)."""
    runner = run_async(metrics.serve("127.0.0.1:0"))
    # The same rules, for people in a hurry: what takes minutes takes seconds.
    rules = (OPERATIONS / "alerts.yml").read_text().replace("[5m]", "[3s]")
    (tmp_path / "alerts.yml").write_text(re.sub("for: .*", "for: 0s", rules))
    (tmp_path / "prometheus.yml").write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "250ms", "evaluation_interval": "250ms"},
                "rule_files": ["alerts.yml"],
                "scrape_configs": [
                    {
                        "job_name": "contacts",
                        "static_configs": [{"targets": [f"127.0.0.1:{runner.addresses[0][1]}"]}],
                    }
                ],
            }
        )
    )
    url = spawn_program(
        programs[0],
        f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/data",
    )

    def ask(path, **parameters):
        query = urllib.parse.urlencode(parameters)
        return json.loads(fetch(f"{url}/api/v1/{path}?{query}"))["data"]

    ask.stop_scraping = lambda: run_async(runner.cleanup())
    yield ask
    run_async(runner.cleanup())


@pytest.fixture
def spawn_program():
    """Starts Prometheus on a free port, and gives its URL once it is ready."""
    with contextlib.ExitStack() as stack:

        def spawn_program(*command):
            process = subprocess.Popen(
                [*command, "--web.listen-address=127.0.0.1:0"],
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            address = ""
            for line in process.stderr:
                found = re.search(r'msg="Listening on" address=(\S+)', line)
                address = found[1] if found else address
                if "Server is ready" in line:
                    break
            return f"http://{address}"

        yield spawn_program


def firing(ask):
    return {
        alert["labels"]["alertname"]
        for alert in ask("alerts")["alerts"]
        if alert["state"] == "firing"
    }


@pytest.mark.slow
def test_a_fault_fires_the_right_alert(launch, prometheus, monkeypatch):
    stub = ContactServiceStub(launch(max_watches=1)[1])

    def call():
        with contextlib.suppress(grpc.RpcError):
            stub.GetContact(GetContactRequest(name="contacts/ada-1"), timeout=WAIT)

    def calls_until(condition):
        wait_until(lambda: call() or condition())

    # Callers' own mistakes alarm nobody.
    seen = f'rate(grpc_server_call_duration_seconds_count{{grpc_method="{GET}"}}[3s]) > 0'
    calls_until(lambda: prometheus("query", query=seen)["result"])
    assert firing(prometheus) == set()

    def broken(*_):
        raise ZeroDivisionError

    with monkeypatch.context() as fault:
        fault.setattr(Contacts, "get", broken)
        calls_until(lambda: "ContactsFailing" in firing(prometheus))
    with monkeypatch.context() as fault:
        fault.setattr(Contacts, "get", lambda *_: time.sleep(1.2) or Contact())
        calls_until(lambda: "ContactsSlow" in firing(prometheus))

    watch = stub.WatchContacts(WatchContactsRequest(), timeout=WAIT)
    next(watch)

    def refused():
        with contextlib.suppress(grpc.RpcError):
            next(stub.WatchContacts(WatchContactsRequest(), timeout=WAIT))

    wait_until(lambda: refused() or "ContactsRefusing" in firing(prometheus))
    prometheus.stop_scraping()
    wait_until(lambda: "ContactsDown" in firing(prometheus))


@pytest.mark.slow
def test_prometheus_counts_what_was_called_and_every_panel_shows_something(launch, prometheus):
    stub = ContactServiceStub(launch(max_watches=1)[1])
    count = f'sum(grpc_server_call_duration_seconds_count{{grpc_method="{LIST}",grpc_status="OK"}})'

    def counted():
        result = prometheus("query", query=count)["result"]
        return int(result[0]["value"][1]) if result else 0

    before = value_now(LIST)
    for _ in range(37):
        stub.ListContacts(ListContactsRequest(), timeout=WAIT)
    wait_until(lambda: counted() == before + 37)

    panels = json.loads((OPERATIONS / "dashboard.json").read_text())["panels"]
    for panel in panels:
        query = panel["targets"][0]["expr"].replace("$__rate_interval", "10s")
        wait_until(lambda query=query: prometheus("query", query=query)["result"])


def value_now(method):
    labels = {"grpc_method": method, "grpc_status": "OK"}
    name = "grpc_server_call_duration_seconds_count"
    return int(metrics.REGISTRY.get_sample_value(name, labels) or 0)
