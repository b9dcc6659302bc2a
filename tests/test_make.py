"""make sets up, notices what has become unusable, and never harms what it has not made."""

import os
import subprocess
import sys
import venv

import pytest

from tests.conftest import ROOT
from tour import tree
from tour.player import create_environment

FOREIGN = ("MAKE", "VIRTUAL_ENV")
"""Beginnings of variables that a make or an environment around the tests has set."""


@pytest.fixture
def copy(tmp_path):
    """A copy of the tree in a folder of its own, without .venv and build."""
    root = tmp_path / "copy"
    tree.copy(ROOT, root)
    return root


def make(root, *targets):
    """Runs make in root; returns its exit status and what it prints.

    SHELL is not set, as in most containers.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith((*FOREIGN, "SHELL"))}
    done = subprocess.run(
        ["make", *targets],
        cwd=root,
        env=kept,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
    )
    return done.returncode, done.stdout


def snapshot(folder):
    """Every path below folder and its time of change, but for what Python keeps for itself."""
    return {
        path: path.lstat().st_mtime_ns
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts and not path.is_dir()
    }


PLAY = """
from pathlib import Path
from tour.player import play
from tour.readme import read
(exercise,) = (s for s in read(Path("helloworld/README.md")) if s.title == "Exercise")
assert "$ make protos" in [line for block in exercise.blocks for line in block.lines]
play(exercise, Path.cwd())
"""


@pytest.mark.parametrize("place", ["own", "copy/.venv"])
def test_an_exercise_leaves_the_environment_it_is_played_from_unchanged(place, copy, tmp_path):
    """Also when requirements.txt is newer than .venv, so that `make protos` would set it up."""
    environment = tmp_path / place
    create_environment(environment)
    (copy / "requirements.txt").touch()
    before = snapshot(environment)

    # The programs of our packages, such as protoc's plugins, are on the PATH.
    path = f"{sys.prefix}/bin:{os.environ['PATH']}"
    python = environment / "bin" / "python"
    subprocess.run([python, "-c", PLAY], cwd=copy, env=os.environ | {"PATH": path}, check=True)

    assert snapshot(environment) == before


def test_a_linked_environment_is_refused_and_stays(copy, tmp_path):
    create_environment(tmp_path / "own")
    before = snapshot(tmp_path / "own")
    (copy / ".venv").symlink_to(tmp_path / "own")

    status, output = make(copy, "setup")
    make(copy, "clean")

    assert status != 0
    assert "error: .venv is a link and make would change what it leads to" in output
    assert snapshot(tmp_path / "own") == before
    assert (copy / ".venv").is_symlink()


def test_a_broken_environment_that_make_has_not_created_is_refused_and_stays(copy):
    venv.create(copy / ".venv", symlinks=True)
    (copy / ".venv" / "bin" / "python").unlink()
    before = snapshot(copy / ".venv")

    status, output = make(copy, "setup")

    assert status != 0
    assert "error: .venv was not created by make and cannot be used" in output
    assert snapshot(copy / ".venv") == before


@pytest.mark.slow
def test_another_environment_is_installed_into_and_never_cleared(copy):
    """An editor's, for example; `uv venv` creates it without pip, as we do here."""
    venv.create(copy / ".venv", symlinks=True)
    mine = copy / ".venv" / "mine.txt"
    mine.write_text("mine")

    status, output = make(copy, "check-protos")
    assert status == 0, output
    status, output = make(copy, "clean")

    assert (status, output) == (0, "note: .venv stays, because make has not created it\n")
    assert mine.read_text() == "mine"


@pytest.mark.slow
@pytest.mark.parametrize("what", ["moved", "python gone", "interrupted"])
def test_an_environment_that_cannot_be_used_any_more_is_created_again(what, copy):
    status, output = make(copy, "setup")
    assert status == 0, output
    if what == "moved":
        copy = copy.rename(copy.with_name("renamed"))
    elif what == "python gone":
        for python in (copy / ".venv" / "bin").glob("python*"):
            python.unlink()
            python.symlink_to("/nowhere/python")
    else:
        (copy / ".venv" / ".ready").unlink()

    status, output = make(copy, "check-protos")

    assert status == 0, output
    assert output.startswith("creating .venv with Python 3.")
    assert make(copy, "check-protos") == (0, "")


@pytest.mark.slow
def test_clean_removes_all_that_make_has_made(copy):
    before = snapshot(copy)

    status, output = make(copy, "setup", "protos", "certs")
    assert status == 0, output
    subprocess.run([sys.executable, "-m", "compileall", "-q", "helloworld"], cwd=copy, check=True)
    assert make(copy, "clean") == (0, "")

    assert snapshot(copy).keys() == before.keys()


def test_stubs_are_made_of_our_contracts_and_not_of_installed_ones(copy):
    """An environment, or packages of npm, may stand anywhere in the tree."""
    for folder in ("env/lib/python3.11/site-packages/google", "web/node_modules/google"):
        (copy / folder).mkdir(parents=True)
        (copy / folder / "theirs.proto").write_text("no contract")

    status, output = make(copy, "-n", "protos")

    assert status == 0
    assert "helloworld/helloworld.proto" in output
    assert "theirs.proto" not in output
