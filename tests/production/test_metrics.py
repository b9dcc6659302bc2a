"""The metrics and alerts of operators, by a real Prometheus."""

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
import psutil
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from production.contacts.contacts import Contacts
from production.contacts.settings import Settings
from production.contacts_server import SERVICE, start
from production.development import certificates
from production.development.certificates import Authority
from production.serving.observability import metrics
from production.serving.security import jwks
from production.v1.contacts_pb2 import (
    Contact,
    GetContactRequest,
    ListContactsRequest,
    WatchContactsRequest,
)
from production.v1.contacts_pb2_grpc import ContactServiceStub
from tests.conftest import ROOT, WAIT, absent, wait_until
from tests.production.conftest import channel
from tests.production.tokens import AUDIENCE, ISSUER, bearer

OPERATIONS = ROOT / "production/operations"
LIST = f"/{SERVICE}/ListContacts"
GET = f"/{SERVICE}/GetContact"
WATCH = f"/{SERVICE}/WatchContacts"
SERVER = "production.contacts_server"


def fetch(url):
    with urllib.request.urlopen(url, timeout=WAIT) as answer:  # noqa: S310 - our own server.
        return answer.read().decode()


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


def test_the_places_of_admission_are_counted(launch, scrape):
    stub = ContactServiceStub(launch(max_watches=7)[1])
    of = {"kind": "watch"}
    before = value(scrape(), "contacts_admission_taken", **of)
    watch = stub.WatchContacts(WatchContactsRequest(), timeout=WAIT)
    next(watch)

    assert value(scrape(), "contacts_admission_places", **of) == 7
    assert value(scrape(), "contacts_admission_taken", **of) == before + 1
    watch.cancel()
    wait_until(lambda: value(scrape(), "contacts_admission_taken", **of) == before)


def test_a_watch_that_the_drain_ends_is_no_failure(launch, scrape, run_async):
    server, channel = launch()
    watch = ContactServiceStub(channel).WatchContacts(WatchContactsRequest(), timeout=WAIT)
    next(watch)
    before = scrape()
    run_async(server.stop())
    with pytest.raises(grpc.RpcError) as raised:
        next(watch)

    def ended(text, status):
        return value(text, ENDED, grpc_method=WATCH, grpc_status=status)

    assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
    after = scrape()
    assert ended(after, "DRAINED") == ended(before, "DRAINED") + 1
    assert ended(after, "UNAVAILABLE") == ended(before, "UNAVAILABLE")


def test_methods_with_streams_are_named(launch, scrape):
    _, channel = launch()
    stub = ContactServiceStub(channel)
    stub.ListContacts(ListContactsRequest(), timeout=WAIT)
    next(stub.WatchContacts(WatchContactsRequest(), timeout=WAIT))

    text = scrape()
    assert value(text, "grpc_server_streaming_method", grpc_method=WATCH) == 1
    assert LIST not in re.findall(r'streaming_method{grpc_method="(.*)"}', text)


def test_the_certificate_in_use_is_told(serve_tls, certs, issuers, scrape):
    serve_tls(issuers=issuers)
    file = certs / "server.pem"
    certificate = x509.load_pem_x509_certificate(file.read_bytes())

    for name, moment in [
        ("not_before", certificate.not_valid_before_utc),
        ("not_after", certificate.not_valid_after_utc),
    ]:
        told = value(scrape(), f"tls_certificate_{name}_timestamp_seconds", file=str(file))
        assert told == moment.timestamp()


def test_fetches_of_keys_are_counted(launch, scrape, issuers):
    stub = ContactServiceStub(launch(issuers=issuers)[1])
    of = {"jwks": issuers[0]["jwks"]}
    stub.ListContacts(ListContactsRequest(), metadata=bearer(), timeout=WAIT)

    assert value(scrape(), "jwks_fetches_total", result="ok", **of) == 1
    assert value(scrape(), "jwks_fetches_total", result="failed", **of) == 0


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

    with grpc.insecure_channel(f"127.0.0.1:{server.server.health_port}") as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service=SERVICE), timeout=WAIT
        )
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as raised:
            ContactServiceStub(channel).ListContacts(ListContactsRequest(), timeout=WAIT)
        assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.fixture
def two_workers(spawn_server, tmp_path):
    """A supervisor's process, the address of its workers, and where its metrics are."""
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
    return process, address, f"http://127.0.0.1:{port}/metrics"


