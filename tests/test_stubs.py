"""Committed stubs fit the installed packages, which broke the demos of the article."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest

from tour import tree

ROOT = Path(__file__).parent.parent
STUBS = [ROOT / path for path in tree.files(ROOT) if path.match("*_pb2*.py")]


def numbers(text):
    return tuple(int(number) for number in text.split(".")[:3])


def disagreement(stub, protobuf, grpcio):
    """One line when the stub's text needs other versions than these, else None."""
    for pattern, package, installed in (
        (r"# Protobuf Python Version: ([\d.]+)", "protobuf", protobuf),
        (r"GRPC_GENERATED_VERSION = '([\d.]+)'", "grpcio", grpcio),
    ):
        if made_for := re.search(pattern, stub):
            oldest = numbers(made_for[1])
            # protobuf reads stubs of its own major version and of the one before.
            if not oldest <= numbers(installed) < (oldest[0] + 2,):
                return f"made for {package} {made_for[1]}, installed is {installed}: make protos"
    return None


@pytest.mark.parametrize("path", STUBS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_stub_fits_the_installed_packages(path):
    problem = disagreement(path.read_text(), version("protobuf"), version("grpcio"))

    if problem:
        pytest.fail(f"{path.name}: {problem}", pytrace=False)


def test_the_check_notices_stubs_that_are_too_new_or_too_old():
    stub = "# Protobuf Python Version: 6.33.1\nGRPC_GENERATED_VERSION = '1.80.0'\n"

    assert disagreement(stub, "6.33.1", "1.80.0") is None
    assert disagreement(stub, "7.36.2", "1.85.1") is None
    assert disagreement(stub, "6.33.0", "1.85.1") == (
        "made for protobuf 6.33.1, installed is 6.33.0: make protos"
    )
    assert disagreement(stub, "8.0.0", "1.85.1") == (
        "made for protobuf 6.33.1, installed is 8.0.0: make protos"
    )
    assert disagreement(stub, "6.33.1", "1.79.9") == (
        "made for grpcio 1.80.0, installed is 1.79.9: make protos"
    )


def test_the_pins_are_what_is_installed():
    text = (ROOT / "requirements.txt").read_text()
    pins = dict(re.findall(r"^([\w-]+)==([\w.]+)", text, re.M))

    for package in ("grpcio", "grpcio-tools", "protobuf"):
        assert pins[package] == version(package)
    assert pins["grpcio"] == pins["grpcio-tools"]
