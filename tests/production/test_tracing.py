"""One trace tells of a call from its client to the database, however the call ends.

Client and server are processes; their spans arrive by OTLP at a collector of the test's.
"""

import json
import os
import socket
import sqlite3

import grpc
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from production.development import trace_collector
from production.development.trace_collector import value
from production.v1.contacts_pb2 import Contact, CreateContactRequest, ListContactsRequest
from production.v1.contacts_pb2_grpc import ContactServiceStub
from protobuf_demo.addressbook_pb2 import Person

WAIT = 30
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SERVICE = "production.v1.ContactService"


class Collected:
    """A collector, and processes that send their spans to it."""

    def __init__(self, serve, spawn, run, tmp_path):
        self.collector = trace_collector.Collector()
        self._address = serve(trace_collector.start, self.collector)
        self._spawn, self._run = spawn, run
        self.database = tmp_path / "contacts.db"

    def environment(self, **more):
        ours = {
            "CONTACTS_DATABASE": f"sqlite:///{self.database}",
            "CONTACTS_DRAIN_PAUSE": "0",
            "CONTACTS_LOG": "json",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{self._address}",
            "OTEL_TRACES_SAMPLER_ARG": "1",
        }
        kept = {name: text for name, text in os.environ.items() if not name.startswith("OTEL_")}
        return kept | {name: text for name, text in (ours | more).items() if text is not None}

    def server(self, **more):
        flags = "--plaintext", "--address", "127.0.0.1:0"
        environment = self.environment(**more)
        self._process = self._spawn("-m", "production.contacts_server", *flags, env=environment)
        self.address = self._process.stdout.readline().strip().removeprefix("listening on ")
        return self

    def client(self, *args, **more):
        flags = "--plaintext", "--address", self.address
        environment = self.environment(**more)
        return self._run("production.contacts_client", *flags, *args, env=environment)

    def stop(self):
        """Ends the server, which sends what it still has; gives its log."""
        self._process.terminate()
        log = self._process.communicate(timeout=WAIT)[1]
        assert self._process.returncode == 0, log
        return log

    def spans(self):
        """Returns the spans received, by service and name."""
        return {(service, span.name): span for service, span in self.collector.spans}


@pytest.fixture
def http_address(collected):
    """The address of the same collector for HTTP."""
    server = trace_collector.start_http("127.0.0.1:0", collected.collector)
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def collected(serve, spawn, run, tmp_path):
    return Collected(serve, spawn, run, tmp_path)


def attributes(span):
    return {found.key: found.value.string_value for found in span.attributes}


