"""Log lines are written without keeping anybody waiting, and only the server writes them."""

import contextlib
import json
import os
import re
import signal
import socket
import threading

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from production.serving.observability import logs
from production.serving.observability.logs import BackgroundWriter
from production.v1.contacts_pb2 import ListContactsRequest
from production.v1.contacts_pb2_grpc import ContactServiceStub
from tests.conftest import WAIT, python
from tests.production.tokens import AUDIENCE, ISSUER, Provider, bearer, public


def test_lines_are_written_in_their_order(tmp_path):
    with (tmp_path / "log").open("w") as file:
        writer = BackgroundWriter(file)
        for number in range(1000):
            writer.write(f"{number}\n")
        writer.close()

    lines = (tmp_path / "log").read_text().splitlines()
    assert lines == [str(number) for number in range(1000)]


def test_a_full_pipe_keeps_nobody_waiting_and_loss_is_told(monkeypatch):
    """A pipe holds 64 KiB; nobody reads until everything has been taken."""
    monkeypatch.setattr(logs, "MAX_LINES", 100)
    reading, writing = os.pipe()
    with os.fdopen(reading) as reader, os.fdopen(writing, "w") as pipe:
        writer = BackgroundWriter(pipe)
        for _ in range(1000):
            writer.write("x" * 1000 + "\n")
        read = []
        thread = threading.Thread(target=lambda: read.extend(reader))
        thread.start()
        writer.close()
        pipe.close()
        thread.join()

    assert any(line.endswith(" log lines dropped\n") for line in read)
    assert sum(line.startswith("x") for line in read) < 1000


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_switches_the_level_of_all_workers(spawn_server, tmp_path, workers):
    """Calls of health are told at the level of debug."""
    database = {"CONTACTS_DATABASE": f"sqlite:///{tmp_path}/contacts.db"}
    process, address = spawn_server(
        "-m", "production.contacts_server", "--plaintext", "--address", "127.0.0.1:0",
        "--workers", workers, env=os.environ | database | {"CONTACTS_DRAIN_PAUSE": "0"},
    )  # fmt: skip

    def check_health():
        with grpc.insecure_channel(address) as channel:
            request = health_pb2.HealthCheckRequest()
            health_pb2_grpc.HealthStub(channel).Check(request, timeout=WAIT)

    check_health()
    switched = []
    for to in ("debug", "info"):
        process.send_signal(signal.SIGUSR1)
        while len(switched) < int(workers):
            line = process.stderr.readline()
            assert "Health" not in line
            switched += [line] if f"to={to}" in line else []
        switched.clear()
        if to == "debug":
            check_health()
            while "method=/grpc.health.v1.Health/Check" not in process.stderr.readline():
                pass
    process.terminate()
    assert "Health" not in process.communicate(timeout=WAIT)[1]


FORGED = (
    b'\n{"request_id": "forged", "caller": "b0e723e20e06", "code": "OK", "event": "call"}\n'
    b"2026-11-25T10:00:00Z [info     ] call caller=b0e723e20e06 code=OK request_id=forged\r"
    b"\x1b[2J\xff\xfe\xc2\x85\xe2\x80\xa8forged"
)
"""What a stranger sends: whole lines of each style, a terminal's commands, bytes beyond UTF-8."""
GOAWAY, PING, HEADERS, RST_STREAM, SETTINGS, DATA = 7, 6, 1, 3, 4, 0
LIST = b"/production.v1.ContactService/ListContacts"
TRACEPARENT = b"traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"
HOSTILE = [
    [TRACEPARENT, (b"tracestate", FORGED)],
    [TRACEPARENT, (b"tracestate", FORGED.decode("latin-1").encode().replace(b"\xff", b""))],
    [TRACEPARENT, (b"tracestate", FORGED[:80])],
    [(b"traceparent", FORGED)],
    [(b"x-request-id", FORGED)],
    [(b"authorization", b"Bearer " + FORGED)],
    [(b"x-contacts-signature", FORGED)],
    [(b"user-agent", FORGED)],
    [(b"grpc-timeout", FORGED)],
    [(b"grpc-encoding", FORGED)],
    [(b"grpc-tags-bin", FORGED)],
    [(b"x-forged", FORGED)],
]
LINE = {
    "console": r"\d{4}-\d\d-\d\dT[\d:.]{15}Z \[[a-z]+ *\] [ -~]*",
    "json": r'\{"[ -~]*\}',
}
CORES_LINE = r"E\d{4} [\d:.]{15} +\d+ \w+\.cc:\d+\] [ -~]*"


def frame(kind, stream, payload, flags=0):
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def literal(text):
    """A string of HPACK, neither indexed nor compressed; below 254 bytes."""
    assert len(text) < 254
    return (bytes([len(text)]) if len(text) < 127 else bytes([127, len(text) - 127])) + text


