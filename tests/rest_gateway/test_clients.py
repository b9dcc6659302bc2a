"""Clients of other languages, generated and run by the commands that the pages give."""

import os
import shutil
import subprocess
from typing import NamedTuple

import pytest

from production.development import programs
from tests.conftest import ROOT, absent
from tests.rest_gateway.conftest import running
from tour.readme import read


class Client(NamedTuple):
    """A client: its page and section, its folder, what it needs, and what it calls."""

    page: str
    section: str
    folder: str
    needs: str
    program: str
    front: str


OPENAPI = ("rest_gateway/openapi/README.md", "Clients in three languages")
DOCUMENT = "rest_gateway/gateway/openapi.json"
GENERATORS = {"python": "openapi-python-client", "typescript": "npm", "go": "go"}
CLIENTS = [
    Client(*OPENAPI, f"rest_gateway/openapi/clients/{language}", DOCUMENT, program, "gateway")
    for language, program in GENERATORS.items()
]
WEB = Client(
    "rest_gateway/envoy/README.md",
    "In a page",
    "rest_gateway/envoy/web",
    "production/v1",
    "npm",
    "envoy",
)


@pytest.mark.slow
@pytest.mark.timeout(600)  # npm and Go fetch and build the generators.
@pytest.mark.parametrize("client", [*CLIENTS, WEB], ids=lambda client: client.folder)
def test_a_client_does_all_that_its_page_says(client, tmp_path):
    try:
        programs.find(client.program)
    except programs.AbsentError as error:
        absent(error)
    (section,) = (each for each in read(ROOT / client.page) if each.title == client.section)
    (commands,) = (
        block.lines for block in section.blocks if block.lines[0] == f"cd {client.folder}"
    )
    (expected,) = (block.lines for block in section.blocks if block.language == "text")
    for path in (client.folder, client.needs, "protobuf_demo/addressbook.proto"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / path).is_dir() else shutil.copy
        copy(ROOT / path, tmp_path / path)

    with running(client.front) as front:
        url = f"http://{front.demo.front}"
        done = subprocess.run(
            ["sh", "-euc", "\n".join(commands)],
            cwd=tmp_path,
            env={
                **os.environ,
                "PATH": programs.PATH,
                "GATEWAY": url,
                "ENVOY": url,
                "TOKEN": front.demo.token(),
            },
            capture_output=True,
            text=True,
        )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-len(expected) :] == expected
