"""Builds the wheel contacts-client, if its version fits what has changed in the contract.

Run it after changing the version in pyproject.toml; --record when the wheel has been published:

    python -m production.wheel.build
    python -m production.wheel.build --record
"""

import argparse
import enum
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from production.development import programs
from production.v1 import contacts_pb2 as v1
from production.v2 import contacts_pb2 as v2

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
MADE = ROOT / "build" / "wheel"
PACKAGE = "contacts_client"
PARTS = {
    "production/contacts_client/*.py": "",
    "production/calling/*.py": "calling",
    "production/v1/*_pb2*.py*": "v1",
    "production/v2/*_pb2*.py*": "v2",
    "protobuf_demo/addressbook_pb2.py*": "",
}
"""What the wheel holds, and in which folder of its package."""
LEFT_OUT = "__main__.py"
"""The command line needs chapter 1's files."""
MOVED = {
    r"\bproduction\.contacts_client\b": PACKAGE,
    r"\bproduction\.calling\b": f"{PACKAGE}.calling",
    r"\bproduction\.(v[12])(?= import |\.contacts_pb2)": rf"{PACKAGE}.\1",
    r"\bprotobuf_demo(?= import addressbook_pb2|\.addressbook_pb2)": PACKAGE,
}
"""Python's names, as in the repository and in the wheel. The contract's own, such as
production.v1.ContactService, are what a call sends: they stay."""
FILE_RULES = '{"version": "v2", "breaking": {"use": ["FILE"], "ignore": ["google"]}}'
"""What breaks generated code. buf.yaml's WIRE_JSON would let a method disappear."""
BROKEN = 100
"""buf's exit status if it finds a breaking change."""

Version = tuple[int, int, int]


class Change(enum.Enum):
    """What has happened to the contract since the last release."""

    NONE = "has not changed"
    COMPATIBLE = "has changed in a compatible way"
    BREAKING = "has changed in a breaking way"


class VersionError(Exception):
    """The wheel's version does not fit the contract."""


def parse_version(text: str) -> Version:
    """Returns the numbers of MAJOR.MINOR.PATCH. Raises VersionError."""
    if not re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}", text):
        raise VersionError(f"version {text}: must be MAJOR.MINOR.PATCH")
    major, minor, patch = map(int, text.split("."))
    return major, minor, patch


def lowest_version(released: Version, change: Change) -> Version:
    """Returns the lowest version that a change since a release allows (semver.org)."""
    major, minor, _ = released
    match change:
        case Change.BREAKING:
            return major + 1, 0, 0
        case Change.COMPATIBLE:
            return major, minor + 1, 0
        case Change.NONE:
            return released


def check_version(version: str, released: str, change: Change) -> None:
    """Raises VersionError if a version is too low for what has changed since a release."""
    lowest = lowest_version(parse_version(released), change)
    if parse_version(version) < lowest:
        wanted = ".".join(map(str, lowest))
        raise VersionError(
            f"version {version}: the contract {change.value} since {released}, "
            f"so it must be {wanted} or higher"
        )


def contract() -> FileDescriptorSet:
    """Returns the contract that the stubs hold, with all that it imports, as buf reads it."""
    files: dict[str, FileDescriptor] = {}

    def add(file: FileDescriptor) -> None:
        for imported in file.dependencies:
            add(imported)
        files[file.name] = file

    add(v1.DESCRIPTOR)
    add(v2.DESCRIPTOR)
    parsed = [FileDescriptorProto.FromString(file.serialized_pb) for file in files.values()]
    return FileDescriptorSet(file=parsed)


def compare(before: FileDescriptorSet, after: FileDescriptorSet) -> Change:
    """Returns what changed between two contracts; buf names breaking changes on stderr."""
    if _ours(before) == _ours(after):
        return Change.NONE
    with tempfile.TemporaryDirectory() as directory:
        old, new = Path(directory, "before.binpb"), Path(directory, "after.binpb")
        old.write_bytes(before.SerializeToString())
        new.write_bytes(after.SerializeToString())
        files: list[str | Path] = [new, "--against", old]
        buf = [programs.find("buf"), "breaking", *files, "--config", FILE_RULES]
        done = subprocess.run(buf, stdout=sys.stderr)
    if done.returncode not in (0, BROKEN):
        raise subprocess.CalledProcessError(done.returncode, "buf")
    return Change.BREAKING if done.returncode else Change.COMPATIBLE


def _ours(contract: FileDescriptorSet) -> dict[str, FileDescriptorProto]:
    return {file.name: file for file in contract.file if not file.name.startswith("google/")}


def released_contract() -> Path:
    """Returns the file of the last released contract; its name ends in the version."""
    (file,) = HERE.glob("contract-*.binpb")
    return file


def record(version: str) -> Path:
    """Makes the contract the released one, with which the next wheel is compared."""
    for file in HERE.glob("contract-*.binpb"):
        file.unlink()
    file = HERE / f"contract-{version}.binpb"
    file.write_bytes(contract().SerializeToString(deterministic=True))
    return file


def sources() -> Iterator[tuple[Path, Path]]:
    """Yields each file of the package, and its place in the wheel."""
    for pattern, folder in PARTS.items():
        for file in sorted(ROOT.glob(pattern)):
            if file.name != LEFT_OUT:
                yield file, Path(PACKAGE, folder, file.name)


def moved(source: str) -> str:
    """Returns a module's source with the imports that it has in the wheel."""
    for name, place in MOVED.items():
        source = re.sub(name, place, source)
    return source


def build(version: str) -> Path:
    """Builds the wheel; returns its path. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as directory:
        for file, place in sources():
            target = Path(directory, place)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(moved(file.read_text()))
        Path(directory, PACKAGE, "py.typed").touch()
        shutil.copy(HERE / "pyproject.toml", directory)
        shutil.copy(ROOT / "LICENSE", directory)
        uv = [programs.find("uv"), "build", "--quiet", "--wheel"]
        subprocess.run([*uv, "--out-dir", str(MADE), directory], check=True)
    return MADE / f"{PACKAGE}-{version}-py3-none-any.whl"


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the wheel contacts-client.")
    parser.add_argument(
        "--record", action="store_true", help="keep the contract as that of the published version"
    )
    args = parser.parse_args()
    version = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]["version"]
    before = released_contract()
    released = before.stem.removeprefix("contract-")
    try:
        change = compare(FileDescriptorSet.FromString(before.read_bytes()), contract())
        check_version(version, released, change)
        done = record(version) if args.record else build(version)
    except (VersionError, programs.AbsentError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: {error}")
    print(f"{done.relative_to(ROOT)}: the contract {change.value} since {released}")


if __name__ == "__main__":
    main()
