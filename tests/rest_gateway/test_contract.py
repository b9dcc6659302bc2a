"""The gateways treat some methods by their names; the list of each kind is complete."""

import json

import pytest

from production.contacts.validation import MAX_PHONES
from production.serving.validation import MAX_TEXT
from production.v1 import contacts_pb2
from tests.conftest import ROOT

SERVICE = contacts_pb2.DESCRIPTOR.services_by_name["ContactService"]
WATCHES = [method.name for method in SERVICE.methods if method.name.startswith("Watch")]
GATEWAY = ROOT / "rest_gateway" / "gateway"
DOCUMENT = json.loads((GATEWAY / "openapi.json").read_text())


@pytest.mark.parametrize("name", WATCHES)
def test_a_watch_ends_with_the_gateway_and_not_before(name):
    route = f"- match: {{path: /{SERVICE.full_name}/{name}}}"

    assert f"ContactService_{name}_FullMethodName" in (GATEWAY / "calls.go").read_text()
    assert route in (ROOT / "rest_gateway" / "envoy" / "envoy.yaml").read_text()


def test_every_method_has_its_responses_in_the_document():
    options = (GATEWAY / "openapi.yaml").read_text()

    assert [
        method.full_name
        for method in SERVICE.methods
        if f"- method: {method.full_name}\n" not in options
    ] == []


def documented(name):
    """The operation of a method in the OpenAPI document, and its responses."""
    (operation,) = (
        operation
        for path in DOCUMENT["paths"].values()
        for operation in path.values()
        if operation["operationId"] == f"{SERVICE.name}_{name}"
    )
    shared = DOCUMENT["components"]["responses"]
    return operation, {
        status: shared[response["$ref"].rpartition("/")[2]] if "$ref" in response else response
        for status, response in operation["responses"].items()
    }


@pytest.mark.parametrize("name", [method.name for method in SERVICE.methods])
def test_every_error_in_the_document_is_a_problem(name):
    operation, responses = documented(name)
    errors = {status: response for status, response in responses.items() if status[0] not in "23"}
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}}

    assert {"400", "401", "403", "429", "503", "504", "default"} <= errors.keys()
    assert ("404" in errors) == ("contact" in {each["name"] for each in operation["parameters"]})
    for response in errors.values():
        assert response["content"] == {"application/problem+json": problem}


@pytest.mark.parametrize(
    "name", [method.name for method in SERVICE.methods if method.server_streaming]
)
def test_a_line_of_every_stream_has_a_type(name):
    _, responses = documented(name)
    line = DOCUMENT["components"]["schemas"][f"{name}Line"]

    assert f"{name}Line" in responses["200"]["description"]
    assert line["properties"].keys() == {"result", "error"}
    assert responses["200"]["content"]["application/x-ndjson"]["schema"]["format"] == "binary"


def test_the_document_has_the_limits_of_the_service():
    limits = {}
    for message in ("Person", "PhoneNumber"):
        for name, schema in DOCUMENT["components"]["schemas"][message]["properties"].items():
            found = {key: schema[key] for key in schema if key.startswith(("min", "max"))}
            limits |= {name: found} if found else {}

    assert limits == {
        "name": {"minLength": 1, "maxLength": MAX_TEXT},
        "email": {"maxLength": MAX_TEXT},
        "phones": {"maxItems": MAX_PHONES},
        "number": {"minLength": 1, "maxLength": MAX_TEXT},
    }
