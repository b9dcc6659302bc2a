"""The gateways treat some methods by their names; the list of each kind is complete."""

import pytest

from production.v1 import contacts_pb2
from tests.conftest import ROOT

SERVICE = contacts_pb2.DESCRIPTOR.services_by_name["ContactService"]
WATCHES = [method.name for method in SERVICE.methods if method.name.startswith("Watch")]
GATEWAY = ROOT / "rest_gateway" / "gateway"


@pytest.mark.parametrize("name", WATCHES)
def test_a_watch_ends_with_the_gateway_and_not_before(name):
    route = f"- match: {{path: /{SERVICE.full_name}/{name}}}"

    assert f"ContactService_{name}_FullMethodName" in (GATEWAY / "calls.go").read_text()
    assert route in (ROOT / "rest_gateway" / "envoy.yaml").read_text()


def test_every_method_has_its_responses_in_the_document():
    options = (GATEWAY / "openapi.yaml").read_text()

    assert [
        method.full_name
        for method in SERVICE.methods
        if f"- method: {method.full_name}\n" not in options
    ] == []
