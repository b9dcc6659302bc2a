"""Flags that are addresses or ports are checked: gRPC takes port 70000, and connects to 4464."""

import ast

from tests.conftest import ROOT
from tour import tree

CHAPTERS = {"production", "rest_gateway", "scaling"}
"""From chapter 4 on there is one place that checks them."""
SETTINGS = "production/serving/settings.py"
"""Its flag is checked as the setting is."""


def unchecked_flags(path):
    for call in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(".add_argument"):
            names = {ast.unparse(each).strip("'") for each in call.args}
            checks = [ast.unparse(each.value) for each in call.keywords if each.arg == "type"]
            if names & {"--address", "--port"} and not any("addresses." in each for each in checks):
                yield f"{path}: {min(names)}"


def test_every_address_and_port_is_checked():
    paths = [path for path in tree.files(ROOT) if path.suffix == ".py"]
    paths = [path for path in paths if path.parts[0] in CHAPTERS and str(path) != SETTINGS]

    assert [flag for path in paths for flag in unchecked_flags(path)] == []
