"""Clients in three languages, generated from the OpenAPI document by the commands of its page."""

import os
import shutil
import subprocess

import pytest

from production.development import programs
from tests.conftest import ROOT, absent
from tests.rest_gateway.conftest import running
from tour.readme import read

PAGE = ROOT / "rest_gateway" / "openapi" / "README.md"
PROGRAMS = {"python": "openapi-python-client", "typescript": "npm", "go": "go"}
"""The program that each language needs."""


def blocks():
    """The fenced blocks of the section about clients."""
    (section,) = (each for each in read(PAGE) if each.title == "Clients in three languages")
    return section.blocks


def commands(language):
    """The commands that the page gives for a language."""
    folder = f"cd rest_gateway/openapi/clients/{language}"
    (lines,) = (block.lines for block in blocks() if block.lines[0] == folder)
    return "\n".join(lines)


def printed():
    (lines,) = (block.lines for block in blocks() if block.language == "text")
    return lines


@pytest.mark.slow
@pytest.mark.timeout(600)  # npm and Go fetch and build the generators.
@pytest.mark.parametrize("language", PROGRAMS)
def test_a_generated_client_does_all_that_the_page_says(language, tmp_path):
    try:
        programs.find(PROGRAMS[language])
    except programs.AbsentError as error:
        absent(error)
    for path in ("rest_gateway/openapi/clients", "rest_gateway/gateway/openapi.json"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / path).is_dir() else shutil.copy
        copy(ROOT / path, tmp_path / path)

    with running("gateway") as gateway:
        done = subprocess.run(
            ["sh", "-euc", commands(language)],
            cwd=tmp_path,
            env={
                **os.environ,
                "PATH": programs.PATH,
                "GATEWAY": f"http://{gateway.demo.front}",
                "TOKEN": gateway.demo.token(),
            },
            capture_output=True,
            text=True,
        )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-len(printed()) :] == printed()
