"""Programs are found, or named with how to install them."""

import sys
from pathlib import Path

import pytest

from production.development import programs
from production.development.programs import AbsentError, find, missing_packages


@pytest.fixture
def frobnicator(monkeypatch):
    monkeypatch.setitem(programs.INSTALL, "frobnicator", "apt install frobnicator-bin")


@pytest.mark.usefixtures("frobnicator")
def test_a_program_that_is_absent_is_named_with_its_package():
    with pytest.raises(AbsentError, match=r"^frobnicator \(apt install frobnicator-bin\)$"):
        find("frobnicator")

    assert "frobnicator-bin" in missing_packages()


def test_what_modules_need_can_be_found_or_is_a_condition():
    needed = {need for needs in programs.NEEDS.values() for need in needs}

    assert needed <= programs.INSTALL.keys() | programs.CONDITIONS.keys()


@pytest.mark.usefixtures("frobnicator")
def test_a_package_needs_a_program_and_so_does_each_of_its_modules(monkeypatch):
    monkeypatch.setitem(programs.NEEDS, "chapter.lesson", ("frobnicator",))

    for module in ("chapter.lesson", "chapter.lesson.program"):
        with pytest.raises(AbsentError):
            programs.require(module)
    programs.require("chapter.lessons")


def test_a_program_of_the_installed_packages_is_found(monkeypatch):
    name = Path(sys.executable).name
    monkeypatch.setitem(programs.INSTALL, name, "apt install frobnicator-bin")

    assert Path(find(name)).parent == Path(sys.executable).parent
    assert "frobnicator-bin" not in missing_packages()
