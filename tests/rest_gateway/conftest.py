"""The services behind grpc-gateway and behind Envoy, and an HTTP client that may send anything."""

import http.client
import json
import shutil
from contextlib import contextmanager
from importlib.util import find_spec
from typing import NamedTuple

import pytest

from production.development.programs import AbsentError
from rest_gateway import demo
from tests.conftest import absent

WAIT = 30


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self):
        return json.loads(self.body)


class Front:
    """A gateway, and tokens for what is behind it."""

    def __init__(self, running):
        self.demo = running
        host, _, port = running.front.rpartition(":")
        self.host, self.port = host, int(port)

    def headers(self, client="editor"):
        return {"Authorization": f"Bearer {self.demo.token(client)}"} if client else {}

    @contextmanager
    def open(self, method, path, body=None, client="editor", **headers):
        """Sends a request; yields the response, of which nothing has been read.

        A body is JSON unless Content_Type is given; None leaves a header out.
        """
        connection = http.client.HTTPConnection(self.host, self.port, timeout=WAIT)
        if body is not None:
            headers = {"Content_Type": "application/json", **headers}
        named = {
            name.replace("_", "-"): value for name, value in headers.items() if value is not None
        }
        if isinstance(body, dict | list):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        try:
            connection.request(method, path, body, self.headers(client) | named)
            yield connection.getresponse()
        finally:
            connection.close()

    def ask(self, method, path, body=None, client="editor", **headers):
        with self.open(method, path, body, client, **headers) as response:
            return Answer(response.status, response.headers, response.read())


@contextmanager
def running(front, *args, echo=True, **environment):
    """Runs a front. Skips if its program is absent, unless nothing may be."""
    try:
        with demo.running(front, *args, echo=echo, **environment) as started:
            yield Front(started)
    except AbsentError as error:
        absent(error)


@contextmanager
def a_page():
    """An empty page of a real browser, which reaches this machine and no other."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not find_spec("playwright") or not chromium:
        absent("chromium (apt install chromium; make test-all)")
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    offline = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*flags, offline])
        yield browser.new_page()
        browser.close()


@pytest.fixture(scope="session")
def gateway():
    with running("gateway") as front:
        yield front


@pytest.fixture(scope="session")
def envoy():
    with running("envoy") as front:
        yield front


@pytest.fixture(params=["gateway", "envoy"])
def front(request):
    return request.getfixturevalue(request.param)
