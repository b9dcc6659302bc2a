"""The wheel of the client: version, names, bounds, and programs that have installed it."""

import copy
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto

from production.development import programs
from production.development.programs import AbsentError
from production.wheel import build
from production.wheel.build import Change, VersionError
from tests.conftest import ROOT, WAIT, absent
from tour import tree

PROJECT = tomllib.loads((ROOT / "production/wheel/pyproject.toml").read_text())["project"]
CONSUMER = ROOT / "production/wheel/consumer.py"
GOOGLE = Path(importlib.util.find_spec("google.api").submodule_search_locations[0]).parents[1]
ENVIRONMENT = {**os.environ, "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"}
NONE, COMPATIBLE, BREAKING = Change.NONE, Change.COMPATIBLE, Change.BREAKING
WIRE_JSON = '{"version": "v2", "breaking": {"use": ["WIRE_JSON"]}}'


def find(program):
    try:
        return programs.find(program)
    except AbsentError as error:
        absent(error)


def run(*command, **options):
    """Runs a command to its end, which must be a good one; returns what it prints on stdout."""
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=WAIT,
        **{"env": ENVIRONMENT, **options},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# The version


VERSIONS = ["0.9.9", "1.2.2", "1.2.3", "1.2.4", "1.3.0", "1.10.0", "2.0.0", "10.0.0"]


@pytest.mark.parametrize(
    ("change", "lowest"), [(NONE, "1.2.3"), (COMPATIBLE, "1.3.0"), (BREAKING, "2.0.0")]
)
def test_the_version_follows_the_contract(change, lowest):
    for version in VERSIONS[VERSIONS.index(lowest) :]:
        build.check_version(version, "1.2.3", change)
    for version in VERSIONS[: VERSIONS.index(lowest)]:
        with pytest.raises(VersionError) as caught:
            build.check_version(version, "1.2.3", change)
        assert str(caught.value) == (
            f"version {version}: the contract {change.value} since 1.2.3, "
            f"so it must be {lowest} or higher"
        )


@pytest.mark.parametrize("version", ["", "1", "1.2", "1.2.3.4", "1.2.3rc1", "1.02.3", "v1.2.3"])
def test_a_version_is_three_numbers(version):
    with pytest.raises(VersionError, match=r"must be MAJOR\.MINOR\.PATCH$"):
        build.check_version(version, "1.0.0", NONE)


def contacts(contract):
    return next(file for file in contract.file if file.name == "production/v1/contacts.proto")


def message(contract, name):
    return next(each for each in contacts(contract).message_type if each.name == name)


def add_field(contract):
    message(contract, "Contact").field.add(
        name="note",
        number=6,
        type=FieldDescriptorProto.TYPE_STRING,
        label=FieldDescriptorProto.LABEL_OPTIONAL,
    )


def add_kind(contract):
    message(contract, "WatchContactsResponse").enum_type[0].value.add(name="KIND_X", number=99)


def add_method(contract):
    added = contacts(contract).service[0].method.add()
    added.CopyFrom(contacts(contract).service[0].method[0])
    added.name = "CopyContact"


def change_google(contract):
    next(file for file in contract.file if file.name == "google/api/client.proto").ClearField(
        "options"
    )


def add_field_and_break_google(contract):
    google = next(file for file in contract.file if file.name == "google/api/client.proto")
    google.message_type[0].field[0].name = "renamed"
    add_field(contract)


def remove_method(contract):
    del contacts(contract).service[0].method[0]


def remove_reserved_field(contract):
    changed = message(contract, "Contact")
    etag = next(field for field in changed.field if field.name == "etag")
    changed.reserved_name.append("etag")
    changed.reserved_range.add(start=etag.number, end=etag.number + 1)
    changed.field.remove(etag)


def rename_field(contract):
    message(contract, "ListContactsRequest").field[0].name = "limit"


def change_person(contract):
    person = next(file for file in contract.file if file.name == "protobuf_demo/addressbook.proto")
    person.message_type[0].field[1].type = FieldDescriptorProto.TYPE_INT64


@pytest.mark.parametrize(
    ("edit", "change"),
    [
        (id, NONE),
        (change_google, NONE),
        (add_field, COMPATIBLE),
        (add_field_and_break_google, COMPATIBLE),
        (add_kind, COMPATIBLE),
        (add_method, COMPATIBLE),
        (remove_method, BREAKING),
        (remove_reserved_field, BREAKING),
        (rename_field, BREAKING),
        (change_person, BREAKING),
    ],
)
def test_a_change_of_the_contract_is_recognised(edit, change, capfd):
    find("buf")
    before = build.contract()
    after = copy.deepcopy(before)
    edit(after)

    assert build.compare(before, after) is change
    assert bool(capfd.readouterr().err) == (change is BREAKING)