def exchange(address, *frames, ends):
    """Sends frames of HTTP/2 on a connection of its own, until one comes for which ends is true."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), WAIT) as connection:
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, b"")
        connection.sendall(preface + b"".join(frames))
        with connection.makefile("rb") as answers:
            while True:
                head = answers.read(9)
                answers.read(int.from_bytes(head[:3]))
                if ends(kind=head[3], flags=head[4]):
                    return


def go_away(address):
    """Ends a connection with a text; the answer to a ping shows that it was read."""
    text = frame(GOAWAY, 0, (0).to_bytes(4) + (2).to_bytes(4) + FORGED)
    ping = frame(PING, 0, bytes(8))
    exchange(address, text, ping, ends=lambda kind, flags: kind == PING and flags == 1)


def call(address, headers, path=LIST):
    """Calls a method with further headers, valid or not."""
    first = {b":method": b"POST", b":scheme": b"http", b":path": path, b":authority": b"x"}
    first |= {b"content-type": b"application/grpc", b"te": b"trailers"}
    block = b"".join(
        b"\0" + literal(name) + literal(value) for name, value in [*first.items(), *headers]
    )
    exchange(
        address,
        frame(HEADERS, 1, block, flags=4),
        frame(DATA, 1, bytes(5), flags=1),
        ends=lambda kind, flags: kind == RST_STREAM or (kind == HEADERS and flags & 1),
    )


@pytest.fixture
def launch(spawn_server, serve, tmp_path):
    """launch(SETTING=...) starts a server with a hostile issuer; gives it and its address."""
    provider = Provider()
    curve = FORGED.decode("latin-1")
    provider.keys = [public("P-256", "ES256", crv=curve), public("P-384", "ES384", kid=curve, d="")]
    keys = f"http://{serve(provider.start)}/jwks"
    issuers = [{"issuer": ISSUER, "audience": AUDIENCE, "jwks": keys}]

    def launch(**settings):
        ours = {
            "CONTACTS_DATABASE": f"sqlite:///{tmp_path}/contacts.db",
            "CONTACTS_ISSUERS": json.dumps(issuers),
            "CONTACTS_DRAIN_PAUSE": "0",
        }
        kept = {name: text for name, text in os.environ.items() if name != "GRPC_VERBOSITY"}
        return spawn_server(
            *("-m", "production.contacts_server", "--plaintext", "--address", "127.0.0.1:0"),
            env=kept | ours | settings,
            errors="replace",
        )

    return launch


@pytest.mark.parametrize("style", ["console", "json"])
def test_strangers_write_no_line_of_their_own(launch, style):
    process, address = launch(CONTACTS_LOG=style)
    go_away(address)
    for headers in HOSTILE:
        call(address, headers)
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError):
        ContactServiceStub(channel).ListContacts(
            ListContactsRequest(), metadata=bearer(), timeout=WAIT
        )
    process.terminate()
    log = process.communicate(timeout=WAIT)[1]

    assert log.count("a key is left out") == 2
    assert log.count("/ListContacts") == len(HOSTILE) + 1
    for line in log.removesuffix("\n").split("\n"):
        assert re.fullmatch(LINE[style], line) or re.fullmatch(CORES_LINE, line)
        assert "forged" not in line or "is a private key" in line  # Whose id is quoted.


@pytest.mark.parametrize(("verbosity", "is_told"), [("", False), ("INFO", True)])
def test_an_operator_may_let_grpcs_core_tell_more(launch, verbosity, is_told):
    process, address = launch(GRPC_VERBOSITY=verbosity)
    go_away(address)
    process.terminate()

    assert ("Got goaway" in process.communicate(timeout=WAIT)[1]) is is_told


def test_a_process_ends_if_grpc_ends_its_server(launch):
    """grpc.aio does so at a path that is not UTF-8; the process would answer nobody any more."""
    process, address = launch()
    with contextlib.suppress(OSError, IndexError):  # The connection breaks.
        call(address, [], path=b"/\xff")

    assert "error: gRPC has ended the server: UnicodeDecodeError" in process.communicate()[1]
    assert process.returncode == 1


@pytest.mark.parametrize("style", ["console", "json"])
def test_what_is_not_printable_is_escaped_and_a_traceback_is_indented(style):
    program = """
import logging, sys
from production.serving.observability import logs
logs.set_up(sys.argv[1])
text = "a\\nb\\x1b[2J\\x7f\\x85\\u2028\\u202e\\ud800 林"
try:
    raise ValueError(text)
except ValueError:
    logging.getLogger("any").error("event %s", text, exc_info=True)
logs.structlog.get_logger("any").info(text, key=text)
"""
    log = python("-c", program, style).stderr

    escaped = r"a\nb\x1b[2J\x7f\x85\u2028\u202e\ud800 林"
    lines = log.splitlines()
    if style == "json":
        told = [json.loads(line) for line in lines]
        assert [line["event"] for line in told] == [f"event {escaped}", escaped]
        traceback = told[0]["exception"].split("\n")
        assert told[1]["key"] == escaped
    else:
        traceback = lines[1:-1]
        assert lines[0].endswith(f"] event {escaped}")
        assert escaped.replace("\\", "\\\\") in lines[-1]
    assert traceback[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") for line in traceback)
    assert "\n".join(traceback).endswith("    ValueError: " + escaped.replace(r"\n", "\n    "))
