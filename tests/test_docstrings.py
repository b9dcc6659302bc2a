"""The first lines of a program show how to run it, and what they show can be typed."""

import ast
import re
import shlex

import pytest

from tests.conftest import ROOT, absent, python
from tour import tree

COMMAND = r"^\s*(?:[A-Z_]+=\S+ +)*python -m ([^`\n]*)$"
RUN_IT = r"^(?:.* )?Run it\b.*:\n\n(?: {4}\S.*\n)+"
MAIN = 'if __name__ == "__main__":'


def programs():
    """Path and source of each module of ours, and its docstring."""
    for path in tree.files(ROOT):
        if path.suffix == ".py" and "_pb2" not in path.name and path.parts[0] != "tests":
            source = (ROOT / path).read_text()
            yield path, source, ast.get_docstring(ast.parse(source)) or ""


def commands():
    """The arguments of each `python -m …` that has a line of its own in a module's docstring."""
    for _, _, shown in programs():
        yield from re.findall(COMMAND, shown.replace("\\\n", ""), re.M)


def test_a_program_shows_its_command_indented_below_run_it():
    assert [
        str(path)
        for path, source, shown in programs()
        if (MAIN in source or path.name == "__main__.py")
        and not re.search(RUN_IT, f"{shown}\n", re.M)
    ] == []


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted(set(commands())))
def test_a_command_of_a_docstring_can_be_typed(command):
    """With --help at its end, which argparse answers only if all before it is right."""
    done = python("-m", *shlex.split(command), "--help")

    if "ModuleNotFoundError" in done.stderr:  # A chapter's own requirements, not installed.
        absent(done.stderr.splitlines()[-1])
    assert (done.returncode, done.stderr) == (0, "")
