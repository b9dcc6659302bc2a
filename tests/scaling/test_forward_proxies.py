"""A client behind a proxy: every case of the lesson, and a proxy that others have written."""

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack

import grpc
import psutil
import pytest

from production.development import echo_server
from protos.echo.v1.echo_pb2 import EchoRequest
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub
from scaling.forward_proxies import cases, tls_tunnel
from scaling.forward_proxies.cases import only
from scaling.forward_proxies.connect_proxy import ConnectProxy, running
from tests.conftest import ROOT, WAIT, absent

CASES = {str(case): case for group in cases.GROUPS.values() for case in group}
EXPECTED = [
    ("nothing", [], "OK"),
    ("grpc_proxy=http://PROXY", ["localhost:PORT"], "OK"),
    ("https_proxy=http://PROXY", ["localhost:PORT"], "OK"),
    ("http_proxy=http://PROXY", ["localhost:PORT"], "OK"),
    ("all_proxy=http://PROXY", [], "OK"),
    ("GRPC_PROXY=http://PROXY HTTPS_PROXY=http://PROXY", [], "OK"),
    ("grpc_proxy=http://PROXY https_proxy=http://DEAD", ["localhost:PORT"], "OK"),
    ("https_proxy=http://PROXY http_proxy=http://DEAD", ["localhost:PORT"], "OK"),
    ("grpc_proxy= https_proxy=http://PROXY", [], "OK"),
    ('("grpc.http_proxy", "http://PROXY")', ["localhost:PORT"], "OK"),
    ('grpc_proxy=http://DEAD ("grpc.http_proxy", "http://PROXY")', ["localhost:PORT"], "OK"),
    ('grpc_proxy=http://PROXY ("grpc.http_proxy", "")', [], "OK"),
    ('grpc_proxy=http://PROXY ("grpc.enable_http_proxy", 0)', [], "OK"),
    ("grpc_proxy=http://PROXY no_proxy=localhost", [], "OK"),
    ('no_proxy=localhost ("grpc.http_proxy", "http://PROXY")', [], "OK"),
    ("grpc_proxy=http://PROXY no_grpc_proxy=localhost", [], "OK"),
    ("grpc_proxy=http://PROXY no_grpc_proxy= no_proxy=localhost", ["localhost:PORT"], "OK"),
    ("grpc_proxy=http://PROXY NO_PROXY=localhost", ["localhost:PORT"], "OK"),
    ("grpc_proxy=http://PROXY no_proxy=*", ["localhost:PORT"], "OK"),
    ("grpc_proxy=http://PROXY no_proxy=localhost:PORT", ["localhost:PORT"], "OK"),
    ("grpc_proxy=http://PROXY no_proxy=127.0.0.0/8", ["localhost:PORT"], "OK"),
    ("grpc_proxy=http://PROXY no_proxy=127.0.0.0/8 to ONE", [], "OK"),
    ("grpc_proxy=http://PROXY no_proxy=localhost to a.localhost:PORT", [], "OK"),
    ("grpc_proxy=http://PROXY no_proxy=host", ["localhost:PORT"], "OK"),
    ("grpc_proxy=http://PROXY to echo.internal", ["echo.internal:443"], "OK"),
    (
        "grpc_proxy=http://PROXY to down.internal",
        ["down.internal:443"],
        "UNAVAILABLE: HTTP proxy returned response code 502",
    ),
    (
        "grpc_proxy=http://PROXY to ipv4:ONE,TWO",
        ["[ONE,TWO]:443"],
        "UNAVAILABLE: HTTP proxy returned response code 400",
    ),
    ("GRPC_ADDRESS_HTTP_PROXY=PROXY to ipv4:ONE,TWO", [], "OK, by both"),
    (
        "GRPC_ADDRESS_HTTP_PROXY=PROXY GRPC_ADDRESS_HTTP_PROXY_ENABLED_ADDRESSES=127.0.0.0/8"
        " to ipv4:ONE,TWO",
        ["ONE", "TWO"],
        "OK, by both",
    ),
    (
        "GRPC_ADDRESS_HTTP_PROXY=PROXY GRPC_ADDRESS_HTTP_PROXY_ENABLED_ADDRESSES=127.0.0.1/32"
        ' no_proxy=127.0.0.1 ("grpc.enable_http_proxy", 0) to ONE',
        ["ONE"],
        "OK",
    ),
    ("grpc_proxy=http://ada:secret@LOCKED", ["localhost:PORT"], "OK"),
    (
        "grpc_proxy=http://ada:wrong@LOCKED",
        ["localhost:PORT"],
        "UNAVAILABLE: HTTP proxy returned response code 407",
    ),
    (
        "grpc_proxy=http://LOCKED",
        ["localhost:PORT"],
        "UNAVAILABLE: HTTP proxy returned response code 407",
    ),
    ("grpc_proxy=PROXY", [], "OK"),
    ("grpc_proxy=https://PROXY", [], "OK"),
    ("grpc_proxy=socks5://PROXY", [], "OK"),
    ("grpc_proxy=http://DEAD", [], "UNAVAILABLE: Connection refused"),
]