@pytest.mark.parametrize("edit", [remove_method, remove_reserved_field])
def test_the_rules_for_bytes_alone_would_accept_what_breaks_a_program(edit, tmp_path):
    before, after = build.contract(), build.contract()
    edit(after)
    (tmp_path / "before.binpb").write_bytes(before.SerializeToString())
    (tmp_path / "after.binpb").write_bytes(after.SerializeToString())
    files = [tmp_path / "after.binpb", "--against", tmp_path / "before.binpb"]

    assert run(find("buf"), "breaking", *files, "--config", WIRE_JSON) == ""


# The bounds


def test_the_bounds_are_those_of_the_stubs():
    """And, above, the last version that is promised to run them."""
    stubs = [file.read_text() for file, _ in build.sources() if "_pb2" in file.name]
    bounds = {}
    for package, checked, supported in (
        ("protobuf", r"^# Protobuf Python Version: ([\d.]+)", 2),
        ("grpcio", r"GRPC_GENERATED_VERSION = '([\d.]+)'", 1),
    ):
        (lowest,) = {version for stub in stubs for version in re.findall(checked, stub, re.M)}
        bounds[package] = f"{package}>={lowest},<{int(lowest.split('.')[0]) + supported}"

    assert set(bounds.values()) <= set(PROJECT["dependencies"])


# The wheel


class Repository:
    """A copy of the tree, in which a contract can change and wheels are built."""

    def __init__(self, root):
        self.root = root
        tree.copy(ROOT, root)

    def change(self, path, before, after):
        text = (self.root / path).read_text()
        assert before in text
        (self.root / path).write_text(text.replace(before, after))

    def change_contract(self, before, after):
        self.change("production/v1/contacts.proto", before, after)
        outs = [f"--{kind}_out=." for kind in ("python", "mypy", "grpc_python", "mypy_grpc")]
        protoc = [sys.executable, "-m", "grpc_tools.protoc", "-I", ".", "-I", GOOGLE, *outs]
        run(*protoc, "production/v1/contacts.proto", cwd=self.root)

    def release(self, version, *flags):
        """Builds the wheel, as `make wheel` does; returns what it prints, good or bad."""
        self.change("production/wheel/pyproject.toml", PROJECT["version"], version)
        done = subprocess.run(
            [sys.executable, "-m", "production.wheel.build", *flags],
            cwd=self.root,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=WAIT,
        )
        self.change("production/wheel/pyproject.toml", version, PROJECT["version"])
        return done.returncode, done.stdout + done.stderr

    def wheel(self, version):
        return self.root / f"build/wheel/contacts_client-{version}-py3-none-any.whl"


@pytest.fixture
def repository(tmp_path):
    find("buf"), find("uv")
    return Repository(tmp_path / "repository")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """The wheel of the repository, and the next, whose contract has one more field."""
    find("buf"), find("uv")
    repository = Repository(tmp_path_factory.mktemp("wheels") / "repository")
    assert repository.release("1.0.0")[0] == 0
    repository.change_contract("string etag = 3;", "string etag = 3;\n  string note = 6;")
    assert repository.release("1.1.0")[0] == 0
    return repository.wheel("1.0.0"), repository.wheel("1.1.0")


def environment(directory, *packages):
    """Makes an environment with these packages and no others; returns its Python."""
    uv = find("uv")
    run(uv, "venv", "--quiet", directory)
    python = directory / "bin/python"
    for arguments in packages:
        arguments = arguments if isinstance(arguments, list) else [arguments]
        run(uv, "pip", "install", "--quiet", "--python", python, *arguments)
    return python


@pytest.fixture
def server(spawn_server, tmp_path):
    """The address of the repository's server, which knows the contract of 1.0.0."""
    variables = {
        "CONTACTS_ADDRESS": "127.0.0.1:0",
        "CONTACTS_DATABASE": f"sqlite:///{tmp_path}/contacts.db",
    }
    arguments = ["-m", "production.contacts_server", "--plaintext"]
    _, address = spawn_server(*arguments, env=os.environ | variables)
    return address


UPDATE = """
import asyncio, sys
from contacts_client import ContactsClient, ContactsError
from contacts_client.addressbook_pb2 import Person
from contacts_client.v1.contacts_pb2 import Contact
async def main():
    async with ContactsClient(sys.argv[1], None) as client:
        given = Contact(person=Person(name="Ada"), **{name: "n" for name in sys.argv[2:]})
        contact = await client.create(given)
        print(contact.person.name, [field.name for field, _ in contact.ListFields()])
        try:
            await client.update(contact)
            print("updated")
        except ContactsError as error:
            print(error.code.name, error)
asyncio.run(main())
"""


@pytest.mark.slow
def test_two_versions_call_one_server(wheels, server, tmp_path):
    old, new = (
        environment(tmp_path / name, wheel)
        for name, wheel in zip(("old", "new"), wheels, strict=True)
    )
    fields = "name person etag create_time update_time\n"

    seen = [run(python, CONSUMER, server).partition("changed")[0] for python in (old, new)]

    assert seen == [f"contacts-client 1.0.0: {fields}", f"contacts-client 1.1.0: {fields}"]
    fields = str(fields.split())
    assert run(old, "-c", UPDATE, server) == f"Ada {fields}\nupdated\n"
    # What the page says under "Servers first".
    assert run(new, "-c", UPDATE, server, "note") == (
        f"Ada {fields}\nINVALID_ARGUMENT update_mask cannot change 'note'\n"
    )


