"""The imports between the folders of chapter 4, which may only point downwards."""

import ast
import re

import pytest

from tests.conftest import ROOT, python
from tour import tree

PRODUCTION = ROOT / "production"
OBSERVABILITY = ["calling", "serving.overload", "serving.observability"]
STORAGE = [*OBSERVABILITY, "serving.resources", "serving.validation", "serving.storage"]
SECURITY = [*STORAGE, "serving.settings_table", "serving.security"]
LAYERS = [*SECURITY, "serving.layers"]
"""Each part of serving may import itself and the parts before it."""
NO_GRPC = [
    "production.contacts.changes",
    "production.contacts.commands",
    "production.contacts.contacts",
    "production.contacts.database",
    "production.contacts.import_buffer",
    "production.contacts.once",
    "production.contacts.paging",
    "production.contacts.quota",
    "production.contacts.retention",
    "production.contacts.rows",
    "production.contacts.supervisor",
    "production.contacts.transaction",
    "production.contacts.validation",
    "production.serving.resources",
    "production.serving.settings",
    "production.serving.storage.change_poller",
    "production.serving.storage.page_tokens",
    "production.serving.storage.writes",
    "production.serving.supervisor",
    "production.serving.unknown_fields",
    "production.serving.validation",
    "production.starter.database",
    "production.starter.parcels",
    "production.starter.supervisor",
]
NAME = r"(?<![\w/.])production(?:\.[a-z_]\w*)+"
"""A dotted name in any text."""
OURS = "benchmarks|helloworld|production|protobuf_demo|protos|rest_gateway|route_guide|scaling|tour"


def modules(folder):
    """The modules in a folder of chapter 4, or the one module of that name."""
    path = PRODUCTION / folder
    if not path.is_dir():
        return [path.with_suffix(".py")]
    return sorted(module for module in path.rglob("*.py") if "tests" not in module.parts)


def imports(path):
    """The names of ours that a module imports, from anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names):
                names = [alias.name for alias in names]
            case ast.ImportFrom(module=module, names=names, level=0):
                names = [f"{module}.{alias.name}" for alias in names]
            case _:
                continue
        yield from (name for name in names if re.match(rf"({OURS})\.", name))


@pytest.mark.parametrize(
    ("room", "allowed"),
    [
        ("serving", ["serving", "calling"]),
        ("calling", ["calling"]),
        ("contacts", ["contacts", "serving", "v1", "v2"]),
        ("contacts_client", ["contacts_client", "calling", "v1"]),
        ("contacts_server", ["contacts", "serving", "v1", "v2"]),
        ("wheel", ["development", "v1", "v2"]),
        ("starter", ["starter", "serving", "calling"]),
        ("starter/parcels_client", ["starter.v1", "calling"]),
        ("serving/resources", []),
        ("serving/validation", []),
        ("serving/observability", OBSERVABILITY),
        ("serving/storage", STORAGE),
        ("serving/security", SECURITY),
        ("serving/layers", LAYERS),
        ("serving/environment", []),
        ("serving/ports", ["calling"]),
        (
            "serving/settings",
            [
                *("calling", "serving.environment", "serving.settings_table"),
                *("serving.observability", "serving.security"),
            ],
        ),
        (
            "serving/supervisor",
            ["calling", "serving.observability", "serving.ports", "serving.settings"],
        ),
    ],
)
def test_a_room_imports_only_what_is_below_it(room, allowed):
    # The contract of contacts uses chapter 1's Person, and the command line reads its files.
    prefixes = tuple(f"production.{name}." for name in allowed)
    if room.startswith("contacts"):
        prefixes = (*prefixes, "protobuf_demo.")

    assert [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(room)
        for name in imports(path)
        if not f"{name}.".startswith(prefixes)
    ] == []


@pytest.mark.parametrize("module", NO_GRPC)
def test_the_domain_and_the_supervisor_load_no_grpc(module):
    program = f"import sys, {module}; sys.exit('grpc' in sys.modules)"

    assert python("-c", program).returncode == 0


def test_the_client_loads_nothing_of_a_server():
    program = "import sys, production.contacts_client; print(*sys.modules)"
    loaded = set(python("-c", program).stdout.split())

    foreign = {"sqlalchemy", "prometheus_client", "aiohttp", "structlog", "jwt", "pydantic", "rich"}
    assert loaded & foreign == set()
    assert [
        name for name in loaded if re.match(r"production\.(contacts|serving)(\.|$)", name)
    ] == []
    assert "grpc" in loaded


@pytest.mark.parametrize("room", ["serving", "calling", "contacts", "development", "starter"])
def test_an_init_is_empty(room):
    assert [path for path in (PRODUCTION / room).rglob("__init__.py") if path.read_text()] == []


def named_modules():
    """Every dotted production.… name that a page, a program or a setting of ours has."""
    for path in tree.files(ROOT):
        if path.suffix in {".md", ".py", ".yml", ".yaml", ".toml"} or path.name == "Makefile":
            for name in re.findall(
                r"(?<![\w/.])production(?:\.[a-z_]\w*)+", (ROOT / path).read_text()
            ):
                yield path, name


def test_every_module_that_is_named_exists():
    """A name may continue behind its module, with what the module defines."""
    missing = set()
    for path, name in named_modules():
        place, parts = PRODUCTION, name.split(".")[1:]
        while parts and ((place / parts[0]).is_dir() or (place / f"{parts[0]}.py").is_file()):
            place /= parts.pop(0)
        if parts and place.is_dir() and parts[0] not in (place / "__init__.py").read_text():
            missing.add(f"{path}: {name}")

    assert missing == set()
