"""The OpenAPI document and Swagger UI, used as their readers would: by a browser, by a machine."""

import json
import os
import re
import subprocess
import sys
import sysconfig
from importlib.util import find_spec

import pytest

from production.development import programs
from rest_gateway import demo
from rest_gateway.openapi.__main__ import document
from tests.conftest import absent
from tests.rest_gateway.conftest import a_page

GATEWAY = demo.ROOT / "rest_gateway" / "gateway"
COMMITTED = GATEWAY / "openapi.json"


@pytest.mark.usefixtures("gateway")
def test_the_document_is_what_the_contracts_give(tmp_path):
    """`make gateway` writes it; who changes a contract commits both."""
    protos = [
        "production/v1",
        "rest_gateway/v1",
        "protos/echo/v1",
        "protobuf_demo/addressbook.proto",
    ]
    image = tmp_path / "contracts.binpb"
    include = sysconfig.get_path("purelib")
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{demo.ROOT}", f"-I{include}",
         "--include_imports", "--include_source_info", f"-o{image}",
         "production/v1/contacts.proto", "rest_gateway/v1/greeter.proto",
         "rest_gateway/v1/problem.proto", "protos/echo/v1/echo.proto"],
        cwd=demo.ROOT, check=True,
    )  # fmt: skip
    command = [programs.find("buf"), "generate", str(image), f"--output={tmp_path}"]
    subprocess.run(
        [*command, *(f"--path={proto}" for proto in protos)],
        cwd=GATEWAY,
        env={**os.environ, "PATH": programs.PATH},
        check=True,
    )

    swagger = tmp_path / "gen" / "openapi.swagger.json"
    found = document(json.loads(swagger.read_text()))
    assert found == json.loads(COMMITTED.read_text())


@pytest.mark.parametrize(
    "path", ["/docs/", "/docs/docs.js", "/docs/swagger-ui.css", "/openapi.json"]
)
def test_nothing_but_the_gateways_own_files_can_run_in_its_pages(gateway, path):
    answer = gateway.ask("GET", path, client="")

    policy = dict(
        each.split(maxsplit=1) for each in answer.headers["Content-Security-Policy"].split("; ")
    )
    assert answer.status == 200
    assert "unsafe" not in str(policy)
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["form-action"] == "'none'"


def test_the_gateway_serves_the_document(gateway):
    answer = gateway.ask("GET", "/openapi.json", client="")

    assert answer.json() == json.loads(COMMITTED.read_text())


@pytest.mark.slow
def test_a_browser_without_a_network_tries_a_call_out(gateway):
    asked, failed = [], []
    with a_page() as page:
        page.on("request", lambda request: asked.append(request.url))
        page.on("requestfailed", lambda request: failed.append(request.url))
        page.on("console", lambda message: failed.append(message.text))
        page.goto(f"http://{gateway.demo.front}/")

        page.click("button.authorize")
        page.fill(".auth-container input", gateway.demo.token())
        page.click(".auth-btn-wrapper button.authorize")
        page.click(".btn-done")
        create = page.locator("#operations-ContactService-ContactService_CreateContact")
        create.locator(".opblock-summary-control").click()
        create.locator(".try-out__btn").click()
        create.locator(".execute").click()
        shown = create.locator(".live-responses-table")
        shown.wait_for()

        assert "201" in shown.locator("tbody .response-col_status").first.inner_text()
        assert '"name": "Ada Lovelace"' in shown.inner_text()
        assert "location: /v1/contacts/" in shown.inner_text()
    assert failed == []
    assert {url.split("/")[2] for url in asked} == {gateway.demo.front}


@pytest.mark.slow
def test_a_machine_that_reads_the_document_finds_no_fault(gateway, tmp_path):
    """Thousands of requests, good and bad: no 5xx, and nothing the document does not say."""
    if not find_spec("schemathesis"):
        absent("schemathesis (make test-all)")
    checks = [
        "not_a_server_error", "status_code_conformance", "content_type_conformance",
        "response_headers_conformance", "response_schema_conformance", "unsupported_method",
        "ignored_auth",
    ]  # fmt: skip
    ended = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", f"http://{gateway.demo.front}/openapi.json",
         f"--header=Authorization: Bearer {gateway.demo.token()}", f"--checks={','.join(checks)}",
         "--exclude-path=/v1/contacts:watch",  # It never ends.
         "--max-examples=60", "--request-timeout=30", "--generation-database=none", "--no-color"],
        cwd=tmp_path, capture_output=True, text=True, timeout=110,
    )  # fmt: skip

    assert ended.returncode == 0, ended.stdout
    assert int(re.search(r"(\d+) generated", ended.stdout)[1]) > 500