@pytest.mark.slow
def test_the_lowest_versions_that_the_bounds_allow_work(wheels, server, tmp_path):
    project = ROOT / "production/wheel/pyproject.toml"
    lowest = ["--resolution", "lowest-direct", "-r", project]
    python = environment(tmp_path / "lowest", lowest, ["--no-deps", wheels[0]])

    assert run(python, CONSUMER, server).startswith("contacts-client 1.0.0: name person etag")
    for bound in PROJECT["dependencies"][:2]:
        package, version = re.match(r"(\w+)>=([\d.]+)", bound).groups()
        show = f"import importlib.metadata as m; print(m.version({package!r}))"
        assert run(python, "-c", show) == f"{version}\n"


IMPORT_ALL = """
import pkgutil, sys, contacts_client
for module in pkgutil.walk_packages(contacts_client.__path__, "contacts_client."):
    __import__(module.name)
import contacts_client.v1.contacts_pb2_grpc
print(*{name.split(".")[0] for name in sys.modules} & {"production", "protobuf_demo"})
"""
PICKLE = """
import pickle
from contacts_client.addressbook_pb2 import Person
assert pickle.loads(pickle.dumps(Person(name="Ada"))) == Person(name="Ada")
print(Person.__module__)
"""


@pytest.mark.slow
def test_the_wheel_takes_one_name_and_needs_only_what_it_declares(wheels, tmp_path):
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheels[0]).namelist()}

    assert names == {"contacts_client", "contacts_client-1.0.0.dist-info"}
    python = environment(tmp_path / "empty", f"{wheels[0]}[signing]")
    assert run(python, "-W", "error", "-c", IMPORT_ALL) == "\n"
    assert run(python, "-c", PICKLE) == "contacts_client.addressbook_pb2\n"


@pytest.mark.slow
def test_a_program_passes_the_strictest_type_check(wheels, tmp_path):
    python = environment(tmp_path / "typed", wheels[0], "mypy")
    mypy = [python, "-m", "mypy", "--config-file=", "--strict", "--cache-dir", tmp_path / "cache"]

    assert run(*mypy, CONSUMER) == "Success: no issues found in 1 source file\n"
    (marker,) = tmp_path.glob("typed/lib/*/site-packages/contacts_client/py.typed")
    marker.unlink()
    done = subprocess.run([*mypy, CONSUMER], capture_output=True, text=True, timeout=WAIT)
    assert "module is installed, but missing library stubs or py.typed marker" in done.stdout


BESIDE = """
from contacts_client.v1.contacts_pb2 import Contact
from production.v1 import contacts_pb2
print(Contact is contacts_pb2.Contact)
"""


@pytest.mark.slow
def test_stubs_that_are_installed_twice_must_be_the_same(wheels, tmp_path):
    for number, wheel in enumerate(wheels):
        zipfile.ZipFile(wheel).extractall(tmp_path / str(number))
    same, other = (
        subprocess.run(
            [sys.executable, "-c", BESIDE],
            cwd=ROOT,
            env=ENVIRONMENT | {"PYTHONPATH": f"{tmp_path / number}"},
            capture_output=True,
            text=True,
            timeout=WAIT,
        )
        for number in ("0", "1")
    )

    assert same.stdout == "True\n"
    assert other.stderr.splitlines()[-1] == (
        "TypeError: Couldn't build proto file into descriptor pool: "
        "duplicate file name production/v1/contacts.proto"
    )


@pytest.mark.slow
def test_a_version_that_does_not_fit_is_refused_in_one_line(repository):
    repository.change_contract("rpc ExportContacts", "rpc DumpContacts")

    status, printed = repository.release("1.1.0")

    assert status == 1
    assert printed.splitlines()[1:] == [
        "error: version 1.1.0: the contract has changed in a breaking way since 1.0.0, "
        "so it must be 2.0.0 or higher"
    ]
    assert not repository.wheel("1.1.0").exists()
    assert repository.release("2.0.0")[0] == 0
    assert repository.wheel("2.0.0").exists()


@pytest.mark.slow
def test_the_published_contract_is_the_next_to_compare_with(repository):
    repository.change_contract("string etag = 3;", "string etag = 3;\n  string note = 6;")
    assert repository.release("1.0.1", "--record")[0] == 1
    assert repository.release("1.1.0", "--record")[0] == 0

    names = [file.name for file in repository.root.glob("production/wheel/*.binpb")]
    assert names == ["contract-1.1.0.binpb"]
    assert repository.release("1.1.1")[1] == (
        "build/wheel/contacts_client-1.1.1-py3-none-any.whl: "
        "the contract has not changed since 1.1.0\n"
    )
    assert repository.release("1.0.9")[0] == 1