@pytest.fixture(scope="module")
def stage():
    with ExitStack() as stack:
        yield cases.Stage(stack)


@pytest.mark.parametrize(("name", "connects", "outcome"), EXPECTED, ids=lambda value: str(value))
def test_a_case_goes_where_it_should(stage, name, connects, outcome):
    assert stage.play(CASES[name]) == (connects, outcome)


def test_every_case_is_expected_to_do_something():
    assert list(CASES) == [name for name, _, _ in EXPECTED]


def test_variables_of_the_caller_come_back(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://before")
    with only({"http_proxy": "http://meanwhile", "no_proxy": "x"}):
        assert os.environ["http_proxy"] == "http://meanwhile"

    assert os.environ["http_proxy"] == "http://before"
    assert os.environ.get("no_proxy") != "x"


def test_without_tls_the_proxy_reads_what_is_said():
    seen = tls_tunnel.look(tls=False)

    assert (seen.beginning, seen.can_read) == (b"PRI", True)


def test_with_tls_the_proxy_learns_host_and_port_alone():
    seen = tls_tunnel.look(tls=True)

    assert re.fullmatch(r"CONNECT localhost:\d+: 200 Connection established", *seen.requests)
    assert (seen.beginning, seen.can_read) == (b"\x16\x03\x01", False)


@pytest.mark.parametrize(
    ("exceptions", "is_asked"), [("::1", False), ("::/0", False), ("[::1]", True)]
)
def test_an_exception_in_ipv6_has_no_brackets(exceptions, is_asked):
    requests = []
    with running(ConnectProxy(requests.append)) as port:
        variables = {"grpc_proxy": f"http://127.0.0.1:{port}", "no_proxy": exceptions}
        # Nobody listens there; it is enough to see who is asked.
        with (
            only(variables),
            grpc.insecure_channel("[::1]:1") as channel,
            pytest.raises(grpc.RpcError),
        ):
            EchoServiceStub(channel).UnaryEcho(EchoRequest(), timeout=60)

    assert bool(requests) == is_asked


def test_the_variables_count_when_the_channel_is_made(serve):
    requests = []
    address = serve(echo_server.start, "echo", [].append)
    with running(ConnectProxy(requests.append)) as port:
        with only({}):
            before = grpc.insecure_channel(address)
        with only({"grpc_proxy": f"http://127.0.0.1:{port}"}):
            meanwhile = grpc.insecure_channel(address)
            EchoServiceStub(before).UnaryEcho(EchoRequest(), timeout=60)
            asked_by_before = len(requests)
        EchoServiceStub(meanwhile).UnaryEcho(EchoRequest(), timeout=60)
        before.close()
        meanwhile.close()

    assert (asked_by_before, len(requests)) == (0, 1)


def test_an_asyncio_channel_goes_by_the_proxy_too(serve, run_async):
    requests = []
    address = serve(echo_server.start, "echo", [].append)

    async def call():
        async with grpc.aio.insecure_channel(address) as channel:
            await EchoServiceStub(channel).UnaryEcho(EchoRequest(), timeout=60)

    with (
        running(ConnectProxy(requests.append)) as port,
        only({"grpc_proxy": f"http://127.0.0.1:{port}"}),
    ):
        run_async(call())

    assert requests == [f"CONNECT {address}: 200 Connection established"]


PROXY = "-m", "scaling.forward_proxies.connect_proxy", "--port", "0"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_proxy_as_a_program_ends_by_a_signal(spawn_server, number):
    process, address = spawn_server(*PROXY)

    assert address.startswith("127.0.0.1:")
    process.send_signal(number)
    assert process.wait(60) == 0
    assert process.stderr.read() == ""


def test_sigterm_ends_the_proxy_as_process_1():
    """The kernel ignores it there, as in a container, unless the program handles it."""
    unshare = ["unshare", "--pid", "--fork", "--kill-child"]
    if not shutil.which("unshare") or subprocess.run([*unshare, "true"], check=False).returncode:
        absent("namespaces of process ids (root)")
    with subprocess.Popen(
        [*unshare, sys.executable, *PROXY], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as outside:
        try:
            assert outside.stdout.readline().startswith("listening on ")
            (inside,) = psutil.Process(outside.pid).children()
            inside.terminate()
            assert outside.wait(WAIT) == 0
        finally:
            outside.kill()