@pytest.mark.slow
def test_several_workers_are_one_in_the_metrics(two_workers):
    _, address, metrics_url = two_workers
    for _ in range(20):  # A channel of its own each, so that both workers are called.
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(address, options) as channel:
            ContactServiceStub(channel).ListContacts(ListContactsRequest(), timeout=WAIT)

    def counted():
        text = fetch(metrics_url)
        labels = {"grpc_method": LIST, "grpc_status": "OK"}
        return value(text, "grpc_server_call_duration_seconds_count", **labels)

    wait_until(lambda: counted() == 20)


@pytest.mark.slow
def test_the_metrics_of_processes_are_those_of_the_supervisor_and_its_workers(two_workers):
    process, _, metrics_url = two_workers
    text, first = fetch(metrics_url), psutil.Process(process.pid).children()

    largest = max(worker.memory_info().rss for worker in first)
    assert value(text, "process_resident_memory_bytes") > 1.5 * largest
    assert 0 < value(text, "process_open_fds") < value(text, "process_max_fds")
    assert value(text, "process_start_time_seconds") <= min(each.create_time() for each in first)
    used = value(text, "process_cpu_seconds_total")
    by_first = seconds(first)
    assert used > by_first / 2

    for worker in first:
        worker.kill()
    psutil.wait_procs(first, WAIT)
    wait_until(lambda: seconds(psutil.Process(process.pid).children()) > by_first / 2)

    by_next = seconds(psutil.Process(process.pid).children())
    # The time of those that have ended still counts.
    assert value(fetch(metrics_url), "process_cpu_seconds_total") > used + by_next * 0.8


def seconds(processes):
    """The processor time of those that still run."""
    alive = [each for each in processes if each.status() != psutil.STATUS_ZOMBIE]
    return sum(sum(each.cpu_times()[:2]) for each in alive)


# A real Prometheus.


@pytest.fixture
def programs():
    found = [shutil.which(name) for name in ("prometheus", "promtool")]
    if not all(found):
        absent("Prometheus (apt install prometheus)")
    return found