def call(address, method, request, *metadata, timeout=WAIT):
    """The status code of a call by a client that makes no spans of its own."""
    with grpc.insecure_channel(address) as channel:
        try:
            getattr(ContactServiceStub(channel), method)(
                request, metadata=metadata, timeout=timeout
            )
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize(
    "protocol",
    [
        {},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
        # The variable for traces alone overrides the other; an empty one is not set.
        {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_PROTOCOL": "x"},
        {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
    ],
)
def test_a_trace_goes_from_the_client_to_the_database(collected, http_address, protocol):
    if "http/protobuf" in protocol.values():
        protocol["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://{http_address}"
    collected.server(**protocol)
    assert collected.client("add", "--name", "Ada", **protocol).returncode == 0
    log = collected.stop()

    spans = collected.spans()
    client = spans["contacts-client", f"{SERVICE}/CreateContact"]
    server = spans["contacts-server", f"{SERVICE}/CreateContact"]
    sql = spans["contacts-server", "write transaction"]
    assert len(spans) == 3
    assert {span.trace_id for span in spans.values()} == {client.trace_id}
    assert [client.parent_span_id, server.parent_span_id, sql.parent_span_id] == [
        b"", client.span_id, server.span_id
    ]  # fmt: skip
    assert [client.kind, server.kind, sql.kind] == [
        Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT
    ]  # fmt: skip
    assert attributes(server) == {
        "rpc.system.name": "grpc",
        "rpc.method": f"{SERVICE}/CreateContact",
        "rpc.response.status_code": "OK",
    }
    assert attributes(sql) == {"db.system.name": "sqlite"}
    for line in (line for line in log.splitlines() if "CreateContact" in line):
        told = json.loads(line)
        assert told["trace_id"] == client.trace_id.hex()
        assert told["span_id"] == server.span_id.hex()
    assert "Ada" not in str(collected.collector.spans)


def test_a_call_that_is_refused_is_an_answer_of_the_server_and_an_error_of_the_client(collected):
    collected.server()
    assert collected.client("get", "contacts/nobody").returncode == 1
    collected.stop()

    spans = collected.spans()
    client = spans["contacts-client", f"{SERVICE}/GetContact"]
    server = spans["contacts-server", f"{SERVICE}/GetContact"]
    assert value(server.attributes, "rpc.response.status_code") == "NOT_FOUND"
    assert value(client.attributes, "error.type") == "NOT_FOUND"
    assert [server.status.code, client.status.code] == [
        Status.STATUS_CODE_UNSET, Status.STATUS_CODE_ERROR
    ]  # fmt: skip


def test_a_call_that_runs_out_of_time_is_an_error_of_the_server(collected):
    collected.server()
    lock = sqlite3.connect(collected.database, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    request = CreateContactRequest(contact=Contact(person=Person(name="Ada")))

    code = call(collected.address, "CreateContact", request, timeout=0.5)
    collected.stop()
    lock.close()

    spans = collected.spans()
    server = spans["contacts-server", f"{SERVICE}/CreateContact"]
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert attributes(server) == {
        "rpc.system.name": "grpc",
        "rpc.method": f"{SERVICE}/CreateContact",
        "rpc.response.status_code": "DEADLINE_EXCEEDED",
        "error.type": "DEADLINE_EXCEEDED",
    }
    assert server.status.code == Status.STATUS_CODE_ERROR
    sql = spans["contacts-server", "write transaction"]
    assert value(sql.attributes, "error.type") == "OperationalError"
    assert sql.status.message == ""  # Messages may hold personal data.


@pytest.mark.parametrize(
    ("traceparent", "argument", "kept"),
    [
        (f"00-{TRACE}-{PARENT}-01", "0", True),  # The caller has decided.
        (f"00-{TRACE}-{PARENT}-00", "1", False),
        ("garbage", "1", True),  # It has not.
        ("garbage", "0", False),
    ],
)
def test_who_calls_decides_what_is_kept_else_the_sampler(collected, traceparent, argument, kept):
    collected.server(OTEL_TRACES_SAMPLER_ARG=argument)
    request = ListContactsRequest()

    code = call(collected.address, "ListContacts", request, ("traceparent", traceparent))
    log = collected.stop()

    assert code == grpc.StatusCode.OK
    assert (("contacts-server", f"{SERVICE}/ListContacts") in collected.spans()) is kept
    assert (f'"trace_id": "{TRACE}"' in log) is (TRACE in traceparent)


def test_nothing_is_sent_by_default_and_the_callers_trace_is_in_the_log(collected):
    collected.server(OTEL_EXPORTER_OTLP_ENDPOINT=None)
    request = ListContactsRequest()

    call(collected.address, "ListContacts", request, ("traceparent", f"00-{TRACE}-{PARENT}-01"))

    log = collected.stop()
    assert f'"trace_id": "{TRACE}"' in log
    assert f'"span_id": "{PARENT}"' in log
    assert collected.spans() == {}


@pytest.mark.parametrize(
    ("protocol", "told"),
    [("grpc", "Failed to export traces"), ("http/protobuf", "Failed to export spans batch")],
)
def test_a_collector_that_is_not_there_changes_no_answer(collected, protocol, told):
    with socket.socket() as held:  # Nobody listens.
        held.bind(("127.0.0.1", 0))
        nowhere = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{held.getsockname()[1]}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        }
        collected.server(**nowhere)
        result = collected.client("add", "--name", "Ada", **nowhere)
        collected.stop()

    assert (result.returncode, result.stdout[:9]) == (0, "contacts/")
    assert told in result.stderr


@pytest.mark.parametrize("module", ["production.contacts_server", "production.contacts_client"])
@pytest.mark.parametrize(
    "name", ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"]
)
def test_a_protocol_that_is_not_supported_is_an_error_at_the_start(collected, run, module, name):
    environment = collected.environment(**{name: "http/json"})
    command = ["list"] if module.endswith("client") else []
    result = run(module, "--plaintext", "--address", "127.0.0.1:50051", *command, env=environment)

    assert result.returncode == 1
    assert result.stderr == f"error: {name}: must be grpc or http/protobuf, not 'http/json'\n"


def test_the_lesson_prints_a_tree_when_it_is_stopped(collected, spawn_server):
    process, address = spawn_server(
        "-m", "production.development.trace_collector", "--address", "127.0.0.1:0"
    )
    collected.server(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{address}")
    collected.client("list", OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{address}")
    collected.stop()
    process.terminate()

    lines = process.communicate(timeout=WAIT)[0].splitlines()
    assert [line[: line.rindex("  ")] for line in lines] == [
        f"contacts-client  {SERVICE}/ListContacts  OK",
        f"  contacts-server  {SERVICE}/ListContacts  OK",
        "    contacts-server  read transaction  ",
    ]