def test_the_alert_rules_are_what_prometheus_reads(programs):
    checked = subprocess.run(
        [programs[1], "check", "rules", OPERATIONS / "alerts.yml"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert "SUCCESS: 8 rules found" in checked.stdout, checked.stderr


# The alerts, in their time.

DAY = 86_400
UP = {'up{job="contacts", instance="a"}': "1x99"}
ENDED = "grpc_server_call_duration_seconds_count"


def ended(status, values, job="contacts", method="M"):
    """Calls that have ended with a status, minute by minute."""
    name = f'{ENDED}{{job="{job}", instance="a", grpc_method="{method}", grpc_status="{status}"}}'
    return {name: values}


def took(seconds, method):
    """Sixty calls a minute, each of which took so many seconds."""
    labels = f'job="contacts", instance="a", grpc_method="{method}", grpc_status="OK"'
    return {
        f'grpc_server_call_duration_seconds_bucket{{{labels}, le="{le}"}}': f"0+{step}x99"
        for le in ("0.5", "1", "2.5", "60", "+Inf")
        for step in [60 if float(le) >= seconds else 0]
    }


def streaming(method):
    return {f'grpc_server_streaming_method{{job="contacts", grpc_method="{method}"}}': "1x99"}


def places(taken):
    labels = 'job="contacts", instance="a", kind="watch"'
    return {
        f"contacts_admission_places{{{labels}}}": "1000x99",
        f"contacts_admission_taken{{{labels}}}": f"{taken}x99",
    }


def refused(values):
    labels = 'job="contacts", instance="a", kind="call", limit="server"'
    return {f"contacts_admission_refused_total{{{labels}}}": values}


def fetches(**values):
    labels = 'job="contacts", instance="a", jwks="https://issuer/jwks"'
    return {
        f'jwks_fetches_total{{{labels}, result="{result}"}}': value
        for result, value in values.items()
    }


def certificate(life, left):
    """A certificate that lives so many days, and has so many left."""
    labels = 'job="contacts", instance="a", file="server.pem"'
    begins, ends = (left - life) * DAY, left * DAY
    return {
        f"tls_certificate_not_before_timestamp_seconds{{{labels}}}": f"{begins}x99",
        f"tls_certificate_not_after_timestamp_seconds{{{labels}}}": f"{ends}x99",
    }


TWO_REPLACEMENTS = "0 100x3 200x90"
"""A hundred watches that end whenever all workers are replaced, twice within eight minutes."""


@pytest.mark.parametrize(
    ("series", "alert", "minutes"),
    [
        ({}, "Gone", 2),
        (UP, None, None),
        ({'up{job="others", instance="a"}': "1x99"}, "Gone", 2),
        ({'up{job="contacts", instance="a"}': "1x9 stale"}, "Gone", 12),
        ({'up{job="contacts", instance="a"}': "0x99"}, "Down", 1),
        (UP | {'up{job="contacts", instance="b"}': "1x9 0x9"}, "Down", 11),
        (UP | ended("OK", "0+60x99") | ended("INTERNAL", "0+2x99"), "Failing", 6),
        (UP | ended("UNAVAILABLE", "0+1x99"), "Failing", 6),
        (UP | ended("OK", "0+60x99") | ended("NOT_FOUND", "0+60x99"), None, None),
        (UP | ended("INTERNAL", "0+1x99", job="others"), None, None),
        (UP | ended("UNAVAILABLE", TWO_REPLACEMENTS), "Failing", 6),
        (UP | ended("DRAINED", TWO_REPLACEMENTS), None, None),
        (UP | took(0.4, "M"), None, None),
        (UP | took(2, "/orders.v1.OrderService/PlaceOrder"), "Slow", 6),
        (UP | took(50, "Watch") | streaming("Watch"), None, None),
        (UP | took(0.4, "M") | streaming("Watch") | took(50, "Watch"), None, None),
        (UP | places(700), None, None),
        (UP | places(900), "NearlyFull", 5),
        (UP | refused("0+1x99"), "Refusing", 6),
        (UP | refused("5x99"), None, None),
        (UP | fetches(ok="0x99", failed="0+6x99"), "KeysFailing", 6),
        (UP | fetches(ok="0x99", failed="0x99"), None, None),  # Nobody has called.
        (UP | fetches(ok="0+1x99", failed="0+1x99"), None, None),
        (UP | fetches(ok="0+1x20 20x79", failed="0x20 0+6x79"), "KeysFailing", 35),
        (UP | certificate(90, 20), None, None),
        (UP | certificate(90, 2.5), "CertificateEnds", 5),
        (UP | certificate(365, 30), None, None),
        (UP | certificate(1, 0.5), None, None),
        (UP | certificate(1, 0.1), "CertificateEnds", 5),
        (UP | certificate(90, -1), "CertificateEnds", 5),
    ],
)
def test_an_alert_fires_in_time_and_no_other_one(programs, tmp_path, series, alert, minutes):
    """alert fires from so many minutes on at the latest, and not before half of them."""
    query = 'sum by (alertname) (ALERTS{alertstate="firing"})'

    def firing_at(minute, alerts):
        samples = [{"labels": f'{{alertname="Contacts{name}"}}', "value": 1} for name in alerts]
        return {"expr": query, "eval_time": f"{minute}m", "exp_samples": samples}

    expected = (
        [firing_at(minutes // 2, []), firing_at(minutes, [alert])]
        if alert
        else [firing_at(minute, []) for minute in range(0, 60, 2)]
    )
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    test = {"interval": "1m", "input_series": inputs, "promql_expr_test": expected}
    rules = {"rule_files": [str(OPERATIONS / "alerts.yml")], "evaluation_interval": "30s"}
    (tmp_path / "test.yml").write_text(json.dumps(rules | {"tests": [test]}))

    tested = subprocess.run(
        [programs[1], "test", "rules", tmp_path / "test.yml"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_every_rule_is_of_our_job():
    """So that another name is one replacement, and another service's metrics fire nothing."""
    rules = re.sub("#.*", "", (OPERATIONS / "alerts.yml").read_text())

    assert len(re.findall(r"\{job=\"contacts\"", rules)) == len(re.findall(r"\w\{", rules))


def runbook():
    """The queries that the page gives for each alert."""
    page = (OPERATIONS / "observability/README.md").read_text()
    rows = re.findall(r"^\| `(Contacts\w+)` \| .+? \| (.+) \|$", page, re.M)
    return {alert: re.findall("`([^`]*(?:job|up)[^`]*)`", where) for alert, where in rows}


def test_every_alert_has_its_row_in_the_runbook_with_a_query():
    alerts = re.findall(r"- alert: (\w+)", (OPERATIONS / "alerts.yml").read_text())

    assert list(runbook()) == alerts
    assert all(runbook().values())


@pytest.fixture
def prometheus(programs, run_async, tmp_path, spawn_program):
    """A running Prometheus that scrapes this process; asks it: prometheus("query", query=...)."""
    runner = run_async(metrics.serve("127.0.0.1:0"))
    # The same rules, for people in a hurry: what takes minutes takes seconds.
    rules = re.sub(r"\[\d+m\]", "[3s]", (OPERATIONS / "alerts.yml").read_text())
    targets = tmp_path / "targets.json"
    targets.write_text("[]")
    (tmp_path / "alerts.yml").write_text(re.sub("for: .*", "for: 0s", rules))
    (tmp_path / "prometheus.yml").write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "250ms", "evaluation_interval": "250ms"},
                "rule_files": ["alerts.yml"],
                "scrape_configs": [
                    {
                        "job_name": "contacts",
                        "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "1s"}],
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

    def scrape(*ports):
        text = json.dumps([{"targets": [f"127.0.0.1:{port}" for port in ports]}])
        (tmp_path / "new.json").write_text(text)
        (tmp_path / "new.json").replace(targets)

    ask.scrape_nothing = scrape
    ask.scrape = lambda: scrape(runner.addresses[0][1])
    ask.stop_answering = lambda: run_async(runner.cleanup())
    yield ask
    run_async(runner.cleanup())


LISTENING = re.compile(r'msg="Listening on" address=(\S+)')


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
            said = ""
            # It says these two in either order.
            while not ("Server is ready" in said and (address := LISTENING.search(said))):
                line = process.stderr.readline()
                assert line, f"Prometheus has ended: {said}"
                said += line
            return f"http://{address[1]}"

        yield spawn_program


def firing(ask):
    return {
        alert["labels"]["alertname"]
        for alert in ask("alerts")["alerts"]
        if alert["state"] == "firing"
    }


@pytest.mark.slow
def test_a_fault_fires_the_right_alert(launch, prometheus, monkeypatch, serve_tls, certs, tmp_path):
    wait_until(lambda: firing(prometheus) == {"ContactsGone"})
    prometheus.scrape()
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
    wait_until(lambda: "ContactsNearlyFull" in firing(prometheus))

    def refused():
        with contextlib.suppress(grpc.RpcError):
            next(stub.WatchContacts(WatchContactsRequest(), timeout=WAIT))

    wait_until(lambda: refused() or "ContactsRefusing" in firing(prometheus))

    # Nobody serves the keys, and the certificate has an hour of its day left.
    files = [tmp_path / "short.pem", tmp_path / "short.key"]
    leaf = certificates.SERVER._replace(begins=-23 / 24, ends=1 / 24)
    for file, content in zip(files, Authority.load(certs, "ca").issue(leaf), strict=True):
        file.write_bytes(content)
    nowhere = {"issuer": ISSUER, "audience": AUDIENCE, "jwks": "http://127.0.0.1:1/jwks"}
    address = serve_tls(issuers=[nowhere], certificate=files[0], key=files[1])
    wait_until(lambda: "ContactsCertificateEnds" in firing(prometheus))
    monkeypatch.setattr(jwks, "COOLDOWN_S", 0)
    with channel(address, certs) as secured:

        def known():
            with contextlib.suppress(grpc.RpcError):
                ContactServiceStub(secured).ListContacts(
                    ListContactsRequest(), metadata=bearer(), timeout=WAIT
                )

        wait_until(lambda: known() or "ContactsKeysFailing" in firing(prometheus))

    prometheus.stop_answering()
    wait_until(lambda: "ContactsDown" in firing(prometheus))
    prometheus.scrape_nothing()
    wait_until(lambda: "ContactsGone" in firing(prometheus))


@pytest.mark.slow
def test_prometheus_counts_what_was_called_and_every_panel_shows_something(
    launch, prometheus, serve_tls, issuers
):
    prometheus.scrape()
    serve_tls(issuers=issuers)  # For its certificate and keys.
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
        query = panel["targets"][0]["expr"]
        query = query.replace("$__rate_interval", "10s").replace("$job", "contacts")
        wait_until(lambda query=query: prometheus("query", query=query)["result"])


@pytest.mark.slow
def test_prometheus_understands_the_queries_of_the_runbook(prometheus):
    for query in (query for queries in runbook().values() for query in queries):
        prometheus("query", query=query)


def value_now(method):
    labels = {"grpc_method": method, "grpc_status": "OK"}
    name = "grpc_server_call_duration_seconds_count"
    return int(metrics.REGISTRY.get_sample_value(name, labels) or 0)
